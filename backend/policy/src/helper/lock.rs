//! `bpf_spin_lock` and `bpf_spin_unlock`.
//!
//! The lock is a word in a map value, which a program can write as it likes. So nobody waits for it without bound.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Answer, Call, Failure, helpers};
use crate::fault::FaultKind;
use crate::machine::Machine;

helpers! {
    93 => lock;
    94 => unlock;
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Looks at a lock before it is given up. Each costs the program an instruction.
const LOOKS_MAX: u32 = 1 << 15;
/// Looks before the processor is offered to others: the holder may wait for it.
const LOOKS_BEFORE_YIELD: u32 = 1 << 10;

// helpers.c: bpf_spin_lock
fn lock(call: &mut Call<'_>, [address, ..]: [u64; 5]) -> Answer {
    let word = word(call, address)?;
    let address = address as u32;
    // verifier.c: process_spin_lock allows one lock at a time.
    if call.machine.lock.is_some() {
        return Err(call.machine.stop(FaultKind::SpinLock { address }).into());
    }
    for look in 1..=LOOKS_MAX {
        if word
            .compare_exchange_weak(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            call.machine.lock = Some(address);
            return Ok(0);
        }
        call.charge_fuel(1)?;
        if look % LOOKS_BEFORE_YIELD == 0 {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
    Err(call.machine.stop(FaultKind::SpinLock { address }).into())
}

// helpers.c: bpf_spin_unlock
fn unlock(call: &mut Call<'_>, [address, ..]: [u64; 5]) -> Answer {
    if call.machine.lock != Some(address as u32) {
        return Err(call.refuse(1, address));
    }
    release(call.machine);
    Ok(0)
}

/// Lets go of the lock that the program holds.
#[inline]
pub(super) fn release(machine: &mut Machine) {
    if let Some(address) = machine.lock {
        machine.lock = None;
        // SAFETY: the word is aligned and accessible: `lock` has seen to it.
        let word = unsafe { AtomicU32::from_ptr(machine.view().at(address).cast()) };
        word.store(FREE, Ordering::Release);
    }
}

fn word<'a>(call: &mut Call<'_>, address: u64) -> Result<&'a AtomicU32, Failure> {
    let word = call
        .write(1, address, size_of::<AtomicU32>() as u64)?
        .cast::<u32>();
    if !word.is_aligned() {
        let address = i64::from(address as u32);
        return Err(call.machine.stop(FaultKind::Misaligned { address }).into());
    }
    // SAFETY: the word is aligned and accessible, and stays so: memory of a window is not taken back during a run.
    Ok(unsafe { AtomicU32::from_ptr(word) })
}
