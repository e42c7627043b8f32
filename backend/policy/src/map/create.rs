//! How a map comes to be, and comes back.

use std::sync::{Arc, Mutex};

use super::array::Array;
use super::attributes;
use super::blocks::Blocks;
use super::bloom::Bloom;
use super::error::MapError;
use super::hash::Hash;
use super::header::Header;
use super::kind::MapKind;
use super::lpm::Lpm;
use super::nested::Nested;
use super::perf::Perf;
use super::programs::Programs;
use super::queue::Queue;
use super::ring::Ring;
use super::{Content, Map};
use crate::memory::{Block, Memory, Section};
use crate::object::MapDefinition;

impl Map {
    /// A new map. Of `definition`, names of initial values are left to the caller; `contents` are put in.
    pub fn create(
        id: u32,
        handle: u16,
        definition: MapDefinition,
        memory: &Arc<Memory>,
    ) -> Result<Map, MapError> {
        Map::make(id, handle, definition, memory, None)
    }

    /// A map that a process before this one made, from its blocks, which the caller has claimed. Rings start empty;
    /// for the programs and maps that it held see [`Map::remembered`].
    pub fn restore(
        id: u32,
        handle: u16,
        definition: MapDefinition,
        memory: &Arc<Memory>,
        blocks: &[Block],
    ) -> Result<Map, MapError> {
        Map::make(id, handle, definition, memory, Some(blocks))
    }

    fn make(
        id: u32,
        handle: u16,
        definition: MapDefinition,
        memory: &Arc<Memory>,
        former: Option<&[Block]>,
    ) -> Result<Map, MapError> {
        let kind = MapKind::of(definition.kind).ok_or_else(|| MapError::Kind {
            map: definition.name.clone(),
            kind: MapKind::name_of(definition.kind).map_or_else(
                || definition.kind.to_string(),
                |name| format!("BPF_MAP_TYPE_{name}"),
            ),
        })?;
        attributes::check(kind, &definition).map_err(|(what, errno)| MapError::Definition {
            map: definition.name.clone(),
            what,
            errno,
        })?;
        let mut blocks = Blocks::new(&definition.name, memory, former);
        let header = Header::new(&mut blocks, &definition)?;
        let content = content(&mut blocks, &header, kind, &definition)?;
        let blocks = blocks.into_taken();
        Ok(Map {
            id,
            handle,
            kind,
            memory: memory.clone(),
            blocks,
            header,
            control: Mutex::new(()),
            content,
            definition,
        })
    }

    /// The memory that it lies in, in a fixed order. It is given back when the map is dropped.
    pub fn blocks(&self) -> Vec<Block> {
        self.blocks.clone()
    }

    /// Its number in the daemon.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What programs call it by.
    pub fn handle(&self) -> u16 {
        self.handle
    }

    /// What it was made from.
    pub fn definition(&self) -> &MapDefinition {
        &self.definition
    }

    /// Its kind.
    pub fn kind(&self) -> MapKind {
        self.kind
    }

    /// Entries that it has now; an array has all of them always.
    pub fn entries(&self) -> usize {
        match &self.content {
            Content::Array(array) => array.len() as usize,
            Content::Hash(hash) => hash.used(),
            Content::Lpm(lpm) => lpm.used(),
            Content::Queue(queue) => queue.len() as usize,
            Content::Programs(programs) => programs.used(),
            Content::Nested(nested) => nested.used(),
            Content::Bloom(_) | Content::Ring(_) | Content::Perf(_) => 0,
        }
    }

    /// Octets of map memory that it takes, and of perf rings. The index comes on top.
    pub fn memory_len(&self) -> u64 {
        let shards = self.memory.shards() as u64;
        let len = |block: &Block| match block.section {
            Section::PerShard => u64::from(block.len) * shards,
            _ => u64::from(block.len),
        };
        let rings = match &self.content {
            Content::Perf(perf) => perf.octets(),
            _ => 0,
        };
        self.blocks.iter().map(len).sum::<u64>() + rings
    }
}

fn content(
    blocks: &mut Blocks<'_>,
    header: &Header,
    kind: MapKind,
    definition: &MapDefinition,
) -> Result<Content, MapError> {
    Ok(match kind {
        MapKind::Array | MapKind::PercpuArray => Content::Array(Array::new(blocks, kind, definition)?),
        MapKind::Hash | MapKind::PercpuHash | MapKind::LruHash | MapKind::LruPercpuHash => {
            Content::Hash(Box::new(Hash::new(blocks, header, kind, definition)?))
        }
        MapKind::LpmTrie => Content::Lpm(Box::new(Lpm::new(blocks, definition)?)),
        MapKind::Queue | MapKind::Stack => Content::Queue(Queue::new(blocks, header, kind, definition)?),
        MapKind::BloomFilter => Content::Bloom(Bloom::new(blocks, header, definition)?),
        MapKind::Ringbuf => Content::Ring(Ring::new(blocks, definition)?),
        MapKind::PerfEventArray => Content::Perf(Perf::new(blocks, definition)?),
        MapKind::ProgArray => Content::Programs(Programs::new(blocks, definition)?),
        MapKind::ArrayOfMaps | MapKind::HashOfMaps => {
            Content::Nested(Box::new(Nested::new(blocks, header, kind, definition)?))
        }
    })
}

impl Drop for Map {
    /// Gives the memory back. What lies in it stays as it is until somebody else gets it, so a daemon that ends
    /// leaves its maps to the next one.
    fn drop(&mut self) {
        for block in self.blocks.drain(..) {
            self.memory.free(block);
        }
    }
}
