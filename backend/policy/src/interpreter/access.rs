//! Loads, stores and atomic operations at window addresses.
//!
//! An access is allowed exactly where the window is mapped, as in compiled code. Other shards may access the same
//! octets of maps at the same time: nothing here makes a reference of them.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::atomic::{ADD, AND, CMPXCHG, FETCH, OR, XCHG, XOR};
use crate::fault::FaultKind;
use crate::layout::{CONTEXT, CONTEXT_LEN, PACKET, PACKET_LEN, STACK, STACK_LEN};
use crate::machine::Machine;

/// A value at any alignment.
#[repr(C, packed)]
struct Unaligned<T>(T);

/// The window address that a register and a displacement make: the register's low 32 bits count.
#[inline(always)]
pub(super) fn effective(register: u64, displacement: i32) -> i64 {
    i64::from(register as u32) + i64::from(displacement)
}

/// Where `len` octets, 1 to 8, at a window address lie, if they are mapped.
#[inline(always)]
fn locate(machine: &Machine, address: i64, len: u32, write: bool) -> Result<*mut u8, FaultKind> {
    let within = |start: u32, region: u32| (address - i64::from(start)) as u64 <= u64::from(region - len);
    if within(STACK, STACK_LEN) || within(PACKET, PACKET_LEN) || within(CONTEXT, CONTEXT_LEN) {
        return Ok(machine.words.base.wrapping_offset(address as isize));
    }
    locate_in_maps(machine, address, len, write)
}

#[inline(never)]
fn locate_in_maps(machine: &Machine, address: i64, len: u32, write: bool) -> Result<*mut u8, FaultKind> {
    let allowed = |address: i64, len: u32| {
        u32::try_from(address)
            .ok()
            .and_then(|address| machine.slice(u64::from(address), len, write))
            .is_some()
    };
    if allowed(address, len) {
        return Ok(machine.words.base.wrapping_offset(address as isize));
    }
    // Sections that are full have no gap between them, so an access may lie in two. The fault is, as the processor has
    // it, at the first octet that is not accessible.
    let mut octets = (0..i64::from(len)).map(|octet| address + octet);
    match octets.find(|octet| !allowed(*octet, 1)) {
        None => Ok(machine.words.base.wrapping_offset(address as isize)),
        Some(address) => Err(FaultKind::Access { address }),
    }
}

#[inline(always)]
pub(super) fn load<T: Copy>(machine: &Machine, address: i64) -> Result<T, FaultKind> {
    let pointer = locate(machine, address, size_of::<T>() as u32, false)?;
    // SAFETY: the octets are mapped, and `T` is an integer. Volatile, because others may write to them meanwhile: one
    // access, whose result does not change.
    Ok(unsafe { pointer.cast::<Unaligned<T>>().read_volatile() }.0)
}

#[inline(always)]
pub(super) fn store<T: Copy>(machine: &Machine, address: i64, value: T) -> Result<(), FaultKind> {
    let pointer = locate(machine, address, size_of::<T>() as u32, true)?;
    // SAFETY: the octets are mapped writable; volatile as in `load`.
    unsafe { pointer.cast::<Unaligned<T>>().write_volatile(Unaligned(value)) };
    Ok(())
}

/// Where an atomic operation works. Whether the address is aligned comes before whether it is mapped.
fn locate_aligned(machine: &Machine, address: i64, len: u32) -> Result<*mut u8, FaultKind> {
    if address & i64::from(len - 1) != 0 {
        return Err(FaultKind::Misaligned { address });
    }
    locate(machine, address, len, true)
}

macro_rules! atomic {
    ($name:ident, $atomic:ty, $integer:ty) => {
        /// Does an atomic operation (RFC 9669, 5.3). The result is what was there before, if the operation fetches it;
        /// operations that do not are not ordered.
        #[inline(never)]
        pub(super) fn $name(
            machine: &Machine,
            address: i64,
            operation: i32,
            operand: $integer,
            expected: $integer,
        ) -> Result<Option<$integer>, FaultKind> {
            let pointer = locate_aligned(machine, address, size_of::<$integer>() as u32)?;
            // SAFETY: the octets are mapped writable and aligned: the window's start is, and the address is.
            let target = unsafe { <$atomic>::from_ptr(pointer.cast()) };
            let order = if operation & FETCH != 0 {
                SeqCst
            } else {
                Relaxed
            };
            let before = match operation & !FETCH {
                ADD => target.fetch_add(operand, order),
                OR => target.fetch_or(operand, order),
                AND => target.fetch_and(operand, order),
                XOR => target.fetch_xor(operand, order),
                _ if operation == XCHG => target.swap(operand, SeqCst),
                _ if operation == CMPXCHG => target
                    .compare_exchange(expected, operand, SeqCst, SeqCst)
                    .unwrap_or_else(|found| found),
                _ => return Ok(None),
            };
            Ok((operation & FETCH != 0).then_some(before))
        }
    };
}

atomic!(atomic32, AtomicU32, u32);
atomic!(atomic64, AtomicU64, u64);
