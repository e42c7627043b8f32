//! A guest's device as a whole: its queue pairs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Queue;

/// The most queue pairs of one device.
pub const MAX_QUEUE_PAIRS: u16 = 128;

/// The queues of one device. They outlive the connections of the front end.
#[derive(Debug)]
pub struct GuestPort {
    queues: Vec<Queue>,
    /// Pairs from the first on whose receive queue runs.
    receiving: AtomicUsize,
}

impl GuestPort {
    /// A device with stopped queues.
    pub fn new(pairs: u16) -> GuestPort {
        GuestPort {
            queues: (0..2 * pairs).map(|_| Queue::default()).collect(),
            receiving: AtomicUsize::new(0),
        }
    }

    /// All queues by vring index: receive and transmit queues in turn (virtio 1.3, 5.1.2).
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Number of queue pairs.
    pub fn pairs(&self) -> usize {
        self.queues.len() / 2
    }

    /// Over how many receive queues, from the first on, frames may be spread.
    #[inline]
    pub fn receiving_pairs(&self) -> usize {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Finds out which receive queues run, after one of them was started, stopped, enabled or disabled.
    pub fn count_receiving_pairs(&self) {
        let is_running = |pair: &usize| self.receive_queue(*pair).lock().is_running();
        let count = (0..self.pairs()).take_while(is_running).count();
        self.receiving.store(count, Ordering::Relaxed);
    }

    /// The receive queue of a pair.
    pub fn receive_queue(&self, pair: usize) -> &Queue {
        &self.queues[2 * pair]
    }

    /// The transmit queue of a pair.
    pub fn transmit_queue(&self, pair: usize) -> &Queue {
        &self.queues[2 * pair + 1]
    }
}
