//! The forms of single instructions that the proof knows.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::Verdict;
use crate::jit::compiler::{ABORT_STACK, FRAME, FUEL, INSTRUCTION, SCRATCH};

/// The words of the machine, each with the only ways that functions use it.
pub(super) fn check_word(instruction: &Instruction) -> Verdict {
    use Code::*;
    let code = instruction.code();
    let frame = code == Mov_rm32_r32 && instruction.op1_register() == Register::EBP;
    let keep = code == Mov_rm64_r64 && instruction.op1_register() == Register::RAX;
    let told = code == Cmp_rm32_imm8 && instruction.immediate8() == 0;
    let put_back = code == Mov_r64_rm64 && instruction.op0_register() == Register::RAX;
    let combine = matches!(
        code,
        Or_r32_rm32 | Or_r64_rm64 | And_r32_rm32 | And_r64_rm64 | Xor_r32_rm32 | Xor_r64_rm64
    ) && instruction.op0_register().full_register() == Register::R10;
    let known = is_word(instruction, INSTRUCTION) && code == Mov_rm32_imm32
        || is_word(instruction, FRAME) && frame
        || is_word(instruction, SCRATCH) && (keep || told || put_back || combine);
    match known {
        true => Ok(()),
        false => Err("an access to the machine that is not used"),
    }
}

/// `mov rsp, [rdi + abort_stack]`
pub(super) fn is_stack_restored(instruction: &Instruction) -> bool {
    instruction.code() == Code::Mov_r64_rm64
        && instruction.op0_register() == Register::RSP
        && is_word(instruction, ABORT_STACK)
}

pub(super) fn is_jump(instruction: &Instruction) -> bool {
    instruction.is_jcc_near() || instruction.code() == Code::Jmp_rel32_64
}

/// `sub qword [rdi + fuel], n`
pub(super) fn is_charge(instruction: &Instruction) -> bool {
    let amount = match instruction.code() {
        Code::Sub_rm64_imm8 => instruction.immediate8to64(),
        Code::Sub_rm64_imm32 => instruction.immediate32to64(),
        _ => return false,
    };
    is_word(instruction, FUEL) && amount > 0
}

pub(super) fn has_memory(instruction: &Instruction) -> bool {
    instruction.op_kinds().any(|kind| kind == OpKind::Memory)
}

pub(super) fn is_word(instruction: &Instruction, offset: u8) -> bool {
    has_memory(instruction)
        && instruction.memory_base() == Register::RDI
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == u64::from(offset)
}

pub(super) fn is_stack_top(instruction: &Instruction) -> bool {
    has_memory(instruction)
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == 0
}

/// Only general registers, immediates, near jumps and plain memory; no prefixes that change what is accessed.
pub(super) fn check_operands(instruction: &Instruction) -> Verdict {
    let plain = instruction
        .op_kinds()
        .enumerate()
        .all(|(index, kind)| match kind {
            OpKind::Register => instruction.op_register(index as u32).is_gpr(),
            OpKind::Memory | OpKind::NearBranch64 => true,
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => true,
            _ => false,
        });
    let prefixed = instruction.segment_prefix() != Register::None
        || instruction.has_rep_prefix()
        || instruction.has_repne_prefix();
    match plain && !prefixed {
        true => Ok(()),
        false => Err("operands that are not used"),
    }
}

/// Whether an instruction does nothing but what its operands say.
pub(super) fn is_harmless(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Mov | Movzx
            | Movsx
            | Movsxd
            | Lea
            | Add
            | Sub
            | And
            | Or
            | Xor
            | Cmp
            | Test
            | Neg
            | Imul
            | Cdq
            | Cqo
            | Shl
            | Shr
            | Sar
            | Rol
            | Shlx
            | Shrx
            | Sarx
            | Bswap
            | Xchg
            | Xadd
            | Cmpxchg
    )
}

/// A set of general registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers(u32);

impl Registers {
    pub const NONE: Registers = Registers(0);

    pub const fn of(registers: &[Register]) -> Registers {
        let mut bits = 0;
        let mut index = 0;
        while index < registers.len() {
            let number = (registers[index] as u32).wrapping_sub(Register::RAX as u32);
            if number < 16 {
                bits |= 1 << number;
            }
            index += 1;
        }
        Registers(bits)
    }

    pub const fn and(self, other: Registers) -> Registers {
        Registers(self.0 | other.0)
    }

    pub const fn without(self, other: Registers) -> Registers {
        Registers(self.0 & !other.0)
    }

    pub const fn meets(self, other: Registers) -> bool {
        self.0 & other.0 != 0
    }
}
