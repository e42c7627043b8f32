//! `prog show`: programs as `bpftool prog show` prints them.

use netkit_api::Program;
use serde::Serialize;
use vmm_glue::Client;

use super::stray;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::names::ProgramName;
use crate::usage::UsageError;
use crate::utc;
use crate::words::Words;

/// `prog show [PROG]`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Show {
    pub program: Option<ProgramName>,
}

/// Names and order are bpftool's; those behind `map_ids` are netkitd's own.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    tag: &'a str,
    gpl_compatible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_cnt: Option<u64>,
    loaded_at: u64,
    bytes_xlated: u64,
    jited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_jited: Option<u64>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    map_ids: &'a [u32],
    section: &'a str,
    license: &'a str,
    functions: &'a [String],
    attached: &'a [String],
    faults: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fault: Option<&'a str>,
    quarantined: bool,
}

impl Show {
    pub fn parse(words: &mut Words<'_>) -> Result<Show, UsageError> {
        match words.peek() {
            None => return Ok(Show::default()),
            Some("help") => return Err(stray("help")),
            Some(_) => {}
        }
        let program = ProgramName::parse(words)?;
        words.end("prog help")?;
        Ok(Show {
            program: Some(program),
        })
    }

    /// As with bpftool, the JSON of one program that was asked for is no array.
    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let programs = match &self.program {
            None => client.programs()?,
            Some(program) => find(client, program)?,
        };
        match (programs.as_slice(), &self.program) {
            ([program], Some(_)) if options.json => Output::json(&row(program), options),
            (programs, _) if options.json => Output::json(&rows(programs), options),
            (programs, _) => Ok(Output::text(
                programs
                    .iter()
                    .map(|program| text(program, options))
                    .collect::<String>(),
            )),
        }
    }
}

/// Several programs can have one name or one tag.
fn find(client: &Client, name: &ProgramName) -> Result<Vec<Program>, Error> {
    let mut programs = match name {
        ProgramName::Id(_) => vec![],
        ProgramName::Name(_) | ProgramName::Tag(_) => client.programs()?,
    };
    programs.retain(|program| match name {
        ProgramName::Id(id) => program.id == *id,
        ProgramName::Name(name) => program.name == *name,
        ProgramName::Tag(tag) => program.tag == *tag,
    });
    // The daemon says what is wrong with a name that no program has.
    match programs.is_empty() {
        true => Ok(vec![client.program(&name.to_request())?]),
        false => Ok(programs),
    }
}

pub fn rows(programs: &[Program]) -> impl Serialize {
    programs.iter().map(row).collect::<Vec<_>>()
}

fn row(program: &Program) -> Row<'_> {
    let ran = program.run_time_ns != 0;
    Row {
        id: program.id,
        kind: &program.kind,
        name: &program.name,
        tag: &program.tag,
        gpl_compatible: program.gpl_compatible,
        run_time_ns: ran.then_some(program.run_time_ns),
        run_cnt: ran.then_some(program.run_cnt),
        loaded_at: program.loaded_at,
        bytes_xlated: program.bytes_xlated,
        jited: program.jited,
        bytes_jited: program.jited.then_some(program.bytes_jited),
        map_ids: &program.map_ids,
        section: &program.section,
        license: &program.license,
        functions: &program.functions,
        attached: &program.attached,
        faults: program.faults,
        last_fault: program.last_fault.as_deref(),
        quarantined: program.quarantined,
    }
}

/// `7: sched_cls  name filter  tag a04f5eef06a7f555  gpl`, without the id of what was only checked.
pub fn header(program: &Program) -> String {
    let id = match program.id {
        0 => String::new(),
        id => format!("{id}: "),
    };
    let gpl = if program.gpl_compatible { "  gpl" } else { "" };
    let Program { kind, name, tag, .. } = program;
    format!("{id}{kind}  name {name}  tag {tag}{gpl}")
}

