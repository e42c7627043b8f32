//! Entries as bpftool prints them: by their types where the object tells these, or else as octets.

use netkit_api::{Map, MapEntry};
use serde_json::{Value, json};
use vmm_glue::Client;

use super::data::{holds_maps, holds_programs};
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::octets::{answered_hex, listed, spaced};

/// `map dump MAP`
pub fn dump(map: &Map, client: &Client, options: Options) -> Result<Output, Error> {
    let id = map.id.to_string();
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let part = client.entries(&id, after.as_deref())?;
        entries.extend(part.entries);
        // A map that changes meanwhile may send us back; to the same place, it would for ever.
        match part.next {
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            _ => break,
        }
    }
    entries.retain(|entry| !is_absent(map, entry));
    match options.json {
        true => {
            let rows: Result<Vec<Value>, _> = entries.iter().map(|entry| row(map, entry)).collect();
            Output::json(&rows?, options)
        }
        false => Ok(Output::text(table(map, &entries)?)),
    }
}

/// One entry, as `map lookup` has it.
pub fn print(map: &Map, entry: &MapEntry, options: Options) -> Result<Output, Error> {
    match (options.json, &entry.text) {
        (true, _) => Output::json(&row(map, entry)?, options),
        (false, Some(text)) => Ok(Output::text(text)),
        (false, None) => Ok(Output::text(octets(map, entry)?)),
    }
}

/// A slot for a program or map that has none is no entry.
fn is_absent(map: &Map, entry: &MapEntry) -> bool {
    has_no_value(entry) && (holds_programs(map) || holds_maps(map))
}

fn has_no_value(entry: &MapEntry) -> bool {
    entry.value.is_none() && entry.values.is_none()
}

fn table(map: &Map, entries: &[MapEntry]) -> Result<String, Error> {
    let typed: Option<Vec<&String>> = entries.iter().map(|entry| entry.text.as_ref()).collect();
    if let Some(texts) = typed.filter(|texts| !texts.is_empty()) {
        // The elements of an array, as bpftool's JSON writer has them.
        let indented: Vec<String> = texts
            .iter()
            .map(|text| text.trim_end().replace('\n', "\n    "))
            .collect();
        return Ok(format!("[{}\n]\n", indented.join(",")));
    }
    let mut text = String::new();
    for entry in entries {
        text += &octets(map, entry)?;
    }
    let found = entries.iter().filter(|entry| !has_no_value(entry)).count();
    let plural = if found == 1 { "" } else { "s" };
    Ok(text + &format!("Found {found} element{plural}\n"))
}

fn octets(map: &Map, entry: &MapEntry) -> Result<String, Error> {
    let key = answered_hex(entry.key.as_deref().unwrap_or_default())?;
    match (&entry.values, &entry.value) {
        (Some(values), _) => of_shards(&key, values),
        (None, Some(value)) => of_value(map, &key, &answered_hex(value)?),
        (None, None) => Ok(on_lines("value", "<no entry>", 16, &key, "<no entry>".len())),
    }
}

fn of_value(map: &Map, key: &[u8], value: &[u8]) -> Result<String, Error> {
    let (name, text) = match inner_map(map, value) {
        Some(id) => ("inner_map_id", id.to_string()),
        None => ("value", spaced(value)),
    };
    Ok(on_lines(name, &text, 16, key, value.len()))
}

/// Short keys and values share a line; long ones have lines without their names. // map.c: print_entry_plain
fn on_lines(name: &str, value: &str, long: usize, key: &[u8], length: usize) -> String {
    let long = key.len() > long || length > long;
    let separator = if long { '\n' } else { ' ' };
    let mut text = String::new();
    if !key.is_empty() {
        let short = key.len() + length <= 24 && !long;
        text += &format!("key:{separator}{}", spaced(key));
        text += if short { "  " } else { "\n" };
    }
    text + &format!("{name}:{separator}{value}\n")
}

fn of_shards(key: &[u8], values: &[String]) -> Result<String, Error> {
    let mut text = String::new();
    if !key.is_empty() {
        text += &format!("key:\n{}\n", spaced(key));
    }
    for (shard, value) in values.iter().enumerate() {
        let value = answered_hex(value)?;
        let separator = if value.len() > 16 { '\n' } else { ' ' };
        text += &format!("value (CPU {shard:02}):{separator}{}\n", spaced(&value));
    }
    Ok(text)
}

fn inner_map(map: &Map, value: &[u8]) -> Option<u32> {
    let id = value.get(..4).filter(|_| holds_maps(map))?;
    Some(u32::from_le_bytes(id.try_into().ok()?))
}

