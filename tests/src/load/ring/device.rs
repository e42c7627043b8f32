//! The device's side of both rings, as slow and as plain as can be.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::driver::front_end::RingAddresses;
use crate::driver::memory::SharedRegion;
use crate::load::ring::{RingConfig, crosses};

/// A buffer that the device got.
#[derive(Debug, PartialEq, Eq)]
pub struct Buffer {
    pub id: u16,
    /// Guest address, length and whether it is to be written, of each part.
    pub parts: Vec<(u64, u32, bool)>,
}

/// What tests do with a device.
pub trait Device {
    fn new(rings: RingAddresses, region: SharedRegion, config: &RingConfig) -> Self;
    /// The next buffer that is available.
    fn next(&mut self) -> Option<Buffer>;
    /// Uses buffers with one entry; true if the driver is to be called.
    fn use_batch(&mut self, ids: &[u16], len: u32) -> bool;
    fn want_kicks(&self, wanted: bool);
    /// With EVENT_IDX: wants a kick at this buffer, counted from the first.
    fn want_kick_at(&self, number: u16);
}

/// Writes into a guest's memory.
pub fn write(region: &SharedRegion, guest: u64, octets: &[u8]) {
    assert!(guest >= region.guest && guest + octets.len() as u64 <= region.guest + region.size);
    let at = (guest - region.guest + region.user) as *mut u8;
    // SAFETY: inside the region, as asserted, which is mapped while the test runs.
    unsafe { at.copy_from_nonoverlapping(octets.as_ptr(), octets.len()) };
}

#[derive(Debug)]
pub struct SplitDevice {
    rings: RingAddresses,
    region: SharedRegion,
    size: u16,
    event_idx: bool,
    available: u16,
    used: u16,
}

#[derive(Debug)]
pub struct PackedDevice {
    rings: RingAddresses,
    region: SharedRegion,
    size: u16,
    /// Descriptors since the first, of either side.
    available: usize,
    used: usize,
}

fn u16_at(address: u64) -> &'static AtomicU16 {
    // SAFETY: an aligned address within the driver's memory, which outlives each use in these tests.
    unsafe { AtomicU16::from_ptr(address as *mut u16) }
}

fn u32_at(address: u64) -> &'static AtomicU32 {
    // SAFETY: as above.
    unsafe { AtomicU32::from_ptr(address as *mut u32) }
}

fn u64_at(address: u64) -> &'static AtomicU64 {
    // SAFETY: as above.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}

/// A part, by its descriptor's address.
fn part(at: u64, flags: u16) -> (u64, u32, bool) {
    (
        u64_at(at).load(SeqCst),
        u32_at(at + 8).load(SeqCst),
        flags & 2 != 0,
    )
}

impl SplitDevice {
    fn chain(&self, table: u64, mut index: u16) -> Vec<(u64, u32, bool)> {
        let mut parts = Vec::new();
        loop {
            let at = table + 16 * u64::from(index);
            let flags = u16_at(at + 12).load(SeqCst);
            let (address, len, write) = part(at, flags);
            if flags & 4 != 0 {
                assert_eq!((flags, len % 16), (4, 0));
                return self.chain(address - self.region.guest + self.region.user, 0);
            }
            parts.push((address, len, write));
            if flags & 1 == 0 {
                return parts;
            }
            index = u16_at(at + 14).load(SeqCst);
        }
    }
}

impl Device for SplitDevice {
    fn new(rings: RingAddresses, region: SharedRegion, config: &RingConfig) -> SplitDevice {
        SplitDevice {
            rings,
            region,
            size: config.size,
            event_idx: config.event_idx,
            available: 0,
            used: 0,
        }
    }

    fn next(&mut self) -> Option<Buffer> {
        if u16_at(self.rings.available + 2).load(SeqCst) == self.available {
            return None;
        }
        let slot = u64::from(self.available % self.size);
        let id = u16_at(self.rings.available + 4 + 2 * slot).load(SeqCst);
        self.available = self.available.wrapping_add(1);
        let parts = self.chain(self.rings.descriptors, id);
        Some(Buffer { id, parts })
    }

