//! Objects that are made by hand, so that they need no compiler.

use policy::Instruction;
use policy::code::Function;
use policy::object::{MapDefinition, Object, ObjectProgram};
use policy::{opcode, pseudo};

use super::assembler::*;

pub fn map(name: &str, kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapDefinition {
    MapDefinition {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
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

pub fn array(name: &str, entries: u32) -> MapDefinition {
    map(name, 2, 4, 8, entries)
}

pub fn hash(name: &str, entries: u32) -> MapDefinition {
    map(name, 1, 4, 8, entries)
}

pub fn ring(name: &str) -> MapDefinition {
    map(name, 27, 0, 0, 4096)
}

pub fn prog_array(name: &str, entries: u32) -> MapDefinition {
    map(name, 3, 4, 4, entries)
}

pub fn pinned(map: MapDefinition) -> MapDefinition {
    MapDefinition { pinned: true, ..map }
}

pub fn program(name: &str, instructions: Vec<Instruction>) -> ObjectProgram {
    let end = instructions.len();
    with_functions(name, instructions, &[0, end])
}

/// With functions that start at all the places but the last.
pub fn with_functions(name: &str, instructions: Vec<Instruction>, starts: &[usize]) -> ObjectProgram {
    let functions = super::functions(starts).into_iter().enumerate();
    ObjectProgram {
        name: name.into(),
        section: "tc".into(),
        instructions,
        functions: functions
            .map(|(number, function)| Function {
                name: if number == 0 { name.into() } else { function.name },
                ..function
            })
            .collect(),
        lines: Vec::new(),
    }
}

pub fn object(programs: Vec<ObjectProgram>, maps: Vec<MapDefinition>) -> Object {
    Object {
        license: "GPL".into(),
        programs,
        maps,
        skipped: Vec::new(),
    }
}

/// The address of a map, by its place.
pub fn load_map(dst: u8, place: i32) -> [Instruction; 2] {
    let first = raw(opcode::LDDW, dst, pseudo::MAP, 0, place);
    [first, Instruction::default()]
}

/// An address in the only value of a map.
pub fn load_value(dst: u8, place: i32, offset: i32) -> [Instruction; 2] {
    let first = raw(opcode::LDDW, dst, pseudo::MAP_VALUE, 0, place);
    [first, raw(0, 0, 0, 0, offset)]
}

/// The handle of a function that starts so many instructions behind the next one.
pub fn load_function(dst: u8, distance: i32) -> [Instruction; 2] {
    let first = raw(opcode::LDDW, dst, pseudo::FUNCTION, 0, distance);
    [first, Instruction::default()]
}

/// Puts instructions together.
pub fn code(parts: &[&[Instruction]]) -> Vec<Instruction> {
    parts.concat()
}

/// Adds one to the number under key 0 of an array, and returns the result.
pub fn count(array: i32) -> Vec<Instruction> {
    use policy::{jump, size};
    code(&[
        &[store_k(size::W, 10, -4, 0)],
        &load_map(1, array),
        &[
            mov(2, 10),
            add_k(2, -4),
            helper(1),
            jump_k(W64, jump::JEQ, 0, 0, 4),
            mov_k(1, 1),
            atomic(size::DW, policy::atomic::ADD, 0, 0, 1),
            load(size::DW, 0, 0, 0),
            exit(),
            mov_k(0, -1),
            exit(),
        ],
    ])
}
