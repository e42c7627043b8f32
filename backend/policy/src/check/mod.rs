//! The check that instructions must pass before anything runs them.
//!
//! It sees to it that engines know every instruction and that control never leaves the program. It does not prove what
//! a program does to memory: the window contains that. Messages are the kernel verifier's where it has one.

mod context;
mod fields;
mod flow;
mod pointers;

use crate::Instruction;
use crate::code::Function;
use crate::helper;

pub use context::Denied;

/// The most instructions of a program (linux/bpf.h: `BPF_COMPLEXITY_LIMIT_INSNS`).
pub const INSTRUCTIONS_MAX: usize = 1_000_000;
/// The most functions of a program (linux/bpf_verifier.h: `BPF_MAX_SUBPROGS`).
pub const FUNCTIONS_MAX: usize = 256;

/// What a program may refer to.
pub trait Rules {
    /// Whether it may call a helper; if not, why.
    fn helper(&self, id: u32) -> Result<(), String>;

    /// How many maps there are: `lddw` of a map has the place of one as its immediate.
    fn maps(&self) -> usize;

    /// Whether the program starts with the context in r1, as all do but those of conformance suites.
    fn takes_context(&self) -> bool {
        true
    }
}

/// The rules of tc and netkit programs: every helper that the engine has.
#[derive(Debug, Clone, Copy)]
pub struct NetkitRules {
    /// How many maps the object has.
    pub maps: usize,
}

impl Rules for NetkitRules {
    fn helper(&self, id: u32) -> Result<(), String> {
        helper::refusal(id).map_or(Ok(()), |refusal| Err(refusal.to_string()))
    }

    fn maps(&self) -> usize {
        self.maps
    }
}

/// An instruction that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("function {function}, instruction {instruction}: {problem}")]
pub struct CheckError {
    /// The name of the function.
    pub function: String,
    /// The instruction, counted from the program's first.
    pub instruction: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the program has {0} instructions, which is not 1 to {INSTRUCTIONS_MAX}")]
    Length(usize),
    #[error("the program has {0} functions, which is not 1 to {FUNCTIONS_MAX}")]
    Functions(usize),
    #[error("the functions of the program do not lie one behind another")]
    Layout,
    #[error("unknown opcode {0:02x}")]
    Opcode(u8),
    #[error("R{0} is invalid")]
    Register(u8),
    #[error("frame pointer is read only")]
    FramePointer,
    #[error("{0} uses reserved fields")]
    Reserved(&'static str),
    #[error("div by zero")]
    DivisionByZero,
    #[error("invalid shift {0}")]
    Shift(i32),
    #[error("BPF_ATOMIC uses invalid atomic opcode {0:02x}")]
    Atomic(i32),
    #[error("invalid bpf_ld_imm64 insn")]
    Wide,
    #[error(
        "unrecognized bpf_ld_imm64 insn: source register {0} is no kind of operand that programs may have"
    )]
    Pseudo(u8),
    #[error("map {index} does not exist: the object has {maps}")]
    Map { index: i32, maps: usize },
    #[error("jump out of range from insn {from} to {to}")]
    JumpRange { from: usize, to: i64 },
    #[error("jump into the middle of ldimm64 insn {0}")]
    JumpIntoWide(usize),
    #[error("last insn is not an exit or jmp")]
    Last,
    #[error("unreachable insn {0}")]
    Unreachable(usize),
    #[error("insn {0} is not the first of a function")]
    NoFunction(i64),
    #[error("the call stack of {0} frames is too deep")]
    CallDepth(u32),
    #[error("calling kernel function with BTF id {0} is not allowed: there is no kernel")]
    KernelFunction(i32),
    #[error("{0}")]
    Helper(String),
    #[error("{0}")]
    Context(Denied),
}

/// Checks the instructions of a program, the functions of which lie one behind another, the entry first. Maps and
/// functions are still referred to as the object file does it (see `ObjectProgram`).
pub fn check(
    instructions: &[Instruction],
    functions: &[Function],
    rules: &dyn Rules,
) -> Result<(), CheckError> {
    let name = |index: usize| {
        let function = functions.partition_point(|function| function.end <= index);
        let function = functions.get(function).or(functions.first());
        function.map_or_else(String::new, |function| function.name.clone())
    };
    let located = |(instruction, problem)| CheckError {
        function: name(instruction),
        instruction,
        problem,
    };
    check_program(instructions, functions, rules).map_err(located)
}

/// A problem with the instruction that has it.
type Found = (usize, Problem);

fn check_program(
    instructions: &[Instruction],
    functions: &[Function],
    rules: &dyn Rules,
) -> Result<(), Found> {
    if instructions.is_empty() || instructions.len() > INSTRUCTIONS_MAX {
        return Err((0, Problem::Length(instructions.len())));
    }
    if functions.is_empty() || functions.len() > FUNCTIONS_MAX {
        return Err((0, Problem::Functions(functions.len())));
    }
    let mut start = 0;
    for function in functions {
        if function.start != start || function.end <= start {
            return Err((start.min(instructions.len() - 1), Problem::Layout));
        }
        start = function.end;
    }
    if start != instructions.len() {
        return Err((instructions.len() - 1, Problem::Layout));
    }
    fields::check(instructions, rules)?;
    flow::check(instructions, functions)?;
    if rules.takes_context() {
        pointers::check(instructions)?;
    }
    Ok(())
}
