//! Memory that a device reads and writes.

use std::ptr::NonNull;
use std::sync::Arc;

use super::Container;
use crate::nic::NicError;
use crate::packet::Slice;

const HUGE_PAGE: usize = 2 << 20;

/// Memory that the device sees at one run of addresses. Parts of it are taken one after the other.
///
/// The device writes whenever it likes: what is read is copied or looked at once, and only lengths that were checked count.
#[derive(Debug)]
pub struct DmaMemory {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    iova: u64,
    /// None in tests.
    container: Option<Arc<Container>>,
}

// SAFETY: the mapping is plain memory until it is dropped; all access is through raw pointers and volatile.
unsafe impl Send for Mapping {}
// SAFETY: as above; parts that are written do not overlap, since they are taken one after the other.
unsafe impl Sync for Mapping {}

impl DmaMemory {
    /// Zeroed memory that the container's devices see; of huge pages if the host has some to spare.
    pub fn new(container: &Arc<Container>, len: usize, nic: &str) -> Result<DmaMemory, NicError> {
        let len = len.next_multiple_of(HUGE_PAGE);
        let base = anonymous(len, libc::MAP_HUGETLB)
            .or_else(|| anonymous(len, 0))
            .ok_or_else(|| {
                NicError::last(
                    format!("get {} KiB of memory for", len >> 10),
                    nic,
                    "take fewer queues",
                )
            })?;
        // SAFETY: the memory has just been mapped for nothing else, and is unmapped only behind the device's mapping.
        let iova = unsafe { container.map(base.as_ptr(), len) }.inspect_err(|_| {
            // SAFETY: it was mapped above and nobody knows of it.
            unsafe { libc::munmap(base.as_ptr().cast(), len) };
        })?;
        let mapping = Mapping {
            base,
            len,
            iova,
            container: Some(Arc::clone(container)),
        };
        Ok(DmaMemory {
            mapping: Arc::new(mapping),
            offset: 0,
            len,
        })
    }

    /// Memory that no device sees, at the address 1 << 32.
    #[cfg(test)]
    pub fn without_device(len: usize) -> DmaMemory {
        let len = len.next_multiple_of(4096);
        let mapping = Mapping {
            base: anonymous(len, 0).expect("there is memory"),
            len,
            iova: 1 << 32,
            container: None,
        };
        DmaMemory {
            mapping: Arc::new(mapping),
            offset: 0,
            len,
        }
    }

    /// The same memory once more: what a device would see.
    #[cfg(test)]
    pub fn alias(&self) -> DmaMemory {
        DmaMemory {
            mapping: Arc::clone(&self.mapping),
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
            mapping: Arc::clone(&self.mapping),
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
        self.mapping.iova + (self.offset + offset) as u64
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
        unsafe { self.mapping.base.as_ptr().add(self.offset + offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First the device's view, then ours: the other order would let it write to memory of others.
        if let Some(container) = &self.container {
            container.unmap(self.iova, self.len);
        }
        // SAFETY: nobody has a pointer into it any more: whoever looks at it holds a part, which holds the mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
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

fn anonymous(len: usize, flags: i32) -> Option<NonNull<u8>> {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
    );
    // SAFETY: a new mapping at a place of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return None;
    }
    // A child of a fork must not share pages that a device writes to.
    // SAFETY: the mapping is ours.
    unsafe { libc::madvise(base, len, libc::MADV_DONTFORK) };
    NonNull::new(base.cast())
}
