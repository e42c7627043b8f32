//! The proof of a function, from its charge to its last return.

use std::ops::Range;

use iced_x86::{
    Code, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use super::forms::{
    Registers, check_operands, check_word, has_memory, is_charge, is_harmless, is_jump, is_stack_top, is_word,
};
use super::{ProofError, Text, Verdict};
use crate::jit::compiler::{Output, STOPPED};
use crate::layout::FRAME_LEN;

/// Registers that calls of the engine leave values of the host in.
const CLOBBERED: Registers = Registers::of(&[
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
]);
/// Those among them that are no program's.
const OURS: Registers = Registers::of(&[Register::R10, Register::R11]);
/// Registers that only fixed forms write.
const FIXED: Registers = Registers::of(&[Register::RSP, Register::RBP, Register::RDI, Register::R12]);

/// What the next instruction must be, where it is not for it to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Anything,
    /// `mov rdi, [rsp]`, after a call of the engine.
    Reload,
    /// `cmp dword [rdi + stopped], 0`
    Compare,
    /// `jne` to where runs end.
    Leave,
    /// `js` to where runs end.
    FuelJump,
}

/// What is known of the divisor in r11.
#[derive(Debug, Clone, Copy, Default)]
struct Divisor {
    not_zero: [bool; 2],
    not_minus_one: [bool; 2],
}

/// What is known between two instructions of a function.
struct State<'a> {
    output: &'a Output,
    text: &'a Text,
    range: Range<u32>,
    /// The upper half of r11 is zero.
    narrow: bool,
    divisor: Divisor,
    tainted: Registers,
    /// What the function pushed.
    pushed: Vec<Register>,
    /// How much of that is popped.
    popped: usize,
    /// Pushes are over; where the first other instruction is.
    body: Option<u64>,
    expected: Expected,
    previous: Instruction,
    information: InstructionInfoFactory,
}

/// Proves the function in a part of the code.
pub(super) fn prove(output: &Output, text: &Text, range: Range<u32>) -> Result<(), ProofError> {
    let mut state = State {
        output,
        text,
        range: range.clone(),
        narrow: false,
        divisor: Divisor::default(),
        tainted: OURS,
        pushed: Vec::new(),
        popped: 0,
        body: None,
        expected: Expected::Anything,
        previous: Instruction::default(),
        information: InstructionInfoFactory::new(),
    };
    for instruction in text.within(range.clone()) {
        state.step(instruction).map_err(|reason| ProofError {
            offset: instruction.ip() as usize,
            reason,
        })?;
        state.previous = *instruction;
    }
    let jumps_back = |instruction: &&Instruction| {
        state
            .body
            .is_none_or(|body| (u64::from(range.start)..body).contains(&instruction.near_branch_target()))
            && is_jump(instruction)
    };
    if let Some(jump) = text.within(range.clone()).find(jumps_back) {
        return Err(ProofError {
            offset: jump.ip() as usize,
            reason: "a jump into the start of a function",
        });
    }
    match state.previous.flow_control() {
        FlowControl::Return | FlowControl::UnconditionalBranch => Ok(()),
        _ => Err(ProofError {
            offset: range.end as usize,
            reason: "a function does not end",
        }),
    }
}

