//! `prog run`: a program on a frame of the caller's, as `bpftool prog run` does it.

use netkit_api::{ProgramRan, ProgramRun};
use serde_json::json;
use vmm_glue::Client;

use super::stray;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::files;
use crate::names::ProgramName;
use crate::octets::{answered_base64, dump, to_base64};
use crate::usage::UsageError;
use crate::words::{Words, once, unsigned};

/// `prog run PROG data_in FILE ...`; files may be `-`.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub program: ProgramName,
    pub data_in: String,
    pub data_out: Destination,
    pub ctx_in: Option<String>,
    pub ctx_out: Destination,
    pub repeat: u32,
    pub interpreter: bool,
}

/// Where octets go, and how many are expected at most.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Destination {
    pub path: Option<String>,
    pub size: Option<u32>,
}

impl Run {
    pub fn parse(words: &mut Words<'_>) -> Result<Run, UsageError> {
        if words.peek() == Some("help") {
            return Err(stray("help"));
        }
        let program = ProgramName::parse(words)?;
        let (mut data_in, mut ctx_in, mut repeat, mut interpreter) = (None, None, None, false);
        let (mut data_out, mut ctx_out) = (Destination::default(), Destination::default());
        while let Some(word) = words.next() {
            let file = match word {
                "data_in" => &mut data_in,
                "data_out" => &mut data_out.path,
                "ctx_in" => &mut ctx_in,
                "ctx_out" => &mut ctx_out.path,
                "data_size_out" | "ctx_size_out" | "repeat" => {
                    let (slot, name) = match word {
                        "data_size_out" => (&mut data_out.size, "data_size_out"),
                        "ctx_size_out" => (&mut ctx_out.size, "ctx_size_out"),
                        _ => (&mut repeat, "repeat"),
                    };
                    let value = words.value()?;
                    once(slot, word, value, unsigned(value, name)?)?;
                    continue;
                }
                "interpreter" => {
                    interpreter = true;
                    continue;
                }
                _ => return Err(stray(word)),
            };
            let value = words.value()?;
            once(file, word, value, value.to_owned())?;
        }
        let data_in = data_in.ok_or(UsageError::Missing("data_in"))?;
        if data_in == "-" && ctx_in.as_deref() == Some("-") {
            let why = "standard input cannot be both data_in and ctx_in";
            return Err(UsageError::invalid("-", why));
        }
        Ok(Run {
            program,
            data_in,
            data_out,
            ctx_in,
            ctx_out,
            repeat: repeat.unwrap_or(1),
            interpreter,
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let ctx_in = self.ctx_in.as_deref().map(files::read).transpose()?;
        let run = ProgramRun {
            data_in: to_base64(&files::read(&self.data_in)?),
            ctx_in: ctx_in.map(|octets| to_base64(&octets)),
            repeat: self.repeat,
            interpreter: self.interpreter,
        };
        self.print(client.run(&self.program.to_request(), &run)?, options)
    }

    fn print(&self, ran: ProgramRan, options: Options) -> Result<Output, Error> {
        if let Some(fault) = ran.fault {
            return Err(Error::Stopped(fault));
        }
        let data = answered_base64(&ran.data_out)?;
        let context = answered_base64(&ran.ctx_out)?;
        self.data_out.check("data", &data)?;
        self.ctx_out.check("ctx", &context)?;
        let (mut text, mut json) = (String::new(), serde_json::Map::new());
        for (key, destination, octets) in [
            ("data_out", &self.data_out, data),
            ("ctx_out", &self.ctx_out, context),
        ] {
            match destination.path.as_deref() {
                None => {}
                Some("-") => {
                    text += &dump(&octets);
                    json.insert(key.into(), octets.into());
                }
                Some(path) => files::write(path, &octets)?,
            }
        }
        if options.json {
            json.insert("retval".into(), json!(ran.retval));
            json.insert("duration".into(), json!(ran.duration));
            return Output::json(&json, options);
        }
        let average = if self.repeat > 1 { " (average)" } else { "" };
        text += &format!(
            "Return value: {}, duration{average}: {}ns",
            ran.retval, ran.duration
        );
        Ok(Output::text(text))
    }
}

impl Destination {
    /// As with bpf(2), what does not fit is an error. // net/bpf/test_run.c: bpf_test_finish
    fn check(&self, what: &'static str, octets: &[u8]) -> Result<(), Error> {
        match self.size {
            Some(size) if octets.len() > size as usize => Err(Error::NoSpace {
                what,
                size,
                needed: octets.len(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::prog::Command;
    use crate::prog::tests::prog;

    fn run(line: &str) -> Run {
        match prog(line) {
            Command::Run(run) => run,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn ran() -> ProgramRan {
        ProgramRan {
            retval: 2,
            duration: 42,
            data_out: to_base64(&[0x45, 0]),
            ctx_out: to_base64(&[1]),
            fault: None,
        }
    }

    #[test]
    fn words_are_bpftools() {
        let plain = run("prog run 7 data_in f");
        assert_eq!(
            (plain.data_in.as_str(), plain.repeat, plain.interpreter),
            ("f", 1, false)
        );
        assert_eq!(plain.data_out, Destination::default());
        let full = run(
            "prog run name filter data_in - data_out - data_size_out 0x40 ctx_in c ctx_out d ctx_size_out 192 \
             repeat 1000 interpreter",
        );
        assert_eq!(
            full,
            Run {
                program: ProgramName::Name("filter".into()),
                data_in: "-".into(),
                data_out: Destination {
                    path: Some("-".into()),
                    size: Some(64)
                },
                ctx_in: Some("c".into()),
                ctx_out: Destination {
                    path: Some("d".into()),
                    size: Some(192)
                },
                repeat: 1000,
                interpreter: true,
            }
        );
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "prog run",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "prog run 7",
                "Not enough information: \"data_in\" argument is required.",
            ),
            (
                "prog run 7 data_in",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "prog run 7 data_in a data_in b",
                "Error: duplicate \"data_in\": \"b\" is the second value.",
            ),
            (
                "prog run 7 data_in a repeat x",
                "Error: argument \"x\" is wrong: Invalid \"repeat\" value",
            ),
            (
                "prog run 7 data_in - ctx_in -",
                "Error: argument \"-\" is wrong: standard input cannot be both data_in and ctx_in",
            ),
            (
                "prog run 7 data_in a b",
                "Garbage instead of arguments \"b ...\". Try \"nkctl prog help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn prints_what_bpftool_prints() {
        let print = |line, json| {
            let options = Options {
                json,
                ..Options::default()
            };
            run(line).print(ran(), options).expect("printed").text
        };
        assert_eq!(
            print("prog run 7 data_in f", false),
            "Return value: 2, duration: 42ns\n"
        );
        assert_eq!(
            print("prog run 7 data_in f repeat 2 data_out - ctx_out -", false),
            "0000000\t4500                                    | E.\n\
             0000000\t01                                      | .\n\
             Return value: 2, duration (average): 42ns\n"
        );
        assert_eq!(
            print("prog run 7 data_in f data_out - ctx_out -", true),
            "{\"data_out\":[69,0],\"ctx_out\":[1],\"retval\":2,\"duration\":42}\n"
        );
    }

    #[test]
    fn a_program_that_was_stopped_returned_nothing() {
        let fault = ProgramRan {
            fault: Some("access to 0x10".into()),
            ..ran()
        };
        let error = run("prog run 7 data_in f").print(fault, Options::default());
        let text = "Error: the program was stopped: access to 0x10";
        assert_eq!(error.expect_err("stopped").to_string(), text);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let small = run("prog run 7 data_in f data_out - data_size_out 1");
        let error = small.print(ran(), Options::default()).expect_err("too large");
        let text = "Error: data_out has 2 bytes, more than data_size_out allows (1)";
        assert_eq!(error.to_string(), text);
    }
}
