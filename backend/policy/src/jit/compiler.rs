//! Turns instructions into machine code, one at a time.
//!
//! Registers are laid out so that calls of helpers move nothing: rdi is the machine, r1 to r5 are the arguments of the
//! System V ABI behind it, r0 is its result, r6 to r9 are preserved by it. r10 is rbp, which only ever has 32-bit
//! values; r12 is the window; native r10 and r11 are for the compiler.

use super::encoder::{Arithmetic, Assembler, Condition, Label, Memory, Register, Size};
use super::entry::{STOP_CALL_DEPTH, STOP_FUEL, STOP_MISALIGNED};
use super::flow::{Flow, jump_target};
use super::{CompileError, Maps};
use crate::code::Code;
use crate::helper::Helper;
use crate::machine::Words;
use crate::{Instruction, class, jump, mode, opcode, source};
use std::mem::offset_of;

/// The machine words that compiled code uses.
pub(super) const FUEL: u8 = offset_of!(Words, fuel) as u8;
pub(super) const STOPPED: u8 = offset_of!(Words, stopped) as u8;
pub(super) const FRAME: u8 = offset_of!(Words, frame) as u8;
pub(super) const INSTRUCTION: u8 = offset_of!(Words, instruction) as u8;
pub(super) const ABORT_STACK: u8 = offset_of!(Words, abort_stack) as u8;
pub(super) const FAULT_ADDRESS: u8 = offset_of!(Words, fault_address) as u8;
pub(super) const SCRATCH: u8 = offset_of!(Words, scratch) as u8;

/// What the code is compiled for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub maps: &'a dyn Maps,
    pub helpers: fn(u32) -> Option<&'static Helper>,
    /// The processor has BMI2.
    pub bmi2: bool,
    /// Accesses are confined to the window. Always, but for measuring what it costs.
    pub isolated: bool,
}

/// What the compiler makes.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub code: Vec<u8>,
    pub functions: Vec<Entry>,
    /// Where the code of each instruction starts; None is code that belongs to none.
    pub marks: Vec<(u32, Option<u32>)>,
    /// Where the code behind all functions starts that ends runs.
    pub stops: u32,
    /// Functions of the engine that the code calls.
    pub callees: Vec<u64>,
}

/// Where a function can be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Here it is charged for its instructions.
    pub charged: u32,
    /// Here it is not, for the start of a program.
    pub free: u32,
}

/// Why code stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Fuel,
    CallDepth,
    Misaligned,
}

/// The compiler at work.
pub(super) struct Compiler<'a> {
    pub code: &'a Code,
    pub target: Target<'a>,
    pub flow: Flow,
    pub assembler: Assembler,
    pub output: Output,
    /// By instruction.
    labels: Vec<Label>,
    /// By function: its charged entry.
    pub entries: Vec<Label>,
    stops: Vec<(Label, Stop, u32)>,
    pub abort: Label,
    /// The register whose low half r11 holds now.
    pub held: Option<Register>,
    /// The function that is compiled.
    pub function: usize,
}

/// Compiles a program.
pub(super) fn translate(code: &Code, target: Target<'_>) -> Result<Output, CompileError> {
    let flow = Flow::of(code)?;
    let mut assembler = Assembler::default();
    let labels = code.instructions.iter().map(|_| assembler.label()).collect();
    let entries = code.functions.iter().map(|_| assembler.label()).collect();
    let abort = assembler.label();
    let mut compiler = Compiler {
        code,
        target,
        flow,
        assembler,
        output: Output::default(),
        labels,
        entries,
        stops: Vec::new(),
        abort,
        held: None,
        function: 0,
    };
    for function in 0..code.functions.len() {
        compiler.compile_function(function)?;
    }
    compiler.compile_stops();
    let Compiler {
        assembler,
        mut output,
        ..
    } = compiler;
    output.callees.sort_unstable();
    output.callees.dedup();
    output.code = assembler.finish().ok_or(CompileError::Function { function: 0 })?;
    Ok(output)
}

