//! A second look at finished machine code: whatever made it, it reaches nothing but its window, and it ends.
//!
//! The code is decoded from its first octet to its last, and each instruction must be one that is known to be harmless
//! in what is known of the registers there. What this shows, for code that is entered by [`super::entry::enter`]:
//!
//! * Memory is accessed as `[r12 + r11 + displacement]` where r11 has 32 bits, or with rbp, which always has, in its
//!   place; as the top of the native stack; or as one of the few words of the machine.
//! * r12 is the window, rdi the machine and the native stack in order everywhere: they are written by fixed forms only.
//! * Jumps lead to instructions of the same function, calls to functions of the program or of the engine. Jumps
//!   backwards lead to where fuel is charged.
//! * No division raises an exception, and no register that a call left a value of the host in is read.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use super::compiler::Output;

mod forms;
mod function;
mod stops;

/// Why machine code is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("at {offset:#x}: {reason}")]
pub struct ProofError {
    /// Where in the code.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

type Verdict = Result<(), &'static str>;

/// Proves the code of a program.
pub(super) fn prove(output: &Output) -> Result<(), ProofError> {
    let text = Text::decode(output)?;
    for (index, entry) in output.functions.iter().enumerate() {
        let end = output
            .functions
            .get(index + 1)
            .map_or(output.stops, |next| next.charged);
        let charge = text.at(entry.charged.into()).map_or(0, Instruction::next_ip);
        if text.at(charge).map(Instruction::next_ip) != Some(entry.free.into()) {
            return Err(ProofError {
                offset: entry.free as usize,
                reason: "an entry that is not behind the charge",
            });
        }
        function::prove(output, &text, entry.charged..end)?;
    }
    stops::prove(output, &text)
}

/// Decoded code.
struct Text {
    instructions: Vec<Instruction>,
    /// By offset: the number of the instruction that starts there plus 1, or 0.
    starts: Vec<u32>,
    /// By offset: whether jumps lead there.
    targets: Vec<bool>,
}

impl Text {
    fn decode(output: &Output) -> Result<Text, ProofError> {
        let len = output.code.len();
        let mut text = Text {
            instructions: Vec::with_capacity(len / 4),
            starts: vec![0; len],
            targets: vec![false; len],
        };
        let mut decoder = Decoder::with_ip(64, &output.code, 0, DecoderOptions::NONE);
        while decoder.can_decode() {
            let offset = decoder.position();
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return Err(ProofError {
                    offset,
                    reason: "not an instruction",
                });
            }
            if matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            ) && let Some(target) = text.targets.get_mut(instruction.near_branch_target() as usize)
            {
                *target = true;
            }
            text.instructions.push(instruction);
            text.starts[offset] = text.instructions.len() as u32;
        }
        let starts = |offset: u32| text.starts.get(offset as usize).is_some_and(|start| *start != 0);
        let mut places = output
            .functions
            .iter()
            .flat_map(|entry| [entry.charged, entry.free]);
        let ordered = output
            .functions
            .windows(2)
            .all(|pair| pair[0].free < pair[1].charged);
        if !ordered || !starts(output.stops) || !places.all(|place| starts(place) && place < output.stops) {
            return Err(ProofError {
                offset: output.stops as usize,
                reason: "a function starts at no instruction",
            });
        }
        Ok(text)
    }

    fn at(&self, offset: u64) -> Option<&Instruction> {
        let start = *self.starts.get(usize::try_from(offset).ok()?)?;
        self.instructions.get(start.checked_sub(1)? as usize)
    }

    /// The instructions of a part of the code.
    fn within(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = &Instruction> {
        let first = self
            .instructions
            .partition_point(|i| i.ip() < u64::from(range.start));
        self.instructions[first..]
            .iter()
            .take_while(move |i| i.ip() < u64::from(range.end))
    }
}
