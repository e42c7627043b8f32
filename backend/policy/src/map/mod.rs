//! Maps: what programs keep from one frame to the next, and share with whoever configures them.
//!
//! Values lie in map memory, in the windows of all programs of the domain, so a program may write anything into them
//! and, in hash tables, into the keys beside them. What a map trusts lies where programs cannot write: an index in the
//! host's memory, and, in private map memory, which slots hold an entry, from which a new process makes the index
//! again. The semantics and the errno of every operation are those of the kernel's maps (kernel/bpf/).

mod array;
mod attributes;
mod blocks;
mod bloom;
mod control;
mod create;
mod error;
mod event;
mod hash;
mod hasher;
mod header;
mod kind;
mod lock;
mod lpm;
mod lru;
mod nested;
mod pages;
mod perf;
mod programs;
mod queue;
mod ring;
mod slots;
mod table;
mod trie;
mod value;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

pub use error::MapError;
pub use event::Event;
pub use kind::{ANY, EXIST, F_LOCK, MapKind, NOEXIST, flag};

use crate::memory::{Block, Memory, Section, View};
use crate::object::MapDefinition;
use crate::{Errno, Program};
use array::Array;
use bloom::Bloom;
use hash::{Hash, Whose};
use header::Header;
use lpm::Lpm;
use nested::Nested;
use perf::Perf;
use programs::Programs;
use queue::Queue;
use ring::Ring;

/// Through whose eyes: which window's view, and which shard's per-CPU values.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub view: View,
    pub shard: usize,
}

/// Where the values of an array lie, so that a lookup can be done in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayLayout {
    /// Window address of the first value; in a per-CPU array it is the same for all shards.
    pub start: u32,
    /// Octets from one value to the next.
    pub stride: u32,
    /// How many values there are.
    pub len: u32,
    /// What to mask a valid index with, if anything.
    pub index_mask: Option<u32>,
}

/// A map.
#[derive(Debug)]
pub struct Map {
    id: u32,
    handle: u16,
    kind: MapKind,
    definition: MapDefinition,
    memory: Arc<Memory>,
    blocks: Vec<Block>,
    header: Header,
    /// Held by the thread of the control plane that changes the map.
    control: Mutex<()>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Array(Array),
    Hash(Box<Hash>),
    Lpm(Box<Lpm>),
    Queue(Queue),
    Bloom(Bloom),
    Ring(Ring),
    Perf(Perf),
    Programs(Programs),
    Nested(Box<Nested>),
}

/// The section of values that the definition does not make per-CPU.
fn section(definition: &MapDefinition) -> Section {
    if definition.flags & flag::RDONLY_PROG != 0 {
        Section::ReadOnly
    } else {
        Section::Shared
    }
}

/// An array's key as a number.
fn index_of(key: &[u8]) -> Option<u32> {
    key.try_into().ok().map(u32::from_ne_bytes)
}

/// What programs do. Keys and values are pointers to memory of a window which was checked to be there, and which
/// others may write at any time; they have the octets that the definition says.
///
/// # Safety
/// Of all unsafe functions here: those octets can be read, or written where a value is handed out, and no other
/// thread is in a call with the same shard number.
impl Map {
    /// The window address of a key's value; for a map of maps the handle of the map. Counts as use (LRU).
    ///
    /// # Safety
    /// See above.
    #[inline]
    pub unsafe fn lookup(&self, at: At, key: *const u8) -> Option<u32> {
        if self.definition.flags & flag::WRONLY_PROG != 0 {
            return None;
        }
        // SAFETY: the caller guarantees the key.
        unsafe {
            match &self.content {
                Content::Hash(hash) => hash.lookup(at.view, key),
                Content::Array(array) => array.lookup(key.cast::<u32>().read_unaligned()),
                Content::Lpm(lpm) => lpm.lookup(key),
                Content::Nested(nested) => nested.lookup(key),
                _ => None,
            }
        }
    }

