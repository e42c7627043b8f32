//! Queues and stacks. Programs see copies of values only, so these lie in private memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blocks::Blocks;
use super::error::MapError;
use super::header::Header;
use super::kind::{EXIST, MapKind, NOEXIST};
use super::lock::SpinLock;
use super::value::copy;
use crate::Errno;
use crate::memory::{Memory, Section};
use crate::object::MapDefinition;

/// A queue or a stack: a ring with one vacant place.
///
/// The cursor, which a new process finds again, has both ends of the ring, so that it changes in one store.
#[derive(Debug)]
pub(super) struct Queue {
    memory: Arc<Memory>,
    header: Header,
    lock: SpinLock,
    start: u32,
    value_size: u32,
    places: u32,
    last_in_first_out: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// Where the next value goes.
    head: u32,
    /// The oldest value.
    tail: u32,
}

impl Queue {
    pub(super) fn new(
        blocks: &mut Blocks<'_>,
        header: &Header,
        kind: MapKind,
        definition: &MapDefinition,
    ) -> Result<Queue, MapError> {
        let places = definition.max_entries.saturating_add(1);
        let block = blocks.take(
            Section::Private,
            u64::from(places),
            u64::from(definition.value_size),
        )?;
        let queue = Queue {
            memory: blocks.memory().clone(),
            header: header.clone(),
            lock: SpinLock::default(),
            start: block.start,
            value_size: definition.value_size,
            places,
            last_in_first_out: kind == MapKind::Stack,
        };
        let Cursor { head, tail } = queue.cursor();
        if head >= places || tail >= places {
            return Err(blocks.unusable("its ends do not lie in it"));
        }
        Ok(queue)
    }

    fn cursor(&self) -> Cursor {
        let both = self.header.cursor().load(Ordering::Relaxed);
        Cursor {
            head: both as u32,
            tail: (both >> 32) as u32,
        }
    }

    fn set_cursor(&self, cursor: Cursor) {
        let both = u64::from(cursor.head) | u64::from(cursor.tail) << 32;
        self.header.cursor().store(both, Ordering::Release);
    }

    fn next(&self, place: u32) -> u32 {
        if place + 1 == self.places { 0 } else { place + 1 }
    }

    fn at(&self, place: u32) -> *mut u8 {
        // Both factors come from one block, which is shorter than 4 GiB.
        self.memory
            .private()
            .at(self.start.wrapping_add(place.wrapping_mul(self.value_size)))
    }

    pub(super) fn len(&self) -> u32 {
        let Cursor { head, tail } = self.cursor();
        if head >= tail {
            head - tail
        } else {
            self.places - tail + head
        }
    }

    /// As queue_stack_maps.c: `queue_stack_map_push_elem`.
    ///
    /// # Safety
    /// The value can be read.
    pub(super) unsafe fn push(&self, value: *const u8, flags: u64) -> Result<(), Errno> {
        if flags & NOEXIST != 0 || flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let _held = self.lock.lock();
        let mut cursor = self.cursor();
        let head = cursor.head;
        cursor.head = self.next(head);
        if cursor.head == cursor.tail {
            if flags & EXIST == 0 {
                return Err(Errno::E2BIG);
            }
            cursor.tail = self.next(cursor.tail);
        }
        // SAFETY: the caller guarantees the value; each place has room for one, and this one is vacant.
        unsafe { copy(value, self.at(head), self.value_size as usize) };
        self.set_cursor(cursor);
        Ok(())
    }

    /// As `__queue_map_get` and `__stack_map_get`: of an empty one the value is zero.
    ///
    /// # Safety
    /// The value can be written.
    pub(super) unsafe fn get(&self, value: *mut u8, take: bool) -> Result<(), Errno> {
        let _held = self.lock.lock();
        let mut cursor = self.cursor();
        if cursor.head == cursor.tail {
            // SAFETY: the caller guarantees the value.
            unsafe { value.write_bytes(0, self.value_size as usize) };
            return Err(Errno::ENOENT);
        }
        let place = if self.last_in_first_out {
            cursor.head = cursor.head.checked_sub(1).unwrap_or(self.places - 1);
            cursor.head
        } else {
            let place = cursor.tail;
            cursor.tail = self.next(place);
            place
        };
        // SAFETY: the caller guarantees the value; the place is one of this map's.
        unsafe { copy(self.at(place), value, self.value_size as usize) };
        if take {
            self.set_cursor(cursor);
        }
        Ok(())
    }
}
