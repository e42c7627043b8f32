//! `nkctl prog`: programs, as `bpftool prog` has them.

mod dump;
mod load;
mod run;
mod show;
mod tracelog;

use netkit_api::ProgramSet;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::names::ProgramName;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};

/// What follows `prog`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show(show::Show),
    Dump(dump::Dump),
    Load(load::Load),
    Tracelog(tracelog::Tracelog),
    Run(run::Run),
    Unload(ProgramName),
    Resume(ProgramName),
}

impl Command {
    /// The order of the arms is bpftool's, and decides what an abbreviation means.
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let Some(command) = words.next() else {
            return Ok(Command::Show(show::Show::default()));
        };
        let is = |full| abbreviates(command, full);
        Ok(match command {
            _ if is("show") || is("list") => Command::Show(show::Show::parse(words)?),
            _ if is("help") => return Err(UsageError::Information(help::PROG)),
            _ if is("dump") => Command::Dump(dump::Dump::parse(words)?),
            _ if is("load") => Command::Load(load::Load::parse(words)?),
            _ if is("tracelog") => Command::Tracelog(tracelog::Tracelog::parse(words)?),
            _ if is("run") => Command::Run(run::Run::parse(words)?),
            _ if is("check") => Command::Load(load::Load::parse(words)?.check_only()),
            _ if is("unload") => Command::Unload(only_program(words)?),
            _ if is("resume") => Command::Resume(only_program(words)?),
            "attach" | "detach" => {
                return Err(UsageError::NotSupported {
                    word: command.into(),
                    instead: "use \"nkctl net attach\" and \"nkctl net detach\".",
                });
            }
            _ => {
                return Err(UsageError::UnknownCommand {
                    word: command.into(),
                    object: "prog",
                });
            }
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show(show) => show.run(client, options),
            Command::Dump(dump) => dump.run(client, options),
            Command::Load(load) => load.run(client, options),
            Command::Tracelog(tracelog) => tracelog.run(client, options),
            Command::Run(run) => run.run(client, options),
            Command::Unload(program) => {
                client.unload(&program.to_request())?;
                Ok(Output::nothing())
            }
            Command::Resume(program) => {
                let running = ProgramSet {
                    quarantined: Some(false),
                };
                client.set_program(&program.to_request(), &running)?;
                Ok(Output::nothing())
            }
        }
    }
}

fn only_program(words: &mut Words<'_>) -> Result<ProgramName, UsageError> {
    if words.peek() == Some("help") {
        return Err(UsageError::Information(help::PROG));
    }
    let program = ProgramName::parse(words)?;
    words.end("prog help")?;
    Ok(program)
}

fn stray(word: &str) -> UsageError {
    match word {
        "help" => UsageError::Information(help::PROG),
        _ => UsageError::Garbage {
            word: word.into(),
            help: "prog help",
        },
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    pub fn prog(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Prog(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_may_be_abbreviated() {
        for line in ["prog", "p", "prog s", "prog show", "pr list", "prog l"] {
            assert_eq!(prog(line), Command::Show(show::Show::default()), "{line}");
        }
        for line in ["prog unload 7", "p u id 7"] {
            assert_eq!(prog(line), Command::Unload(ProgramName::Id(7)), "{line}");
        }
        assert_eq!(
            prog("prog resume filter"),
            Command::Resume(ProgramName::Name("filter".into()))
        );
        assert!(matches!(prog("prog d x 7"), Command::Dump(_)));
        assert!(matches!(prog("prog t"), Command::Tracelog(_)));
        assert!(matches!(prog("prog r 7 data_in f"), Command::Run(_)));
        assert!(matches!(prog("prog lo f.o"), Command::Load(_)));
    }

    #[test]
    fn help_and_what_is_wrong() {
        for line in [
            "prog help",
            "prog unload help",
            "prog load help",
            "prog dump help",
            "prog run help",
        ] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
        let cases = [
            (
                "prog bogus",
                "Command \"bogus\" is unknown, try \"nkctl prog help\".",
            ),
            (
                "prog unload",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "prog unload 7 8",
                "Garbage instead of arguments \"8 ...\". Try \"nkctl prog help\".",
            ),
            (
                "prog attach 7",
                "Error: \"attach\" is not supported: use \"nkctl net attach\" and \"nkctl net detach\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }
}
