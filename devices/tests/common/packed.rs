//! The driver's side of a packed ring, written from virtio 1.3, 2.8.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use devices::ring::{PackedRing, RingConfig};

use super::driver::{Descriptor, INDIRECT, NEXT, Part, Used, WRITE};
use super::ram::Ram;

pub const AVAIL: u16 = 1 << 7;
pub const USED: u16 = 1 << 15;

pub const EVENT_ENABLE: u16 = 0;
pub const EVENT_DISABLE: u16 = 1;
pub const EVENT_DESC: u16 = 2;

/// A place as it is given to the other side: the wrap counter is the highest bit.
pub type Place = u16;

/// The first place.
pub const FIRST: Place = 1 << 15;

/// The place some descriptors on.
pub fn step(place: Place, count: u16, size: u16) -> Place {
    (0..count).fold(place, |place, _| match place & 0x7fff {
        last if last == size - 1 => place ^ last ^ (1 << 15),
        _ => place + 1,
    })
}

/// A ring and what its driver knows of it.
#[derive(Clone)]
pub struct PackedDriver {
    pub ram: Arc<Ram>,
    pub size: u16,
    pub desc: u64,
    pub driver_area: u64,
    pub device_area: u64,
    pub in_order: bool,
    /// Of the next descriptor to make available.
    pub next: Place,
    /// Of the next descriptor that will be used.
    pub next_used: Place,
    free: VecDeque<u16>,
    slots: HashMap<u16, u16>,
    held: u16,
    order: VecDeque<u16>,
}

impl PackedDriver {
    /// A ring whose parts follow each other from guest address `at` on.
    pub fn new(ram: &Arc<Ram>, size: u16, at: u64) -> PackedDriver {
        let end = at + 16 * u64::from(size);
        PackedDriver {
            ram: ram.clone(),
            size,
            desc: at,
            driver_area: end,
            device_area: end + 4,
            in_order: false,
            next: FIRST,
            next_used: FIRST,
            free: (0..size).rev().collect(),
            slots: HashMap::new(),
            held: 0,
            order: VecDeque::new(),
        }
    }

    /// Octets of a ring of that size.
    pub fn footprint(size: u16) -> u64 {
        16 * u64::from(size) + 8
    }

    pub fn config(&self, event_idx: bool) -> RingConfig {
        RingConfig {
            size: self.size.into(),
            desc: self.ram.user(self.desc),
            avail: self.ram.user(self.driver_area),
            used: self.ram.user(self.device_area),
            used_log: Some(self.device_area),
            packed: true,
            event_idx,
            in_order: self.in_order,
            base: u32::from(self.next_used) << 16 | u32::from(self.next),
            ..RingConfig::default()
        }
    }

    /// The device's side of this ring.
    pub fn start(&self, event_idx: bool) -> PackedRing {
        PackedRing::start(&self.config(event_idx), self.ram.device(), None).unwrap()
    }

    /// Makes a fresh ring look as if everything before `place` had been used.
    pub fn resume_at(&mut self, place: Place) {
        (self.next, self.next_used) = (place, place);
        let (index, wrap) = (place & 0x7fff, place & FIRST != 0);
        for slot in 0..self.size {
            let flags = if (slot < index) == wrap { AVAIL | USED } else { 0 };
            self.ram.store(self.flags_at(slot), flags);
        }
    }

    pub fn descriptor_range(&self, index: u16) -> Range<u64> {
        let start = self.desc + 16 * u64::from(index & 0x7fff);
        start..start + 16
    }

    pub fn ring_range(&self) -> Range<u64> {
        self.desc..self.desc + 16 * u64::from(self.size)
    }

    /// Where the device writes to return chains.
    pub fn used_ranges(&self) -> [Range<u64>; 2] {
        [self.ring_range(), self.device_area_range()]
    }

    pub fn device_area_range(&self) -> Range<u64> {
        self.device_area..self.device_area + 4
    }

    pub fn flags_at(&self, index: u16) -> u64 {
        self.descriptor_range(index).start + 14
    }

