//! The driver's side of a virtqueue, in bursts: one descriptor, or one indirect table, for each buffer.

mod ids;
mod packed;
mod split;
mod tables;

use std::io;

pub use packed::PackedRing;
pub use split::SplitRing;

use super::memory::Memory;
use crate::driver::front_end::RingAddresses;
use ids::Ids;
use tables::Tables;

/// `flags` of a descriptor of either ring: the device writes.
const DESC_WRITE: u16 = 2;
/// `flags` of a descriptor of either ring: it is a table of descriptors.
const DESC_INDIRECT: u16 = 4;

/// Descriptors in a cache line.
const LINE_DESCRIPTORS: u16 = 4;
/// How many descriptors ahead a line is fetched that will be written.
const AHEAD: usize = 12;

/// A virtqueue as its driver sees it.
pub trait DriverRing: Sized {
    /// Where the ring starts, as SET_VRING_BASE has it.
    const BASE: u32;

    /// Octets of memory that [`Self::new`] takes.
    fn octets(config: &RingConfig) -> usize;

    /// Lays a ring out.
    fn new(config: &RingConfig, memory: &mut Memory) -> io::Result<Self>;

    /// Where it is.
    fn addresses(&self) -> RingAddresses;

    /// How many buffers can be put.
    fn room(&self) -> usize;

    /// How many buffers the device has.
    fn outstanding(&self) -> usize;

    /// The id of a buffer that will be put: of the next one, or of one `ahead` of it within [`Self::room`].
    fn id(&self, ahead: usize) -> u16;

    /// Puts a buffer under the next id; the device does not see it before [`Self::publish`].
    fn put(&mut self, guest: u64, len: u32);

    /// Shows the device what was put, and says whether it is to be kicked.
    fn publish(&mut self) -> bool;

    /// Takes buffers that the device has used, as many as there are and fit.
    fn take(&mut self, used: &mut [Used]) -> Result<usize, RingError>;

    /// Takes all buffers that the device has used, whatever it says about them.
    fn reclaim(&mut self) -> Result<(), RingError>;

    /// Asks for a call with the next used buffer, or for none. A buffer may have been used just before.
    fn want_calls(&mut self, wanted: bool);
}

/// What a ring is made of.
#[derive(Debug, Clone, Copy)]
pub struct RingConfig {
    /// Descriptors.
    pub size: u16,
    /// VIRTIO_F_IN_ORDER.
    pub in_order: bool,
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
    /// Whether each buffer is in a table of its own, its virtio-net header in a part of its own.
    pub indirect: bool,
    /// Whether the device writes; otherwise it reads.
    pub writable: bool,
    /// Octets of a buffer that the device has filled.
    pub buffer_len: u32,
    /// Whether the device is kicked if it wants that.
    pub kicks: bool,
}

/// A buffer that the device has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// The id that it was put under.
    pub id: u16,
    /// Octets that were written.
    pub len: u32,
}

/// What a device did that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The used index is out of reach.
    #[error("the device used {used} buffers and had {outstanding}")]
    TooMany { used: usize, outstanding: usize },
    /// The id is not of a buffer that the device has.
    #[error("the device used the buffer {id}, which it did not have")]
    NotOutstanding { id: u32 },
}

/// Whether an index that goes from `old` to `new` passes `event` (virtio 1.3, 2.7.7.1).
fn crosses(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
pub mod device;
#[cfg(test)]
mod tests;