fn text(program: &Program, options: Options) -> String {
    let mut text = header(program);
    if program.run_time_ns != 0 {
        text += &format!(" run_time_ns {} run_cnt {}", program.run_time_ns, program.run_cnt);
    }
    text += &format!("\n\tloaded_at {}", utc::date_and_time(program.loaded_at));
    text += &format!("\n\txlated {}B", program.bytes_xlated);
    text += &match program.jited {
        true => format!("  jited {}B", program.bytes_jited),
        false => "  not jited".into(),
    };
    if !program.map_ids.is_empty() {
        let ids: Vec<String> = program.map_ids.iter().map(u32::to_string).collect();
        text += &format!("  map_ids {}", ids.join(","));
    }
    if options.details {
        text += &format!("\n\tsection {}  license {}", program.section, program.license);
        text += &format!("\n\tfunctions {}", program.functions.join(","));
    }
    if !program.attached.is_empty() {
        text += &format!("\n\tattached {}", program.attached.join(", "));
    }
    if program.faults != 0 {
        text += &format!("\n\tfaults {}", program.faults);
        text += if program.quarantined { "  quarantined" } else { "" };
    }
    if let Some(fault) = &program.last_fault {
        text += &format!("\n\tlast_fault {fault}");
    }
    text + "\n"
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::prog::Command;
    use crate::prog::tests::prog;

    pub fn program() -> Program {
        Program {
            id: 7,
            kind: "sched_cls".into(),
            name: "filter".into(),
            section: "tc".into(),
            tag: "a04f5eef06a7f555".into(),
            license: "GPL".into(),
            gpl_compatible: true,
            loaded_at: 1_709_251_199,
            bytes_xlated: 96,
            jited: true,
            bytes_jited: 71,
            map_ids: vec![3, 4],
            functions: vec!["filter".into(), "count".into()],
            run_cnt: 12,
            run_time_ns: 3456,
            faults: 0,
            last_fault: None,
            quarantined: false,
            attached: vec!["nk0 primary".into(), "nk2 peer".into()],
        }
    }

    fn stopped() -> Program {
        Program {
            id: 8,
            gpl_compatible: false,
            jited: false,
            bytes_jited: 0,
            map_ids: vec![],
            run_cnt: 0,
            run_time_ns: 0,
            faults: 3,
            last_fault: Some("access to 0x10 at instruction 5".into()),
            quarantined: true,
            attached: vec![],
            ..program()
        }
    }

    #[test]
    fn all_or_those_of_a_name() {
        let shown = |line| match prog(line) {
            Command::Show(show) => show.program,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(shown("prog show"), None);
        assert_eq!(shown("prog show id 7"), Some(ProgramName::Id(7)));
        assert_eq!(shown("prog list 7"), Some(ProgramName::Id(7)));
        assert_eq!(
            shown("prog list filter"),
            Some(ProgramName::Name("filter".into()))
        );
        let text = "Garbage instead of arguments \"8 ...\". Try \"nkctl prog help\".";
        assert_eq!(refusal("prog show id 7 8"), (text.into(), 255));
    }

    #[test]
    fn text_is_bpftools_and_what_netkitd_knows_besides() {
        let plain = Options::default();
        assert_eq!(
            text(&program(), plain),
            "\
7: sched_cls  name filter  tag a04f5eef06a7f555  gpl run_time_ns 3456 run_cnt 12
	loaded_at 2024-02-29T23:59:59+0000
	xlated 96B  jited 71B  map_ids 3,4
	attached nk0 primary, nk2 peer
"
        );
        let details = Options {
            details: true,
            ..plain
        };
        assert_eq!(
            text(&stopped(), details),
            "\
8: sched_cls  name filter  tag a04f5eef06a7f555
	loaded_at 2024-02-29T23:59:59+0000
	xlated 96B  not jited
	section tc  license GPL
	functions filter,count
	faults 3  quarantined
	last_fault access to 0x10 at instruction 5
"
        );
    }

    #[test]
    fn json_has_bpftools_names() {
        let json = serde_json::to_string(&row(&program())).expect("rows are JSON");
        assert_eq!(
            json,
            "{\"id\":7,\"type\":\"sched_cls\",\"name\":\"filter\",\"tag\":\"a04f5eef06a7f555\",\"gpl_compatible\":true,\
             \"run_time_ns\":3456,\"run_cnt\":12,\"loaded_at\":1709251199,\"bytes_xlated\":96,\"jited\":true,\
             \"bytes_jited\":71,\"map_ids\":[3,4],\"section\":\"tc\",\"license\":\"GPL\",\
             \"functions\":[\"filter\",\"count\"],\"attached\":[\"nk0 primary\",\"nk2 peer\"],\"faults\":0,\
             \"quarantined\":false}"
        );
        let json = serde_json::to_value(row(&stopped())).expect("rows are JSON");
        assert_eq!(json["last_fault"], "access to 0x10 at instruction 5");
        for absent in ["run_time_ns", "run_cnt", "bytes_jited", "map_ids"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
    }
}
