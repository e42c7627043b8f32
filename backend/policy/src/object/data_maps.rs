//! Data sections: each is an array of one value, which programs find at the section's address.

use super::elf::Elf;
use super::externs::Externs;
use super::section::{is_data, is_read_only};
use super::types::Types;
use super::{MapDefinition, MapTypes, ObjectError};

/// Octets of all data sections.
const DATA_MAX: u64 = 64 << 20;

/// linux/bpf.h: `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// linux/bpf.h: programs only read it.
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// The data sections with their numbers.
pub(super) fn read(elf: &Elf<'_>, types: &Types) -> Result<Vec<(usize, MapDefinition)>, ObjectError> {
    let mut maps = Vec::new();
    let mut left = DATA_MAX;
    let sections = types.btf.as_ref().map(|btf| btf.sections()).unwrap_or_default();
    for (index, section) in elf.sections.iter().enumerate() {
        let is_empty = section.size == 0 || section.data.is_empty() && !section.is_zeroed();
        if section.is_code || is_empty || !is_data(section.name) {
            continue;
        }
        left = left.checked_sub(section.size).ok_or_else(|| {
            ObjectError::section(
                section.name,
                format!("with it, data has more than {DATA_MAX} octets"),
            )
        })?;
        let contents = match section.is_zeroed() {
            true => vec![0; section.size as usize],
            false => section.data.to_vec(),
        };
        let target = sections.get(section.name).copied();
        let is_read_only = is_read_only(section.name);
        maps.push((index, define(section.name, contents, is_read_only, types, target)));
    }
    Ok(maps)
}

/// What is to be told about data sections: addresses in them stay 0, as libbpf leaves them.
pub(super) fn notes(elf: &Elf<'_>) -> impl Iterator<Item = String> {
    elf.sections
        .iter()
        .filter(|section| is_data(section.name) && !section.relocations.is_empty())
        .map(|section| {
            format!(
                "{} addresses in section `{}`, which programs find to be 0",
                section.relocations.len(),
                section.name
            )
        })
}

/// The configuration that externs ask for.
pub(super) fn configuration(externs: &Externs, types: &Types) -> MapDefinition {
    let target = types.btf.as_ref().and_then(|btf| btf.section(".kconfig"));
    let target = target.map(|(id, _)| id);
    define(".kconfig", externs.configuration.clone(), true, types, target)
}

/// An array of one value; `target` is the type of the section.
fn define(
    name: &str,
    contents: Vec<u8>,
    is_read_only: bool,
    types: &Types,
    target: Option<u32>,
) -> MapDefinition {
    MapDefinition {
        kind: ARRAY,
        key_size: 4,
        value_size: contents.len() as u32,
        max_entries: 1,
        flags: if is_read_only { BPF_F_RDONLY_PROG } else { 0 },
        contents: Some(contents),
        types: types.btf.as_ref().zip(target).map(|(btf, value)| MapTypes {
            btf: btf.clone(),
            key: 0,
            value,
        }),
        ..MapDefinition::named(name)
    }
}
