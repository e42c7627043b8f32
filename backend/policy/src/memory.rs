//! The memory of a map domain: map values in files that are mapped at the same place in the window of every shard.
//!
//! A shard is a thread that runs programs, one at a time. Each has a window of its own, so that it has a context, a
//! stack and a frame of its own, and all windows of a domain show the same maps.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::layout::{
    CONTEXT, CONTEXT_LEN, GUARD_LEN, PACKET, PACKET_LEN, PER_SHARD, PER_SHARD_MAX, READ_ONLY, READ_ONLY_MAX,
    SHARED, SHARED_MAX, STACK, STACK_LEN, WINDOW_LEN,
};

const PAGE: u64 = 4096;
/// Blocks start at multiples of this, so that two maps share no cache line.
const ALIGNMENT: u32 = 64;

/// A kind of memory that maps are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Programs can read it.
    ReadOnly,
    /// Programs can read and write it; all shards see the same octets.
    Shared,
    /// Programs can read and write it; each shard sees octets of its own.
    PerShard,
    /// Programs cannot reach it: what a map must be able to trust, and must find again after a restart.
    Private,
}

impl Section {
    const ALL: [Section; 4] = [
        Section::ReadOnly,
        Section::Shared,
        Section::PerShard,
        Section::Private,
    ];

    /// The address of its first octet: in the window, or, for private memory, in a view of its own.
    fn start(self) -> u32 {
        match self {
            Section::ReadOnly => READ_ONLY,
            Section::Shared => SHARED,
            Section::PerShard => PER_SHARD,
            Section::Private => 0,
        }
    }

    fn capacity(self) -> u32 {
        match self {
            Section::ReadOnly => READ_ONLY_MAX,
            Section::Shared => SHARED_MAX,
            Section::PerShard => PER_SHARD_MAX,
            Section::Private => 0xffff_0000,
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Section::ReadOnly => "read-only",
            Section::Shared => "shared",
            Section::PerShard => "per-shard",
            Section::Private => "private",
        }
    }
}

/// A run of octets that belongs to one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where it is.
    pub section: Section,
    /// Its first octet: a window address, or an offset into the private memory.
    pub start: u32,
    /// Its length in octets.
    pub len: u32,
}

/// How one shard sees the memory: add a window address and you have a pointer.
#[derive(Debug, Clone, Copy)]
pub struct View(NonNull<u8>);

// SAFETY: a view is an address; whoever dereferences it answers for the access.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Where a window address lies. Dereferencing it is up to the caller, who must know that it is mapped.
    #[inline(always)]
    pub fn at(self, address: u32) -> *mut u8 {
        self.0.as_ptr().wrapping_add(address as usize)
    }
}

/// Why memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The window has no room for it.
    #[error(
        "{wanted} octets of {section:?} map memory do not fit: a domain has {capacity}, of which {used} are in use"
    )]
    Full {
        section: Section,
        wanted: u64,
        used: u32,
        capacity: u32,
    },
    /// The system has no room for it.
    #[error("cannot {step} map memory: {source}")]
    System { step: &'static str, source: io::Error },
    /// A block from a former life does not lie where it could have lain.
    #[error("there can be no {0:?} in this map memory")]
    Impossible(Block),
}

/// The memory of a domain.
#[derive(Debug)]
pub struct Memory {
    windows: Box<[Mapping]>,
    private: Mapping,
    files: [File; 4],
    /// Octets of each section that are mapped, for checks.
    mapped: [AtomicU32; 4],
    allocator: Mutex<[Allocator; 4]>,
}

#[derive(Debug, Default)]
struct Allocator {
    used: u32,
    free: Vec<(u32, u32)>,
}

