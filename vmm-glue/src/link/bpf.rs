//! `link show bpf`, `link update id N` and so on: the links that hold programs, as `bpftool link` has them.

use netkit_api::{Link, LinkUpdate};
use serde::Serialize;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::names::{ProgramName, id};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, once};

/// What is done to links that hold programs.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `link show bpf`, `link show id N`
    Show(Option<u32>),
    /// `link update id N prog PROG [expected PROG]`
    Update {
        id: u32,
        program: ProgramName,
        expected: Option<ProgramName>,
    },
    /// `link detach id N`
    Detach(u32),
    /// `link delete id N`
    Delete(u32),
}

/// Whether the next word says that this is not about a device; `dev` reaches a device of such a name.
pub fn follows(words: &Words<'_>) -> bool {
    matches!(words.peek(), Some("bpf" | "id"))
}

impl Command {
    pub fn parse(command: &str, words: &mut Words<'_>) -> Result<Command, UsageError> {
        let is = |full| abbreviates(command, full);
        let parsed = match command {
            _ if is("delete") => Command::Delete(link_id(words)?),
            _ if is("update") => update(words)?,
            _ if is("detach") => Command::Detach(link_id(words)?),
            _ => Command::Show(shown(words)?),
        };
        words.end("link help bpf")?;
        Ok(parsed)
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show(None) => show(&client.links()?, options),
            Command::Show(Some(id)) if options.json => Output::json(&Row::new(&client.link(*id)?), options),
            Command::Show(Some(id)) => show(&[client.link(*id)?], options),
            Command::Update {
                id,
                program,
                expected,
            } => {
                let update = LinkUpdate {
                    program: program.to_request(),
                    expected: expected.as_ref().map(ProgramName::to_request),
                };
                client.update_link(*id, &update)?;
                Ok(Output::nothing())
            }
            Command::Detach(id) => {
                client.detach_link(*id)?;
                Ok(Output::nothing())
            }
            Command::Delete(id) => {
                client.delete_link(*id)?;
                Ok(Output::nothing())
            }
        }
    }
}

/// `bpf`, `bpf id N` or `id N`.
fn shown(words: &mut Words<'_>) -> Result<Option<u32>, UsageError> {
    if words.peek() == Some("bpf") {
        words.next();
    }
    match words.peek() {
        None => Ok(None),
        Some(_) => link_id(words).map(Some),
    }
}

/// `[bpf] id N`
fn link_id(words: &mut Words<'_>) -> Result<u32, UsageError> {
    if words.peek() == Some("bpf") {
        words.next();
    }
    match words.next() {
        Some("id") => id(words.value()?),
        Some("help") => Err(UsageError::Information(help::BPF_LINK)),
        Some(word) => Err(UsageError::invalid(word, "a BPF link is named by \"id N\"")),
        None => Err(UsageError::Missing("id")),
    }
}

fn update(words: &mut Words<'_>) -> Result<Command, UsageError> {
    let id = link_id(words)?;
    let (mut program, mut expected) = (None, None);
    while let Some(word) = words.next() {
        let slot = match word {
            "prog" => &mut program,
            "expected" => &mut expected,
            _ => {
                return Err(UsageError::Garbage {
                    word: word.into(),
                    help: "link help bpf",
                });
            }
        };
        let value = words.peek().unwrap_or_default();
        once(slot, word, value, ProgramName::parse(words)?)?;
    }
    Ok(Command::Update {
        id,
        program: program.ok_or(UsageError::Missing("prog"))?,
        expected,
    })
}

/// Names and order are bpftool's.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    prog_id: u32,
    devname: &'a str,
    ifindex: u32,
    attach_type: &'a str,
}

