//! Two sides that do something at the same moment, over and over.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Two sides that start each round at the same moment.
#[derive(Default)]
struct Rendezvous([AtomicU32; 2]);

impl Rendezvous {
    fn meet(&self, side: usize, round: u32) {
        self.0[side].store(round, Ordering::SeqCst);
        let mut patience = 1000;
        while self.0[1 - side].load(Ordering::SeqCst) < round {
            patience -= 1;
            if patience == 0 {
                std::thread::yield_now();
                patience = 1000;
            }
        }
    }
}

/// Has both sides write something and then look for what the other one wrote, at the same moment and over and over. If
/// neither saw the other, each would wait for it for good.
///
/// What is done at that moment says whether it saw something.
pub fn one_side_sees_the_other<R: Send, D>(
    (mut ours, mut ring): (D, R),
    prepare_device: impl Fn(&mut R) + Sync,
    device: impl Fn(&mut R) -> bool + Sync,
    prepare_driver: impl Fn(&mut D),
    driver: impl Fn(&mut D) -> bool,
) {
    const ROUNDS: u32 = 100_000;
    // On a busy machine a round takes as long as the scheduler likes, and this must have an end.
    let end = Instant::now() + Duration::from_secs(10);
    let (rendezvous, device_saw, done) = (
        Rendezvous::default(),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let mut lost = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                prepare_device(&mut ring);
                rendezvous.meet(0, 2 * round + 1);
                // So that neither side is always the first.
                for turn in 0..round % 100 {
                    std::hint::black_box(turn);
                }
                device_saw.store(device(&mut ring), Ordering::SeqCst);
                rendezvous.meet(0, 2 * round + 2);
                if done.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        for round in 0..ROUNDS {
            prepare_driver(&mut ours);
            rendezvous.meet(1, 2 * round + 1);
            let driver_saw = driver(&mut ours);
            let is_last = Instant::now() > end;
            done.store(is_last, Ordering::SeqCst);
            rendezvous.meet(1, 2 * round + 2);
            lost += u32::from(!driver_saw && !device_saw.load(Ordering::SeqCst));
            if is_last {
                break;
            }
        }
    });
    assert_eq!(lost, 0);
}
