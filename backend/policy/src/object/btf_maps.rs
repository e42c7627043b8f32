//! Maps whose definitions are types: `struct { __uint(type, …); … } name SEC(".maps")` (libbpf.c: `parse_btf_map_def`).

use std::collections::HashMap;
use std::sync::Arc;

use super::btf::{Btf, BtfError, Composite, Kind, Member};
use super::elf::Elf;
use super::functions::{Functions, note};
use super::maps::{MAPS_MAX, target_of_data};
use super::section::Purpose;
use super::types::Types;
use super::{MapDefinition, MapTypes, ObjectError};

/// The section of the variables whose types are definitions.
pub(super) const SECTION: &str = ".maps";

// linux/bpf.h: enum bpf_map_type.
pub(super) const PROG_ARRAY: u32 = 3;
const ARRAY_OF_MAPS: u32 = 12;
const HASH_OF_MAPS: u32 = 13;

/// The most fields of a definition: more than there are, which no field need be twice.
const FIELDS_MAX: usize = 16;
/// The most values that maps hold from the start, together.
const VALUES_MAX: usize = 1 << 16;

/// Octets of an index of a program or map (libbpf.c: `map_def->value_size = 4`).
const INDEX_LEN: u32 = 4;
/// Octets of a pointer in `values`.
const POINTER_LEN: u64 = 8;

/// A map with its place.
#[derive(Debug)]
pub(super) struct BtfMap {
    /// The first octet of its variable in the section.
    pub offset: u64,
    pub definition: MapDefinition,
    size: u64,
    /// The first octet of `values` in the variable.
    values: Option<u64>,
}

/// Reads the maps of the section, in its order.
pub(super) fn read(
    elf: &Elf<'_>,
    section: usize,
    types: &Types,
    functions: &Functions,
    skipped: &mut Vec<String>,
) -> Result<Vec<BtfMap>, ObjectError> {
    let Some(btf) = &types.btf else {
        return Err(ObjectError::section(
            SECTION,
            "the maps' definitions are in .BTF, which is missing: compile with clang -g",
        ));
    };
    let places: HashMap<&str, (u64, u64)> = elf
        .symbols_of(section)
        .map(|symbol| (symbol.name, (symbol.value, symbol.size)))
        .collect();
    let Some((_, variables)) = btf.section(SECTION) else {
        return Ok(Vec::new());
    };
    let mut maps = Vec::new();
    for variable in variables {
        if maps.len() == MAPS_MAX {
            return Err(ObjectError::section(
                SECTION,
                format!("it has more than {MAPS_MAX} maps"),
            ));
        }
        let found = btf
            .get(variable.variable)
            .ok_or_else(|| ObjectError::section(SECTION, "a variable has no type"))?;
        let Kind::Variable { target, .. } = found.kind else {
            return Err(ObjectError::section(
                SECTION,
                format!("`{}` is no variable", found.name),
            ));
        };
        let Some((offset, size)) = places.get(found.name).copied() else {
            return Err(ObjectError::map(found.name, "it has no symbol"));
        };
        let mut map =
            parse(btf, found.name, target, None).map_err(|problem| ObjectError::map(found.name, problem))?;
        (map.offset, map.size) = (offset, size);
        maps.push(map);
    }
    maps.sort_by_key(|map| map.offset);
    fill(elf, section, functions, &mut maps, skipped)?;
    Ok(maps)
}

