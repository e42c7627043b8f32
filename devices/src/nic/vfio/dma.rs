//! Memory that a device reads and writes.

use std::sync::Arc;

use super::Container;
use crate::nic::NicError;
use crate::nic::mapping::Mapping;
use crate::packet::Slice;

const HUGE_PAGE: usize = 2 << 20;

/// Memory that the device sees at one run of addresses. Parts of it are taken one after the other.
///
/// The device writes whenever it likes: what is read is copied or looked at once, and only lengths that were checked count.
#[derive(Debug)]
pub struct DmaMemory {
    shown: Arc<Shown>,
    offset: usize,
    len: usize,
}

/// Memory that the container's devices see.
#[derive(Debug)]
struct Shown {
    memory: Mapping,
    iova: u64,
    /// None in tests.
    container: Option<Arc<Container>>,
}

impl DmaMemory {
    /// Zeroed memory that the container's devices see; of huge pages if the host has some to spare.
    pub fn new(container: &Arc<Container>, len: usize, nic: &str) -> Result<DmaMemory, NicError> {
        let len = len.next_multiple_of(HUGE_PAGE);
        let memory = anonymous(len, libc::MAP_HUGETLB)
            .or_else(|_| anonymous(len, 0))
            .map_err(|_| {
                NicError::last(
                    format!("get {} KiB of memory for", len >> 10),
                    nic,
                    "take fewer queues",
                )
            })?;
        // SAFETY: the memory has just been mapped for nothing else, and is unmapped only behind the device's mapping.
        let iova = unsafe { container.map(memory.start(), len) }?;
        let shown = Shown {
            memory,
            iova,
            container: Some(Arc::clone(container)),
        };
        Ok(DmaMemory {
            shown: Arc::new(shown),
            offset: 0,
            len,
        })
    }

    /// Memory that no device sees, at the address 1 << 32.
    #[cfg(test)]
    pub fn without_device(len: usize) -> DmaMemory {
        let len = len.next_multiple_of(4096);
        let shown = Shown {
            memory: anonymous(len, 0).expect("there is memory"),
            iova: 1 << 32,
            container: None,
        };
        DmaMemory {
            shown: Arc::new(shown),
            offset: 0,
            len,
        }
    }

    /// The same memory once more: what a device would see.
    #[cfg(test)]
    pub fn alias(&self) -> DmaMemory {
        DmaMemory {
            shown: Arc::clone(&self.shown),
            offset: self.offset,
            len: self.len,
        }
    }

    /// Takes the first `len` octets out, which start at a page.
    ///
    /// # Panics
    /// If that many are not left: a driver asks for as much as it takes.
    pub fn take(&mut self, len: usize) -> DmaMemory {
        let room = len.next_multiple_of(4096);
        assert!(room <= self.len, "the driver asked for enough memory");
        let part = DmaMemory {
            shown: Arc::clone(&self.shown),
            offset: self.offset,
            len,
        };
        self.offset += room;
        self.len -= room;
        part
    }

    /// Where the device sees the octet at `offset`.
    #[inline]
    pub fn iova(&self, offset: usize) -> u64 {
        self.shown.iova + (self.offset + offset) as u64
    }

    /// Length in octets.
    pub fn octets(&self) -> usize {
        self.len
    }

    /// Reads what the device may have written, at a multiple of its length.
    ///
    /// # Panics
    /// If it lies outside; as all below.
    #[inline]
    pub fn read<T: Plain>(&self, offset: usize) -> T {
        // SAFETY: the place lies in the mapping and is aligned; all octets make a value of such a type.
        unsafe { self.at(offset, size_of::<T>()).cast::<T>().read_volatile() }
    }

    /// Writes what the device may read.
    #[inline]
    pub fn write<T: Plain>(&self, offset: usize, value: T) {
        // SAFETY: as above.
        unsafe {
            self.at(offset, size_of::<T>()).cast::<T>().write_volatile(value);
        }
    }

    /// Copies octets in.
    ///
    /// # Safety
    /// `from` is mapped and readable.
    #[inline]
    pub unsafe fn copy_in(&self, offset: usize, from: Slice) {
        // SAFETY: the caller answers for the source; the target lies in the mapping and overlaps no memory of others.
        unsafe { std::ptr::copy_nonoverlapping(from.ptr, self.at(offset, from.len), from.len) };
    }

    /// Octets where they are, for as long as this memory is.
    #[inline]
    pub fn slice(&self, offset: usize, len: usize) -> Slice {
        Slice {
            ptr: self.at(offset, len),
            len,
        }
    }

    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "inside of the memory"
        );
        // SAFETY: the place lies in the mapping, for `offset + len` does and this part does.
        unsafe { self.shown.memory.start().add(self.offset + offset) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // First the device's view, then with the memory itself ours: the other order would let it write to memory of
        // others. Nobody has a pointer into it any more: whoever looks at it holds a part, which holds this.
        if let Some(container) = &self.container {
            container.unmap(self.iova, self.memory.len());
        }
    }
}

/// Integers that a device and we exchange.
///
/// # Safety
/// Every octet string of its length is a value.
pub unsafe trait Plain: Copy {}
// SAFETY: every octet string is an integer.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

fn anonymous(len: usize, flags: i32) -> std::io::Result<Mapping> {
    let memory = Mapping::anonymous(len, flags)?;
    // A child of a fork must not share pages that a device writes to.
    // SAFETY: the mapping is ours.
    unsafe { libc::madvise(memory.start().cast(), len, libc::MADV_DONTFORK) };
    Ok(memory)
}
