//! One virtqueue of a guest's device, with its lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::features::Negotiated;
use super::{NetFeatures, Notifier};
use crate::ring::{Chain, Ring, RingError};

/// A virtqueue. A worker holds its lock for one burst; the control thread, when it changes the queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    // A worker in full flight would take the lock again before a parked thread wakes, so it looks here first.
    waiting: AtomicU32,
}

/// A locked queue.
pub type QueueGuard<'a> = MutexGuard<'a, QueueState>;

/// What the lock protects.
#[derive(Debug, Default)]
pub struct QueueState {
    /// Present while the ring is started (vhost-user: started).
    pub ring: Option<Ring>,
    /// vhost-user: enabled.
    pub enabled: bool,
    /// What the driver took.
    pub features: NetFeatures,
    /// The longest frame that the driver expects, Ethernet header included; `None` is any.
    pub max_frame: Option<usize>,
    /// Interrupts the driver.
    pub call: Option<Notifier>,
    /// Tells the front end that the ring is broken.
    pub err: Option<Notifier>,
    /// The driver does not kick: the ring is polled.
    pub polled: bool,
    /// Where the ring stood when it stopped, or is to begin, see [`Ring::position`].
    pub base: u32,
    /// It is what the ring itself said when it stopped, and the front end has not said otherwise since.
    pub base_is_exact: bool,
    /// Why the ring was stopped for good.
    pub broken: Option<RingError>,
    /// Reused for every chain that is taken.
    pub(super) chains: Vec<Chain>,
    negotiated: Negotiated,
}

impl Queue {
    /// Locks for a change, ahead of the workers.
    pub fn lock(&self) -> QueueGuard<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Locks for a burst, behind whoever waits to change the queue.
    #[inline]
    pub fn lock_for_burst(&self) -> QueueGuard<'_> {
        while self.waiting.load(Ordering::Relaxed) != 0 {
            std::thread::yield_now();
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::lock_for_burst`], but without waiting for anyone: for a thread that holds another queue already.
    #[inline]
    pub fn try_lock_for_burst(&self) -> Option<QueueGuard<'_>> {
        if self.waiting.load(Ordering::Relaxed) != 0 {
            return None;
        }
        match self.state.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl QueueState {
    /// Whether frames may flow.
    pub fn is_running(&self) -> bool {
        self.ring.is_some() && self.enabled
    }

    /// What the features come to.
    #[inline]
    pub(super) fn negotiated(&mut self) -> &Negotiated {
        if self.negotiated.features != self.features {
            self.negotiated = Negotiated::of(self.features);
        }
        &self.negotiated
    }

    /// Has the next chains fetched, as many as are wanted, and says how many there are to begin with. What is wrong with
    /// them shows when they are taken.
    #[inline]
    pub fn prepare(&mut self, wanted: usize) -> usize {
        match &mut self.ring {
            Some(ring) => ring.prepare(wanted).unwrap_or(0),
            None => 0,
        }
    }

    /// Stops the ring, and gives the driver back what is completed.
    pub fn stop(&mut self) {
        self.publish();
        if let Some(ring) = self.ring.take() {
            (self.base, self.base_is_exact) = (ring.position(), true);
        }
    }

    /// Takes the base that the front end gives.
    pub fn set_base(&mut self, base: u32) {
        self.base_is_exact &= self.base == base;
        self.base = base;
    }

    /// Stops the ring because the driver broke its rules, and says so to the front end.
    #[cold]
    pub fn fail(&mut self, error: RingError) {
        self.stop();
        self.broken = Some(error);
        if let Some(err) = &self.err {
            err.notify();
        }
    }

    /// Interrupts the driver if it is wanted and possible.
    #[inline]
    pub fn publish(&mut self) {
        if let Some(ring) = &mut self.ring
            && ring.publish()
            && let Some(call) = &self.call
        {
            call.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_exact_until_the_front_end_says_another() {
        let mut queue = QueueState {
            base: 7,
            base_is_exact: true,
            ..QueueState::default()
        };
        queue.set_base(7);
        assert!(queue.base_is_exact);
        queue.set_base(8);
        assert_eq!((queue.base, queue.base_is_exact), (8, false));
        queue.set_base(8);
        assert!(!queue.base_is_exact);
    }
}
