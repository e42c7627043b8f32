//! What must be known of a program before it is compiled: where jumps lead, what loops cost, which registers are used.

use super::{CompileError, INSTRUCTIONS_MAX};
use crate::code::{Code, Function};
use crate::{Instruction, alu, atomic, class, jump, mode, opcode, source};

/// Facts about a program.
#[derive(Debug)]
pub(super) struct Flow {
    /// By instruction.
    pub steps: Vec<Step>,
    /// By function.
    pub frames: Vec<Frame>,
}

/// What is known of an instruction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// Jumps lead here.
    pub target: bool,
    /// The second half of a `lddw`.
    pub second_half: bool,
    /// What arriving here costs: the instructions of the longest loop that starts here, 0 if none does.
    pub charge: u32,
}

/// What is known of a function.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    /// Functions of the program call it, so that it must preserve r6 to r9.
    pub called: bool,
    /// Which of r6 to r9 it mentions, as bits.
    pub registers: u16,
    /// It calls something.
    pub calls: bool,
}

impl Flow {
    /// Looks at a program. What the compiler relies on is refused here if it does not hold.
    pub fn of(code: &Code) -> Result<Flow, CompileError> {
        if code.instructions.len() > INSTRUCTIONS_MAX {
            return Err(CompileError::Length {
                instructions: code.instructions.len(),
            });
        }
        let mut flow = Flow {
            steps: vec![Step::default(); code.instructions.len()],
            frames: vec![Frame::default(); code.functions.len()],
        };
        let mut behind = 0;
        for (index, function) in code.functions.iter().enumerate() {
            if function.start < behind
                || function.start >= function.end
                || function.end > code.instructions.len()
            {
                return Err(CompileError::Function { function: index });
            }
            behind = function.end;
            flow.function(code, index, function)?;
        }
        match code.functions.first() {
            Some(_) => Ok(flow),
            None => Err(CompileError::Function { function: 0 }),
        }
    }

    fn function(&mut self, code: &Code, index: usize, function: &Function) -> Result<(), CompileError> {
        let mut targets = Vec::new();
        let mut at = function.start;
        while at < function.end {
            let instruction = code.instructions[at];
            if instruction.dst > 10 || instruction.src > 10 {
                return Err(CompileError::Register { instruction: at });
            }
            if writes(instruction).contains(10) {
                return Err(CompileError::FramePointer { instruction: at });
            }
            self.frames[index].registers |= 1 << instruction.dst | 1 << instruction.src;
            if instruction.is_wide() {
                if at + 1 >= function.end || code.instructions[at + 1].opcode != 0 {
                    return Err(CompileError::Wide { instruction: at });
                }
                self.steps[at + 1].second_half = true;
                at += 1;
            } else if instruction.is_local_call() {
                let callee = callee(code, at).ok_or(CompileError::Call { instruction: at })?;
                self.frames[callee].called = true;
                self.frames[index].calls = true;
            } else if calls_out(instruction) {
                self.frames[index].calls = true;
            } else if let Some(target) = jump_target(at, instruction) {
                let target = target
                    .filter(|target| (function.start..function.end).contains(target))
                    .ok_or(CompileError::Jump { instruction: at })?;
                targets.push((at, target));
            }
            at += 1;
        }
        for (from, target) in targets {
            if self.steps[target].second_half {
                return Err(CompileError::Jump { instruction: from });
            }
            let step = &mut self.steps[target];
            step.target = true;
            if target <= from {
                step.charge = step.charge.max((from - target + 1) as u32);
            }
        }
        let last = code.instructions[function.end - 1].opcode;
        if !matches!(last, opcode::EXIT | opcode::JA | opcode::JA32) {
            return Err(CompileError::End {
                instruction: function.end - 1,
            });
        }
        Ok(())
    }

    /// Which of r1 to r5 anything could still read after the call at `at`. The others are written first, or never read.
    pub fn read_after_call(&self, code: &Code, at: usize, end: usize) -> Registers {
        let mut open = Registers::CALL;
        let mut read = Registers::NONE;
        let mut next = at + 1;
        while next < end && !open.is_empty() {
            let instruction = code.instructions[next];
            if instruction.opcode == opcode::EXIT {
                return read;
            }
            if self.steps[next].target || is_barrier(instruction) {
                break;
            }
            read = read.and(reads(instruction).within(open));
            open = open.without(reads(instruction)).without(writes(instruction));
            next += if instruction.is_wide() { 2 } else { 1 };
        }
        read.and(open)
    }
}

