//! The driver's side of a packed virtqueue (virtio 1.3, 2.8).

use std::collections::VecDeque;

use super::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Part, RingUse, TABLE, crosses, writable_len};
use crate::driver::memory::{Memory, RINGS};

/// The wrap counter with which a descriptor was made available.
pub const DESC_AVAIL: u16 = 1 << 7;
/// The opposite of [`DESC_AVAIL`] until the device has used the descriptor.
pub const DESC_USED: u16 = 1 << 15;
const WRAP: u16 = 1 << 15;

/// What a side says of the notifications that it wants (virtio 1.3, 2.8.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum EventFlags {
    /// All.
    Enable = 0,
    /// None.
    Disable = 1,
    /// One, for a certain descriptor; with EVENT_IDX only.
    Descriptor = 2,
}

/// A place in the ring together with its wrap counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The descriptor.
    pub slot: u16,
    /// The wrap counter; both sides start with 1.
    pub wrap: bool,
}

impl Position {
    /// Where both sides start.
    pub const START: Position = Position { slot: 0, wrap: true };

    /// As in event suppression and in a ring base: the wrap counter is bit 15.
    pub fn encode(self) -> u16 {
        self.slot | if self.wrap { WRAP } else { 0 }
    }

    /// The place so many descriptors on, in a ring of `size`.
    pub fn advanced(self, count: u16, size: u16) -> Position {
        let slot = u32::from(self.slot) + u32::from(count);
        let size = u32::from(size);
        Position {
            slot: (slot % size) as u16,
            wrap: self.wrap ^ (slot / size % 2 == 1),
        }
    }

    /// The flags with which a descriptor is made available here.
    pub fn available_flags(self) -> u16 {
        if self.wrap { DESC_AVAIL } else { DESC_USED }
    }
}

/// A descriptor as it lies in the ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackedDescriptor {
    pub address: u64,
    pub len: u32,
    pub id: u16,
    pub flags: u16,
}

/// A chain that the device has.
#[derive(Debug, Clone, Copy)]
struct Lent {
    id: u16,
    descriptors: u16,
    writable: u32,
}

/// A packed virtqueue.
#[derive(Debug)]
pub struct PackedRing {
    /// Number of descriptors, not necessarily a power of two.
    pub size: u16,
    /// Guest address of the descriptor ring.
    pub descriptors: u64,
    /// Guest address of the driver's event suppression.
    pub driver_event: u64,
    /// Guest address of the device's event suppression.
    pub device_event: u64,
    how: RingUse,
    tables: u64,
    ids: Vec<u16>,
    free: u16,
    /// Chains that the device has, oldest first.
    lent: VecDeque<Lent>,
    /// Where the next chain is written.
    next_available: Position,
    /// Where the device sees the next chain.
    published: Position,
    /// Where the next used descriptor is expected.
    next_used: Position,
    /// Heads that were written but for their flags.
    hidden: Vec<(u16, u16)>,
    /// Chains that one used descriptor has announced and that were not taken yet, and the octets written to the last.
    announced: Option<(usize, u32)>,
    made_available: u16,
    taken: u16,
}

impl PackedRing {
    /// An empty ring.
    pub fn new(memory: &mut Memory, size: u16, how: RingUse) -> PackedRing {
        let entries = u64::from(size);
        PackedRing {
            size,
            descriptors: memory.allocate(RINGS, 16 * entries, 16),
            driver_event: memory.allocate(RINGS, 4, 4),
            device_event: memory.allocate(RINGS, 4, 4),
            how,
            tables: memory.allocate(RINGS, 16 * u64::from(TABLE) * entries, 16),
            // An id is any number below the size; none of these is the number of its descriptor.
            ids: (0..size).collect(),
            free: size,
            lent: VecDeque::new(),
            next_available: Position::START,
            published: Position::START,
            next_used: Position::START,
            hidden: Vec::new(),
            announced: None,
            made_available: 0,
            taken: 0,
        }
    }

    /// Guest address of the first descriptor of a chain that is written at `slot`, in its table if it has one.
    pub fn first_descriptor(&self, slot: u16) -> u64 {
        match self.how.indirect {
            true => self.tables + 16 * u64::from(TABLE) * u64::from(slot),
            false => self.descriptors + 16 * u64::from(slot),
        }
    }

