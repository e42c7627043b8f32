//! Ring buffers: records of all shards in the order in which room was reserved for them.
//!
//! The records lie where programs can write them; how long they are, and which of them are finished, the host knows
//! by itself. Positions count octets and never go back. A record that begins near the end of the ring goes on behind
//! it, in room that no other record uses: the kernel maps the first octets there a second time instead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::At;
use super::blocks::Blocks;
use super::error::MapError;
use super::event::Event;
use super::lock::SpinLock;
use super::pages::Pages;
use super::value::copy;
use crate::Errno;
use crate::memory::{Section, View};
use crate::object::MapDefinition;

/// Octets in front of each record (linux/bpf.h: `BPF_RINGBUF_HDR_SZ`); unused, but there as in the kernel.
const HEADER: u32 = 8;
/// The longest record (ringbuf.c: `RINGBUF_MAX_RECORD_SZ`).
const RECORD_MAX: u64 = u32::MAX as u64 / 4;
/// `BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP`: nobody sleeps here, so they change nothing.
const WAKEUP: u64 = 3;

/// A record: its length, who reserved it, and how far it is. 0 is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record(u64);

impl Record {
    const BUSY: u64 = 1 << 63;
    const DISCARDED: u64 = 1 << 62;
    const READY: u64 = 1 << 61;

    fn busy(len: u32, shard: usize) -> Record {
        Record(u64::from(len) | (shard as u64 & 0xffff) << 32 | Record::BUSY)
    }

    fn finished(self, state: u64) -> Record {
        Record(self.0 & !Record::BUSY | state)
    }

    fn has(self, state: u64) -> bool {
        self.0 & state != 0
    }

    fn len(self) -> u32 {
        self.0 as u32
    }

    fn shard(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    /// Octets that it takes in the ring.
    fn span(self) -> u64 {
        span(u64::from(self.len()))
    }
}

fn span(len: u64) -> u64 {
    (len + u64::from(HEADER)).next_multiple_of(8)
}

/// A ring buffer.
#[derive(Debug)]
pub(super) struct Ring {
    start: u32,
    size: u32,
    /// The record that starts at each multiple of 8.
    records: Pages<AtomicU64>,
    producers: SpinLock,
    produced: AtomicU64,
    consumed: AtomicU64,
    consumer: Mutex<()>,
}

impl Ring {
    /// An empty ring: what a killed process left in it is not looked at.
    pub(super) fn new(blocks: &mut Blocks<'_>, definition: &MapDefinition) -> Result<Ring, MapError> {
        let size = definition.max_entries;
        let block = blocks.take(Section::Shared, u64::from(size), 2)?;
        Ok(Ring {
            start: block.start,
            size,
            records: blocks.pages(size as usize / 8)?,
            producers: SpinLock::default(),
            produced: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            consumer: Mutex::new(()),
        })
    }

    fn offset(&self, position: u64) -> u32 {
        position as u32 & (self.size - 1)
    }

    fn record(&self, position: u64) -> &AtomicU64 {
        &self.records[self.offset(position) as usize / 8]
    }

    /// Room for a record, in the window of every shard (ringbuf.c: `__bpf_ringbuf_reserve`).
    pub(super) fn reserve(&self, at: At, len: u64, flags: u64) -> Option<u32> {
        if flags != 0 || len > RECORD_MAX || span(len) > u64::from(self.size) {
            return None;
        }
        let _held = self.producers.lock();
        let position = self.produced.load(Ordering::Relaxed);
        let behind = position + span(len);
        if behind - self.consumed.load(Ordering::Acquire) > u64::from(self.size - 1) {
            return None;
        }
        let record = Record::busy(len as u32, at.shard);
        self.record(position).store(record.0, Ordering::Relaxed);
        self.produced.store(behind, Ordering::Release);
        Some(self.start + self.offset(position) + HEADER)
    }

    /// Whether an address lies among the records.
    pub(super) fn holds(&self, sample: u32) -> bool {
        sample.wrapping_sub(self.start + HEADER) < self.size
    }