/// The native register of a BPF register.
pub(super) fn native(register: u8) -> Register {
    use Register::*;
    const REGISTERS: [Register; 11] = [Rax, Rsi, Rdx, Rcx, R8, R9, Rbx, R13, R14, R15, Rbp];
    // The flow has refused others.
    REGISTERS[register.min(10) as usize]
}

impl Compiler<'_> {
    fn compile_function(&mut self, function: usize) -> Result<(), CompileError> {
        self.function = function;
        let (start, end) = (
            self.code.functions[function].start,
            self.code.functions[function].end,
        );
        let charged = self.assembler.offset();
        self.output.marks.push((charged, Some(start as u32)));
        self.assembler.bind(self.entries[function]);
        self.charge((end - start) as u32, start);
        let free = self.assembler.offset();
        self.output.functions.push(Entry { charged, free });
        for register in self.pushed() {
            self.assembler.push(register);
        }
        self.held = None;
        let mut at = start;
        while at < end {
            let offset = self.assembler.offset();
            self.output.marks.push((offset, Some(at as u32)));
            self.assembler.bind(self.labels[at]);
            let step = self.flow.steps[at];
            if step.target {
                self.held = None;
            }
            if step.charge != 0 {
                self.charge(step.charge, at);
            }
            self.compile_instruction(at)?;
            at += if self.code.instructions[at].is_wide() {
                2
            } else {
                1
            };
        }
        Ok(())
    }

    /// What the function pushes when it is entered. The machine is last, so that it is found there after calls, and
    /// first once more where that is needed for the stack to be aligned at calls.
    fn pushed(&self) -> Vec<Register> {
        let frame = self.flow.frames[self.function];
        let mut pushed = Vec::new();
        if frame.called {
            pushed.extend((6..10).filter(|r| frame.registers >> r & 1 != 0).map(native));
        }
        if frame.calls {
            if pushed.len() % 2 == 1 {
                pushed.insert(0, Register::Rdi);
            }
            pushed.push(Register::Rdi);
        }
        pushed
    }

    /// Takes `amount` instructions off what the program may still run, and stops it if there are no more.
    fn charge(&mut self, amount: u32, at: usize) {
        let amount = i32::try_from(amount).unwrap_or(i32::MAX);
        let stop = self.stop(Stop::Fuel, at);
        self.assembler
            .arithmetic_immediate(Arithmetic::Sub, Size::Qword, Memory::Machine(FUEL), amount);
        self.assembler.jump_if(Condition::Negative, stop);
    }

    /// A label where the run ends.
    pub fn stop(&mut self, stop: Stop, at: usize) -> Label {
        let label = self.assembler.label();
        self.stops.push((label, stop, at as u32));
        label
    }

    fn compile_instruction(&mut self, at: usize) -> Result<(), CompileError> {
        let instruction = self.code.instructions[at];
        let unknown = || CompileError::Unknown {
            instruction: at,
            opcode: instruction.opcode,
        };
        let known = match instruction.class() {
            class::ALU | class::ALU64 => self.compile_arithmetic(instruction),
            class::JMP | class::JMP32 => return self.compile_jump(at, instruction),
            class::LD if instruction.opcode == opcode::LDDW => {
                let upper = self.code.instructions.get(at + 1).ok_or_else(unknown)?.imm;
                let value = u64::from(instruction.imm as u32) | u64::from(upper as u32) << 32;
                self.write_immediate(instruction.dst, value);
                true
            }
            class::LD => match instruction.opcode & 0xe0 {
                mode::ABS | mode::IND => self.compile_packet_load(at, instruction),
                _ => false,
            },
            class::LDX | class::ST | class::STX => self.compile_access(at, instruction),
            _ => false,
        };
        if known { Ok(()) } else { Err(unknown()) }
    }

    /// Puts a value into a BPF register.
    pub fn write_immediate(&mut self, register: u8, value: u64) {
        self.assembler.mov_immediate(native(register), value);
        self.written(native(register));
    }

    /// Notes that a register has another value now.
    pub fn written(&mut self, register: Register) {
        if self.held == Some(register) {
            self.held = None;
        }
    }

    fn compile_jump(&mut self, at: usize, instruction: Instruction) -> Result<(), CompileError> {
        let operation = instruction.opcode & 0xf0;
        let unknown = CompileError::Unknown {
            instruction: at,
            opcode: instruction.opcode,
        };
        match instruction.opcode {
            opcode::CALL => return self.compile_call(at, instruction),
            opcode::EXIT => {
                self.leave();
                // Behind it, nothing is known of r11.
                self.held = None;
                return Ok(());
            }
            _ => {}
        }
        let target = jump_target(at, instruction).flatten();
        let label = *target.and_then(|target| self.labels.get(target)).ok_or(unknown)?;
        if operation == jump::JA {
            self.held = None;
            match instruction.opcode {
                opcode::JA | opcode::JA32 => self.assembler.jump(label),
                opcode => {
                    return Err(CompileError::Unknown {
                        instruction: at,
                        opcode,
                    });
                }
            }
            return Ok(());
        }
        let condition = match operation {
            jump::JEQ => Condition::Equal,
            jump::JNE | jump::JSET => Condition::NotEqual,
            jump::JGT => Condition::Above,
            jump::JGE => Condition::AboveOrEqual,
            jump::JLT => Condition::Below,
            jump::JLE => Condition::BelowOrEqual,
            jump::JSGT => Condition::Greater,
            jump::JSGE => Condition::GreaterOrEqual,
            jump::JSLT => Condition::Less,
            jump::JSLE => Condition::LessOrEqual,
            _ => {
                return Err(CompileError::Unknown {
                    instruction: at,
                    opcode: instruction.opcode,
                });
            }
        };
        let size = match instruction.class() {
            class::JMP => Size::Qword,
            _ => Size::Dword,
        };
        let (dst, src) = (native(instruction.dst), native(instruction.src));
        match (operation, instruction.opcode & source::X) {
            (jump::JSET, source::K) => self.assembler.test_immediate(size, dst, instruction.imm),
            (jump::JSET, _) => self.assembler.test(size, dst, src),
            (_, source::K) => {
                self.assembler
                    .arithmetic_immediate(Arithmetic::Cmp, size, dst, instruction.imm)
            }
            _ => self.assembler.arithmetic(Arithmetic::Cmp, size, dst, src),
        }
        self.assembler.jump_if(condition, label);
        Ok(())
    }

    /// Returns from the function with r0.
    pub fn leave(&mut self) {
        for register in self.pushed().into_iter().rev() {
            self.assembler.pop(register);
        }
        self.assembler.ret();
    }

    /// The code behind all functions: for each place that can stop, one that says where and why; then the end.
    fn compile_stops(&mut self) {
        self.output.stops = self.assembler.offset();
        self.output.marks.push((self.output.stops, None));
        let stops = std::mem::take(&mut self.stops);
        let kinds = [
            (Stop::Fuel, STOP_FUEL),
            (Stop::CallDepth, STOP_CALL_DEPTH),
            (Stop::Misaligned, STOP_MISALIGNED),
        ]
        .map(|(stop, number)| (stop, number, self.assembler.label()));
        for (label, stop, at) in stops {
            self.assembler.bind(label);
            self.assembler
                .store_immediate(Size::Dword, Memory::Machine(INSTRUCTION), at as i32);
            for (kind, _, shared) in kinds {
                if kind == stop {
                    self.assembler.jump(shared);
                }
            }
        }
        for (kind, number, label) in kinds {
            self.assembler.bind(label);
            if kind == Stop::Misaligned {
                self.assembler
                    .mov(Size::Qword, Memory::Machine(FAULT_ADDRESS), Register::R10);
            }
            self.assembler
                .store_immediate(Size::Dword, Memory::Machine(STOPPED), number as i32);
            self.assembler.jump(self.abort);
        }
        self.assembler.bind(self.abort);
        self.assembler
            .load(Size::Qword, Register::Rsp, Memory::Machine(ABORT_STACK));
        self.assembler.ret();
    }
}