fn row(map: &Map, entry: &MapEntry) -> Result<Value, Error> {
    let mut row = serde_json::Map::new();
    let key = answered_hex(entry.key.as_deref().unwrap_or_default())?;
    row.insert("key".into(), json!(listed(&key)));
    match (&entry.values, &entry.value) {
        (Some(values), _) => {
            let of_shard = |(shard, value): (usize, &String)| {
                Ok(json!({"cpu": shard, "value": listed(&answered_hex(value)?)}))
            };
            let values: Result<Vec<Value>, Error> = values.iter().enumerate().map(of_shard).collect();
            row.insert("values".into(), json!(values?));
        }
        (None, Some(value)) => {
            let value = answered_hex(value)?;
            row.insert("value".into(), json!(listed(&value)));
            if let Some(id) = inner_map(map, &value) {
                row.insert("inner_map_id".into(), json!(id));
            }
        }
        (None, None) => {
            let error = json!({"error": "No such file or directory"});
            row.insert("value".into(), error);
        }
    }
    if let Some(formatted) = &entry.formatted {
        row.insert("formatted".into(), formatted.clone());
    }
    Ok(row.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::hash;

    fn entry(key: &str, value: &str) -> MapEntry {
        MapEntry {
            key: (!key.is_empty()).then(|| key.into()),
            value: Some(value.into()),
            values: None,
            formatted: None,
            text: None,
        }
    }

    #[test]
    fn octets_stand_as_bpftool_puts_them() {
        let text = |key: &str, value: &str| octets(&hash(), &entry(key, value)).expect("hexadecimal");
        assert_eq!(
            text("0a000001", "0100000000000000"),
            "key: 0a 00 00 01  value: 01 00 00 00 00 00 00 00\n"
        );
        let zeros = spaced(&[0; 16]);
        assert_eq!(
            text(&"00".repeat(16), &"00".repeat(16)),
            format!("key: {zeros}\nvalue: {zeros}\n")
        );
        assert_eq!(
            text("00000000", &"ff".repeat(17)),
            "key:\n00 00 00 00\nvalue:\nff ff ff ff ff ff ff ff  ff ff ff ff ff ff ff ff\nff\n"
        );
        assert_eq!(text("", "0102"), "value: 01 02\n");
    }

    #[test]
    fn per_cpu_maps_have_a_value_for_every_shard() {
        let map = Map {
            shards: Some(2),
            ..hash()
        };
        let counted = MapEntry {
            values: Some(vec!["01".into(), "02".into()]),
            ..entry("0a", "01")
        };
        assert_eq!(
            octets(&map, &counted).expect("hexadecimal"),
            "key:\n0a\nvalue (CPU 00): 01\nvalue (CPU 01): 02\n"
        );
        assert_eq!(
            row(&map, &counted).expect("hexadecimal"),
            json!({"key": ["0x0a"], "values": [{"cpu": 0, "value": ["0x01"]}, {"cpu": 1, "value": ["0x02"]}]})
        );
    }

    #[test]
    fn a_map_in_a_map_is_named_by_its_id() {
        let map = Map {
            kind: "hash_of_maps".into(),
            ..hash()
        };
        let inner = entry("00000000", "07010000");
        assert_eq!(
            octets(&map, &inner).expect("hexadecimal"),
            "key: 00 00 00 00  inner_map_id: 263\n"
        );
        assert_eq!(row(&map, &inner).expect("hexadecimal")["inner_map_id"], 263);
        let absent = MapEntry { value: None, ..inner };
        assert!(is_absent(&map, &absent) && !is_absent(&hash(), &absent));
        assert_eq!(
            octets(&hash(), &absent).expect("hexadecimal"),
            "key: 00 00 00 00  value: <no entry>\n"
        );
    }

    #[test]
    fn types_make_an_array_as_bpftool_writes_it() {
        let typed = |number| MapEntry {
            text: Some(format!("{{\n    \"key\": {number},\n    \"value\": 1\n}}")),
            formatted: Some(json!({"key": number, "value": 1})),
            ..entry("00", "01")
        };
        // From bpftool v7.1.0, map dump of a map with BTF.
        assert_eq!(
            table(&hash(), &[typed(1), typed(2)]).expect("text"),
            "\
[{
        \"key\": 1,
        \"value\": 1
    },{
        \"key\": 2,
        \"value\": 1
    }
]
"
        );
        assert_eq!(
            row(&hash(), &typed(1)).expect("hexadecimal").to_string(),
            "{\"key\":[\"0x00\"],\"value\":[\"0x01\"],\"formatted\":{\"key\":1,\"value\":1}}"
        );
    }

    #[test]
    fn elements_are_counted() {
        let count = |entries: &[MapEntry]| table(&hash(), entries).expect("hexadecimal");
        assert_eq!(count(&[]), "Found 0 elements\n");
        assert_eq!(
            count(&[entry("00", "01")]),
            "key: 00  value: 01\nFound 1 element\n"
        );
        assert!(matches!(
            octets(&hash(), &entry("0", "01")),
            Err(Error::NotHexadecimal(_))
        ));
    }
}
