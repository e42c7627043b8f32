//! What tests of helpers run in: a machine in the middle of a run.

use std::sync::Arc;

use super::find;
use crate::code::{Code, Function};
use crate::domain::Domain;
use crate::fault::FaultKind;
use crate::layout::STACK;
use crate::machine::{Machine, Packet};
use crate::map::{Map, MapKind};
use crate::object::MapDefinition;
use crate::packet::{Environment, Metadata, Octets};
use crate::{Instruction, Program};

/// A handle that no map has.
pub const NO_MAP: u64 = 77;
/// Fuel of a run.
pub const FUEL: i64 = 65_536;

/// A domain with a map of each kind that a test asked for.
#[derive(Debug)]
pub struct World {
    pub program: Arc<Program>,
    pub maps: Vec<Arc<Map>>,
}

impl World {
    /// With a program of two functions that do nothing.
    pub fn new(kinds: &[MapKind]) -> World {
        let exit = Instruction {
            opcode: crate::opcode::EXIT,
            ..Instruction::default()
        };
        let function = |start| Function {
            name: format!("function_{start}"),
            start,
            end: start + 1,
        };
        let functions = [function(0), function(1)];
        World::with_code(Code::new([exit; 2].into(), functions.into(), [].into()), kinds)
    }

    /// With a program of the test's own.
    pub fn with_code(code: Code, kinds: &[MapKind]) -> World {
        let domain = Arc::new(Domain::new(1, None).unwrap());
        let maps = kinds.iter().map(|kind| map(&domain, *kind)).collect();
        let program = Program {
            id: 7,
            name: "test".into(),
            fuel: FUEL,
            ..Program::anonymous(code, None, domain)
        };
        World {
            program: Arc::new(program),
            maps,
        }
    }

    /// The handle of a map that the test asked for.
    pub fn handle(&self, map: usize) -> u64 {
        u64::from(self.maps[map].handle())
    }

    /// Does something in the middle of a run on a frame.
    pub fn run_on<T>(
        &self,
        octets: &mut dyn Octets,
        environment: &mut dyn Environment,
        work: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        let mut packet = Packet {
            metadata: Metadata::default(),
            octets,
            environment,
        };
        // SAFETY: the test is the only thread in this domain.
        unsafe {
            self.program.domain.enter(0, |machine| {
                machine.program = &raw const *self.program;
                machine.words.fuel = self.program.fuel;
                machine.words.frame = crate::layout::STACK_TOP;
                machine.begin(&mut packet);
                let result = work(machine);
                super::finish(machine);
                machine.end(&mut packet);
                result
            })
        }
    }

    /// As [`World::run_on`], with a frame and surroundings that do not matter.
    pub fn run<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut octets = vec![0xab; 60];
        self.run_on(&mut octets, &mut crate::packet::NoEnvironment, work)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for map in &self.maps {
            self.program.domain.handles().remove(map.handle());
        }
    }
}

/// Makes a map with keys of 4 octets, values of 8 and 4 entries, as far as the kind has such, and shows it to programs.
fn map(domain: &Domain, kind: MapKind) -> Arc<Map> {
    let handle = domain.handles().vacant().unwrap();
    let definition = definition(kind);
    let map = Arc::new(Map::create(handle.into(), handle, definition, domain.memory()).unwrap());
    // SAFETY: `World` removes the map before it drops it, and runs nothing meanwhile.
    unsafe { domain.handles().insert(&map) };
    map
}

fn definition(kind: MapKind) -> MapDefinition {
    // linux/bpf.h: enum bpf_map_type; octets of keys and values; BPF_F_NO_PREALLOC
    let (number, key_size, value_size, flags) = match kind {
        MapKind::Hash => (1, 4, 8, 0),
        MapKind::Array => (2, 4, 8, 0),
        MapKind::ProgArray => (3, 4, 4, 0),
        MapKind::PerfEventArray => (4, 4, 4, 0),
        MapKind::PercpuHash => (5, 4, 8, 0),
        MapKind::PercpuArray => (6, 4, 8, 0),
        MapKind::LruHash => (9, 4, 8, 0),
        MapKind::LruPercpuHash => (10, 4, 8, 0),
        MapKind::LpmTrie => (11, 8, 8, 1),
        MapKind::ArrayOfMaps => (12, 4, 4, 0),
        MapKind::HashOfMaps => (13, 4, 4, 0),
        MapKind::Queue => (22, 0, 8, 0),
        MapKind::Stack => (23, 0, 8, 0),
        MapKind::Ringbuf => (27, 0, 0, 0),
        MapKind::BloomFilter => (30, 0, 8, 0),
    };
    let nested = matches!(kind, MapKind::ArrayOfMaps | MapKind::HashOfMaps);
    MapDefinition {
        name: "test".into(),
        kind: number,
        key_size,
        value_size,
        max_entries: if kind == MapKind::Ringbuf { 4096 } else { 4 },
        flags,
        extra: 0,
        spin_lock_offset: None,
        pinned: false,
        inner: nested.then(|| Box::new(definition(MapKind::Array))),
        values: Vec::new(),
        contents: None,
        types: None,
    }
}

/// Calls a helper as an engine does.
pub fn call(machine: &mut Machine, id: u32, arguments: [u64; 5]) -> u64 {
    let [r1, r2, r3, r4, r5] = arguments;
    (find(id).unwrap().function)(machine, r1, r2, r3, r4, r5)
}

/// Calls a helper that must stop the program because of an argument.
pub fn assert_refused(machine: &mut Machine, id: u32, arguments: [u64; 5], argument: u8) {
    machine.words.stopped = 0;
    machine.fault = None;
    call(machine, id, arguments);
    let refused = matches!(machine.fault, Some(FaultKind::Argument { helper, argument: which, .. })
        if (helper, which) == (id, argument));
    assert!(refused && machine.words.stopped == 1, "{id}: {:?}", machine.fault);
}

/// Puts octets on the stack, at an offset, and returns their address.
pub fn on_stack(machine: &mut Machine, offset: u32, octets: &[u8]) -> u64 {
    let address = u64::from(STACK + offset);
    let to = machine.slice(address, octets.len() as u32, true).unwrap();
    // SAFETY: the octets are accessible, and nobody else uses this window.
    unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), to, octets.len()) };
    address
}

/// Octets at an address.
pub fn octets_at(machine: &Machine, address: u64, len: u32) -> Vec<u8> {
    let from = machine.slice(address, len, false).unwrap();
    // SAFETY: the octets are accessible, and nobody else uses this window.
    unsafe { std::slice::from_raw_parts(from, len as usize) }.to_vec()
}
