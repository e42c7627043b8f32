//! Virtqueues, seen from the device.

mod chain;
mod split;

pub use chain::{Buffer, Chain};
pub use split::{Mark, RingConfig, SplitRing};

/// The largest virtqueue (virtio 1.3, 2.7: Queue Size).
pub const MAX_QUEUE_SIZE: u16 = 32768;
/// The most buffers of one chain, counted as they lie in memory regions: what QEMU and Linux's vhost allow.
pub const MAX_CHAIN_BUFFERS: usize = 1024;

/// What the driver did that no driver may do. The ring is broken until it is set up anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Not a power of two, zero, or too large.
    #[error("queue size {0} is not a power of two from 1 to 32768")]
    BadSize(u32),
    /// A part of the ring lies outside the guest's memory or is misaligned.
    #[error("the {0} is misaligned or not inside one memory region")]
    BadAddress(&'static str),
    /// The avail index moved back, or further than the ring is long.
    #[error("the available index jumped to {found} while the device was at {at}")]
    IndexJump {
        /// Where the device was.
        at: u16,
        /// What the driver wrote.
        found: u16,
    },
    /// A descriptor index is outside the table.
    #[error("descriptor index {0} is outside the descriptor table")]
    BadIndex(u16),
    /// The chain is longer than the table it is in: a loop.
    #[error("a descriptor chain is longer than its table")]
    Loop,
    /// An indirect table inside an indirect table (virtio 1.3, 2.7.5.3.1).
    #[error("an indirect descriptor inside an indirect table")]
    NestedIndirect,
    /// INDIRECT together with NEXT (virtio 1.3, 2.7.5.3.1).
    #[error("a descriptor has both INDIRECT and NEXT")]
    IndirectNext,
    /// The table's length is zero, no multiple of 16, or too large.
    #[error("an indirect table has {0} octets")]
    BadIndirectLength(u32),
    /// A buffer lies outside the guest's memory.
    #[error("a buffer at guest address {address:#x} with {len} octets is outside the guest's memory")]
    BadBuffer {
        /// Guest physical address.
        address: u64,
        /// Length in octets.
        len: u32,
    },
    /// A buffer without an octet: it would cost us work and move nothing.
    #[error("the buffer at guest address {0:#x} is empty")]
    EmptyBuffer(u64),
    /// More than [`MAX_CHAIN_BUFFERS`].
    #[error("a chain has more than {MAX_CHAIN_BUFFERS} buffers")]
    TooManyBuffers,
    /// A device-readable buffer behind a device-writable one (virtio 1.3, 2.7.4.2).
    #[error("a readable buffer follows a writable one")]
    ReadableAfterWritable,
    /// Buffers of the wrong direction for this queue, or none at all.
    #[error("a chain has no buffer that this queue can use, or one of the wrong direction")]
    WrongDirection,
    /// The buffers of one chain add up to more than a frame can ever have.
    #[error("a chain's buffers add up to more than 4 GiB")]
    TooLong,
}
