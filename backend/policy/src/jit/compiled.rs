//! A program as machine code.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

use super::arena::Region;
use super::compiler::{Entry, Output, Target, translate};
use super::entry::{STOP_ACCESS, STOP_CALL_DEPTH, STOP_FUEL, STOP_MISALIGNED, enter};
use super::{CompileError, Maps, proof};
use crate::code::Code;
use crate::fault::FaultKind;
use crate::helper::Helper;
use crate::layout::STACK_TOP;
use crate::machine::{Machine, Stopped};

/// Machine code that was proven to reach nothing but the window that it runs in.
#[derive(Debug)]
pub struct Compiled {
    region: Region,
    functions: Box<[Entry]>,
    /// Where the code of each instruction starts; None is code that belongs to none.
    marks: Box<[(u32, Option<u32>)]>,
}

impl Compiled {
    pub(super) fn new(
        code: &Code,
        maps: &dyn Maps,
        helpers: fn(u32) -> Option<&'static Helper>,
    ) -> Result<Compiled, CompileError> {
        let target = Target {
            maps,
            helpers,
            bmi2: std::arch::is_x86_feature_detected!("bmi2"),
            isolated: true,
        };
        Compiled::for_target(code, target)
    }

    pub(super) fn for_target(code: &Code, target: Target<'_>) -> Result<Compiled, CompileError> {
        let output = translate(code, target)?;
        if target.isolated {
            proof::prove(&output)?;
        }
        Ok(Compiled::of_output(output)?)
    }

    /// Makes proven code executable.
    pub(super) fn of_output(output: Output) -> std::io::Result<Compiled> {
        let Output {
            code,
            functions,
            marks,
            ..
        } = output;
        Ok(Compiled {
            region: Region::new(&code)?,
            functions: functions.into(),
            marks: marks.into(),
        })
    }

    /// Runs a function; `frame` is its r10.
    #[inline]
    pub(crate) fn call(
        &self,
        machine: &mut Machine,
        function: usize,
        arguments: [u64; 5],
        frame: u32,
    ) -> Result<u64, Stopped> {
        let Some(entry) = self.functions.get(function) else {
            return Err(machine.stop(FaultKind::CallDepth));
        };
        // The start of a program is bounded by its length; whatever can be entered again is charged for.
        let offset = match (function, frame) {
            (0, STACK_TOP) => entry.free,
            _ => entry.charged,
        };
        let outer = machine.words.abort_stack;
        // SAFETY: the entry is one of proven code, which is kept for as long as this; the machine is borrowed.
        let outcome = unsafe {
            enter(
                machine,
                self.region.address() + offset as usize,
                arguments.as_ptr(),
                frame,
            )
        };
        machine.words.abort_stack = outer;
        match outcome.stopped {
            0 => Ok(outcome.r0),
            _ => Err(self.explain(machine)),
        }
    }

    /// Tells the machine why and where the code stopped, unless a helper has.
    #[cold]
    fn explain(&self, machine: &mut Machine) -> Stopped {
        let address = machine.words.fault_address;
        let kind = match machine.words.stopped {
            STOP_CALL_DEPTH => FaultKind::CallDepth,
            STOP_MISALIGNED => FaultKind::Misaligned {
                address: address as i64,
            },
            STOP_ACCESS => {
                let offset = machine.words.fault_pc.wrapping_sub(self.region.address());
                if let Some(instruction) = self.instruction_at(offset) {
                    machine.words.instruction = instruction as u32;
                }
                FaultKind::Access {
                    address: address.wrapping_sub(machine.words.base as usize) as i64,
                }
            }
            STOP_FUEL => FaultKind::Fuel,
            _ => return Stopped,
        };
        machine.stop(kind)
    }

    /// The machine code.
    pub fn machine_code(&self) -> &[u8] {
        self.region.octets()
    }

    /// The instruction whose machine code is at an offset. None for code that belongs to none.
    pub fn instruction_at(&self, native_offset: usize) -> Option<usize> {
        if native_offset >= self.machine_code().len() {
            return None;
        }
        let behind = self
            .marks
            .partition_point(|(start, _)| *start as usize <= native_offset);
        let (_, instruction) = self.marks.get(behind.checked_sub(1)?)?;
        instruction.map(|instruction| instruction as usize)
    }

    /// The machine code for people: offsets and instructions.
    pub fn disassemble(&self) -> Vec<(usize, String)> {
        disassemble(self.machine_code())
    }
}

/// Machine code for people.
pub(super) fn disassemble(code: &[u8]) -> Vec<(usize, String)> {
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    let line = |instruction: Instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        (instruction.ip() as usize, text)
    };
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .map(line)
        .collect()
}

/// Makes machine code that is not confined: a register's 64 bits count. Only to measure what the confinement costs.
///
/// # Safety
/// The program accesses nothing but its window.
#[cfg(feature = "bench-raw")]
pub unsafe fn compile_unisolated(code: &Code, maps: &dyn Maps) -> Result<Compiled, CompileError> {
    Compiled::for_target(
        code,
        Target {
            maps,
            helpers: crate::helper::find,
            bmi2: std::arch::is_x86_feature_detected!("bmi2"),
            isolated: false,
        },
    )
}
