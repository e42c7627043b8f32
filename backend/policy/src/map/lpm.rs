//! LPM tries: the entry with the longest prefix that a key starts with.

use std::sync::Arc;

use super::attributes::PREFIX_MAX;
use super::blocks::Blocks;
use super::error::MapError;
use super::kind::{EXIST, NOEXIST};
use super::slots::Slots;
use super::trie::{Prefix, Trie};
use super::value::{Format, Values, copy};
use super::{At, section};
use crate::Errno;
use crate::memory::{Memory, Section, View};
use crate::object::MapDefinition;

/// Octets of the length in front of a prefix (linux/bpf.h: `struct bpf_lpm_trie_key`).
const LEN_OCTETS: usize = 4;

/// An LPM trie. Its keys lie in private memory, as programs never see them.
#[derive(Debug)]
pub(super) struct Lpm {
    memory: Arc<Memory>,
    trie: Trie,
    slots: Slots,
    keys: Values,
    values: Values,
    format: Format,
    key_size: usize,
}

/// A key, copied so that nobody changes it any more.
struct Key {
    octets: [u8; LEN_OCTETS + PREFIX_MAX],
    size: usize,
}

impl Key {
    /// # Safety
    /// `size` octets can be read.
    unsafe fn read(key: *const u8, size: usize) -> Key {
        let mut octets = [0; LEN_OCTETS + PREFIX_MAX];
        let size = size.min(octets.len());
        // SAFETY: the caller guarantees the octets.
        unsafe { copy(key, octets.as_mut_ptr(), size) };
        Key { octets, size }
    }

    /// None if it says that it is longer than it can be.
    fn prefix(&self) -> Option<Prefix<'_>> {
        let (len, octets) = self.octets[..self.size].split_first_chunk()?;
        let len = u32::from_ne_bytes(*len);
        (len as usize <= octets.len() * 8).then_some(Prefix { octets, len })
    }
}

impl Lpm {
    pub(super) fn new(blocks: &mut Blocks<'_>, definition: &MapDefinition) -> Result<Lpm, MapError> {
        let memory = blocks.memory().clone();
        let format = Format::new(definition);
        let entries = definition.max_entries;
        let key_size = definition.key_size as usize;
        let key_stride = definition.key_size.next_multiple_of(8);
        let count = u64::from(Slots::count(&memory, entries, true));
        let keys = blocks.take(Section::Private, count, u64::from(key_stride))?;
        let values = blocks.take(section(definition), count, u64::from(format.stride()))?;
        let lpm = Lpm {
            trie: Trie::new(blocks, entries, key_size - LEN_OCTETS)?,
            slots: Slots::new(blocks, entries, true)?,
            keys: Values::new(&memory, keys, key_stride),
            values: Values::new(&memory, values, format.stride()),
            format,
            key_size,
            memory,
        };
        if blocks.is_former() {
            lpm.find_again(entries);
        }
        lpm.slots.share_out(true);
        Ok(lpm)
    }

    /// Makes the trie from what the slots hold. A process that was killed while it replaced an entry left both.
    fn find_again(&self, entries: u32) {
        let trie = self.trie.lock();
        let mut found = 0;
        for slot in 0..self.slots.len() {
            if !self.slots.is_used(slot) {
                continue;
            }
            let key = self.key(slot);
            let kept = key.prefix().is_some_and(|prefix| {
                found < entries && trie.exact(prefix).is_none() && trie.set(prefix, slot)
            });
            if kept {
                found += 1;
            } else {
                self.slots.set_free(slot);
            }
        }
    }

    pub(super) fn used(&self) -> usize {
        self.slots.used()
    }

    fn key(&self, slot: u32) -> Key {
        // SAFETY: slots are mapped.
        unsafe { Key::read(self.memory.private().at(self.keys.address(slot)), self.key_size) }
    }

    /// The address of the value of the longest prefix.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn lookup(&self, key: *const u8) -> Option<u32> {
        // SAFETY: the caller guarantees the key.
        let key = unsafe { Key::read(key, self.key_size) };
        let slot = self.trie.longest(key.prefix()?)?;
        Some(self.values.address(slot))
    }

    /// As lpm_trie.c: `trie_update_elem`.
    ///
    /// # Safety
    /// Key and value can be read. Nobody else works with the same shard number now.
    pub(super) unsafe fn update(
        &self,
        at: At,
        key: *const u8,
        value: *const u8,
        flags: u64,
    ) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller guarantees the key.
        let key = unsafe { Key::read(key, self.key_size) };
        let prefix = key.prefix().ok_or(Errno::EINVAL)?;
        let spare = self.slots.spare(at.shard);
        // SAFETY: the caller guarantees the value; nobody else uses the spare slot.
        unsafe {
            self.keys.write(
                self.memory.private(),
                self.keys.address(spare),
                key.octets.as_ptr(),
                self.key_size as u32,
            );
            self.format
                .store(&self.values, at.view, value, self.values.address(spare), false);
        }
        let trie = self.trie.lock();
        let old = trie.exact(prefix);
        match (old, flags) {
            (Some(_), NOEXIST) => return Err(Errno::EEXIST),
            (None, EXIST) => return Err(Errno::ENOENT),
            _ => {}
        }
        let next_spare = match old {
            Some(old) => old,
            None => self.slots.pop(at.shard).ok_or(Errno::ENOSPC)?,
        };
        self.slots.set_used(spare);
        if !trie.set(prefix, spare) {
            self.slots.set_free(spare);
            self.slots.push(at.shard, next_spare);
            return Err(Errno::ENOMEM);
        }
        self.slots.set_free(next_spare);
        self.slots.set_spare(at.shard, next_spare);
        Ok(())
    }

    /// As lpm_trie.c: `trie_delete_elem`.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn delete(&self, at: At, key: *const u8) -> Result<(), Errno> {
        // SAFETY: the caller guarantees the key.
        let key = unsafe { Key::read(key, self.key_size) };
        let prefix = key.prefix().ok_or(Errno::EINVAL)?;
        let slot = self.trie.lock().remove(prefix).ok_or(Errno::ENOENT)?;
        self.slots.set_free(slot);
        self.slots.push(at.shard, slot);
        Ok(())
    }

    /// A value as the API sees it.
    ///
    /// # Safety
    /// The key can be read.
    pub(super) unsafe fn read(&self, view: View, key: *const u8) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(self.format.stride() as usize);
        // SAFETY: the caller guarantees the key.
        let key = unsafe { Key::read(key, self.key_size) };
        let prefix = key.prefix()?;
        // With the lock, so that the slot is not used for something else meanwhile.
        let _writer = self.trie.lock();
        let slot = self.trie.walk(prefix)?;
        // SAFETY: slots are mapped.
        unsafe { self.format.load(view.at(self.values.address(slot)), &mut value) };
        value.truncate(self.format.size as usize);
        Some(value)
    }

    /// The key behind another one.
    pub(super) fn next_key(&self, after: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        // SAFETY: the caller gave as many octets as a key has.
        let after = after.map(|key| unsafe { Key::read(key.as_ptr(), self.key_size.min(key.len())) });
        let trie = self.trie.lock();
        let slot = trie.next(after.as_ref().and_then(Key::prefix));
        let key = self.key(slot.ok_or(Errno::ENOENT)?);
        drop(trie);
        Ok(key.octets[..self.key_size].to_vec())
    }
}
