//! Puts the final values of maps and functions into a program's instructions.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use crate::code::function_handle;
use crate::map::Map;
use crate::object::ObjectProgram;
use crate::{Instruction, jit, pseudo};

/// The maps of an object by their places in it.
pub(super) struct Places<'a>(pub &'a [Arc<Map>]);

/// What the compiler wants to know of them.
pub(super) struct Layouts<'a>(pub &'a [Arc<Map>]);

impl jit::Maps for Layouts<'_> {
    fn array_layout(&self, handle: u64) -> Option<jit::ArrayLayout> {
        let map = self.0.iter().find(|map| u64::from(map.handle()) == handle)?;
        map.array_layout()
    }
}

/// The instructions with every `lddw` complete, and the places of the maps that they use.
pub(super) fn link(program: &ObjectProgram, maps: &Places<'_>) -> (Vec<Instruction>, BTreeSet<usize>) {
    let mut instructions = program.instructions.clone();
    let mut used = BTreeSet::new();
    let mut at = 0;
    while at < instructions.len() {
        let instruction = instructions[at];
        if !instruction.is_wide() {
            at += 1;
            continue;
        }
        let next = instructions.get(at + 1).copied().unwrap_or_default();
        let place = instruction.imm as u32 as usize;
        let value = match (instruction.src, maps.0.get(place)) {
            (pseudo::MAP, Some(map)) => {
                used.insert(place);
                Some(u32::from(map.handle()))
            }
            (pseudo::MAP_VALUE, Some(map)) => {
                used.insert(place);
                let start = map.array_layout().map_or(0, |layout| layout.start);
                Some(start.wrapping_add(next.imm as u32))
            }
            (pseudo::FUNCTION, _) => {
                let start = at.wrapping_add_signed(instruction.imm as isize).wrapping_add(1);
                let index = program
                    .functions
                    .iter()
                    .position(|function| function.start == start);
                Some(function_handle(index.unwrap_or(usize::MAX >> 1)))
            }
            _ => None,
        };
        if let Some(value) = value {
            instructions[at].imm = value as i32;
            if let Some(next) = instructions.get_mut(at + 1) {
                next.imm = 0;
            }
        }
        at += 2;
    }
    (instructions, used)
}

/// Eight octets that name the instructions, whatever maps they use (core.c: `bpf_prog_calc_tag`).
pub(super) fn tag(program: &ObjectProgram) -> [u8; 8] {
    let mut digest = Sha1::new();
    let mut in_map = false;
    for instruction in &program.instructions {
        let mut plain = *instruction;
        let second = std::mem::take(&mut in_map);
        if second {
            plain.imm = 0;
        } else if plain.is_wide() && matches!(plain.src, pseudo::MAP | pseudo::MAP_VALUE) {
            plain.imm = 0;
            in_map = true;
        }
        digest.update(plain.to_octets());
    }
    let digest = digest.finalize();
    std::array::from_fn(|index| digest[index])
}