    /// How many chains the device has.
    pub fn outstanding(&self) -> usize {
        self.lent.len()
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        usize::from(self.free)
    }

    /// Where the next chain is written.
    pub fn next_available(&self) -> Position {
        self.next_available
    }

    /// Where the device sees the next chain.
    pub fn published(&self) -> Position {
        self.published
    }

    /// Where the next used descriptor is expected by the driver.
    pub fn next_used(&self) -> Position {
        self.next_used
    }

    /// Where the device writes its next used descriptor.
    pub fn device_position(&self, memory: &Memory) -> Position {
        self.scan(memory).1
    }

    /// Chains that were ever made available, modulo 2^16.
    pub fn available_index(&self) -> u16 {
        self.made_available
    }

    /// Chains that were ever used by the device, modulo 2^16.
    pub fn used_index(&self, memory: &Memory) -> u16 {
        self.taken.wrapping_add(self.ready(memory) as u16)
    }

    /// Writes a chain into the ring, and gives its id.
    pub fn push(&mut self, memory: &Memory, parts: &[Part]) -> u16 {
        let id = self.ids.pop().expect("a free id");
        let descriptors = if self.how.indirect {
            self.write_indirect(memory, id, parts)
        } else {
            self.write_direct(memory, id, parts)
        };
        self.free = self.free.checked_sub(descriptors).expect("free descriptors");
        self.next_available = self.next_available.advanced(descriptors, self.size);
        self.lent.push_back(Lent {
            id,
            descriptors,
            writable: writable_len(parts),
        });
        id
    }

    /// Shows the device all chains that were written, and says whether it wants to be kicked.
    pub fn publish(&mut self, memory: &Memory) -> bool {
        if self.hidden.is_empty() {
            return false;
        }
        self.made_available = self.made_available.wrapping_add(self.hidden.len() as u16);
        // The oldest last: the device sees all of them or none.
        for (slot, flags) in self.hidden.drain(..).rev() {
            memory.store(self.descriptors + 16 * u64::from(slot) + 14, flags);
        }
        let old = std::mem::replace(&mut self.published, self.next_available);
        self.wants_kick(memory, old)
    }

    /// virtio 1.3, 2.8.21.3.1: what the device's event suppression says of chains from `old` on.
    fn wants_kick(&self, memory: &Memory, old: Position) -> bool {
        let (place, flags) = self.event(memory, self.device_event);
        match flags {
            0 => true,
            1 => false,
            2 => {
                assert!(self.how.event_idx, "DESC without EVENT_IDX in the device's area");
                let new = self.published;
                let slot = |at: Position| match at.wrap == new.wrap {
                    true => at.slot,
                    false => at.slot.wrapping_sub(self.size),
                };
                crosses(slot(place), new.slot, slot(old))
            }
            other => panic!("event suppression flags {other} in the device's area"),
        }
    }

    /// One side's event suppression: place and flags.
    pub fn event(&self, memory: &Memory, at: u64) -> (Position, u16) {
        let word: u32 = memory.load(at);
        let (place, flags) = (word as u16, (word >> 16) as u16);
        let place = Position {
            slot: place & !WRAP,
            wrap: place & WRAP != 0,
        };
        (place, flags & 3)
    }

    /// Writes the driver's event suppression.
    pub fn set_driver_event(&self, memory: &Memory, place: u16, flags: u16) {
        memory.store(self.driver_event, place);
        memory.store(self.driver_event + 2, flags);
    }

    /// Takes the next chain that the device has used: its id and the octets written to it.
    ///
    /// # Panics
    /// If the device used something that it did not have, or not the oldest chain.
    pub fn pop(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        let (batch, len) = match self.announced.take() {
            Some(rest) => rest,
            None => self.announcement(memory, self.next_used, 0)?,
        };
        let lent = self.lent.pop_front().expect("counted by the announcement");
        self.next_used = self.next_used.advanced(lent.descriptors, self.size);
        self.free += lent.descriptors;
        self.ids.insert(0, lent.id);
        self.taken = self.taken.wrapping_add(1);
        if batch == 1 {
            return Some((lent.id, len));
        }
        self.announced = Some((batch - 1, len));
        // virtio 1.3, 2.8.8: skipped buffers were used completely.
        Some((lent.id, lent.writable))
    }