impl State<'_> {
    fn step(&mut self, instruction: &Instruction) -> Verdict {
        self.arrive(instruction)?;
        if self.expected != Expected::Anything {
            return self.expect(instruction);
        }
        check_operands(instruction)?;
        let offset = instruction.ip();
        if offset == u64::from(self.range.start) && !is_charge(instruction) {
            return Err("a function that is not charged for");
        }
        if self.body.is_none() && offset != u64::from(self.range.start) {
            if instruction.code() == Code::Push_r64 {
                self.pushed.push(instruction.op0_register());
                return Ok(());
            }
            self.body = Some(offset);
        }
        if self.popped > 0 && !matches!(instruction.mnemonic(), Mnemonic::Pop | Mnemonic::Ret) {
            return Err("something between pops");
        }
        match instruction.code() {
            Code::Pop_r64 => self.pop(instruction.op0_register()),
            Code::Retnq => self.ret(),
            Code::Call_rel32_64 => self.call(instruction.near_branch_target()),
            Code::Call_rm64 => self.call_engine(instruction),
            _ if is_jump(instruction) => self.jump(instruction),
            _ if is_charge(instruction) => {
                self.expected = Expected::FuelJump;
                Ok(())
            }
            _ => self.compute(instruction),
        }
    }

    /// Forgets what jumps to here may not know.
    fn arrive(&mut self, instruction: &Instruction) -> Verdict {
        if !self
            .text
            .targets
            .get(instruction.ip() as usize)
            .is_some_and(|target| *target)
        {
            return Ok(());
        }
        if self.popped > 0 || self.expected != Expected::Anything {
            return Err("a jump into the middle of a fixed form");
        }
        self.narrow = false;
        self.divisor = Divisor::default();
        self.tainted = self.tainted.and(OURS);
        self.previous = Instruction::default();
        Ok(())
    }

    fn expect(&mut self, instruction: &Instruction) -> Verdict {
        let leaves = instruction.near_branch_target() >= u64::from(self.output.stops)
            && self.text.at(instruction.near_branch_target()).is_some();
        let condition = instruction.condition_code();
        let jumps = is_jump(instruction) && leaves;
        let (met, next) = match self.expected {
            Expected::Reload => (
                instruction.code() == Code::Mov_r64_rm64
                    && instruction.op0_register() == Register::RDI
                    && is_stack_top(instruction),
                Expected::Compare,
            ),
            Expected::Compare => (
                is_word(instruction, STOPPED)
                    && instruction.code() == Code::Cmp_rm32_imm8
                    && instruction.immediate8() == 0,
                Expected::Leave,
            ),
            Expected::Leave => (jumps && condition == ConditionCode::ne, Expected::Anything),
            Expected::FuelJump => (jumps && condition == ConditionCode::s, Expected::Anything),
            Expected::Anything => (true, Expected::Anything),
        };
        self.expected = next;
        check_operands(instruction)?;
        if met {
            Ok(())
        } else {
            Err("a fixed form is incomplete")
        }
    }

    fn pop(&mut self, register: Register) -> Verdict {
        let index = self.pushed.len().checked_sub(self.popped + 1);
        if index.and_then(|index| self.pushed.get(index)) != Some(&register) {
            return Err("a pop of what was not pushed");
        }
        self.popped += 1;
        Ok(())
    }

    fn ret(&mut self) -> Verdict {
        if self.popped != self.pushed.len() {
            return Err("a return with something pushed");
        }
        self.popped = 0;
        self.end_flow();
        Ok(())
    }

    /// Forgets all: what comes next is reached from elsewhere, and whoever leads there brings no value of the host along.
    fn end_flow(&mut self) {
        self.narrow = false;
        self.divisor = Divisor::default();
        self.tainted = OURS;
    }

    fn call(&mut self, target: u64) -> Verdict {
        let known = self
            .output
            .functions
            .binary_search_by_key(&target, |entry| entry.charged.into())
            .is_ok();
        if !known || self.pushed.len().is_multiple_of(2) {
            return Err("a call of no function, or with the stack not aligned");
        }
        if self.tainted.without(OURS) != Registers::NONE {
            return Err("a call with a value of the host");
        }
        self.end_flow();
        Ok(())
    }

    fn call_engine(&mut self, instruction: &Instruction) -> Verdict {
        let address = self.previous;
        let known = address.code() == Code::Mov_r64_imm64
            && address.op0_register() == Register::RAX
            && self.output.callees.contains(&address.immediate64());
        let fixed = instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RAX;
        if !known || !fixed {
            return Err("a call of no function of the engine");
        }
        if self.pushed.len().is_multiple_of(2) || self.pushed.last() != Some(&Register::RDI) {
            return Err("a call of the engine without the machine on an aligned stack");
        }
        if self.tainted.without(OURS) != Registers::NONE {
            return Err("a call with a value of the host");
        }
        self.narrow = false;
        self.divisor = Divisor::default();
        self.tainted = CLOBBERED;
        self.expected = Expected::Reload;
        Ok(())
    }

    fn jump(&mut self, instruction: &Instruction) -> Verdict {
        let target = instruction.near_branch_target();
        let Some(there) = self.text.at(target) else {
            return Err("a jump to no instruction");
        };
        if target < u64::from(self.output.stops) {
            if !(u64::from(self.range.start)..u64::from(self.range.end)).contains(&target) {
                return Err("a jump out of the function");
            }
            if self.tainted.without(OURS) != Registers::NONE {
                return Err("a jump with a value of the host");
            }
            let retries = self.previous.mnemonic() == Mnemonic::Cmpxchg
                && instruction.condition_code() == ConditionCode::ne;
            if target <= instruction.ip() && !is_charge(there) && !retries {
                return Err("a loop that is not charged for");
            }
        }
        if instruction.condition_code() == ConditionCode::e
            && self.previous.op0_register().full_register() == Register::R11
        {
            let wide = self.previous.op0_register() == Register::R11;
            match self.previous.code() {
                Code::Test_rm32_r32 | Code::Test_rm64_r64
                    if self.previous.op1_register() == self.previous.op0_register() =>
                {
                    self.divisor.not_zero = [!wide, true];
                }
                Code::Cmp_rm32_imm8 | Code::Cmp_rm64_imm8 if self.previous.immediate8() == 0xff => {
                    self.divisor.not_minus_one = [!wide, true];
                }
                _ => {}
            }
        }
        if instruction.flow_control() == FlowControl::UnconditionalBranch {
            self.end_flow();
        }
        Ok(())
    }

    /// Whatever goes on to the next instruction.
    fn compute(&mut self, instruction: &Instruction) -> Verdict {
        if has_memory(instruction) {
            self.check_memory(instruction)?;
        }
        if matches!(instruction.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
            self.check_division(instruction)?;
        } else if !is_harmless(instruction.mnemonic()) {
            return Err("an instruction that is not used");
        }
        let (reads, writes) = self.registers(instruction);
        // A register that is only moved onto itself is not read, as far as anybody could tell.
        let onto_itself = instruction.code() == Code::Mov_rm32_r32
            && instruction.op0_register() == instruction.op1_register();
        let frame = matches!(instruction.code(), Code::Add_rm32_imm32 | Code::Sub_rm32_imm32)
            && instruction.op0_register() == Register::EBP
            && instruction.immediate32() == FRAME_LEN;
        if writes.meets(FIXED) && !frame {
            return Err("a write to a register that is not to be written");
        }
        if onto_itself {
            self.narrow |= instruction.op0_register() == Register::R11D;
            return Ok(());
        }
        if reads.meets(self.tainted) {
            return Err("a read of what the host left");
        }
        self.tainted = self.tainted.without(writes);
        if writes.meets(Registers::of(&[Register::R11])) {
            self.narrow = instruction.op0_register() == Register::R11D;
            self.divisor = divisor(instruction);
        }
        Ok(())
    }

    fn check_memory(&self, instruction: &Instruction) -> Verdict {
        let displacement = instruction.memory_displacement64() as i64;
        let short = (i64::from(i16::MIN)..=i64::from(i16::MAX)).contains(&displacement);
        let index = instruction.memory_index();
        if instruction.mnemonic() == Mnemonic::Lea {
            let base = matches!(instruction.memory_base(), Register::R11 | Register::RBP);
            let fixed = instruction.op0_register() == Register::R10;
            return match base && fixed && index == Register::None && short {
                true => Ok(()),
                false => Err("an address that is not computed so"),
            };
        }
        match instruction.memory_base() {
            Register::R12 => {
                let confined = index == Register::RBP || index == Register::R11 && self.narrow;
                match confined && instruction.memory_index_scale() == 1 && short {
                    true => Ok(()),
                    false => Err("an access that may leave the window"),
                }
            }
            Register::RDI => check_word(instruction),
            _ => Err("an access to neither window nor machine"),
        }
    }

    fn check_division(&self, instruction: &Instruction) -> Verdict {
        let wide = match instruction.op0_register() {
            Register::R11 => 1,
            Register::R11D => 0,
            _ => return Err("a division by another register than r11"),
        };
        let previous = &self.previous;
        let extended = match (instruction.mnemonic(), wide) {
            (Mnemonic::Div, _) => {
                previous.code() == Code::Xor_rm32_r32
                    && previous.op0_register() == Register::EDX
                    && previous.op1_register() == Register::EDX
            }
            (_, 1) => previous.mnemonic() == Mnemonic::Cqo,
            _ => previous.mnemonic() == Mnemonic::Cdq,
        };
        let signed = instruction.mnemonic() == Mnemonic::Idiv;
        let sound = self.divisor.not_zero[wide] && (!signed || self.divisor.not_minus_one[wide]);
        match extended && sound {
            true => Ok(()),
            false => Err("a division that may raise an exception"),
        }
    }

    /// The registers that an instruction reads, but to compute an address, and those that it writes.
    fn registers(&mut self, instruction: &Instruction) -> (Registers, Registers) {
        let addresses = has_memory(instruction)
            && !instruction.op_kinds().enumerate().any(|(index, kind)| {
                kind == OpKind::Register
                    && instruction.op_register(index as u32).full_register() == Register::R11
            });
        let (mut reads, mut writes) = (Registers::NONE, Registers::NONE);
        for used in self.information.info(instruction).used_registers() {
            let one = Registers::of(&[used.register().full_register()]);
            let address = addresses && used.register() == Register::R11;
            match used.access() {
                OpAccess::Read | OpAccess::CondRead if address => {}
                OpAccess::Read | OpAccess::CondRead => reads = reads.and(one),
                OpAccess::Write if used.register().size() >= 4 => writes = writes.and(one),
                OpAccess::None | OpAccess::NoMemAccess => {}
                _ => {
                    reads = reads.and(one);
                    writes = writes.and(one);
                }
            }
        }
        (reads, writes)
    }
}

/// What is known of r11 after an instruction that writes it.
fn divisor(instruction: &Instruction) -> Divisor {
    let value = match instruction.code() {
        Code::Mov_r32_imm32 | Code::Mov_r64_imm64 | Code::Mov_rm64_imm32 => instruction.immediate(1),
        _ => return Divisor::default(),
    };
    Divisor {
        not_zero: [value as u32 != 0, value != 0],
        not_minus_one: [value as u32 != u32::MAX, value != u64::MAX],
    }
}