impl Row<'_> {
    fn new(link: &Link) -> Row<'_> {
        Row {
            id: link.id,
            kind: &link.kind,
            prog_id: link.prog_id,
            devname: match (link.ifindex, link.device.as_deref()) {
                (0, _) => "(detached)",
                (_, Some(device)) => device,
                (_, None) => "(unknown)",
            },
            ifindex: link.ifindex,
            attach_type: &link.attach_type,
        }
    }
}

fn show(links: &[Link], options: Options) -> Result<Output, Error> {
    let rows: Vec<Row<'_>> = links.iter().map(Row::new).collect();
    match options.json {
        true => Output::json(&rows, options),
        false => Ok(Output::text(rows.iter().map(text).collect::<String>())),
    }
}

fn text(row: &Row<'_>) -> String {
    let Row {
        id,
        kind,
        prog_id,
        devname,
        ifindex,
        attach_type,
    } = row;
    let index = match ifindex {
        0 => String::new(),
        index => format!("({index})"),
    };
    format!("{id}: {kind}  prog {prog_id}\n\tifindex {devname}{index}  attach_type {attach_type}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::Command as LinkCommand;
    use crate::link::tests::{parse, refusal};

    fn bpf(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Link(LinkCommand::Bpf(command))) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn link(ifindex: u32) -> Link {
        Link {
            id: 3,
            kind: "netkit".into(),
            prog_id: 7,
            attach_type: "netkit_primary".into(),
            ifindex,
            device: (ifindex != 0).then(|| "nk0".into()),
        }
    }

    #[test]
    fn bpf_and_id_are_no_devices() {
        assert_eq!(bpf("link show bpf"), Command::Show(None));
        assert_eq!(bpf("l sh id 3"), Command::Show(Some(3)));
        assert_eq!(bpf("link list bpf id 3"), Command::Show(Some(3)));
        assert_eq!(bpf("link detach id 3"), Command::Detach(3));
        assert_eq!(bpf("link det id 3"), Command::Detach(3));
        assert_eq!(bpf("link del id 3"), Command::Delete(3));
        assert_eq!(
            bpf("link update id 3 prog name filter expected 7"),
            Command::Update {
                id: 3,
                program: ProgramName::Name("filter".into()),
                expected: Some(ProgramName::Id(7)),
            }
        );
        for line in [
            "link show dev bpf",
            "link show dev id",
            "link del dev id",
            "link show nk0",
            "link s bpf up",
            "link set id up",
        ] {
            assert!(
                !matches!(parse(line), Ok(Any::Link(LinkCommand::Bpf(_))) | Err(_)),
                "{line}"
            );
        }
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "link show id",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "link detach nk0",
                "Error: argument \"nk0\" is wrong: a BPF link is named by \"id N\"",
            ),
            (
                "link detach",
                "Not enough information: \"id\" argument is required.",
            ),
            (
                "link detach id x",
                "Error: argument \"x\" is wrong: Invalid \"id\" value",
            ),
            (
                "link update id 3",
                "Not enough information: \"prog\" argument is required.",
            ),
            (
                "link update id 3 prog",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "link update id 3 prog 7 prog 8",
                "Error: duplicate \"prog\": \"8\" is the second value.",
            ),
            (
                "link del id 3 4",
                "Garbage instead of arguments \"4 ...\". Try \"nkctl link help bpf\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn links_are_printed_as_bpftool_prints_them() {
        let links = [link(5), link(0)];
        let plain = show(&links, Options::default()).expect("printed");
        assert_eq!(
            plain.text,
            "3: netkit  prog 7\n\tifindex nk0(5)  attach_type netkit_primary\n\
             3: netkit  prog 7\n\tifindex (detached)  attach_type netkit_primary\n"
        );
        let options = Options {
            json: true,
            ..Options::default()
        };
        assert_eq!(
            show(&links[1..], options).expect("printed").text,
            "[{\"id\":3,\"type\":\"netkit\",\"prog_id\":7,\"devname\":\"(detached)\",\"ifindex\":0,\
             \"attach_type\":\"netkit_primary\"}]\n"
        );
    }
}
