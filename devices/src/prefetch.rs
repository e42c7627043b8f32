//! Hints to the processor about memory that is needed soon. A hint never faults, whatever the address.

/// Octets of a cache line.
pub const LINE: usize = 64;

/// The line at `ptr` will be read.
#[inline(always)]
pub fn for_read(ptr: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which touches nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(ptr.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ptr;
}

/// The line at `ptr` will be written: it is fetched from the other core for good, not shared first and claimed at the
/// write.
#[inline(always)]
pub fn for_write(ptr: *const u8) {
    // The intrinsic becomes a fetch for reading unless the whole program is built for newer processors. Older ones take
    // the instruction for one that does nothing.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which touches nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) ptr, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ptr;
}
