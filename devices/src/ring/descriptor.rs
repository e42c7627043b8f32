//! Descriptors, copied once out of the guest's memory and before they are needed.

use super::{Buffer, ChainId};
use crate::memory::{GuestMemory, RegionCache};
use crate::prefetch;

/// The buffer continues in the next descriptor.
pub const DESC_F_NEXT: u16 = 1;
/// The device writes to the buffer.
pub const DESC_F_WRITE: u16 = 2;
const DESC_F_INDIRECT: u16 = 4;

/// How far a ring looks ahead. As many frames as a burst has.
pub const LOOKAHEAD: usize = 64;

/// A descriptor, of either format: they differ in their last four octets only (virtio 1.3, 2.7.5 and 2.8.13).
#[derive(Debug, Clone, Copy, Default)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub address: u64,
    /// Octets of the buffer.
    pub len: u32,
    /// What it is.
    pub flags: u16,
    /// Split: the index of the descriptor that follows, if one does. Packed: the buffer id.
    pub next: u16,
}

impl Descriptor {
    /// Whether the buffer continues in another descriptor.
    #[inline]
    pub fn has_next(&self) -> bool {
        self.flags & DESC_F_NEXT != 0
    }

    /// Whether the device writes to the buffer.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.flags & DESC_F_WRITE != 0
    }

    /// Whether the buffer is a table of descriptors.
    #[inline]
    pub fn is_indirect(&self) -> bool {
        self.flags & DESC_F_INDIRECT != 0
    }

    /// The same octets in the packed format, where the id comes before the flags (virtio 1.3, 2.8.13).
    #[inline]
    pub fn packed(self) -> Descriptor {
        Descriptor {
            flags: self.next,
            next: self.flags,
            ..self
        }
    }

    /// Whether it makes a chain of its own.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.flags & (DESC_F_NEXT | DESC_F_INDIRECT) == 0
    }
}

/// Reads a descriptor of the split format.
///
/// # Safety
/// 16 octets must be readable at `ptr`. Each is read once, whatever the driver does meanwhile.
#[inline]
pub unsafe fn read_descriptor(ptr: *const u8) -> Descriptor {
    let words = if ptr.cast::<u64>().is_aligned() {
        // SAFETY: readable by the caller's promise, aligned by the test.
        unsafe {
            [
                ptr.cast::<u64>().read_volatile(),
                ptr.cast::<u64>().add(1).read_volatile(),
            ]
        }
    } else {
        // SAFETY: readable by the caller's promise; octets have no alignment.
        let octets: [u8; 16] = std::array::from_fn(|offset| unsafe { ptr.add(offset).read_volatile() });
        let octets = u128::from_ne_bytes(octets).to_le();
        [(octets as u64).to_le(), ((octets >> 64) as u64).to_le()]
    };
    let rest = u64::from_le(words[1]);
    Descriptor {
        address: u64::from_le(words[0]),
        len: rest as u32,
        flags: (rest >> 32) as u16,
        next: (rest >> 48) as u16,
    }
}

/// A descriptor that was looked at ahead of its use. This copy is the only one that is used.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The copy.
    pub descriptor: Descriptor,
    /// Where its whole buffer is in our memory; null if it lies in no region or several, or is a table.
    pub run: *mut u8,
    /// Head index of a split chain, buffer id of a packed descriptor.
    pub id: u16,
}

/// A chain of one buffer that lies in one piece: what most chains are.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What it is returned by.
    pub id: ChainId,
    /// Its octets.
    pub buffer: Buffer,
    /// Whether the device fills it.
    pub writable: bool,
}

impl Run {
    /// Has its octets fetched as far as `len`, if that is more than the look ahead has fetched and worth it.
    #[inline]
    pub fn fetch(&self, len: usize) {
        let end = len.min(self.buffer.len);
        if end <= 4 * prefetch::LINE {
            return;
        }
        for offset in (2 * prefetch::LINE..end).step_by(prefetch::LINE) {
            let line = self.buffer.ptr.wrapping_add(offset);
            match self.writable {
                true => prefetch::for_write(line),
                false => prefetch::for_read(line),
            }
        }
    }
}

impl Ready {
    /// An entry of which no more is known than its id.
    #[inline]
    pub const fn of(id: u16) -> Ready {
        Ready {
            descriptor: Descriptor {
                address: 0,
                len: 0,
                flags: 0,
                next: 0,
            },
            run: std::ptr::null_mut(),
            id,
        }
    }

    /// As a chain of its own, which must be whole and found.
    #[inline]
    pub fn whole(&self, slots: u16) -> Run {
        Run {
            id: ChainId::new(self.id, slots),
            buffer: Buffer {
                ptr: self.run,
                len: self.descriptor.len as usize,
                guest: self.descriptor.address,
            },
            writable: self.descriptor.is_writable(),
        }
    }

    /// Takes a descriptor, finds its buffer and has its first octets fetched.
    #[inline]
    pub fn resolve(&mut self, descriptor: Descriptor, memory: &GuestMemory, cache: &mut RegionCache) {
        self.descriptor = descriptor;
        let Some((run, len)) = memory.run_at(descriptor.address, cache) else {
            return;
        };
        if descriptor.is_indirect() {
            prefetch::for_read(run);
            return;
        }
        let next_line = run.wrapping_add(prefetch::LINE);
        let is_longer = descriptor.len as usize > prefetch::LINE;
        if descriptor.is_writable() {
            prefetch::for_write(run);
            if is_longer {
                prefetch::for_write(next_line);
            }
        } else {
            prefetch::for_read(run);
            if is_longer {
                prefetch::for_read(next_line);
            }
        }
        if len >= u64::from(descriptor.len) && descriptor.len > 0 {
            self.run = run;
        }
    }
}

/// The descriptors that come next, first in, first out.
#[derive(Debug)]
pub struct Lookahead {
    entries: Box<[Ready; LOOKAHEAD]>,
    first: u16,
    len: u16,
}

impl Default for Lookahead {
    fn default() -> Lookahead {
        Lookahead {
            entries: Box::new([Ready::of(0); LOOKAHEAD]),
            first: 0,
            len: 0,
        }
    }
}

impl Lookahead {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> u16 {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more fit, after what is left has moved to the front if that is worth it.
    #[inline]
    pub fn room(&mut self) -> u16 {
        if usize::from(self.first) >= LOOKAHEAD / 2 {
            let (first, len) = (usize::from(self.first), usize::from(self.len));
            self.entries.copy_within(first..first + len, 0);
            self.first = 0;
        }
        LOOKAHEAD as u16 - self.first - self.len
    }

    /// Adds an entry. There must be [`Self::room`].
    #[inline]
    pub fn push(&mut self, ready: Ready) {
        self.entries[usize::from(self.first + self.len)] = ready;
        self.len += 1;
    }

    /// The oldest, if it is a chain of one buffer that lies in one piece.
    #[inline]
    pub fn peek_whole(&self) -> Option<&Ready> {
        if self.len == 0 {
            return None;
        }
        let ready = &self.entries[usize::from(self.first)];
        (!ready.run.is_null() && ready.descriptor.is_whole()).then_some(ready)
    }

    /// Takes the oldest out.
    #[inline]
    pub fn pop(&mut self) -> Option<Ready> {
        if self.len == 0 {
            return None;
        }
        let ready = self.entries[usize::from(self.first)];
        self.len -= 1;
        self.first = if self.len == 0 { 0 } else { self.first + 1 };
        Some(ready)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        (self.first, self.len) = (0, 0);
    }
}