    /// Writes a descriptor; what is `next` in the other format is the id.
    pub fn describe_at(&self, at: u64, descriptor: Descriptor) {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&descriptor.address.to_le_bytes());
        octets[8..12].copy_from_slice(&descriptor.len.to_le_bytes());
        octets[12..14].copy_from_slice(&descriptor.next.to_le_bytes());
        octets[14..].copy_from_slice(&descriptor.flags.to_le_bytes());
        self.ram.put(at, &octets);
    }

    /// The flags that make the descriptor at a place available.
    pub fn available(place: Place) -> u16 {
        if place & FIRST != 0 { AVAIL } else { USED }
    }

    /// Makes a list of descriptors available as they are, the first one at last, and moves on behind them.
    pub fn offer(&mut self, descriptors: &[Descriptor]) {
        let first = self.next;
        for (offset, descriptor) in descriptors.iter().enumerate() {
            let available = descriptor.flags | PackedDriver::available(self.next);
            let range = self.descriptor_range(self.next);
            let kept: u16 = self.ram.load(range.end - 2);
            let flags = if offset == 0 { kept } else { available };
            self.describe_at(range.start, Descriptor { flags, ..*descriptor });
            self.next = step(self.next, 1, self.size);
        }
        if let Some(descriptor) = descriptors.first() {
            let flags = descriptor.flags | PackedDriver::available(first);
            self.ram.store(self.flags_at(first), flags);
        }
    }

    /// Makes a chain of these buffers available, and returns its id.
    pub fn post(&mut self, parts: &[Part]) -> u16 {
        let id = self.take_id(parts.len() as u16);
        let last = parts.len() - 1;
        let described = |(position, part): (usize, &Part)| Descriptor {
            flags: direction(part) | if position < last { NEXT } else { 0 },
            // Only the last one's counts.
            next: if position < last { 0xdead } else { id },
            address: part.address,
            len: part.len,
        };
        let descriptors: Vec<_> = parts.iter().enumerate().map(described).collect();
        self.offer(&descriptors);
        id
    }

    /// Makes a chain available that is a table at guest address `table`; `flags` are added to the descriptor.
    pub fn post_indirect(&mut self, table: u64, parts: &[Part], flags: u16) -> u16 {
        let id = self.take_id(1);
        self.write_table(table, parts, 0);
        self.offer(&[Descriptor {
            address: table,
            len: 16 * parts.len() as u32,
            flags: INDIRECT | flags,
            next: id,
        }]);
        id
    }

    /// Writes an indirect table, with `flags` in every descriptor.
    pub fn write_table(&self, table: u64, parts: &[Part], flags: u16) {
        for (position, part) in parts.iter().enumerate() {
            let descriptor = Descriptor {
                address: part.address,
                len: part.len,
                flags: direction(part) | flags,
                next: 0xbeef,
            };
            self.describe_at(table + 16 * position as u64, descriptor);
        }
    }

    /// Descriptors that no chain takes up.
    pub fn free_slots(&self) -> u16 {
        self.size - self.held
    }

    /// Whether the next used descriptor is there.
    pub fn is_used(&self) -> bool {
        let flags: u16 = self.ram.load(self.flags_at(self.next_used));
        let wrap = self.next_used & FIRST != 0;
        (flags & AVAIL != 0) == wrap && (flags & USED != 0) == wrap
    }

    /// The chains that came back since the last call. With VIRTIO_F_IN_ORDER one descriptor may stand for several, of
    /// which all but the last have no length of their own.
    pub fn collect(&mut self) -> Vec<Used> {
        let mut all = vec![];
        while self.is_used() {
            let at = self.descriptor_range(self.next_used).start;
            let (len, id): (u32, u16) = (self.ram.read(at + 8), self.ram.read(at + 12));
            let flags: u16 = self.ram.read(at + 14);
            assert_eq!(
                flags & WRITE != 0,
                len > 0,
                "WRITE says whether there is a length"
            );
            loop {
                let id_here = if self.in_order { self.order[0] } else { id };
                if self.in_order {
                    self.order.pop_front();
                }
                let slots = self.slots.remove(&id_here).expect("an id that is not held");
                self.held -= slots;
                self.next_used = step(self.next_used, slots, self.size);
                self.free.push_back(id_here);
                let is_last = id_here == id;
                all.push(Used {
                    id: id_here.into(),
                    len: if is_last { len } else { 0 },
                });
                if is_last {
                    break;
                }
            }
        }
        all
    }

    /// The driver's wish.
    pub fn set_event(&self, place: Place, flags: u16) {
        self.ram
            .store(self.driver_area, u32::from(flags) << 16 | u32::from(place));
    }

    /// The device's wish: place and flags.
    pub fn device_event(&self) -> (Place, u16) {
        let area: u32 = self.ram.load(self.device_area);
        (area as u16, (area >> 16) as u16)
    }

    /// Whether making descriptors available from `from` to `to` is to be told the device.
    pub fn must_kick(&self, from: Place, to: Place, event_idx: bool) -> bool {
        let (place, flags) = self.device_event();
        match flags & 3 {
            EVENT_DISABLE => false,
            EVENT_DESC if event_idx => self.passes(from, to, place),
            _ => true,
        }
    }

    /// Whether a place lies between two others, the first of which counts.
    pub fn passes(&self, from: Place, to: Place, place: Place) -> bool {
        let mut at = from;
        while at != to {
            if at == place {
                return true;
            }
            at = step(at, 1, self.size);
        }
        false
    }

    fn take_id(&mut self, slots: u16) -> u16 {
        assert!(slots <= self.free_slots(), "the driver has no descriptor left");
        let id = self.free.pop_front().expect("as many ids as descriptors");
        self.slots.insert(id, slots);
        self.held += slots;
        if self.in_order {
            self.order.push_back(id);
        }
        id
    }
}

fn direction(part: &Part) -> u16 {
    if part.writable { WRITE } else { 0 }
}
