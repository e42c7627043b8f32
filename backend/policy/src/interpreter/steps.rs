//! Instructions in the form that the interpreter runs: decoded, with absolute jump targets, and with what they cost.

use crate::code::Function;
use crate::helper::{self, Helper};
use crate::{Instruction, alu, class, jump, mode, opcode, pseudo, size, source};

macro_rules! operations {
    ($($(#[$text:meta])* $name:ident)+) => {
        /// What a step does. The second operand is a register or the immediate, which is put where a register would be.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Operation { $($(#[$text])* $name,)+ }
    };
}

operations! {
    Add64 Sub64 Mul64 Div64 Or64 And64 Lsh64 Rsh64 Mod64 Xor64 Mov64 Arsh64 Sdiv64 Smod64 Neg64
    Add32 Sub32 Mul32 Div32 Or32 And32 Lsh32 Rsh32 Mod32 Xor32 Mov32 Arsh32 Sdiv32 Smod32 Neg32
    Mov64From8 Mov64From16 Mov64From32 Mov32From8 Mov32From16
    Low16 Swap16 Swap32 Swap64
    Jump
    Jeq64 Jgt64 Jge64 Jset64 Jne64 Jsgt64 Jsge64 Jlt64 Jle64 Jslt64 Jsle64
    Jeq32 Jgt32 Jge32 Jset32 Jne32 Jsgt32 Jsge32 Jlt32 Jle32 Jslt32 Jsle32
    Load8 Load16 Load32 Load64 LoadSigned8 LoadSigned16 LoadSigned32
    Store8 Store16 Store32 Store64
    Atomic32 Atomic64
    /// Packet load at the immediate (`LD_ABS`) or at a register and the immediate (`LD_IND`).
    LoadAbsolute LoadIndirect
    Call CallHelper TailCall Exit
    /// Takes the immediate from the fuel. It stands in front of the step of an instruction that has a charge.
    Charge
    /// Nothing that was checked leads here.
    Invalid
}

use Operation::*;

/// A register, or the place of the immediate behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operand {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    Immediate,
}

impl Operand {
    pub const COUNT: usize = 12;

    fn register(number: u8) -> Option<Operand> {
        use Operand::*;
        [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10]
            .get(usize::from(number))
            .copied()
    }
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub operation: Operation,
    pub dst: Operand,
    pub src: Operand,
    /// Octets of a packet load.
    pub size: u8,
    /// Displacement of an access, or the step that a jump or call leads to.
    pub offset: i32,
    /// The immediate: the second operand, an atomic operation, a charge, the index of a helper.
    pub immediate: u64,
}

/// A program's steps.
///
/// Invariant, which the interpreter's speed rests on: every entry and every jump's and call's target is an index of
/// `steps`, and the last step is `Invalid`, behind which nothing goes on.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    steps: Box<[Step]>,
    /// The instruction of each step.
    instructions: Box<[u32]>,
    /// The step that each function starts with.
    entries: Box<[u32]>,
    helpers: Box<[&'static Helper]>,
}

impl Steps {
    /// Decodes a program. What has not been checked may have steps that stop the run.
    pub(crate) fn new(instructions: &[Instruction], functions: &[Function], charges: &[u32]) -> Steps {
        let mut builder = Builder::default();
        let mut second_half = false;
        for (index, instruction) in instructions.iter().enumerate() {
            builder.places.push(builder.steps.len() as u32);
            if std::mem::take(&mut second_half) {
                continue;
            }
            second_half = instruction.is_wide();
            let charge = charges.get(index).copied().unwrap_or(0);
            if charge != 0 {
                builder.push(index, step(Charge, u64::from(charge)));
            }
            let next = instructions.get(index + 1).copied().unwrap_or_default();
            let decoded = builder.decode(index, *instruction, next);
            builder.push(index, decoded.unwrap_or(step(Invalid, 0)));
        }
        builder.push(instructions.len(), step(Invalid, 0));
        builder.finish(functions)
    }

    /// The first of all steps.
    pub(super) fn as_ptr(&self) -> *const Step {
        self.steps.as_ptr()
    }

    /// The step that a function starts with; that of the first one if there is no such function.
    pub(super) fn entry(&self, function: usize) -> usize {
        self.entries.get(function).map_or(0, |entry| *entry as usize)
    }

    /// The instruction of a step.
    pub(super) fn instruction(&self, step: usize) -> u32 {
        self.instructions.get(step).copied().unwrap_or(0)
    }

    /// A helper by its place in the table.
    pub(super) fn helper(&self, index: u64) -> Option<&'static Helper> {
        self.helpers.get(index as usize).copied()
    }
}

