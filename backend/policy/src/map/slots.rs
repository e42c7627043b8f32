//! The places of a map's entries: which are free, and which hold an entry that a new process must find.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::lock::SpinLock;
use super::pages::Pages;
use crate::memory::{Memory, Section};

/// Slots, each of which is free, or spare, or holds an entry.
///
/// A replacement is written to a spare slot, then made known, then the old slot is spare: whoever looks sees the old
/// entry or the new one, and so does the next process.
#[derive(Debug)]
pub(super) struct Slots {
    memory: Arc<Memory>,
    states: u32,
    len: u32,
    next: Pages<AtomicU32>,
    /// One for each shard, and one for the control plane.
    lists: Box<[List]>,
}

/// Free slots, last in first out: the last one is still in the cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List {
    lock: SpinLock,
    /// The number of the first free slot, plus 1.
    head: AtomicU32,
    spare: AtomicU32,
}

const FREE: u8 = 0;
const USED: u8 = 1;

impl Slots {
    /// `entries` slots, and with `spares` one more for each shard and one for the control plane. All are free, or as
    /// a former process left them; [`Slots::share_out`] must follow.
    pub(super) fn new(blocks: &mut Blocks<'_>, entries: u32, spares: bool) -> Result<Slots, MapError> {
        let lists = blocks.memory().shards() as u32 + 1;
        let len = entries.saturating_add(if spares { lists } else { 0 });
        let states = blocks.take(Section::Private, u64::from(len), 1)?;
        Ok(Slots {
            memory: blocks.memory().clone(),
            states: states.start,
            len,
            next: blocks.pages(len as usize)?,
            lists: (0..lists).map(|_| List::default()).collect(),
        })
    }

    /// How many slots a map of so many entries has in this memory.
    pub(super) fn count(memory: &Memory, entries: u32, spares: bool) -> u32 {
        entries.saturating_add(if spares { memory.shards() as u32 + 1 } else { 0 })
    }

    /// Shares the free slots out: first a spare for everybody (if the map needs any), then the rest in runs.
    pub(super) fn share_out(&self, spares: bool) {
        let mut free = (0..self.len).rev().filter(|slot| !self.is_used(*slot));
        if spares {
            // Entries never fill more than all slots but these.
            for (list, slot) in self.lists.iter().zip(&mut free) {
                list.spare.store(slot, Ordering::Relaxed);
            }
        }
        let run = (self.len as usize).div_ceil(self.lists.len());
        for (index, slot) in free.enumerate() {
            self.push(index / run, slot);
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    fn state(&self, slot: u32) -> &AtomicU8 {
        let address = self.memory.private().at(self.states + slot);
        // SAFETY: the block is mapped for as long as the memory lives, has an octet for each slot, and is used by
        // atomics only.
        unsafe { AtomicU8::from_ptr(address) }
    }

    #[inline]
    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.state(slot).load(Ordering::Relaxed) == USED
    }

    /// From here on the next process finds the entry in the slot, which is complete.
    #[inline]
    pub(super) fn set_used(&self, slot: u32) {
        self.state(slot).store(USED, Ordering::Release);
    }

    /// From here on it does not.
    #[inline]
    pub(super) fn set_free(&self, slot: u32) {
        self.state(slot).store(FREE, Ordering::Release);
    }

    /// Entries that there are.
    pub(super) fn used(&self) -> usize {
        (0..self.len).filter(|slot| self.is_used(*slot)).count()
    }

    fn list(&self, shard: usize) -> &List {
        &self.lists[shard.min(self.lists.len() - 1)]
    }

    /// The slot that nobody but this shard uses.
    #[inline]
    pub(super) fn spare(&self, shard: usize) -> u32 {
        self.list(shard).spare.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_spare(&self, shard: usize, slot: u32) {
        self.list(shard).spare.store(slot, Ordering::Relaxed);
    }

    /// A free slot: this shard's, or else anybody's.
    #[inline]
    pub(super) fn pop(&self, shard: usize) -> Option<u32> {
        let shard = shard.min(self.lists.len() - 1);
        self.pop_from(&self.lists[shard]).or_else(|| {
            let (before, behind) = self.lists.split_at(shard);
            behind
                .iter()
                .skip(1)
                .chain(before)
                .find_map(|list| self.pop_from(list))
        })
    }

    #[inline]
    fn pop_from(&self, list: &List) -> Option<u32> {
        if list.head.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let _held = list.lock.lock();
        let slot = list.head.load(Ordering::Relaxed).checked_sub(1)?;
        let next = self.next[slot as usize].load(Ordering::Relaxed);
        list.head.store(next, Ordering::Relaxed);
        Some(slot)
    }

    /// Gives a slot back.
    #[inline]
    pub(super) fn push(&self, shard: usize, slot: u32) {
        let list = self.list(shard);
        let _held = list.lock.lock();
        let next = list.head.load(Ordering::Relaxed);
        self.next[slot as usize].store(next, Ordering::Relaxed);
        list.head.store(slot + 1, Ordering::Relaxed);
    }
}
