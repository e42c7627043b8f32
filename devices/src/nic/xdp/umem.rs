//! The memory that frames lie in on their way from and to the kernel, and the frames of it that nobody uses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// The size of one frame's room: a page, the most that the kernel takes without huge pages.
pub const CHUNK: usize = 4096;
/// How much of a frame that is received a chunk holds: the kernel keeps `XDP_PACKET_HEADROOM` free.
pub const RX_ROOM: usize = CHUNK - 256;
/// Where a frame to be sent starts in its chunk, with what is asked of the kernel in front of it.
pub const TX_HEADROOM: usize = 64;
/// How much of a frame to be sent a chunk holds.
pub const TX_ROOM: usize = CHUNK - TX_HEADROOM;

/// A run of mapped memory, unmapped when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory; who shares it with whom is the users' affair.
unsafe impl Send for Mapping {}
// SAFETY: as above: only raw pointers into it are given out.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private memory, zeroed and present.
    pub fn private(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        Mapping::map(len, flags, -1, 0)
    }

    /// A part of what a descriptor stands for, shared with the kernel.
    pub fn shared(fd: BorrowedFd<'_>, offset: libc::off_t, len: usize) -> io::Result<Mapping> {
        Mapping::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset) };
        match NonNull::new(start.cast()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => Ok(Mapping { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its length in octets.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Values from `offset` on; None unless all of them are in it and aligned.
    #[inline]
    pub fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
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

/// The memory of one queue: frames to be received first, then frames to be sent.
#[derive(Debug)]
pub struct Umem {
    memory: Mapping,
    frames: usize,
}

impl Umem {
    /// Memory for this many frames each way.
    pub fn new(frames: u32) -> io::Result<Umem> {
        let frames = frames as usize;
        Ok(Umem {
            memory: Mapping::private(2 * frames * CHUNK)?,
            frames,
        })
    }

    /// All of it, for the kernel.
    pub fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// The frames to receive into.
    pub fn to_receive(&self) -> Frames {
        Frames::new(0, self.frames)
    }

    /// The frames to send from.
    pub fn to_send(&self) -> Frames {
        Frames::new(self.frames * CHUNK, self.frames)
    }

    /// The octets that a descriptor speaks of; None if they are not all in it.
    #[inline]
    pub fn octets(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        self.memory.at(usize::try_from(address).ok()?, len)
    }
}

/// The frames of one direction that are not on their way, by their address in the memory.
#[derive(Debug)]
pub struct Frames {
    free: Vec<u64>,
    start: u64,
    end: u64,
}

impl Frames {
    fn new(start: usize, count: usize) -> Frames {
        let address = |index: usize| (start + index * CHUNK) as u64;
        Frames {
            // The first one is taken first.
            free: (0..count).rev().map(address).collect(),
            start: address(0),
            end: address(count),
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Takes one.
    #[inline]
    pub fn take(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// Gives the one back that an address lies in. What is not of this direction is forgotten.
    #[inline]
    pub fn give(&mut self, address: u64) {
        let chunk = address & !(CHUNK as u64 - 1);
        let is_ours = (self.start..self.end).contains(&chunk);
        if is_ours && self.free.len() < self.free.capacity() {
            self.free.push(chunk);
        }
    }
}
