//! Arrays, plain and per-CPU.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::blocks::Blocks;
use super::error::MapError;
use super::hash::Whose;
use super::kind::{EXIST, F_LOCK, MapKind, NOEXIST};
use super::value::{Format, Values};
use super::{ArrayLayout, At, section};
use crate::Errno;
use crate::memory::{Memory, Section, View};
use crate::object::MapDefinition;

/// An array.
#[derive(Debug)]
pub(super) struct Array {
    memory: Arc<Memory>,
    values: Values,
    format: Format,
    len: u32,
    percpu: bool,
    scratch: Scratch,
}

/// Where the keys lie that `bpf_for_each_map_elem` hands out. Calls may nest.
#[derive(Debug)]
struct Scratch {
    start: u32,
    depths: Box<[AtomicU32]>,
}

impl Scratch {
    /// Functions nest no deeper, so neither do calls back.
    const DEPTH: u32 = crate::layout::FRAMES_MAX;
    const LEN: u32 = 8;
}

impl Array {
    pub(super) fn new(
        blocks: &mut Blocks<'_>,
        kind: MapKind,
        definition: &MapDefinition,
    ) -> Result<Array, MapError> {
        let memory = blocks.memory().clone();
        let format = Format::new(definition);
        let percpu = kind.is_percpu();
        let section = if percpu {
            Section::PerShard
        } else {
            section(definition)
        };
        let (len, stride) = (definition.max_entries, format.stride());
        let block = blocks.take(section, u64::from(len), u64::from(stride))?;
        let values = Values::new(&memory, block, stride);
        let scratch = blocks.take(
            Section::PerShard,
            u64::from(Scratch::DEPTH),
            u64::from(Scratch::LEN),
        )?;
        if let (Some(contents), false, false) = (&definition.contents, percpu, blocks.is_former()) {
            let room = u64::from(len) * u64::from(stride);
            let contents = &contents[..contents.len().min(room as usize)];
            // SAFETY: the octets fit into the block, which nobody else uses yet.
            unsafe {
                values.write(
                    memory.view(0),
                    block.start,
                    contents.as_ptr(),
                    contents.len() as u32,
                );
            }
        }
        Ok(Array {
            values,
            format,
            len,
            percpu,
            scratch: Scratch {
                start: scratch.start,
                depths: (0..memory.shards()).map(|_| AtomicU32::new(0)).collect(),
            },
            memory,
        })
    }

    pub(super) fn layout(&self) -> ArrayLayout {
        ArrayLayout {
            start: self.values.start(),
            stride: self.format.stride(),
            len: self.len,
            index_mask: None,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    pub(super) fn lookup(&self, index: u32) -> Option<u32> {
        (index < self.len).then(|| self.values.address(index))
    }

    /// As arraymap.c: `array_map_update_elem`, `bpf_percpu_array_update`.
    ///
    /// # Safety
    /// The value can be read: all of them if they are [`Whose::All`].
    pub(super) unsafe fn update(
        &self,
        at: At,
        index: u32,
        value: *const u8,
        flags: u64,
        whose: Whose,
    ) -> Result<(), Errno> {
        let all = whose == Whose::All && self.percpu;
        let base = if all { flags } else { flags & !F_LOCK };
        if base > EXIST {
            return Err(Errno::EINVAL);
        }
        let address = self.lookup(index).ok_or(Errno::E2BIG)?;
        if flags & NOEXIST != 0 {
            return Err(Errno::EEXIST);
        }
        if flags & F_LOCK != 0 && !self.format.has_lock() {
            return Err(Errno::EINVAL);
        }
        let store = |view: View, from: *const u8| {
            // SAFETY: the caller guarantees the value, and the address is that of one.
            unsafe { self.format.store(&self.values, view, from, address, all) }
        };
        if all {
            for shard in 0..self.memory.shards() {
                store(
                    self.memory.view(shard),
                    value.wrapping_add(shard * self.format.stride() as usize),
                );
            }
            return Ok(());
        }
        if flags & F_LOCK != 0 {
            // SAFETY: the address is that of a value.
            return unsafe { self.format.locked(at.view.at(address), || store(at.view, value)) };
        }
        store(at.view, value);
        Ok(())
    }

    /// A value as the API sees it.
    pub(super) fn read(&self, view: View, index: u32, flags: u64) -> Result<Vec<u8>, Errno> {
        let address = self.lookup(index).ok_or(Errno::ENOENT)?;
        let load = || {
            let mut value = Vec::new();
            // SAFETY: the address is that of a value, in all views.
            unsafe {
                if self.percpu {
                    for shard in 0..self.memory.shards() {
                        self.format.load(self.memory.view(shard).at(address), &mut value);
                    }
                } else {
                    self.format.load(view.at(address), &mut value);
                    value.truncate(self.format.size as usize);
                }
            }
            value
        };
        if flags & F_LOCK == 0 {
            return Ok(load());
        }
        // SAFETY: the address is that of a value.
        unsafe { self.format.locked(view.at(address), load) }
    }

    /// As arraymap.c: `bpf_for_each_array_elem`.
    pub(super) fn for_each(&self, at: At, visit: &mut dyn FnMut(u32, u32) -> ControlFlow<()>) -> u32 {
        let Some(depth) = self.scratch.depths.get(at.shard) else {
            return 0;
        };
        let level = depth.fetch_add(1, Ordering::Relaxed) % Scratch::DEPTH;
        let key = self.scratch.start + level * Scratch::LEN;
        let mut visited = 0;
        for index in 0..self.len {
            // SAFETY: the scratch block is mapped and has room for a key at each level.
            unsafe { at.view.at(key).cast::<u32>().write(index) };
            visited += 1;
            if visit(key, self.values.address(index)).is_break() {
                break;
            }
        }
        depth.fetch_sub(1, Ordering::Relaxed);
        visited
    }
}

/// The index behind another one (arraymap.c: `array_map_get_next_key`).
pub(super) fn next_index(len: u32, after: Option<u32>) -> Result<u32, Errno> {
    match after {
        Some(index) if index < len => Some(index + 1).filter(|next| *next < len).ok_or(Errno::ENOENT),
        _ => Ok(0),
    }
}
