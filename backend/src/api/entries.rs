//! Entries of maps as callers see them: hexadecimal, and by their types.

use netkit_api::MapEntry;
use policy::map::{Map, MapKind};
use policy::object::btf::Value;

use super::problem::Refusal;
use super::routes::Answer;

/// How one map's entries are shown.
pub struct Codec<'a> {
    map: &'a Map,
    per_shard: bool,
}

impl<'a> Codec<'a> {
    pub fn new(map: &'a Map) -> Codec<'a> {
        let per_shard = matches!(
            map.kind(),
            MapKind::PercpuArray | MapKind::PercpuHash | MapKind::LruPercpuHash
        );
        Codec { map, per_shard }
    }

    /// An entry; the value of a per-CPU map is the values of all shards, each in a multiple of eight octets.
    pub fn entry(&self, key: Option<&[u8]>, value: &[u8]) -> MapEntry {
        let size = self.map.definition().value_size as usize;
        let values: Vec<&[u8]> = match self.per_shard {
            true => value
                .chunks(size.next_multiple_of(8))
                .map(|chunk| chunk.get(..size).unwrap_or(chunk))
                .collect(),
            false => vec![value],
        };
        let (formatted, text) = self.formatted(key, &values).unzip();
        MapEntry {
            key: key.map(hex),
            value: values.first().map(|value| hex(value)),
            values: self
                .per_shard
                .then(|| values.iter().map(|value| hex(value)).collect()),
            formatted,
            text,
        }
    }

    /// A key without its value.
    pub fn key_alone(&self, key: &[u8]) -> MapEntry {
        MapEntry {
            key: Some(hex(key)),
            value: None,
            values: None,
            formatted: None,
            text: None,
        }
    }

    /// By the types that the object tells: as JSON, and as bpftool prints it for a person.
    fn formatted(&self, key: Option<&[u8]>, values: &[&[u8]]) -> Option<(serde_json::Value, String)> {
        let types = self
            .map
            .definition()
            .types
            .as_ref()
            .filter(|types| types.value != 0)?;
        let mut members = Vec::new();
        if let Some(key) = key {
            members.push(("key".to_owned(), types.btf.to_json(types.key, key).ok()?));
        }
        let values: Result<Vec<Value>, _> = values
            .iter()
            .map(|value| types.btf.to_json(types.value, value))
            .collect();
        let mut values = values.ok()?;
        if self.per_shard {
            let of_shard = |(cpu, value)| {
                Value::Object(vec![
                    ("cpu".to_owned(), Value::Uint(cpu as u64)),
                    ("value".to_owned(), value),
                ])
            };
            let list = values.into_iter().enumerate().map(of_shard).collect();
            members.push(("values".to_owned(), Value::Array(list)));
        } else {
            members.push(("value".to_owned(), values.pop()?));
        }
        let entry = Value::Object(members);
        let json = serde_json::from_str(&entry.to_json()).ok()?;
        Some((json, entry.to_text(0)))
    }

    /// A value as the map takes it: of a per-CPU map each shard's in a multiple of eight octets.
    pub fn padded(&self, value: Vec<u8>) -> Vec<u8> {
        let size = self.map.definition().value_size as usize;
        let padded = size.next_multiple_of(8);
        if !self.per_shard || size == 0 || size == padded {
            return value;
        }
        let mut all = Vec::new();
        for one in value.chunks(size) {
            all.extend_from_slice(one);
            // What is too short stays so, and is refused.
            all.resize(all.len() + if one.len() == size { padded - size } else { 0 }, 0);
        }
        all
    }
}

/// Octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets from hexadecimal.
pub fn parse_hex(what: &str, text: &str) -> Answer<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|it| it as u8))
        .collect();
    match digits.as_deref().map(|digits| digits.as_chunks::<2>()) {
        Some((pairs, [])) => Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect()),
        _ => Err(Refusal {
            errno: libc::EINVAL,
            detail: format!("{what} is not octets in hexadecimal, two digits each"),
        }),
    }
}
