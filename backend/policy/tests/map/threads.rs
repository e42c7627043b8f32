//! Maps keep their promises while several threads use them at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use policy::Errno;
use policy::map::{Map, flag};
use policy::memory::Memory;

use crate::common::{at, kind, map, octets};

/// A value that shows whether it is whole: the key and a number, several times.
fn value(key: u32, number: u32) -> [u8; 32] {
    let mut value = [0; 32];
    for (index, word) in value.chunks_exact_mut(8).enumerate() {
        let mixed = (u64::from(key) << 32 | u64::from(number)).rotate_left(index as u32 * 8);
        word.copy_from_slice(&mixed.to_ne_bytes());
    }
    value
}

fn is_whole(key: u32, value: &[u8]) -> bool {
    let number = u64::from_ne_bytes(value[..8].try_into().unwrap()) as u32;
    value == self::value(key, number)
}

fn key(number: u32) -> [u8; 16] {
    let mut key = [7; 16];
    key[..4].copy_from_slice(&number.to_ne_bytes());
    key
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as u32 % limit
    }
}

/// Keys below are never deleted, the others come and go.
const STAYING: u32 = 16;
const KEYS: u32 = 96;

fn worker(memory: &Memory, map: &Map, shard: usize, rounds: u32) {
    let at = at(memory, shard);
    let mut random = Random(0x9e37_79b9 + shard as u64);
    for round in 0..rounds {
        let number = random.below(KEYS);
        let key = key(number);
        // SAFETY: key and value are long enough.
        unsafe {
            match random.below(4) {
                0 => {
                    let result = map.update(at, key.as_ptr(), value(number, round).as_ptr(), 0);
                    assert!(matches!(result, Ok(()) | Err(Errno::E2BIG)), "{result:?}");
                    assert!(result.is_ok() || number >= STAYING);
                }
                1 if number >= STAYING => {
                    let result = map.delete(at, key.as_ptr());
                    assert!(matches!(result, Ok(()) | Err(Errno::ENOENT)), "{result:?}");
                }
                _ => {
                    let found = map.lookup(at, key.as_ptr());
                    assert!(found.is_some() || number >= STAYING, "{number} is lost");
                }
            }
        }
    }
}

#[test]
fn no_entry_is_lost_or_torn_in_a_hash_that_others_change() {
    // So small that chains are long and the map is full at times.
    let (memory, map) = map(kind::HASH, 16, 32, 64, 0);
    for number in 0..STAYING {
        map.set(&key(number), &value(number, 0), 0).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|shard| {
                let (memory, map) = (&memory, &map);
                scope.spawn(move || worker(memory, map, shard, 200_000))
            })
            .collect();
        for seed in 1..3 {
            let (map, done) = (&map, &done);
            scope.spawn(move || {
                let mut random = Random(seed);
                while !done.load(Ordering::Relaxed) {
                    let number = random.below(KEYS);
                    match map.get(&key(number), 0) {
                        Ok(value) => assert!(is_whole(number, &value), "{number} is torn"),
                        Err(errno) => assert!(errno == Errno::ENOENT && number >= STAYING),
                    }
                    if seed == 1 {
                        let _ = map.set(&key(number), &value(number, 7), 0);
                    } else if let Ok(next) = map.next_key(Some(&key(number))) {
                        assert_eq!(next[4..], [7; 12]);
                    }
                }
            });
        }
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let mut left = 0;
    let mut after = map.next_key(None);
    while let Ok(found) = after {
        left += 1;
        let number = u32::from_ne_bytes(found[..4].try_into().unwrap());
        assert!(is_whole(number, &map.get(&found, 0).unwrap()));
        after = map.next_key(Some(&found));
    }
    assert_eq!(left, map.entries());
    for number in 1000..1064 - left as u32 {
        map.set(&key(number), &value(number, 0), 0).unwrap();
    }
    assert_eq!(
        map.set(&key(2000), &value(0, 0), 0),
        Err(Errno::E2BIG),
        "no slot was lost or made"
    );
}

