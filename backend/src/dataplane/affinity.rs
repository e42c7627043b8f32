//! Which processors threads may run on.

/// The processors that this process may use.
pub fn allowed_processors() -> Vec<usize> {
    // SAFETY: all-zero is a valid cpu_set_t, and the call fills at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize)
            .filter(|processor| libc::CPU_ISSET(*processor, &set))
            .collect()
    }
}

/// Keeps the calling thread on one processor. Where that is refused the scheduler decides.
pub fn pin(processor: usize) {
    // SAFETY: all-zero is a valid cpu_set_t; the processor came out of such a set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
