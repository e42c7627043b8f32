//! Random sequences of operations have the outcome that a simple model says.

use std::collections::{BTreeMap, VecDeque};

use policy::Errno;
use policy::map::{EXIST, Map, NOEXIST, flag};
use policy::memory::Memory;
use proptest::prelude::*;

use crate::common::{at, create, definition, kind, map, memory, octets};

#[derive(Debug, Clone)]
enum Operation {
    Lookup(u32),
    Update(u32, u8, u64),
    Delete(u32),
}

fn operations(keys: u32) -> impl Strategy<Value = Vec<(Operation, usize)>> {
    let flags = prop::sample::select(vec![0, 0, 0, NOEXIST, EXIST]);
    let operation = prop_oneof![
        (0..keys).prop_map(Operation::Lookup),
        (0..keys, any::<u8>(), flags).prop_map(|(key, value, flags)| Operation::Update(key, value, flags)),
        (0..keys).prop_map(Operation::Delete),
    ];
    // With the shard that does it; 2 is the control plane.
    prop::collection::vec((operation, 0..3_usize), 1..300)
}

fn key(number: u32, len: usize) -> Vec<u8> {
    let mut key = vec![0x5a; len];
    let len = len.min(4);
    key[..len].copy_from_slice(&number.to_le_bytes()[..len]);
    key
}

fn lookup(memory: &Memory, map: &Map, shard: usize, key: &[u8], len: usize) -> Option<Vec<u8>> {
    if shard == 2 {
        return map.get(key, 0).ok();
    }
    // SAFETY: the key is as long as the map's are.
    let address = unsafe { map.lookup(at(memory, shard), key.as_ptr()) };
    address.map(|address| octets(memory, address, len))
}

fn update(
    memory: &Memory,
    map: &Map,
    shard: usize,
    key: &[u8],
    value: &[u8],
    flags: u64,
) -> Result<(), Errno> {
    if shard == 2 {
        return map.set(key, value, flags);
    }
    // SAFETY: key and value are as long as the map's are.
    unsafe { map.update(at(memory, shard), key.as_ptr(), value.as_ptr(), flags) }
}

fn delete(memory: &Memory, map: &Map, shard: usize, key: &[u8]) -> Result<(), Errno> {
    if shard == 2 {
        return map.remove(key);
    }
    // SAFETY: the key is as long as the map's are.
    unsafe { map.delete(at(memory, shard), key.as_ptr()) }
}

