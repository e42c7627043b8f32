//! Puts the functions that a program can call behind its own.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::functions::Functions;
use super::relocation::{Relocated, Relocator};
use super::section::plain_name;
use super::source_lines::SourceLines;
use super::{ObjectError, ObjectProgram};

use crate::{Instruction, code};

/// The most instructions of a program (linux/bpf.h: `BPF_COMPLEXITY_LIMIT_INSNS`).
const PROGRAM_MAX: usize = 1_000_000;
/// The most instructions of all programs of an object.
const OBJECT_MAX: usize = 4_000_000;
/// The most functions of a program (linux/bpf_verifier.h: `BPF_MAX_SUBPROGS`).
const FUNCTIONS_MAX: usize = 256;

/// Links programs, each with its own copies of the functions.
pub(super) struct Linker<'a> {
    relocator: &'a Relocator<'a>,
    source: SourceLines<'a>,
    /// Functions that some program has.
    relocated: HashMap<usize, Rc<Relocated>>,
    instructions: usize,
}

/// A function in a program.
struct Placed {
    /// Its place in [`Functions::all`].
    function: usize,
    /// Its first instruction in the program.
    start: usize,
    body: Rc<Relocated>,
}

impl<'a> Linker<'a> {
    pub fn new(relocator: &'a Relocator<'a>) -> Linker<'a> {
        Linker {
            relocator,
            source: SourceLines::new(relocator.types),
            relocated: HashMap::new(),
            instructions: 0,
        }
    }

    /// Links the program that starts with a function.
    pub fn link(&mut self, entry: usize) -> Result<ObjectProgram, ObjectError> {
        let placed = self.collect(entry)?;
        let functions: &Functions = self.relocator.functions;
        let starts: HashMap<usize, usize> = placed
            .iter()
            .map(|placed| (placed.function, placed.start))
            .collect();
        let mut program = ObjectProgram {
            name: functions.all[entry].name.clone(),
            section: plain_name(self.section(entry)).into(),
            instructions: Vec::new(),
            functions: Vec::new(),
            lines: Vec::new(),
        };
        for Placed {
            function,
            start,
            body,
        } in &placed
        {
            program.instructions.extend_from_slice(&body.instructions);
            for reference in &body.references {
                let place = start + reference.instruction;
                let target = starts.get(&reference.function).copied().unwrap_or_default();
                // Of calls as of addresses, the distance is from the instruction behind (verifier.c: `add_subprog`).
                let distance = target as i64 - place as i64 - 1;
                if let Some(instruction) = program.instructions.get_mut(place) {
                    instruction.imm = distance as i32;
                }
            }
            let source = &functions.all[*function];
            program.functions.push(code::Function {
                name: source.name.clone(),
                start: *start,
                end: start + body.instructions.len(),
            });
            self.source.extend(&mut program.lines, source, *start)?;
        }
        Ok(program)
    }

    /// The function and all that it can call, each once: a function, then what its first call leads to, and so on
    /// (libbpf.c: `bpf_object__reloc_code`), so that instructions have the numbers that the kernel would give them.
    fn collect(&mut self, entry: usize) -> Result<Vec<Placed>, ObjectError> {
        let mut placed: Vec<Placed> = Vec::new();
        let mut known = HashSet::new();
        let mut open = vec![entry];
        let mut start = 0;
        while let Some(function) = open.pop() {
            if !known.insert(function) {
                continue;
            }
            if placed.len() == FUNCTIONS_MAX {
                return Err(self.refuse(entry, format!("it has more than {FUNCTIONS_MAX} functions")));
            }
            let body = self.relocate(entry, function, start)?;
            open.extend(body.references.iter().rev().map(|reference| reference.function));
            let len = body.instructions.len();
            placed.push(Placed {
                function,
                start,
                body,
            });
            start += len;
        }
        Ok(placed)
    }

    /// A function's instructions, of which there must not be too many.
    fn relocate(
        &mut self,
        entry: usize,
        function: usize,
        start: usize,
    ) -> Result<Rc<Relocated>, ObjectError> {
        let functions = self.relocator.functions;
        let octets = &functions.all[function].octets;
        let len = (octets.end - octets.start) as usize / Instruction::LEN;
        if start + len > PROGRAM_MAX {
            return Err(self.refuse(entry, format!("it has more than {PROGRAM_MAX} instructions")));
        }
        self.instructions += len;
        if self.instructions > OBJECT_MAX {
            return Err(self.refuse(
                entry,
                format!("with it, the programs have more than {OBJECT_MAX} instructions"),
            ));
        }
        if let Some(relocated) = self.relocated.get(&function) {
            return Ok(relocated.clone());
        }
        let relocated = self.relocator.relocate(&functions.all[function])?;
        let relocated = Rc::new(relocated);
        self.relocated.insert(function, relocated.clone());
        Ok(relocated)
    }

    fn section(&self, function: usize) -> &str {
        let section = self.relocator.functions.all[function].section;
        self.relocator.elf.sections[section].name
    }

    fn refuse(&self, entry: usize, problem: String) -> ObjectError {
        ObjectError::Program {
            section: self.section(entry).into(),
            program: self.relocator.functions.all[entry].name.clone(),
            problem,
        }
    }
}
