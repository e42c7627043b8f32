//! The driver's side of a split virtqueue (virtio 1.3, 2.7), which takes the device at its word and checks it.

use std::collections::VecDeque;

use super::front_end::RingAddresses;
use super::memory::{Memory, RINGS};

/// A descriptor continues in another one.
pub const DESC_NEXT: u16 = 1;
/// A descriptor's buffer is written by the device.
pub const DESC_WRITE: u16 = 2;
/// A descriptor's buffer is a table of descriptors.
pub const DESC_INDIRECT: u16 = 4;
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;
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

/// A descriptor as it lies in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A split virtqueue.
#[derive(Debug)]
pub struct Ring {
    /// Number of descriptors.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the available ring.
    pub available: u64,
    /// Guest address of the used ring.
    pub used: u64,
    event_idx: bool,
    indirect: bool,
    tables: u64,
    free: Vec<u16>,
    /// Descriptors of each chain that the device has, oldest first.
    outstanding: VecDeque<Vec<u16>>,
    /// Chains that were written to the available ring.
    next_available: u16,
    /// The available index as the device sees it.
    published: u16,
    /// Used elements that were taken.
    next_used: u16,
}

impl Ring {
    /// An empty ring. With `indirect` every chain lies in a table of its own.
    pub fn new(memory: &mut Memory, size: u16, event_idx: bool, indirect: bool) -> Ring {
        let entries = u64::from(size);
        Ring {
            size,
            descriptors: memory.allocate(RINGS, 16 * entries, 16),
            available: memory.allocate(RINGS, 6 + 2 * entries, 2),
            used: memory.allocate(RINGS, 6 + 8 * entries, 4),
            event_idx,
            indirect,
            tables: memory.allocate(RINGS, 16 * u64::from(TABLE) * entries, 16),
            free: (0..size).rev().collect(),
            outstanding: VecDeque::new(),
            next_available: 0,
            published: 0,
            next_used: 0,
        }
    }

    /// Where it is, for the back end.
    pub fn addresses(&self, memory: &Memory) -> RingAddresses {
        RingAddresses {
            descriptors: memory.user(self.descriptors),
            available: memory.user(self.available),
            used: memory.user(self.used),
            log: None,
        }
    }

    /// How many chains the device has.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Chains that were ever made available, modulo 2^16.
    pub fn available_index(&self) -> u16 {
        self.published
    }

    /// Chains that were ever used by the device, modulo 2^16.
    pub fn used_index(&self, memory: &Memory) -> u16 {
        memory.load(self.used + 2)
    }

    /// Writes a chain into the ring, and gives its id. The device sees it when it is [published](Self::publish).
    pub fn push(&mut self, memory: &Memory, parts: &[Part]) -> u16 {
        let chain = if self.indirect {
            self.write_indirect(memory, parts)
        } else {
            self.write_direct(memory, parts)
        };
        let head = chain[0];
        self.outstanding.push_back(chain);
        self.offer(memory, head);
        head
    }

    /// Writes an id into the available ring, whatever it stands for.
    pub fn offer(&mut self, memory: &Memory, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        memory.store(self.available + 4 + 2 * slot, head);
        self.next_available = self.next_available.wrapping_add(1);
    }

    /// Shows the device all chains that were written, and says whether it wants to be kicked.
    pub fn publish(&mut self, memory: &Memory) -> bool {
        let old = self.published;
        if self.next_available == old {
            return false;
        }
        self.set_available_index(memory, self.next_available);
        self.published = self.next_available;
        if self.event_idx {
            let event: u16 = memory.load(self.used + 4 + 8 * u64::from(self.size));
            return crosses(event, self.published, old);
        }
        memory.load::<u16>(self.used) & USED_NO_NOTIFY == 0
    }

    /// Writes the available index, whatever is in the ring.
    pub fn set_available_index(&self, memory: &Memory, index: u16) {
        memory.store(self.available + 2, index);
    }

    /// Writes a descriptor, whatever it says.
    pub fn set_descriptor(&self, memory: &Memory, index: u16, descriptor: Descriptor) {
        write_descriptor(memory, self.descriptors + 16 * u64::from(index), descriptor);
    }

