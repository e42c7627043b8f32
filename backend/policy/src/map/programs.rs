//! Arrays of programs, for tail calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::pages::Pages;
use crate::memory::{Memory, Section};
use crate::object::MapDefinition;
use crate::{Errno, Program};

/// An array of programs.
#[derive(Debug)]
pub(super) struct Programs {
    memory: Arc<Memory>,
    places: Pages<AtomicPtr<Program>>,
    /// The programs' ids, for the next process.
    ids: u32,
}

impl Programs {
    pub(super) fn new(blocks: &mut Blocks<'_>, definition: &MapDefinition) -> Result<Programs, MapError> {
        let block = blocks.take(Section::Private, u64::from(definition.max_entries), 4)?;
        Ok(Programs {
            memory: blocks.memory().clone(),
            places: blocks.pages(definition.max_entries as usize)?,
            ids: block.start,
        })
    }

    fn id(&self, index: u32) -> &AtomicU32 {
        let address = self.memory.private().at(self.ids + index * 4);
        // SAFETY: the block is aligned to 64, has an id for each place, and is used by atomics only.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    pub(super) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    pub(super) fn used(&self) -> usize {
        let used = |place: &&AtomicPtr<Program>| !place.load(Ordering::Relaxed).is_null();
        self.places.iter().filter(used).count()
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<*const Program> {
        let program = self.places.get(index as usize)?.load(Ordering::Acquire);
        (!program.is_null()).then_some(program.cast_const())
    }

    /// The id of a program, as the API sees it.
    pub(super) fn read(&self, index: u32) -> Result<u32, Errno> {
        self.get(index)
            .map(|_| self.id(index).load(Ordering::Relaxed))
            .ok_or(Errno::ENOENT)
    }

    /// Puts a program in, or nothing, and hands out what was there: it may run until all runs of now are over.
    pub(super) fn set(
        &self,
        index: u32,
        program: Option<Arc<Program>>,
    ) -> Result<Option<Arc<Program>>, Errno> {
        let place = self.places.get(index as usize).ok_or(Errno::E2BIG)?;
        let taking = program.is_none();
        let id = program.as_ref().map_or(0, |program| program.id);
        let new = program.map_or(std::ptr::null(), Arc::into_raw).cast_mut();
        let old = place.swap(new, Ordering::AcqRel);
        self.id(index).store(id, Ordering::Relaxed);
        if old.is_null() {
            return if taking { Err(Errno::ENOENT) } else { Ok(None) };
        }
        // SAFETY: it was put in by `into_raw`, and is taken out once.
        Ok(Some(unsafe { Arc::from_raw(old) }))
    }

    pub(super) fn clear(&self) -> Vec<Arc<Program>> {
        (0..self.len())
            .filter_map(|index| self.set(index, None).ok().flatten())
            .collect()
    }

    /// The ids of programs that a former process put in, and nobody has put in since.
    pub(super) fn remembered(&self) -> Vec<(Vec<u8>, u32)> {
        let missing = |index: &u32| self.get(*index).is_none();
        let id = |index: u32| {
            (
                index.to_ne_bytes().to_vec(),
                self.id(index).load(Ordering::Relaxed),
            )
        };
        let known = |(_, id): &(Vec<u8>, u32)| *id != 0;
        (0..self.len()).filter(missing).map(id).filter(known).collect()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for place in self.places.iter() {
            let program = place.swap(std::ptr::null_mut(), Ordering::AcqRel);
            if !program.is_null() {
                // SAFETY: as in `set`. The ids stay, for the next process.
                drop(unsafe { Arc::from_raw(program) });
            }
        }
    }
}
