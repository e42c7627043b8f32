//! Virtqueues, seen from the device.

mod chain;
mod descriptor;
mod event;
mod indirect;
mod inflight;
mod packed;
mod place;
mod resume;
mod split;

use std::sync::Arc;

pub use chain::{Buffer, Chain, ChainId};
pub(crate) use descriptor::{DESC_F_NEXT, DESC_F_WRITE, Descriptor};
pub use descriptor::{LOOKAHEAD, Run};
pub use inflight::{InflightBuffer, InflightError, InflightLayout};
pub use packed::PackedRing;
pub use split::SplitRing;

use crate::memory::{DirtyLog, GuestMemory};
use packed::PackedMark;
use split::SplitMark;

/// The largest virtqueue (virtio 1.3, 2.7: Queue Size).
pub const MAX_QUEUE_SIZE: u16 = 32768;
/// How far a ring looks ahead that nobody has prepared.
const AGAIN: usize = 8;
/// The most buffers of one chain, counted as they lie in memory regions: what QEMU and Linux's vhost allow.
pub const MAX_CHAIN_BUFFERS: usize = 1024;

/// How a driver set up a ring. Addresses are the front end's (vhost-user: vring address description).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingConfig {
    /// Number of descriptors.
    pub size: u32,
    /// Descriptor table or ring.
    pub desc: u64,
    /// Available ring, or driver event suppression.
    pub avail: u64,
    /// Used ring, or device event suppression.
    pub used: u64,
    /// Guest address of what is at `used` for the dirty log, if its writes are to be logged.
    pub used_log: Option<u64>,
    /// VIRTIO_F_RING_PACKED was negotiated.
    pub packed: bool,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// VIRTIO_F_IN_ORDER was negotiated.
    pub in_order: bool,
    /// The device only reads the buffers: a transmit queue.
    pub only_reads: bool,
    /// Where the front end wants the ring to go on: see [`Ring::position`].
    pub base: u32,
    /// The base is what this ring said when it stopped, and not what a front end remembers of a back end that is gone.
    pub base_is_exact: bool,
}

/// The host address of a part of a ring, which has to be aligned on both sides and to lie in one region.
fn resolve(
    memory: &GuestMemory,
    what: &'static str,
    address: u64,
    len: u64,
    align: u64,
) -> Result<*mut u8, RingError> {
    let aligned = address.is_multiple_of(align);
    let host = memory
        .translate_user(address, len)
        .filter(|host| aligned && host.addr().is_multiple_of(align as usize));
    host.ok_or(RingError::BadAddress(what))
}

/// A started virtqueue, of either format.
#[derive(Debug)]
pub enum Ring {
    /// virtio 1.3, 2.7.
    Split(SplitRing),
    /// virtio 1.3, 2.8.
    Packed(PackedRing),
}

/// A place in a ring, see [`Ring::mark`].
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// Of a split ring.
    Split(SplitMark),
    /// Of a packed ring.
    Packed(PackedMark),
}

/// Does the same for either format.
macro_rules! either {
    ($ring:expr, $it:ident => $does:expr) => {
        match $ring {
            Ring::Split($it) => $does,
            Ring::Packed($it) => $does,
        }
    };
}

impl Ring {
    /// Resolves the ring's addresses and takes up work where it was left.
    pub fn start(
        config: &RingConfig,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
    ) -> Result<Ring, RingError> {
        Ok(match config.packed {
            false => Ring::Split(SplitRing::start(config, memory, log)?),
            true => Ring::Packed(PackedRing::start(config, memory, log)?),
        })
    }

    /// Keeps the books of this ring, which has just started, in the region of a queue: if they were kept there before, a
    /// packed ring goes on where they say. A buffer that has no room for them is left alone. // U16
    pub fn track(&mut self, buffer: &Arc<InflightBuffer>, queue: usize) {
        either!(self, ring => ring.track(buffer, queue));
    }

    /// Where the ring stands: what `GET_VRING_BASE` answers and `SET_VRING_BASE` gives. Split: the index of the next
    /// chain to complete. Packed: the place of that, with the wrap counter in its highest bit; in the low half for the
    /// next descriptor to take and in the high half for the next to complete, which are the same as nothing is held
    /// back. // U8
    pub fn position(&self) -> u32 {
        either!(self, ring => ring.position())
    }

