//! `map lookup`, `update`, `delete`, `getnext`, `push`, `pop` and `peek`: one entry of a map.

use netkit_api::{Map, MapEntry, MapRequest};
use serde_json::json;
use vmm_glue::{Client, ClientError};

use super::data::{Data, DataError, Value};
use super::entry;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::names::MapName;
use crate::octets::{answered_hex, listed, spaced};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, once};

/// `map VERB MAP [key DATA] [value VALUE] [any | exist | noexist]`
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    pub verb: Verb,
    pub map: MapName,
    pub key: Option<Data>,
    pub value: Option<Value>,
    pub flags: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Update,
    Lookup,
    Next,
    Delete,
    Peek,
    Push,
    Pop,
}

impl Verb {
    /// The order is bpftool's, and decides what an abbreviation means.
    pub fn parse(word: &str) -> Option<Verb> {
        let verbs = [
            ("update", Verb::Update),
            ("lookup", Verb::Lookup),
            ("getnext", Verb::Next),
            ("delete", Verb::Delete),
            ("peek", Verb::Peek),
            ("push", Verb::Push),
            ("enqueue", Verb::Push),
            ("pop", Verb::Pop),
            ("dequeue", Verb::Pop),
        ];
        let verb = verbs.into_iter().find(|(full, _)| abbreviates(word, full));
        verb.map(|(_, verb)| verb)
    }

    /// A word that this verb does not take, if there is one.
    fn refuses(self, access: &Access) -> Option<&'static str> {
        let (key, value, flags) = match self {
            Verb::Update => (true, true, true),
            Verb::Lookup | Verb::Next | Verb::Delete => (true, false, false),
            Verb::Push => (false, true, false),
            Verb::Pop | Verb::Peek => (false, false, false),
        };
        match access {
            Access { key: Some(_), .. } if !key => Some("key"),
            Access { value: Some(_), .. } if !value => Some("value"),
            Access {
                flags: Some(word), ..
            } if !flags => Some(word),
            _ => None,
        }
    }
}

impl Access {
    pub fn parse(verb: Verb, words: &mut Words<'_>) -> Result<Access, UsageError> {
        let mut access = Access {
            verb,
            map: super::map(words)?,
            key: None,
            value: None,
            flags: None,
        };
        while let Some(word) = words.next() {
            let value = words.peek().unwrap_or_default();
            match word {
                _ if abbreviates(word, "key") => once(&mut access.key, "key", value, Data::parse(words)?)?,
                _ if abbreviates(word, "value") => {
                    once(&mut access.value, "value", value, Value::parse(words)?)?;
                }
                "help" => return Err(UsageError::Information(help::MAP)),
                _ => once(&mut access.flags, "flags", word, flag(word)?)?,
            }
        }
        access.check()?;
        Ok(access)
    }

    fn check(&self) -> Result<(), UsageError> {
        if let Some(word) = self.verb.refuses(self) {
            return Err(UsageError::invalid(word, "this command does not take it"));
        }
        let needs_key = matches!(self.verb, Verb::Lookup | Verb::Delete);
        let needs_value = matches!(self.verb, Verb::Update | Verb::Push);
        match self {
            Access { key: None, .. } if needs_key => Err(UsageError::Missing("key")),
            Access { value: None, .. } if needs_value => Err(UsageError::Missing("value")),
            _ => Ok(()),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let map = self.map.find(client)?;
        let id = map.id.to_string();
        let request = self.request(&map, client)?;
        match self.verb {
            Verb::Update => client.update(&id, &request)?,
            Verb::Delete => client.delete_entry(&id, &request)?,
            Verb::Push => client.push(&id, &request)?,
            Verb::Lookup => return entry::print(&map, &lookup(client, &id, &request)?, options),
            Verb::Next => return next(request.key.as_deref(), &client.next_key(&id, &request)?, options),
            Verb::Pop => return entry::print(&map, &client.pop(&id).map_err(empty)?, options),
            Verb::Peek => return entry::print(&map, &client.peek(&id).map_err(empty)?, options),
        }
        Ok(Output::nothing())
    }

    fn request(&self, map: &Map, client: &Client) -> Result<MapRequest, Error> {
        let key = match &self.key {
            Some(_) if map.bytes_key == 0 => return Err(DataError::key(map).into()),
            None if map.bytes_key != 0 && self.verb == Verb::Update => {
                return Err(DataError::key(map).into());
            }
            key => key.as_ref().map(|data| data.key(map)).transpose()?,
        };
        let value = self.value.as_ref().map(|value| value.to_request(map, client));
        Ok(MapRequest {
            key,
            value: value.transpose()?,
            flags: self.flags.map(Into::into),
        })
    }
}

fn flag(word: &str) -> Result<&'static str, UsageError> {
    let flags = ["any", "exist", "noexist"].into_iter();
    let flag = flags.into_iter().find(|full| abbreviates(word, full));
    flag.ok_or_else(|| {
        UsageError::invalid(
            word,
            "expected \"key\", \"value\", \"any\", \"exist\" or \"noexist\"",
        )
    })
}

fn is_no_entry(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(problem) if problem.errno == "ENOENT")
}

fn empty(error: ClientError) -> Error {
    match is_no_entry(&error) {
        true => Error::EmptyMap,
        false => error.into(),
    }
}

