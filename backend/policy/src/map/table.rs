//! The index of a hash table: from the hash of a key to the slot that holds it.
//!
//! Who looks something up takes no lock and writes nothing. A bucket is one cache line with the tags and slots of its
//! entries; a bucket that is full has others behind it. Who changes a chain of buckets holds the lock in the first
//! one, and raises the version in it whenever an entry was taken away or moved, after that and before its slot or its
//! old place is used for anything else: so if the version is the same before and after a search, what was found was
//! there, and what was not found was not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::blocks::Blocks;
use super::error::MapError;
use super::lock::{Patience, SpinLock};
use super::pages::{Pages, Zeroable};

/// Entries that fit in a cache line.
const WIDTH: usize = 7;
/// Searches without the lock that may be in vain because others change the chain.
const TRIES: usize = 16;

#[derive(Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// Bit 0 is the lock, the others are the version. Of the first bucket of a chain only.
    guard: AtomicU32,
    /// The bucket behind this one; 0 is none.
    next: AtomicU32,
    /// Packed from the front. 0 is none, else the tag, which is not 0, and the slot.
    entries: [AtomicU64; WIDTH],
}

const _: () = assert!(size_of::<Bucket>() == 64);

// SAFETY: made of atomic integers, for which zero is a value; aligned to less than a page.
unsafe impl Zeroable for Bucket {}

const LOCKED: u32 = 1;
const VERSION: u32 = 2;

/// Buckets.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Pages<Bucket>,
    /// How many of them start a chain, less 1.
    mask: u32,
    spare: SpinLock,
    /// The first bucket that was in use and is not now; 0 is none.
    spare_head: AtomicU32,
    /// The first bucket that was never in use.
    fresh: AtomicU32,
}

fn tag(hash: u64) -> u64 {
    (hash >> 32) | 1
}

fn slot(entry: u64) -> u32 {
    entry as u32
}

/// The place of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    bucket: u32,
    index: usize,
    /// The slot there.
    pub slot: u32,
}

impl Table {
    /// A table for so many entries at most.
    pub(super) fn new(blocks: &Blocks<'_>, entries: u32) -> Result<Table, MapError> {
        let chains = entries.div_ceil(4).next_power_of_two();
        // A chain has no bucket that it does not need, so there are never more than this behind the first ones.
        let buckets = chains as usize + entries as usize / WIDTH + 1;
        Ok(Table {
            buckets: blocks.pages(buckets)?,
            mask: chains - 1,
            spare: SpinLock::default(),
            spare_head: AtomicU32::new(0),
            fresh: AtomicU32::new(chains),
        })
    }

    /// How many chains there are.
    pub(super) fn chains(&self) -> u32 {
        self.mask + 1
    }

    /// The chain that a hash belongs to.
    #[inline(always)]
    pub(super) fn chain_of(&self, hash: u64) -> u32 {
        hash as u32 & self.mask
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> &Bucket {
        &self.buckets[index as usize]
    }

    /// The slot of the entry with this hash that `matches`.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_then(hash, matches, |slot| slot)
    }

    /// As [`Table::find`]; what `then` does with the slot is repeated if the entry was taken away meanwhile.
    #[inline(always)]
    pub(super) fn find_then<T>(
        &self,
        hash: u64,
        matches: impl Fn(u32) -> bool,
        mut then: impl FnMut(u32) -> T,
    ) -> Option<T> {
        let first = self.bucket(self.chain_of(hash));
        for _ in 0..TRIES {
            let version = first.guard.load(Ordering::Acquire) | LOCKED;
            let found = self.search(first, version, hash, &matches).map(&mut then);
            fence(Ordering::Acquire);
            if first.guard.load(Ordering::Relaxed) | LOCKED == version {
                return found;
            }
        }
        self.find_locked(hash, &matches, &mut then)
    }

