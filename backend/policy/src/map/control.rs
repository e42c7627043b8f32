//! What the API does with maps, as bpf(2) does (kernel/bpf/syscall.c). Any number of threads may, while programs run.

use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::hash::Whose;
use super::kind::{F_LOCK, MapKind, flag};
use super::{At, Content, Map, attributes, index_of};
use crate::{Errno, Program};

impl Map {
    /// How the control plane sees the map. It has spare slots of its own, behind those of the shards.
    pub(super) fn at(&self) -> At {
        let shards = self.memory.shards();
        At {
            view: self.memory.view(shards.saturating_sub(1)),
            shard: shards,
        }
    }

    /// Octets of a value as the API sees it (syscall.c: `bpf_map_value_size`).
    pub fn value_len(&self) -> usize {
        let size = self.definition.value_size as usize;
        if self.kind.is_percpu() {
            size.next_multiple_of(8) * self.memory.shards()
        } else {
            size
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() == self.definition.key_size as usize {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Errno> {
        if value.len() == self.value_len() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn check_lock_flag(&self, flags: u64) -> Result<(), Errno> {
        if flags & F_LOCK != 0 && self.definition.spin_lock_offset.is_none() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_read(&self) -> Result<(), Errno> {
        if self.definition.flags & flag::WRONLY != 0 {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// The only writer of the control plane until the result goes out of scope; EPERM if there can be none.
    fn writer(&self) -> Result<MutexGuard<'_, ()>, Errno> {
        let writer = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if self.definition.flags & flag::RDONLY != 0 || self.is_frozen() {
            return Err(Errno::EPERM);
        }
        Ok(writer)
    }

    /// The value of a key: of a per-CPU map those of all shards, of programs and maps the ids
    /// (`BPF_MAP_LOOKUP_ELEM`). Does not count as use.
    pub fn get(&self, key: &[u8], flags: u64) -> Result<Vec<u8>, Errno> {
        if flags & !F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_read()?;
        self.check_lock_flag(flags)?;
        self.check_key(key)?;
        let view = self.at().view;
        // SAFETY: the key has the octets that it must have, as just checked.
        unsafe {
            match &self.content {
                Content::Hash(hash) if flags & F_LOCK != 0 => hash.read_locked(view, key.as_ptr()),
                Content::Hash(hash) => hash.read(view, key.as_ptr()).ok_or(Errno::ENOENT),
                Content::Array(array) => array.read(view, index_of(key).ok_or(Errno::EINVAL)?, flags),
                Content::Lpm(lpm) => lpm.read(view, key.as_ptr()).ok_or(Errno::ENOENT),
                Content::Queue(_) => self.peek_value(),
                Content::Programs(programs) => programs
                    .read(index_of(key).ok_or(Errno::EINVAL)?)
                    .map(|id| id.to_ne_bytes().to_vec()),
                Content::Nested(nested) => nested.read(key).map(|id| id.to_ne_bytes().to_vec()),
                // What is looked for in a bloom filter is a value: see `contains_value`.
                Content::Bloom(_) => Err(Errno::EINVAL),
                Content::Ring(_) | Content::Perf(_) => Err(Errno::ENOTSUPP),
            }
        }
    }

    /// Creates or replaces an entry (`BPF_MAP_UPDATE_ELEM`). Of a per-CPU map it is the values of all shards. For
    /// programs and maps see [`Map::set_program`] and [`Map::set_map`].
    pub fn set(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let _writer = self.writer()?;
        self.check_lock_flag(flags)?;
        self.check_key(key)?;
        self.check_value(value)?;
        let at = self.at();
        let (k, v) = (key.as_ptr(), value.as_ptr());
        // SAFETY: key and value have the octets that they must have, as just checked; as the only writer this thread
        // has the control plane's shard to itself.
        unsafe {
            match &self.content {
                Content::Hash(hash) => hash.update(at, k, v, flags, Whose::All).map(|_| ()),
                Content::Array(array) => {
                    let index = index_of(key).ok_or(Errno::EINVAL)?;
                    array.update(at, index, v, flags, Whose::All)
                }
                Content::Lpm(lpm) => lpm.update(at, k, v, flags),
                Content::Queue(_) | Content::Bloom(_) => self.push_any(v, flags),
                Content::Programs(_) | Content::Nested(_) => Err(Errno::EINVAL),
                Content::Ring(_) | Content::Perf(_) => Err(Errno::ENOTSUPP),
            }
        }
    }

    /// Takes an entry away (`BPF_MAP_DELETE_ELEM`). For programs and maps see [`Map::set_program`] and
    /// [`Map::set_map`].
    pub fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let _writer = self.writer()?;
        self.check_key(key)?;
        // SAFETY: as in `set`.
        unsafe {
            match &self.content {
                Content::Hash(hash) => hash.delete(self.at(), key.as_ptr(), |_| ()),
                Content::Lpm(lpm) => lpm.delete(self.at(), key.as_ptr()),
                Content::Array(_) | Content::Queue(_) => Err(Errno::EINVAL),
                Content::Programs(_) | Content::Nested(_) => Err(Errno::EINVAL),
                Content::Bloom(_) => Err(Errno::EOPNOTSUPP),
                Content::Ring(_) => Err(Errno::ENOTSUPP),
                Content::Perf(_) => {
                    let index = index_of(key).ok_or(Errno::EINVAL)?;
                    let inside = index < self.definition.max_entries;
                    Err(if inside { Errno::ENOENT } else { Errno::E2BIG })
                }
            }
        }
    }

    /// Takes an entry away and hands out its value (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`).
    pub fn take(&self, key: &[u8], flags: u64) -> Result<Vec<u8>, Errno> {
        if flags & !F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_read()?;
        let _writer = self.writer()?;
        self.check_lock_flag(flags)?;
        self.check_key(key)?;
        if let Content::Queue(_) = &self.content {
            return self.next_value(true);
        }
        let Content::Hash(hash) = &self.content else {
            return Err(Errno::ENOTSUPP);
        };
        let at = self.at();
        let mut value = Vec::new();
        // SAFETY: as in `set`.
        unsafe { hash.delete(at, key.as_ptr(), |slot| value = hash.value(at.view, slot)) }?;
        Ok(value)
    }

    /// The key behind another one, or the first if there is none or it is not there; ENOENT at the end
    /// (`BPF_MAP_GET_NEXT_KEY`).
    pub fn next_key(&self, after: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        self.check_read()?;
        if let Some(key) = after {
            self.check_key(key)?;
        }
        let array = |len| {
            super::array::next_index(len, after.and_then(index_of)).map(|index| index.to_ne_bytes().to_vec())
        };
        match &self.content {
            // SAFETY: the key has the octets that it must have, as just checked.
            Content::Hash(hash) => unsafe { hash.next_key(self.at().view, after.map(<[u8]>::as_ptr)) },
            Content::Lpm(lpm) => lpm.next_key(after),
            Content::Nested(nested) => nested.next_key(after),
            Content::Array(_) | Content::Programs(_) | Content::Perf(_) => array(self.definition.max_entries),
            Content::Queue(_) => Err(Errno::EINVAL),
            Content::Bloom(_) => Err(Errno::EOPNOTSUPP),
            Content::Ring(_) => Err(Errno::ENOTSUPP),
        }
    }

    /// Visits copies of the entries that there are, each once if nobody changes the map meanwhile. It ends in any
    /// case; who goes from key to key with [`Map::next_key`] may be sent round in circles by a program that writes
    /// over keys.
    pub fn dump(&self, visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> ControlFlow<()>) -> Result<(), Errno> {
        self.check_read()?;
        if let Content::Hash(hash) = &self.content {
            hash.dump(self.at().view, visit);
            return Ok(());
        }
        let mut after = None;
        for _ in 0..self.definition.max_entries {
            let key = match self.next_key(after.as_deref()) {
                Err(Errno::ENOENT) => break,
                key => key?,
            };
            match self.get(&key, 0) {
                Ok(value) => {
                    if visit(key.clone(), value).is_break() {
                        break;
                    }
                }
                // Gone meanwhile, or never put in.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            after = Some(key);
        }
        Ok(())
    }

    /// Adds a value to a queue, a stack or a bloom filter.
    pub fn push_value(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        let _writer = self.writer()?;
        self.check_value(value)?;
        // SAFETY: the value has the octets that it must have, as just checked.
        unsafe { self.push_any(value.as_ptr(), flags) }
    }

    /// Takes the value that is next out of a queue or stack.
    pub fn pop_value(&self) -> Result<Vec<u8>, Errno> {
        self.check_read()?;
        let _writer = self.writer()?;
        self.next_value(true)
    }

    /// The value that is next in a queue or stack.
    pub fn peek_value(&self) -> Result<Vec<u8>, Errno> {
        self.check_read()?;
        self.next_value(false)
    }

    fn next_value(&self, take: bool) -> Result<Vec<u8>, Errno> {
        let Content::Queue(queue) = &self.content else {
            return Err(match self.kind {
                MapKind::BloomFilter => Errno::EOPNOTSUPP,
                _ => Errno::ENOTSUPP,
            });
        };
        let mut value = vec![0; self.value_len()];
        // SAFETY: the room was just made.
        unsafe { queue.get(value.as_mut_ptr(), take) }?;
        Ok(value)
    }

    /// Whether a bloom filter may have a value: ENOENT if it has not.
    pub fn contains_value(&self, value: &[u8]) -> Result<(), Errno> {
        self.check_read()?;
        self.check_value(value)?;
        match &self.content {
            // SAFETY: the value has the octets that it must have, as just checked.
            Content::Bloom(bloom) => unsafe { bloom.peek(value.as_ptr()) },
            _ => Err(Errno::EINVAL),
        }
    }

    /// From here on the API cannot change the map (`BPF_MAP_FREEZE`).
    pub fn freeze(&self) -> Result<(), Errno> {
        if self.definition.spin_lock_offset.is_some() {
            return Err(Errno::ENOTSUPP);
        }
        let _writer = self.writer()?;
        self.header.freeze();
        Ok(())
    }

    /// Whether the API can no longer change the map.
    pub fn is_frozen(&self) -> bool {
        self.header.is_frozen()
    }

    /// Puts a map into a map of maps, or takes one out, and hands out what was there: the caller keeps that until all
    /// runs of now are over.
    pub fn set_map(
        &self,
        key: &[u8],
        inner: Option<Arc<Map>>,
        flags: u64,
    ) -> Result<Option<Arc<Map>>, Errno> {
        let _writer = self.writer()?;
        self.check_key(key)?;
        let Content::Nested(nested) = &self.content else {
            return Err(Errno::EINVAL);
        };
        if let (Some(map), Some(template)) = (&inner, &self.definition.inner)
            && !attributes::fits(template, map.definition())
        {
            return Err(Errno::EINVAL);
        }
        nested.set(self.at(), key, inner, flags)
    }

    /// Puts a program into a prog_array, or takes one out, and hands out what was there: the caller keeps that until
    /// all runs of now are over.
    pub fn set_program(
        &self,
        index: u32,
        program: Option<Arc<Program>>,
    ) -> Result<Option<Arc<Program>>, Errno> {
        let _writer = self.writer()?;
        match &self.content {
            Content::Programs(programs) => programs.set(index, program),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes all programs out, frozen or not, as when nobody refers to a prog_array any more.
    pub fn clear_programs(&self) -> Vec<Arc<Program>> {
        match &self.content {
            Content::Programs(programs) => programs.clear(),
            _ => Vec::new(),
        }
    }

    /// Keys and ids of the programs or maps that a restored map held: the caller puts them in again.
    pub fn remembered(&self) -> Vec<(Vec<u8>, u32)> {
        match &self.content {
            Content::Programs(programs) => programs.remembered(),
            Content::Nested(nested) => nested.remembered(),
            _ => Vec::new(),
        }
    }
}
