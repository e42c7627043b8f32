//! Source lines of instructions.

use super::ObjectError;
use super::btf::extension::records_in;
use super::functions::Function;
use super::types::Types;
use crate::Instruction;
use crate::code::Line;

/// Octets of the names and texts of all lines of an object.
const TEXT_MAX: usize = 64 << 20;

/// Makes lines, not too many.
#[derive(Debug)]
pub(super) struct SourceLines<'a> {
    types: &'a Types,
    /// Octets that may still be copied.
    left: usize,
}

impl<'a> SourceLines<'a> {
    pub fn new(types: &'a Types) -> SourceLines<'a> {
        SourceLines {
            types,
            left: TEXT_MAX,
        }
    }

    /// Appends the lines of a function that starts at an instruction of a program.
    pub fn extend(
        &mut self,
        lines: &mut Vec<Line>,
        function: &Function,
        start: usize,
    ) -> Result<(), ObjectError> {
        let Some(btf) = &self.types.btf else { return Ok(()) };
        let records = self.types.lines(function.section);
        let before = lines.len();
        for record in records_in(records, function.octets.clone()) {
            self.spend(size_of::<Line>())?;
            // Line 0 is code of the compiler's own: it goes with the line before it.
            if record.position >> 10 == 0 {
                continue;
            }
            let octet = u64::from(record.offset) - function.octets.start;
            let instruction = start + octet as usize / Instruction::LEN;
            let last = lines[before..].last();
            if last.is_some_and(|last| last.instruction == instruction) {
                continue;
            }
            let (file, text) = (btf.text(record.file), btf.text(record.text));
            self.spend(file.len() + text.len())?;
            lines.push(Line {
                instruction,
                file: file.into(),
                line: record.position >> 10,
                column: record.position & 0x3ff,
                text: text.into(),
            });
        }
        Ok(())
    }

    fn spend(&mut self, octets: usize) -> Result<(), ObjectError> {
        self.left = self.left.checked_sub(octets).ok_or_else(|| {
            let problem = format!("the programs' source lines have more than {TEXT_MAX} octets");
            ObjectError::section(".BTF.ext", problem)
        })?;
        Ok(())
    }
}