fn lookup(client: &Client, id: &str, request: &MapRequest) -> Result<MapEntry, Error> {
    let key = request.key.as_deref().unwrap_or_default();
    let found = client
        .lookup(id, request)
        .map_err(|error| match is_no_entry(&error) {
            true => answered_hex(key).map_or_else(|error| error, |key| Error::NoEntry(spaced(&key))),
            false => error.into(),
        })?;
    // The key is the one that was asked for, whether the answer repeats it or not.
    Ok(MapEntry {
        key: found.key.or(request.key.clone()),
        ..found
    })
}

fn next(key: Option<&str>, next: &MapEntry, options: Options) -> Result<Output, Error> {
    let key = key.map(answered_hex).transpose()?;
    let next = answered_hex(next.key.as_deref().unwrap_or_default())?;
    if options.json {
        let key = key.as_deref().map(listed);
        return Output::json(&json!({"key": key, "next_key": listed(&next)}), options);
    }
    let key = key.map_or("key: None\n".into(), |key| format!("key:\n{}\n", spaced(&key)));
    Ok(Output::text(format!("{key}next key:\n{}", spaced(&next))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::map::Command;
    use crate::map::tests::{command, hash};

    fn access(line: &str) -> Access {
        match command(line) {
            Command::Access(access) => access,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn request(line: &str, map: &Map) -> Result<MapRequest, String> {
        let client = Client::new("/nonexistent");
        access(line)
            .request(map, &client)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_verb_has_its_words() {
        let verbs = [
            ("map update 3 key 1 2 3 4 value 1 2", Verb::Update),
            ("map u 3 value 1", Verb::Update),
            ("map lookup 3 key 1", Verb::Lookup),
            ("map lo 3 k 1", Verb::Lookup),
            ("map getnext 3", Verb::Next),
            ("map getnext 3 key 1", Verb::Next),
            ("map delete 3 key 1", Verb::Delete),
            ("map push 3 value 1", Verb::Push),
            ("map enqueue 3 value 1", Verb::Push),
            ("map pop 3", Verb::Pop),
            ("map dequeue 3", Verb::Pop),
            ("map peek 3", Verb::Peek),
        ];
        for (line, verb) in verbs {
            assert_eq!(access(line).verb, verb, "{line}");
        }
        assert_eq!(
            access("map update 3 value 1 noexist key 2").flags,
            Some("noexist")
        );
        assert_eq!(access("map update 3 key 2 value 1 ex").flags, Some("exist"));
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "map lookup 3",
                "Not enough information: \"key\" argument is required.",
            ),
            (
                "map update 3 key 1",
                "Not enough information: \"value\" argument is required.",
            ),
            (
                "map push 3",
                "Not enough information: \"value\" argument is required.",
            ),
            (
                "map lookup 3 key",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "map lookup 3 key 1 value 2",
                "Error: argument \"value\" is wrong: this command does not take it",
            ),
            (
                "map push 3 key 1 value 2",
                "Error: argument \"key\" is wrong: this command does not take it",
            ),
            (
                "map delete 3 key 1 any",
                "Error: argument \"any\" is wrong: this command does not take it",
            ),
            (
                "map update 3 key 1 key 2 value 3",
                "Error: duplicate \"key\": \"2\" is the second value.",
            ),
            (
                "map update 3 key 1 value 2 any exist",
                "Error: duplicate \"flags\": \"exist\" is the second value.",
            ),
            (
                "map pop 3 4",
                "Error: argument \"4\" is wrong: expected \"key\", \"value\", \"any\", \"exist\" or \"noexist\"",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn requests_fit_the_map() {
        assert_eq!(
            request(
                "map update 3 key 1 2 3 4 value hex 1 2 3 4 5 6 7 8 noexist",
                &hash()
            ),
            Ok(MapRequest {
                key: Some("01020304".into()),
                value: Some("0102030405060708".into()),
                flags: Some("noexist".into()),
            })
        );
        let queue = Map {
            kind: "queue".into(),
            bytes_key: 0,
            ..hash()
        };
        assert!(request("map update 3 value 0102030405060708", &queue).is_ok());
        assert_eq!(
            request("map lookup 3 key 1", &queue),
            Err("Error: map 3 (queue counters) has no keys".into())
        );
        assert_eq!(
            request("map update 3 value 0102030405060708", &hash()),
            Err("Error: map 3 (hash counters) has keys: say which by \"key DATA\"".into())
        );
    }

    #[test]
    fn the_next_key_is_printed_as_bpftool_prints_it() {
        let found = MapEntry {
            key: Some("01000000".into()),
            value: None,
            values: None,
            formatted: None,
            text: None,
        };
        let print = |key, json| {
            let options = Options {
                json,
                ..Options::default()
            };
            next(key, &found, options).expect("hexadecimal").text
        };
        assert_eq!(print(None, false), "key: None\nnext key:\n01 00 00 00\n");
        assert_eq!(
            print(Some("00000000"), false),
            "key:\n00 00 00 00\nnext key:\n01 00 00 00\n"
        );
        assert_eq!(
            print(None, true),
            "{\"key\":null,\"next_key\":[\"0x01\",\"0x00\",\"0x00\",\"0x00\"]}\n"
        );
    }
}
