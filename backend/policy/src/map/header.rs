//! What every map keeps for the next process beside its entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::hasher::Hasher;
use super::kind::flag;
use crate::memory::{Memory, Section};
use crate::object::MapDefinition;

/// The first block of a map.
#[derive(Debug, Clone)]
pub(super) struct Header {
    memory: Arc<Memory>,
    start: u32,
}

impl Header {
    const LEN: u64 = 64;
    const FROZEN: u32 = 0;
    const SEED: u32 = 8;
    const CURSOR: u32 = 16;

    pub(super) fn new(blocks: &mut Blocks<'_>, definition: &MapDefinition) -> Result<Header, MapError> {
        let former = blocks.is_former();
        let block = blocks.take(Section::Private, 1, Header::LEN)?;
        let header = Header {
            memory: blocks.memory().clone(),
            start: block.start,
        };
        if !former && definition.flags & flag::ZERO_SEED == 0 {
            header
                .word(Header::SEED)
                .store(Hasher::random_seed(), Ordering::Relaxed);
        }
        Ok(header)
    }

    fn word(&self, offset: u32) -> &AtomicU64 {
        let address = self.memory.private().at(self.start + offset);
        // SAFETY: the block is mapped for as long as the memory lives, aligned to 64, ours, and used by atomics only.
        unsafe { AtomicU64::from_ptr(address.cast()) }
    }

    fn octet(&self, offset: u32) -> &AtomicU8 {
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(self.memory.private().at(self.start + offset)) }
    }

    /// The function that the map finds its entries by.
    pub(super) fn hasher(&self) -> Hasher {
        Hasher::new(self.word(Header::SEED).load(Ordering::Relaxed))
    }

    /// What the map counts with.
    pub(super) fn cursor(&self) -> &AtomicU64 {
        self.word(Header::CURSOR)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.octet(Header::FROZEN).load(Ordering::Acquire) != 0
    }

    pub(super) fn freeze(&self) {
        self.octet(Header::FROZEN).store(1, Ordering::Release);
    }
}
