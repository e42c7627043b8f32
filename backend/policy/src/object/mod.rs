//! Object files: what clang makes of a program's source, parsed without trusting any of it.

use std::sync::Arc;

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
    /// Whether it is to be found, or left, under its name in the daemon (`LIBBPF_PIN_BY_NAME`).
    pub pinned: bool,
    /// What the maps in it are (`__array(values, …)`), for a map of maps.
    pub inner: Option<Box<MapDefinition>>,
    /// What it holds from the start: by index, the name of a program or of a map.
    pub values: Vec<(u32, String)>,
    /// The first octets of its only value, for data sections.
    pub contents: Option<Vec<u8>>,
    /// Types of keys and values, for those who print them.
    pub types: Option<MapTypes>,
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

pub mod btf {
    //! Placeholder.
    #[derive(Debug)]
    pub struct Btf;
}

impl PartialEq for MapTypes {
    fn eq(&self, other: &MapTypes) -> bool {
        Arc::ptr_eq(&self.btf, &other.btf) && (self.key, self.value) == (other.key, other.value)
    }
}
