//! A run of mapped memory: of ours, of a device's registers, or shared with the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Mapped memory, unmapped when it is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory; who shares it with whom is the users' affair.
unsafe impl Send for Mapping {}
// SAFETY: as above: only raw pointers into it are given out.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private memory, zeroed; `flags` such as `MAP_POPULATE`.
    pub(super) fn anonymous(len: usize, flags: i32) -> io::Result<Mapping> {
        Mapping::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags, -1, 0)
    }

    /// A part of what a descriptor stands for, shared with whoever else has it.
    pub(super) fn shared(
        fd: BorrowedFd<'_>,
        offset: libc::off_t,
        len: usize,
        flags: i32,
    ) -> io::Result<Mapping> {
        Mapping::map(len, libc::MAP_SHARED | flags, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, ACCESS, flags, fd, offset) };
        match NonNull::new(start.cast()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => Ok(Mapping { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Puts a part of a file in place of octets from `offset` on, which nobody uses yet.
    pub(super) fn replace(&mut self, offset: usize, len: usize, file: &File, at: u64) -> io::Result<()> {
        let misfit = || io::Error::from_raw_os_error(libc::EINVAL);
        let place = self.at::<u8>(offset, len).ok_or_else(misfit)?.as_ptr();
        let at = libc::off_t::try_from(at).map_err(|_| misfit())?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the range lies in this mapping, which nobody uses yet.
        let start = unsafe { libc::mmap(place.cast(), len, ACCESS, flags, file.as_raw_fd(), at) };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The first octet.
    #[inline]
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its length in octets.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Values from `offset` on; None unless all of them are in it and aligned.
    #[inline]
    pub(super) fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let end = size_of::<T>().checked_mul(count)?.checked_add(offset)?;
        if end > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset is inside of the mapping.
        Some(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and its users are gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
