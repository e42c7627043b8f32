//! A process may be killed at any moment: the next one finds what its maps held.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use policy::Errno;
use policy::map::{EXIST, Map, MapError, flag};
use policy::memory::{Block, Memory};
use policy::object::MapDefinition;

use crate::common::{at, create, definition, key, kind};

fn open(directory: &Path) -> Arc<Memory> {
    Arc::new(Memory::new(2, Some(directory)).unwrap())
}

fn restore(memory: &Arc<Memory>, definition: MapDefinition, blocks: &[Block]) -> Result<Map, MapError> {
    for block in blocks {
        memory.claim(*block).unwrap();
    }
    Map::restore(1, 1, definition, memory, blocks)
}

/// Makes a map, has `fill` fill it, and finds it again.
fn again(definition: &MapDefinition, fill: impl FnOnce(&Map)) -> (tempfile::TempDir, Arc<Memory>, Map) {
    let directory = tempfile::tempdir().unwrap();
    let blocks = {
        let memory = open(directory.path());
        let map = create(&memory, definition.clone()).unwrap();
        fill(&map);
        map.blocks()
    };
    let memory = open(directory.path());
    let map = restore(&memory, definition.clone(), &blocks).unwrap();
    assert_eq!(map.blocks(), blocks);
    (directory, memory, map)
}

#[test]
fn entries_of_hashes_are_found_again() {
    for (kind, value_size) in [(kind::HASH, 16), (kind::LRU_HASH, 16), (kind::PERCPU_HASH, 8)] {
        let definition = definition(kind, 4, value_size, 100, 0);
        let (_directory, _memory, map) = again(&definition, |map| {
            for number in 0..100 {
                map.set(&key(number), &[number as u8; 16], 0).unwrap();
            }
            (0..100)
                .step_by(3)
                .for_each(|number| map.remove(&key(number)).unwrap());
            map.freeze().unwrap();
        });
        assert!(map.is_frozen());
        for number in 0..100 {
            let expected = if number % 3 == 0 {
                Err(Errno::ENOENT)
            } else {
                Ok(vec![number as u8; 16])
            };
            assert_eq!(map.get(&key(number), 0), expected);
        }
        assert_eq!(map.entries(), 66);
    }
}

#[test]
fn of_an_entry_that_was_being_replaced_one_is_found_again() {
    let definition = definition(kind::HASH, 4, 8, 4, 0);
    let (_directory, memory, map) = again(&definition, |map| {
        map.set(&key(1), &[1; 8], 0).unwrap();
        map.set(&key(2), &[2; 8], 0).unwrap();
    });
    // Keys and values, 16 octets each, and the octets that say which are there.
    let blocks = map.blocks();
    let element = |slot: u32| memory.view(0).at(blocks[1].start + slot * 16);
    let state = |slot: u32| memory.private().at(blocks[2].start + slot);
    // SAFETY: the map has 7 slots: 4 for entries, and a spare one for each of 2 shards and the control plane.
    unsafe {
        let used = (0..7).find(|slot| state(*slot).read() == 1).unwrap();
        let free = (0..7).find(|slot| state(*slot).read() == 0).unwrap();
        element(free).copy_from(element(used), 16);
        element(free).add(8).write_bytes(9, 8);
        state(free).write(1);
    }
    std::mem::forget(map);
    let map = Map::restore(1, 1, definition, &memory, &blocks).unwrap();
    assert_eq!(map.entries(), 2);
    let value = |number: u32| map.get(&key(number), 0).unwrap();
    assert!(value(1) == [1; 8] || value(1) == [9; 8]);
    assert!(value(2) == [2; 8] || value(2) == [9; 8]);
    for number in [1, 2] {
        map.remove(&key(number)).unwrap();
        assert_eq!(map.get(&key(number), 0), Err(Errno::ENOENT), "there was only one");
    }
    (10..14).for_each(|number| map.set(&key(number), &[0; 8], 0).unwrap());
    assert_eq!(map.set(&key(14), &[0; 8], 0), Err(Errno::E2BIG));
}

