//! `nkctl link`: devices, as `ip link` has them.

mod add;
mod attributes;
mod bpf;
mod netkit;
mod set;
mod show;

use vmm_glue::Client;

pub use self::attributes::link_layer_address;
pub use self::show::statistics_lines;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option};

/// What follows `link`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Add(add::Add),
    Set(set::Set),
    Delete(set::Delete),
    Show(show::Show),
    Bpf(bpf::Command),
}

impl Command {
    /// The order of the arms is iproute2's, and decides what an abbreviation means.
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let Some(command) = words.next() else {
            return Ok(Command::Show(show::Show::default()));
        };
        let is = |full| abbreviates(command, full);
        Ok(match command {
            _ if is("add") => Command::Add(add::Add::parse(words)?),
            _ if is("set") || is("change") => Command::Set(set::Set::parse(words)?),
            _ if is("replace") => return Err(no_replace(command)),
            _ if is("delete") && bpf::follows(words) => Command::Bpf(bpf::Command::parse(command, words)?),
            _ if is("delete") => Command::Delete(set::Delete::parse(words)?),
            _ if is("show") || is("lst") || is("list") => match bpf::follows(words) {
                true => Command::Bpf(bpf::Command::parse(command, words)?),
                false => Command::Show(show::Show::parse(words)?),
            },
            _ if is("help") => return Err(UsageError::Information(help_on(words.next()))),
            _ if is("update") || is("detach") => Command::Bpf(bpf::Command::parse(command, words)?),
            _ => {
                return Err(UsageError::UnknownCommand {
                    word: command.into(),
                    object: "link",
                });
            }
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Add(add) => add.run(client),
            Command::Set(set) => set.run(client),
            Command::Delete(delete) => delete.run(client),
            Command::Show(show) => show.run(client, options),
            Command::Bpf(bpf) => bpf.run(client, options.as_bpftool()),
        }
    }
}

/// `[dev] NAME`, as every command takes it.
pub fn device_name(words: &mut Words<'_>, help: &'static str) -> Result<String, UsageError> {
    let word = words.next().ok_or(UsageError::Missing("dev"))?;
    match word {
        "dev" => Ok(words.value()?.into()),
        _ if abbreviates_option(word, "help") => Err(UsageError::Information(help)),
        _ => Ok(word.into()),
    }
}

fn help_on(kind: Option<&str>) -> &'static str {
    match kind {
        Some("netkit") => help::NETKIT,
        Some("bpf") => help::BPF_LINK,
        _ => help::LINK,
    }
}

fn no_replace(command: &str) -> UsageError {
    UsageError::NotSupported {
        word: command.into(),
        instead: "use \"nkctl link add\" for a new device, \"nkctl link change\" for one that exists.",
    }
}

#[cfg(test)]
pub mod tests {
    use crate::cli::Invocation;
    use crate::command::Command;
    use crate::usage::UsageError;

    /// Splits at single spaces, so that two of them are an empty word.
    pub fn parse(line: &str) -> Result<Command, UsageError> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Invocation::parse(&words, None).map(|invocation| invocation.command)
    }

    /// What is printed, and the exit code.
    pub fn refusal(line: &str) -> (String, u8) {
        match parse(line) {
            Ok(command) => panic!("{line}: {command:?}"),
            Err(error) => (error.to_string(), error.exit_code()),
        }
    }

    #[test]
    fn abbreviations_mean_what_they_mean_to_iproute2() {
        use super::Command::{Add, Delete, Set, Show};
        for line in [
            "link",
            "l",
            "link show",
            "link sh",
            "link list",
            "link lst",
            "link ls",
            "link l",
        ] {
            assert!(matches!(parse(line), Ok(Command::Link(Show(_)))), "{line}");
        }
        for line in ["link s nk0", "link set nk0", "l c nk0", "link change nk0"] {
            assert!(matches!(parse(line), Ok(Command::Link(Set(_)))), "{line}");
        }
        for line in ["link a type netkit", "link ad type netkit", "li add ty netkit"] {
            assert!(matches!(parse(line), Ok(Command::Link(Add(_)))), "{line}");
        }
        for line in ["link d nk0", "link del nk0", "link delete nk0"] {
            assert!(matches!(parse(line), Ok(Command::Link(Delete(_)))), "{line}");
        }
    }

    #[test]
    fn help_is_an_answer() {
        for line in [
            "help",
            "h",
            "link help",
            "link h",
            "link add help",
            "link set help",
            "link del help",
            "link show help",
            "link help netkit",
            "link add nk0 type netkit help",
            "attach help",
            "detach help",
            "drops help",
            "vm help",
            "vm args help",
            "uplink help",
            "uplink add help",
            "uplink add wan help",
            "uplink add wan kernel eth0 help",
            "uplink del help",
            "uplink set help",
            "uplink set wan help",
            "uplink show help",
            "queue help",
            "queue lease help",
            "queue show help",
            "nic help",
            "nic show help",
            "nic pass help",
            "nic pass 03:00.0 help",
            "nic return help",
            "-help",
            "-h",
            "--help",
            "-V",
            "-Version",
        ] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
    }

    #[test]
    fn what_is_unknown_is_named() {
        let cases = [
            ("bogus", "Object \"bogus\" is unknown, try \"nkctl help\".", 1),
            (
                "link bogus",
                "Command \"bogus\" is unknown, try \"nkctl link help\".",
                255,
            ),
            (
                "vm bogus",
                "Command \"bogus\" is unknown, try \"nkctl vm help\".",
                255,
            ),
            (
                "-bogus link",
                "Option \"-bogus\" is unknown, try \"nkctl -help\".",
                255,
            ),
            ("- link", "Option \"-\" is unknown, try \"nkctl -help\".", 255),
            ("-api", "Command line is not complete. Try option \"help\"", 255),
            (
                "link replace nk0 type netkit",
                "Error: \"replace\" is not supported: use \"nkctl link add\" for a new device, \"nkctl link change\" for \
                 one that exists.",
                255,
            ),
        ];
        for (line, text, code) in cases {
            assert_eq!(refusal(line), (text.into(), code), "{line}");
        }
        assert_eq!(Invocation::parse(&[], None), Err(UsageError::NoCommand));
        assert_eq!(UsageError::NoCommand.exit_code(), 255);
    }
}