    /// How many chains the device has used that were not taken yet.
    pub fn ready(&self, memory: &Memory) -> usize {
        self.scan(memory).0
    }

    /// Used chains that were not taken yet, and where the device goes on behind them.
    fn scan(&self, memory: &Memory) -> (usize, Position) {
        let sum =
            |from: usize, count: usize| self.lent.range(from..from + count).map(|it| it.descriptors).sum();
        let mut ready = self.announced.map_or(0, |(rest, _)| rest);
        let mut at = self.next_used.advanced(sum(0, ready), self.size);
        while let Some((batch, _)) = self.announcement(memory, at, ready) {
            at = at.advanced(sum(ready, batch), self.size);
            ready += batch;
        }
        (ready, at)
    }

    /// What a used descriptor at `at` announces, if there is one: how many chains behind the first `before` that the
    /// device has, and the octets written to the last of them.
    fn announcement(&self, memory: &Memory, at: Position, before: usize) -> Option<(usize, u32)> {
        if before == self.lent.len() {
            return None;
        }
        let used = self.descriptor_flags(memory, at.slot);
        if (used & DESC_AVAIL != 0) != at.wrap || (used & DESC_USED != 0) != at.wrap {
            return None;
        }
        let PackedDescriptor { id, len, flags, .. } = self.descriptor(memory, at.slot);
        let found = self.lent.iter().skip(before).position(|it| it.id == id);
        let found = found.unwrap_or_else(|| panic!("the device used id {id}, which it does not have"));
        assert!(found == 0 || self.how.in_order, "a chain was used out of order");
        // virtio 1.3, 2.8.4: without WRITE nothing was written and the length says nothing.
        let written = if flags & DESC_WRITE != 0 { len } else { 0 };
        let writable = self.lent[before + found].writable;
        assert!(
            written <= writable,
            "{written} octets written to a buffer of {writable}"
        );
        Some((found + 1, written))
    }

    /// Asks to be notified of the next chain that is used, and says whether there is one already.
    pub fn arm(&self, memory: &Memory) -> bool {
        if self.how.event_idx {
            self.arm_behind(memory, 0);
        } else {
            self.set_driver_event(memory, 0, EventFlags::Enable as u16);
        }
        self.ready(memory) > 0
    }

    /// Asks to be notified when the chain behind so many others is used.
    pub fn arm_behind(&self, memory: &Memory, others: u16) {
        let lent = self
            .lent
            .iter()
            .map(|it| it.descriptors)
            .chain(std::iter::repeat(1));
        let at = self.next_used.advanced(lent.take(others.into()).sum(), self.size);
        self.set_driver_event(memory, at.encode(), EventFlags::Descriptor as u16);
    }

    /// Asks not to be notified.
    pub fn disarm(&self, memory: &Memory) {
        self.set_driver_event(memory, 0, EventFlags::Disable as u16);
    }

    /// A descriptor as it lies in the ring.
    pub fn descriptor(&self, memory: &Memory, slot: u16) -> PackedDescriptor {
        let at = self.descriptors + 16 * u64::from(slot);
        PackedDescriptor {
            address: memory.load(at),
            len: memory.load(at + 8),
            id: memory.load(at + 12),
            flags: memory.load(at + 14),
        }
    }

    fn descriptor_flags(&self, memory: &Memory, slot: u16) -> u16 {
        memory.load(self.descriptors + 16 * u64::from(slot) + 14)
    }

    /// Writes a descriptor, whatever it says, its flags last.
    pub fn set_descriptor(&self, memory: &Memory, slot: u16, descriptor: PackedDescriptor) {
        write_descriptor(memory, self.descriptors + 16 * u64::from(slot), descriptor);
    }

    fn write_direct(&mut self, memory: &Memory, id: u16, parts: &[Part]) -> u16 {
        for (offset, part) in parts.iter().enumerate() {
            let at = self.next_available.advanced(offset as u16, self.size);
            let is_last = offset + 1 == parts.len();
            let next = if is_last { 0 } else { DESC_NEXT };
            let flags = write_flag(part) | next | at.available_flags();
            self.set_descriptor(
                memory,
                at.slot,
                PackedDescriptor {
                    address: part.address,
                    len: part.len,
                    // virtio 1.3, 2.8.6: the device is to look at the last one only.
                    id: if is_last { id } else { !id },
                    flags: if offset == 0 {
                        self.hidden_flags(memory, at)
                    } else {
                        flags
                    },
                },
            );
            if offset == 0 {
                self.hidden.push((at.slot, flags));
            }
        }
        parts.len() as u16
    }