#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
    instructions: Vec<u32>,
    /// The first step of each instruction.
    places: Vec<u32>,
    helpers: Vec<&'static Helper>,
}

fn step(operation: Operation, immediate: u64) -> Step {
    Step {
        operation,
        dst: Operand::R0,
        src: Operand::Immediate,
        size: 0,
        offset: 0,
        immediate,
    }
}

impl Builder {
    fn push(&mut self, instruction: usize, step: Step) {
        self.steps.push(step);
        self.instructions.push(instruction as u32);
    }

    /// Turns targets, which are instructions so far, into steps.
    fn finish(mut self, functions: &[Function]) -> Steps {
        let last = (self.steps.len() - 1) as u32;
        let place = |instruction: usize| self.places.get(instruction).copied().unwrap_or(last);
        for step in &mut self.steps {
            if step.operation.has_target() {
                step.offset = place(step.offset as usize) as i32;
            }
        }
        Steps {
            entries: functions.iter().map(|function| place(function.start)).collect(),
            steps: self.steps.into(),
            instructions: self.instructions.into(),
            helpers: self.helpers.into(),
        }
    }

    /// The step of an instruction; None if there is no such instruction.
    fn decode(&mut self, index: usize, instruction: Instruction, next: Instruction) -> Option<Step> {
        let dst = Operand::register(instruction.dst)?;
        let register = Operand::register(instruction.src);
        let immediate = i64::from(instruction.imm) as u64;
        let src = match instruction.opcode & source::X {
            source::X => register?,
            _ => Operand::Immediate,
        };
        let plain = |operation| Step {
            dst,
            src,
            offset: i32::from(instruction.offset),
            size: size::octets(instruction.opcode),
            ..step(operation, immediate)
        };
        let wide = instruction.class() == class::ALU64;
        Some(match instruction.class() {
            class::ALU | class::ALU64 => plain(arithmetic(instruction, wide)?).with_swap(instruction),
            class::JMP | class::JMP32 => match instruction.opcode {
                opcode::CALL => self.call(index, instruction)?,
                opcode::EXIT => plain(Exit),
                _ => Step {
                    offset: i32::try_from(instruction.jump_target(index)?).ok()?,
                    ..plain(condition(instruction)?)
                },
            },
            class::LDX => Step {
                src: register?,
                ..plain(load(instruction.opcode)?)
            },
            class::STX if instruction.opcode & 0xe0 == mode::ATOMIC => Step {
                src: register?,
                ..plain(match instruction.opcode & size::DW {
                    size::W => Atomic32,
                    size::DW => Atomic64,
                    _ => return None,
                })
            },
            class::ST => Step {
                src: Operand::Immediate,
                ..plain(store(instruction.opcode)?)
            },
            class::STX => Step {
                src: register?,
                ..plain(store(instruction.opcode)?)
            },
            _ if instruction.is_wide() => Step {
                src: Operand::Immediate,
                immediate: u64::from(instruction.imm as u32) | u64::from(next.imm as u32) << 32,
                ..plain(Mov64)
            },
            _ => match instruction.opcode & 0xe0 {
                mode::ABS => plain(LoadAbsolute),
                mode::IND => Step {
                    src: register?,
                    ..plain(LoadIndirect)
                },
                _ => return None,
            },
        })
    }

    fn call(&mut self, index: usize, instruction: Instruction) -> Option<Step> {
        if instruction.src == pseudo::CALL {
            let target = i32::try_from(instruction.function_target(index)?).ok()?;
            return Some(Step {
                offset: target,
                ..step(Call, 0)
            });
        }
        let id = instruction.imm as u32;
        if !instruction.is_helper_call() || id == helper::TAIL_CALL {
            return instruction.is_helper_call().then(|| step(TailCall, 0));
        }
        self.helpers.push(helper::find(id)?);
        Some(step(CallHelper, (self.helpers.len() - 1) as u64))
    }
}

