//! A guest's device as a whole: its queue pairs.

use super::Queue;

/// The most queue pairs of one device.
pub const MAX_QUEUE_PAIRS: u16 = 128;

/// The queues of one device. They outlive the connections of the front end.
#[derive(Debug)]
pub struct GuestPort {
    queues: Vec<Queue>,
}

impl GuestPort {
    /// A device with stopped queues.
    pub fn new(pairs: u16) -> GuestPort {
        GuestPort {
            queues: (0..2 * pairs).map(|_| Queue::default()).collect(),
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

    /// The receive queue of a pair.
    pub fn receive_queue(&self, pair: usize) -> &Queue {
        &self.queues[2 * pair]
    }

    /// The transmit queue of a pair.
    pub fn transmit_queue(&self, pair: usize) -> &Queue {
        &self.queues[2 * pair + 1]
    }
}
