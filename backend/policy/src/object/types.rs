//! The type information of an object, and what is known of its instructions.

use std::collections::HashMap;
use std::sync::Arc;

use super::ObjectError;
use super::btf::extension::{CoreRecord, Extension, FunctionRecord, LineRecord, Table};
use super::btf::{Btf, Kind};
use super::elf::Elf;
use super::externs::Externs;

/// Types, and records by the number of the section that they are about.
#[derive(Debug, Default)]
pub(super) struct Types {
    pub btf: Option<Arc<Btf>>,
    functions: HashMap<usize, Vec<FunctionRecord>>,
    lines: HashMap<usize, Vec<LineRecord>>,
    relocations: HashMap<usize, Vec<CoreRecord>>,
}

impl Types {
    /// Reads `.BTF` and `.BTF.ext`, where there are some.
    pub fn read(elf: &Elf<'_>) -> Result<(Types, Externs), ObjectError> {
        let error = |section| move |error| ObjectError::Types { section, error };
        let Some(section) = elf.section(".BTF") else {
            return Ok((Types::default(), Externs::default()));
        };
        let mut btf = Btf::parse(section.data).map_err(error(".BTF"))?;
        place_variables(elf, &mut btf);
        let externs = Externs::read(elf, Some(&mut btf))?;
        let extension = match elf.section(".BTF.ext") {
            Some(section) => Extension::parse(section.data).map_err(error(".BTF.ext"))?,
            None => Extension::default(),
        };
        let types = Types {
            functions: by_section(elf, &btf, extension.functions),
            lines: by_section(elf, &btf, extension.lines),
            relocations: by_section(elf, &btf, extension.relocations),
            btf: Some(Arc::new(btf)),
        };
        Ok((types, externs))
    }

    /// The functions of a section.
    pub fn functions(&self, section: usize) -> &[FunctionRecord] {
        self.functions.get(&section).map_or(&[], Vec::as_slice)
    }

    /// The source lines of a section.
    pub fn lines(&self, section: usize) -> &[LineRecord] {
        self.lines.get(&section).map_or(&[], Vec::as_slice)
    }

    /// What of a section depends on types.
    pub fn relocations(&self, section: usize) -> &[CoreRecord] {
        self.relocations.get(&section).map_or(&[], Vec::as_slice)
    }
}

/// Compilers leave it to the loader to say where variables are (libbpf.c: `btf_fixup_datasec`).
fn place_variables(elf: &Elf<'_>, btf: &mut Btf) {
    let places: HashMap<(usize, &str), u32> = elf
        .symbols
        .iter()
        .filter_map(|symbol| Some(((symbol.section?, symbol.name), u32::try_from(symbol.value).ok()?)))
        .collect();
    let sections: Vec<(u32, usize)> = btf
        .iter()
        .filter(|(_, found)| matches!(found.kind, Kind::Section { .. }))
        .filter_map(|(id, found)| Some((id, elf.find(found.name)?)))
        .collect();
    for (id, section) in sections {
        let size = u32::try_from(elf.sections[section].size).unwrap_or(u32::MAX);
        btf.place_section(id, size, |name| places.get(&(section, name)).copied());
    }
}

fn by_section<T>(elf: &Elf<'_>, btf: &Btf, table: Table<T>) -> HashMap<usize, Vec<T>> {
    table
        .into_iter()
        .filter_map(|(name, records)| Some((elf.find(btf.name(name))?, records)))
        .collect()
}
