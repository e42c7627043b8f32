//! Which definitions of maps make sense: the kernel's own rules, so that what fails there fails here.

use super::kind::{MapKind, flag};
use crate::Errno;
use crate::object::MapDefinition;

/// The most octets that the kernel can allocate at a time (linux/slab.h: `KMALLOC_MAX_SIZE`).
const KMALLOC_MAX: u64 = 4 << 20;
/// What the kernel keeps beside a key and a value (hashtab.c: `struct htab_elem`).
const HASH_ELEMENT: u64 = 48;
/// As lpm_trie.c: `struct lpm_trie_node`.
const TRIE_NODE: u64 = 40;
/// The most octets of a per-CPU value (linux/percpu.h: `PCPU_MIN_UNIT_SIZE`).
const PERCPU_VALUE_MAX: u32 = 32 << 10;
/// The most octets of a prefix (lpm_trie.c: `LPM_DATA_SIZE_MAX`).
pub(super) const PREFIX_MAX: usize = 256;

type Check = Result<(), (&'static str, Errno)>;

fn refuse(condition: bool, what: &'static str, errno: Errno) -> Check {
    if condition { Err((what, errno)) } else { Ok(()) }
}

/// Checks a definition in the order in which the kernel does, so that the errno is the same.
pub(super) fn check(kind: MapKind, definition: &MapDefinition) -> Check {
    let both = flag::RDONLY | flag::WRONLY;
    refuse(
        kind != MapKind::BloomFilter && definition.extra != 0,
        "map_extra is for bloom filters",
        Errno::EINVAL,
    )?;
    // syscall.c: bpf_get_file_flag
    refuse(
        definition.flags & both == both,
        "BPF_F_RDONLY and BPF_F_WRONLY exclude each other",
        Errno::EINVAL,
    )?;
    match kind {
        MapKind::Array | MapKind::PercpuArray => check_array(kind, definition),
        MapKind::ProgArray | MapKind::PerfEventArray | MapKind::ArrayOfMaps => {
            check_value_of_id(definition)?;
            refuse(
                definition.flags & (flag::RDONLY_PROG | flag::WRONLY_PROG) != 0,
                "this kind of map cannot be restricted for programs",
                Errno::EINVAL,
            )?;
            check_array(kind, definition)
        }
        MapKind::Hash | MapKind::PercpuHash | MapKind::LruHash | MapKind::LruPercpuHash => {
            check_hash(kind, definition)
        }
        MapKind::HashOfMaps => {
            check_value_of_id(definition)?;
            check_hash(kind, definition)
        }
        MapKind::LpmTrie => check_trie(definition),
        MapKind::Queue | MapKind::Stack => check_queue(definition),
        MapKind::BloomFilter => check_bloom(definition),
        MapKind::Ringbuf => check_ring(definition),
    }?;
    if kind.is_nested() {
        check_template(definition)?;
    }
    check_spin_lock(kind, definition)
}

fn check_flags(definition: &MapDefinition, allowed: u32) -> Check {
    refuse(
        definition.flags & !(allowed | flag::ACCESS | flag::NUMA_NODE) != 0,
        "it has flags that this kind of map does not know",
        Errno::EINVAL,
    )?;
    let both = flag::RDONLY_PROG | flag::WRONLY_PROG;
    refuse(
        definition.flags & both == both,
        "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other",
        Errno::EINVAL,
    )
}

fn check_value_of_id(definition: &MapDefinition) -> Check {
    refuse(
        definition.value_size != 4,
        "value_size must be 4 in this kind of map",
        Errno::EINVAL,
    )
}

fn check_entries(definition: &MapDefinition) -> Check {
    refuse(definition.max_entries == 0, "max_entries is 0", Errno::EINVAL)
}

// arraymap.c: array_map_alloc_check
fn check_array(kind: MapKind, definition: &MapDefinition) -> Check {
    check_entries(definition)?;
    refuse(
        definition.key_size != 4,
        "key_size of an array must be 4",
        Errno::EINVAL,
    )?;
    refuse(definition.value_size == 0, "value_size is 0", Errno::EINVAL)?;
    check_flags(
        definition,
        flag::MMAPABLE | flag::PRESERVE_ELEMS | flag::INNER_MAP,
    )?;
    refuse(
        kind == MapKind::PercpuArray && definition.flags & flag::NUMA_NODE != 0,
        "a per-CPU map has no NUMA node",
        Errno::EINVAL,
    )?;
    refuse(
        kind != MapKind::Array && definition.flags & (flag::MMAPABLE | flag::INNER_MAP) != 0,
        "BPF_F_MMAPABLE and BPF_F_INNER_MAP are for plain arrays",
        Errno::EINVAL,
    )?;
    refuse(
        kind != MapKind::PerfEventArray && definition.flags & flag::PRESERVE_ELEMS != 0,
        "BPF_F_PRESERVE_ELEMS is for perf event arrays",
        Errno::EINVAL,
    )?;
    refuse(
        definition.value_size > i32::MAX as u32,
        "value_size is too big",
        Errno::E2BIG,
    )?;
    check_percpu_value(kind, definition)
}

fn check_percpu_value(kind: MapKind, definition: &MapDefinition) -> Check {
    refuse(
        kind.is_percpu() && definition.value_size > PERCPU_VALUE_MAX,
        "a per-CPU value can have 32 KiB",
        Errno::E2BIG,
    )
}

// hashtab.c: htab_map_alloc_check
fn check_hash(kind: MapKind, definition: &MapDefinition) -> Check {
    let own_lru = definition.flags & flag::NO_COMMON_LRU != 0;
    check_flags(
        definition,
        flag::NO_PREALLOC | flag::NO_COMMON_LRU | flag::ZERO_SEED,
    )?;
    refuse(
        own_lru && !kind.is_lru(),
        "BPF_F_NO_COMMON_LRU is for LRU maps",
        Errno::EINVAL,
    )?;
    refuse(
        kind.is_lru() && definition.flags & flag::NO_PREALLOC != 0,
        "an LRU map is always allocated in advance",
        Errno::ENOTSUPP,
    )?;
    refuse(
        (kind.is_percpu() || own_lru) && definition.flags & flag::NUMA_NODE != 0,
        "a per-CPU map has no NUMA node",
        Errno::EINVAL,
    )?;
    check_entries(definition)?;
    refuse(definition.key_size == 0, "key_size is 0", Errno::EINVAL)?;
    refuse(definition.value_size == 0, "value_size is 0", Errno::EINVAL)?;
    let element = u64::from(definition.key_size) + u64::from(definition.value_size);
    refuse(
        element >= KMALLOC_MAX - HASH_ELEMENT,
        "key and value are too big",
        Errno::E2BIG,
    )?;
    check_percpu_value(kind, definition)?;
    refuse(
        definition.max_entries > 1 << 31,
        "max_entries is too big",
        Errno::E2BIG,
    )
}

// lpm_trie.c: trie_alloc
fn check_trie(definition: &MapDefinition) -> Check {
    check_entries(definition)?;
    refuse(
        definition.flags & flag::NO_PREALLOC == 0,
        "an LPM trie needs BPF_F_NO_PREALLOC",
        Errno::EINVAL,
    )?;
    check_flags(definition, flag::NO_PREALLOC)?;
    refuse(
        !(5..=4 + PREFIX_MAX as u32).contains(&definition.key_size),
        "key_size of an LPM trie must be 4 and 1 to 256 octets of prefix",
        Errno::EINVAL,
    )?;
    let most = KMALLOC_MAX - PREFIX_MAX as u64 - TRIE_NODE;
    refuse(
        definition.value_size == 0 || u64::from(definition.value_size) > most,
        "value_size is 0 or too big",
        Errno::EINVAL,
    )
}

// queue_stack_maps.c: queue_stack_map_alloc_check
fn check_queue(definition: &MapDefinition) -> Check {
    check_entries(definition)?;
    refuse(definition.key_size != 0, "key_size must be 0", Errno::EINVAL)?;
    refuse(definition.value_size == 0, "value_size is 0", Errno::EINVAL)?;
    check_flags(definition, 0)?;
    refuse(
        u64::from(definition.value_size) > KMALLOC_MAX,
        "value_size is too big",
        Errno::E2BIG,
    )?;
    refuse(
        definition.max_entries >= u32::MAX / definition.value_size,
        "max_entries is too big",
        Errno::E2BIG,
    )
}

// bloom_filter.c: bloom_map_alloc_check, bloom_map_alloc
fn check_bloom(definition: &MapDefinition) -> Check {
    refuse(
        u64::from(definition.value_size) > KMALLOC_MAX,
        "value_size is too big",
        Errno::E2BIG,
    )?;
    refuse(definition.key_size != 0, "key_size must be 0", Errno::EINVAL)?;
    refuse(definition.value_size == 0, "value_size is 0", Errno::EINVAL)?;
    check_entries(definition)?;
    check_flags(definition, flag::ZERO_SEED)?;
    refuse(
        definition.extra > 15,
        "a bloom filter can have 15 hash functions",
        Errno::EINVAL,
    )
}

// ringbuf.c: ringbuf_map_alloc; it knows no other flag.
fn check_ring(definition: &MapDefinition) -> Check {
    refuse(
        definition.flags & !flag::NUMA_NODE != 0,
        "it has flags that this kind of map does not know",
        Errno::EINVAL,
    )?;
    refuse(
        definition.key_size != 0 || definition.value_size != 0,
        "key_size and value_size must be 0",
        Errno::EINVAL,
    )?;
    refuse(
        !definition.max_entries.is_power_of_two() || !definition.max_entries.is_multiple_of(4096),
        "max_entries must be a power of two, and of whole pages",
        Errno::EINVAL,
    )
}

// map_in_map.c: bpf_map_meta_alloc
fn check_template(definition: &MapDefinition) -> Check {
    let Some(inner) = &definition.inner else {
        return Err(("it does not say what maps it holds", Errno::EBADF));
    };
    let Some(kind) = MapKind::of(inner.kind) else {
        return Err(("it holds maps of a kind that is not supported", Errno::EINVAL));
    };
    refuse(kind.is_nested(), "it holds maps that hold maps", Errno::EINVAL)?;
    // A prog_array has no map_meta_equal.
    refuse(
        kind == MapKind::ProgArray,
        "it holds maps of programs",
        Errno::ENOTSUPP,
    )?;
    check(kind, inner)
}

// syscall.c: map_check_btf
fn check_spin_lock(kind: MapKind, definition: &MapDefinition) -> Check {
    let Some(offset) = definition.spin_lock_offset else {
        return Ok(());
    };
    refuse(
        !matches!(kind, MapKind::Hash | MapKind::Array),
        "a spin lock can be in the values of hashes and arrays",
        Errno::EOPNOTSUPP,
    )?;
    refuse(
        definition.flags & (flag::RDONLY_PROG | flag::WRONLY_PROG) != 0,
        "a value with a spin lock must be open to programs",
        Errno::EACCES,
    )?;
    refuse(
        !offset.is_multiple_of(4) || definition.value_size < 4 || offset > definition.value_size - 4,
        "the spin lock does not lie in the value",
        Errno::EINVAL,
    )
}

/// Whether a map may be put into a map of maps (map_in_map.c: `bpf_map_meta_equal`, arraymap.c:
/// `array_map_meta_equal`).
pub(super) fn fits(template: &MapDefinition, map: &MapDefinition) -> bool {
    let same = (
        template.kind,
        template.key_size,
        template.value_size,
        template.flags,
    ) == (map.kind, map.key_size, map.value_size, map.flags)
        && template.spin_lock_offset == map.spin_lock_offset;
    let any_length = MapKind::of(map.kind) != Some(MapKind::Array) || template.flags & flag::INNER_MAP != 0;
    same && (any_length || template.max_entries == map.max_entries)
}
