//! The proof of the code behind all functions.

use iced_x86::{Code, Instruction, Register};

use super::forms::{check_operands, is_jump, is_stack_restored, is_word};
use super::{ProofError, Text};
use crate::jit::compiler::{FAULT_ADDRESS, INSTRUCTION, Output, STOPPED};

/// The code behind the functions: says why the run ends, and ends it.
pub(super) fn prove(output: &Output, text: &Text) -> Result<(), ProofError> {
    let end = output.code.len() as u32;
    let mut previous = Instruction::default();
    for instruction in text.within(output.stops..end) {
        let offset = instruction.ip();
        let ends = is_stack_restored(&previous);
        let known = check_operands(instruction).is_ok()
            && match instruction.code() {
                Code::Mov_rm32_imm32 => is_word(instruction, INSTRUCTION) || is_word(instruction, STOPPED),
                Code::Mov_rm64_r64 => {
                    is_word(instruction, FAULT_ADDRESS) && instruction.op1_register() == Register::R10
                }
                Code::Mov_r64_rm64 => is_stack_restored(instruction),
                Code::Retnq => ends,
                Code::Jmp_rel32_64 => {
                    let target = instruction.near_branch_target();
                    target > offset && text.at(target).is_some()
                }
                _ => false,
            };
        if !known || ends && instruction.code() != Code::Retnq {
            return Err(ProofError {
                offset: offset as usize,
                reason: "the end of a run is not in order",
            });
        }
        previous = *instruction;
    }
    // Functions jump to here, too, and must not land between the two.
    let into_return = text.within(0..end).any(|instruction| {
        let target = instruction.near_branch_target();
        is_jump(instruction)
            && target >= u64::from(output.stops)
            && text.at(target).is_none_or(|there| there.code() == Code::Retnq)
    });
    match previous.code() == Code::Retnq && !into_return {
        true => Ok(()),
        false => Err(ProofError {
            offset: end as usize,
            reason: "the end of a run is not in order",
        }),
    }
}
