//! The compiler: makes machine code of a program, and proves that it can reach nothing but its window.
//!
//! It works instruction by instruction, with nothing to be clever about (`compiler`), so that a second look at the
//! finished code (`proof`) can decide alone whether it is safe. Stray accesses end in the guards of the window and, by
//! the signal handler (`fault`), the run.

use crate::code::Code;

#[cfg(target_arch = "x86_64")]
mod access;
#[cfg(target_arch = "x86_64")]
mod arena;
#[cfg(target_arch = "x86_64")]
mod arithmetic;
#[cfg(target_arch = "x86_64")]
mod call;
#[cfg(target_arch = "x86_64")]
mod compiled;
#[cfg(target_arch = "x86_64")]
mod compiler;
#[cfg(target_arch = "x86_64")]
mod encoder;
#[cfg(target_arch = "x86_64")]
mod entry;
#[cfg(target_arch = "x86_64")]
mod fault;
#[cfg(target_arch = "x86_64")]
mod flow;
#[cfg(target_arch = "x86_64")]
mod operand;
#[cfg(target_arch = "x86_64")]
mod proof;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(not(target_arch = "x86_64"))]
mod unsupported;

pub use crate::map::ArrayLayout;
#[cfg(target_arch = "x86_64")]
pub use compiled::Compiled;
#[cfg(all(target_arch = "x86_64", feature = "bench-raw"))]
pub use compiled::compile_unisolated;
#[cfg(target_arch = "x86_64")]
pub use fault::install_fault_handler;
#[cfg(target_arch = "x86_64")]
pub use proof::ProofError;
#[cfg(not(target_arch = "x86_64"))]
pub use unsupported::{Compiled, ProofError, install_fault_handler};

/// The most instructions of a program that is compiled: a bound on what it takes to prove it.
pub const INSTRUCTIONS_MAX: usize = 65_536;

/// What the compiler asks about maps.
pub trait Maps {
    /// Where the values of a map lie that is an array of a fixed length.
    fn array_layout(&self, handle: u64) -> Option<ArrayLayout>;
}

/// No maps, or none that the compiler need know.
#[derive(Debug, Default)]
pub struct NoMaps;

impl Maps for NoMaps {
    fn array_layout(&self, _handle: u64) -> Option<ArrayLayout> {
        None
    }
}

/// Why there is no machine code of a program.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is no compiler for this processor.
    #[error("there is no compiler for this processor; the interpreter runs the program")]
    Unsupported,
    /// The program is too long.
    #[error("{instructions} instructions are more than the {INSTRUCTIONS_MAX} that are compiled")]
    Length { instructions: usize },
    /// The functions do not follow one another.
    #[error("function {function} has no instructions of its own")]
    Function { function: usize },
    /// There is no such instruction.
    #[error("instruction {instruction}: there is none of opcode {opcode:#04x} with these fields")]
    Unknown { instruction: usize, opcode: u8 },
    /// There is no such register.
    #[error("instruction {instruction}: there are registers 0 to 10 only")]
    Register { instruction: usize },
    /// The frame pointer cannot be written.
    #[error("instruction {instruction}: r10 cannot be written")]
    FramePointer { instruction: usize },
    /// Half of a `lddw`.
    #[error("instruction {instruction}: lddw lacks its second half")]
    Wide { instruction: usize },
    /// A jump that leads out of its function, or into a `lddw`.
    #[error("instruction {instruction}: the jump leads to no instruction of its function")]
    Jump { instruction: usize },
    /// A call of what is no function of the program.
    #[error("instruction {instruction}: the call leads to no function")]
    Call { instruction: usize },
    /// A call of a helper that there is not.
    #[error("instruction {instruction}: there is no helper {helper}")]
    Helper { instruction: usize, helper: u32 },
    /// A function that does not end.
    #[error("instruction {instruction}: a function ends with exit or a jump")]
    End { instruction: usize },
    /// The code cannot be shown to be safe. It is not used.
    #[error("the machine code is not provably safe, and is not used: {0}; report it")]
    Proof(#[from] ProofError),
    /// The system has no room for the code.
    #[error("cannot make room for machine code: {0}")]
    Memory(#[from] std::io::Error),
}

/// Makes machine code of a program.
pub fn compile(code: &Code, context: &dyn Maps) -> Result<Compiled, CompileError> {
    Compiled::new(code, context, crate::helper::find)
}
