//! Helpers that tell the time, and where the program runs.

use super::{Answer, Call, helpers};

helpers! {
    5 => |_: &mut Call<'_>, _| nanoseconds(libc::CLOCK_MONOTONIC);
    8 => |call: &mut Call<'_>, _| -> Answer { Ok(call.machine.shard() as u64) };
    42 => |_: &mut Call<'_>, _| -> Answer { Ok(0) };
    118 => |_: &mut Call<'_>, _| jiffies();
    125 => |_: &mut Call<'_>, _| nanoseconds(libc::CLOCK_BOOTTIME);
    160 => |_: &mut Call<'_>, _| nanoseconds(libc::CLOCK_MONOTONIC_COARSE);
    208 => |_: &mut Call<'_>, _| nanoseconds(libc::CLOCK_TAI);
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;
/// Ticks in a second of the kernels that distributions build (`CONFIG_HZ`).
const HZ: u64 = 250;
/// linux/jiffies.h: `INITIAL_JIFFIES`, five minutes before 32 bits overflow.
const INITIAL_JIFFIES: u64 = (-300 * HZ as i32) as u32 as u64;

/// What a clock shows. No system call is made: the vDSO does it.
pub(super) fn time(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is ours to write.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64)
        .wrapping_mul(NANOSECONDS_PER_SECOND)
        .wrapping_add(time.tv_nsec as u64)
}

fn nanoseconds(clock: libc::clockid_t) -> Answer {
    Ok(time(clock))
}

fn jiffies() -> Answer {
    Ok(INITIAL_JIFFIES + time(libc::CLOCK_MONOTONIC_COARSE) / (NANOSECONDS_PER_SECOND / HZ))
}
