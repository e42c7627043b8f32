//! The packed virtqueue (virtio 1.3, 2.8).

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::tables::TABLE;
use super::{
    AHEAD, DESC_INDIRECT, DESC_WRITE, DriverRing, Ids, LINE_DESCRIPTORS, RingConfig, RingError, Tables, Used,
    crosses,
};
use crate::driver::front_end::RingAddresses;
use crate::load::memory::{Area, Memory};

/// `flags` of a descriptor: what the driver sets to its wrap counter, and `USED` to the inverse.
const AVAILABLE: u16 = 1 << 7;
/// `flags` of a descriptor: what the device sets to its wrap counter, as `AVAILABLE` is.
const USED: u16 = 1 << 15;

/// `flags` of an event suppression structure (2.8.10).
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_DESCRIPTOR: u16 = 2;

/// The driver's side of a packed ring. One buffer is one descriptor, so places and ids advance together.
#[derive(Debug)]
pub struct PackedRing {
    config: RingConfig,
    ids: Ids,
    descriptors: Area,
    driver_event: Area,
    device_event: Area,
    tables: Option<Tables>,
    next_available: Place,
    next_used: Place,
    /// Where the first descriptor is that was put since the last publication, and its id and flags, which are written
    /// last: the device takes descriptors in ring order, so it sees none of them before.
    first: Option<(usize, u32)>,
    added: u16,
    /// In order: the last buffer of a batch that the device used with one descriptor, if it was not taken yet.
    batch: Option<Used>,
}

/// A place in the ring, with the wrap counter of who is there (2.8.1).
#[derive(Debug, Clone, Copy)]
struct Place {
    index: u16,
    wrap: bool,
}

impl DriverRing for PackedRing {
    /// Index 0 and wrap counter 1, of the available and of the used side (U8).
    const BASE: u32 = 0x8000_8000;

    fn octets(config: &RingConfig) -> usize {
        let tables = if config.indirect {
            Tables::octets(config.size)
        } else {
            0
        };
        16 * usize::from(config.size) + tables + 4 * 4096
    }

    fn new(config: &RingConfig, memory: &mut Memory) -> io::Result<PackedRing> {
        let tables = config.indirect.then(|| Tables::new(memory, config.size, false));
        let start = Place { index: 0, wrap: true };
        let mut ring = PackedRing {
            config: *config,
            ids: Ids::new(config.size),
            descriptors: memory.area(16 * usize::from(config.size))?,
            driver_event: memory.area(4)?,
            device_event: memory.area(4)?,
            tables: tables.transpose()?,
            next_available: start,
            next_used: start,
            first: None,
            added: 0,
            batch: None,
        };
        ring.want_calls(false);
        Ok(ring)
    }

    fn addresses(&self) -> RingAddresses {
        RingAddresses {
            descriptors: self.descriptors.user(0),
            available: self.driver_event.user(0),
            used: self.device_event.user(0),
            log: None,
        }
    }

    #[inline]
    fn room(&self) -> usize {
        self.ids.room()
    }

    #[inline]
    fn outstanding(&self) -> usize {
        self.ids.outstanding()
    }

    #[inline]
    fn id(&self, ahead: usize) -> u16 {
        self.ids.free(ahead)
    }

    #[inline]
    fn put(&mut self, guest: u64, len: u32) {
        let id = self.ids.put();
        let write = if self.config.writable { DESC_WRITE } else { 0 };
        let (guest, len, kind) = match &self.tables {
            Some(tables) => (tables.write(id, guest, len), TABLE, DESC_INDIRECT),
            None => (guest, len, write),
        };
        let turn = if self.next_available.wrap { AVAILABLE } else { USED };
        let last = u32::from(id) | u32::from(kind | turn) << 16;
        let index = self.next_available.index;
        let at = 16 * usize::from(index);
        if index.is_multiple_of(LINE_DESCRIPTORS) {
            self.descriptors.prefetch_to_write(at + 16 * AHEAD);
        }
        self.descriptors.u64(at).store(guest, Relaxed);
        self.descriptors.u32(at + 8).store(len, Relaxed);
        match self.first {
            None => self.first = Some((at, last)),
            Some(_) => self.descriptors.u32(at + 12).store(last, Relaxed),
        }
        self.added += 1;
        self.next_available = self.next_available.after(self.config.size);
    }

