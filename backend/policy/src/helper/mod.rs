//! The helpers: functions of the engine that programs call by number.
//!
//! Whatever a program passes is an integer of its choice. [`Call`] is the only way from there to memory and to maps.

mod call;
mod call_back;
mod clock;
mod event;
mod format;
mod lock;
mod map;
mod names;
mod output;
pub mod packet;
mod print;
mod random;
mod redirect;
mod refusal;
mod socket;
mod text;
mod tunnel;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use call::{Answer, Call, Failure, helpers};
pub use refusal::{Refusal, refusal};

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

/// The helpers that there are, by number.
static TABLE: [Option<Helper>; names::NAMES.len()] = table();

/// A helper by its number.
#[inline]
pub fn find(id: u32) -> Option<&'static Helper> {
    TABLE.get(id as usize)?.as_ref()
}

/// A helper's name, whether or not we have it.
pub fn name(id: u32) -> &'static str {
    match names::NAMES.get(id as usize) {
        None | Some(&"") => "an unknown helper",
        Some(name) => name,
    }
}

/// What helpers of a machine remember from one call to the next.
#[derive(Debug, Default)]
pub struct State {
    reservations: event::Reservations,
    random: random::Random,
    trace: print::Allowance,
}

/// Ends what the program left unfinished: a spin lock that it holds, ring buffer samples that it reserved. To be called
/// behind every run, before the maps that it used may be dropped.
#[inline]
pub(crate) fn finish(machine: &mut Machine) {
    lock::release(machine);
    event::discard_all(machine);
}

const fn table() -> [Option<Helper>; names::NAMES.len()] {
    let mut table = [None; names::NAMES.len()];
    let groups = [
        map::HELPERS,
        call_back::HELPERS,
        clock::HELPERS,
        random::HELPERS,
        text::HELPERS,
        print::HELPERS,
        redirect::HELPERS,
        event::HELPERS,
        lock::HELPERS,
        socket::HELPERS,
        tunnel::HELPERS,
        packet::HELPERS,
    ];
    let mut group = 0;
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            let helper = groups[group][index];
            assert!(table[helper.id as usize].is_none(), "two helpers have one number");
            table[helper.id as usize] = Some(helper);
            index += 1;
        }
        group += 1;
    }
    table
}
