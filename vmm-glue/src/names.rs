//! Programs and maps as the command line names them.

use netkit_api::Map;
use vmm_glue::Client;

use crate::error::Error;
use crate::usage::UsageError;
use crate::words::{Words, unsigned};

/// `id N`, `name N`, `tag T`, or just a word, which is an id if it is a number and a name if not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramName {
    Id(u32),
    Name(String),
    Tag(String),
}

/// `id N`, `name N`, `pinned F`, or just a word, which is an id if it is a number and a name if not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapName {
    Id(u32),
    Name(String),
    Pinned(String),
}

impl ProgramName {
    pub fn parse(words: &mut Words<'_>) -> Result<ProgramName, UsageError> {
        let word = words.next().ok_or(UsageError::Missing("PROG"))?;
        match word {
            "id" => Ok(ProgramName::Id(id(words.value()?)?)),
            "name" => Ok(ProgramName::Name(words.value()?.into())),
            "tag" => Ok(ProgramName::Tag(tag(words.value()?)?)),
            "pinned" => Err(UsageError::NotSupported {
                word: word.into(),
                instead: "name a program by its id, name or tag.",
            }),
            _ if is_number(word) => Ok(ProgramName::Id(id(word)?)),
            _ => Ok(ProgramName::Name(word.into())),
        }
    }

    /// As the API takes it.
    pub fn to_request(&self) -> String {
        match self {
            ProgramName::Id(id) => id.to_string(),
            ProgramName::Name(name) => name.clone(),
            ProgramName::Tag(tag) => tag.clone(),
        }
    }
}

impl MapName {
    pub fn parse(words: &mut Words<'_>) -> Result<MapName, UsageError> {
        let word = words.next().ok_or(UsageError::Missing("MAP"))?;
        match word {
            "id" => Ok(MapName::Id(id(words.value()?)?)),
            "name" => Ok(MapName::Name(words.value()?.into())),
            "pinned" => Ok(MapName::Pinned(words.value()?.into())),
            _ if is_number(word) => Ok(MapName::Id(id(word)?)),
            _ => Ok(MapName::Name(word.into())),
        }
    }

    pub fn find(&self, client: &Client) -> Result<Map, Error> {
        match self {
            MapName::Id(id) => Ok(client.map(&id.to_string())?),
            MapName::Name(name) => Ok(client.map(name)?),
            MapName::Pinned(name) => {
                let pinned = |map: &Map| map.pinned.as_ref() == Some(name);
                let map = client.maps()?.into_iter().find(pinned);
                map.ok_or_else(|| Error::NotPinned(name.clone()))
            }
        }
    }

    /// As the API takes it.
    pub fn to_request(&self, client: &Client) -> Result<String, Error> {
        match self {
            MapName::Id(id) => Ok(id.to_string()),
            MapName::Name(name) => Ok(name.clone()),
            MapName::Pinned(_) => Ok(self.find(client)?.id.to_string()),
        }
    }
}

pub fn id(word: &str) -> Result<u32, UsageError> {
    unsigned(word, "id")
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|octet| octet.is_ascii_digit())
}

fn tag(word: &str) -> Result<String, UsageError> {
    match word.len() == 16 && word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(word.to_lowercase()),
        false => Err(UsageError::invalid(word, "a tag has 16 hexadecimal digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(line: &str) -> Result<ProgramName, UsageError> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        ProgramName::parse(&mut Words::new(&words))
    }

    fn map(line: &str) -> Result<MapName, UsageError> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        MapName::parse(&mut Words::new(&words))
    }

    #[test]
    fn a_word_is_an_id_if_it_is_a_number() {
        assert_eq!(program("7"), Ok(ProgramName::Id(7)));
        assert_eq!(program("id 0x10"), Ok(ProgramName::Id(16)));
        assert_eq!(program("filter"), Ok(ProgramName::Name("filter".into())));
        assert_eq!(program("name 7"), Ok(ProgramName::Name("7".into())));
        assert_eq!(
            program("tag A04F5EEF06A7F555"),
            Ok(ProgramName::Tag("a04f5eef06a7f555".into()))
        );
        assert_eq!(map("3"), Ok(MapName::Id(3)));
        assert_eq!(map("name id"), Ok(MapName::Name("id".into())));
        assert_eq!(map("counters"), Ok(MapName::Name("counters".into())));
        assert_eq!(map("pinned shared"), Ok(MapName::Pinned("shared".into())));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let text = |line| program(line).expect_err(line).to_string();
        assert_eq!(text("id"), "Command line is not complete. Try option \"help\"");
        assert_eq!(
            text("id x"),
            "Error: argument \"x\" is wrong: Invalid \"id\" value"
        );
        assert_eq!(
            text("4294967296"),
            "Error: argument \"4294967296\" is wrong: Invalid \"id\" value"
        );
        assert_eq!(
            text("tag 12"),
            "Error: argument \"12\" is wrong: a tag has 16 hexadecimal digits"
        );
        assert_eq!(
            text("pinned /sys/fs/bpf/x"),
            "Error: \"pinned\" is not supported: name a program by its id, name or tag."
        );
    }
}
