//! Memory for machine code: one reservation, so that whether an address is code of ours is one comparison.
//!
//! A page is writable or executable, never both; pages that hold no code are inaccessible.

use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Octets of code that there can be.
const ARENA_LEN: usize = 256 << 20;
const PAGE: usize = 4096;
/// `int3`: what lies in front of code and behind it.
const BREAKPOINT: u8 = 0xcc;
/// Code starts somewhere in this many octets, so that nobody knows where without having seen it.
const SHIFT: usize = 1024;

/// The reservation's address; 0 before there is one. For the signal handler.
static START: AtomicUsize = AtomicUsize::new(0);

/// Whether an address lies in code of ours. Async-signal-safe.
pub(super) fn contains(address: usize) -> bool {
    let start = START.load(Ordering::Relaxed);
    start != 0 && address.wrapping_sub(start) < ARENA_LEN
}

/// Machine code that can be run; its pages are given back when it goes out of scope.
#[derive(Debug)]
pub(super) struct Region {
    pages: Pages,
    code: NonNull<u8>,
    code_len: usize,
}

// SAFETY: code is an address range of the process that nobody writes to.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// Pages of the arena, by their place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    first: usize,
    count: usize,
}

struct Arena {
    start: NonNull<u8>,
    free: Mutex<Vec<Pages>>,
}

// SAFETY: the arena is an address range of the process.
unsafe impl Send for Arena {}
// SAFETY: as above; who writes where is decided under the lock.
unsafe impl Sync for Arena {}

impl Region {
    /// Makes code executable.
    pub fn new(code: &[u8]) -> io::Result<Region> {
        let arena = arena()?;
        let count = (code.len() + SHIFT).div_ceil(PAGE);
        let pages = arena
            .take(count)
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let len = pages.count * PAGE;
        let shift = random() % (SHIFT / 16) * 16;
        // SAFETY: the pages lie in the reservation; `shift` and the code fit in them.
        let (start, target) = unsafe {
            let start = arena.start.add(pages.first * PAGE);
            (start, start.add(shift))
        };
        let region = Region {
            pages,
            code: target,
            code_len: code.len(),
        };
        protect(start, len, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the pages are writable and nobody else's.
        unsafe {
            start.as_ptr().write_bytes(BREAKPOINT, len);
            std::ptr::copy_nonoverlapping(code.as_ptr(), target.as_ptr(), code.len());
        }
        protect(start, len, libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(region)
    }

    /// The code's octets.
    pub fn octets(&self) -> &[u8] {
        // SAFETY: the octets are readable and do not change until the region is dropped.
        unsafe { std::slice::from_raw_parts(self.code.as_ptr(), self.code_len) }
    }

    /// The code's address.
    pub fn address(&self) -> usize {
        self.code.as_ptr() as usize
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Ok(arena) = arena() else { return };
        // SAFETY: the pages lie in the reservation and hold code that nobody runs any more.
        let replaced = unsafe {
            libc::mmap(
                arena.start.as_ptr().add(self.pages.first * PAGE).cast(),
                self.pages.count * PAGE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        // Pages that could not be taken out of use stay as they are and are not used again.
        if replaced != libc::MAP_FAILED {
            arena.give(self.pages);
        }
    }
}

impl Arena {
    fn take(&self, count: usize) -> Option<Pages> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.iter().position(|pages| pages.count >= count)?;
        let found = free.get_mut(index)?;
        let taken = Pages {
            first: found.first,
            count,
        };
        found.first += count;
        found.count -= count;
        if found.count == 0 {
            free.remove(index);
        }
        Some(taken)
    }

    /// Free pages are kept in order, so that neighbours can be joined.
    fn give(&self, pages: Pages) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.partition_point(|other| other.first < pages.first);
        free.insert(index, pages);
        free.dedup_by(|later, earlier| {
            let adjoin = earlier.first + earlier.count == later.first;
            if adjoin {
                earlier.count += later.count;
            }
            adjoin
        });
    }
}

fn arena() -> io::Result<&'static Arena> {
    static ARENA: OnceLock<Result<Arena, i32>> = OnceLock::new();
    let arena = ARENA.get_or_init(|| {
        // SAFETY: a new mapping at an address that the system chooses.
        let address = unsafe {
            libc::mmap(
                null_mut(),
                ARENA_LEN,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let start = NonNull::new(address.cast::<u8>()).filter(|_| address != libc::MAP_FAILED);
        let start = start.ok_or_else(|| io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM))?;
        START.store(address as usize, Ordering::Relaxed);
        super::fault::install_fault_handler();
        Ok(Arena {
            start,
            free: Mutex::new(vec![Pages {
                first: 0,
                count: ARENA_LEN / PAGE,
            }]),
        })
    });
    arena
        .as_ref()
        .map_err(|errno| io::Error::from_raw_os_error(*errno))
}

fn protect(start: NonNull<u8>, len: usize, protection: i32) -> io::Result<()> {
    // SAFETY: the callers' pages are their own.
    match unsafe { libc::mprotect(start.as_ptr().cast(), len, protection) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A number that is hard to guess, or 0 when the system has none to give.
fn random() -> usize {
    let mut number = [0; size_of::<usize>()];
    // SAFETY: the buffer is ours and as long as said.
    unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), libc::GRND_NONBLOCK) };
    usize::from_ne_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_used_again_and_joined() {
        let arena = Arena {
            start: NonNull::dangling(),
            free: Mutex::new(vec![Pages { first: 0, count: 8 }]),
        };
        let [a, b, c] = [2, 3, 3].map(|count| arena.take(count).unwrap());
        assert_eq!(arena.take(1), None);
        for pages in [a, c, b] {
            arena.give(pages);
        }
        assert_eq!(arena.take(8), Some(Pages { first: 0, count: 8 }));
    }

    #[test]
    fn code_is_executable_and_not_writable_and_gone_when_dropped() {
        // mov eax, 42; ret
        let code = [0xb8, 42, 0, 0, 0, 0xc3];
        let region = Region::new(&code).unwrap();
        assert_eq!(region.octets(), code);
        assert!(contains(region.address()) && !contains(code.as_ptr() as usize));
        // SAFETY: the code is a function of that type.
        let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(region.address()) };
        assert_eq!(function(), 42);
        assert_eq!(protection(region.address()).unwrap(), "r-xp");
        let address = region.address();
        drop(region);
        // Another test may have got the pages since.
        assert_ne!(protection(address).unwrap(), "rw-p");
    }

    fn protection(address: usize) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let parse = |text| usize::from_str_radix(text, 16).ok();
            (parse(start)?..parse(end)?)
                .contains(&address)
                .then(|| rest[..4].to_string())
        })
    }
}
