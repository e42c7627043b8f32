//! `prog load` and `prog check`: the programs of an object file.

use netkit_api::{MapChoice, ProgramLoad, ProgramsLoaded};
use serde_json::json;
use vmm_glue::Client;

use super::{show, stray};
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::files;
use crate::names::id;
use crate::octets::to_base64;
use crate::usage::UsageError;
use crate::words::{Words, once};

/// `prog load OBJ [name N] [pinmaps] [map name M {pinned F | id N}]...`
#[derive(Debug, PartialEq, Eq)]
pub struct Load {
    pub path: String,
    /// All but the object itself, which is read when the command is run.
    pub load: ProgramLoad,
}

impl Load {
    pub fn parse(words: &mut Words<'_>) -> Result<Load, UsageError> {
        let path = words.next().ok_or(UsageError::Missing("OBJ"))?;
        if path == "help" {
            return Err(stray(path));
        }
        let mut load = ProgramLoad::default();
        while let Some(word) = words.next() {
            match word {
                "name" => {
                    let value = words.value()?;
                    once(&mut load.name, word, value, value.to_owned())?;
                }
                "pinmaps" => load.pin_maps = true,
                "map" => load.maps.push(map(words)?),
                _ => return Err(stray(word)),
            }
        }
        Ok(Load {
            path: path.into(),
            load,
        })
    }

    pub fn check_only(mut self) -> Load {
        self.load.check_only = true;
        self
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let load = ProgramLoad {
            object: to_base64(&files::read(&self.path)?),
            ..self.load.clone()
        };
        print(&client.load(&load)?, options)
    }
}

/// What follows `map`.
fn map(words: &mut Words<'_>) -> Result<MapChoice, UsageError> {
    let name = match words.value()? {
        "name" => words.value()?.to_owned(),
        "idx" => {
            return Err(UsageError::NotSupported {
                word: "idx".into(),
                instead: "say which map by \"map name M\".",
            });
        }
        word => return Err(UsageError::invalid(word, "\"map\" is followed by \"name M\"")),
    };
    let pinned = match words.value()? {
        "pinned" => words.value()?.to_owned(),
        "id" => id(words.value()?)?.to_string(),
        word => {
            let why = "\"map name M\" is followed by \"pinned F\" or \"id N\"";
            return Err(UsageError::invalid(word, why));
        }
    };
    Ok(MapChoice { name, pinned })
}

fn print(loaded: &ProgramsLoaded, options: Options) -> Result<Output, Error> {
    if options.json {
        return Output::json(
            &json!({
                "programs": serde_json::to_value(show::rows(&loaded.programs))?,
                "map_ids": loaded.map_ids,
                "notes": loaded.notes,
            }),
            options,
        );
    }
    let lines: Vec<String> = loaded.programs.iter().map(show::header).collect();
    let mut output = Output::text(lines.join("\n"));
    output.notes = loaded.notes.clone();
    Ok(output)
}

#[cfg(test)]
mod tests {
    use netkit_api::Program;

    use super::*;
    use crate::link::tests::refusal;
    use crate::prog::Command;
    use crate::prog::show::tests::program;
    use crate::prog::tests::prog;

    fn load(line: &str) -> Load {
        match prog(line) {
            Command::Load(load) => load,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_object_is_enough() {
        let plain = load("prog load filter.o");
        assert_eq!(plain.path, "filter.o");
        assert_eq!(plain.load, ProgramLoad::default());
        assert!(load("prog check filter.o").load.check_only);
        let full = load("prog load f.o name red pinmaps map name a pinned shared map name b id 3");
        let choice = |name: &str, pinned: &str| MapChoice {
            name: name.into(),
            pinned: pinned.into(),
        };
        assert_eq!(full.load.name.as_deref(), Some("red"));
        assert!(full.load.pin_maps);
        assert_eq!(full.load.maps, [choice("a", "shared"), choice("b", "3")]);
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "prog load",
                "Not enough information: \"OBJ\" argument is required.",
            ),
            (
                "prog load f.o /sys/fs/bpf/f",
                "Garbage instead of arguments \"/sys/fs/bpf/f ...\". Try \"nkctl prog help\".",
            ),
            (
                "prog load f.o name a name b",
                "Error: duplicate \"name\": \"b\" is the second value.",
            ),
            (
                "prog load f.o map idx 0 id 3",
                "Error: \"idx\" is not supported: say which map by \"map name M\".",
            ),
            (
                "prog load f.o map m",
                "Error: argument \"m\" is wrong: \"map\" is followed by \"name M\"",
            ),
            (
                "prog load f.o map name m shared",
                "Error: argument \"shared\" is wrong: \"map name M\" is followed by \"pinned F\" or \"id N\"",
            ),
            (
                "prog load f.o map name m",
                "Command line is not complete. Try option \"help\"",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn what_was_loaded_is_named_and_notes_go_to_the_person() {
        let checked = Program { id: 0, ..program() };
        let loaded = ProgramsLoaded {
            programs: vec![program(), checked],
            map_ids: vec![3, 4],
            notes: vec!["section xdp was left out".into()],
        };
        let output = print(&loaded, Options::default()).expect("printed");
        assert_eq!(
            output.text,
            "7: sched_cls  name filter  tag a04f5eef06a7f555  gpl\n\
             sched_cls  name filter  tag a04f5eef06a7f555  gpl\n"
        );
        assert_eq!(output.notes, ["section xdp was left out"]);
        let options = Options {
            json: true,
            ..Options::default()
        };
        let json = print(&loaded, options).expect("printed");
        assert!(json.notes.is_empty());
        assert!(json.text.starts_with("{\"programs\":[{\"id\":7,"), "{json:?}");
        assert!(
            json.text
                .ends_with("\"map_ids\":[3,4],\"notes\":[\"section xdp was left out\"]}\n"),
            "{json:?}"
        );
    }
}
