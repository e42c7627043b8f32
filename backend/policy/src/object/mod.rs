//! Object files: what clang makes of a program's source, parsed without trusting any of it.

pub mod btf;
mod btf_maps;
mod core_relocation;
mod data_maps;
mod elf;
mod error;
mod externs;
mod functions;
mod legacy_maps;
mod link;
mod maps;
mod relocation;
mod section;
mod source_lines;
mod types;

use std::collections::HashSet;
use std::sync::Arc;

pub use error::ObjectError;

use self::elf::Elf;
use self::functions::Functions;
use self::link::Linker;
use self::maps::Maps;
use self::relocation::Relocator;
use self::types::Types;
use crate::Instruction;
use crate::code::{Function, Line};

/// An object file's programs and maps, linked within the file. Nothing is created yet.
#[derive(Debug, Clone)]
pub struct Object {
    /// The text of the `license` section.
    pub license: String,
    /// The programs, in the order of their sections and of their places in them.
    pub programs: Vec<ObjectProgram>,
    /// The maps, which instructions refer to by their place here.
    pub maps: Vec<MapDefinition>,
    /// What of the file is left out, and why, for those who wonder.
    pub skipped: Vec<String>,
}

impl Object {
    /// Reads a file, resolves all that is in it, and links its programs.
    pub fn parse(octets: &[u8]) -> Result<Object, ObjectError> {
        let elf = Elf::parse(octets)?;
        let (types, externs) = Types::read(&elf)?;
        let functions = Functions::read(&elf, &types)?;
        let maps = Maps::read(&elf, &types, &externs, &functions)?;
        let relocator = Relocator {
            elf: &elf,
            types: &types,
            externs: &externs,
            functions: &functions,
            maps: &maps,
            type_relocations: relocation::TYPE_RELOCATIONS_MAX.into(),
            notes: std::cell::RefCell::default(),
        };
        let (programs, left_out) = link(&elf, &functions, &relocator)?;
        let notes = [functions.skipped, left_out, maps.skipped];
        Ok(Object {
            license: license(&elf),
            maps: without_missing(maps.definitions, &programs),
            programs,
            skipped: notes
                .into_iter()
                .flatten()
                .chain(data_maps::notes(&elf))
                .collect(),
        })
    }
}

/// Links all programs. One that nobody has to load (`SEC("?…")`) is left out, with a note, if it cannot be.
fn link(
    elf: &Elf<'_>,
    functions: &Functions,
    relocator: &Relocator<'_>,
) -> Result<(Vec<ObjectProgram>, Vec<String>), ObjectError> {
    let mut linker = Linker::new(relocator);
    let mut programs = Vec::new();
    let mut left_out = Vec::new();
    let mut first_error = None;
    for entry in &functions.programs {
        let function = &functions.all[*entry];
        match linker.link(*entry) {
            Ok(program) => programs.push(program),
            Err(error) if section::is_optional(elf.sections[function.section].name) => {
                functions::note(&mut left_out, format!("program `{}`: {error}", function.name));
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first_error {
        Some(error) if programs.is_empty() => Err(error),
        _ => {
            left_out.extend(relocator.notes.take());
            Ok((programs, left_out))
        }
    }
}

/// Tables of programs without the programs that are left out.
fn without_missing(mut maps: Vec<MapDefinition>, programs: &[ObjectProgram]) -> Vec<MapDefinition> {
    let names: HashSet<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    for map in maps.iter_mut().filter(|map| map.kind == btf_maps::PROG_ARRAY) {
        map.values.retain(|(_, name)| names.contains(name.as_str()));
    }
    maps
}

/// The text of the `license` section; empty without one.
fn license(elf: &Elf<'_>) -> String {
    /// Octets that a licence's name may have (syscall.c: `bpf_prog_load`).
    const LICENSE_MAX: usize = 127;
    let data = elf.section("license").map_or(&[][..], |section| section.data);
    let text = data.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text.get(..LICENSE_MAX).unwrap_or(text)).into_owned()
}

/// A program of an object file with all functions that it can call.
#[derive(Debug, Clone)]
pub struct ObjectProgram {
    /// Its function's name.
    pub name: String,
    /// Its section, without a leading `?`.
    pub section: String,
    /// Instructions; `lddw` with source register MAP or MAP_VALUE has the place of the map in [`Object::maps`] as its
    /// immediate (and the offset in the second one), with FUNCTION the distance to the function.
    pub instructions: Vec<Instruction>,
    /// The functions, the entry first.
    pub functions: Vec<Function>,
    /// Source lines.
    pub lines: Vec<Line>,
}

/// What a map is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct MapDefinition {
    /// Its name.
    pub name: String,
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Octets of a key.
    pub key_size: u32,
    /// Octets of a value.
    pub value_size: u32,
    /// The most entries.
    pub max_entries: u32,
    /// `BPF_F_*` of map creation.
    pub flags: u32,
    /// `map_extra` of map creation: a bloom filter's number of hashes.
    pub extra: u64,
    /// Whether it is to be found, or left, under its name in the daemon (`LIBBPF_PIN_BY_NAME`).
    pub pinned: bool,
    /// What the maps in it are (`__array(values, …)`), for a map of maps.
    pub inner: Option<Box<MapDefinition>>,
    /// What it holds from the start: by index, the name of a program or of a map.
    pub values: Vec<(u32, String)>,
    /// Its only value, whole, for data sections.
    pub contents: Option<Vec<u8>>,
    /// Types of keys and values, for those who print them.
    pub types: Option<MapTypes>,
    /// Where the value has its `struct bpf_spin_lock`, if it has one.
    pub spin_lock_offset: Option<u32>,
}

/// The BTF types of a map.
#[derive(Debug, Clone)]
pub struct MapTypes {
    /// The type information, as the object has it.
    pub btf: Arc<btf::Btf>,
    /// The key's type id; 0 is none.
    pub key: u32,
    /// The value's type id.
    pub value: u32,
}

impl MapDefinition {
    /// A map of which nothing but the name is known.
    fn named(name: &str) -> MapDefinition {
        MapDefinition {
            name: name.into(),
            kind: 0,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            extra: 0,
            pinned: false,
            inner: None,
            values: Vec::new(),
            contents: None,
            types: None,
            spin_lock_offset: None,
        }
    }
}

impl PartialEq for MapTypes {
    fn eq(&self, other: &MapTypes) -> bool {
        Arc::ptr_eq(&self.btf, &other.btf) && (self.key, self.value) == (other.key, other.value)
    }
}
