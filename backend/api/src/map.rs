//! Maps: looking into them and changing them while programs run. Keys and values are octets in hexadecimal.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A map as `nkctl map show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Map {
    /// Unique in the daemon, never used again.
    pub id: u32,
    /// `hash`, `array` and so on, as bpftool names them.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `BPF_F_*` flags.
    pub flags: u32,
    /// Octets of a key.
    pub bytes_key: u32,
    /// Octets of a value.
    pub bytes_value: u32,
    /// The most entries.
    pub max_entries: u32,
    /// Octets of memory.
    pub bytes_memlock: u64,
    /// Whether the API may not write it any more.
    pub frozen: bool,
    /// The name that it is pinned under.
    pub pinned: Option<String>,
    /// The programs that use it.
    pub program_ids: Vec<u32>,
    /// Shards, each of which has a value of its own; absent if the map is not per-CPU.
    pub shards: Option<u32>,
}

/// Names a key, and for some a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MapRequest {
    /// The key, in hexadecimal. For `next`: absent starts at the beginning.
    pub key: Option<String>,
    /// The value, in hexadecimal: of every shard, one behind the other, for a per-CPU map. For a prog_array a program
    /// and for a map of maps a map, by id or name.
    pub value: Option<String>,
    /// `any`, `noexist` or `exist`; absent is `any`.
    pub flags: Option<String>,
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapEntry {
    /// The key, in hexadecimal; absent for maps without keys.
    pub key: Option<String>,
    /// The value, in hexadecimal; of a per-CPU map the first shard's.
    pub value: Option<String>,
    /// The values of all shards, in hexadecimal.
    pub values: Option<Vec<String>>,
    /// Key and value by their types, if the object tells: `{"key": …, "value": …}` or `{"key": …, "values": […]}`.
    pub formatted: Option<serde_json::Value>,
    /// The same as bpftool prints it for a person.
    pub text: Option<String>,
}

/// Part of a map's contents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MapEntries {
    /// The entries.
    pub entries: Vec<MapEntry>,
    /// The key to go on behind, in hexadecimal, if there is more.
    pub next: Option<String>,
}

/// What a program put out through a ring buffer or a perf event array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapEvent {
    /// The shard that it ran on.
    pub cpu: u32,
    /// Events that were lost before this one.
    pub lost: u64,
    /// The octets, in hexadecimal.
    pub data: String,
}