    /// As [`Map::lookup`] with the values of a given shard. The window has only the shard's own: of others there is
    /// no address to be had, and the answer is None, as if there were no such processor.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn lookup_percpu(&self, at: At, key: *const u8, cpu: u32) -> Option<u32> {
        if !self.kind.is_percpu() || cpu as usize != at.shard {
            return None;
        }
        // SAFETY: the caller guarantees the key.
        unsafe { self.lookup(at, key) }
    }

    /// Creates or replaces an entry. Of a per-CPU map it is the shard's own value.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn update(&self, at: At, key: *const u8, value: *const u8, flags: u64) -> Result<(), Errno> {
        self.check_program_writes()?;
        // SAFETY: the caller guarantees all that is needed.
        unsafe {
            match &self.content {
                Content::Hash(hash) => hash.update(at, key, value, flags, Whose::Own).map(|_| ()),
                Content::Array(array) => {
                    let index = key.cast::<u32>().read_unaligned();
                    array.update(at, index, value, flags, Whose::Own)
                }
                Content::Lpm(lpm) => lpm.update(at, key, value, flags),
                Content::Ring(_) => Err(Errno::ENOTSUPP),
                _ => Err(Errno::EINVAL),
            }
        }
    }

    /// Takes an entry away.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn delete(&self, at: At, key: *const u8) -> Result<(), Errno> {
        self.check_program_writes()?;
        // SAFETY: the caller guarantees all that is needed.
        unsafe {
            match &self.content {
                Content::Hash(hash) => hash.delete(at, key, |_| ()),
                Content::Lpm(lpm) => lpm.delete(at, key),
                Content::Ring(_) => Err(Errno::ENOTSUPP),
                Content::Bloom(_) => Err(Errno::EOPNOTSUPP),
                _ => Err(Errno::EINVAL),
            }
        }
    }

    /// Adds a value to a queue, a stack or a bloom filter.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn push(&self, _at: At, value: *const u8, flags: u64) -> Result<(), Errno> {
        self.check_program_writes()?;
        // SAFETY: the caller guarantees all that is needed.
        unsafe { self.push_any(value, flags) }
    }

    unsafe fn push_any(&self, value: *const u8, flags: u64) -> Result<(), Errno> {
        // SAFETY: the caller guarantees the value.
        unsafe {
            match &self.content {
                Content::Queue(queue) => queue.push(value, flags),
                Content::Bloom(bloom) => bloom.push(value, flags),
                _ => Err(Errno::EINVAL),
            }
        }
    }

    /// Takes the value that is next out of a queue or stack.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn pop(&self, _at: At, value: *mut u8) -> Result<(), Errno> {
        self.check_program_writes()?;
        match &self.content {
            // SAFETY: the caller guarantees the value.
            Content::Queue(queue) => unsafe { queue.get(value, true) },
            Content::Bloom(_) => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Copies the value that is next in a queue or stack; of a bloom filter, says whether it has the value.
    ///
    /// # Safety
    /// See above.
    pub unsafe fn peek(&self, _at: At, value: *mut u8) -> Result<(), Errno> {
        if self.definition.flags & flag::WRONLY_PROG != 0 {
            return Err(Errno::EACCES);
        }
        match &self.content {
            // SAFETY: the caller guarantees the value.
            Content::Queue(queue) => unsafe { queue.get(value, false) },
            // SAFETY: as above.
            Content::Bloom(bloom) => unsafe { bloom.peek(value) },
            _ => Err(Errno::EINVAL),
        }
    }

    /// What the kernel's verifier refuses when the program is loaded.
    #[inline(always)]
    fn check_program_writes(&self) -> Result<(), Errno> {
        if self.definition.flags & flag::RDONLY_PROG != 0 {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Visits all entries with the window addresses of key and value, and says how many (`bpf_for_each_map_elem`).
    /// The visitor may use the map in any way.
    pub fn for_each(&self, at: At, visit: &mut dyn FnMut(u32, u32) -> ControlFlow<()>) -> Result<u32, Errno> {
        match &self.content {
            Content::Array(array) => Ok(array.for_each(at, visit)),
            Content::Hash(hash) => Ok(hash.for_each(visit)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The program at an index of a prog_array. It may be run until all runs of now are over.
    #[inline]
    pub fn program(&self, index: u32) -> Option<*const Program> {
        match &self.content {
            Content::Programs(programs) => programs.get(index),
            _ => None,
        }
    }

    /// Where the values of a plain or per-CPU array lie.
    pub fn array_layout(&self) -> Option<ArrayLayout> {
        match &self.content {
            Content::Array(array) if self.definition.flags & flag::WRONLY_PROG == 0 => Some(array.layout()),
            _ => None,
        }
    }
}

/// Ring buffers and perf event arrays.
impl Map {
    fn ring(&self) -> Result<&Ring, Errno> {
        match &self.content {
            Content::Ring(ring) => Ok(ring),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Room for a record: its window address. It is the shard's until it is submitted or discarded.
    pub fn ring_reserve(&self, at: At, len: u64, flags: u64) -> Option<u32> {
        self.ring().ok()?.reserve(at, len, flags)
    }

    /// Whether a window address lies in this ring, as that of a record does.
    pub fn ring_holds(&self, sample: u32) -> bool {
        self.ring().is_ok_and(|ring| ring.holds(sample))
    }

    /// Hands a record to the consumer. EINVAL if no record is being written there.
    pub fn ring_submit(&self, sample: u32, _flags: u64) -> Result<(), Errno> {
        self.ring()?.submit(sample)
    }

    /// Gives a record up. EINVAL if no record is being written there.
    pub fn ring_discard(&self, sample: u32, _flags: u64) -> Result<(), Errno> {
        self.ring()?.discard(sample)
    }

    /// Gives up all records that a shard is writing: for the end of a run that left some.
    pub fn ring_release_all(&self, at: At) {
        if let Ok(ring) = self.ring() {
            ring.release_all(at.shard);
        }
    }

    /// Copies octets into a record of their own.
    ///
    /// # Safety
    /// `len` octets can be read at `data`.
    pub unsafe fn ring_output(&self, at: At, data: *const u8, len: u64, flags: u64) -> Result<(), Errno> {
        // SAFETY: the caller guarantees the octets.
        unsafe { self.ring()?.output(at, data, len, flags) }
    }

    /// How full the ring is and so on, by `BPF_RB_*`.
    pub fn ring_query(&self, flags: u64) -> u64 {
        self.ring().map_or(0, |ring| ring.query(flags))
    }

    /// Makes a record of a perf event array of several parts. `index` is `BPF_F_CURRENT_CPU` or a number, and the
    /// other flags of `bpf_perf_event_output`.
    ///
    /// # Safety
    /// The parts can be read, and no other thread is in a call with the same shard number.
    pub unsafe fn perf_output(&self, at: At, index: u64, parts: &[(*const u8, u32)]) -> Result<(), Errno> {
        match &self.content {
            // SAFETY: the caller guarantees both.
            Content::Perf(perf) => unsafe { perf.output(at, index, parts) },
            _ => Err(Errno::EINVAL),
        }
    }

    /// Hands out what programs have told, in order, and says how many records there were. One consumer at a time.
    pub fn events(&self, take: &mut dyn FnMut(Event)) -> usize {
        match &self.content {
            Content::Ring(ring) => ring.consume(self.at().view, take),
            Content::Perf(perf) => perf.consume(take),
            _ => 0,
        }
    }
}
