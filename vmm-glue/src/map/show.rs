//! `map show`: maps as `bpftool map show` prints them.

use netkit_api::Map;
use serde::Serialize;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::names::MapName;

/// Names and order are bpftool's; those behind `pinned` are netkitd's own.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    flags: u32,
    bytes_key: u32,
    bytes_value: u32,
    max_entries: u32,
    bytes_memlock: u64,
    frozen: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<[&'a str; 1]>,
    prog_ids: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<u32>,
}

/// As with bpftool, the JSON of one map that was asked for is no array.
pub fn run(name: Option<&MapName>, client: &Client, options: Options) -> Result<Output, Error> {
    let maps = match name {
        None => client.maps()?,
        Some(MapName::Name(name)) => named(client, name)?,
        Some(name) => vec![name.find(client)?],
    };
    match (maps.as_slice(), name) {
        ([map], Some(_)) if options.json => Output::json(&row(map), options),
        (maps, _) if options.json => Output::json(&maps.iter().map(row).collect::<Vec<_>>(), options),
        (maps, _) => Ok(Output::text(
            maps.iter().map(|map| text(map, options)).collect::<String>(),
        )),
    }
}

/// Several maps can have one name; that none has it the daemon says.
fn named(client: &Client, name: &str) -> Result<Vec<Map>, Error> {
    let mut maps = client.maps()?;
    maps.retain(|map| map.name == name);
    match maps.is_empty() {
        true => Ok(vec![client.map(name)?]),
        false => Ok(maps),
    }
}

fn row(map: &Map) -> Row<'_> {
    Row {
        id: map.id,
        kind: &map.kind,
        name: &map.name,
        flags: map.flags,
        bytes_key: map.bytes_key,
        bytes_value: map.bytes_value,
        max_entries: map.max_entries,
        bytes_memlock: map.bytes_memlock,
        frozen: map.frozen.into(),
        pinned: map.pinned.as_deref().map(|name| [name]),
        prog_ids: &map.program_ids,
        shards: map.shards,
    }
}

fn text(map: &Map, options: Options) -> String {
    let Map {
        id,
        kind,
        name,
        flags,
        bytes_key,
        bytes_value,
        max_entries,
        bytes_memlock,
        ..
    } = map;
    let name = match name.as_str() {
        "" => String::new(),
        name => format!("name {name}  "),
    };
    let mut text = format!(
        "{id}: {kind}  {name}flags {flags:#x}\n\
         \tkey {bytes_key}B  value {bytes_value}B  max_entries {max_entries}  memlock {bytes_memlock}B\n"
    );
    if let Some(name) = &map.pinned {
        text += &format!("\tpinned {name}\n");
    }
    if map.frozen {
        text += "\tfrozen\n";
    }
    if options.details {
        let ids: Vec<String> = map.program_ids.iter().map(u32::to_string).collect();
        let programs = (!ids.is_empty()).then(|| format!("prog_ids {}", ids.join(",")));
        let shards = map.shards.map(|shards| format!("shards {shards}"));
        let words: Vec<String> = programs.into_iter().chain(shards).collect();
        if !words.is_empty() {
            text += &format!("\t{}\n", words.join("  "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::hash;

    fn pinned() -> Map {
        Map {
            id: 4,
            kind: "percpu_array".into(),
            flags: 0,
            frozen: true,
            pinned: Some("shared".into()),
            shards: Some(2),
            ..hash()
        }
    }

    #[test]
    fn maps_are_printed_as_bpftool_prints_them() {
        assert_eq!(
            text(&hash(), Options::default()),
            "\
3: hash  name counters  flags 0x1
	key 4B  value 8B  max_entries 16  memlock 4096B
"
        );
        let details = Options {
            details: true,
            ..Options::default()
        };
        assert_eq!(
            text(&pinned(), details),
            "\
4: percpu_array  name counters  flags 0x0
	key 4B  value 8B  max_entries 16  memlock 4096B
	pinned shared
	frozen
	prog_ids 7,9  shards 2
"
        );
    }

    #[test]
    fn a_map_need_not_have_a_name() {
        let nameless = Map {
            name: String::new(),
            ..hash()
        };
        assert!(text(&nameless, Options::default()).starts_with("3: hash  flags 0x1\n"));
        let json = serde_json::to_value(row(&nameless)).expect("rows are JSON");
        assert!(json.get("name").is_none());
    }

    #[test]
    fn json_has_bpftools_names() {
        assert_eq!(
            serde_json::to_string(&row(&pinned())).expect("rows are JSON"),
            "{\"id\":4,\"type\":\"percpu_array\",\"name\":\"counters\",\"flags\":0,\"bytes_key\":4,\"bytes_value\":8,\
             \"max_entries\":16,\"bytes_memlock\":4096,\"frozen\":1,\"pinned\":[\"shared\"],\"prog_ids\":[7,9],\
             \"shards\":2}"
        );
    }
}