/// A reservation with guards around it; unmapped when it goes out of scope.
#[derive(Debug)]
struct Mapping {
    reservation: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range of the process, not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; what lies in it is accessed by raw pointers only.
unsafe impl Sync for Mapping {}

impl Memory {
    /// Memory for `shards` windows. With a directory, the files in it are used, and made if they do not exist:
    /// what maps hold is then found again by [`Memory::claim`]. Without one it is gone when the process ends.
    pub fn new(shards: usize, directory: Option<&Path>) -> Result<Memory, MemoryError> {
        let windows = (0..shards).map(|_| Mapping::window()).collect::<Result<_, _>>()?;
        let private = Mapping::reserve(WINDOW_LEN + 2 * GUARD_LEN)?;
        let [read_only, shared, per_shard, private_file] = Section::ALL.map(|section| match directory {
            Some(directory) => OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(directory.join(section.file_name())),
            None => memfd(section.file_name()),
        });
        let open =
            |file: io::Result<File>| file.map_err(|source| MemoryError::System { step: "open", source });
        Ok(Memory {
            windows,
            private,
            files: [
                open(read_only)?,
                open(shared)?,
                open(per_shard)?,
                open(private_file)?,
            ],
            mapped: Default::default(),
            allocator: Mutex::default(),
        })
    }

    /// How many windows there are.
    pub fn shards(&self) -> usize {
        self.windows.len()
    }

    /// How a shard sees the memory.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn view(&self, shard: usize) -> View {
        View(self.windows[shard].at_guard_end())
    }

    /// The private memory, as a view in which its offsets are addresses.
    pub fn private(&self) -> View {
        View(self.private.at_guard_end())
    }

    /// Octets for a map, all zero and mapped in every window. Threads that run programs are not disturbed.
    pub fn allocate(&self, section: Section, len: u64) -> Result<Block, MemoryError> {
        let mut allocators = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        let allocator = &mut allocators[section as usize];
        let used = allocator.used;
        let full = || MemoryError::Full {
            section,
            wanted: len,
            used,
            capacity: section.capacity(),
        };
        let rounded = u32::try_from(len.max(1))
            .ok()
            .and_then(|len| len.checked_next_multiple_of(ALIGNMENT))
            .ok_or_else(full)?;
        let reused = allocator.free.iter().position(|(_, len)| *len >= rounded);
        let offset = match reused {
            Some(index) => {
                let (start, len) = allocator.free[index];
                if len == rounded {
                    allocator.free.swap_remove(index);
                } else {
                    allocator.free[index] = (start + rounded, len - rounded);
                }
                start
            }
            None => {
                let end = used
                    .checked_add(rounded)
                    .filter(|end| *end <= section.capacity())
                    .ok_or_else(full)?;
                self.extend(section, end, true)?;
                allocator.used = end;
                used
            }
        };
        let block = Block {
            section,
            start: section.start() + offset,
            len: rounded,
        };
        if reused.is_some() {
            self.zero(block);
        }
        Ok(block)
    }

    /// Takes a block of a former life into use, contents and all. Only before anything is allocated.
    pub fn claim(&self, block: Block) -> Result<(), MemoryError> {
        let mut allocators = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        let allocator = &mut allocators[block.section as usize];
        let impossible = || MemoryError::Impossible(block);
        let offset = block
            .start
            .checked_sub(block.section.start())
            .ok_or_else(impossible)?;
        let end = offset.checked_add(block.len).ok_or_else(impossible)?;
        if end > block.section.capacity()
            || !offset.is_multiple_of(ALIGNMENT)
            || !block.len.is_multiple_of(ALIGNMENT)
            || block.len == 0
        {
            return Err(impossible());
        }
        if end > allocator.used {
            self.extend(block.section, end, false)?;
            if offset > allocator.used {
                allocator.free.push((allocator.used, offset - allocator.used));
            }
            allocator.used = end;
            return Ok(());
        }
        // Cut it out of a hole between blocks that were claimed before.
        let hole = allocator
            .free
            .iter()
            .position(|(start, len)| *start <= offset && end <= start + len)
            .ok_or_else(impossible)?;
        let (start, len) = allocator.free.swap_remove(hole);
        if start < offset {
            allocator.free.push((start, offset - start));
        }
        if end < start + len {
            allocator.free.push((end, start + len - end));
        }
        Ok(())
    }

    /// Gives a block back. The caller has seen to it that nothing refers to it any more.
    pub fn free(&self, block: Block) {
        let mut allocators = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        allocators[block.section as usize]
            .free
            .push((block.start - block.section.start(), block.len));
    }

