//! Perf event arrays: a ring of records for each shard, which programs cannot reach.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::At;
use super::blocks::Blocks;
use super::error::MapError;
use super::event::Event;
use super::pages::Pages;
use super::value::copy;
use crate::Errno;
use crate::object::MapDefinition;

/// Octets of a shard's ring.
const SIZE: u64 = 256 << 10;
/// Octets of the length in front of a record.
const HEADER: u64 = 8;
/// `BPF_F_INDEX_MASK`, which is `BPF_F_CURRENT_CPU`, too.
const INDEX_MASK: u64 = 0xffff_ffff;
/// `BPF_F_CTXLEN_MASK`
const CONTEXT_LEN_MASK: u64 = 0xf_ffff << 32;

/// A perf event array with somebody listening on each shard.
#[derive(Debug)]
pub(super) struct Perf {
    entries: u32,
    lanes: Box<[Lane]>,
    consumer: Mutex<()>,
}

/// A ring with one producer and one consumer. Positions count octets and never go back.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    words: Pages<AtomicU64>,
    produced: AtomicU64,
    consumed: AtomicU64,
    lost: AtomicU64,
}

impl Perf {
    pub(super) fn new(blocks: &Blocks<'_>, definition: &MapDefinition) -> Result<Perf, MapError> {
        let lane = || {
            Ok(Lane {
                words: blocks.pages(SIZE as usize / 8)?,
                produced: AtomicU64::new(0),
                consumed: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            })
        };
        Ok(Perf {
            entries: definition.max_entries,
            lanes: (0..blocks.memory().shards())
                .map(|_| lane())
                .collect::<Result<_, _>>()?,
            consumer: Mutex::new(()),
        })
    }

    pub(super) fn octets(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.words.octets()).sum()
    }

    /// As filter.c: `bpf_skb_event_output` and bpf_trace.c: `__bpf_perf_event_output`. ENOSPC if nobody listens fast
    /// enough.
    ///
    /// # Safety
    /// The parts can be read, and nobody else works with the same shard number now.
    pub(super) unsafe fn output(&self, at: At, flags: u64, parts: &[(*const u8, u32)]) -> Result<(), Errno> {
        if flags & !(INDEX_MASK | CONTEXT_LEN_MASK) != 0 {
            return Err(Errno::EINVAL);
        }
        let index = match flags & INDEX_MASK {
            INDEX_MASK => at.shard as u64,
            index => index,
        };
        if index >= u64::from(self.entries) {
            return Err(Errno::E2BIG);
        }
        let lane = self.lanes.get(index as usize).ok_or(Errno::ENOENT)?;
        if index != at.shard as u64 {
            return Err(Errno::EOPNOTSUPP);
        }
        // SAFETY: the caller guarantees both.
        unsafe { lane.push(parts) }
    }

    /// Hands out all records, and says how many.
    pub(super) fn consume(&self, take: &mut dyn FnMut(Event)) -> usize {
        let _consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = self.lanes.iter().enumerate();
        lanes.map(|(cpu, lane)| lane.consume(cpu as u32, take)).sum()
    }
}

impl Lane {
    /// A place in the ring, and how many octets follow it.
    fn at(&self, position: u64) -> (*mut u8, usize) {
        let offset = (position % SIZE) as usize;
        let start = self.words.as_ptr().cast::<u8>().cast_mut();
        (start.wrapping_add(offset), SIZE as usize - offset)
    }

    unsafe fn push(&self, parts: &[(*const u8, u32)]) -> Result<(), Errno> {
        let len: u64 = parts.iter().map(|(_, len)| u64::from(*len)).sum();
        let start = self.produced.load(Ordering::Relaxed);
        let behind = start + HEADER + len.next_multiple_of(8);
        if behind - self.consumed.load(Ordering::Acquire) > SIZE {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        self.words[(start % SIZE / 8) as usize].store(len, Ordering::Relaxed);
        let mut position = start + HEADER;
        for (part, len) in parts {
            let len = *len as usize;
            let (to, room) = self.at(position);
            let first = len.min(room);
            // SAFETY: the caller guarantees the parts; this room is the producer's, cut in two at the ring's end.
            unsafe {
                copy(*part, to, first);
                copy(part.wrapping_add(first), self.at(0).0, len - first);
            }
            position += len as u64;
        }
        self.produced.store(behind, Ordering::Release);
        Ok(())
    }

    fn consume(&self, cpu: u32, take: &mut dyn FnMut(Event)) -> usize {
        let mut taken = 0;
        loop {
            let position = self.consumed.load(Ordering::Relaxed);
            if position == self.produced.load(Ordering::Acquire) {
                return taken;
            }
            let len = self.words[(position % SIZE / 8) as usize].load(Ordering::Relaxed);
            let mut data = vec![0; len as usize];
            let (from, room) = self.at(position + HEADER);
            let first = data.len().min(room);
            // SAFETY: the producer has finished this record, which is cut in two at the ring's end.
            unsafe {
                copy(from, data.as_mut_ptr(), first);
                copy(self.at(0).0, data.as_mut_ptr().add(first), data.len() - first);
            }
            let behind = position + HEADER + len.next_multiple_of(8);
            self.consumed.store(behind, Ordering::Release);
            taken += 1;
            take(Event {
                cpu,
                lost: self.lost.swap(0, Ordering::Relaxed),
                data,
            });
        }
    }
}