#[test]
fn a_value_that_is_replaced_again_and_again_is_never_read_torn() {
    // So few slots that a slot is used anew at once, for the same key or another one.
    let (memory, map) = map(kind::HASH, 4, 1024, 2, 0);
    let octets = |number: u32, round: u32| [number as u8 ^ round as u8; 1024];
    for number in 0..2_u32 {
        map.set(&number.to_ne_bytes(), &octets(number, 0), 0).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (memory, map, done) = (&memory, &map, &done);
        scope.spawn(move || {
            for round in 0..200_000_u32 {
                let number = round % 2;
                // SAFETY: key and value are long enough.
                unsafe {
                    let (key, value) = (number.to_ne_bytes(), octets(number, round));
                    map.update(at(memory, 0), key.as_ptr(), value.as_ptr(), 0)
                        .unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let value = map.get(&1_u32.to_ne_bytes(), 0).unwrap();
            assert!(value.iter().all(|octet| *octet == value[0]), "torn");
        }
    });
}

#[test]
fn threads_that_fill_a_hash_together_fill_it_exactly() {
    for kind in [kind::HASH, kind::PERCPU_HASH] {
        let (memory, map) = map(kind, 4, 8, 1000, 0);
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for shard in 0..2 {
                let (memory, map, made) = (&memory, &map, &made);
                scope.spawn(move || {
                    for number in 0..2000 {
                        let key = (number * 2 + shard as u32).to_ne_bytes();
                        // SAFETY: key and value are long enough.
                        let result =
                            unsafe { map.update(at(memory, shard), key.as_ptr(), [1; 8].as_ptr(), 0) };
                        made.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((made.into_inner(), map.entries()), (1000, 1000));
    }
}

#[test]
fn an_lru_map_never_fails_and_never_holds_too_much() {
    let (memory, map) = map(kind::LRU_HASH, 16, 32, 50, 0);
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let (memory, map) = (&memory, &map);
            scope.spawn(move || {
                let mut random = Random(shard as u64 + 1);
                for round in 0..100_000 {
                    let number = random.below(200);
                    // SAFETY: key and value are long enough.
                    unsafe {
                        let at = at(memory, shard);
                        map.update(at, key(number).as_ptr(), value(number, round).as_ptr(), 0)
                            .unwrap();
                        map.lookup(at, key(random.below(200)).as_ptr());
                        if round % 7 == 0 {
                            let _ = map.delete(at, key(random.below(200)).as_ptr());
                        }
                    }
                }
            });
        }
        for _ in 0..20_000 {
            let number = 3;
            if let Ok(value) = map.get(&key(number), 0) {
                assert!(is_whole(number, &value));
            }
        }
    });
    assert!(map.entries() <= 50);
    for number in 1000..1050 {
        map.set(&key(number), &value(number, 0), 0).unwrap();
    }
    assert_eq!(map.entries(), 50, "all slots are still there");
}

#[test]
fn a_trie_answers_right_while_more_special_prefixes_come_and_go() {
    let (memory, map) = map(kind::LPM_TRIE, 8, 4, 300, flag::NO_PREALLOC);
    let prefix = |octets: [u8; 4], len: u32| [len.to_ne_bytes(), octets].concat();
    // The value of a prefix is its length.
    for third in 0..8 {
        map.set(&prefix([10, 0, third, 0], 24), &24_u32.to_ne_bytes(), 0)
            .unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..1)
            .map(|shard| {
                let (memory, map) = (&memory, &map);
                scope.spawn(move || {
                    let mut random = Random(5);
                    for _ in 0..200_000 {
                        let octets = [10, 0, random.below(8) as u8, random.below(256) as u8];
                        let key = prefix(octets, 32);
                        // SAFETY: the key is long enough.
                        let address = unsafe { map.lookup(at(memory, shard), key.as_ptr()) };
                        let value = self::octets(memory, address.expect("at least 24 bits match"), 4);
                        let len = u32::from_ne_bytes(value.try_into().unwrap());
                        assert!((24..=32).contains(&len), "{len}");
                    }
                })
            })
            .collect();
        let (memory, map, done) = (&memory, &map, &done);
        scope.spawn(move || {
            let mut random = Random(9);
            while !done.load(Ordering::Relaxed) {
                let len = 25 + random.below(8);
                let key = prefix([10, 0, random.below(8) as u8, random.below(256) as u8], len);
                // SAFETY: key and value are long enough.
                unsafe {
                    let at = at(memory, 1);
                    if random.below(2) == 0 {
                        let _ = map.update(at, key.as_ptr(), len.to_ne_bytes().as_ptr(), 0);
                    } else {
                        let _ = map.delete(at, key.as_ptr());
                    }
                }
            }
        });
        for reader in readers {
            reader.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