    /// Whether a program may access `len` octets at a window address of the map sections.
    #[inline]
    pub fn allows(&self, address: u32, len: u32, write: bool) -> bool {
        let within = |section: Section| {
            let offset = address.wrapping_sub(section.start());
            let mapped = self.mapped[section as usize].load(Ordering::Relaxed);
            offset < mapped && len <= mapped - offset
        };
        within(Section::Shared) || within(Section::PerShard) || (!write && within(Section::ReadOnly))
    }

    fn zero(&self, block: Block) {
        let wipe = |view: View| {
            // SAFETY: the block is mapped (`extend`) and nobody else uses it yet. A read-only block is written
            // through its file below.
            unsafe { std::ptr::write_bytes(view.at(block.start), 0, block.len as usize) }
        };
        match block.section {
            Section::Private => wipe(self.private()),
            Section::Shared => wipe(self.view(0)),
            Section::PerShard => (0..self.shards()).for_each(|shard| wipe(self.view(shard))),
            Section::ReadOnly => {
                let _ = self.write_read_only(block, &vec![0; block.len as usize]);
            }
        }
    }

    /// Fills a block that programs can only read.
    pub fn write_read_only(&self, block: Block, octets: &[u8]) -> Result<(), MemoryError> {
        use std::os::unix::fs::FileExt;
        self.files[Section::ReadOnly as usize]
            .write_all_at(octets, u64::from(block.start - READ_ONLY))
            .map_err(|source| MemoryError::System { step: "fill", source })
    }

    /// Makes the first `end` octets of a section accessible in all windows. With `fresh`, what is new becomes zero.
    fn extend(&self, section: Section, end: u32, fresh: bool) -> Result<(), MemoryError> {
        let system = |step| {
            move || MemoryError::System {
                step,
                source: io::Error::last_os_error(),
            }
        };
        let old = u64::from(self.mapped[section as usize].load(Ordering::Relaxed));
        let new = u64::from(end).next_multiple_of(PAGE);
        if new <= old {
            return Ok(());
        }
        let fd = self.files[section as usize].as_raw_fd();
        let copies = if section == Section::PerShard {
            self.shards() as u64
        } else {
            1
        };
        for copy in 0..copies {
            let start = copy * u64::from(PER_SHARD_MAX) + old;
            // A file from a former life may hold what nobody claimed.
            // SAFETY: system calls on a descriptor of ours.
            let failed = unsafe {
                (fresh && libc::fallocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, start as i64, (new - old) as i64) != 0)
                    // Reserved now, so that no access can fail later.
                    || libc::fallocate(fd, 0, start as i64, (new - old) as i64) != 0
            };
            if failed {
                return Err(system("reserve")());
            }
        }
        let map = |view: View, protection: i32, file_offset: u64| {
            // SAFETY: the range lies in a reservation of ours and is not mapped yet.
            let mapped = unsafe {
                libc::mmap(
                    view.at(section.start() + old as u32).cast(),
                    (new - old) as usize,
                    protection,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    fd,
                    file_offset as i64,
                )
            };
            if mapped == libc::MAP_FAILED {
                Err(system("map")())
            } else {
                Ok(())
            }
        };
        let both = libc::PROT_READ | libc::PROT_WRITE;
        match section {
            Section::Private => map(self.private(), both, old)?,
            Section::ReadOnly => {
                (0..self.shards()).try_for_each(|shard| map(self.view(shard), libc::PROT_READ, old))?
            }
            Section::Shared => (0..self.shards()).try_for_each(|shard| map(self.view(shard), both, old))?,
            Section::PerShard => (0..self.shards()).try_for_each(|shard| {
                map(
                    self.view(shard),
                    both,
                    shard as u64 * u64::from(PER_SHARD_MAX) + old,
                )
            })?,
        }
        self.mapped[section as usize].store(new as u32, Ordering::Relaxed);
        Ok(())
    }
}

