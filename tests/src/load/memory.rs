//! The memory of one port's guest: one shared file, in huge pages if there are any, handed out in areas.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::driver::memory::SharedRegion;

/// Octets of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;
/// Octets of a cache line.
pub const LINE: usize = 64;
/// Guest address of the first octet: not the address in this process, so that nobody takes the one for the other.
const GUEST: u64 = 0x1_0000_0000;

/// A guest's memory.
#[derive(Debug)]
pub struct Memory {
    mapping: Arc<Mapping>,
    file: File,
    /// Octets that were handed out.
    used: usize,
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory; it is accessed by atomics and by copies only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Memory {
    /// Maps `len` octets, rounded up to whole huge pages.
    pub fn new(len: usize, huge: bool) -> io::Result<Memory> {
        let len = len.next_multiple_of(HUGE_PAGE);
        let file = memory_file(len, huge)?;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping of our own file, at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                file.as_raw_fd(),
                0,
            )
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let start = start.ok_or_else(io::Error::last_os_error)?;
        Ok(Memory {
            mapping: Arc::new(Mapping { start, len }),
            file,
            used: 0,
        })
    }

    /// How it is told to the back end.
    pub fn region(&self) -> SharedRegion {
        SharedRegion {
            guest: GUEST,
            size: self.mapping.len as u64,
            user: self.mapping.start.as_ptr() as u64,
            file_offset: 0,
            fd: self.file.as_raw_fd(),
        }
    }

    /// Hands out `len` octets, which begin on a page.
    pub fn area(&mut self, len: usize) -> io::Result<Area> {
        let start = self.used.next_multiple_of(4096);
        if len > self.mapping.len.saturating_sub(start) {
            return Err(io::Error::other("the guest's memory was laid out too small"));
        }
        self.used = start + len;
        Ok(Area {
            mapping: Arc::clone(&self.mapping),
            // SAFETY: inside the mapping, as compared above.
            start: unsafe { self.mapping.start.add(start) },
            guest: GUEST + start as u64,
            len,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and every area has let go of it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A part of a guest's memory, for one use. Every access is inside it or panics.
#[derive(Debug)]
pub struct Area {
    #[expect(dead_code, reason = "keeps the memory mapped")]
    mapping: Arc<Mapping>,
    start: NonNull<u8>,
    guest: u64,
    len: usize,
}

// SAFETY: as `Mapping`, which it points into.
unsafe impl Send for Area {}

impl Area {
    /// Guest address of an octet.
    pub fn guest(&self, at: usize) -> u64 {
        self.guest + at as u64
    }

    /// Address of an octet in this process.
    pub fn user(&self, at: usize) -> u64 {
        self.start.as_ptr() as u64 + at as u64
    }

    /// A 16-bit field that the device reads or writes.
    #[inline]
    pub fn u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: inside the area and aligned; only ever accessed by atomics.
        unsafe { AtomicU16::from_ptr(self.field(at)) }
    }

    /// A 32-bit field that the device reads or writes.
    #[inline]
    pub fn u32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU32::from_ptr(self.field(at)) }
    }

    /// A 64-bit field that the device reads or writes.
    #[inline]
    pub fn u64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU64::from_ptr(self.field(at)) }
    }

    /// Copies octets out.
    #[inline]
    pub fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        let from = self.octets(at, N).cast::<[u8; N]>();
        // SAFETY: `octets` checked the bounds, and octets have no alignment. Volatile: the device may write meanwhile.
        unsafe { from.read_volatile() }
    }

    /// Copies octets out.
    pub fn read_into(&self, at: usize, octets: &mut [u8]) {
        let from = self.octets(at, octets.len());
        // SAFETY: as in `read`; what is copied into is ours.
        unsafe { from.copy_to_nonoverlapping(octets.as_mut_ptr(), octets.len()) };
    }

    /// Copies octets in.
    #[inline]
    pub fn write(&self, at: usize, octets: &[u8]) {
        let to = self.octets(at, octets.len());
        // SAFETY: as in `read`; guest memory and our own do not overlap.
        unsafe { to.copy_from_nonoverlapping(octets.as_ptr(), octets.len()) };
    }

    /// Has a line fetched that is going to be read.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        let address = self.user(at);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint that faults nowhere.
        unsafe {
            asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// Has a line fetched that is going to be written.
    #[inline]
    pub fn prefetch_to_write(&self, at: usize) {
        let address = self.user(at);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint that faults nowhere.
        unsafe {
            asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    #[inline]
    fn octets(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at <= self.len && len <= self.len - at, "outside of the area");
        // SAFETY: inside the area, as asserted.
        unsafe { self.start.as_ptr().add(at) }
    }

    #[inline]
    fn field<T>(&self, at: usize) -> *mut T {
        // Areas begin on a page, so an aligned offset is an aligned address.
        assert!(at.is_multiple_of(size_of::<T>()), "a field that is not aligned");
        self.octets(at, size_of::<T>()).cast()
    }
}

/// Free huge pages of this machine.
pub fn free_huge_pages() -> usize {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn memory_file(len: usize, huge: bool) -> io::Result<File> {
    let pages = if huge {
        libc::MFD_HUGETLB | libc::MFD_HUGE_2MB
    } else {
        0
    };
    // SAFETY: the name is a C string; the descriptor that is made is ours.
    let file = unsafe {
        let fd = libc::memfd_create(c"load".as_ptr(), libc::MFD_CLOEXEC | pages);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(len as u64)?;
    Ok(file)
}
