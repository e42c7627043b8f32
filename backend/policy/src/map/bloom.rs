//! Bloom filters: what was never pushed is most often not found, what was always is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::hasher::Hasher;
use super::header::Header;
use super::kind::ANY;
use crate::Errno;
use crate::memory::{Memory, Section};
use crate::object::MapDefinition;

/// A bloom filter.
#[derive(Debug)]
pub(super) struct Bloom {
    memory: Arc<Memory>,
    hasher: Hasher,
    start: u32,
    /// How many bits there are, less 1.
    mask: u32,
    functions: u32,
    value_size: usize,
}

impl Bloom {
    pub(super) fn new(
        blocks: &mut Blocks<'_>,
        header: &Header,
        definition: &MapDefinition,
    ) -> Result<Bloom, MapError> {
        let functions = match definition.extra as u32 & 0xf {
            0 => 5,
            functions => functions,
        };
        // bloom_filter.c: bloom_map_alloc; 7/5 is about 1/ln 2.
        let wanted = definition
            .max_entries
            .checked_mul(functions)
            .and_then(|bits| (bits / 5).checked_mul(7))
            .filter(|bits| *bits <= 1 << 31);
        let mask = wanted.map_or(u32::MAX, |bits| bits.max(64).next_power_of_two() - 1);
        let block = blocks.take(Section::Private, (u64::from(mask) + 1) / 64, 8)?;
        Ok(Bloom {
            memory: blocks.memory().clone(),
            hasher: header.hasher(),
            start: block.start,
            mask,
            functions,
            value_size: definition.value_size as usize,
        })
    }

    fn word(&self, bit: u32) -> &AtomicU64 {
        let address = self.memory.private().at(self.start + bit / 64 * 8);
        // SAFETY: the bits lie in the map's block, which is aligned to 64 and used by atomics only.
        unsafe { AtomicU64::from_ptr(address.cast()) }
    }

    unsafe fn bits(&self, value: *const u8) -> impl Iterator<Item = u32> + use<> {
        // SAFETY: the caller guarantees the value.
        let hash = unsafe { self.hasher.hash(value, self.value_size) };
        let (mask, start, step) = (self.mask, hash as u32, (hash >> 32) as u32 | 1);
        (0..self.functions).map(move |function| start.wrapping_add(step.wrapping_mul(function)) & mask)
    }

    /// Adds a value.
    ///
    /// # Safety
    /// The value can be read.
    pub(super) unsafe fn push(&self, value: *const u8, flags: u64) -> Result<(), Errno> {
        if flags != ANY {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller guarantees the value.
        for bit in unsafe { self.bits(value) } {
            self.word(bit).fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a value may have been added: ENOENT if it was not.
    ///
    /// # Safety
    /// The value can be read.
    pub(super) unsafe fn peek(&self, value: *const u8) -> Result<(), Errno> {
        // SAFETY: the caller guarantees the value.
        let mut bits = unsafe { self.bits(value) };
        let all = bits.all(|bit| self.word(bit).load(Ordering::Relaxed) & 1 << (bit % 64) != 0);
        if all { Ok(()) } else { Err(Errno::ENOENT) }
    }
}
