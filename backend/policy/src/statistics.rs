//! How often and how long a program ran, counted without atomics that workers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One run in so many is timed.
const SAMPLE: u64 = 256;

/// Counters of one program, a set for each shard.
#[derive(Debug)]
pub struct Statistics(Box<[Shard]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    runs: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Statistics {
    /// Counters at 0 for so many shards.
    pub fn new(shards: usize) -> Statistics {
        Statistics((0..shards).map(|_| Shard::default()).collect())
    }

    /// Counts a run that is about to begin on a shard. If the result is some time, the run is to be timed, and
    /// [`Statistics::add`] told. The shard's own thread is the only one that writes its counters.
    #[inline]
    pub fn count(&self, shard: usize) -> Option<Instant> {
        let counters = &self.0[shard];
        let runs = counters.runs.load(Ordering::Relaxed) + 1;
        counters.runs.store(runs, Ordering::Relaxed);
        runs.is_multiple_of(SAMPLE).then(now)
    }

    /// Takes a run that began at some time, and has ended, for all those that are not timed.
    #[cold]
    pub fn add(&self, shard: usize, since: Instant) {
        let counters = &self.0[shard];
        let time = since.elapsed().as_nanos() as u64 * SAMPLE;
        let sum = counters.nanoseconds.load(Ordering::Relaxed) + time;
        counters.nanoseconds.store(sum, Ordering::Relaxed);
    }

    /// Runs on all shards.
    pub fn runs(&self) -> u64 {
        self.0
            .iter()
            .map(|shard| shard.runs.load(Ordering::Relaxed))
            .sum()
    }

    /// Time on all shards, estimated from the runs that were timed.
    pub fn nanoseconds(&self) -> u64 {
        let time = |shard: &Shard| shard.nanoseconds.load(Ordering::Relaxed);
        self.0.iter().map(time).sum()
    }
}

#[cold]
fn now() -> Instant {
    Instant::now()
}
