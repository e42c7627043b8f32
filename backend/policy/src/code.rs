//! A program's instructions as both engines run them.

use crate::Instruction;
use crate::interpreter::Steps;

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
    /// By instruction, what the run pays for when it gets there; see [`charges`].
    pub charges: Box<[u32]>,
    /// What the interpreter runs.
    pub(crate) steps: Steps,
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

/// What a run pays, in instructions, at each instruction: at a function's first one for all of the function, but for the
/// program's own, whose length is bounded and which must be able to begin; at the target of backward jumps for the longest of those loops, elsewhere nothing. What runs between two payments is never
/// longer than what was paid for, so a run ends soon after its fuel does. Both engines charge before the instruction.
pub fn charges(instructions: &[Instruction], functions: &[Function]) -> Box<[u32]> {
    let mut charges = vec![0; instructions.len()];
    let mut charge = |index: usize, instructions: usize| {
        if let Some(charge) = charges.get_mut(index) {
            *charge = instructions.min(u32::MAX as usize).max(*charge as usize) as u32;
        }
    };
    for function in functions.iter().skip(1) {
        charge(function.start, function.end.saturating_sub(function.start));
    }
    for (index, instruction) in instructions.iter().enumerate() {
        match instruction.jump_target(index) {
            Some(target) if target <= index => charge(target, index - target + 1),
            _ => (),
        }
    }
    charges.into()
}

impl Code {
    /// Prepares linked and validated instructions for both engines.
    pub fn new(instructions: Box<[Instruction]>, functions: Box<[Function]>, lines: Box<[Line]>) -> Code {
        let charges = charges(&instructions, &functions);
        Code {
            steps: Steps::new(&instructions, &functions, &charges),
            instructions,
            functions,
            lines,
            charges,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcode;

    fn jump(offset: i16) -> Instruction {
        Instruction {
            opcode: opcode::JA,
            offset,
            ..Instruction::default()
        }
    }

    #[test]
    fn functions_and_the_longest_loop_are_charged_for() {
        let function = |start, end| Function {
            name: String::new(),
            start,
            end,
        };
        let code = [jump(0), jump(0), jump(-2), jump(-3), jump(0), jump(-1)];
        let charges = charges(&code, &[function(0, 4), function(4, 6)]);
        assert_eq!(*charges, [0, 3, 0, 0, 2, 1]);
    }
}
