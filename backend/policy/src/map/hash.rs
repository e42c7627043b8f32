//! Hash tables: plain, per-CPU and LRU ones.
//!
//! A slot holds a key and, behind it, the value, or the value lies in a block of its own where each shard sees
//! another. Programs can write all of that. What the table goes by when it counts and links entries they cannot.

mod update;

use std::ops::ControlFlow;
use std::sync::Arc;

use super::blocks::Blocks;
use super::error::MapError;
use super::hasher::{Hasher, Short, same};
use super::header::Header;
use super::kind::{MapKind, flag};
use super::lru::Lru;
use super::slots::Slots;
use super::table::{Chain, Place, Table};
use super::value::{Format, Values};
use super::{At, section};
use crate::Errno;
use crate::memory::{Memory, Section, View};
use crate::object::MapDefinition;

/// A hash table.
#[derive(Debug)]
pub(super) struct Hash {
    memory: Arc<Memory>,
    key_size: usize,
    format: Format,
    hasher: Hasher,
    table: Table,
    slots: Slots,
    /// Keys, each with its value behind it if those are not per-CPU.
    elements: Values,
    value_offset: u32,
    /// Per-CPU values.
    own: Option<Values>,
    lru: Option<Lru>,
    entries: u32,
}

/// Whose values an update is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of the shard that makes it.
    Own,
    /// Those of all shards, one behind another (hashtab.c: `onallcpus`).
    All,
}

/// Octets from one element to the next: no element that fits in a cache line lies in two.
fn stride(len: u32) -> u32 {
    if len <= 64 {
        len.next_power_of_two()
    } else {
        len.next_multiple_of(16)
    }
}

impl Hash {
    pub(super) fn new(
        blocks: &mut Blocks<'_>,
        header: &Header,
        kind: MapKind,
        definition: &MapDefinition,
    ) -> Result<Hash, MapError> {
        let memory = blocks.memory().clone();
        let shards = memory.shards() as u32;
        let percpu = kind.is_percpu();
        let mut entries = definition.max_entries;
        if definition.flags & flag::NO_COMMON_LRU != 0 {
            // hashtab.c: htab_map_alloc
            entries = entries
                .checked_next_multiple_of(shards)
                .unwrap_or(entries / shards * shards);
        }
        let format = Format::new(definition);
        let value_offset = definition.key_size.next_multiple_of(8);
        let stride = stride(value_offset + if percpu { 0 } else { format.stride() });
        let slots = Slots::count(&memory, entries, !percpu);
        // The keys of a map of maps are nobody's business.
        let section = if kind.is_nested() {
            Section::Private
        } else {
            section(definition)
        };
        let elements = blocks.take(section, u64::from(slots), u64::from(stride))?;
        let own = if percpu {
            let block = blocks.take(Section::PerShard, u64::from(slots), u64::from(format.stride()))?;
            Some(Values::new(&memory, block, format.stride()))
        } else {
            None
        };
        let hash = Hash {
            key_size: definition.key_size as usize,
            format,
            hasher: header.hasher(),
            table: Table::new(blocks, entries)?,
            elements: Values::new(&memory, elements, stride),
            value_offset,
            own,
            lru: if kind.is_lru() {
                Some(Lru::new(blocks, slots)?)
            } else {
                None
            },
            slots: Slots::new(blocks, entries, !percpu)?,
            entries,
            memory,
        };
        if blocks.is_former() {
            hash.find_again();
        }
        hash.slots.share_out(!percpu);
        Ok(hash)
    }

    /// Makes the index from what the slots hold. A process that was killed while it replaced an entry left both.
    fn find_again(&self) {
        let view = self.view(self.memory.view(0));
        let mut found = 0;
        for slot in 0..self.slots.len() {
            if !self.slots.is_used(slot) {
                continue;
            }
            let key = self.key(view, slot);
            // SAFETY: the key lies in the map's own block; nobody else uses the map yet.
            let (hash, twice) = unsafe {
                let hash = self.hasher.hash(key, self.key_size);
                (hash, self.find(view, hash, key).is_some())
            };
            let kept = !twice
                && found < self.entries
                && self.table.lock(self.table.chain_of(hash)).insert(hash, slot);
            if kept {
                found += 1;
                if let Some(lru) = &self.lru {
                    lru.begin(slot, hash, false);
                }
            } else {
                self.slots.set_free(slot);
            }
        }
    }