impl Mapping {
    /// A window with its context, stack and frame.
    fn window() -> Result<Mapping, MemoryError> {
        let mapping = Mapping::reserve(WINDOW_LEN + 2 * GUARD_LEN)?;
        for (start, len) in [(CONTEXT, CONTEXT_LEN), (STACK, STACK_LEN), (PACKET, PACKET_LEN)] {
            // SAFETY: the range lies in the reservation.
            let failed = unsafe {
                libc::mprotect(
                    View(mapping.at_guard_end()).at(start).cast(),
                    len as usize,
                    libc::PROT_READ | libc::PROT_WRITE,
                ) != 0
            };
            if failed {
                return Err(MemoryError::System {
                    step: "open a window in",
                    source: io::Error::last_os_error(),
                });
            }
        }
        Ok(mapping)
    }

    fn reserve(len: usize) -> Result<Mapping, MemoryError> {
        // SAFETY: a new mapping at an address that the system chooses.
        let address = unsafe {
            libc::mmap(
                null_mut(),
                len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let reservation = NonNull::new(address.cast::<u8>()).filter(|_| address != libc::MAP_FAILED);
        let reservation = reservation.ok_or_else(|| MemoryError::System {
            step: "reserve addresses for",
            source: io::Error::last_os_error(),
        })?;
        // A core dump need not hold gigabytes of nothing.
        // SAFETY: advice on a mapping of ours.
        unsafe { libc::madvise(address, len, libc::MADV_DONTDUMP) };
        Ok(Mapping { reservation, len })
    }

    fn at_guard_end(&self) -> NonNull<u8> {
        // SAFETY: the reservation is longer than its guard.
        unsafe { self.reservation.add(GUARD_LEN) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.reservation.as_ptr().cast(), self.len) };
    }
}

fn memfd(name: &str) -> io::Result<File> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name is a C string; the new descriptor is ours.
    unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(File::from_raw_fd(fd))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_octets_are_the_same_in_all_windows_and_per_shard_ones_are_not() {
        let memory = Memory::new(2, None).unwrap();
        let shared = memory.allocate(Section::Shared, 10_000).unwrap();
        let own = memory.allocate(Section::PerShard, 8).unwrap();
        // SAFETY: both blocks are mapped, and no other thread is about.
        unsafe {
            *memory.view(0).at(shared.start + 9_999) = 7;
            *memory.view(0).at(own.start) = 1;
            *memory.view(1).at(own.start) = 2;
            assert_eq!(*memory.view(1).at(shared.start + 9_999), 7);
            assert_eq!(*memory.view(0).at(own.start), 1);
        }
        assert!(memory.allows(shared.start, 12_288, true));
        assert!(!memory.allows(shared.start, 12_289, true));
        assert!(!memory.allows(shared.start - 1, 1, false));
    }

    #[test]
    fn contents_are_found_again_and_what_is_new_is_zero() {
        let directory = tempfile::tempdir().unwrap();
        let block = {
            let memory = Memory::new(1, Some(directory.path())).unwrap();
            memory.allocate(Section::Shared, 100).unwrap();
            let block = memory.allocate(Section::Shared, 100).unwrap();
            // SAFETY: the block is mapped and ours.
            unsafe { *memory.view(0).at(block.start) = 42 };
            block
        };
        let memory = Memory::new(1, Some(directory.path())).unwrap();
        memory.claim(block).unwrap();
        assert!(memory.claim(block).is_err(), "nobody claims what is in use");
        // SAFETY: the block is mapped and ours.
        unsafe { assert_eq!(*memory.view(0).at(block.start), 42) };
        let hole = memory.allocate(Section::Shared, 100).unwrap();
        assert_eq!(hole.start, SHARED, "the hole in front of it is used");
        memory.free(block);
        let again = memory.allocate(Section::Shared, 100).unwrap();
        assert_eq!(again, block);
        // SAFETY: the block is mapped and ours.
        unsafe { assert_eq!(*memory.view(0).at(again.start), 0) };
    }

    #[test]
    fn more_than_a_window_holds_is_refused() {
        let memory = Memory::new(1, None).unwrap();
        for (section, len) in [
            (Section::Shared, u64::MAX),
            (Section::Shared, 4 << 30),
            (Section::ReadOnly, 257 << 20),
        ] {
            assert!(matches!(
                memory.allocate(section, len),
                Err(MemoryError::Full { .. })
            ));
        }
    }
}
