//! Maps of the `maps` section: `struct bpf_map_def` of old libbpf, and `struct bpf_elf_map` of iproute2.

use super::elf::{Elf, SymbolKind};
use super::{MapDefinition, ObjectError};

/// The section of definitions.
pub(super) const SECTION: &str = "maps";

/// The most maps.
const MAPS_MAX: usize = 256;

/// Octets of `struct bpf_map_def`: type, key_size, value_size, max_entries, map_flags.
const BPF_MAP_DEF_LEN: u64 = 20;
/// Octets of the first `struct bpf_elf_map`: the same, id, pinning.
const BPF_ELF_MAP_LEN: u64 = 28;
/// Octets of the present one: the same, inner_id, inner_idx.
const BPF_ELF_MAP_INNER_LEN: u64 = 36;

/// iproute2's bpf_elf.h: `PIN_GLOBAL_NS`.
const PIN_GLOBAL_NS: u32 = 2;

// linux/bpf.h: enum bpf_map_type.
const ARRAY_OF_MAPS: u32 = 12;
const HASH_OF_MAPS: u32 = 13;

/// A definition with what iproute2 adds.
struct Legacy {
    offset: u64,
    definition: MapDefinition,
    id: u32,
    inner_id: u32,
    inner_index: u32,
}

/// Reads the maps of the section with the first octet of each, in its order.
pub(super) fn read(elf: &Elf<'_>, section: usize) -> Result<Vec<(u64, MapDefinition)>, ObjectError> {
    let data = elf.sections[section].data;
    let mut symbols: Vec<_> = elf
        .symbols_of(section)
        .filter(|symbol| matches!(symbol.kind, SymbolKind::Object | SymbolKind::Untyped))
        .filter(|symbol| !symbol.name.is_empty())
        .collect();
    symbols.sort_by_key(|symbol| symbol.value);
    symbols.dedup_by_key(|symbol| symbol.value);
    if symbols.len() > MAPS_MAX {
        return Err(ObjectError::section(
            SECTION,
            format!("it has more than {MAPS_MAX} maps"),
        ));
    }
    let mut maps = Vec::new();
    for (place, symbol) in symbols.iter().enumerate() {
        let end = symbols
            .get(place + 1)
            .map_or(data.len() as u64, |next| next.value);
        let len = match symbol.size {
            0 => end.saturating_sub(symbol.value),
            size => size,
        };
        let octets = usize::try_from(symbol.value).ok().and_then(|start| {
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            data.get(start..end)
        });
        let map = octets.and_then(|octets| parse(symbol.name, symbol.value, octets));
        maps.push(map.ok_or_else(|| {
            ObjectError::map(
                symbol.name,
                format!(
                    "its definition of {len} octets is neither bpf_map_def ({BPF_MAP_DEF_LEN}) nor \
                     bpf_elf_map ({BPF_ELF_MAP_LEN} or {BPF_ELF_MAP_INNER_LEN})"
                ),
            )
        })?);
    }
    nest(&mut maps)?;
    Ok(maps.into_iter().map(|map| (map.offset, map.definition)).collect())
}

fn parse(name: &str, offset: u64, octets: &[u8]) -> Option<Legacy> {
    let len = octets.len() as u64;
    if len < BPF_MAP_DEF_LEN {
        return None;
    }
    let (words, _) = octets.as_chunks::<4>();
    let word = |index: usize| words.get(index).map_or(0, |word| u32::from_le_bytes(*word));
    let is_iproute2 = len == BPF_ELF_MAP_LEN || len == BPF_ELF_MAP_INNER_LEN;
    // What others have put behind the definition is not known, unless it says nothing.
    let rest = &octets[BPF_MAP_DEF_LEN as usize..];
    if !is_iproute2 && rest.iter().any(|octet| *octet != 0) {
        return None;
    }
    Some(Legacy {
        offset,
        id: word(5),
        inner_id: word(7),
        inner_index: word(8),
        definition: MapDefinition {
            kind: word(0),
            key_size: word(1),
            value_size: word(2),
            max_entries: word(3),
            flags: word(4),
            pinned: word(6) == PIN_GLOBAL_NS,
            ..MapDefinition::named(name)
        },
    })
}

/// Maps of maps name the ones in them by number.
fn nest(maps: &mut [Legacy]) -> Result<(), ObjectError> {
    for outer in 0..maps.len() {
        let map = &maps[outer];
        if !matches!(map.definition.kind, ARRAY_OF_MAPS | HASH_OF_MAPS) || map.inner_id == 0 {
            continue;
        }
        let mut values = Vec::new();
        let mut inner = None;
        for candidate in maps.iter().filter(|candidate| candidate.id == map.inner_id) {
            if matches!(candidate.definition.kind, ARRAY_OF_MAPS | HASH_OF_MAPS) {
                continue;
            }
            inner.get_or_insert_with(|| MapDefinition {
                name: format!("{}.inner", map.definition.name),
                pinned: false,
                ..candidate.definition.clone()
            });
            if candidate.inner_index < map.definition.max_entries {
                values.push((candidate.inner_index, candidate.definition.name.clone()));
            }
        }
        let Some(inner) = inner else {
            return Err(ObjectError::map(
                &map.definition.name,
                format!("no map has the id {} of its inner_id", map.inner_id),
            ));
        };
        maps[outer].definition.inner = Some(Box::new(inner));
        maps[outer].definition.values = values;
    }
    Ok(())
}