    /// The memory that the ring's buffers lie in.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        either!(self, ring => ring.memory())
    }

    /// Where writes to the guest's memory are logged.
    #[inline]
    pub fn log(&self) -> Option<&Arc<DirtyLog>> {
        either!(self, ring => ring.log())
    }

    /// Switches logging on or off.
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        either!(self, ring => ring.set_log(log));
    }

    /// Whether the driver has made anything available since the ring was set up.
    pub fn ever_filled(&self) -> bool {
        either!(self, ring => ring.ever_filled())
    }

    /// Looks ahead: copies the first descriptors of the chains that come next, and has the processor fetch what they
    /// point to, so that a burst finds its memory at hand: `wanted` chains at least, if there are as many and no more than
    /// [`LOOKAHEAD`]. Says how much it has looked at that was not taken.
    #[inline]
    pub fn prepare(&mut self, wanted: usize) -> Result<usize, RingError> {
        either!(self, ring => ring.prepare(wanted))
    }

    /// The next chain, if it was looked at and is one buffer in one piece. It is not taken yet.
    #[inline]
    pub fn peek_run(&self) -> Option<Run> {
        either!(self, ring => ring.peek_run())
    }

    /// Takes the chain that [`Self::peek_run`] has shown.
    #[inline]
    pub fn take_run(&mut self) {
        either!(self, ring => ring.take_run())
    }

    /// Takes the next available chain, or says that there is none.
    #[inline]
    pub fn take(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        either!(self, ring => ring.take(chain))
    }

    /// Where the ring stands, to come back to with [`Self::rewind`].
    #[inline]
    pub fn mark(&self) -> Mark {
        match self {
            Ring::Split(ring) => Mark::Split(ring.mark()),
            Ring::Packed(ring) => Mark::Packed(ring.mark()),
        }
    }

    /// Gives back every chain that was taken or completed since `mark`, as if it had not been. Nothing of it may have
    /// been published.
    pub fn rewind(&mut self, mark: Mark) {
        match (self, mark) {
            (Ring::Split(ring), Mark::Split(mark)) => ring.rewind(mark),
            (Ring::Packed(ring), Mark::Packed(mark)) => ring.rewind(mark),
            _ => debug_assert!(false, "a mark of another ring"),
        }
    }

    /// Returns a chain to the driver, not yet visible, with `len` octets written to it. In the order of taking.
    #[inline]
    pub fn complete(&mut self, chain: ChainId, len: u32) {
        either!(self, ring => ring.complete(chain, len))
    }

    /// Makes completed chains visible, all at once, and says whether the driver wants to be notified.
    #[inline]
    pub fn publish(&mut self) -> bool {
        either!(self, ring => ring.publish())
    }

    /// Asks the driver not to kick while the ring is polled.
    pub fn suppress_kicks(&mut self) {
        either!(self, ring => ring.suppress_kicks())
    }

    /// Asks the driver to kick at the next chain. If this returns true there are chains already: poll once more.
    pub fn request_kicks(&mut self) -> bool {
        either!(self, ring => ring.request_kicks())
    }
}

/// What the driver did that no driver may do. The ring is broken until it is set up anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Not a power of two, zero, or too large.
    #[error("queue size {0} is not a power of two from 1 to 32768")]
    BadSize(u32),
    /// Zero, or too large.
    #[error("the size {0} of a packed queue is not from 1 to 32768")]
    BadPackedSize(u32),
    /// The front end wants work to go on where a packed ring of this size has no place.
    #[error("the base {base:#010x} is not a place in a packed ring of {size} descriptors")]
    BadBase {
        /// What the front end gave.
        base: u32,
        /// Number of descriptors.
        size: u16,
    },
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
    /// A packed chain goes on where nothing is available (virtio 1.3, 2.8.17).
    #[error("a descriptor chain goes on in a descriptor that is not available")]
    Unfinished,
    /// An indirect table inside an indirect table (virtio 1.3, 2.7.5.3.1).
    #[error("an indirect descriptor inside an indirect table")]
    NestedIndirect,
    /// INDIRECT together with NEXT (virtio 1.3, 2.7.5.3.1); in a packed ring, also behind one with NEXT (2.8.19).
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
