//! How values are copied in and out of map memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::lock::Patience;
use crate::Errno;
use crate::memory::{Block, Memory, Section, View};
use crate::object::MapDefinition;

/// Copies octets that others may write meanwhile, and that may overlap.
///
/// # Safety
/// `len` octets can be read at `from` and written at `to`.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: all accesses are within the `len` octets.
    unsafe {
        if len <= 64 && len.is_multiple_of(8) {
            for word in 0..len / 8 {
                let octets = from.cast::<u64>().add(word).read_unaligned();
                to.cast::<u64>().add(word).write_unaligned(octets);
            }
        } else {
            std::ptr::copy(from, to, len);
        }
    }
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// Its octets.
    pub size: u32,
    /// Where its `struct bpf_spin_lock` lies, which is never copied (linux/bpf.h: `copy_map_value`).
    lock: Option<u32>,
}

/// Octets of a spin lock.
const LOCK_LEN: u32 = 4;

impl Format {
    pub(super) fn new(definition: &MapDefinition) -> Format {
        Format {
            size: definition.value_size,
            lock: definition.spin_lock_offset,
        }
    }

    /// Its octets, rounded up as values lie one behind another.
    pub(super) fn stride(self) -> u32 {
        self.size.next_multiple_of(8)
    }

    pub(super) fn has_lock(self) -> bool {
        self.lock.is_some()
    }

    /// Copies a value into a map, with the octets that fill it up if `whole`.
    ///
    /// # Safety
    /// A value of this format can be read at `from` and lies at `address`.
    #[inline]
    pub(super) unsafe fn store(
        self,
        values: &Values,
        view: View,
        from: *const u8,
        address: u32,
        whole: bool,
    ) {
        let len = if whole { self.stride() } else { self.size };
        // SAFETY: the caller guarantees it.
        unsafe {
            match self.lock {
                None => values.write(view, address, from, len),
                Some(lock) => {
                    let behind = lock + LOCK_LEN;
                    values.write(view, address, from, lock);
                    values.write(
                        view,
                        address + behind,
                        from.add(behind as usize),
                        self.size - behind,
                    );
                }
            }
        }
    }

    /// Opens the lock of a value that is new.
    ///
    /// # Safety
    /// A value of this format lies at `at`.
    #[inline]
    pub(super) unsafe fn open(self, at: *mut u8) {
        if let Some(lock) = self.lock {
            // SAFETY: the lock is in the value, which the caller guarantees.
            unsafe { at.add(lock as usize).cast::<u32>().write_unaligned(0) };
        }
    }

    /// Copies a value out of a map, filled up to the stride; the lock reads as zero.
    ///
    /// # Safety
    /// A value of this format lies at `from`.
    pub(super) unsafe fn load(self, from: *const u8, to: &mut Vec<u8>) {
        let start = to.len();
        to.resize(start + self.stride() as usize, 0);
        // SAFETY: the room was just made; the caller guarantees the value.
        unsafe { copy(from, to.as_mut_ptr().add(start), self.stride() as usize) };
        if let Some(lock) = self.lock {
            let lock = start + lock as usize;
            to[lock..lock + LOCK_LEN as usize].fill(0);
        }
    }

    /// Does something while holding the spin lock in a value. A program may never let go of it: EBUSY.
    ///
    /// # Safety
    /// A value of this format lies at `at`.
    pub(super) unsafe fn locked<T>(self, at: *mut u8, work: impl FnOnce() -> T) -> Result<T, Errno> {
        const TRIES: u32 = 1000;
        let Some(offset) = self.lock else {
            return Err(Errno::EINVAL);
        };
        // SAFETY: the lock is in the value, whose address is a multiple of 4 as its offset is (`check_spin_lock`).
        let lock = unsafe { AtomicU32::from_ptr(at.add(offset as usize).cast()) };
        let mut patience = Patience::default();
        while lock
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            if patience.wait() > TRIES {
                return Err(Errno::EBUSY);
            }
        }
        let result = work();
        lock.store(0, Ordering::Release);
        Ok(result)
    }
}

/// Memory that values lie in, one each `stride` octets.
#[derive(Debug)]
pub(super) struct Values {
    memory: Arc<Memory>,
    section: Section,
    start: u32,
    stride: u32,
}

impl Values {
    pub(super) fn new(memory: &Arc<Memory>, block: Block, stride: u32) -> Values {
        Values {
            memory: memory.clone(),
            section: block.section,
            start: block.start,
            stride,
        }
    }

    #[inline(always)]
    pub(super) fn is_private(&self) -> bool {
        self.section == Section::Private
    }

    pub(super) fn start(&self) -> u32 {
        self.start
    }

    /// Where a slot's octets start. The slot is the host's own number, so it is within the block.
    #[inline(always)]
    pub(super) fn address(&self, slot: u32) -> u32 {
        self.start.wrapping_add(slot.wrapping_mul(self.stride))
    }

    /// Writes to an address among the values.
    ///
    /// # Safety
    /// `len` octets can be read at `from` and lie at `address`.
    #[inline]
    pub(super) unsafe fn write(&self, view: View, address: u32, from: *const u8, len: u32) {
        if self.section == Section::ReadOnly {
            // SAFETY: the caller guarantees the octets.
            return unsafe { self.write_read_only(address, from, len) };
        }
        // SAFETY: the caller guarantees both.
        unsafe { copy(from, view.at(address), len as usize) };
    }

    #[cold]
    unsafe fn write_read_only(&self, address: u32, from: *const u8, len: u32) {
        let mut octets = vec![0; len as usize];
        // SAFETY: the caller guarantees the octets, and the room was just made.
        unsafe { copy(from, octets.as_mut_ptr(), len as usize) };
        let block = Block {
            section: self.section,
            start: address,
            len,
        };
        // The file has this room since the block was allocated, so there is no reason for it to fail.
        let _ = self.memory.write_read_only(block, &octets);
    }
}
