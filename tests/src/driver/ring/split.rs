//! The driver's side of a split virtqueue (virtio 1.3, 2.7).

use std::collections::VecDeque;

use super::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Part, RingUse, TABLE, crosses, writable_len};
use crate::driver::memory::{Memory, RINGS};

const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// A descriptor as it lies in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A chain that the device has.
#[derive(Debug)]
struct Lent {
    chain: Vec<u16>,
    writable: u32,
}

/// A split virtqueue.
#[derive(Debug)]
pub struct SplitRing {
    /// Number of descriptors.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the available ring.
    pub available: u64,
    /// Guest address of the used ring.
    pub used: u64,
    how: RingUse,
    tables: u64,
    free: Vec<u16>,
    /// Chains that the device has, oldest first.
    lent: VecDeque<Lent>,
    /// Chains that were written to the available ring.
    next_available: u16,
    /// The available index as the device sees it.
    published: u16,
    /// Used chains that were taken.
    next_used: u16,
    /// Chains that one used element stands for and that were not taken yet, and the octets written to the last.
    announced: Option<(usize, u32)>,
}

impl SplitRing {
    /// An empty ring.
    pub fn new(memory: &mut Memory, size: u16, how: RingUse) -> SplitRing {
        let entries = u64::from(size);
        SplitRing {
            size,
            descriptors: memory.allocate(RINGS, 16 * entries, 16),
            available: memory.allocate(RINGS, 6 + 2 * entries, 2),
            used: memory.allocate(RINGS, 6 + 8 * entries, 4),
            how,
            tables: memory.allocate(RINGS, 16 * u64::from(TABLE) * entries, 16),
            free: (0..size).rev().collect(),
            lent: VecDeque::new(),
            next_available: 0,
            published: 0,
            next_used: 0,
            announced: None,
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
        let chain = if self.how.indirect {
            self.write_indirect(memory, parts)
        } else {
            self.write_direct(memory, parts)
        };
        let head = chain[0];
        self.lent.push_back(Lent {
            chain,
            writable: writable_len(parts),
        });
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
        if self.how.event_idx {
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
    /// If the device used something that it did not have, or not the oldest chain.
    pub fn pop(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        let (batch, len) = match self.announced.take() {
            Some(rest) => rest,
            None => self.announcement(memory)?,
        };
        let lent = self.lent.pop_front().expect("counted by the announcement");
        self.free.extend(lent.chain.iter().rev());
        self.next_used = self.next_used.wrapping_add(1);
        if batch == 1 {
            return Some((lent.chain[0], len));
        }
        self.announced = Some((batch - 1, len));
        // virtio 1.3, 2.7.9: skipped buffers were used completely.
        Some((lent.chain[0], lent.writable))
    }

    /// What the next used element announces, if there is one: how many chains, and the octets written to the last.
    fn announcement(&self, memory: &Memory) -> Option<(usize, u32)> {
        let ahead = self.ready(memory);
        if ahead == 0 {
            return None;
        }
        let lent = self.lent.len();
        assert!(ahead <= lent, "the device used {ahead} chains and had {lent}");
        let element = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        let (head, len) = (memory.load::<u32>(element), memory.load::<u32>(element + 4));
        let mut visible = self.lent.iter().take(ahead);
        let found = visible.position(|it| u32::from(it.chain[0]) == head);
        let found = found.unwrap_or_else(|| panic!("the device used id {head}, which it does not have"));
        assert!(found == 0 || self.how.in_order, "a chain was used out of order");
        Some((found + 1, len))
    }

    /// How many chains the device has used that were not taken yet.
    pub fn ready(&self, memory: &Memory) -> usize {
        usize::from(self.used_index(memory).wrapping_sub(self.next_used))
    }

    /// Asks to be notified of the next chain that is used, and says whether there is one already.
    pub fn arm(&self, memory: &Memory) -> bool {
        if self.how.event_idx {
            self.set_used_event(memory, self.next_used);
        } else {
            memory.store(self.available, 0u16);
        }
        self.ready(memory) > 0
    }

    /// Asks not to be notified.
    pub fn disarm(&self, memory: &Memory) {
        if self.how.event_idx {
            self.set_used_event(memory, self.next_used.wrapping_sub(1));
        } else {
            memory.store(self.available, AVAIL_NO_INTERRUPT);
        }
    }

    /// Asks to be notified when the chain behind so many others is used.
    pub fn arm_behind(&self, memory: &Memory, others: u16) {
        self.set_used_event(memory, self.next_used.wrapping_add(others));
    }

    fn set_used_event(&self, memory: &Memory, index: u16) {
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
