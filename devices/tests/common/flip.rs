//! Memory that changes while the device looks at it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs `work` while another thread does `flip`, with the number of the turn, over and over.
pub fn while_flipping(flip: impl Fn(u64) + Sync, work: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                flip(turn);
            }
        });
        let _stop = Stop(&done);
        work();
    });
}

/// Looks until everything was seen that may be, and many times while the other thread is at it; panics if anything else
/// is seen.
pub fn sees_only<T: Ord + Clone + Debug>(expected: impl IntoIterator<Item = T>, mut look: impl FnMut() -> T) {
    let expected: BTreeSet<T> = expected.into_iter().collect();
    let mut seen = BTreeSet::new();
    let (mut last, mut changes) = (None, 0);
    let start = Instant::now();
    // On a busy machine the two threads hardly ever run at once, and this must have an end.
    while seen.len() < expected.len() || changes < 5000 && start.elapsed() < Duration::from_secs(1) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "only {seen:?} of {expected:?}"
        );
        let sight = look();
        assert!(expected.contains(&sight), "{sight:?} is none of {expected:?}");
        seen.insert(sight.clone());
        changes += u32::from(last.as_ref() != Some(&sight));
        last = Some(sight);
    }
}
