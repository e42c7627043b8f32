//! The driver's side of a virtqueue of either format, which takes the device at its word and checks it.

mod packed;
mod split;

pub use packed::{DESC_AVAIL, DESC_USED, EventFlags, PackedDescriptor, PackedRing, Position};
pub use split::{Descriptor, SplitRing, write_descriptor};

use super::feature;
use super::front_end::RingAddresses;
use super::memory::Memory;

/// A descriptor continues in another one.
pub const DESC_NEXT: u16 = 1;
/// A descriptor's buffer is written by the device.
pub const DESC_WRITE: u16 = 2;
/// A descriptor's buffer is a table of descriptors.
pub const DESC_INDIRECT: u16 = 4;
/// Descriptors of one indirect table.
const TABLE: u16 = 32;

/// One buffer of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Guest address.
    pub address: u64,
    /// In octets.
    pub len: u32,
    /// Whether the device writes it.
    pub writable: bool,
}

/// How a ring is used, by the features that were negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingUse {
    /// Notifications are asked for by index.
    pub event_idx: bool,
    /// Every chain lies in a table of its own.
    pub indirect: bool,
    /// One used element may stand for all chains up to its own.
    pub in_order: bool,
}

/// A virtqueue.
#[derive(Debug)]
pub enum Ring {
    /// virtio 1.3, 2.7.
    Split(SplitRing),
    /// virtio 1.3, 2.8.
    Packed(PackedRing),
}

/// The same for both formats.
macro_rules! either {
    ($of:expr, $ring:ident => $result:expr) => {
        match $of {
            Ring::Split($ring) => $result,
            Ring::Packed($ring) => $result,
        }
    };
}

impl Ring {
    /// An empty ring in the format and with the uses that these features say.
    pub fn new(memory: &mut Memory, size: u16, features: u64) -> Ring {
        let has = |mask: u64| features & mask != 0;
        let how = RingUse {
            event_idx: has(feature::EVENT_IDX),
            indirect: has(feature::INDIRECT),
            in_order: has(feature::IN_ORDER),
        };
        if has(feature::RING_PACKED) {
            Ring::Packed(PackedRing::new(memory, size, how))
        } else {
            Ring::Split(SplitRing::new(memory, size, how))
        }
    }

    /// The ring as a split one.
    ///
    /// # Panics
    /// If it is packed.
    pub fn split(&self) -> &SplitRing {
        match self {
            Ring::Split(ring) => ring,
            Ring::Packed(_) => panic!("the ring is packed"),
        }
    }

    /// The ring as a packed one.
    ///
    /// # Panics
    /// If it is split.
    pub fn packed(&self) -> &PackedRing {
        match self {
            Ring::Packed(ring) => ring,
            Ring::Split(_) => panic!("the ring is split"),
        }
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        either!(self, ring => ring.size)
    }

    /// Where it is, for the back end.
    pub fn addresses(&self, memory: &Memory) -> RingAddresses {
        let (descriptors, driver, device) = match self {
            Ring::Split(ring) => (ring.descriptors, ring.available, ring.used),
            Ring::Packed(ring) => (ring.descriptors, ring.driver_event, ring.device_event),
        };
        RingAddresses {
            descriptors: memory.user(descriptors),
            available: memory.user(driver),
            used: memory.user(device),
            log: None,
        }
    }

    /// Guest address of the area that `log_guest_addr` names: the used ring, or the device's event suppression.
    pub fn device_area(&self) -> u64 {
        match self {
            Ring::Split(ring) => ring.used,
            Ring::Packed(ring) => ring.device_event,
        }
    }

    /// Guest address of what the device writes for every chain that it has used.
    pub fn used_area(&self) -> u64 {
        match self {
            Ring::Split(ring) => ring.used,
            Ring::Packed(ring) => ring.descriptors,
        }
    }

    /// Half of a ring base (U8): where the driver makes the next chain available.
    pub fn available_base(&self) -> u16 {
        match self {
            Ring::Split(ring) => ring.available_index(),
            Ring::Packed(ring) => ring.published().encode(),
        }
    }

    /// Half of a ring base (U8): where the device uses the next chain.
    pub fn used_base(&self, memory: &Memory) -> u16 {
        match self {
            Ring::Split(ring) => ring.used_index(memory),
            Ring::Packed(ring) => ring.device_position(memory).encode(),
        }
    }

    /// Guest address of the first descriptor of a chain that is written at `slot`, in its table if it has one.
    pub fn first_descriptor(&self, slot: u16) -> u64 {
        either!(self, ring => ring.first_descriptor(slot))
    }

    /// How many chains the device has.
    pub fn outstanding(&self) -> usize {
        either!(self, ring => ring.outstanding())
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        either!(self, ring => ring.free())
    }

    /// Chains that were ever made available, modulo 2^16.
    pub fn available_index(&self) -> u16 {
        either!(self, ring => ring.available_index())
    }

    /// Chains that were ever used by the device, modulo 2^16.
    pub fn used_index(&self, memory: &Memory) -> u16 {
        either!(self, ring => ring.used_index(memory))
    }

    /// Writes a chain into the ring, and gives its id. The device sees it when it is [published](Self::publish).
    pub fn push(&mut self, memory: &Memory, parts: &[Part]) -> u16 {
        either!(self, ring => ring.push(memory, parts))
    }

    /// Shows the device all chains that were written, and says whether it wants to be kicked.
    pub fn publish(&mut self, memory: &Memory) -> bool {
        either!(self, ring => ring.publish(memory))
    }

    /// Takes the next chain that the device has used: its id and the octets written to it.
    ///
    /// # Panics
    /// If it is not the oldest chain that the device had: this device promises to complete in order.
    pub fn pop(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        either!(self, ring => ring.pop(memory))
    }

    /// How many chains the device has used that were not taken yet.
    pub fn ready(&self, memory: &Memory) -> usize {
        either!(self, ring => ring.ready(memory))
    }

    /// Asks to be notified of the next chain that is used, and says whether there is one already.
    pub fn arm(&self, memory: &Memory) -> bool {
        either!(self, ring => ring.arm(memory))
    }

    /// Asks not to be notified.
    pub fn disarm(&self, memory: &Memory) {
        either!(self, ring => ring.disarm(memory))
    }

    /// With EVENT_IDX: asks to be notified when the chain that is used after so many others is used. Chains that were
    /// not written yet count as one descriptor each.
    pub fn arm_behind(&self, memory: &Memory, others: u16) {
        either!(self, ring => ring.arm_behind(memory, others))
    }
}

/// Octets of the parts that the device writes.
fn writable_len(parts: &[Part]) -> u32 {
    parts
        .iter()
        .filter(|part| part.writable)
        .map(|part| part.len)
        .sum()
}

/// Whether an index that goes from `old` to `new` passes `event` (virtio 1.3, 2.7.7.1).
fn crosses(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
