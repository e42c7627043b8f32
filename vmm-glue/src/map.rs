//! `nkctl map`: maps, as `bpftool map` has them.

mod access;
mod data;
mod entry;
mod event_pipe;
mod show;

use vmm_glue::Client;

pub use self::data::DataError;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::names::MapName;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};

/// What follows `map`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show(Option<MapName>),
    Dump(MapName),
    Access(access::Access),
    EventPipe(event_pipe::EventPipe),
    Freeze(MapName),
    Unpin(MapName),
}

impl Command {
    /// The order of the arms is bpftool's, and decides what an abbreviation means.
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let Some(command) = words.next() else {
            return Ok(Command::Show(None));
        };
        let is = |full| abbreviates(command, full);
        let parsed = match command {
            _ if is("show") || is("list") => match words.peek() {
                None => Command::Show(None),
                Some(_) => Command::Show(Some(map(words)?)),
            },
            _ if is("help") => return Err(UsageError::Information(help::MAP)),
            _ if is("dump") => Command::Dump(map(words)?),
            "pin" | "create" => {
                return Err(UsageError::NotSupported {
                    word: command.into(),
                    instead: "maps are made, and pinned, by \"nkctl prog load\".",
                });
            }
            _ if is("event_pipe") => Command::EventPipe(event_pipe::EventPipe::parse(words)?),
            _ if is("freeze") => Command::Freeze(map(words)?),
            _ if is("unpin") && !abbreviates(command, "update") => Command::Unpin(map(words)?),
            _ => match access::Verb::parse(command) {
                Some(verb) => Command::Access(access::Access::parse(verb, words)?),
                None => {
                    return Err(UsageError::UnknownCommand {
                        word: command.into(),
                        object: "map",
                    });
                }
            },
        };
        words.end("map help")?;
        Ok(parsed)
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show(name) => show::run(name.as_ref(), client, options),
            Command::Dump(map) => entry::dump(&map.find(client)?, client, options),
            Command::Access(access) => access.run(client, options),
            Command::EventPipe(events) => events.run(client, options),
            Command::Freeze(map) => {
                client.freeze(&map.to_request(client)?)?;
                Ok(Output::nothing())
            }
            Command::Unpin(map) => {
                client.unpin_map(&map.to_request(client)?)?;
                Ok(Output::nothing())
            }
        }
    }
}

fn map(words: &mut Words<'_>) -> Result<MapName, UsageError> {
    match words.peek() {
        Some("help") => Err(UsageError::Information(help::MAP)),
        _ => MapName::parse(words),
    }
}

#[cfg(test)]
pub mod tests {
    use netkit_api::Map;

    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    pub fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Map(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// A hash of 4-octet keys and 8-octet values.
    pub fn hash() -> Map {
        Map {
            id: 3,
            kind: "hash".into(),
            name: "counters".into(),
            flags: 1,
            bytes_key: 4,
            bytes_value: 8,
            max_entries: 16,
            bytes_memlock: 4096,
            frozen: false,
            pinned: None,
            program_ids: vec![7, 9],
            shards: None,
        }
    }

    #[test]
    fn commands_may_be_abbreviated() {
        for line in ["map", "m", "map show", "map l"] {
            assert_eq!(command(line), Command::Show(None), "{line}");
        }
        assert_eq!(command("map show id 3"), Command::Show(Some(MapName::Id(3))));
        assert_eq!(
            command("map dump counters"),
            Command::Dump(MapName::Name("counters".into()))
        );
        assert_eq!(command("map d 3"), Command::Dump(MapName::Id(3)));
        assert_eq!(
            command("map f pinned x"),
            Command::Freeze(MapName::Pinned("x".into()))
        );
        assert_eq!(command("map un 3"), Command::Unpin(MapName::Id(3)));
        assert!(matches!(
            command("map u 3 key 0 0 0 0 value 1"),
            Command::Access(_)
        ));
    }

    #[test]
    fn help_and_what_is_wrong() {
        for line in [
            "map help",
            "map dump help",
            "map update help",
            "map event_pipe help",
        ] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
        let cases = [
            (
                "map bogus",
                "Command \"bogus\" is unknown, try \"nkctl map help\".",
            ),
            (
                "map dump",
                "Not enough information: \"MAP\" argument is required.",
            ),
            (
                "map dump 3 4",
                "Garbage instead of arguments \"4 ...\". Try \"nkctl map help\".",
            ),
            (
                "map create x",
                "Error: \"create\" is not supported: maps are made, and pinned, by \"nkctl prog load\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }
}
