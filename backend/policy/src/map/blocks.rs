//! Where a map gets its blocks from: new ones, or those that a former process left.

use std::sync::Arc;

use super::error::MapError;
use super::pages::{Pages, Zeroable};
use crate::memory::{Block, Memory, Section};

/// The blocks of a map that is being made.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    name: &'a str,
    memory: &'a Arc<Memory>,
    former: Option<&'a [Block]>,
    taken: Vec<Block>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(name: &'a str, memory: &'a Arc<Memory>, former: Option<&'a [Block]>) -> Blocks<'a> {
        Blocks {
            name,
            memory,
            former,
            taken: Vec::new(),
        }
    }

    pub(super) fn memory(&self) -> &'a Arc<Memory> {
        self.memory
    }

    /// Whether the blocks hold what a former process left.
    pub(super) fn is_former(&self) -> bool {
        self.former.is_some()
    }

    /// The next block, of `count` times `stride` octets. Each kind of map takes its blocks in an order of its own that
    /// never changes.
    pub(super) fn take(&mut self, section: Section, count: u64, stride: u64) -> Result<Block, MapError> {
        let len = count.saturating_mul(stride);
        let block = match self.former {
            None => self
                .memory
                .allocate(section, len)
                .map_err(|source| MapError::Memory {
                    map: self.name.to_owned(),
                    source,
                })?,
            Some(former) => {
                let block = former.get(self.taken.len()).copied();
                block
                    .filter(|block| block.section == section && u64::from(block.len) >= len)
                    .ok_or_else(|| self.unusable("its memory is of another size"))?
            }
        };
        self.taken.push(block);
        Ok(block)
    }

    /// Host memory for an index.
    pub(super) fn pages<T: Zeroable>(&self, len: usize) -> Result<Pages<T>, MapError> {
        Pages::new(len).map_err(|source| MapError::Index {
            map: self.name.to_owned(),
            source,
        })
    }

    pub(super) fn unusable(&self, what: &'static str) -> MapError {
        MapError::Former {
            map: self.name.to_owned(),
            what,
        }
    }

    /// All blocks, now the map's.
    pub(super) fn into_taken(mut self) -> Vec<Block> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Blocks<'_> {
    /// A map that could not be made leaves nothing behind; what was claimed stays the caller's.
    fn drop(&mut self) {
        if self.former.is_none() {
            for block in &self.taken {
                self.memory.free(*block);
            }
        }
    }
}
