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
use crate::Errno;
use crate::context::SkBuff;
use crate::layout::{CONTEXT, STACK_TOP};
use crate::machine::{Machine, Packet};
use crate::packet::{Environment, Metadata, NextHop, NoEnvironment, Octets};

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

/// One device, number 1, on which programs run.
#[derive(Debug)]
pub struct OneDevice {
    pub mtu: u32,
}

impl Environment for OneDevice {
    fn redirect(&mut self, ifindex: u32, flags: u64) -> i64 {
        NoEnvironment.redirect(ifindex, flags)
    }

    fn redirect_peer(&mut self, ifindex: u32, flags: u64) -> i64 {
        NoEnvironment.redirect_peer(ifindex, flags)
    }

    fn redirect_neigh(&mut self, ifindex: u32, next_hop: NextHop, flags: u64) -> i64 {
        NoEnvironment.redirect_neigh(ifindex, next_hop, flags)
    }

    fn clone_redirect(
        &mut self,
        linear: &[u8],
        octets: &dyn Octets,
        metadata: &Metadata,
        ifindex: u32,
        flags: u64,
    ) -> Result<(), Errno> {
        NoEnvironment.clone_redirect(linear, octets, metadata, ifindex, flags)
    }

    fn fib_lookup(&mut self, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno> {
        NoEnvironment.fib_lookup(parameters, flags)
    }

    fn mtu(&self, ifindex: u32) -> Option<u32> {
        (ifindex <= 1).then_some(self.mtu)
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
        let mut environment = OneDevice { mtu: self.mtu };
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
