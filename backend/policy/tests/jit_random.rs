//! Programs of random octets: whatever they do, they end, and the process does not notice.

#![cfg(target_arch = "x86_64")]

use std::sync::Arc;

use policy::code::{Code, Function};
use policy::machine::Packet;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Domain, Instruction, Program, atomic, class, jit, mode, opcode, size};

const PROGRAMS: u32 = 100_000;

/// splitmix64, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// An instruction of random octets, led to where it is likely to be one.
fn random_instruction(random: &mut Random, at: usize, len: usize) -> Instruction {
    let mut instruction = Instruction::from_octets(random.next().to_le_bytes());
    let bits = instruction.opcode & 0x18;
    instruction.dst = random.below(10) as u8;
    instruction.src = random.below(11) as u8;
    match instruction.class() {
        class::LD => {
            let mode = random.pick(&[mode::ABS, mode::IND]);
            instruction.opcode = class::LD | mode | random.pick(&[size::B, size::H, size::W]);
            instruction.imm >>= random.below(32);
        }
        class::LDX => instruction.opcode = class::LDX | random.pick(&[mode::MEM, mode::MEMSX]) | bits & 0x10,
        class::ST => instruction.opcode = class::ST | mode::MEM | bits,
        class::STX if random.below(2) == 0 => {
            instruction.opcode = class::STX | mode::ATOMIC | random.pick(&[size::W, size::DW]);
            instruction.imm = random.pick(&[
                atomic::ADD,
                atomic::OR | atomic::FETCH,
                atomic::AND,
                atomic::XOR | atomic::FETCH,
                atomic::XCHG,
                atomic::CMPXCHG,
            ]);
            instruction.offset &= !7;
        }
        class::STX => instruction.opcode = class::STX | mode::MEM | bits,
        class::JMP | class::JMP32 => {
            instruction.offset = (random.below(len) as i64 - at as i64 - 1) as i16;
        }
        _ => instruction.offset = 0,
    }
    // Addresses are found by chance only, but for those on the stack.
    if random.below(4) != 0 {
        let offset = -8 * (1 + random.below(64) as i16);
        match instruction.class() {
            class::LDX => (instruction.src, instruction.offset) = (10, offset),
            class::ST | class::STX => (instruction.dst, instruction.offset) = (10, offset),
            _ => {}
        }
    }
    instruction
}

fn random_code(random: &mut Random) -> Code {
    let len = 2 + random.below(24);
    let mut instructions: Vec<Instruction> = (0..len - 1)
        .map(|at| random_instruction(random, at, len))
        .collect();
    instructions.push(Instruction {
        opcode: opcode::EXIT,
        ..Instruction::default()
    });
    let function = Function {
        name: "random".into(),
        start: 0,
        end: instructions.len(),
    };
    Code::new(instructions.into(), [function].into(), Box::default())
}

#[test]
fn random_programs_end_and_never_escape() {
    let domain = Arc::new(Domain::new(1, None).unwrap());
    let mut random = Random(0x6e65_746b_6974);
    let (mut compiled, mut returned, mut stopped) = (0, 0, 0);
    while compiled < PROGRAMS {
        let code = random_code(&mut random);
        let machine_code = match jit::compile(&code, &jit::NoMaps) {
            Ok(machine_code) => machine_code,
            Err(error @ jit::CompileError::Proof(_)) => panic!("{error}: {:?}", code.instructions),
            Err(_) => continue,
        };
        compiled += 1;
        let program = Program {
            fuel: 2_000,
            ..Program::anonymous(code, Some(machine_code), domain.clone())
        };
        let (mut frame, mut environment) = (vec![0x5a; 64], NoEnvironment);
        let mut packet = Packet {
            metadata: Metadata::default(),
            octets: &mut frame,
            environment: &mut environment,
        };
        // SAFETY: the test has the domain for itself.
        match unsafe { program.run(0, &mut packet) } {
            Ok(_) => returned += 1,
            Err(fault) => {
                assert!(fault.instruction < program.code.instructions.len());
                stopped += 1;
            }
        }
    }
    let enough = PROGRAMS / 20;
    assert!(returned > enough && stopped > enough, "{returned} {stopped}");
}
