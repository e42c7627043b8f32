//! How entries of a hash table come, change and go (kernel/bpf/hashtab.c).

use super::{Hash, Whose};
use crate::Errno;
use crate::map::At;
use crate::map::kind::{EXIST, F_LOCK, NOEXIST};
use crate::map::value::Values;
use crate::memory::View;

impl Hash {
    fn check_flags(&self, flags: u64) -> Result<(), Errno> {
        let plain = self.lru.is_none() && self.own.is_none();
        let base = if plain { flags & !F_LOCK } else { flags };
        if base > EXIST || (flags & F_LOCK != 0 && !self.format.has_lock()) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_presence(old: bool, flags: u64) -> Result<(), Errno> {
        match (old, flags & !F_LOCK) {
            (true, NOEXIST) => Err(Errno::EEXIST),
            (false, EXIST) => Err(Errno::ENOENT),
            _ => Ok(()),
        }
    }

    /// Creates or replaces an entry (hashtab.c: `htab_map_update_elem` and its like).
    ///
    /// # Safety
    /// The key can be read, and the value: all of them if they are [`Whose::All`]. Nobody else works with the same
    /// shard number now.
    pub(in crate::map) unsafe fn update(
        &self,
        at: At,
        key: *const u8,
        value: *const u8,
        flags: u64,
        whose: Whose,
    ) -> Result<u32, Errno> {
        self.check_flags(flags)?;
        // SAFETY: the caller guarantees what is needed.
        unsafe {
            match &self.own {
                None => self.update_plain(at, key, value, flags),
                Some(own) => self.update_percpu(own, at, key, value, flags, whose),
            }
        }
    }

    unsafe fn update_plain(
        &self,
        at: At,
        key: *const u8,
        value: *const u8,
        flags: u64,
    ) -> Result<u32, Errno> {
        let view = self.view(at.view);
        // SAFETY: the caller guarantees key and value; slots are mapped.
        unsafe {
            let hash = self.hasher.hash(key, self.key_size);
            if flags & F_LOCK != 0
                && let Some(slot) = self.find(view, hash, key)
            {
                Hash::check_presence(true, flags)?;
                return self.update_in_place(view, slot, value);
            }
            let spare = self.slots.spare(at.shard);
            self.elements
                .write(view, self.elements.address(spare), key, self.key_size as u32);
            let address = self.value_address(spare);
            self.format.store(&self.elements, view, value, address, false);
            self.format.open(view.at(address));
            let mut room = Room::new(self, at.shard);
            loop {
                let chain = self.table.lock(self.table.chain_of(hash));
                let old = self.find_locked(&chain, view, hash, key);
                Hash::check_presence(old.is_some(), flags)?;
                if old.is_none() && !room.make_without_lock() {
                    drop(chain);
                    room.evict()?;
                    continue;
                }
                self.slots.set_used(spare);
                if let Some(lru) = &self.lru {
                    lru.begin(spare, hash, old.is_some());
                }
                let next_spare = match old {
                    Some(old) => {
                        chain.replace(old, spare);
                        self.slots.set_free(old.slot);
                        Some(old.slot)
                    }
                    None if chain.insert(hash, spare) => room.take(),
                    None => None,
                };
                let Some(next_spare) = next_spare else {
                    self.slots.set_free(spare);
                    return Err(Errno::ENOMEM);
                };
                self.slots.set_spare(at.shard, next_spare);
                return Ok(spare);
            }
        }
    }

    unsafe fn update_in_place(&self, view: View, slot: u32, value: *const u8) -> Result<u32, Errno> {
        let address = self.value_address(slot);
        // SAFETY: the caller guarantees the value; slots are mapped.
        unsafe {
            self.format.locked(view.at(address), || {
                self.format.store(&self.elements, view, value, address, false);
            })?;
        }
        Ok(slot)
    }

    unsafe fn update_percpu(
        &self,
        own: &Values,
        at: At,
        key: *const u8,
        value: *const u8,
        flags: u64,
        whose: Whose,
    ) -> Result<u32, Errno> {
        // SAFETY: the caller guarantees key and value; slots are mapped.
        unsafe {
            let hash = self.hasher.hash(key, self.key_size);
            let mut room = Room::new(self, at.shard);
            loop {
                let chain = self.table.lock(self.table.chain_of(hash));
                let old = self.find_locked(&chain, at.view, hash, key);
                Hash::check_presence(old.is_some(), flags)?;
                if let Some(old) = old {
                    if let Some(lru) = &self.lru {
                        lru.touch(old.slot);
                    }
                    self.store_own(own, at, old.slot, value, whose);
                    return Ok(old.slot);
                }
                if !room.make_without_lock() {
                    drop(chain);
                    room.evict()?;
                    continue;
                }
                let slot = room.take().ok_or(Errno::E2BIG)?;
                self.elements
                    .write(at.view, self.elements.address(slot), key, self.key_size as u32);
                if whose == Whose::Own {
                    // hashtab.c: pcpu_init_value
                    for shard in 0..self.memory.shards() {
                        let at = self.memory.view(shard).at(own.address(slot));
                        at.write_bytes(0, self.format.stride() as usize);
                    }
                }
                self.store_own(own, at, slot, value, whose);
                self.slots.set_used(slot);
                if let Some(lru) = &self.lru {
                    lru.begin(slot, hash, false);
                }
                if chain.insert(hash, slot) {
                    return Ok(slot);
                }
                self.slots.set_free(slot);
                return Err(Errno::ENOMEM);
            }
        }
    }

    unsafe fn store_own(&self, own: &Values, at: At, slot: u32, value: *const u8, whose: Whose) {
        let address = own.address(slot);
        // SAFETY: the caller guarantees the value, or as many as there are shards.
        unsafe {
            match whose {
                Whose::Own => self.format.store(own, at.view, value, address, false),
                Whose::All => {
                    for shard in 0..self.memory.shards() {
                        let from = value.add(shard * self.format.stride() as usize);
                        self.format
                            .store(own, self.memory.view(shard), from, address, true);
                    }
                }
            }
        }
    }

    /// Takes an entry away, after `last` was called with its slot.
    ///
    /// # Safety
    /// The key can be read.
    pub(in crate::map) unsafe fn delete(
        &self,
        at: At,
        key: *const u8,
        last: impl FnOnce(u32),
    ) -> Result<(), Errno> {
        // SAFETY: the caller guarantees the key.
        let place = unsafe {
            let hash = self.hasher.hash(key, self.key_size);
            let chain = self.table.lock(self.table.chain_of(hash));
            let place = self
                .find_locked(&chain, self.view(at.view), hash, key)
                .ok_or(Errno::ENOENT)?;
            last(place.slot);
            chain.remove(place);
            self.slots.set_free(place.slot);
            place
        };
        self.slots.push(at.shard, place.slot);
        Ok(())
    }
}

/// Room for one new entry, which goes back if it is not needed after all.
struct Room<'a> {
    hash: &'a Hash,
    shard: usize,
    slot: Option<u32>,
}

