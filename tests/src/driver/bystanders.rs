//! Two guests that keep exchanging frames while something is done to others: none may be lost, none may be late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::device::{NetDriver, Setup};
use super::packet::ethernet;
use super::pair::Pair;
use crate::netkitd::Netkitd;

/// Longest time that a frame may take, on a machine whose processors do other things as well.
const LATEST: Duration = Duration::from_secs(5);
/// Between two frames: the bystanders are to notice, not to load the machine.
const PAUSE: Duration = Duration::from_micros(500);

/// The exchange, going on in a thread.
#[derive(Debug)]
pub struct Bystanders {
    pair: Pair,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Bystanders {
    /// Makes a pair of its own in the daemon and begins.
    pub fn start(daemon: &Netkitd) -> Bystanders {
        let pair = Pair::new(daemon, "by");
        let (mut a, mut b) = pair.connect(&Setup::default()).expect("two guests");
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counter) = (stop.clone(), rounds.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let round = counter.load(Ordering::Relaxed);
                exchange(&mut a, &mut b, round);
                exchange(&mut b, &mut a, round);
                counter.store(round + 1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        Bystanders {
            pair,
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    /// Frames that went back and forth so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits for further exchanges.
    ///
    /// # Panics
    /// If there are none.
    pub fn go_on(&self) {
        let (wanted, end) = (self.rounds() + 20, Instant::now() + 4 * LATEST);
        while self.rounds() < wanted {
            assert!(Instant::now() < end, "the bystanders have stopped");
            assert!(
                self.thread.as_ref().is_some_and(|it| !it.is_finished()),
                "the bystanders have given up"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the exchange.
    ///
    /// # Panics
    /// If a frame was lost, or the daemon says so.
    pub fn finish(mut self) {
        self.go_on();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no frame of the bystanders was lost");
        }
        let rounds = self.rounds();
        for end in [&self.pair.a, &self.pair.b] {
            let statistics = end.statistics();
            assert_eq!(statistics.tx_packets, rounds, "{statistics:?}");
            assert_eq!(statistics.tx_dropped, 0, "{:?}", end.drops());
        }
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failed test has said why already.
            let _ = thread.join();
        }
    }
}

fn exchange(from: &mut NetDriver, to: &mut NetDriver, round: u64) {
    let frame = ethernet([2; 6], [4; 6], &round.to_be_bytes());
    from.send_frame(&frame);
    let received = to.receive_within(LATEST).expect("a frame between the bystanders");
    assert_eq!(received.frame, frame, "another frame than was sent");
}
