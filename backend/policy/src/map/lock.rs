//! A spin lock for sections of bounded length.

use std::sync::atomic::{AtomicU32, Ordering};

/// Held for some dozens of instructions, never while calling out.
#[derive(Debug, Default)]
pub(super) struct SpinLock(AtomicU32);

/// The lock is held until this goes out of scope.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a SpinLock);

impl SpinLock {
    #[inline]
    pub(super) fn lock(&self) -> Held<'_> {
        let mut patience = Patience::default();
        while self
            .0
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            patience.wait();
        }
        Held(self)
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Release);
    }
}

/// How somebody waits for a lock: the holder may have lost its processor, so give it ours after a while.
#[derive(Debug, Default)]
pub(super) struct Patience(u32);

impl Patience {
    const SPINS: u32 = 200;

    /// Waits a little, and says how often it did so before.
    #[cold]
    pub(super) fn wait(&mut self) -> u32 {
        if self.0 < Patience::SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        self.0 = self.0.saturating_add(1);
        self.0
    }
}