    fn use_batch(&mut self, ids: &[u16], len: u32) -> bool {
        let element = self.rings.used + 4 + 8 * u64::from(self.used % self.size);
        u32_at(element).store(u32::from(ids[ids.len() - 1]), SeqCst);
        u32_at(element + 4).store(len, SeqCst);
        let old = self.used;
        self.used = self.used.wrapping_add(ids.len() as u16);
        u16_at(self.rings.used + 2).store(self.used, SeqCst);
        if self.event_idx {
            let event = self.rings.available + 4 + 2 * u64::from(self.size);
            return crosses(u16_at(event).load(SeqCst), self.used, old);
        }
        u16_at(self.rings.available).load(SeqCst) == 0
    }

    fn want_kicks(&self, wanted: bool) {
        u16_at(self.rings.used).store(u16::from(!wanted), SeqCst);
    }

    fn want_kick_at(&self, number: u16) {
        u16_at(self.rings.used + 4 + 8 * u64::from(self.size)).store(number, SeqCst);
    }
}

impl PackedDevice {
    /// Address and wrap counter of a place, counted from the first.
    fn place(&self, number: usize) -> (u64, bool) {
        let size = usize::from(self.size);
        let at = self.rings.descriptors + 16 * (number % size) as u64;
        (at, (number / size).is_multiple_of(2))
    }

    fn event(&self, number: usize) -> u16 {
        let (_, wrap) = self.place(number);
        (number % usize::from(self.size)) as u16 | u16::from(wrap) << 15
    }
}

impl Device for PackedDevice {
    fn new(rings: RingAddresses, region: SharedRegion, config: &RingConfig) -> PackedDevice {
        PackedDevice {
            rings,
            region,
            size: config.size,
            available: 0,
            used: 0,
        }
    }

    fn next(&mut self) -> Option<Buffer> {
        let (at, wrap) = self.place(self.available);
        let flags = u16_at(at + 14).load(SeqCst);
        let (available, used) = (flags & 1 << 7 != 0, flags & 1 << 15 != 0);
        if available != wrap || used == wrap {
            return None;
        }
        assert_eq!(flags & 1, 0, "one descriptor for each buffer");
        self.available += 1;
        let (address, len, write) = part(at, flags);
        let id = u16_at(at + 12).load(SeqCst);
        if flags & 4 == 0 {
            let parts = vec![(address, len, write)];
            return Some(Buffer { id, parts });
        }
        let table = address - self.region.guest + self.region.user;
        let entries = (0..u64::from(len) / 16).map(|index| table + 16 * index);
        let parts = entries.map(|at| part(at, u16_at(at + 14).load(SeqCst))).collect();
        Some(Buffer { id, parts })
    }

    fn use_batch(&mut self, ids: &[u16], len: u32) -> bool {
        let (at, wrap) = self.place(self.used);
        u32_at(at + 8).store(len, SeqCst);
        u16_at(at + 12).store(ids[ids.len() - 1], SeqCst);
        u16_at(at + 14).store(if wrap { 1 << 7 | 1 << 15 } else { 0 }, SeqCst);
        let old = self.used;
        self.used += ids.len();
        let event = u16_at(self.rings.available).load(SeqCst);
        match u16_at(self.rings.available + 2).load(SeqCst) {
            0 => true,
            1 => false,
            flags => {
                assert_eq!(flags, 2, "the driver's event suppression");
                (old..self.used).any(|number| self.event(number) == event)
            }
        }
    }

    fn want_kicks(&self, wanted: bool) {
        u16_at(self.rings.used + 2).store(u16::from(!wanted), SeqCst);
    }

    fn want_kick_at(&self, number: u16) {
        u16_at(self.rings.used).store(self.event(usize::from(number)), SeqCst);
        u16_at(self.rings.used + 2).store(2, SeqCst);
    }
}
