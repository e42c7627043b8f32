//! Gets a thread out of a system call that a front end makes block.
//!
//! A front end shares the open file behind its event descriptors: it can fill the counter and make writes wait at any
//! time, and the kernel has no write to an eventfd that does not wait whatever the file says. A signal ends such a
//! wait. Its timer is started once in a while rather than for each call, so that a call costs nothing more.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, compiler_fence};

/// How long a call may wait; twice as long in the worst case.
const PERIOD_NANOSECONDS: libc::c_long = 10_000_000;

// What a thread shares with the handler of its own signal, which sees all or nothing of each store.
thread_local! {
    static TIMER: AtomicPtr<libc::c_void> = const { AtomicPtr::new(ptr::null_mut()) };
    static HAS_TIMER: Cell<bool> = const { Cell::new(false) };
    static IS_RUNNING: AtomicBool = const { AtomicBool::new(false) };
    static IS_INSIDE: AtomicBool = const { AtomicBool::new(false) };
}

/// Makes `call`, which ends with EINTR if it waits. Where there is no timer to be had, it may wait.
pub fn interruptible<T>(call: impl FnOnce() -> T) -> T {
    // In this order: a timer that is seen to run keeps running from here on.
    IS_INSIDE.with(|inside| inside.store(true, Ordering::Relaxed));
    compiler_fence(Ordering::SeqCst);
    if !IS_RUNNING.with(|running| running.load(Ordering::Relaxed)) {
        start();
    }
    let result = call();
    compiler_fence(Ordering::SeqCst);
    IS_INSIDE.with(|inside| inside.store(false, Ordering::Relaxed));
    result
}

#[cold]
fn start() {
    if !HAS_TIMER.get() && !make_timer() {
        return;
    }
    IS_RUNNING.with(|running| running.store(true, Ordering::Relaxed));
    set_timer(PERIOD_NANOSECONDS);
}

fn make_timer() -> bool {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: all-zero is a valid sigaction (no SA_RESTART among its flags), and `handle` is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handle as *const () as usize;
            libc::sigaction(libc::SIGALRM, &action, ptr::null_mut());
        }
    });
    // SAFETY: all-zero is a valid sigevent; both structures outlive the call.
    unsafe {
        let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = ptr::null_mut();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) != 0 {
            return false;
        }
        TIMER.with(|it| it.store(timer, Ordering::Relaxed));
    }
    HAS_TIMER.set(true);
    true
}

/// Has the thread's timer expire every so often, or not at all.
fn set_timer(nanoseconds: libc::c_long) {
    let period = libc::timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    let setting = libc::itimerspec {
        it_interval: period,
        it_value: period,
    };
    let timer = TIMER.with(|it| it.load(Ordering::Relaxed));
    // SAFETY: the timer is the thread's own and lives as long as the process; the setting outlives the call.
    unsafe { libc::timer_settime(timer, 0, &setting, ptr::null_mut()) };
}

/// The signal itself has ended the wait. A thread that is not inside needs the timer no more.
extern "C" fn handle(_: libc::c_int) {
    if IS_INSIDE.with(|inside| inside.load(Ordering::Relaxed)) {
        return;
    }
    // SAFETY: errno is the thread's own, which was interrupted and must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    IS_RUNNING.with(|running| running.store(false, Ordering::Relaxed));
    set_timer(0);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{FromRawFd, IntoRawFd};
    use std::time::{Duration, Instant};

    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    fn full_counter() -> File {
        let event = EventFd::new(0).unwrap();
        event.write(u64::MAX - 1).unwrap();
        // SAFETY: the descriptor has just been given up by its owner.
        unsafe { File::from_raw_fd(event.into_raw_fd()) }
    }

    #[test]
    fn a_call_that_waits_is_interrupted_and_others_are_not() {
        let full = full_counter();
        for pause in [0, 50, 0, 0] {
            // Long enough for the timer to have stopped.
            std::thread::sleep(Duration::from_millis(pause));
            let begun = Instant::now();
            let error = interruptible(|| (&full).write(&1u64.to_ne_bytes())).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
            assert!(begun.elapsed() < Duration::from_secs(5));
            assert_eq!(interruptible(|| 7), 7);
        }
    }

    #[test]
    fn an_idle_thread_is_left_alone() {
        interruptible(|| ());
        let stopped = || !IS_RUNNING.with(|running| running.load(Ordering::Relaxed));
        let end = Instant::now() + Duration::from_secs(5);
        while !stopped() {
            assert!(Instant::now() < end, "the timer runs for ever");
            std::hint::spin_loop();
        }
    }
}