#[test]
fn tries_queues_filters_and_arrays_are_found_again() {
    let trie = definition(kind::LPM_TRIE, 8, 4, 10, flag::NO_PREALLOC);
    let prefix = |third: u8, len: u32| [len.to_ne_bytes(), [10, 0, third, 0]].concat();
    let (_directory, _memory, map) = again(&trie, |map| {
        (0..10).for_each(|third| map.set(&prefix(third, 24), &[third; 4], 0).unwrap());
        map.remove(&prefix(3, 24)).unwrap();
    });
    assert_eq!(map.get(&prefix(4, 32), 0), Ok(vec![4; 4]));
    assert_eq!(map.get(&prefix(3, 32), 0), Err(Errno::ENOENT));
    map.set(&prefix(3, 24), &[0; 4], 0).unwrap();
    assert_eq!(map.set(&prefix(11, 24), &[0; 4], 0), Err(Errno::ENOSPC));

    let (_directory, _memory, map) = again(&definition(kind::QUEUE, 0, 4, 3, 0), |map| {
        (0..5).for_each(|number| map.push_value(&key(number), EXIST).unwrap());
    });
    assert_eq!(map.pop_value(), Ok(key(2).to_vec()));
    assert_eq!(map.entries(), 2);

    let (_directory, _memory, map) = again(&definition(kind::BLOOM_FILTER, 0, 4, 100, 0), |map| {
        (0..100).for_each(|number| map.push_value(&key(number), 0).unwrap());
    });
    assert!((0..100).all(|number| map.contains_value(&key(number)).is_ok()));

    let mut rodata = definition(kind::ARRAY, 4, 4, 2, flag::RDONLY_PROG);
    rodata.contents = Some(vec![1; 4]);
    let (_directory, _memory, map) = again(&rodata, |map| map.set(&key(0), &[2; 4], 0).unwrap());
    assert_eq!(map.get(&key(0), 0), Ok(vec![2; 4]));
}

