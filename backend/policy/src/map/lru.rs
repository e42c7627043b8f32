//! Which entry makes room for a new one: a second-chance clock over the slots.
//!
//! A lookup by a program only sets a mark, and only if it is not set. The hand goes round and evicts the first entry
//! without one, and takes the marks away that it meets. As in the kernel (bpf_lru_list.c) the order is that of use
//! only roughly, and after a number of marked entries the next one goes, marked or not.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::pages::Pages;

/// Marked entries that the hand spares before it spares none (bpf_lru_list.c: `LOCAL_NR_SCANS`).
const SPARED: u32 = 128;

/// When the slots were used, roughly.
#[derive(Debug)]
pub(super) struct Lru {
    marks: Pages<AtomicU8>,
    /// The hashes of the keys: a program may have changed the keys themselves.
    hashes: Pages<AtomicU64>,
    hand: AtomicU32,
}

impl Lru {
    pub(super) fn new(blocks: &Blocks<'_>, slots: u32) -> Result<Lru, MapError> {
        Ok(Lru {
            marks: blocks.pages(slots as usize)?,
            hashes: blocks.pages(slots as usize)?,
            hand: AtomicU32::new(0),
        })
    }

    /// The entry was used.
    #[inline(always)]
    pub(super) fn touch(&self, slot: u32) {
        let mark = &self.marks[slot as usize];
        if mark.load(Ordering::Relaxed) == 0 {
            mark.store(1, Ordering::Relaxed);
        }
    }

    /// A slot gets an entry with this hash. What was just made was not used yet; what was replaced was.
    #[inline]
    pub(super) fn begin(&self, slot: u32, hash: u64, used: bool) {
        self.hashes[slot as usize].store(hash, Ordering::Relaxed);
        self.marks[slot as usize].store(u8::from(used), Ordering::Relaxed);
    }

    /// Goes round until `evict`, which is given a slot and the hash of its key, has made one free. None if there is
    /// nothing to evict.
    pub(super) fn evict(
        &self,
        is_used: impl Fn(u32) -> bool,
        evict: impl Fn(u32, u64) -> bool,
    ) -> Option<u32> {
        let slots = self.marks.len() as u32;
        let spared = SPARED.min(slots.saturating_mul(2));
        for step in 0..spared.saturating_add(slots) {
            let slot = self.hand.fetch_add(1, Ordering::Relaxed) % slots;
            if !is_used(slot) {
                continue;
            }
            let marked = self.marks[slot as usize].swap(0, Ordering::Relaxed) != 0;
            if marked && step < spared {
                continue;
            }
            if evict(slot, self.hashes[slot as usize].load(Ordering::Relaxed)) {
                return Some(slot);
            }
        }
        None
    }
}
