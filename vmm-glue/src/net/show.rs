//! `net show`: the lists as the `tc:` section of `bpftool net show` prints them.

use netkit_api::{ListedProgram, ProgramList};
use serde::Serialize;
use serde_json::json;
use vmm_glue::Client;

use super::stray;
use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::usage::UsageError;
use crate::words::Words;

/// `net show [dev DEV]`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Show {
    pub device: Option<String>,
}

/// Names and order are bpftool's; the revision is added by `-d`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    devname: &'a str,
    ifindex: u32,
    kind: &'a str,
    name: &'a str,
    prog_id: u32,
    prog_flags: [u32; 0],
    link_id: u32,
    link_flags: [u32; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

impl Show {
    pub fn parse(words: &mut Words<'_>) -> Result<Show, UsageError> {
        let device = match words.next() {
            None => None,
            Some("dev") => Some(words.value()?.into()),
            Some(word) => return Err(stray(word)),
        };
        words.end("net help")?;
        Ok(Show { device })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let device = self.device.as_deref();
        let lists = client
            .lists(device)
            .map_err(showing(device.unwrap_or_default()))?;
        match options.json {
            true => Output::json(&json!([{"tc": rows(&lists, options)}]), options),
            false => Ok(Output::text(text(&lists, options))),
        }
    }
}

fn rows(lists: &[ProgramList], options: Options) -> Vec<Row<'_>> {
    let row = |list, program| row(list, program, options);
    lists
        .iter()
        .flat_map(|list| list.programs.iter().map(move |program| row(list, program)))
        .collect()
}

fn row<'a>(list: &'a ProgramList, program: &'a ListedProgram, options: Options) -> Row<'a> {
    Row {
        devname: &list.device,
        ifindex: list.ifindex,
        kind: &list.kind,
        name: &program.name,
        prog_id: program.prog_id,
        prog_flags: [],
        link_id: program.link_id.unwrap_or(0),
        link_flags: [],
        revision: options.details.then_some(list.revision),
    }
}

/// With `-d` a list has a line of its own, for its revision, whether it is empty or not.
fn text(lists: &[ProgramList], options: Options) -> String {
    let mut text = String::from("tc:\n");
    for list in lists {
        let ProgramList {
            device,
            ifindex,
            kind,
            revision,
            programs,
        } = list;
        if options.details {
            text += &format!("{device}({ifindex}) {kind} revision {revision}\n");
        }
        for ListedProgram {
            name,
            prog_id,
            link_id,
        } in programs
        {
            let link = link_id.map_or(String::new(), |id| format!(" link_id {id}"));
            text += &format!("{device}({ifindex}) {kind} {name} prog_id {prog_id}{link}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};
    use crate::net::Command;

    fn lists() -> Vec<ProgramList> {
        let listed = |name: &str, prog_id, link_id| ListedProgram {
            name: name.into(),
            prog_id,
            link_id,
        };
        let list = |kind: &str, revision, programs| ProgramList {
            device: "nk0".into(),
            ifindex: 3,
            kind: kind.into(),
            revision,
            programs,
        };
        vec![
            list(
                "netkit/primary",
                4,
                vec![listed("filter", 7, Some(3)), listed("count", 9, None)],
            ),
            list("netkit/peer", 1, vec![]),
        ]
    }

    #[test]
    fn one_device_or_all() {
        let shown = |line| match parse(line) {
            Ok(Any::Net(Command::Show(show))) => show.device,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["net", "net show", "ne s", "net list"] {
            assert_eq!(shown(line), None, "{line}");
        }
        assert_eq!(shown("net show dev nk0").as_deref(), Some("nk0"));
        let text = "Garbage instead of arguments \"nk0 ...\". Try \"nkctl net help\".";
        assert_eq!(refusal("net show nk0"), (text.into(), 255));
        assert!(matches!(parse("net show help"), Err(UsageError::Information(_))));
    }

    #[test]
    fn lists_are_printed_as_bpftool_prints_them() {
        assert_eq!(
            text(&lists(), Options::default()),
            "\
tc:
nk0(3) netkit/primary filter prog_id 7 link_id 3
nk0(3) netkit/primary count prog_id 9
"
        );
        let details = Options {
            details: true,
            ..Options::default()
        };
        assert_eq!(
            text(&lists(), details),
            "\
tc:
nk0(3) netkit/primary revision 4
nk0(3) netkit/primary filter prog_id 7 link_id 3
nk0(3) netkit/primary count prog_id 9
nk0(3) netkit/peer revision 1
"
        );
        let lists = lists();
        let json = serde_json::to_string(&rows(&lists, Options::default())[..1]).expect("rows are JSON");
        assert_eq!(
            json,
            "[{\"devname\":\"nk0\",\"ifindex\":3,\"kind\":\"netkit/primary\",\"name\":\"filter\",\"prog_id\":7,\
             \"prog_flags\":[],\"link_id\":3,\"link_flags\":[]}]"
        );
        let json = serde_json::to_value(rows(&lists, details)).expect("rows are JSON");
        assert_eq!(
            (&json[1]["link_id"], &json[1]["revision"]),
            (&json!(0), &json!(4))
        );
    }
}
