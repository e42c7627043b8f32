//! The split virtqueue (virtio 1.3, 2.7).

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

/// `flags` of the available ring: no calls, please.
const NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring: no kicks, please.
const NO_NOTIFY: u16 = 1;
/// With EVENT_IDX: how many buffers may be used before the index that must never be reached is moved on.
const EVENT_STEP: u16 = 1 << 14;

/// The driver's side of a split ring.
#[derive(Debug)]
pub struct SplitRing {
    config: RingConfig,
    ids: Ids,
    descriptors: Area,
    available: Area,
    used: Area,
    tables: Option<Tables>,
    next_available: u16,
    published: u16,
    next_used: u16,
    /// In order: the last buffer of a batch that the device used with one element, if it was not taken yet.
    batch: Option<Used>,
    calls: bool,
    event: u16,
}

impl DriverRing for SplitRing {
    const BASE: u32 = 0;

    fn octets(config: &RingConfig) -> usize {
        let size = usize::from(config.size);
        let tables = if config.indirect {
            Tables::octets(config.size)
        } else {
            0
        };
        16 * size + 6 + 2 * size + 6 + 8 * size + tables + 4 * 4096
    }

    fn new(config: &RingConfig, memory: &mut Memory) -> io::Result<SplitRing> {
        let size = usize::from(config.size);
        let tables = config.indirect.then(|| Tables::new(memory, config.size, true));
        let mut ring = SplitRing {
            config: *config,
            ids: Ids::new(config.size),
            descriptors: memory.area(16 * size)?,
            available: memory.area(6 + 2 * size)?,
            used: memory.area(6 + 8 * size)?,
            tables: tables.transpose()?,
            next_available: 0,
            published: 0,
            next_used: 0,
            batch: None,
            calls: false,
            event: 0,
        };
        ring.want_calls(false);
        Ok(ring)
    }

    fn addresses(&self) -> RingAddresses {
        RingAddresses {
            descriptors: self.descriptors.user(0),
            available: self.available.user(0),
            used: self.used.user(0),
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

    /// A descriptor and its place in the available ring are written anew each time although a buffer keeps its id: a
    /// guest's buffers are never twice the same, and the device has to fetch what was written.
    #[inline]
    fn put(&mut self, guest: u64, len: u32) {
        let id = self.ids.put();
        let write = if self.config.writable { DESC_WRITE } else { 0 };
        let (guest, len, flags) = match &self.tables {
            Some(tables) => (tables.write(id, guest, len), TABLE, DESC_INDIRECT),
            None => (guest, len, write),
        };
        let at = 16 * usize::from(id);
        if id.is_multiple_of(LINE_DESCRIPTORS) {
            self.descriptors
                .prefetch_to_write(16 * usize::from(self.ids.free(AHEAD)));
        }
        self.descriptors.u64(at).store(guest, Relaxed);
        self.descriptors.u32(at + 8).store(len, Relaxed);
        self.descriptors.u32(at + 12).store(u32::from(flags), Relaxed);
        let slot = usize::from(self.next_available & (self.config.size - 1));
        self.available.u16(4 + 2 * slot).store(id, Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
    }

    #[inline]
    fn publish(&mut self) -> bool {
        let old = self.published;
        if old == self.next_available {
            return false;
        }
        self.published = self.next_available;
        self.available.u16(2).store(self.published, Release);
        if !self.config.kicks {
            return false;
        }
        // The index must be out before the device's wish is read (2.7.13.4.1).
        fence(SeqCst);
        if self.config.event_idx {
            let event = self.used.u16(4 + 8 * usize::from(self.config.size)).load(Relaxed);
            return crosses(event, self.published, old);
        }
        self.used.u16(0).load(Relaxed) & NO_NOTIFY == 0
    }

    #[inline]
    fn take(&mut self, used: &mut [Used]) -> Result<usize, RingError> {
        let ready = self.ready()?;
        let count = ready.min(used.len());
        for used in &mut used[..count] {
            *used = if self.config.in_order {
                self.next_in_order()?
            } else {
                self.element()?
            };
            self.ids.complete(used.id)?;
            self.next_used = self.next_used.wrapping_add(1);
        }
        if count == ready
            && let Some(last) = self.batch
        {
            return Err(RingError::NotOutstanding { id: last.id.into() });
        }
        self.keep_event_away();
        Ok(count)
    }

    #[inline]
    fn reclaim(&mut self) -> Result<(), RingError> {
        let ready = self.ready()?;
        for _ in 0..ready {
            // In order, the index says all there is to know (2.7.9).
            let id = if self.config.in_order {
                self.ids.oldest()
            } else {
                self.element()?.id
            };
            self.ids.complete(id)?;
            self.next_used = self.next_used.wrapping_add(1);
        }
        self.keep_event_away();
        Ok(())
    }

    fn want_calls(&mut self, wanted: bool) {
        self.calls = wanted;
        if self.config.event_idx {
            // An index that was just passed is not passed again for 65535 buffers.
            let event = if wanted {
                self.next_used
            } else {
                self.next_used.wrapping_sub(1)
            };
            self.set_event(event);
        } else {
            let flags = if wanted { 0 } else { NO_INTERRUPT };
            self.available.u16(0).store(flags, SeqCst);
        }
        // Whoever looks for used buffers next must see those that the device used before it saw the wish.
        fence(SeqCst);
    }
}

impl SplitRing {
    #[inline]
    fn ready(&self) -> Result<usize, RingError> {
        let index = self.used.u16(2).load(Acquire);
        let used = usize::from(index.wrapping_sub(self.next_used));
        let outstanding = self.ids.outstanding();
        if used > outstanding {
            return Err(RingError::TooMany { used, outstanding });
        }
        Ok(used)
    }

    #[inline]
    fn element(&self) -> Result<Used, RingError> {
        let slot = usize::from(self.next_used & (self.config.size - 1));
        let id = self.used.u32(4 + 8 * slot).load(Relaxed);
        let len = self.used.u32(8 + 8 * slot).load(Relaxed);
        let id = u16::try_from(id).map_err(|_| RingError::NotOutstanding { id })?;
        Ok(Used { id, len })
    }

    /// One element may stand for a batch: those before its last buffer were filled, and have none (2.7.9).
    #[inline]
    fn next_in_order(&mut self) -> Result<Used, RingError> {
        let last = match self.batch.take() {
            Some(last) => last,
            None => self.element()?,
        };
        let id = self.ids.oldest();
        if last.id == id {
            return Ok(last);
        }
        self.batch = Some(last);
        let len = self.config.buffer_len;
        Ok(Used { id, len })
    }

    #[inline]
    fn keep_event_away(&mut self) {
        let away = self.config.event_idx && !self.calls;
        if away && self.next_used.wrapping_sub(self.event) >= EVENT_STEP {
            self.set_event(self.next_used.wrapping_sub(1));
        }
    }

    fn set_event(&mut self, event: u16) {
        self.event = event;
        let at = 4 + 2 * usize::from(self.config.size);
        self.available.u16(at).store(event, SeqCst);
    }
}
