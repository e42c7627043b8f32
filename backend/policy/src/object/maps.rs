//! The maps of an object, wherever they are defined, and where its instructions find them.

use std::collections::{HashMap, HashSet};

use super::btf_maps;
use super::data_maps;
use super::elf::{Elf, Symbol};
use super::externs::Externs;
use super::functions::Functions;
use super::legacy_maps;
use super::types::Types;
use super::{MapDefinition, ObjectError};

/// The most maps.
pub(super) const MAPS_MAX: usize = 1024;
/// Octets of the longest name.
const NAME_MAX: usize = 512;

/// Maps with their places.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub definitions: Vec<MapDefinition>,
    /// What maps are not to hold although they say so, and why.
    pub skipped: Vec<String>,
    /// By the section and octet of their definitions.
    places: HashMap<(usize, u64), usize>,
    /// Maps that are data sections, by section.
    data: HashMap<usize, usize>,
    configuration: Option<usize>,
}

/// What the address in a section stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// A map.
    Map(usize),
    /// An octet of the only value of a map.
    Value(usize, u32),
}

impl Maps {
    /// Reads all maps.
    pub fn read(
        elf: &Elf<'_>,
        types: &Types,
        externs: &Externs,
        functions: &Functions,
    ) -> Result<Maps, ObjectError> {
        let mut maps = Maps::default();
        if let Some(section) = elf.find(btf_maps::SECTION) {
            for map in btf_maps::read(elf, section, types, functions, &mut maps.skipped)? {
                maps.push(map.definition, Some((section, map.offset)))?;
            }
        }
        if let Some(section) = elf.find(legacy_maps::SECTION) {
            for (offset, definition) in legacy_maps::read(elf, section)? {
                maps.push(definition, Some((section, offset)))?;
            }
        }
        for (section, definition) in data_maps::read(elf, types)? {
            let index = maps.push(definition, None)?;
            maps.data.insert(section, index);
        }
        if !externs.configuration.is_empty() {
            let definition = data_maps::configuration(externs, types);
            maps.configuration = Some(maps.push(definition, None)?);
        }
        maps.check_names()?;
        Ok(maps)
    }

    /// What an address is: the octet of a section, or nothing that programs may name.
    pub fn at(&self, section: usize, octet: i64) -> Option<Address> {
        if let Some(map) = self.data.get(&section) {
            let offset = u32::try_from(octet).ok()?;
            // arraymap.c: array_map_direct_value_addr.
            let is_inside = offset < self.definitions.get(*map)?.value_size;
            return is_inside.then_some(Address::Value(*map, offset));
        }
        let place = (section, u64::try_from(octet).ok()?);
        self.places.get(&place).copied().map(Address::Map)
    }

    /// The address of a value of the configuration.
    pub fn configuration(&self, offset: u32) -> Option<Address> {
        Some(Address::Value(self.configuration?, offset))
    }

    fn push(&mut self, definition: MapDefinition, place: Option<(usize, u64)>) -> Result<usize, ObjectError> {
        let index = self.definitions.len();
        if index == MAPS_MAX {
            return Err(ObjectError::File(format!("it has more than {MAPS_MAX} maps")));
        }
        if definition.name.is_empty() || definition.name.len() > NAME_MAX {
            return Err(ObjectError::map(
                &definition.name,
                format!("its name has no letters, or more than {NAME_MAX}"),
            ));
        }
        self.definitions.push(definition);
        if let Some(place) = place {
            self.places.insert(place, index);
        }
        Ok(index)
    }

    fn check_names(&self) -> Result<(), ObjectError> {
        let mut names = HashSet::new();
        for definition in &self.definitions {
            if !names.insert(definition.name.as_str()) {
                return Err(ObjectError::map(
                    &definition.name,
                    "there are two maps of this name",
                ));
            }
        }
        Ok(())
    }
}

/// What a relocation of eight octets in data leads to: the section, and the octet in it.
///
/// The addend is where the address will be, as the format has it (SHT_REL).
pub(super) fn target_of_data(symbol: &Symbol<'_>, data: &[u8], offset: u64) -> Option<(usize, u64)> {
    let octets = data.get(usize::try_from(offset).ok()?..)?.first_chunk()?;
    let octet = symbol.value.checked_add(u64::from_le_bytes(*octets))?;
    Some((symbol.section?, octet))
}
