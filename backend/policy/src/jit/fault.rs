//! The signal handler that turns a stray access of compiled code into the end of its run.

use std::mem::MaybeUninit;
use std::sync::{Once, OnceLock};

use super::arena;
use super::entry::{STOP_ACCESS, abort_address};
use crate::layout::{GUARD_LEN, WINDOW_LEN};
use crate::machine::Words;

/// The signals of a stray access: SIGBUS if a file of map memory was cut short by somebody else.
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What was done about each signal before.
static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

/// Has the process survive stray accesses of compiled code. All other faults go where they went before.
///
/// Compiling does it; a process that handles the signals itself, too, installs its handler before.
pub fn install_fault_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A fault must find what was there before, so that comes first.
        let previous = SIGNALS.map(|signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: asks for what is installed; a zeroed action is a valid one.
            unsafe {
                libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
                action.assume_init()
            }
        });
        let _ = PREVIOUS.set(previous);
        for signal in SIGNALS {
            // SAFETY: a zeroed action is a valid one; the handler is async-signal-safe.
            unsafe {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigemptyset(&raw mut action.sa_mask);
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    });
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives both for SA_SIGINFO.
    let claimed = unsafe { claim(&*info, &mut *context.cast()) };
    if !claimed {
        // SAFETY: as above.
        unsafe { pass_on(signal, info, context) };
    }
}

/// Leads a fault of compiled code to its abort. False if it is somebody else's.
///
/// # Safety
/// Only for a fault of this thread.
unsafe fn claim(info: &libc::siginfo_t, context: &mut libc::ucontext_t) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let pc = registers[libc::REG_RIP as usize] as usize;
    // Sent by somebody, not by a fault: leave it to whom it is for.
    if !arena::contains(pc) || info.si_code <= 0 {
        return false;
    }
    // SAFETY: in our code, rdi is the machine wherever memory is accessed (`proof`), and the machine starts with its
    // words. The fault came from that code, so nobody else uses them.
    let words = unsafe { &mut *(registers[libc::REG_RDI as usize] as *mut Words) };
    // SAFETY: the system sets the address for these signals.
    let address = unsafe { info.si_addr() } as usize;
    let reservation = (words.base as usize).wrapping_sub(GUARD_LEN);
    if address.wrapping_sub(reservation) >= WINDOW_LEN + 2 * GUARD_LEN {
        return false;
    }
    words.fault_pc = pc;
    words.fault_address = address;
    words.stopped = STOP_ACCESS;
    registers[libc::REG_RIP as usize] = abort_address() as i64;
    true
}

/// Does what would have been done without us.
///
/// # Safety
/// The arguments are a signal handler's.
unsafe fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = SIGNALS.iter().position(|ours| *ours == signal).unwrap_or(0);
    let Some(previous) = PREVIOUS.get().map(|all| &all[index]) else {
        return;
    };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: puts back what was installed before. A fault happens again when the handler returns, a signal
            // that somebody sent is sent again; it is not blocked here.
            unsafe {
                libc::sigaction(signal, previous, std::ptr::null_mut());
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the flag says that the handler is of this type.
            unsafe {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        handler => {
            // SAFETY: without the flag, the handler is of this type.
            unsafe {
                let handler: extern "C" fn(i32) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
