//! Survives a front end that truncates memory it has shared: the mapping is replaced by private zero pages and marked.
//!
//! The kernel raises SIGBUS when a page of a mapping has no file behind it any more. Only the owner of that memory may
//! suffer, so the handler puts anonymous pages in the range's place, sets the range's mark and returns; the access is
//! then repeated and succeeds. A SIGBUS outside the guarded ranges goes to whoever had the signal before.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

const SLOTS: usize = 8192;

struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    len: AtomicUsize,
    hit: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        hit: AtomicBool::new(false),
    }
}; SLOTS];
static NOTIFY: AtomicI32 = AtomicI32::new(-1);
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Guards one mapped range for as long as it lives; drop it before the range is unmapped.
#[derive(Debug)]
pub struct Guard(usize);

impl Guard {
    /// Guards `len` octets from `start`; `None` if too many ranges are guarded already.
    pub fn new(start: usize, len: usize) -> Option<Guard> {
        let free = |slot: &Slot| {
            slot.taken
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        let index = TABLE.iter().position(free)?;
        let slot = &TABLE[index];
        slot.hit.store(false, Ordering::Relaxed);
        slot.len.store(len, Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Some(Guard(index))
    }

    /// Whether memory of the range was taken away.
    pub fn is_hit(&self) -> bool {
        TABLE[self.0].hit.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let slot = &TABLE[self.0];
        slot.start.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
    }
}

/// Installs the handler, once for the process.
pub fn install() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: all-zero is a valid sigaction; both structures outlive the calls, and `handle` is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        let mut previous: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut previous) != 0 {
            return Err(io::Error::last_os_error());
        }
        if PREVIOUS.set(previous).is_ok() && libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has every hit reported on an event descriptor, which must stay open.
pub fn notify_on(eventfd: i32) {
    NOTIFY.store(eventfd, Ordering::Release);
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    match TABLE.iter().find(|slot| holds(slot, address)) {
        Some(slot) => replace(slot),
        None => pass_on(signal, info, context),
    }
}

fn holds(slot: &Slot, address: usize) -> bool {
    let start = slot.start.load(Ordering::Acquire);
    start != 0 && address >= start && address - start < slot.len.load(Ordering::Relaxed)
}

fn replace(slot: &Slot) {
    let (start, len) = (
        slot.start.load(Ordering::Acquire),
        slot.len.load(Ordering::Relaxed),
    );
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the range is a live mapping of ours that nobody else owns (`Guard`); mmap, write and _exit are
    // async-signal-safe.
    unsafe {
        let errno = *libc::__errno_location();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        if libc::mmap(start as *mut libc::c_void, len, protection, flags, -1, 0) == libc::MAP_FAILED {
            libc::_exit(135);
        }
        slot.hit.store(true, Ordering::Release);
        let one = 1u64;
        let fd = NOTIFY.load(Ordering::Acquire);
        if fd >= 0 {
            libc::write(fd, (&raw const one).cast(), 8);
        }
        *libc::__errno_location() = errno;
    }
}

fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    // SAFETY: `previous` is what sigaction returned, so its handler has the type that its flags say; restoring the
    // default and returning repeats the fault, which then ends the process with a core.
    unsafe {
        match handler {
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::signal(signal, libc::SIG_DFL);
            }
            handler if previous.is_some_and(|action| action.sa_flags & libc::SA_SIGINFO != 0) => {
                let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                call(signal, info, context);
            }
            handler => {
                let call: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                call(signal);
            }
        }
    }
}
