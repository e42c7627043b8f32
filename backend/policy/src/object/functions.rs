//! The functions of an object, and which of them are programs.

use std::collections::{HashMap, HashSet};

use super::ObjectError;
use super::btf::Kind;
use super::elf::{Elf, SymbolKind};
use super::section::{EXPECTED, Purpose};
use super::types::Types;
use crate::Instruction;

/// The most programs.
const PROGRAMS_MAX: usize = 1024;
/// The most functions, of programs of all kinds.
const FUNCTIONS_MAX: usize = 1 << 16;
/// The most notes about what is not loaded.
const NOTES_MAX: usize = 64;

/// All functions, in the order of their sections and of their places in them.
#[derive(Debug)]
pub(super) struct Functions {
    pub all: Vec<Function>,
    /// Which of them are programs.
    pub programs: Vec<usize>,
    /// What is left out, and why.
    pub skipped: Vec<String>,
    /// By section and first octet.
    places: HashMap<(usize, u64), usize>,
}

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub name: String,
    pub section: usize,
    /// Its octets in the section.
    pub octets: std::ops::Range<u64>,
    is_local: bool,
}

impl Functions {
    /// Finds the functions of all code sections.
    pub fn read(elf: &Elf<'_>, types: &Types) -> Result<Functions, ObjectError> {
        let mut all = from_symbols(elf)?;
        let with_symbols: HashSet<usize> = all.iter().map(|function| function.section).collect();
        for (index, section) in elf.sections.iter().enumerate() {
            if section.is_code && !section.data.is_empty() && !with_symbols.contains(&index) {
                all.extend(from_types(elf, types, index)?);
            }
        }
        if all.len() > FUNCTIONS_MAX {
            return Err(too_many());
        }
        all.sort_by_key(|function| (function.section, function.octets.start, function.is_local));
        let mut places = HashMap::new();
        for (index, function) in all.iter().enumerate() {
            places
                .entry((function.section, function.octets.start))
                .or_insert(index);
        }
        let mut functions = Functions {
            all,
            programs: Vec::new(),
            skipped: Vec::new(),
            places,
        };
        functions.choose_programs(elf)?;
        Ok(functions)
    }

    /// The function that starts at an octet of a section.
    pub fn at(&self, section: usize, octet: u64) -> Option<usize> {
        self.places.get(&(section, octet)).copied()
    }

    /// Whether a function is a program.
    pub fn is_program(&self, function: usize) -> bool {
        self.programs.binary_search(&function).is_ok()
    }

    fn choose_programs(&mut self, elf: &Elf<'_>) -> Result<(), ObjectError> {
        let mut names = HashSet::new();
        for (index, function) in self.all.iter().enumerate() {
            let section = elf.sections[function.section].name;
            match Purpose::of(section) {
                Purpose::Program if !function.is_local => {
                    if !names.insert(function.name.as_str()) {
                        return Err(ObjectError::Program {
                            section: section.into(),
                            program: function.name.clone(),
                            problem: "there are two programs of this name".into(),
                        });
                    }
                    self.programs.push(index);
                }
                Purpose::Other if !function.is_local => note(
                    &mut self.skipped,
                    format!(
                        "program `{}` in section `{section}` is of a kind that is not run here",
                        function.name
                    ),
                ),
                _ => {}
            }
        }
        if self.programs.len() > PROGRAMS_MAX {
            return Err(ObjectError::File(format!(
                "it has more than {PROGRAMS_MAX} programs"
            )));
        }
        if self.programs.is_empty() {
            let found = match self.skipped.is_empty() {
                true => "it has none at all".into(),
                false => self.skipped.join("; "),
            };
            return Err(ObjectError::File(format!(
                "it has no program in a section such as {EXPECTED}: {found}"
            )));
        }
        Ok(())
    }
}

/// Notes what is left out; the reader of more notes than these would not read them.
pub(super) fn note(notes: &mut Vec<String>, text: String) {
    if notes.len() < NOTES_MAX {
        notes.push(text);
    }
}

fn from_symbols(elf: &Elf<'_>) -> Result<Vec<Function>, ObjectError> {
    let mut functions = Vec::new();
    for symbol in &elf.symbols {
        let Some(index) = symbol.section else { continue };
        let section = &elf.sections[index];
        if symbol.kind != SymbolKind::Function || !section.is_code {
            continue;
        }
        let end = symbol.value.checked_add(symbol.size);
        let end = end.filter(|end| *end <= section.data.len() as u64);
        let (Some(end), true) = (
            end,
            is_whole(symbol.value) && is_whole(symbol.size) && symbol.size > 0,
        ) else {
            return Err(ObjectError::section(
                section.name,
                format!(
                    "function `{}` is not made of whole instructions of the section",
                    symbol.name
                ),
            ));
        };
        if functions.len() == FUNCTIONS_MAX {
            return Err(too_many());
        }
        functions.push(Function {
            name: symbol.name.into(),
            section: index,
            octets: symbol.value..end,
            is_local: symbol.is_local,
        });
    }
    Ok(functions)
}

/// The functions of a section without symbols: those of `.BTF.ext`, or one that is the whole section.
fn from_types(elf: &Elf<'_>, types: &Types, index: usize) -> Result<Vec<Function>, ObjectError> {
    let section = &elf.sections[index];
    let len = section.data.len() as u64;
    let whole = || Function {
        name: super::section::plain_name(section.name).replace('/', "_"),
        section: index,
        octets: 0..len,
        is_local: false,
    };
    let records = types.functions(index);
    if records.len() > FUNCTIONS_MAX {
        return Err(too_many());
    }
    let (Some(btf), false) = (&types.btf, records.is_empty()) else {
        return match is_whole(len) {
            true => Ok(vec![whole()]),
            false => Err(ObjectError::section(
                section.name,
                "it is not made of whole instructions",
            )),
        };
    };
    let mut functions = Vec::new();
    for (place, record) in records.iter().enumerate() {
        let start = u64::from(record.offset);
        let end = records.get(place + 1).map_or(len, |next| u64::from(next.offset));
        let found = btf.get(record.function);
        let (Some(found), true) = (
            found,
            start < end && end <= len && is_whole(start) && is_whole(end),
        ) else {
            return Err(ObjectError::section(
                section.name,
                "its functions in .BTF.ext are not in it",
            ));
        };
        functions.push(Function {
            name: found.name.into(),
            section: index,
            octets: start..end,
            is_local: matches!(found.kind, Kind::Function { linkage: 0, .. }),
        });
    }
    Ok(functions)
}

fn too_many() -> ObjectError {
    ObjectError::File(format!("it has more than {FUNCTIONS_MAX} functions"))
}

fn is_whole(octets: u64) -> bool {
    octets.is_multiple_of(Instruction::LEN as u64)
}
