//! The buffer that tells a back end, after its end, what the one before it had in flight (vhost-user: Inflight I/O
//! tracking).

mod packed;
mod split;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion};

pub use packed::{PackedInflight, Slot};
pub use split::SplitInflight;

use super::MAX_QUEUE_SIZE;
use crate::memory::sigbus;

/// The version of a region in use; zero is one that nothing is known of.
const VERSION: u16 = 1;
/// Where `version` is, in either format.
const VERSION_AT: usize = 8;
/// The specification leaves open where a queue's region ends; libvhost-user of QEMU and vhost of DPDK round up to this.
const ALIGNMENT: u64 = 64;

/// What a buffer has room for. // U16
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InflightLayout {
    /// Number of queues.
    pub queues: u16,
    /// Number of descriptors of the largest.
    pub queue_size: u16,
    /// Whether the queues are packed: the formats differ in their books too.
    pub packed: bool,
}

/// A buffer that the front end keeps, mapped. One region a queue, in the order of the queues.
pub struct InflightBuffer {
    // First, so that the range is no longer guarded when it is unmapped.
    _guard: sigbus::Guard,
    mapping: MmapRegion,
    layout: InflightLayout,
}

/// A buffer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InflightError {
    /// No queue, or no descriptor.
    #[error(
        "an inflight buffer for {queues} queues of {queue_size} descriptors; a queue has 1 to {MAX_QUEUE_SIZE}"
    )]
    BadLayout {
        /// Number of queues.
        queues: u16,
        /// Number of descriptors.
        queue_size: u16,
    },
    /// Shorter than its queues need.
    #[error("an inflight buffer of {found} octets; its queues need {needed}")]
    TooShort {
        /// What was given.
        found: u64,
        /// What is needed.
        needed: u64,
    },
    /// The file ends before the buffer does.
    #[error("the file behind the inflight buffer has {0} octets, fewer than the buffer reaches to")]
    ShortFile(u64),
    /// The file is not mappable there.
    #[error("cannot map the inflight buffer: {0}")]
    Map(#[from] vm_memory::mmap::MmapRegionError),
    /// No file could be made.
    #[error("cannot make a file for the inflight buffer: {0}")]
    Create(#[from] io::Error),
    /// The daemon maps more than it can guard against its loss.
    #[error("cannot guard the inflight buffer: all guests together have too many regions")]
    Unguarded,
}

impl InflightLayout {
    /// Octets of the whole buffer.
    pub fn len(&self) -> u64 {
        u64::from(self.queues) * self.region_len()
    }

    /// Whether it has room for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn region_len(&self) -> u64 {
        let (header, entry) = match self.packed {
            true => (size_of::<packed::Header>(), size_of::<packed::Entry>()),
            false => (size_of::<split::Header>(), size_of::<split::Entry>()),
        };
        (header as u64 + entry as u64 * u64::from(self.queue_size)).next_multiple_of(ALIGNMENT)
    }

    fn check(&self) -> Result<(), InflightError> {
        if self.queues == 0 || !(1..=MAX_QUEUE_SIZE).contains(&self.queue_size) {
            return Err(InflightError::BadLayout {
                queues: self.queues,
                queue_size: self.queue_size,
            });
        }
        Ok(())
    }

    /// Makes an empty buffer for the front end to keep: a file of zeros whose length stays.
    pub fn create(&self) -> Result<File, InflightError> {
        self.check()?;
        // SAFETY: the name is a string with an end.
        let fd =
            unsafe { libc::memfd_create(c"inflight".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(self.len())?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the call takes a descriptor, which is open, and numbers.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(file)
    }
}

impl std::fmt::Debug for InflightBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InflightBuffer")
            .field("layout", &self.layout)
            .finish()
    }
}

impl InflightBuffer {
    /// Maps the `size` octets of `file` from `offset` on, as far as the layout needs them.
    pub fn map(
        file: File,
        offset: u64,
        size: u64,
        layout: InflightLayout,
    ) -> Result<InflightBuffer, InflightError> {
        layout.check()?;
        let needed = layout.len();
        if size < needed {
            return Err(InflightError::TooShort { found: size, needed });
        }
        if let Ok(metadata) = file.metadata()
            && metadata.is_file()
            && offset.checked_add(needed).is_none_or(|end| end > metadata.len())
        {
            return Err(InflightError::ShortFile(metadata.len()));
        }
        let mapping = MmapRegionBuilder::new(needed as usize)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file, offset))
            .build()?;
        let guard = sigbus::Guard::new(mapping.as_ptr() as usize, needed as usize);
        Ok(InflightBuffer {
            _guard: guard.ok_or(InflightError::Unguarded)?,
            mapping,
            layout,
        })
    }

    /// Says of a queue that nothing of it is in flight, and that its front end knows where it stands.
    pub fn retire(&self, queue: usize) {
        if let Some(start) = self.region(queue) {
            // SAFETY: the octets lie in the region, which has a header; it is shared with atomic accesses, and aligned
            // as the mapping's start and every region's length are multiples of `ALIGNMENT`.
            let version = unsafe { AtomicU16::from_ptr(start.add(VERSION_AT).cast()) };
            version.store(0, Ordering::Release);
        }
    }

    fn region(&self, queue: usize) -> Option<*mut u8> {
        (queue < usize::from(self.layout.queues)).then(|| {
            let offset = queue * self.layout.region_len() as usize;
            self.mapping.as_ptr().wrapping_add(offset)
        })
    }
}

/// One queue's region. Both ends may write to it at any time, so its fields are atomic and nothing in it is trusted.
struct Region<Header, Entry> {
    header: *const Header,
    entries: *const Entry,
    size: u16,
    buffer: Arc<InflightBuffer>,
}

// SAFETY: the pointers lead into `buffer`, which stays mapped; what they point to is accessed with atomics only.
unsafe impl<Header, Entry> Send for Region<Header, Entry> {}

impl<Header, Entry> std::fmt::Debug for Region<Header, Entry> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("size", &self.size)
            .field("buffer", &self.buffer)
            .finish()
    }
}

impl<Header, Entry> Region<Header, Entry> {
    /// The region of a queue with `size` descriptors, if the buffer has one that is large enough. Header and entry are
    /// those of the format.
    fn new(buffer: &Arc<InflightBuffer>, queue: usize, size: u32, packed: bool) -> Option<Self> {
        let size = u16::try_from(size).ok()?;
        if packed != buffer.layout.packed || size > buffer.layout.queue_size {
            return None;
        }
        let header = buffer.region(queue)?;
        Some(Region {
            header: header.cast(),
            entries: header.wrapping_add(size_of::<Header>()).cast(),
            size,
            buffer: buffer.clone(),
        })
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: `new` took a region of `buffer`, which is mapped, aligned and long enough for a header.
        unsafe { &*self.header }
    }

    #[inline]
    fn entries(&self) -> &[Entry] {
        // SAFETY: `new` checked that the region has room for so many entries behind its header.
        unsafe { std::slice::from_raw_parts(self.entries, usize::from(self.size)) }
    }
}

#[cfg(test)]
mod tests;