#[test]
fn a_map_of_maps_remembers_what_to_put_in_again() {
    for kind in [kind::ARRAY_OF_MAPS, kind::HASH_OF_MAPS] {
        let template = definition(kind::ARRAY, 4, 8, 1, 0);
        let mut outer = definition(kind, 4, 4, 4, 0);
        outer.inner = Some(Box::new(template.clone()));
        let inner_memory = crate::common::memory(1);
        let inner = |id: u32| Arc::new(Map::create(id, id as u16, template.clone(), &inner_memory).unwrap());
        let (_directory, memory, map) = again(&outer, |map| {
            map.set_map(&key(1), Some(inner(41)), 0).unwrap();
            map.set_map(&key(2), Some(inner(42)), 0).unwrap();
            map.set_map(&key(2), Some(inner(43)), 0).unwrap();
        });
        let mut remembered = map.remembered();
        remembered.sort();
        assert_eq!(remembered, [(key(1).to_vec(), 41), (key(2).to_vec(), 43)]);
        // SAFETY: the key is long enough.
        let lookup = |number: u32| unsafe { map.lookup(at(&memory, 0), key(number).as_ptr()) };
        assert_eq!(lookup(1), None, "nobody has put it in yet");
        map.set_map(&key(1), Some(inner(41)), 0).unwrap();
        assert_eq!(lookup(1), Some(41));
        assert_eq!(map.remembered(), [(key(2).to_vec(), 43)]);
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let memory = open(directory.path());
    let map = create(&memory, definition(kind::HASH, 4, 8, 10, 0)).unwrap();
    let blocks = map.blocks();
    for (bigger, blocks) in [
        (definition(kind::HASH, 4, 8, 1000, 0), &blocks[..]),
        (definition(kind::HASH, 4, 8, 10, 0), &blocks[..1]),
        (definition(kind::LPM_TRIE, 8, 8, 10, 1), &blocks[..]),
    ] {
        let error = Map::restore(1, 1, bigger, &memory, blocks).unwrap_err();
        assert!(matches!(error, MapError::Former { .. }), "{error}");
    }
}

/// Kinds that the process which is killed works on.
fn victims() -> [MapDefinition; 4] {
    [
        definition(kind::HASH, 4, 32, 64, 0),
        definition(kind::LRU_HASH, 4, 32, 64, 0),
        definition(kind::LPM_TRIE, 8, 32, 64, flag::NO_PREALLOC),
        definition(kind::QUEUE, 0, 32, 16, 0),
    ]
}

fn value(key: u32, number: u32) -> [u8; 32] {
    let mut value = [0; 32];
    for word in value.chunks_exact_mut(8) {
        word[..4].copy_from_slice(&key.to_ne_bytes());
        word[4..].copy_from_slice(&number.to_ne_bytes());
    }
    value
}

fn is_whole(value: &[u8]) -> bool {
    value.chunks_exact(8).all(|word| word == &value[..8])
}

fn victim_key(definition: &MapDefinition, number: u32) -> Vec<u8> {
    match definition.key_size {
        8 => [32_u32.to_ne_bytes(), number.to_be_bytes()].concat(),
        4 => key(number).to_vec(),
        _ => Vec::new(),
    }
}

/// Not a test by itself: the process that is killed.
#[test]
fn works_until_it_is_killed() {
    let Some(directory) = std::env::var_os("POLICY_MAP_VICTIM") else {
        return;
    };
    let directory = Path::new(&directory);
    let memory = open(directory);
    let maps = victims().map(|definition| create(&memory, definition).unwrap());
    let blocks: Vec<Block> = maps.iter().flat_map(Map::blocks).collect();
    let lines: Vec<String> = blocks
        .iter()
        .map(|block| format!("{} {}", block.start, block.len))
        .collect();
    // The keys that stay.
    for map in &maps[..3] {
        for number in 0..8 {
            map.set(&victim_key(map.definition(), number), &value(number, 0), 0)
                .unwrap();
        }
    }
    std::fs::write(directory.join("blocks.part"), lines.join("\n")).unwrap();
    std::fs::rename(directory.join("blocks.part"), directory.join("blocks")).unwrap();
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let (memory, maps) = (&memory, &maps);
            scope.spawn(move || {
                let at = at(memory, shard);
                for round in 0_u32.. {
                    let number = round.wrapping_mul(0x9e37_79b9) >> 25;
                    for map in maps {
                        let (key, value) = (victim_key(map.definition(), number), value(number, round));
                        // SAFETY: key and value are long enough.
                        unsafe {
                            if map.definition().key_size == 0 {
                                map.push(at, value.as_ptr(), EXIST).unwrap();
                            } else if round % 3 == 0 && number >= 8 {
                                let _ = map.delete(at, key.as_ptr());
                            } else {
                                let _ = map.update(at, key.as_ptr(), value.as_ptr(), 0);
                            }
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_killed_process_was_doing_is_old_or_new_or_absent() {
    for round in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restore::works_until_it_is_killed"])
            .env("POLICY_MAP_VICTIM", directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let list = directory.path().join("blocks");
        while !list.exists() {
            assert!(victim.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(3_700 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        check_heritage(directory.path(), &std::fs::read_to_string(list).unwrap());
    }
}

fn check_heritage(directory: &Path, list: &str) {
    // The sections of the blocks are the same in any life.
    let scratch = crate::common::memory(2);
    let mut numbers = list.lines().map(|line| {
        let (start, len) = line.split_once(' ').unwrap();
        (start.parse().unwrap(), len.parse().unwrap())
    });
    let memory = open(directory);
    for definition in victims() {
        let shape = create(&scratch, definition.clone()).unwrap();
        let blocks: Vec<Block> = shape
            .blocks()
            .iter()
            .map(|block| {
                let (start, len) = numbers.next().unwrap();
                Block {
                    section: block.section,
                    start,
                    len,
                }
            })
            .collect();
        let map = restore(&memory, definition, &blocks).unwrap();
        check_heir(&map);
    }
}

fn check_heir(map: &Map) {
    let definition = map.definition().clone();
    if definition.key_size == 0 {
        while let Ok(value) = map.pop_value() {
            assert!(is_whole(&value), "{value:?}");
        }
        return;
    }
    let mut keys = BTreeSet::new();
    let mut after = map.next_key(None);
    while let Ok(found) = after {
        after = map.next_key(Some(&found));
        let value = map.get(&found, 0).unwrap();
        assert!(is_whole(&value), "{found:?}: {value:?}");
        let number = u32::from_ne_bytes(value[..4].try_into().unwrap());
        assert_eq!(found, victim_key(&definition, number));
        assert!(keys.insert(found), "twice");
    }
    assert_eq!(keys.len(), map.entries());
    assert!(keys.len() <= definition.max_entries as usize);
    if definition.kind != kind::LRU_HASH {
        assert!((0..8).all(|number| keys.contains(&victim_key(&definition, number))));
    }
    // Exactly as many more fit as there is room for.
    for number in 1000..1000 + definition.max_entries - keys.len() as u32 {
        map.set(&victim_key(&definition, number), &value(number, 0), 0)
            .unwrap();
    }
    assert_eq!(map.entries(), definition.max_entries as usize);
}