    #[inline]
    fn publish(&mut self) -> bool {
        let Some((at, last)) = self.first.take() else {
            return false;
        };
        self.descriptors.u32(at + 12).store(last, Release);
        let added = std::mem::take(&mut self.added);
        if !self.config.kicks {
            return false;
        }
        // The descriptors must be out before the device's wish is read (2.8.21.3.1).
        fence(SeqCst);
        let event = self.device_event.u32(0).load(Relaxed);
        match (event >> 16) as u16 & 3 {
            EVENT_ENABLE => true,
            EVENT_DESCRIPTOR => self.passes(event as u16, added),
            _ => false,
        }
    }

    #[inline]
    fn take(&mut self, used: &mut [Used]) -> Result<usize, RingError> {
        let mut count = 0;
        while count < used.len() {
            let Some(last) = self.batch.take().or_else(|| self.element()) else {
                break;
            };
            let mut taken = last;
            if self.config.in_order && self.ids.oldest() != last.id {
                // One descriptor may stand for a batch: those before its last buffer were filled (2.8.9).
                self.check_in_order(last.id)?;
                self.batch = Some(last);
                taken = Used {
                    id: self.ids.oldest(),
                    len: self.config.buffer_len,
                };
            }
            self.complete(taken.id)?;
            used[count] = taken;
            count += 1;
        }
        Ok(count)
    }

    #[inline]
    fn reclaim(&mut self) -> Result<(), RingError> {
        while let Some(Used { id, .. }) = self.element() {
            if self.config.in_order {
                self.check_in_order(id)?;
                while self.ids.oldest() != id {
                    self.complete(self.ids.oldest())?;
                }
            }
            self.complete(id)?;
        }
        Ok(())
    }

    fn want_calls(&mut self, wanted: bool) {
        let flags = match (wanted, self.config.event_idx) {
            (false, _) => EVENT_DISABLE,
            (true, false) => EVENT_ENABLE,
            (true, true) => EVENT_DESCRIPTOR,
        };
        let event = u32::from(self.next_used.encode()) | u32::from(flags) << 16;
        self.driver_event.u32(0).store(event, SeqCst);
        // Whoever looks for used buffers next must see those that the device used before it saw the wish.
        fence(SeqCst);
    }
}

impl PackedRing {
    /// What the device wrote at the next place, if it did.
    #[inline]
    fn element(&self) -> Option<Used> {
        let at = 16 * usize::from(self.next_used.index);
        let word = self.descriptors.u32(at + 12).load(Acquire);
        let flags = (word >> 16) as u16;
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        // A ring that nobody has anything of reads as used in the first turn's past.
        (available == used && used == self.next_used.wrap && self.ids.outstanding() > 0).then(|| Used {
            id: word as u16,
            len: self.descriptors.u32(at + 8).load(Relaxed),
        })
    }

    #[inline]
    fn complete(&mut self, id: u16) -> Result<(), RingError> {
        self.ids.complete(id)?;
        self.next_used = self.next_used.after(self.config.size);
        Ok(())
    }

    /// A batch ends with a buffer that the device had.
    fn check_in_order(&self, id: u16) -> Result<(), RingError> {
        if self.ids.is_outstanding(id) {
            return Ok(());
        }
        Err(RingError::NotOutstanding { id: id.into() })
    }

    /// Whether the place of `event` is among the last `added` ones.
    fn passes(&self, event: u16, added: u16) -> bool {
        let (mut index, wrap) = (event & 0x7fff, event & 0x8000 != 0);
        if wrap != self.next_available.wrap {
            // It was meant in the turn before.
            index = index.wrapping_sub(self.config.size);
        }
        let new = self.next_available.index;
        crosses(index, new, new.wrapping_sub(added))
    }
}

impl Place {
    #[inline]
    fn after(self, size: u16) -> Place {
        if self.index + 1 == size {
            return Place {
                index: 0,
                wrap: !self.wrap,
            };
        }
        Place {
            index: self.index + 1,
            ..self
        }
    }

    fn encode(self) -> u16 {
        self.index | u16::from(self.wrap) << 15
    }
}
