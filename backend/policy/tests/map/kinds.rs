//! What each kind of map promises.

use std::ops::ControlFlow;

use policy::Errno;
use policy::map::{EXIST, F_LOCK, MapError, NOEXIST, flag};
use policy::memory::Section;

use crate::common::{at, create, definition, key, kind, map, memory, octets};

#[test]
fn a_kind_that_we_do_not_have_is_refused_by_its_name() {
    for (number, name) in [
        (8, "BPF_MAP_TYPE_CGROUP_ARRAY"),
        (24, "BPF_MAP_TYPE_SK_STORAGE"),
        (14, "BPF_MAP_TYPE_DEVMAP"),
        (99, "99"),
    ] {
        let error = create(&memory(1), definition(number, 4, 4, 1, 0)).unwrap_err();
        assert!(matches!(error, MapError::Kind { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_map_that_cannot_be_made_leaves_no_memory_behind() {
    let memory = memory(1);
    for _ in 0..100 {
        // The keys fit, the per-CPU values do not.
        let error = create(&memory, definition(kind::PERCPU_HASH, 4, 32 << 10, 10_000, 0)).unwrap_err();
        assert_eq!(error.errno(), Errno::ENOMEM);
    }
    let map = create(&memory, definition(kind::ARRAY, 4, 8, 1, 0)).unwrap();
    let start = map.array_layout().unwrap().start;
    assert_eq!(start, policy::layout::SHARED);
    drop(map);
    let map = create(&memory, definition(kind::ARRAY, 4, 1 << 20, 1, 0)).unwrap();
    let start = map.array_layout().unwrap().start;
    assert!(start < policy::layout::SHARED + (1 << 20));
}

#[test]
fn a_program_gets_the_address_of_a_value_and_the_api_sees_what_it_writes_there() {
    let (memory, map) = map(kind::ARRAY, 4, 12, 3, 0);
    let at = at(&memory, 0);
    let layout = map.array_layout().unwrap();
    // SAFETY: keys of 4 octets, and addresses of values.
    unsafe {
        let address = map.lookup(at, key(2).as_ptr()).unwrap();
        assert_eq!(address, layout.start + 2 * layout.stride);
        at.view.at(address).write(7);
        assert_eq!(map.lookup(at, key(3).as_ptr()), None);
        assert_eq!(map.delete(at, key(2).as_ptr()), Err(Errno::EINVAL));
    }
    assert_eq!(map.get(&key(2), 0).unwrap()[0], 7);
    assert_eq!(map.get(&key(3), 0), Err(Errno::ENOENT));
    assert_eq!(map.set(&key(3), &[0; 12], 0), Err(Errno::E2BIG));
    assert_eq!(map.set(&key(0), &[0; 12], NOEXIST), Err(Errno::EEXIST));
    assert_eq!(map.set(&key(0), &[0; 11], 0), Err(Errno::EINVAL));
}

#[test]
fn the_contents_of_a_data_section_are_there_from_the_start() {
    let memory = memory(2);
    let mut rodata = definition(kind::ARRAY, 4, 11, 1, flag::RDONLY_PROG);
    rodata.contents = Some(b"hello world".to_vec());
    let map = create(&memory, rodata).unwrap();
    let start = map.array_layout().unwrap().start;
    assert_eq!(octets(&memory, start, 11), b"hello world");
    assert!(memory.allows(start, 11, false));
    assert!(!memory.allows(start, 11, true), "programs can only read it");
    // SAFETY: key and value are long enough.
    let result = unsafe { map.update(at(&memory, 0), key(0).as_ptr(), [0; 16].as_ptr(), 0) };
    assert_eq!(result, Err(Errno::EACCES));
    map.set(&key(0), b"HELLO WORLD", 0).unwrap();
    assert_eq!(octets(&memory, start, 11), b"HELLO WORLD");
    map.freeze().unwrap();
    assert_eq!(map.set(&key(0), b"hello world", 0), Err(Errno::EPERM));
    assert_eq!(map.freeze(), Err(Errno::EPERM));
}

#[test]
fn each_shard_has_values_of_its_own_at_the_same_address() {
    for kind in [kind::PERCPU_ARRAY, kind::PERCPU_HASH, kind::LRU_PERCPU_HASH] {
        let (memory, map) = map(kind, 4, 4, 3, 0);
        for shard in 0..2 {
            let at = at(&memory, shard);
            // SAFETY: key and value are long enough.
            unsafe {
                map.update(at, key(1).as_ptr(), key(10 + shard as u32).as_ptr(), 0)
                    .unwrap();
                let address = map.lookup(at, key(1).as_ptr()).unwrap();
                assert_eq!(at.view.at(address).cast::<u32>().read(), 10 + shard as u32);
                let own = map.lookup_percpu(at, key(1).as_ptr(), shard as u32);
                assert_eq!(own, Some(address));
                assert_eq!(map.lookup_percpu(at, key(1).as_ptr(), 1 - shard as u32), None);
            }
        }
        let all = map.get(&key(1), 0).unwrap();
        assert_eq!(all, [10, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn a_new_per_cpu_entry_is_zero_for_the_others() {
    let (memory, map) = map(kind::PERCPU_HASH, 4, 8, 1, 0);
    map.set(&key(1), &[0xff; 16], 0).unwrap();
    map.remove(&key(1)).unwrap();
    // SAFETY: key and value are long enough.
    unsafe {
        map.update(at(&memory, 1), key(2).as_ptr(), [1; 8].as_ptr(), 0)
            .unwrap();
    }
    assert_eq!(map.get(&key(2), 0).unwrap(), [[0; 8], [1; 8]].concat());
}

#[test]
fn a_hash_holds_exactly_as_many_entries_as_it_says() {
    for flags in [0, flag::NO_PREALLOC] {
        let (memory, map) = map(kind::HASH, 4, 8, 100, flags);
        for number in 0..100 {
            let at = at(&memory, number as usize % 2);
            // SAFETY: key and value are long enough.
            unsafe {
                map.update(at, key(number).as_ptr(), [number as u8; 8].as_ptr(), 0)
                    .unwrap()
            };
        }
        assert_eq!(map.set(&key(100), &[0; 8], 0), Err(Errno::E2BIG));
        assert_eq!(map.entries(), 100);
        map.set(&key(7), &[9; 8], EXIST).unwrap();
        assert_eq!(map.set(&key(7), &[9; 8], NOEXIST), Err(Errno::EEXIST));
        assert_eq!(map.set(&key(100), &[9; 8], EXIST), Err(Errno::ENOENT));
        map.remove(&key(50)).unwrap();
        assert_eq!(map.remove(&key(50)), Err(Errno::ENOENT));
        map.set(&key(100), &[0; 8], 0).unwrap();
        assert_eq!(map.take(&key(7), 0).unwrap(), [9; 8]);
        assert_eq!(map.get(&key(7), 0), Err(Errno::ENOENT));
    }
}

#[test]
fn the_address_of_a_value_stays_valid_when_the_entry_is_gone() {
    let (memory, map) = map(kind::HASH, 4, 8, 4, 0);
    map.set(&key(1), &[5; 8], 0).unwrap();
    // SAFETY: the key is long enough.
    let address = unsafe { map.lookup(at(&memory, 0), key(1).as_ptr()) }.unwrap();
    map.remove(&key(1)).unwrap();
    assert!(memory.allows(address, 8, true));
    assert_eq!(octets(&memory, address, 8), [5; 8]);
}

#[test]
fn keys_that_a_program_scribbled_on_harm_nobody_else() {
    let (memory, map) = map(kind::HASH, 4, 4, 64, 0);
    for number in 0..64 {
        map.set(&key(number), &key(number), 0).unwrap();
    }
    for block in map.blocks() {
        if block.section == Section::Shared {
            // SAFETY: the block is mapped, and programs may write all of it.
            unsafe {
                memory
                    .view(0)
                    .at(block.start)
                    .write_bytes(0x55, block.len as usize)
            };
        }
    }
    for number in 0..64 {
        assert_eq!(map.get(&key(number), 0), Err(Errno::ENOENT));
        assert_eq!(map.set(&key(number), &key(number), 0), Err(Errno::E2BIG));
    }
    let visited = map.for_each(at(&memory, 0), &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(visited, Ok(64));
    let mut dumped = 0;
    map.dump(&mut |key, value| {
        assert_eq!((key, value), (vec![0x55; 4], vec![0x55; 4]));
        dumped += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(dumped, 64);
}

#[test]
fn what_was_not_used_for_long_makes_room_and_an_lru_map_is_never_full() {
    for (kind, flags) in [
        (kind::LRU_HASH, 0),
        (kind::LRU_HASH, flag::NO_COMMON_LRU),
        (kind::LRU_PERCPU_HASH, 0),
    ] {
        let (memory, map) = map(kind, 4, 8, 64, flags);
        let at = at(&memory, 0);
        for number in 0..10_000 {
            // SAFETY: key and value are long enough.
            unsafe {
                map.update(at, key(number).as_ptr(), [1; 8].as_ptr(), 0).unwrap();
                // Used again and again.
                assert!(map.lookup(at, key(0).as_ptr()).is_some(), "{number}");
            }
            assert!(map.entries() <= 64);
        }
        assert_eq!(map.entries(), 64);
        assert!(map.get(&key(9_999), 0).is_ok(), "the newest is there");
        assert_eq!(map.get(&key(1), 0), Err(Errno::ENOENT));
    }
}

#[test]
fn replacing_an_entry_of_a_full_lru_map_evicts_nothing() {
    let (_memory, map) = map(kind::LRU_HASH, 4, 8, 16, 0);
    for round in 0..10 {
        for number in 0..16 {
            map.set(&key(number), &[round; 8], 0).unwrap();
        }
    }
    assert!((0..16).all(|number| map.get(&key(number), 0) == Ok(vec![9; 8])));
}

fn prefix(octets: [u8; 4], len: u32) -> Vec<u8> {
    [len.to_ne_bytes(), octets].concat()
}

#[test]
fn a_trie_finds_the_longest_prefix() {
    let (memory, map) = map(kind::LPM_TRIE, 8, 1, 4, flag::NO_PREALLOC);
    map.set(&prefix([10, 0, 0, 0], 8), &[8], 0).unwrap();
    map.set(&prefix([10, 1, 0, 0], 16), &[16], 0).unwrap();
    map.set(&prefix([10, 1, 2, 3], 32), &[32], 0).unwrap();
    let find = |octets: [u8; 4], len: u32| {
        // SAFETY: the key is long enough.
        let address = unsafe { map.lookup(at(&memory, 0), prefix(octets, len).as_ptr()) };
        address.map(|address| self::octets(&memory, address, 1)[0])
    };
    assert_eq!(find([10, 9, 9, 9], 32), Some(8));
    assert_eq!(find([10, 1, 9, 9], 32), Some(16));
    assert_eq!(find([10, 1, 2, 3], 32), Some(32));
    assert_eq!(
        find([10, 1, 2, 3], 24),
        Some(16),
        "a key is no longer than it says"
    );
    assert_eq!(find([11, 1, 2, 3], 32), None);
    assert_eq!(find([10, 1, 2, 3], 33), None, "nor longer than it can be");
    map.set(&prefix([0; 4], 0), &[0], 0).unwrap();
    assert_eq!(find([11, 1, 2, 3], 32), Some(0));
    let full = map.set(&prefix([12, 0, 0, 0], 8), &[0], 0);
    assert_eq!(full, Err(Errno::ENOSPC));
    assert_eq!(map.set(&prefix([12, 0, 0, 0], 33), &[0], 0), Err(Errno::EINVAL));
    map.remove(&prefix([10, 1, 0, 0], 16)).unwrap();
    assert_eq!(find([10, 1, 9, 9], 32), Some(8));
}

#[test]
fn a_bloom_filter_knows_what_was_pushed() {
    let memory = memory(1);
    let mut filter = definition(kind::BLOOM_FILTER, 0, 8, 1000, 0);
    filter.extra = 3;
    let map = create(&memory, filter).unwrap();
    let at = at(&memory, 0);
    for number in 0..1000_u64 {
        map.push_value(&number.to_ne_bytes(), 0).unwrap();
    }
    let known = |number: u64| map.contains_value(&number.to_ne_bytes()).is_ok();
    assert!((0..1000).all(known));
    let wrong = (1000..2000).filter(|number| known(*number)).count();
    assert!(wrong < 300, "{wrong} of 1000 are taken for known");
    assert_eq!(map.push_value(&[0; 8], EXIST), Err(Errno::EINVAL));
    assert_eq!(map.remove(&[]), Err(Errno::EOPNOTSUPP));
    // SAFETY: the value is long enough.
    let popped = unsafe { map.pop(at, [0; 8].as_mut_ptr()) };
    assert_eq!(popped, Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_program_reads_zero_from_an_empty_queue() {
    let (memory, map) = map(kind::QUEUE, 0, 4, 2, 0);
    let at = at(&memory, 0);
    let mut value = [7; 4];
    // SAFETY: the values are long enough.
    unsafe {
        assert_eq!(map.pop(at, value.as_mut_ptr()), Err(Errno::ENOENT));
        assert_eq!(value, [0; 4]);
        for number in 0..3 {
            map.push(at, key(number).as_ptr(), EXIST).unwrap();
        }
        map.peek(at, value.as_mut_ptr()).unwrap();
        assert_eq!(value, key(1), "the oldest made room");
        assert_eq!(map.push(at, key(3).as_ptr(), 0), Err(Errno::E2BIG));
        assert_eq!(map.lookup(at, value.as_ptr()), None);
    }
    assert_eq!(map.pop_value(), Ok(key(1).to_vec()));
    assert_eq!(map.entries(), 1);
}

#[test]
fn a_spin_lock_is_neither_shown_nor_overwritten_and_waiting_for_it_ends() {
    let memory = memory(1);
    for kind in [kind::ARRAY, kind::HASH] {
        let mut locked = definition(kind, 4, 12, 4, 0);
        locked.spin_lock_offset = Some(4);
        let map = create(&memory, locked).unwrap();
        map.set(&key(1), &[1; 12], 0).unwrap();
        assert_eq!(map.get(&key(1), 0).unwrap(), [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
        map.set(&key(1), &[2; 12], F_LOCK).unwrap();
        assert_eq!(
            map.get(&key(1), F_LOCK).unwrap(),
            [2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2]
        );
        // SAFETY: the key is long enough, and the lock lies in the value.
        unsafe {
            let address = map.lookup(at(&memory, 0), key(1).as_ptr()).unwrap();
            memory.view(0).at(address + 4).cast::<u32>().write(1);
        }
        assert_eq!(map.set(&key(1), &[3; 12], F_LOCK), Err(Errno::EBUSY));
        assert_eq!(map.get(&key(1), F_LOCK), Err(Errno::EBUSY));
        assert_eq!(map.freeze(), Err(Errno::ENOTSUPP));
    }
    let mut outside = definition(kind::HASH, 4, 12, 4, 0);
    outside.spin_lock_offset = Some(12);
    assert_eq!(create(&memory, outside).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn a_walk_over_all_entries_may_delete_them() {
    for kind in [kind::HASH, kind::PERCPU_HASH, kind::LRU_HASH] {
        let (memory, map) = map(kind, 4, 8, 500, 0);
        let at = at(&memory, 0);
        for number in 0..500 {
            // SAFETY: key and value are long enough.
            unsafe { map.update(at, key(number).as_ptr(), [1; 8].as_ptr(), 0).unwrap() };
        }
        let mut seen = std::collections::BTreeSet::new();
        let visited = map.for_each(at, &mut |key_address, value_address| {
            let key = octets(&memory, key_address, 4);
            assert!(memory.allows(value_address, 8, true));
            // SAFETY: the key is long enough.
            unsafe { map.delete(at, key.as_ptr()).unwrap() };
            seen.insert(key);
            ControlFlow::Continue(())
        });
        assert_eq!((visited, seen.len(), map.entries()), (Ok(500), 500, 0));
    }
}

#[test]
fn walks_over_an_array_may_nest_and_end_early() {
    let (memory, map) = map(kind::ARRAY, 4, 8, 10, 0);
    let at = at(&memory, 0);
    let mut pairs = Vec::new();
    let visited = map.for_each(at, &mut |outer, _| {
        let inner_visited = map.for_each(at, &mut |inner, _| {
            pairs.push((octets(&memory, outer, 4)[0], octets(&memory, inner, 4)[0]));
            if octets(&memory, inner, 4)[0] == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(inner_visited, Ok(3));
        ControlFlow::Continue(())
    });
    assert_eq!(visited, Ok(10));
    assert_eq!(pairs.len(), 30);
    assert_eq!(pairs[29], (9, 2));
}

#[test]
fn access_flags_bind_programs_and_the_api_separately() {
    let (memory, written) = map(kind::HASH, 4, 4, 4, flag::WRONLY_PROG);
    let at = at(&memory, 0);
    // SAFETY: key and value are long enough.
    unsafe {
        written.update(at, key(1).as_ptr(), key(2).as_ptr(), 0).unwrap();
        assert_eq!(written.lookup(at, key(1).as_ptr()), None);
    }
    assert_eq!(written.get(&key(1), 0), Ok(key(2).to_vec()));
    let (_memory, map) = map(kind::HASH, 4, 4, 4, flag::WRONLY);
    map.set(&key(1), &key(1), 0).unwrap();
    assert_eq!(map.get(&key(1), 0), Err(Errno::EPERM));
    assert_eq!(map.next_key(None), Err(Errno::EPERM));
}

#[test]
fn a_dump_has_every_entry_once() {
    let shapes = [
        (kind::HASH, 4, 0, 50),
        (kind::PERCPU_HASH, 4, 0, 50),
        (kind::ARRAY, 4, 0, 60),
        (kind::LPM_TRIE, 8, flag::NO_PREALLOC, 50),
    ];
    for (kind, key_size, flags, expected) in shapes {
        let (_memory, map) = map(kind, key_size, 4, 60, flags);
        for number in 0..50 {
            let key = match key_size {
                8 => prefix([10, 0, 0, number as u8], 32),
                _ => key(number).to_vec(),
            };
            map.set(&key, &vec![number as u8; map.value_len()], 0).unwrap();
        }
        let mut seen = std::collections::BTreeMap::new();
        map.dump(&mut |key, value| {
            assert!(seen.insert(key, value).is_none(), "twice");
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen.len(), expected);
        assert!(
            seen.iter()
                .all(|(key, value)| map.get(key, 0).as_ref() == Ok(value))
        );
    }
}
