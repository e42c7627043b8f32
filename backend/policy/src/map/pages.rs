//! Big arrays of the host that start as zero and cost nothing until they are used.

use std::alloc::Layout;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

/// Types of which all octets may be zero, and which need no destructor.
///
/// # Safety
/// Both must be true, and the alignment no more than a page.
pub(super) unsafe trait Zeroable: Sync {}

// SAFETY: integers.
unsafe impl Zeroable for std::sync::atomic::AtomicU8 {}
// SAFETY: integers.
unsafe impl Zeroable for std::sync::atomic::AtomicU32 {}
// SAFETY: integers.
unsafe impl Zeroable for std::sync::atomic::AtomicU64 {}
// SAFETY: a pointer that may be null.
unsafe impl<T> Zeroable for std::sync::atomic::AtomicPtr<T> {}

/// An array that programs cannot reach, and that is gone when the process ends.
#[derive(Debug)]
pub(super) struct Pages<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the pages are owned, and shared references to `T` may go anywhere (`Zeroable: Sync`).
unsafe impl<T: Zeroable> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroable> Sync for Pages<T> {}

/// From here on the system is asked for pages; what is smaller comes from the heap.
const MAPPED: usize = 64 << 10;

impl<T: Zeroable> Pages<T> {
    pub(super) fn new(len: usize) -> io::Result<Pages<T>> {
        let layout = Pages::<T>::layout(len).ok_or(io::ErrorKind::OutOfMemory)?;
        if layout.size() < MAPPED {
            // SAFETY: the layout has octets.
            let address = unsafe { std::alloc::alloc_zeroed(layout) };
            let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            return Ok(Pages { start, len });
        }
        // SAFETY: a new mapping at an address that the system chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Entries are met in no order: big pages spare a walk through the page tables for each.
        // SAFETY: advice on a mapping of ours.
        unsafe { libc::madvise(address, layout.size(), libc::MADV_HUGEPAGE) };
        let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { start, len })
    }
}

impl<T> Pages<T> {
    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<T>(len.max(1)).ok()
    }

    /// Octets that it takes at most.
    pub(super) fn octets(&self) -> u64 {
        Pages::<T>::layout(self.len).map_or(0, |layout| layout.size() as u64)
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: allocated in `new`, zero is a value of `T` (`Zeroable`), and the type allows shared changes only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        let Some(layout) = Pages::<T>::layout(self.len) else {
            return;
        };
        // SAFETY: allocated in `new` in the same way, and nothing refers to it any more.
        unsafe {
            if layout.size() < MAPPED {
                std::alloc::dealloc(self.start.as_ptr().cast(), layout);
            } else {
                libc::munmap(self.start.as_ptr().cast(), layout.size());
            }
        }
    }
}