impl Operation {
    /// Whether the step's offset is a step.
    fn has_target(self) -> bool {
        matches!(self, Call) || (Jump as u8..=Jsle32 as u8).contains(&(self as u8))
    }
}

impl Step {
    /// Conversions of octet order have no second operand, and `le` of 32 and 64 bits is a move.
    fn with_swap(self, instruction: Instruction) -> Step {
        match instruction.opcode & 0xf0 {
            alu::END => Step {
                src: self.dst,
                ..self
            },
            _ => self,
        }
    }
}

fn arithmetic(instruction: Instruction, wide: bool) -> Option<Operation> {
    // RFC 9669, 4.1: the offset makes division signed, and moves extend signs.
    let signed = instruction.offset == 1;
    let [in32, in64] = match (instruction.opcode & 0xf0, instruction.offset) {
        (alu::ADD, _) => [Add32, Add64],
        (alu::SUB, _) => [Sub32, Sub64],
        (alu::MUL, _) => [Mul32, Mul64],
        (alu::DIV, _) if signed => [Sdiv32, Sdiv64],
        (alu::DIV, _) => [Div32, Div64],
        (alu::OR, _) => [Or32, Or64],
        (alu::AND, _) => [And32, And64],
        (alu::LSH, _) => [Lsh32, Lsh64],
        (alu::RSH, _) => [Rsh32, Rsh64],
        (alu::NEG, _) => [Neg32, Neg64],
        (alu::MOD, _) if signed => [Smod32, Smod64],
        (alu::MOD, _) => [Mod32, Mod64],
        (alu::XOR, _) => [Xor32, Xor64],
        (alu::MOV, 0) => [Mov32, Mov64],
        (alu::MOV, 8) => [Mov32From8, Mov64From8],
        (alu::MOV, 16) => [Mov32From16, Mov64From16],
        (alu::MOV, 32) => [Invalid, Mov64From32],
        (alu::ARSH, _) => [Arsh32, Arsh64],
        (alu::END, _) => return octet_order(instruction, wide),
        _ => return None,
    };
    Some(if wide { in64 } else { in32 })
}

/// Conversions of octet order (RFC 9669, 4.2), on a little-endian machine's behalf.
fn octet_order(instruction: Instruction, wide: bool) -> Option<Operation> {
    let swaps = wide || instruction.opcode & source::X != 0;
    Some(match (instruction.imm, swaps) {
        (16, true) => Swap16,
        (32, true) => Swap32,
        (64, true) => Swap64,
        (16, false) => Low16,
        (32, false) => Mov32,
        (64, false) => Mov64,
        _ => return None,
    })
}

fn condition(instruction: Instruction) -> Option<Operation> {
    let [in32, in64] = match instruction.opcode & 0xf0 {
        jump::JA => [Jump, Jump],
        jump::JEQ => [Jeq32, Jeq64],
        jump::JGT => [Jgt32, Jgt64],
        jump::JGE => [Jge32, Jge64],
        jump::JSET => [Jset32, Jset64],
        jump::JNE => [Jne32, Jne64],
        jump::JSGT => [Jsgt32, Jsgt64],
        jump::JSGE => [Jsge32, Jsge64],
        jump::JLT => [Jlt32, Jlt64],
        jump::JLE => [Jle32, Jle64],
        jump::JSLT => [Jslt32, Jslt64],
        jump::JSLE => [Jsle32, Jsle64],
        _ => return None,
    };
    Some(if instruction.class() == class::JMP {
        in64
    } else {
        in32
    })
}

fn load(opcode: u8) -> Option<Operation> {
    Some(match (opcode & 0xe0, opcode & size::DW) {
        (mode::MEM, size::B) => Load8,
        (mode::MEM, size::H) => Load16,
        (mode::MEM, size::W) => Load32,
        (mode::MEM, _) => Load64,
        (mode::MEMSX, size::B) => LoadSigned8,
        (mode::MEMSX, size::H) => LoadSigned16,
        (mode::MEMSX, size::W) => LoadSigned32,
        _ => return None,
    })
}

fn store(opcode: u8) -> Option<Operation> {
    Some(match (opcode & 0xe0, opcode & size::DW) {
        (mode::MEM, size::B) => Store8,
        (mode::MEM, size::H) => Store16,
        (mode::MEM, size::W) => Store32,
        (mode::MEM, _) => Store64,
        _ => return None,
    })
}