    #[inline(always)]
    fn search(&self, first: &Bucket, version: u32, hash: u64, matches: &impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut bucket = first;
        loop {
            for entry in &bucket.entries {
                let entry = entry.load(Ordering::Acquire);
                if entry >> 32 == tag && matches(slot(entry)) {
                    return Some(slot(entry));
                }
            }
            let next = bucket.next.load(Ordering::Acquire);
            if next == 0 || first.guard.load(Ordering::Acquire) | LOCKED != version {
                return None;
            }
            bucket = self.bucket(next);
        }
    }

    #[cold]
    fn find_locked<T>(
        &self,
        hash: u64,
        matches: &impl Fn(u32) -> bool,
        then: &mut impl FnMut(u32) -> T,
    ) -> Option<T> {
        let chain = self.lock(self.chain_of(hash));
        chain.find(hash, matches).map(|place| then(place.slot))
    }

    /// The only one who changes this chain, until the result goes out of scope.
    #[inline]
    pub(super) fn lock(&self, chain: u32) -> Chain<'_> {
        let guard = &self.bucket(chain).guard;
        let mut patience = Patience::default();
        loop {
            let open = guard.load(Ordering::Relaxed) & !LOCKED;
            if guard
                .compare_exchange_weak(open, open | LOCKED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Chain { table: self, chain };
            }
            patience.wait();
        }
    }

    /// The slot of the entry at a position of a chain, which may change at any time.
    pub(super) fn at(&self, chain: u32, position: usize) -> Option<u32> {
        let mut bucket = self.bucket(chain);
        for _ in 0..position / WIDTH {
            let next = bucket.next.load(Ordering::Acquire);
            if next == 0 {
                return None;
            }
            bucket = self.bucket(next);
        }
        let entry = bucket.entries[position % WIDTH].load(Ordering::Acquire);
        (entry != 0).then(|| slot(entry))
    }

    /// How many entries a chain has at the moment.
    pub(super) fn chain_len(&self, chain: u32) -> usize {
        let version = self.bucket(chain).guard.load(Ordering::Acquire) | LOCKED;
        let mut len = 0;
        let mut bucket = self.bucket(chain);
        loop {
            let used = |entry: &&AtomicU64| entry.load(Ordering::Relaxed) != 0;
            len += bucket.entries.iter().take_while(used).count();
            let next = bucket.next.load(Ordering::Acquire);
            // A bucket that has left the chain may lead anywhere.
            if next == 0 || self.bucket(chain).guard.load(Ordering::Acquire) | LOCKED != version {
                return len;
            }
            bucket = self.bucket(next);
        }
    }

    fn take_bucket(&self) -> Option<u32> {
        let _held = self.spare.lock();
        let head = self.spare_head.load(Ordering::Relaxed);
        if head != 0 {
            let next = self.bucket(head).next.load(Ordering::Relaxed);
            self.spare_head.store(next, Ordering::Relaxed);
            self.bucket(head).next.store(0, Ordering::Relaxed);
            return Some(head);
        }
        let fresh = self.fresh.load(Ordering::Relaxed);
        if fresh as usize >= self.buckets.len() {
            return None;
        }
        self.fresh.store(fresh + 1, Ordering::Relaxed);
        Some(fresh)
    }

    fn give_bucket(&self, index: u32) {
        let _held = self.spare.lock();
        let head = self.spare_head.load(Ordering::Relaxed);
        self.bucket(index).next.store(head, Ordering::Release);
        self.spare_head.store(index, Ordering::Relaxed);
    }
}

/// A chain of buckets that nobody else changes.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    table: &'a Table,
    chain: u32,
}

