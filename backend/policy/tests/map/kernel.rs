//! The same operations on a map of the kernel and on one of ours have the same outcome.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use policy::Errno;
use policy::map::{Map, flag};
use policy::object::MapDefinition;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{create, definition, key, kind, memory};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;
const MAP_TAKE: i32 = 21;
const MAP_FREEZE: i32 = 22;

/// `union bpf_attr`
#[derive(Default)]
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn word(mut self, index: usize, value: u64) -> Attributes {
        self.0[index] = value as u32;
        self.0[index + 1] = (value >> 32) as u32;
        self
    }

    fn call(&self, command: i32) -> Result<i32, Errno> {
        // SAFETY: the attributes are as long as said; what they point to, the callers keep.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &self.0, size_of_val(&self.0)) };
        if result < 0 {
            return Err(Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0)));
        }
        Ok(result as i32)
    }
}

/// A map of the kernel.
struct Theirs {
    fd: OwnedFd,
    key_size: usize,
    value_len: usize,
}

fn processors() -> usize {
    // SAFETY: a system call without pointers.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) as usize }
}

impl Theirs {
    fn create(definition: &MapDefinition, value_len: usize) -> Result<Theirs, Errno> {
        let mut attributes = Attributes::default();
        attributes.0[..5].copy_from_slice(&[
            definition.kind,
            definition.key_size,
            definition.value_size,
            definition.max_entries,
            definition.flags,
        ]);
        let fd = attributes.word(16, definition.extra).call(MAP_CREATE)?;
        Ok(Theirs {
            // SAFETY: the descriptor is new and ours.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            key_size: definition.key_size as usize,
            value_len,
        })
    }

    fn attributes(&self, key: *const u8, value: *const u8, flags: u64) -> Attributes {
        Attributes::default()
            .word(0, self.fd.as_raw_fd() as u64)
            .word(2, key as u64)
            .word(4, value as u64)
            .word(6, flags)
    }

    fn pointer(key: &[u8]) -> *const u8 {
        if key.is_empty() {
            std::ptr::null()
        } else {
            key.as_ptr()
        }
    }

    fn read(&self, command: i32, key: &[u8], flags: u64) -> Result<Vec<u8>, Errno> {
        let value = vec![0; self.value_len];
        self.attributes(Theirs::pointer(key), value.as_ptr(), flags)
            .call(command)?;
        Ok(value)
    }

    fn set(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let attributes = self.attributes(Theirs::pointer(key), value.as_ptr(), flags);
        attributes.call(MAP_UPDATE).map(|_| ())
    }

    fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let attributes = self.attributes(Theirs::pointer(key), std::ptr::null(), 0);
        attributes.call(MAP_DELETE).map(|_| ())
    }

    fn next_key(&self, after: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let next = vec![0; self.key_size];
        let after = after.map_or(std::ptr::null(), <[u8]>::as_ptr);
        self.attributes(after, next.as_ptr(), 0).call(MAP_NEXT_KEY)?;
        Ok(next)
    }

    fn freeze(&self) -> Result<(), Errno> {
        let attributes = Attributes::default().word(0, self.fd.as_raw_fd() as u64);
        attributes.call(MAP_FREEZE).map(|_| ())
    }
}

/// Whether bpf(2) is to be had; says so if not.
fn permitted(test: &str) -> bool {
    let Err(errno) = Theirs::create(&definition(kind::LRU_HASH, 4, 4, 1, 0), 4) else {
        return true;
    };
    let line = format!("NOT RUN: {test}: bpf(2) is not permitted here: {errno}\n");
    let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        io::Write::write_all(&mut file.unwrap(), line.as_bytes()).unwrap();
    }
    false
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn what_the_kernel_refuses_to_create_is_refused_with_the_same_errno() {
    if !permitted("map::kernel::create") {
        return;
    }
    let kinds = prop::sample::select(vec![1, 2, 3, 4, 5, 6, 9, 10, 11, 22, 23, 27, 30_u32]);
    let key_size = prop::sample::select(vec![0, 1, 4, 4, 4, 5, 8, 20, 260, 261, 5 << 20_u32]);
    let value_size = prop::sample::select(vec![
        0,
        1,
        4,
        4,
        8,
        12,
        32 << 10,
        (32 << 10) + 1,
        (4 << 20) - 300,
        4 << 20,
        u32::MAX,
    ]);
    let max_entries = prop::sample::select(vec![0, 1, 3, 1024, 4096, 6000]);
    let bits = [
        flag::NO_PREALLOC,
        flag::NO_COMMON_LRU,
        flag::RDONLY,
        flag::WRONLY,
        flag::ZERO_SEED,
        flag::RDONLY_PROG,
        flag::WRONLY_PROG,
        flag::MMAPABLE,
        flag::PRESERVE_ELEMS,
        flag::INNER_MAP,
        1 << 30,
    ];
    let flags = prop::collection::vec(prop::sample::select(bits.to_vec()), 0..3)
        .prop_map(|bits| bits.into_iter().fold(0, |flags, bit| flags | bit));
    let extra = prop::sample::select(vec![0, 0, 0, 3, 15, 16_u64]);
    let strategy = (kinds, key_size, value_size, max_entries, flags, extra);
    // Values of megabytes times thousands of entries are not what this is about.
    runner(2000)
        .run(&strategy, |(kind, key, value, entries, flags, extra)| {
            let memory = memory(processors());
            let entries = if value > 4096 { entries.min(3) } else { entries };
            let mut definition = definition(kind, key, value, entries, flags);
            definition.extra = extra;
            let theirs = Theirs::create(&definition, 0).map(|_| ()).err();
            let ours = create(&memory, definition).err().map(|error| error.errno());
            prop_assert_eq!(ours, theirs);
            Ok(())
        })
        .unwrap();
}