    pub(super) fn used(&self) -> usize {
        self.slots.used()
    }

    /// How many slots there are, free ones and all.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len()
    }

    /// The slot that the next update of this shard goes to.
    pub(super) fn spare(&self, at: At) -> u32 {
        self.slots.spare(at.shard)
    }

    /// How a slot's key is seen: private ones in a view of their own.
    #[inline(always)]
    fn view(&self, view: View) -> View {
        if self.elements.is_private() {
            self.memory.private()
        } else {
            view
        }
    }

    #[inline(always)]
    fn key(&self, view: View, slot: u32) -> *mut u8 {
        view.at(self.elements.address(slot))
    }

    /// The address of the value in a slot.
    #[inline(always)]
    pub(super) fn value_address(&self, slot: u32) -> u32 {
        match &self.own {
            Some(own) => own.address(slot),
            None => self.elements.address(slot).wrapping_add(self.value_offset),
        }
    }

    #[inline(always)]
    unsafe fn find(&self, view: View, hash: u64, key: *const u8) -> Option<u32> {
        // SAFETY: the caller guarantees the key; the slots' keys are mapped.
        self.table.find(hash, |slot| unsafe {
            same(self.key(view, slot), key, self.key_size)
        })
    }

    #[inline(always)]
    unsafe fn find_locked(&self, chain: &Chain<'_>, view: View, hash: u64, key: *const u8) -> Option<Place> {
        // SAFETY: as in `find`.
        chain.find(hash, |slot| unsafe {
            same(self.key(view, slot), key, self.key_size)
        })
    }

    /// The slot of a key.
    ///
    /// # Safety
    /// The key can be read.
    #[inline(always)]
    pub(super) unsafe fn slot(&self, view: View, key: *const u8) -> Option<u32> {
        let view = self.view(view);
        // SAFETY: the caller guarantees the key.
        unsafe {
            match self.key_size {
                4 => self.find_short::<4>(view, key),
                8 => self.find_short::<8>(view, key),
                12 => self.find_short::<12>(view, key),
                16 => self.find_short::<16>(view, key),
                len => self.find(view, self.hasher.hash(key, len), key),
            }
        }
    }

    #[inline]
    unsafe fn find_short<const LEN: usize>(&self, view: View, key: *const u8) -> Option<u32> {
        // SAFETY: the caller guarantees the key, and that this is its length; the slots' keys are mapped.
        unsafe {
            let key = Short::<LEN>::fresh(key);
            let matches = |slot| Short::stored(self.key(view, slot)) == key;
            self.table.find(self.hasher.hash_short(key), matches)
        }
    }

    /// What `then` makes of the slot of a key, while the key is in it.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn slot_then<T>(
        &self,
        view: View,
        key: *const u8,
        then: impl FnMut(u32) -> T,
    ) -> Option<T> {
        let view = self.view(view);
        // SAFETY: the caller guarantees the key; slots are mapped.
        unsafe {
            let hash = self.hasher.hash(key, self.key_size);
            let matches = |slot| same(self.key(view, slot), key, self.key_size);
            self.table.find_then(hash, matches, then)
        }
    }

    /// The address of a key's value, for a program: that counts as use.
    ///
    /// # Safety
    /// The key can be read.
    #[inline(always)]
    pub(super) unsafe fn lookup(&self, view: View, key: *const u8) -> Option<u32> {
        // SAFETY: the caller guarantees the key.
        let slot = unsafe { self.slot(view, key) }?;
        if let Some(lru) = &self.lru {
            lru.touch(slot);
        }
        Some(self.value_address(slot))
    }

    /// Copies a value out as the API sees it.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn read(&self, view: View, key: *const u8) -> Option<Vec<u8>> {
        let inside = self.view(view);
        // SAFETY: the caller guarantees the key.
        unsafe { self.slot_then(view, key, |slot| self.value(inside, slot)) }
    }

    /// The value in a slot as the API sees it.
    pub(super) fn value(&self, view: View, slot: u32) -> Vec<u8> {
        let mut value = Vec::new();
        let address = self.value_address(slot);
        // SAFETY: slots are mapped, in all views.
        unsafe {
            match &self.own {
                None => {
                    self.format.load(view.at(address), &mut value);
                    value.truncate(self.format.size as usize);
                }
                Some(_) => {
                    for shard in 0..self.memory.shards() {
                        self.format.load(self.memory.view(shard).at(address), &mut value);
                    }
                }
            }
        }
        value
    }

    /// Does something with a value under its own spin lock.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn read_locked(&self, view: View, key: *const u8) -> Result<Vec<u8>, Errno> {
        // SAFETY: the caller guarantees the key; slots are mapped.
        unsafe {
            let slot = self.slot(view, key).ok_or(Errno::ENOENT)?;
            self.format
                .locked(view.at(self.value_address(slot)), || self.value(view, slot))
        }
    }

    /// The key behind another one, or the first if there is none or it is not there. Chains are gone through from
    /// behind: an entry that fills a gap may be met twice, but never be missed.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn next_key(&self, view: View, after: Option<*const u8>) -> Result<Vec<u8>, Errno> {
        let view = self.view(view);
        let mut chain = 0;
        if let Some(key) = after {
            // SAFETY: the caller guarantees the key.
            let hash = unsafe { self.hasher.hash(key, self.key_size) };
            let here = self.table.chain_of(hash);
            let position = (0..self.table.chain_len(here)).find(|position| {
                let slot = self.table.at(here, *position);
                // SAFETY: as above; slots are mapped.
                slot.is_some_and(|slot| unsafe { same(self.key(view, slot), key, self.key_size) })
            });
            if let Some(position) = position {
                if let Some(key) = self.last_key(view, here, position) {
                    return Ok(key);
                }
                chain = here + 1;
            }
        }
        (chain..self.table.chains())
            .find_map(|chain| self.last_key(view, chain, self.table.chain_len(chain)))
            .ok_or(Errno::ENOENT)
    }

    /// The last key of a chain in front of a position.
    fn last_key(&self, view: View, chain: u32, position: usize) -> Option<Vec<u8>> {
        (0..position).rev().find_map(|position| {
            let slot = self.table.at(chain, position)?;
            Some(self.key_octets(view, slot))
        })
    }

    /// Visits all entries (hashtab.c: `bpf_for_each_hash_elem`); the visitor may change the map.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(u32, u32) -> ControlFlow<()>) -> u32 {
        let mut visited = 0;
        for chain in 0..self.table.chains() {
            for position in (0..self.table.chain_len(chain)).rev() {
                let Some(slot) = self.table.at(chain, position) else {
                    continue;
                };
                visited += 1;
                let (key, value) = (self.elements.address(slot), self.value_address(slot));
                if visit(key, value).is_break() {
                    return visited;
                }
            }
        }
        visited
    }

    /// Visits copies of all entries as the API sees them. Unlike a walk by [`Hash::next_key`] this ends even if a
    /// program has changed keys under the table.
    pub(super) fn dump(&self, view: View, visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> ControlFlow<()>) {
        let view = self.view(view);
        for chain in 0..self.table.chains() {
            for position in (0..self.table.chain_len(chain)).rev() {
                let Some(slot) = self.table.at(chain, position) else {
                    continue;
                };
                if visit(self.key_octets(view, slot), self.value(view, slot)).is_break() {
                    return;
                }
            }
        }
    }

    fn key_octets(&self, view: View, slot: u32) -> Vec<u8> {
        let mut key = vec![0; self.key_size];
        // SAFETY: slots are mapped, and the room was just made.
        unsafe { super::value::copy(self.key(view, slot), key.as_mut_ptr(), self.key_size) };
        key
    }

    /// Slots with their keys, for those who keep more about them.
    pub(super) fn keys(&self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        let view = self.view(self.memory.view(0));
        let used = (0..self.slots.len()).filter(|slot| self.slots.is_used(*slot));
        used.map(move |slot| (slot, self.key_octets(view, slot)))
    }
}