impl<'a> Room<'a> {
    fn new(hash: &'a Hash, shard: usize) -> Room<'a> {
        Room {
            hash,
            shard,
            slot: None,
        }
    }

    /// Takes a free slot, if there is one. This does not touch a bucket, so it may be done with one locked.
    #[inline]
    fn make_without_lock(&mut self) -> bool {
        if self.slot.is_none() {
            self.slot = self.hash.slots.pop(self.shard);
        }
        self.slot.is_some()
    }

    /// Makes an old entry go; with no bucket locked.
    #[cold]
    fn evict(&mut self) -> Result<(), Errno> {
        let hash = self.hash;
        let lru = hash.lru.as_ref().ok_or(Errno::E2BIG)?;
        let unlink = |slot: u32, key_hash: u64| {
            let chain = hash.table.lock(hash.table.chain_of(key_hash));
            let found = chain.find_slot(slot);
            if let Some(place) = found {
                chain.remove(place);
                hash.slots.set_free(slot);
            }
            found.is_some()
        };
        let slot = lru.evict(|slot| hash.slots.is_used(slot), unlink);
        // As when all that could go went to others meanwhile (hashtab.c: htab_lru_map_update_elem).
        self.slot = Some(slot.ok_or(Errno::ENOMEM)?);
        Ok(())
    }

    fn take(&mut self) -> Option<u32> {
        self.slot.take()
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.hash.slots.push(self.shard, slot);
        }
    }
}