    fn write_indirect(&mut self, memory: &Memory, id: u16, parts: &[Part]) -> u16 {
        assert!(parts.len() <= usize::from(TABLE), "a chain of {}", parts.len());
        let at = self.next_available;
        let table = self.tables + 16 * u64::from(TABLE) * u64::from(at.slot);
        for (offset, part) in parts.iter().enumerate() {
            let entry = PackedDescriptor {
                address: part.address,
                len: part.len,
                // virtio 1.3, 2.8.7: reserved, as is every flag but WRITE.
                id: 0,
                flags: write_flag(part),
            };
            write_descriptor(memory, table + 16 * offset as u64, entry);
        }
        let descriptor = PackedDescriptor {
            address: table,
            len: 16 * parts.len() as u32,
            id,
            flags: self.hidden_flags(memory, at),
        };
        self.set_descriptor(memory, at.slot, descriptor);
        self.hidden.push((at.slot, DESC_INDIRECT | at.available_flags()));
        1
    }

    /// The flags of a head that the device is not to see yet: those that it has.
    fn hidden_flags(&self, memory: &Memory, at: Position) -> u16 {
        self.descriptor_flags(memory, at.slot)
    }
}

fn write_flag(part: &Part) -> u16 {
    if part.writable { DESC_WRITE } else { 0 }
}

/// Writes a descriptor into a ring or table, its flags last.
fn write_descriptor(memory: &Memory, at: u64, descriptor: PackedDescriptor) {
    memory.store(at, descriptor.address);
    memory.store(at + 8, descriptor.len);
    memory.store(at + 12, descriptor.id);
    memory.store(at + 14, descriptor.flags);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_changes_its_wrap_counter_at_the_end_of_the_ring() {
        let at = |slot, wrap| Position { slot, wrap };
        assert_eq!(Position::START.advanced(5, 6), at(5, true));
        assert_eq!(Position::START.advanced(6, 6), at(0, false));
        assert_eq!(at(5, false).advanced(2, 6), at(1, true));
        assert_eq!(at(5, false).encode(), 5);
        assert_eq!(Position::START.encode(), 0x8000);
    }

    #[test]
    fn what_a_device_uses_is_taken_in_order_and_a_batch_at_once() {
        let mut memory = Memory::new().unwrap();
        let how = RingUse {
            in_order: true,
            ..RingUse::default()
        };
        let mut ring = PackedRing::new(&mut memory, 8, how);
        let part = |len| Part {
            address: 0x1000_0000,
            len,
            writable: true,
        };
        let ids = [
            ring.push(&memory, &[part(100)]),
            ring.push(&memory, &[part(10), part(20)]),
            ring.push(&memory, &[part(300)]),
        ];
        assert_eq!(
            ring.descriptor(&memory, 0).flags & (DESC_AVAIL | DESC_USED),
            0,
            "hidden"
        );
        ring.publish(&memory);
        assert_eq!(ring.pop(&memory), None);
        assert_eq!((ring.free(), ring.published().slot), (4, 4));
        // One used descriptor for the first two.
        let used = PackedDescriptor {
            address: 0,
            len: 7,
            id: ids[1],
            flags: DESC_AVAIL | DESC_USED | DESC_WRITE,
        };
        ring.set_descriptor(&memory, 0, used);
        assert_eq!((ring.ready(&memory), ring.used_index(&memory)), (2, 2));
        assert_eq!(ring.device_position(&memory).slot, 3);
        assert_eq!(ring.pop(&memory), Some((ids[0], 100)));
        assert_eq!(ring.ready(&memory), 1);
        assert_eq!(ring.pop(&memory), Some((ids[1], 7)));
        assert_eq!((ring.pop(&memory), ring.used_index(&memory)), (None, 2));
        assert_eq!((ring.free(), ring.outstanding()), (7, 1));
    }
}