#[derive(Debug, Clone)]
enum Operation {
    Get(u32, u64),
    Set(u32, u8, u64),
    Remove(u32),
    Take(u32, u64),
    Next(Option<u32>),
    Freeze,
}

fn operations(keys: u32) -> impl Strategy<Value = Vec<Operation>> {
    let key = 0..keys;
    let flags = prop::sample::select(vec![0, 0, 0, 0, 1, 2, 3, 4, 5, 8]);
    let operation = prop_oneof![
        4 => (key.clone(), prop::sample::select(vec![0, 0, 0, 0, 0, 4, 1]))
            .prop_map(|(key, flags)| Operation::Get(key, flags)),
        8 => (key.clone(), any::<u8>(), flags).prop_map(|(key, value, flags)| Operation::Set(key, value, flags)),
        3 => key.clone().prop_map(Operation::Remove),
        2 => (key.clone(), prop::sample::select(vec![0, 0, 0, 4, 1]))
            .prop_map(|(key, flags)| Operation::Take(key, flags)),
        3 => prop::option::of(key).prop_map(Operation::Next),
    ];
    (prop::collection::vec(operation, 1..80), any::<bool>()).prop_map(|(mut operations, freeze)| {
        if freeze {
            let place = operations.len() * 3 / 4;
            operations.insert(place, Operation::Freeze);
            operations.push(Operation::Freeze);
        }
        operations
    })
}

/// All keys, by asking for one after another.
fn walk(mut next: impl FnMut(Option<&[u8]>) -> Result<Vec<u8>, Errno>) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    while let Ok(key) = next(keys.last().map(Vec::as_slice)) {
        keys.push(key);
        assert!(keys.len() < 10_000, "the walk has no end");
    }
    keys
}

struct Shape {
    definition: MapDefinition,
    keys: u32,
    key: fn(u32) -> Vec<u8>,
    /// Whether keys come in the kernel's order.
    ordered: bool,
}

fn plain_key(number: u32) -> Vec<u8> {
    key(number).to_vec()
}

fn no_key(_: u32) -> Vec<u8> {
    Vec::new()
}

/// Prefixes of all lengths, and some that are too long, that share octets.
fn prefix(number: u32) -> Vec<u8> {
    let len = number % 35;
    let octets =
        [[10, 0, 0, 0], [10, 128, 3, 0], [10, 128, 255, 1], [192, 0, 2, 77]][(number / 35 % 4) as usize];
    [len.to_ne_bytes(), octets].concat()
}

fn compare(shape: &Shape, operations: &[Operation]) -> Result<(), TestCaseError> {
    let memory = memory(processors());
    let ours = create(&memory, shape.definition.clone()).unwrap();
    let theirs = Theirs::create(&shape.definition, ours.value_len()).unwrap();
    for operation in operations {
        step(shape, &ours, &theirs, operation)?;
    }
    let (our_keys, their_keys) = (walk(|key| ours.next_key(key)), walk(|key| theirs.next_key(key)));
    if shape.ordered {
        prop_assert_eq!(our_keys, their_keys);
    } else {
        let set = |keys: Vec<Vec<u8>>| keys.into_iter().collect::<BTreeSet<_>>();
        prop_assert_eq!(our_keys.len(), their_keys.len());
        prop_assert_eq!(set(our_keys), set(their_keys));
    }
    Ok(())
}

