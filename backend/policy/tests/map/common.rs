//! Maps for tests.

use std::sync::Arc;

use policy::map::{At, Map, MapError};
use policy::memory::Memory;
use policy::object::MapDefinition;

/// `BPF_MAP_TYPE_*`
pub mod kind {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const LRU_HASH: u32 = 9;
    pub const LRU_PERCPU_HASH: u32 = 10;
    pub const LPM_TRIE: u32 = 11;
    pub const ARRAY_OF_MAPS: u32 = 12;
    pub const HASH_OF_MAPS: u32 = 13;
    pub const QUEUE: u32 = 22;
    pub const STACK: u32 = 23;
    pub const RINGBUF: u32 = 27;
    pub const BLOOM_FILTER: u32 = 30;
}

pub fn definition(kind: u32, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> MapDefinition {
    MapDefinition {
        name: "test".to_owned(),
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
        pinned: false,
        inner: None,
        values: Vec::new(),
        contents: None,
        types: None,
        extra: 0,
        spin_lock_offset: None,
    }
}

pub fn memory(shards: usize) -> Arc<Memory> {
    Arc::new(Memory::new(shards, None).unwrap())
}

pub fn create(memory: &Arc<Memory>, definition: MapDefinition) -> Result<Map, MapError> {
    Map::create(1, 1, definition, memory)
}

pub fn map(kind: u32, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> (Arc<Memory>, Map) {
    let memory = memory(2);
    let map = create(
        &memory,
        definition(kind, key_size, value_size, max_entries, flags),
    )
    .unwrap();
    (memory, map)
}

pub fn at(memory: &Memory, shard: usize) -> At {
    At {
        view: memory.view(shard),
        shard,
    }
}

pub fn octets(memory: &Memory, address: u32, len: usize) -> Vec<u8> {
    // SAFETY: the tests ask for values of maps only.
    unsafe { std::slice::from_raw_parts(memory.view(0).at(address), len) }.to_vec()
}

/// An array's key, or any key of 4 octets.
pub fn key(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}