/// Reads a definition; `outer` is the map that it is the inner one of.
fn parse(btf: &Arc<Btf>, name: &str, target: u32, outer: Option<&str>) -> Result<BtfMap, String> {
    let (_, found) = btf.resolve(target).map_err(text)?;
    let Kind::Struct(Composite { size, members }) = found.kind else {
        return Err("its definition is not a struct".into());
    };
    if members.count() > FIELDS_MAX {
        return Err(format!("its definition has more than {FIELDS_MAX} fields"));
    }
    let mut map = BtfMap {
        offset: 0,
        size: size.into(),
        values: None,
        definition: MapDefinition::named(name),
    };
    let mut types = (0, 0);
    for member in members {
        let definition = &mut map.definition;
        let field = member.name(btf);
        let number = || small(btf, member, field);
        match field {
            "type" => definition.kind = number()?,
            "max_entries" => definition.max_entries = number()?,
            "map_flags" => definition.flags = number()?,
            "map_extra" => definition.extra = integer(btf, member, field)?,
            // Memory has no nodes here.
            "numa_node" => _ = number()?,
            "key_size" => set(&mut definition.key_size, number()?, field)?,
            "value_size" => set(&mut definition.value_size, number()?, field)?,
            "key" => {
                types.0 = pointed(btf, member, field)?;
                set(&mut definition.key_size, size_of_type(btf, types.0)?, field)?;
            }
            "value" => {
                types.1 = pointed(btf, member, field)?;
                set(&mut definition.value_size, size_of_type(btf, types.1)?, field)?;
            }
            "pinning" if outer.is_some() => return Err("maps inside of maps cannot be pinned".into()),
            "pinning" => {
                // bpf_helpers.h: LIBBPF_PIN_NONE, LIBBPF_PIN_BY_NAME.
                definition.pinned = match number()? {
                    0 => false,
                    1 => true,
                    other => return Err(format!("`pinning` is {other}, which is neither none nor by name")),
                };
            }
            "values" if map.values.is_some() => return Err("it has `values` twice".into()),
            "values" if outer.is_some() => return Err("maps inside of maps cannot hold maps".into()),
            "values" => {
                map.values = Some(u64::from(member.bit_offset) / 8);
                set(&mut definition.value_size, INDEX_LEN, field)?;
                definition.inner = parse_inner(btf, name, definition.kind, member)?;
            }
            unknown => return Err(format!("field `{unknown}` of its definition is not known")),
        }
    }
    if map.definition.kind == 0 {
        return Err("its `type` is missing".into());
    }
    map.definition.spin_lock_offset = spin_lock(btf, types.1);
    if types != (0, 0) {
        map.definition.types = Some(MapTypes {
            btf: btf.clone(),
            key: types.0,
            value: types.1,
        });
    }
    Ok(map)
}

/// Where a value has its spin lock (btf.c: `btf_find_spin_lock`).
fn spin_lock(btf: &Btf, value: u32) -> Option<u32> {
    let (_, value) = btf.resolve(value).ok()?;
    let Kind::Struct(value) = value.kind else {
        return None;
    };
    let is_lock = |member: &Member| {
        let found = btf.resolve(member.target);
        found.is_ok_and(|(_, found)| found.name == "bpf_spin_lock" && matches!(found.kind, Kind::Struct(_)))
    };
    value
        .members
        .into_iter()
        .find(is_lock)
        .map(|member| member.bit_offset / 8)
}

/// Reads `__array(values, …)`: what the maps in a map of maps are, or that programs are functions.
fn parse_inner(
    btf: &Arc<Btf>,
    name: &str,
    kind: u32,
    member: Member,
) -> Result<Option<Box<MapDefinition>>, String> {
    let (_, found) = btf.resolve(member.target).map_err(text)?;
    let Kind::Array(array) = found.kind else {
        return Err("`values` is not an array: use __array(values, …)".into());
    };
    let (_, element) = btf.resolve(array.element).map_err(text)?;
    let Kind::Pointer(target) = element.kind else {
        return Err("`values` is not an array of pointers: use __array(values, …)".into());
    };
    let (target, found) = btf.resolve(target).map_err(text)?;
    match (kind, found.kind) {
        (PROG_ARRAY, Kind::Prototype { .. }) => Ok(None),
        (ARRAY_OF_MAPS | HASH_OF_MAPS, Kind::Struct(_)) => {
            let inner = parse(btf, &format!("{name}.inner"), target, Some(name))?;
            Ok(Some(Box::new(inner.definition)))
        }
        (PROG_ARRAY | ARRAY_OF_MAPS | HASH_OF_MAPS, _) => {
            Err("`values` is neither of maps nor of programs, whichever it has to be".into())
        }
        _ => Err("`values` is of maps of maps and of programs only; is `type` behind it?".into()),
    }
}

