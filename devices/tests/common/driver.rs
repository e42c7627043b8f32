//! The driver's side of a split ring: what virtio asks of it, and every means to do otherwise.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use devices::ring::{ChainId, RingConfig, SplitRing};

use super::ram::Ram;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A descriptor as it lies in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A buffer as the driver thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub address: u64,
    pub len: u32,
    pub writable: bool,
}

pub fn readable(address: u64, len: u32) -> Part {
    Part {
        address,
        len,
        writable: false,
    }
}

pub fn writable(address: u64, len: u32) -> Part {
    Part {
        address,
        len,
        writable: true,
    }
}

/// An element of the used ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    pub id: u32,
    pub len: u32,
}

/// What the device returns a chain by that starts with this descriptor.
pub fn by_head(head: u16) -> ChainId {
    ChainId::new(head, 1)
}

/// A ring and what its driver knows of it.
pub struct Driver {
    pub ram: Arc<Ram>,
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    pub next_avail: u16,
    pub next_used: u16,
    free: Vec<u16>,
    held: HashMap<u16, Vec<u16>>,
}

impl Driver {
    /// A ring whose parts follow each other from guest address `at` on.
    pub fn new(ram: &Arc<Ram>, size: u16, at: u64) -> Driver {
        let avail = at + 16 * u64::from(size);
        let used = (avail + 6 + 2 * u64::from(size)).next_multiple_of(4);
        Driver {
            ram: ram.clone(),
            size,
            desc: at,
            avail,
            used,
            next_avail: 0,
            next_used: 0,
            free: (0..size).rev().collect(),
            held: HashMap::new(),
        }
    }

    /// Octets of a ring of that size, from its descriptor table to its end.
    pub fn footprint(size: u16) -> u64 {
        16 * u64::from(size) + (6 + 2 * u64::from(size)).next_multiple_of(4) + 6 + 8 * u64::from(size)
    }

    pub fn config(&self, event_idx: bool) -> RingConfig {
        RingConfig {
            size: self.size.into(),
            desc: self.ram.user(self.desc),
            avail: self.ram.user(self.avail),
            used: self.ram.user(self.used),
            used_log: Some(self.used),
            event_idx,
            ..RingConfig::default()
        }
    }

    /// The device's side of this ring.
    pub fn start(&self, event_idx: bool) -> SplitRing {
        SplitRing::start(&self.config(event_idx), self.ram.device(), None).unwrap()
    }

    /// Makes a fresh ring look as if `index` chains had been through it.
    pub fn resume_at(&mut self, index: u16) {
        self.next_avail = index;
        self.next_used = index;
        self.ram.store(self.avail + 2, index);
        self.ram.store(self.used + 2, index);
    }

    /// Where the used ring is, with what precedes and follows its elements.
    pub fn used_range(&self) -> Range<u64> {
        self.used..self.used + 6 + 8 * u64::from(self.size)
    }

    pub fn used_flags_range(&self) -> Range<u64> {
        self.used..self.used + 2
    }

    pub fn used_index_range(&self) -> Range<u64> {
        self.used + 2..self.used + 4
    }

    pub fn avail_event_range(&self) -> Range<u64> {
        let end = self.used_range().end;
        end - 2..end
    }

    /// Where the used element of a chain goes that is the `count`th to be returned.
    pub fn used_element(&self, count: u16) -> Range<u64> {
        let start = self.used + 4 + 8 * u64::from(count % self.size);
        start..start + 8
    }

    /// Writes a descriptor of the ring's table.
    pub fn describe(&self, index: u16, descriptor: Descriptor) {
        self.describe_at(self.desc + 16 * u64::from(index), descriptor);
    }

    /// Writes a descriptor anywhere.
    pub fn describe_at(&self, at: u64, descriptor: Descriptor) {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&descriptor.address.to_le_bytes());
        octets[8..12].copy_from_slice(&descriptor.len.to_le_bytes());
        octets[12..14].copy_from_slice(&descriptor.flags.to_le_bytes());
        octets[14..].copy_from_slice(&descriptor.next.to_le_bytes());
        self.ram.put(at, &octets);
    }

    /// Makes available whatever starts at that descriptor.
    pub fn offer(&mut self, head: u16) {
        let slot = u64::from(self.next_avail % self.size);
        self.ram.store(self.avail + 4 + 2 * slot, head);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.ram.store(self.avail + 2, self.next_avail);
    }

    /// Makes a chain of these buffers available, and returns its id.
    pub fn post(&mut self, parts: &[Part]) -> u16 {
        let indices = self.allocate(parts.len());
        for (position, part) in parts.iter().enumerate() {
            let next = indices.get(position + 1).copied();
            self.describe(indices[position], linked(*part, next));
        }
        self.hand_over(indices)
    }

    /// Makes a chain available that goes on in a table at guest address `table`; `flags` are added to the descriptor
    /// of that table.
    pub fn post_indirect(&mut self, direct: &[Part], table: u64, indirect: &[Part], flags: u16) -> u16 {
        let indices = self.allocate(direct.len() + 1);
        for (position, part) in direct.iter().enumerate() {
            self.describe(indices[position], linked(*part, Some(indices[position + 1])));
        }
        let descriptor = Descriptor {
            address: table,
            len: 16 * indirect.len() as u32,
            flags: INDIRECT | flags,
            next: 0,
        };
        self.describe(indices[direct.len()], descriptor);
        self.write_table(table, indirect);
        self.hand_over(indices)
    }

    /// Writes an indirect table whose descriptors follow each other.
    pub fn write_table(&self, table: u64, parts: &[Part]) {
        for (position, part) in parts.iter().enumerate() {
            let next = (position + 1 < parts.len()).then_some(position as u16 + 1);
            self.describe_at(table + 16 * position as u64, linked(*part, next));
        }
    }

    /// The chains that came back since the last call.
    pub fn collect(&mut self) -> Vec<Used> {
        let mut all = vec![];
        while self.next_used != self.used_index() {
            let element = self.used_element(self.next_used).start;
            let used = Used {
                id: self.ram.read(element),
                len: self.ram.read(element + 4),
            };
            self.free
                .extend(self.held.remove(&(used.id as u16)).unwrap_or_default());
            self.next_used = self.next_used.wrapping_add(1);
            all.push(used);
        }
        all
    }

    pub fn used_flags(&self) -> u16 {
        self.ram.load(self.used_flags_range().start)
    }

    pub fn used_index(&self) -> u16 {
        self.ram.load(self.used_index_range().start)
    }

    pub fn avail_event(&self) -> u16 {
        self.ram.load(self.avail_event_range().start)
    }

    pub fn set_avail_flags(&self, flags: u16) {
        self.ram.store(self.avail, flags);
    }

    pub fn set_used_event(&self, index: u16) {
        self.ram.store(self.avail + 4 + 2 * u64::from(self.size), index);
    }

    fn allocate(&mut self, count: usize) -> Vec<u16> {
        assert!(count <= self.free.len(), "the driver has no descriptor left");
        self.free.split_off(self.free.len() - count)
    }

    fn hand_over(&mut self, indices: Vec<u16>) -> u16 {
        let head = indices[0];
        self.held.insert(head, indices);
        self.offer(head);
        head
    }
}

fn linked(part: Part, next: Option<u16>) -> Descriptor {
    Descriptor {
        address: part.address,
        len: part.len,
        flags: if part.writable { WRITE } else { 0 } | if next.is_some() { NEXT } else { 0 },
        next: next.unwrap_or(0),
    }
}
