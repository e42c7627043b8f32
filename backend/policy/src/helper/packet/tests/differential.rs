//! The helpers against those of the kernel that the tests run on: random calls on random frames must have the same
//! results (BPF_PROG_TEST_RUN).

use std::os::fd::AsRawFd;

use super::super::id;
use super::super::sum::Sum;
use super::calls::{self, Argument, Random, Step};
use super::kernel::{Kernel, add, copy, load, not_run, store, wide};
use super::{Bench, MEMORY_LEN, Pieces, context, frames, read_memory, write_context, write_memory};
use crate::context::SkBuff;
use crate::machine::Machine;
use crate::packet::{Gso, GsoKind, Metadata};
use crate::{Instruction, alu, class, opcode, pseudo, size, source};

const CASES: u64 = 10_000;
const SEED: u64 = 0x6b65_726e_656c;

/// What a run left, on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    results: Vec<u64>,
    memory: [u8; MEMORY_LEN as usize],
    context: Vec<(&'static str, u64)>,
    frame: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Case {
    frame: Vec<u8>,
    memory: [u8; MEMORY_LEN as usize],
    context: SkBuff,
    steps: Vec<Step>,
}

/// Fields of the context that must agree, by offset and size.
///
/// Not `wire_len`, which the kernel's helpers leave as it was while ours follows the frame, nor `gso_segs`, which is
/// raw there and computed here, nor `data` and `data_end`, of which the difference is looked at.
const FIELDS: [(&str, i16, u8); 20] = [
    ("len", 0, size::W),
    ("pkt_type", 4, size::W),
    ("mark", 8, size::W),
    ("queue_mapping", 12, size::W),
    ("protocol", 16, size::W),
    ("vlan_present", 20, size::W),
    ("vlan_tci", 24, size::W),
    ("vlan_proto", 28, size::W),
    ("priority", 32, size::W),
    ("ifindex", 40, size::W),
    ("tc_index", 44, size::W),
    ("cb[0]", 48, size::W),
    ("cb[1]", 52, size::W),
    ("cb[2]", 56, size::W),
    ("cb[3]", 60, size::W),
    ("cb[4]", 64, size::W),
    ("hash", 68, size::W),
    ("tstamp", 152, size::DW),
    ("gso_size", 176, size::W),
    ("tstamp_type", 180, size::B),
];
/// Octets of the map value: results, memory, fields, and the length of the linear part.
const RESULTS: i16 = 0;
const MEMORY: i16 = 8 * 8;
const CONTEXT: i16 = MEMORY + MEMORY_LEN as i16;
const LINEAR: i16 = CONTEXT + 8 * FIELDS.len() as i16;
const VALUE_LEN: usize = LINEAR as usize + 8;

impl Case {
    fn new(random: &mut Random) -> Case {
        let frame = frames::any(random);
        let mut memory = [0; MEMORY_LEN as usize];
        random.fill(&mut memory);
        if random.one_in(2) {
            memory[..64].fill(0);
        }
        let gso = random.one_in(8);
        let context = SkBuff {
            mark: random.next() as u32,
            priority: random.next() as u32,
            cb: [(); 5].map(|()| random.next() as u32),
            tstamp: random.or_zero(),
            gso_size: if gso { 1 + random.below(1400) as u32 } else { 0 },
            ..SkBuff::default()
        };
        let count = 1 + random.below(6);
        let mut steps = Vec::new();
        while steps.len() < count as usize {
            let step = calls::step(random, frame.len() as u64);
            if comparable(&step, gso, &steps) {
                steps.push(step);
            }
        }
        Case {
            frame,
            memory,
            context,
            steps,
        }
    }

    /// Runs it here. None if the kernel's outcome is left to chance.
    fn run_here(&self, bench: &Bench) -> Option<Outcome> {
        let mut octets = Pieces::new(&self.frame, usize::MAX);
        let mut metadata = frames::metadata(&self.frame);
        metadata.offload.gso = (self.context.gso_size > 0).then_some(Gso {
            kind: GsoKind::Udp,
            size: self.context.gso_size as u16,
            segments: 0,
            header_len: 42,
            ecn: false,
            encapsulation: None,
        });
        let metadata: &mut Metadata = &mut metadata;
        let mut chance = false;
        let (results, memory, context) = bench.run(&mut octets, metadata, |machine| {
            write_memory(machine, &self.memory);
            write_context(machine, |context| {
                context.mark = self.context.mark;
                context.priority = self.context.priority;
                context.cb = self.context.cb;
                context.tstamp = self.context.tstamp;
            });
            let mut results = Vec::new();
            for step in &self.steps {
                chance |= moves_what_is_not_there(machine, step);
                results.extend(step.run(machine));
            }
            (results, read_memory(machine), context(machine))
        });
        let fields = FIELDS.map(|(name, offset, width)| {
            let at = std::ptr::from_ref(&context)
                .cast::<u8>()
                .wrapping_add(offset as usize);
            // SAFETY: the fields lie in the context.
            let value = unsafe {
                match width {
                    size::B => u64::from(*at),
                    size::DW => at.cast::<u64>().read(),
                    _ => u64::from(at.cast::<u32>().read()),
                }
            };
            (name, value)
        });
        let linear = ("linear", u64::from(context.data_end - context.data));
        (!chance).then(|| Outcome {
            results,
            memory,
            context: fields.into_iter().chain([linear]).collect(),
            frame: octets.whole(),
        })
    }

    /// The program that does the steps and stores what came of them in a map.
    fn program(&self, map: i32) -> Vec<Instruction> {
        let mut program = Vec::new();
        // r6 is the context, r7 the map value.
        program.push(copy(6, 1));
        program.extend(wide(7, pseudo::MAP_VALUE, map as u32 as u64));
        for (index, word) in self.memory.as_chunks::<8>().0.iter().enumerate() {
            program.extend(wide(0, 0, u64::from_le_bytes(*word)));
            program.push(store(size::DW, 10, memory_offset(index as u32 * 8), 0));
        }
        let mut results = 0;
        for step in &self.steps {
            match *step {
                Step::SetMark(mark) => {
                    program.extend(wide(0, 0, u64::from(mark)));
                    program.push(store(size::W, 6, 8, 0));
                }
                Step::SetCb(cb, value) => {
                    program.extend(wide(0, 0, u64::from(value)));
                    program.push(store(size::W, 6, 48 + cb as i16 * 4, 0));
                }
                Step::Call { helper, arguments } => {
                    for (register, argument) in (1..).zip(arguments) {
                        match argument {
                            Argument::Context => program.push(copy(register, 6)),
                            Argument::Value(value) => program.extend(wide(register, 0, value)),
                            Argument::Memory(offset) => {
                                program.push(copy(register, 10));
                                program.push(add(register, i32::from(memory_offset(offset))));
                            }
                        }
                    }
                    program.push(Instruction {
                        opcode: opcode::CALL,
                        imm: helper as i32,
                        ..Instruction::default()
                    });
                    program.push(store(size::DW, 7, RESULTS + 8 * results, 0));
                    results += 1;
                }
            }
        }
        for word in (0..MEMORY_LEN).step_by(8) {
            program.push(load(size::DW, 0, 10, memory_offset(word)));
            program.push(store(size::DW, 7, MEMORY + word as i16, 0));
        }
        for (index, (_, offset, width)) in (0..).zip(FIELDS) {
            program.push(load(width, 0, 6, offset));
            program.push(store(size::DW, 7, CONTEXT + 8 * index, 0));
        }
        program.push(load(size::W, 0, 6, 80));
        program.push(load(size::W, 1, 6, 76));
        program.push(Instruction {
            opcode: class::ALU64 | alu::SUB | source::X,
            src: 1,
            ..Instruction::default()
        });
        program.push(store(size::DW, 7, LINEAR, 0));
        program.push(Instruction {
            opcode: opcode::EXIT,
            ..Instruction::default()
        });
        program
    }

    /// Runs it in the kernel.
    fn run_there(&self, kernel: &Kernel) -> Result<Outcome, String> {
        let program = kernel.load(&self.program(kernel.map.as_raw_fd()))?;
        let frame = kernel
            .test_run(&program, &self.frame, &self.context)
            .map_err(|error| format!("BPF_PROG_TEST_RUN: {error}"))?;
        let value = kernel
            .value()
            .map_err(|error| format!("BPF_MAP_LOOKUP_ELEM: {error}"))?;
        let word = |at: i16| u64::from_le_bytes(value[at as usize..at as usize + 8].try_into().unwrap());
        let results = (0..)
            .zip(self.steps.iter().filter_map(Step::helper))
            .map(|(index, helper)| {
                let result = word(RESULTS + 8 * index);
                match helper {
                    // Kernels before 6.13 do not shorten it.
                    id::CSUM_DIFF => u64::from(Sum(result as u32).shorten()),
                    _ => result,
                }
            });
        let fields = (0..)
            .zip(FIELDS)
            .map(|(index, (name, _, _))| (name, word(CONTEXT + 8 * index)));
        Ok(Outcome {
            results: results.collect(),
            memory: value[MEMORY as usize..CONTEXT as usize].try_into().unwrap(),
            context: fields.chain([("linear", word(LINEAR))]).collect(),
            frame,
        })
    }
}

/// Whether a step can be compared at all.
fn comparable(step: &Step, gso: bool, before: &[Step]) -> bool {
    let came = |helper: u32| before.iter().any(|step| step.helper() == Some(helper));
    match step {
        // A frame that BPF_PROG_TEST_RUN is told to cut has no kind of segments, which no frame of ours is.
        Step::Call {
            helper: id::SKB_ADJUST_ROOM,
            ..
        } => !gso,
        // Every machine computes hashes of its own.
        Step::Call {
            helper: id::GET_HASH_RECALC,
            ..
        } => before.last().and_then(Step::helper) == Some(id::SET_HASH),
        // A transport header that is not set, which is so in BPF_PROG_TEST_RUN only, is moved as if it were when the
        // kernel makes more room in front, and is taken for set then.
        Step::Call {
            helper: id::SKB_CHANGE_TAIL | id::CHECK_MTU,
            ..
        } => !came(id::SKB_CHANGE_HEAD) && !came(id::SKB_ADJUST_ROOM),
        // It looks for VLAN tags from `mac_len` on, which is not set at first. These helpers do, and from four octets
        // in front of the network header then: a tag of which the type was overwritten is seen, or not.
        Step::Call {
            helper: id::SKB_ECN_SET_CE,
            ..
        } => {
            let written = [id::SKB_STORE_BYTES, id::L3_CSUM_REPLACE, id::L4_CSUM_REPLACE].map(came);
            let set = came(id::SKB_VLAN_PUSH) || came(id::SKB_VLAN_POP);
            !(came(id::SKB_CHANGE_HEAD) || set && written.contains(&true))
        }
        _ => true,
    }
}

/// Whether a step makes room in a frame that ends in its headers. The kernel moves octets from behind it then, which may
/// be anything; here they are zero.
fn moves_what_is_not_there(machine: &Machine, step: &Step) -> bool {
    let Step::Call {
        helper: id::SKB_ADJUST_ROOM,
        arguments: [_, Argument::Value(_), Argument::Value(mode), ..],
    } = step
    else {
        return false;
    };
    let metadata = &machine.packet.metadata;
    let header_len = match metadata.protocol {
        0x86dd => 40,
        _ => 20,
    };
    *mode as u32 == 0 && machine.packet_len() < metadata.layers.network + header_len
}

fn memory_offset(offset: u32) -> i16 {
    offset as i16 - MEMORY_LEN as i16
}

/// A kernel that can run a program on a frame, and the MTU of the device on which it does.
fn kernel() -> Result<(Kernel, u32), String> {
    let kernel = Kernel::new(VALUE_LEN).map_err(|error| format!("BPF_MAP_CREATE: {error}"))?;
    let case = Case {
        frame: vec![0; 14],
        memory: [0; MEMORY_LEN as usize],
        context: SkBuff::default(),
        steps: Vec::new(),
    };
    case.run_there(&kernel)?;
    let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu")
        .map_err(|error| format!("the MTU of lo: {error}"))?;
    Ok((
        kernel,
        mtu.trim().parse().map_err(|_| "the MTU of lo is no number")?,
    ))
}

#[test]
fn the_kernel_answers_the_same_and_leaves_the_same_frame() {
    let (kernel, mtu) = match kernel() {
        Ok(found) => found,
        Err(why) => return not_run("policy: packet helpers against the kernel's", &why),
    };
    let cases = std::env::var("CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    let mut bench = Bench::new();
    bench.mtu = mtu;
    let (mut compared, mut different) = (0, 0);
    for number in 0..cases {
        let case = Case::new(&mut Random(SEED.wrapping_add(number << 20)));
        let there = case
            .run_there(&kernel)
            .unwrap_or_else(|why| panic!("case {number}: {why}\n{:x?}", case.steps));
        let Some(here) = case.run_here(&bench) else {
            continue;
        };
        compared += 1;
        if here != there {
            different += 1;
            report(number, &case, &here, &there);
        }
    }
    assert_eq!(different, 0, "of {cases} cases that ended differently");
    assert!(
        compared >= cases - cases / 20,
        "only {compared} of {cases} could be compared"
    );
}

fn report(number: u64, case: &Case, here: &Outcome, there: &Outcome) {
    eprintln!(
        "case {number}: {} octets {:02x?}",
        case.frame.len(),
        &case.frame[..case.frame.len().min(22)]
    );
    for step in &case.steps {
        match step {
            Step::Call { helper, arguments } => eprintln!("  helper {helper} {arguments:x?}"),
            other => eprintln!("  {other:x?}"),
        }
    }
    eprintln!(
        "  results here  {:x?}\n  results there {:x?}",
        here.results, there.results
    );
    for (ours, theirs) in here.context.iter().zip(&there.context) {
        if ours != theirs {
            eprintln!("  {} is {:#x} here, {:#x} there", ours.0, ours.1, theirs.1);
        }
    }
    if here.memory != there.memory {
        eprintln!(
            "  memory here  {:02x?}\n  memory there {:02x?}",
            here.memory, there.memory
        );
    }
    if here.frame != there.frame {
        let same = here
            .frame
            .iter()
            .zip(&there.frame)
            .take_while(|(a, b)| a == b)
            .count();
        eprintln!(
            "  frames differ at {same}; here {} octets {:02x?}, there {} octets {:02x?}",
            here.frame.len(),
            &here.frame[same..here.frame.len().min(same + 24)],
            there.frame.len(),
            &there.frame[same..there.frame.len().min(same + 24)]
        );
    }
}