/// A number that a member's type encodes: `__uint` is a pointer to an array of as many elements, `__ulong` an
/// enumeration of one value.
fn integer(btf: &Btf, member: Member, field: &str) -> Result<u64, String> {
    let wrong = || format!("`{field}` is not a number: use __uint({field}, …)");
    let (_, found) = btf.resolve(member.target).map_err(text)?;
    match found.kind {
        Kind::Pointer(target) => match btf.resolve(target).map_err(text)?.1.kind {
            Kind::Array(array) => Ok(array.count.into()),
            _ => Err(wrong()),
        },
        Kind::Enumeration(enumeration) if enumeration.values.count() == 1 => enumeration
            .values
            .at(0)
            .map(|value| value.value)
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn small(btf: &Btf, member: Member, field: &str) -> Result<u32, String> {
    u32::try_from(integer(btf, member, field)?).map_err(|_| format!("`{field}` is larger than 32 bits"))
}

/// The type that a member points to: `__type`.
fn pointed(btf: &Btf, member: Member, field: &str) -> Result<u32, String> {
    match btf.expect(member.target).map_err(text)?.kind {
        Kind::Pointer(target) => Ok(target),
        _ => Err(format!("`{field}` is not a type: use __type({field}, …)")),
    }
}

fn size_of_type(btf: &Btf, id: u32) -> Result<u32, String> {
    let size = btf.size(id).map_err(text)?;
    u32::try_from(size).map_err(|_| format!("type {id} has {size} octets"))
}

fn set(place: &mut u32, number: u32, field: &str) -> Result<(), String> {
    if *place != 0 && *place != number {
        return Err(format!(
            "`{field}` says {number} octets, and what is before it {place}"
        ));
    }
    *place = number;
    Ok(())
}

/// Puts into `values` what the section's relocations say: `.values = { [1] = &other }`.
fn fill(
    elf: &Elf<'_>,
    section: usize,
    functions: &Functions,
    maps: &mut [BtfMap],
    skipped: &mut Vec<String>,
) -> Result<(), ObjectError> {
    let names: HashMap<u64, String> = maps
        .iter()
        .map(|map| (map.offset, map.definition.name.clone()))
        .collect();
    let relocations = &elf.sections[section].relocations;
    if relocations.len() > VALUES_MAX {
        return Err(ObjectError::section(
            SECTION,
            format!("its maps hold more than {VALUES_MAX} values"),
        ));
    }
    let data = elf.sections[section].data;
    for relocation in relocations {
        let place = maps.partition_point(|map| map.offset <= relocation.offset);
        let Some(map) = place.checked_sub(1).and_then(|place| maps.get_mut(place)) else {
            return Err(ObjectError::section(
                SECTION,
                "an address is in front of all maps",
            ));
        };
        let name = map.definition.name.as_str();
        let Some(index) = map.index(relocation.offset) else {
            return Err(ObjectError::map(name, "an address is outside of its `values`"));
        };
        let symbol = &elf.symbols[relocation.symbol];
        let target = target_of_data(symbol, data, relocation.offset);
        let value = match (map.definition.kind, target) {
            (PROG_ARRAY, Some((target, octet))) => {
                let function = functions.at(target, octet);
                let program = function.map(|function| &functions.all[function].name);
                if let (Some(program), Purpose::Other) = (program, purpose(elf, target)) {
                    let what = format!("value {index} of map `{name}`, program `{program}`,");
                    note(skipped, format!("{what} is of a kind that is not run here"));
                    continue;
                }
                program.filter(|_| function.is_some_and(|function| functions.is_program(function)))
            }
            (ARRAY_OF_MAPS | HASH_OF_MAPS, Some((target, octet))) if target == section => names.get(&octet),
            _ => None,
        };
        let Some(value) = value.cloned() else {
            let what = format!("its value {index}, `{}`,", symbol.name);
            return Err(ObjectError::map(
                name,
                format!("{what} is neither a map nor a program"),
            ));
        };
        map.definition.values.push((index, value));
    }
    Ok(())
}

impl BtfMap {
    /// The place in `values` of an octet of the section.
    fn index(&self, offset: u64) -> Option<u32> {
        let inside = offset.checked_sub(self.offset)?;
        let behind = inside.checked_sub(self.values?)?;
        let is_place = inside < self.size && behind.is_multiple_of(POINTER_LEN);
        u32::try_from(behind / POINTER_LEN).ok().filter(|_| is_place)
    }
}

fn purpose(elf: &Elf<'_>, section: usize) -> Purpose {
    Purpose::of(elf.sections.get(section).map_or("", |section| section.name))
}

#[expect(clippy::needless_pass_by_value)] // for `map_err`
fn text(error: BtfError) -> String {
    error.to_string()
}
