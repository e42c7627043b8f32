//! The helpers: functions of the engine that programs call by number.

use crate::machine::Machine;

/// A helper as compiled code calls it: with the machine and r1 to r5; what it returns is r0.
///
/// Arguments are whatever the program says. Memory is reached only through [`Machine::argument`] and its like, and a
/// helper never panics.
pub type HelperFunction = extern "sysv64" fn(&mut Machine, u64, u64, u64, u64, u64) -> u64;

/// A helper.
#[derive(Debug, Clone, Copy)]
pub struct Helper {
    /// Its number (linux/bpf.h: `enum bpf_func_id`).
    pub id: u32,
    /// The function.
    pub function: HelperFunction,
    /// Whether it may call functions of the program.
    pub calls_back: bool,
}

/// The number of `bpf_tail_call`, which the engines do themselves.
pub const TAIL_CALL: u32 = 12;

/// A helper by its number.
pub fn find(_id: u32) -> Option<&'static Helper> {
    None
}

/// A helper's name, whether or not we have it.
pub fn name(_id: u32) -> &'static str {
    "helper"
}

/// Lets go of a spin lock that the program still held when it ended.
pub(crate) fn release(_machine: &mut Machine, _lock: u32) {}
