//! The books of a packed ring, from which its place is found again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{InflightBuffer, Region, VERSION};
use crate::ring::place::Place;

/// vhost-user: `QueueRegionPacked`.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    pub(super) features: AtomicU64,
    pub(super) version: AtomicU16,
    pub(super) desc_num: AtomicU16,
    pub(super) free_head: AtomicU16,
    pub(super) old_free_head: AtomicU16,
    // `used_idx`, `old_used_idx`, `used_wrap_counter`, `old_used_wrap_counter` and padding: written all at once, so that
    // index and wrap counter never disagree.
    pub(super) places: AtomicU64,
    padding: AtomicU64,
}

/// vhost-user: `DescStatePacked`.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    pub(super) inflight: AtomicU8,
    padding: u8,
    pub(super) next: AtomicU16,
    pub(super) last: AtomicU16,
    pub(super) num: AtomicU16,
    pub(super) counter: AtomicU64,
    pub(super) id: AtomicU16,
    pub(super) flags: AtomicU16,
    pub(super) len: AtomicU32,
    pub(super) addr: AtomicU64,
}

/// A descriptor as it lies in the ring, in two halves: the address, and length, id and flags.
pub type Slot = [AtomicU64; 2];

/// Keeps the books of a ring whose chains are completed in order. They say where the next one is to be completed, and
/// while a batch becomes visible, how its descriptors were before.
#[derive(Debug)]
pub struct PackedInflight {
    pub(super) region: Region<Header, Entry>,
    // Whose descriptors are kept. As long as the ring at most, which it has room for.
    kept: Vec<u16>,
}

impl PackedInflight {
    /// Opens the books of a queue, and gives the place where it goes on: where the books that are found say, or `base` if
    /// there are none. `None` if the buffer has no place for them.
    pub fn open(
        buffer: &Arc<InflightBuffer>,
        queue: usize,
        ring: &[Slot],
        base: Place,
    ) -> Option<(PackedInflight, Place)> {
        let region = Region::<Header, Entry>::new(buffer, queue, ring.len() as u32, true)?;
        let place = recover(&region, ring).unwrap_or(base);
        let header = region.header();
        for (next, entry) in (1..).zip(region.entries()) {
            entry.next.store(next, Ordering::Relaxed);
            entry.inflight.store(0, Ordering::Relaxed);
        }
        header.features.store(0, Ordering::Relaxed);
        header.desc_num.store(region.size, Ordering::Relaxed);
        header.free_head.store(0, Ordering::Relaxed);
        header.old_free_head.store(0, Ordering::Relaxed);
        header.places.store(word(place, place), Ordering::Release);
        header.version.store(VERSION, Ordering::Release);
        let kept = Vec::with_capacity(usize::from(region.size));
        Some((PackedInflight { region, kept }, place))
    }

    /// Keeps a descriptor that the next batch overwrites before its first one, which is what counts.
    #[inline]
    pub fn keep(&mut self, ring: &[Slot], index: u16) {
        let at = usize::from(index);
        let (Some(entry), Some(slot)) = (self.region.entries().get(at), ring.get(at)) else {
            return;
        };
        if self.kept.len() == self.kept.capacity() {
            return;
        }
        let half = u64::from_le(slot[1].load(Ordering::Relaxed));
        entry
            .addr
            .store(u64::from_le(slot[0].load(Ordering::Relaxed)), Ordering::Relaxed);
        entry.len.store(half as u32, Ordering::Relaxed);
        entry.id.store((half >> 32) as u16, Ordering::Relaxed);
        entry.flags.store((half >> 48) as u16, Ordering::Relaxed);
        entry.inflight.store(1, Ordering::Release);
        self.kept.push(index);
    }

    /// A batch from `old` to `used` becomes visible next.
    #[inline]
    pub fn before_publish(&mut self, old: Place, used: Place) {
        self.region
            .header()
            .places
            .store(word(used, old), Ordering::Release);
    }

    /// The batch up to `used` is visible.
    #[inline]
    pub fn after_publish(&mut self, used: Place) {
        self.region
            .header()
            .places
            .store(word(used, used), Ordering::Release);
        for index in self.kept.drain(..) {
            if let Some(entry) = self.region.entries().get(usize::from(index)) {
                entry.inflight.store(0, Ordering::Release);
            }
        }
    }
}

/// Where the books say that the ring stands, after a batch that became visible in part only was taken back.
fn recover(region: &Region<Header, Entry>, ring: &[Slot]) -> Option<Place> {
    let header = region.header();
    let version = header.version.load(Ordering::Acquire);
    let size = header.desc_num.load(Ordering::Relaxed);
    if version != VERSION || usize::from(size) != ring.len() {
        return None;
    }
    let (used, old) = places(header.places.load(Ordering::Acquire))?;
    let (first, _) = (
        ring.get(usize::from(old.index))?,
        ring.get(usize::from(used.index))?,
    );
    let flags = (u64::from_le(first[1].load(Ordering::Acquire)) >> 48) as u16;
    if used == old || !old.is_available(flags) {
        return Some(used);
    }
    // Its first descriptor is written last, so the driver has seen nothing of the batch.
    for (entry, slot) in region.entries().iter().zip(ring) {
        if entry.inflight.load(Ordering::Relaxed) == 1 {
            let half = u64::from(entry.len.load(Ordering::Relaxed))
                | u64::from(entry.id.load(Ordering::Relaxed)) << 32
                | u64::from(entry.flags.load(Ordering::Relaxed)) << 48;
            slot[1].store(half.to_le(), Ordering::Release);
        }
    }
    Some(old)
}

/// `used_idx`, `old_used_idx` and their wrap counters, as they lie in the region.
fn word(used: Place, old: Place) -> u64 {
    let ([a, b], [c, d]) = (used.index.to_ne_bytes(), old.index.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, used.wrap.into(), old.wrap.into(), 0, 0])
}

/// The opposite of [`word`], if the wrap counters are such.
fn places(word: u64) -> Option<(Place, Place)> {
    let [a, b, c, d, used, old, _, _] = word.to_ne_bytes();
    let place = |index, wrap| {
        (wrap <= 1).then_some(Place {
            index: u16::from_ne_bytes(index),
            wrap: wrap == 1,
        })
    };
    Some((place([a, b], used)?, place([c, d], old)?))
}
