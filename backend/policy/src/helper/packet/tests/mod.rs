//! Tests of the packet helpers, which are called on a machine as a program would call them.

mod calls;
mod differential;
mod frames;
mod kernel;
mod offloads;
mod properties;
mod units;

use super::HELPERS;
use crate::Domain;
use crate::context::SkBuff;
use crate::layout::{CONTEXT, STACK_TOP};
use crate::machine::{Machine, Packet};
use crate::packet::{Metadata, Octets, OneDevice};

/// Octets of the program's own memory that calls use.
pub const MEMORY_LEN: u32 = 128;
/// Its window address, at the top of the stack.
pub const MEMORY: u64 = (STACK_TOP - MEMORY_LEN) as u64;

/// A frame in two pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    pub linear: Vec<u8>,
    pub fragments: Vec<u8>,
}

impl Pieces {
    pub fn new(octets: &[u8], linear: usize) -> Pieces {
        let (linear, fragments) = octets.split_at(linear.min(octets.len()));
        Pieces {
            linear: linear.to_vec(),
            fragments: fragments.to_vec(),
        }
    }

    pub fn whole(&self) -> Vec<u8> {
        [&self.linear[..], &self.fragments[..]].concat()
    }
}

impl Octets for Pieces {
    fn linear(&self) -> &[u8] {
        &self.linear
    }

    fn set_linear(&mut self, octets: &[u8]) {
        self.linear = octets.to_vec();
    }

    fn fragments_len(&self) -> usize {
        self.fragments.len()
    }

    fn read_fragments(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.fragments[offset..offset + to.len()]);
    }

    fn take_fragments(&mut self, to: &mut [u8]) {
        to.copy_from_slice(&self.fragments[..to.len()]);
        self.fragments.drain(..to.len());
    }

    fn truncate_fragments(&mut self, len: usize) {
        self.fragments.truncate(len);
    }
}

/// A place to run helpers on frames.
#[derive(Debug)]
pub struct Bench {
    domain: Domain,
    pub mtu: u32,
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            domain: Domain::new(1, None).unwrap(),
            mtu: 1500,
        }
    }

    /// Does what a program would do between the start and the end of a run.
    pub fn run<T>(
        &self,
        octets: &mut Pieces,
        metadata: &mut Metadata,
        program: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        let mut environment = OneDevice {
            ifindex: 1,
            mtu: self.mtu,
        };
        let mut packet = Packet {
            metadata: *metadata,
            octets,
            environment: &mut environment,
        };
        // SAFETY: the bench is this thread's own (it is not shared), and `program` does not use it.
        let result = unsafe {
            self.domain.enter(0, |machine| {
                machine.begin(&mut packet);
                let result = program(machine);
                machine.end(&mut packet);
                result
            })
        };
        *metadata = packet.metadata;
        result
    }
}

/// Calls a helper with the context as the first argument.
pub fn call(machine: &mut Machine, helper: u32, arguments: [u64; 4]) -> i64 {
    let [a, b, c, d] = arguments;
    call_raw(machine, helper, [u64::from(CONTEXT), a, b, c, d]) as i64
}

/// Calls a helper.
pub fn call_raw(machine: &mut Machine, helper: u32, [a, b, c, d, e]: [u64; 5]) -> u64 {
    let found = HELPERS.iter().find(|candidate| candidate.id == helper).unwrap();
    (found.function)(machine, a, b, c, d, e)
}

/// The context as the program sees it.
pub fn context(machine: &Machine) -> SkBuff {
    // SAFETY: the context page is mapped, and no other thread uses this window.
    unsafe { machine.view().at(CONTEXT).cast::<SkBuff>().read() }
}

/// Changes the context as a program would.
pub fn write_context(machine: &Machine, write: impl FnOnce(&mut SkBuff)) {
    let mut changed = context(machine);
    write(&mut changed);
    // SAFETY: as in `context`.
    unsafe { machine.view().at(CONTEXT).cast::<SkBuff>().write(changed) };
}

/// The program's memory.
pub fn read_memory(machine: &Machine) -> [u8; MEMORY_LEN as usize] {
    // SAFETY: the stack is mapped, and no other thread uses this window.
    unsafe {
        machine
            .view()
            .at(MEMORY as u32)
            .cast::<[u8; MEMORY_LEN as usize]>()
            .read()
    }
}

/// Fills the start of the program's memory.
pub fn write_memory(machine: &Machine, octets: &[u8]) {
    assert!(octets.len() <= MEMORY_LEN as usize);
    // SAFETY: as in `read_memory`.
    unsafe {
        std::ptr::copy_nonoverlapping(octets.as_ptr(), machine.view().at(MEMORY as u32), octets.len());
    }
}
