//! Why a target did not take a frame.

use crate::packet::AdaptError;

/// One reason for each frame that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The receiver's ring has too few buffers, or the netdev's queue is full.
    Full,
    /// The receiver's ring is not started or not enabled, or the netdev is down.
    NotReady,
    /// The frame is longer than the receiver takes.
    TooLong,
    /// The receiver's driver broke its ring.
    Malformed,
    /// The frame cannot be cut or completed for a receiver that lacks an offload.
    BadOffload,
    /// The host's kernel refused the frame.
    Failed,
}

impl From<AdaptError> for Refusal {
    fn from(_: AdaptError) -> Refusal {
        Refusal::BadOffload
    }
}