/// A set of BPF registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers(u16);

impl Registers {
    pub const NONE: Registers = Registers(0);
    /// Those that calls do not preserve, without the result.
    pub const CALL: Registers = Registers(0b11_1110);

    fn one(register: u8) -> Registers {
        Registers(1 << (register & 15))
    }

    fn and(self, other: Registers) -> Registers {
        Registers(self.0 | other.0)
    }

    fn within(self, other: Registers) -> Registers {
        Registers(self.0 & other.0)
    }

    fn without(self, other: Registers) -> Registers {
        Registers(self.0 & !other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, register: u8) -> bool {
        self.0 >> (register & 15) & 1 != 0
    }
}

/// The registers that an instruction writes, without calls.
pub(super) fn writes(instruction: Instruction) -> Registers {
    let Instruction {
        opcode,
        dst,
        src,
        imm,
        ..
    } = instruction;
    match instruction.class() {
        class::ALU | class::ALU64 | class::LDX => Registers::one(dst),
        class::LD if opcode == opcode::LDDW => Registers::one(dst),
        class::STX if opcode & 0xe0 == mode::ATOMIC && imm == atomic::CMPXCHG => Registers::one(0),
        class::STX if opcode & 0xe0 == mode::ATOMIC && imm & atomic::FETCH != 0 => Registers::one(src),
        _ => Registers::NONE,
    }
}

/// The registers that an instruction reads, if it is no barrier.
fn reads(instruction: Instruction) -> Registers {
    let Instruction { opcode, dst, src, .. } = instruction;
    let (to, from) = (Registers::one(dst), Registers::one(src));
    match instruction.class() {
        class::ALU | class::ALU64 => match (opcode & 0xf0, opcode & source::X) {
            (alu::MOV, source::K) => Registers::NONE,
            (alu::MOV, _) => from,
            (_, source::K) => to,
            _ => to.and(from),
        },
        class::LDX => from,
        class::ST => to,
        class::STX => to.and(from),
        _ => Registers::NONE,
    }
}

/// Instructions after which it is not looked further: they lead elsewhere, or their code uses more registers than they
/// name.
fn is_barrier(instruction: Instruction) -> bool {
    let operation = instruction.opcode & 0xf0;
    match instruction.class() {
        class::ALU | class::ALU64 => {
            matches!(
                operation,
                alu::DIV | alu::MOD | alu::LSH | alu::RSH | alu::ARSH | alu::END
            )
        }
        class::JMP | class::JMP32 => true,
        class::LD => instruction.opcode != opcode::LDDW,
        class::STX => instruction.opcode & 0xe0 != mode::MEM,
        _ => false,
    }
}

/// Whether an instruction calls a function of the engine.
fn calls_out(instruction: Instruction) -> bool {
    instruction.opcode == opcode::CALL
        || instruction.class() == class::LD && matches!(instruction.opcode & 0xe0, mode::ABS | mode::IND)
}

/// Where a jump leads; the inner None is nowhere. The outer None is for everything that does not jump.
pub(super) fn jump_target(at: usize, instruction: Instruction) -> Option<Option<usize>> {
    let distance = match (instruction.class(), instruction.opcode & 0xf0) {
        (class::JMP | class::JMP32, jump::CALL | jump::EXIT) => return None,
        (class::JMP32, jump::JA) => i64::from(instruction.imm),
        (class::JMP | class::JMP32, _) => i64::from(instruction.offset),
        _ => return None,
    };
    Some(usize::try_from(at as i64 + 1 + distance).ok())
}

/// The function that a local call calls, of functions in order.
pub(super) fn callee(code: &Code, at: usize) -> Option<usize> {
    let distance = code.instructions.get(at)?.imm;
    let start = usize::try_from(at as i64 + 1 + i64::from(distance)).ok()?;
    code.functions
        .binary_search_by_key(&start, |function| function.start)
        .ok()
}