proptest! {
    #[test]
    fn a_hash_is_like_its_model(
        operations in operations(60),
        key_len in prop::sample::select(vec![1, 2, 4, 7, 8, 12, 16, 20, 33_usize]),
        value_len in prop::sample::select(vec![1, 4, 8, 32, 100_usize]),
        max_entries in 1..50_usize,
    ) {
        let (memory, map) = map(kind::HASH, key_len as u32, value_len as u32, max_entries as u32, 0);
        let mut model = BTreeMap::new();
        for (operation, shard) in operations {
            match operation {
                Operation::Lookup(number) => {
                    let key = key(number, key_len);
                    prop_assert_eq!(lookup(&memory, &map, shard, &key, value_len), model.get(&key).cloned());
                }
                Operation::Update(number, value, flags) => {
                    let (key, value) = (key(number, key_len), vec![value; value_len]);
                    let expected = match (model.contains_key(&key), flags) {
                        (true, NOEXIST) => Err(Errno::EEXIST),
                        (false, EXIST) => Err(Errno::ENOENT),
                        (false, _) if model.len() == max_entries => Err(Errno::E2BIG),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(update(&memory, &map, shard, &key, &value, flags), expected);
                    if expected.is_ok() {
                        model.insert(key, value);
                    }
                }
                Operation::Delete(number) => {
                    let key = key(number, key_len);
                    let expected = model.remove(&key).map(|_| ()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(delete(&memory, &map, shard, &key), expected);
                }
            }
            prop_assert_eq!(map.entries(), model.len());
        }
        let mut found = BTreeMap::new();
        let mut after = map.next_key(None);
        while let Ok(key) = after {
            after = map.next_key(Some(&key));
            found.insert(key.clone(), map.get(&key, 0).unwrap());
            prop_assert!(found.len() <= model.len());
        }
        prop_assert_eq!(found, model);
    }

    #[test]
    fn an_lru_map_forgets_but_never_lies(operations in operations(60), max_entries in 1..50_u32) {
        let (memory, map) = map(kind::LRU_HASH, 4, 8, max_entries, 0);
        let mut model = BTreeMap::new();
        for (operation, shard) in operations {
            match operation {
                Operation::Lookup(number) => {
                    let key = key(number, 4);
                    if let Some(value) = lookup(&memory, &map, shard, &key, 8) {
                        prop_assert_eq!(Some(&value), model.get(&key));
                    }
                }
                Operation::Update(number, value, _) => {
                    let (key, value) = (key(number, 4), vec![value; 8]);
                    prop_assert_eq!(update(&memory, &map, shard, &key, &value, 0), Ok(()));
                    prop_assert_eq!(lookup(&memory, &map, shard, &key, 8), Some(value.clone()));
                    model.insert(key, value);
                }
                Operation::Delete(number) => {
                    let key = key(number, 4);
                    if model.remove(&key).is_none() {
                        prop_assert_eq!(delete(&memory, &map, shard, &key), Err(Errno::ENOENT));
                    } else {
                        let _ = delete(&memory, &map, shard, &key);
                    }
                    prop_assert_eq!(lookup(&memory, &map, shard, &key, 8), None);
                }
            }
            prop_assert!(map.entries() <= max_entries as usize);
            prop_assert!(map.entries() <= model.len());
        }
    }

    #[test]
    fn a_trie_is_like_a_list_of_prefixes(
        updates in prop::collection::vec((0..=24_u32, any::<[u8; 3]>(), any::<bool>(), 0..3_usize), 1..200),
        addresses in prop::collection::vec((any::<[u8; 3]>(), 0..=24_u32), 50),
        bits in any::<[u8; 3]>(),
    ) {
        let (memory, map) = map(kind::LPM_TRIE, 7, 4, 100, flag::NO_PREALLOC);
        let mut model: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        // Few different bits make prefixes that share some.
        let number = |octets: [u8; 3]| {
            u32::from_be_bytes([octets[0] & bits[0], octets[1] & bits[1], octets[2] & bits[2], 0])
        };
        let cut = |address: u32, len: u32| address & (u64::from(u32::MAX) << (32 - len)) as u32;
        let key = |address: u32, len: u32| [&len.to_ne_bytes()[..], &address.to_be_bytes()[..3]].concat();
        for (count, (len, octets, remove, shard)) in updates.into_iter().enumerate() {
            let address = number(octets);
            let prefix = (len, cut(address, len));
            if remove {
                let expected = model.remove(&prefix).map(|_| ()).ok_or(Errno::ENOENT);
                prop_assert_eq!(delete(&memory, &map, shard, &key(address, len)), expected);
            } else {
                let full = model.len() == 100 && !model.contains_key(&prefix);
                let expected = if full { Err(Errno::ENOSPC) } else { Ok(()) };
                let value = (count as u32).to_ne_bytes();
                prop_assert_eq!(update(&memory, &map, shard, &key(address, len), &value, 0), expected);
                if !full {
                    model.insert(prefix, count as u32);
                }
            }
            prop_assert_eq!(map.entries(), model.len());
        }
        for (octets, len) in addresses {
            let address = number(octets);
            let longest = (0..=len).rev().find_map(|len| model.get(&(len, cut(address, len))));
            let expected = longest.map(|value| value.to_ne_bytes().to_vec());
            prop_assert_eq!(lookup(&memory, &map, 0, &key(address, len), 4), expected);
        }
        let mut count = 0;
        let mut after = map.next_key(None);
        while let Ok(key) = after {
            count += 1;
            prop_assert!(count <= model.len());
            after = map.next_key(Some(&key));
        }
        prop_assert_eq!(count, model.len());
    }

    #[test]
    fn queues_and_stacks_are_like_their_models(
        operations in prop::collection::vec((0..4, any::<u32>()), 1..200),
        stack: bool,
        max_entries in 1..10_usize,
    ) {
        let kind = if stack { kind::STACK } else { kind::QUEUE };
        let (memory, map) = map(kind, 0, 4, max_entries as u32, 0);
        let at = at(&memory, 0);
        let mut model: VecDeque<u32> = VecDeque::new();
        for (operation, value) in operations {
            let mut got = [0; 4];
            // SAFETY: the values are long enough.
            unsafe {
                match operation {
                    0 | 1 => {
                        let flags = if operation == 0 { 0 } else { EXIST };
                        let full = model.len() == max_entries;
                        let expected = if full && flags == 0 { Err(Errno::E2BIG) } else { Ok(()) };
                        prop_assert_eq!(map.push(at, value.to_ne_bytes().as_ptr(), flags), expected);
                        if expected.is_ok() {
                            if full {
                                model.pop_front();
                            }
                            model.push_back(value);
                        }
                    }
                    _ => {
                        let next = if stack { model.back() } else { model.front() }.copied();
                        let expected = next.map(|_| ()).ok_or(Errno::ENOENT);
                        let result = if operation == 2 {
                            if stack { model.pop_back() } else { model.pop_front() };
                            map.pop(at, got.as_mut_ptr())
                        } else {
                            map.peek(at, got.as_mut_ptr())
                        };
                        prop_assert_eq!(result, expected);
                        prop_assert_eq!(u32::from_ne_bytes(got), next.unwrap_or(0));
                    }
                }
            }
            prop_assert_eq!(map.entries(), model.len());
        }
    }

    #[test]
    fn any_definition_makes_a_map_or_an_error(
        kind in 0..40_u32,
        sizes in (any::<u32>(), any::<u32>(), any::<u32>()),
        small in (0..300_u32, 0..70_000_u32, 0..70_000_u32),
        choice in any::<[bool; 3]>(),
        flags in any::<u32>(),
        mask in prop::sample::select(vec![0, 1, 0x1fff, u32::MAX]),
    ) {
        let memory = memory(1);
        let pick = |small: bool, few: u32, many: u32| if small { few } else { many };
        let definition = definition(
            kind,
            pick(choice[0], small.0, sizes.0),
            pick(choice[1], small.1, sizes.1),
            pick(choice[2], small.2, sizes.2),
            flags & mask,
        );
        // Gigabytes of memory are not what this is about.
        let element = u64::from(definition.value_size) + u64::from(definition.key_size) + 64;
        let octets = u64::from(definition.max_entries).saturating_mul(element);
        prop_assume!(!(16 << 20..16 << 30).contains(&octets));
        if let Ok(map) = create(&memory, definition) {
            prop_assert!(map.memory_len() > 0);
        }
    }
}
