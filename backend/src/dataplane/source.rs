//! A source of frames: a queue of a device, as its worker and the control thread share it.

use std::sync::atomic::{AtomicU64, Ordering};

use netkit::Ifindex;

/// Names a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The device.
    pub ifindex: Ifindex,
    /// A queue pair of a guest, or a queue of a tap.
    pub queue: usize,
}

impl Token {
    /// The source of that device and queue.
    pub fn new(ifindex: Ifindex, queue: usize) -> Token {
        Token { ifindex, queue }
    }
}

/// A source and what came out of it.
#[derive(Debug)]
// Two lines of its own, because adjacent lines are prefetched in pairs and another worker may count beside.
#[repr(align(128))]
pub struct Source {
    token: Token,
    frames: AtomicU64,
}

impl Source {
    /// A source that has given nothing yet.
    pub fn new(token: Token) -> Source {
        Source {
            token,
            frames: AtomicU64::new(0),
        }
    }

    /// Its name.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Frames that were taken from it.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Counts frames. Only the worker that serves the source does, so no locked instruction is needed.
    #[inline]
    pub fn count(&self, frames: usize) {
        let counted = self.frames.load(Ordering::Relaxed);
        self.frames
            .store(counted.wrapping_add(frames as u64), Ordering::Relaxed);
    }
}