    /// Takes the next chain that the device has used: its id and the octets written to it.
    ///
    /// # Panics
    /// If it is not the oldest chain that the device had: this device promises to complete in order.
    pub fn pop(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        let found = self.used_index(memory);
        if found == self.next_used {
            return None;
        }
        let ahead = usize::from(found.wrapping_sub(self.next_used));
        assert!(
            ahead <= self.outstanding.len(),
            "the device used {ahead} chains and had {}",
            self.outstanding.len()
        );
        let element = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        let (head, len) = (memory.load::<u32>(element), memory.load::<u32>(element + 4));
        let chain = self.outstanding.pop_front().expect("counted above");
        assert_eq!(head, u32::from(chain[0]), "a chain was used out of order");
        self.free.extend(chain.iter().rev());
        self.next_used = self.next_used.wrapping_add(1);
        Some((chain[0], len))
    }

    /// How many chains the device has used that were not taken yet.
    pub fn ready(&self, memory: &Memory) -> usize {
        usize::from(self.used_index(memory).wrapping_sub(self.next_used))
    }

    /// Asks to be notified of the next chain that is used, and says whether there is one already.
    pub fn arm(&self, memory: &Memory) -> bool {
        if self.event_idx {
            self.set_used_event(memory, self.next_used);
        } else {
            memory.store(self.available, 0u16);
        }
        self.ready(memory) > 0
    }

    /// Asks not to be notified.
    pub fn disarm(&self, memory: &Memory) {
        if self.event_idx {
            self.set_used_event(memory, self.next_used.wrapping_sub(1));
        } else {
            memory.store(self.available, AVAIL_NO_INTERRUPT);
        }
    }

    /// With EVENT_IDX: asks to be notified when the used index moves past this one.
    pub fn set_used_event(&self, memory: &Memory, index: u16) {
        memory.store(self.available + 4 + 2 * u64::from(self.size), index);
    }

    fn write_direct(&mut self, memory: &Memory, parts: &[Part]) -> Vec<u16> {
        let chain: Vec<u16> = parts
            .iter()
            .map(|_| self.free.pop().expect("a free descriptor"))
            .collect();
        for (position, (part, index)) in parts.iter().zip(&chain).enumerate() {
            let next = chain.get(position + 1).copied();
            self.set_descriptor(memory, *index, descriptor_of(part, next));
        }
        chain
    }

    fn write_indirect(&mut self, memory: &Memory, parts: &[Part]) -> Vec<u16> {
        assert!(parts.len() <= usize::from(TABLE), "a chain of {}", parts.len());
        let index = self.free.pop().expect("a free descriptor");
        let table = self.tables + 16 * u64::from(TABLE) * u64::from(index);
        for (position, part) in parts.iter().enumerate() {
            let next = (position + 1 < parts.len()).then_some(position as u16 + 1);
            write_descriptor(memory, table + 16 * position as u64, descriptor_of(part, next));
        }
        let descriptor = Descriptor {
            address: table,
            len: 16 * parts.len() as u32,
            flags: DESC_INDIRECT,
            next: 0,
        };
        self.set_descriptor(memory, index, descriptor);
        vec![index]
    }
}

/// Writes a descriptor into a table.
pub fn write_descriptor(memory: &Memory, at: u64, descriptor: Descriptor) {
    memory.store(at, descriptor.address);
    memory.store(at + 8, descriptor.len);
    memory.store(at + 12, descriptor.flags);
    memory.store(at + 14, descriptor.next);
}

fn descriptor_of(part: &Part, next: Option<u16>) -> Descriptor {
    let write = if part.writable { DESC_WRITE } else { 0 };
    let chained = if next.is_some() { DESC_NEXT } else { 0 };
    Descriptor {
        address: part.address,
        len: part.len,
        flags: write | chained,
        next: next.unwrap_or(0),
    }
}

/// Whether an index that goes from `old` to `new` passes `event` (virtio 1.3, 2.7.7.1).
fn crosses(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
