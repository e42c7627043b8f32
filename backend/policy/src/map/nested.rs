//! Maps of maps. What programs look up is a handle; values are the ids of maps, which lie in private memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::Blocks;
use super::error::MapError;
use super::hash::{Hash, Whose};
use super::header::Header;
use super::kind::{ANY, MapKind};
use super::pages::Pages;
use super::{At, Map};
use crate::Errno;
use crate::memory::{Memory, Section};
use crate::object::MapDefinition;

/// A map of maps.
#[derive(Debug)]
pub(super) struct Nested {
    memory: Arc<Memory>,
    index: Index,
    /// The handles by slot; 0 is none.
    handles: Pages<AtomicU32>,
    maps: Mutex<HashMap<u32, Arc<Map>>>,
}

#[derive(Debug)]
enum Index {
    Array { len: u32, ids: u32 },
    Hash(Box<Hash>),
}

impl Nested {
    pub(super) fn new(
        blocks: &mut Blocks<'_>,
        header: &Header,
        kind: MapKind,
        definition: &MapDefinition,
    ) -> Result<Nested, MapError> {
        let memory = blocks.memory().clone();
        let (index, slots) = match kind {
            MapKind::ArrayOfMaps => {
                let len = definition.max_entries;
                let ids = blocks.take(Section::Private, u64::from(len), 4)?.start;
                (Index::Array { len, ids }, len)
            }
            _ => {
                let hash = Hash::new(blocks, header, kind, definition)?;
                let slots = hash.slots();
                (Index::Hash(Box::new(hash)), slots)
            }
        };
        Ok(Nested {
            memory,
            index,
            handles: blocks.pages(slots as usize)?,
            maps: Mutex::default(),
        })
    }

    pub(super) fn used(&self) -> usize {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// # Safety
    /// The key can be read.
    #[inline]
    unsafe fn slot(&self, key: *const u8) -> Option<u32> {
        // SAFETY: the caller guarantees the key.
        unsafe {
            match &self.index {
                Index::Array { len, .. } => {
                    let index = key.cast::<u32>().read_unaligned();
                    (index < *len).then_some(index)
                }
                Index::Hash(hash) => hash.slot(self.memory.private(), key),
            }
        }
    }

    /// The handle of the map at a key.
    ///
    /// # Safety
    /// The key can be read.
    #[inline]
    pub(super) unsafe fn lookup(&self, key: *const u8) -> Option<u32> {
        let handle = |slot: u32| self.handles[slot as usize].load(Ordering::Acquire);
        // SAFETY: the caller guarantees the key.
        let handle = unsafe {
            match &self.index {
                Index::Array { .. } => handle(self.slot(key)?),
                Index::Hash(hash) => hash.slot_then(self.memory.private(), key, handle)?,
            }
        };
        (handle != 0).then_some(handle)
    }

    /// The id of the map at a key, as the API sees it.
    pub(super) fn read(&self, key: &[u8]) -> Result<u32, Errno> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the key has the octets that it must have (`Map::check_key`).
        let slot = unsafe { self.slot(key.as_ptr()) };
        slot.and_then(|slot| maps.get(&slot))
            .map(|map| map.id())
            .ok_or(Errno::ENOENT)
    }

    fn id(&self, slot: u32) -> &AtomicU32 {
        let address = match &self.index {
            Index::Array { ids, .. } => ids + slot * 4,
            Index::Hash(hash) => hash.value_address(slot),
        };
        // SAFETY: the address is that of an aligned value of 4 octets in private memory.
        unsafe { AtomicU32::from_ptr(self.memory.private().at(address).cast()) }
    }

    /// Puts a map in, or nothing, and hands out what was there. The caller sees to it that only one thread does this
    /// at a time.
    pub(super) fn set(
        &self,
        at: At,
        key: &[u8],
        inner: Option<Arc<Map>>,
        flags: u64,
    ) -> Result<Option<Arc<Map>>, Errno> {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.index {
            Index::Array { len, .. } => {
                // arraymap.c: bpf_fd_array_map_update_elem, __fd_array_map_delete_elem
                if inner.is_some() && flags != ANY {
                    return Err(Errno::EINVAL);
                }
                // SAFETY: the key has the octets that it must have (`Map::check_key`).
                let index = unsafe { key.as_ptr().cast::<u32>().read_unaligned() };
                if index >= *len {
                    return Err(Errno::E2BIG);
                }
                let taking = inner.is_none();
                let (handle, id) = inner
                    .as_ref()
                    .map_or((0, 0), |map| (u32::from(map.handle()), map.id()));
                self.handles[index as usize].store(handle, Ordering::Release);
                self.id(index).store(id, Ordering::Relaxed);
                let old = match inner {
                    Some(map) => maps.insert(index, map),
                    None => maps.remove(&index),
                };
                if taking && old.is_none() {
                    return Err(Errno::ENOENT);
                }
                Ok(old)
            }
            Index::Hash(hash) => match inner {
                Some(map) => self.insert(hash, &mut maps, at, key, map, flags),
                None => self.remove(hash, &mut maps, at, key),
            },
        }
    }

    fn insert(
        &self,
        hash: &Hash,
        maps: &mut HashMap<u32, Arc<Map>>,
        at: At,
        key: &[u8],
        map: Arc<Map>,
        flags: u64,
    ) -> Result<Option<Arc<Map>>, Errno> {
        let (handle, id) = (u32::from(map.handle()), map.id().to_ne_bytes());
        // SAFETY: key and value have the octets that they must have; the caller has this shard to itself.
        let (old, new) = unsafe {
            let old = hash.slot(self.memory.private(), key.as_ptr());
            // The slot that it will have: nobody looks at it before the table leads there.
            self.handles[hash.spare(at) as usize].store(handle, Ordering::Release);
            let new = hash.update(at, key.as_ptr(), id.as_ptr(), flags, Whose::Own);
            (old, new)
        };
        let new = new?;
        let old = old.and_then(|old| maps.remove(&old));
        maps.insert(new, map);
        Ok(old)
    }

    fn remove(
        &self,
        hash: &Hash,
        maps: &mut HashMap<u32, Arc<Map>>,
        at: At,
        key: &[u8],
    ) -> Result<Option<Arc<Map>>, Errno> {
        let mut old = None;
        // SAFETY: the key has the octets that it must have (`Map::check_key`).
        unsafe { hash.delete(at, key.as_ptr(), |slot| old = maps.remove(&slot)) }?;
        Ok(old)
    }

    /// The key behind another one.
    pub(super) fn next_key(&self, after: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        match &self.index {
            Index::Array { len, .. } => super::array::next_index(*len, after.and_then(super::index_of))
                .map(|index| index.to_ne_bytes().to_vec()),
            // SAFETY: the key has the octets that it must have (`Map::check_key`).
            Index::Hash(hash) => unsafe { hash.next_key(self.memory.private(), after.map(<[u8]>::as_ptr)) },
        }
    }

    /// Keys and ids of maps that a former process put in, and nobody has put in since.
    pub(super) fn remembered(&self) -> Vec<(Vec<u8>, u32)> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = |slot: u32| {
            let id = self.id(slot).load(Ordering::Relaxed);
            (id != 0 && !maps.contains_key(&slot)).then_some(id)
        };
        match &self.index {
            Index::Array { len, .. } => (0..*len)
                .filter_map(|index| Some((index.to_ne_bytes().to_vec(), unknown(index)?)))
                .collect(),
            Index::Hash(hash) => hash
                .keys()
                .filter_map(|(slot, key)| Some((key, unknown(slot)?)))
                .collect(),
        }
    }
}