fn step(shape: &Shape, ours: &Map, theirs: &Theirs, operation: &Operation) -> Result<(), TestCaseError> {
    match operation.clone() {
        Operation::Get(number, flags) => {
            let key = (shape.key)(number);
            prop_assert_eq!(
                ours.get(&key, flags),
                theirs.read(MAP_LOOKUP, &key, flags),
                "{:?}",
                operation
            );
        }
        Operation::Set(number, value, flags) => {
            let key = (shape.key)(number);
            let value: Vec<u8> = (0..ours.value_len())
                .map(|octet| value.wrapping_add(octet as u8))
                .collect();
            prop_assert_eq!(
                ours.set(&key, &value, flags),
                theirs.set(&key, &value, flags),
                "{:?}",
                operation
            );
        }
        Operation::Remove(number) => {
            let key = (shape.key)(number);
            prop_assert_eq!(ours.remove(&key), theirs.remove(&key), "{:?}", operation);
        }
        Operation::Take(number, flags) => {
            let key = (shape.key)(number);
            prop_assert_eq!(
                ours.take(&key, flags),
                theirs.read(MAP_TAKE, &key, flags),
                "{:?}",
                operation
            );
        }
        Operation::Next(number) => {
            let key = number.map(|number| (shape.key)(number));
            let key = key.as_deref().filter(|key| !key.is_empty());
            let (our, their) = (ours.next_key(key), theirs.next_key(key));
            if shape.ordered {
                prop_assert_eq!(our, their, "{:?}", operation);
            } else if key.is_none() {
                prop_assert_eq!(our.map(|_| ()), their.map(|_| ()), "{:?}", operation);
            }
        }
        Operation::Freeze => prop_assert_eq!(ours.freeze(), theirs.freeze(), "freeze"),
    }
    Ok(())
}

fn agree(name: &str, shape: &Shape, cases: u32) {
    if !permitted(name) {
        return;
    }
    runner(cases)
        .run(&operations(shape.keys), |operations| compare(shape, &operations))
        .unwrap();
}

fn keyed(kind: u32, value_size: u32, max_entries: u32, flags: u32, keys: u32, ordered: bool) -> Shape {
    Shape {
        definition: definition(kind, 4, value_size, max_entries, flags),
        keys,
        key: plain_key,
        ordered,
    }
}

#[test]
fn arrays_agree() {
    agree("map::kernel::array", &keyed(kind::ARRAY, 12, 5, 0, 8, true), 200);
    agree(
        "map::kernel::array",
        &keyed(kind::ARRAY, 8, 5, flag::RDONLY_PROG, 8, true),
        50,
    );
    agree(
        "map::kernel::array",
        &keyed(kind::ARRAY, 8, 5, flag::RDONLY, 8, true),
        50,
    );
    agree(
        "map::kernel::array",
        &keyed(kind::ARRAY, 8, 5, flag::WRONLY, 8, true),
        50,
    );
    agree(
        "map::kernel::percpu_array",
        &keyed(kind::PERCPU_ARRAY, 12, 5, 0, 8, true),
        200,
    );
}

#[test]
fn hashes_agree() {
    agree("map::kernel::hash", &keyed(kind::HASH, 12, 5, 0, 8, false), 300);
    let late = flag::NO_PREALLOC;
    agree("map::kernel::hash", &keyed(kind::HASH, 8, 5, late, 8, false), 200);
    agree(
        "map::kernel::hash",
        &keyed(kind::HASH, 8, 5, flag::RDONLY_PROG, 8, false),
        50,
    );
    agree(
        "map::kernel::percpu_hash",
        &keyed(kind::PERCPU_HASH, 12, 5, 0, 8, false),
        200,
    );
    agree(
        "map::kernel::percpu_hash",
        &keyed(kind::PERCPU_HASH, 8, 5, late, 8, false),
        100,
    );
}

#[test]
fn lru_hashes_agree_as_long_as_there_is_room() {
    agree(
        "map::kernel::lru_hash",
        &keyed(kind::LRU_HASH, 12, 1024, 0, 8, false),
        200,
    );
    let own = flag::NO_COMMON_LRU;
    agree(
        "map::kernel::lru_hash",
        &keyed(kind::LRU_HASH, 12, 1023, own, 8, false),
        100,
    );
    agree(
        "map::kernel::lru_percpu_hash",
        &keyed(kind::LRU_PERCPU_HASH, 12, 1024, 0, 8, false),
        200,
    );
}

#[test]
fn tries_agree() {
    let shape = |max_entries, keys| Shape {
        definition: definition(kind::LPM_TRIE, 8, 8, max_entries, flag::NO_PREALLOC),
        keys,
        key: prefix,
        ordered: true,
    };
    agree("map::kernel::lpm_trie", &shape(1000, 140), 400);
    agree("map::kernel::lpm_trie", &shape(5, 140), 200);
}

#[test]
fn queues_stacks_and_filters_agree() {
    for kind in [kind::QUEUE, kind::STACK] {
        let shape = Shape {
            definition: definition(kind, 0, 12, 4, 0),
            keys: 1,
            key: no_key,
            ordered: true,
        };
        agree("map::kernel::queue", &shape, 300);
    }
}