impl Chain<'_> {
    /// The entry with this hash that `matches`.
    #[inline]
    pub(super) fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<Place> {
        let tag = tag(hash);
        self.places()
            .find(|(entry, place)| entry >> 32 == tag && matches(place.slot))
            .map(|(_, place)| place)
    }

    /// The entry in a slot.
    pub(super) fn find_slot(&self, slot: u32) -> Option<Place> {
        self.places()
            .find(|(_, place)| place.slot == slot)
            .map(|(_, place)| place)
    }

    /// All entries, in order.
    #[inline]
    fn places(&self) -> impl Iterator<Item = (u64, Place)> + '_ {
        let mut bucket = self.chain;
        let mut index = 0;
        std::iter::from_fn(move || {
            if index == WIDTH {
                bucket = self.table.bucket(bucket).next.load(Ordering::Relaxed);
                index = 0;
                if bucket == 0 {
                    return None;
                }
            }
            let entry = self.table.bucket(bucket).entries[index].load(Ordering::Relaxed);
            let place = Place {
                bucket,
                index,
                slot: slot(entry),
            };
            index += 1;
            (entry != 0).then_some((entry, place))
        })
    }

    fn entry(&self, place: Place) -> &AtomicU64 {
        &self.table.bucket(place.bucket).entries[place.index]
    }

    fn raise_version(&self) {
        let guard = &self.table.bucket(self.chain).guard;
        let now = guard.load(Ordering::Relaxed);
        guard.store(now.wrapping_add(VERSION), Ordering::Release);
    }

    /// Puts another slot in the place of an entry with the same key. The old slot may be used for something else.
    #[inline]
    pub(super) fn replace(&self, place: Place, slot: u32) {
        let entry = self.entry(place);
        let tag = entry.load(Ordering::Relaxed) >> 32;
        entry.store(tag << 32 | u64::from(slot), Ordering::Release);
        self.raise_version();
    }

    /// Adds an entry. False if there is no room, which cannot be if there are no more entries than were announced.
    #[inline]
    pub(super) fn insert(&self, hash: u64, slot: u32) -> bool {
        let entry = tag(hash) << 32 | u64::from(slot);
        let mut last = self.table.bucket(self.chain);
        loop {
            let vacant = last
                .entries
                .iter()
                .find(|entry| entry.load(Ordering::Relaxed) == 0);
            if let Some(vacant) = vacant {
                vacant.store(entry, Ordering::Release);
                return true;
            }
            match last.next.load(Ordering::Relaxed) {
                0 => break,
                next => last = self.table.bucket(next),
            }
        }
        let Some(index) = self.table.take_bucket() else {
            return false;
        };
        self.table.bucket(index).entries[0].store(entry, Ordering::Release);
        last.next.store(index, Ordering::Release);
        true
    }

    /// Takes an entry away. Its slot may be used for something else.
    #[inline]
    pub(super) fn remove(&self, place: Place) {
        let mut before_last = None;
        let mut last = self.chain;
        loop {
            match self.table.bucket(last).next.load(Ordering::Relaxed) {
                0 => break,
                next => {
                    before_last = Some(last);
                    last = next;
                }
            }
        }
        let bucket = self.table.bucket(last);
        let used = bucket
            .entries
            .iter()
            .take_while(|entry| entry.load(Ordering::Relaxed) != 0)
            .count();
        let index = used.saturating_sub(1);
        let end = &bucket.entries[index];
        if !std::ptr::eq(end, self.entry(place)) {
            // The last entry fills the gap. For a while it is in both places, never in none.
            self.entry(place)
                .store(end.load(Ordering::Relaxed), Ordering::Release);
            self.raise_version();
        }
        end.store(0, Ordering::Release);
        if index == 0
            && let Some(before) = before_last
        {
            self.table.bucket(before).next.store(0, Ordering::Release);
            self.raise_version();
            self.table.give_bucket(last);
        } else {
            self.raise_version();
        }
    }
}

impl Drop for Chain<'_> {
    #[inline]
    fn drop(&mut self) {
        let guard = &self.table.bucket(self.chain).guard;
        let now = guard.load(Ordering::Relaxed);
        guard.store(now & !LOCKED, Ordering::Release);
    }
}