    fn finish(&self, sample: u32, state: u64) -> Result<(), Errno> {
        let offset = sample.wrapping_sub(self.start).wrapping_sub(HEADER);
        if offset >= self.size || !offset.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let place = &self.records[offset as usize / 8];
        let record = Record(place.load(Ordering::Relaxed));
        let finished = record.finished(state);
        if !record.has(Record::BUSY)
            || place
                .compare_exchange(record.0, finished.0, Ordering::Release, Ordering::Relaxed)
                .is_err()
        {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    pub(super) fn submit(&self, sample: u32) -> Result<(), Errno> {
        self.finish(sample, Record::READY)
    }

    pub(super) fn discard(&self, sample: u32) -> Result<(), Errno> {
        self.finish(sample, Record::DISCARDED)
    }

    /// As ringbuf.c: `bpf_ringbuf_output`.
    ///
    /// # Safety
    /// The octets can be read.
    pub(super) unsafe fn output(&self, at: At, data: *const u8, len: u64, flags: u64) -> Result<(), Errno> {
        if flags & !WAKEUP != 0 {
            return Err(Errno::EINVAL);
        }
        let sample = self.reserve(at, len, 0).ok_or(Errno::EAGAIN)?;
        // SAFETY: the caller guarantees the octets, and the room for them was just reserved.
        unsafe { copy(data, at.view.at(sample), len as usize) };
        self.submit(sample)
    }

    /// As ringbuf.c: `bpf_ringbuf_query`.
    pub(super) fn query(&self, flags: u64) -> u64 {
        let consumed = self.consumed.load(Ordering::Acquire);
        let produced = self.produced.load(Ordering::Acquire);
        match flags {
            0 => produced.wrapping_sub(consumed),
            1 => u64::from(self.size),
            2 => consumed,
            3 => produced,
            _ => 0,
        }
    }

    /// Discards what a shard has reserved and not finished.
    pub(super) fn release_all(&self, shard: usize) {
        let _held = self.producers.lock();
        let produced = self.produced.load(Ordering::Relaxed);
        let mut position = self.consumed.load(Ordering::Acquire);
        while position < produced {
            let place = self.record(position);
            let record = Record(place.load(Ordering::Acquire));
            if record.0 == 0 {
                // Consumed meanwhile: whoever consumes comes by here next.
                position = self.consumed.load(Ordering::Acquire).max(position + 8);
                continue;
            }
            if record.has(Record::BUSY) && record.shard() == shard as u32 & 0xffff {
                let finished = record.finished(Record::DISCARDED);
                // Nobody but the shard itself, whose run is over, finishes its records, unless it guesses: no matter.
                let _ = place.compare_exchange(record.0, finished.0, Ordering::Release, Ordering::Relaxed);
            }
            position += record.span();
        }
    }

    /// Hands out the finished records up to the first that is not, and says how many.
    pub(super) fn consume(&self, view: View, take: &mut dyn FnMut(Event)) -> usize {
        let _consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        loop {
            let position = self.consumed.load(Ordering::Relaxed);
            if position >= self.produced.load(Ordering::Acquire) {
                return taken;
            }
            let place = self.record(position);
            let record = Record(place.load(Ordering::Acquire));
            if !record.has(Record::READY | Record::DISCARDED) {
                return taken;
            }
            let mut data = Vec::new();
            if record.has(Record::READY) {
                data.resize(record.len() as usize, 0);
                let sample = self.start + self.offset(position) + HEADER;
                // SAFETY: the record lies in the map's block, and the room was just made.
                unsafe { copy(view.at(sample), data.as_mut_ptr(), data.len()) };
            }
            place.store(0, Ordering::Relaxed);
            self.consumed.store(position + record.span(), Ordering::Release);
            if record.has(Record::READY) {
                taken += 1;
                take(Event {
                    cpu: record.shard(),
                    lost: 0,
                    data,
                });
            }
        }
    }
}
