//! A program's instructions as both engines run them.

use crate::Instruction;

/// Linked and validated instructions: the only thing that the interpreter and the compiler accept.
///
/// Every `lddw` holds its final 64-bit value, whatever its source register says for those who print it: a map is its
/// handle, a map value its window address, a function its handle ([`function_handle`]).
#[derive(Debug, Clone)]
pub struct Code {
    /// All functions one behind another, the program's entry first.
    pub instructions: Box<[Instruction]>,
    /// The functions in the order of their instructions.
    pub functions: Box<[Function]>,
    /// Source lines, by instruction, ascending.
    pub lines: Box<[Line]>,
}

/// A function of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its first instruction.
    pub start: usize,
    /// The instruction behind its last.
    pub end: usize,
}

/// Where instructions come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The first instruction that does.
    pub instruction: usize,
    /// The source file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1; 0 is not known.
    pub column: u32,
    /// The text of the line.
    pub text: String,
}

/// The first function handle; map handles are below. All are in the null guard of a window.
const FUNCTION_HANDLES: u32 = 0x8000;

/// What `lddw` of a function puts into a register.
pub fn function_handle(function: usize) -> u32 {
    FUNCTION_HANDLES + function as u32
}

impl Code {
    /// The function behind a handle that a program made up, perhaps.
    pub fn function_of_handle(&self, handle: u64) -> Option<usize> {
        let index = handle.checked_sub(u64::from(FUNCTION_HANDLES))?;
        (index < self.functions.len() as u64).then_some(index as usize)
    }

    /// The source line of an instruction.
    pub fn line(&self, instruction: usize) -> Option<&Line> {
        let behind = self.lines.partition_point(|line| line.instruction <= instruction);
        self.lines.get(behind.checked_sub(1)?)
    }
}
