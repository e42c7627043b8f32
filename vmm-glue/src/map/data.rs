//! Keys and values as the command line gives them; how long they must be is the map's to say.

use netkit_api::Map;
use vmm_glue::Client;

use crate::error::Error;
use crate::names::{MapName, ProgramName};
use crate::octets::{from_hex, to_hex};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, number};

/// `[hex] B0 B1 ...`, or one word with all digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// As octets, if that is what the words are.
    octets: Option<Vec<u8>>,
    /// As the digits of all octets, if there is one word that may be that.
    digits: Option<Vec<u8>>,
}

/// What `value` is followed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Octets(Data),
    /// `prog PROG`
    Program(ProgramName),
    /// `map MAP`, `pinned F`
    Map(MapName),
    /// `id N`, `name N`: of what, the map says.
    Named(String),
}

impl Data {
    pub fn parse(words: &mut Words<'_>) -> Result<Data, UsageError> {
        let hex = words.peek() == Some("hex");
        if hex {
            words.next();
        }
        let mut given = Vec::new();
        while let Some(word) = words.peek().filter(|word| !is_keyword(word)) {
            given.push(word);
            words.next();
        }
        let octets: Result<Vec<u8>, _> = given.iter().map(|word| octet(word, hex)).collect();
        let digits = match given.as_slice() {
            [] => return Err(UsageError::Incomplete),
            [word] => from_hex(word.strip_prefix("0x").unwrap_or(word)),
            _ => None,
        };
        match (octets, digits) {
            (Err(error), None) => Err(error),
            (octets, digits) => Ok(Data {
                octets: octets.ok(),
                digits,
            }),
        }
    }

    /// In hexadecimal, as the API takes it.
    fn of_length(&self, what: &'static str, length: u32, map: &Map) -> Result<String, DataError> {
        let fits = |octets: &&Vec<u8>| octets.len() == length as usize;
        let octets = self.octets.as_ref().filter(fits);
        match octets.or(self.digits.as_ref().filter(fits)) {
            Some(octets) => Ok(to_hex(octets)),
            None => Err(DataError::Length {
                what,
                expected: length,
                given: self.length(),
                map: described(map),
            }),
        }
    }

    fn length(&self) -> usize {
        let length = |octets: &Option<Vec<u8>>| octets.as_ref().map(Vec::len);
        length(&self.octets).or(length(&self.digits)).unwrap_or(0)
    }

    pub fn key(&self, map: &Map) -> Result<String, DataError> {
        self.of_length("key", map.bytes_key, map)
    }

    /// Of a per-CPU map: one value for all shards, or as many as there are.
    pub fn value(&self, map: &Map) -> Result<String, DataError> {
        let Some(shards) = map.shards else {
            return self.of_length("value", map.bytes_value, map);
        };
        let each = map.bytes_value.saturating_mul(shards);
        self.of_length("value", each, map).or_else(|_| {
            let one = self.of_length("value", map.bytes_value, map)?;
            Ok(one.repeat(shards as usize))
        })
    }
}

impl Value {
    pub fn parse(words: &mut Words<'_>) -> Result<Value, UsageError> {
        let word = words.peek().ok_or(UsageError::Incomplete)?;
        match word {
            "prog" => {
                words.next();
                Ok(Value::Program(ProgramName::parse(words)?))
            }
            "map" => {
                words.next();
                Ok(Value::Map(MapName::parse(words)?))
            }
            "pinned" => Ok(Value::Map(MapName::parse(words)?)),
            "id" | "name" => Ok(Value::Named(ProgramName::parse(words)?.to_request())),
            _ => Ok(Value::Octets(Data::parse(words)?)),
        }
    }

    /// As the API takes it.
    pub fn to_request(&self, map: &Map, client: &Client) -> Result<String, Error> {
        let wrong = || DataError::kind(map);
        match self {
            Value::Octets(data) if !holds_programs(map) && !holds_maps(map) => Ok(data.value(map)?),
            // A single number is an id.
            Value::Octets(Data { octets: Some(id), .. }) if id.len() == 1 => {
                Ok(id.iter().map(u8::to_string).collect())
            }
            Value::Program(program) if holds_programs(map) => Ok(program.to_request()),
            Value::Map(inner) if holds_maps(map) => inner.to_request(client),
            Value::Named(name) if holds_programs(map) || holds_maps(map) => Ok(name.clone()),
            _ => Err(wrong().into()),
        }
    }
}

pub fn holds_programs(map: &Map) -> bool {
    map.kind == "prog_array"
}

pub fn holds_maps(map: &Map) -> bool {
    map.kind.ends_with("_of_maps")
}

/// What ends the octets; none of these words is an octet.
pub fn is_keyword(word: &str) -> bool {
    let flag = |full| word.len() > 1 && abbreviates(word, full);
    abbreviates(word, "key") || abbreviates(word, "value") || flag("any") || flag("exist") || flag("noexist")
}

fn octet(word: &str, hex: bool) -> Result<u8, UsageError> {
    let wrong = || UsageError::invalid(word, "not an octet");
    if !hex {
        return u8::try_from(number(word, "octet").map_err(|_| wrong())?).map_err(|_| wrong());
    }
    let digits = word.strip_prefix("0x").unwrap_or(word);
    match digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => u8::from_str_radix(digits, 16).map_err(|_| wrong()),
        false => Err(wrong()),
    }
}

fn described(map: &Map) -> String {
    format!("map {} ({} {})", map.id, map.kind, map.name)
}

/// Data that this map cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    #[error("{what} expected {expected} bytes got {given}: that is the length of a {what} of {map}")]
    Length {
        what: &'static str,
        expected: u32,
        given: usize,
        map: String,
    },
    #[error("{0} has no keys")]
    NoKeys(String),
    #[error("{0} has keys: say which by \"key DATA\"")]
    NeedsKey(String),
    #[error("the values of {map} are {what}")]
    Kind { map: String, what: &'static str },
}

impl DataError {
    fn kind(map: &Map) -> DataError {
        DataError::Kind {
            map: described(map),
            what: match (holds_programs(map), holds_maps(map)) {
                (true, _) => "programs: write \"value prog PROG\"",
                (_, true) => "maps: write \"value map MAP\"",
                _ => "octets, neither programs nor maps",
            },
        }
    }

    /// A key that is there or is not, in spite of the map.
    pub fn key(map: &Map) -> DataError {
        match map.bytes_key {
            0 => DataError::NoKeys(described(map)),
            _ => DataError::NeedsKey(described(map)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::hash;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(String::from).collect()
    }

    fn data(line: &str) -> Result<Data, UsageError> {
        Data::parse(&mut Words::new(&words(line)))
    }

    fn key(line: &str) -> Result<String, String> {
        let data = data(line).map_err(|error| error.to_string())?;
        data.key(&hash()).map_err(|error| error.to_string())
    }

    #[test]
    fn octets_are_written_as_for_bpftool_or_all_at_once() {
        assert_eq!(key("1 2 0x0a 010").as_deref(), Ok("01020a08"));
        assert_eq!(key("hex 0a 1 ff 0x10").as_deref(), Ok("0a01ff10"));
        assert_eq!(key("0a000001").as_deref(), Ok("0a000001"));
        assert_eq!(key("0x0a000001").as_deref(), Ok("0a000001"));
        assert_eq!(key("hex 0A000001").as_deref(), Ok("0a000001"));
        assert_eq!(
            key("1 2 3 4 value 5").as_deref(),
            Ok("01020304"),
            "a keyword ends them"
        );
    }

    #[test]
    fn one_short_word_is_a_number() {
        let one = Map {
            bytes_key: 1,
            ..hash()
        };
        let key = |line| data(line).expect(line).key(&one);
        assert_eq!(key("10"), Ok("0a".into()));
        assert_eq!(key("hex 10"), Ok("10".into()));
        assert_eq!(key("ff"), Ok("ff".into()));
    }

    #[test]
    fn lengths_are_the_maps() {
        let text = |given| {
            format!("key expected 4 bytes got {given}: that is the length of a key of map 3 (hash counters)")
        };
        assert_eq!(key("1 2 3"), Err(text(3)));
        assert_eq!(key("1 2 3 4 5"), Err(text(5)));
        assert_eq!(key("0a0000"), Err(text(3)));
        assert_eq!(
            key("256"),
            Err("Error: argument \"256\" is wrong: not an octet".into())
        );
        assert_eq!(
            key("1 2 3 x"),
            Err("Error: argument \"x\" is wrong: not an octet".into())
        );
        assert_eq!(
            key("hex -1"),
            Err("Error: argument \"-1\" is wrong: not an octet".into())
        );
        assert_eq!(
            key("value"),
            Err("Command line is not complete. Try option \"help\"".into())
        );
    }

    #[test]
    fn a_value_is_copied_to_every_shard() {
        let map = Map {
            bytes_value: 2,
            shards: Some(3),
            ..hash()
        };
        let value = |line| data(line).expect(line).value(&map);
        assert_eq!(value("1 2"), Ok("010201020102".into()));
        assert_eq!(value("010203040506"), Ok("010203040506".into()));
        assert!(matches!(
            value("1 2 3"),
            Err(DataError::Length {
                expected: 2,
                given: 3,
                ..
            })
        ));
    }

    #[test]
    fn programs_and_maps_are_values_where_the_map_holds_them() {
        let client = Client::new("/nonexistent");
        let of_kind = |kind: &str| Map {
            kind: kind.into(),
            bytes_value: 4,
            ..hash()
        };
        let value = |line: &str, kind| {
            let value = Value::parse(&mut Words::new(&words(line))).expect(line);
            value
                .to_request(&of_kind(kind), &client)
                .map_err(|error| error.to_string())
        };
        assert_eq!(value("prog filter", "prog_array").as_deref(), Ok("filter"));
        assert_eq!(value("id 7", "prog_array").as_deref(), Ok("7"));
        assert_eq!(value("7", "prog_array").as_deref(), Ok("7"));
        assert_eq!(value("map name inner", "hash_of_maps").as_deref(), Ok("inner"));
        assert_eq!(value("id 4", "array_of_maps").as_deref(), Ok("4"));
        assert_eq!(value("1 2 3 4", "hash").as_deref(), Ok("01020304"));
        let cases = [
            ("1 2 3 4", "prog_array", "programs: write \"value prog PROG\""),
            ("prog 7", "hash_of_maps", "maps: write \"value map MAP\""),
            ("prog 7", "hash", "octets, neither programs nor maps"),
            ("id 7", "hash", "octets, neither programs nor maps"),
        ];
        for (line, kind, what) in cases {
            let text = format!("Error: the values of map 3 ({kind} counters) are {what}");
            assert_eq!(value(line, kind), Err(text), "{line}");
        }
    }
}
