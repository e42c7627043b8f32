//! `nkctl uplink`: NICs that devices are attached to.

mod add;
mod show;

use netkit_api::UplinkSet;
use vmm_glue::Client;

pub use self::show::{lease, one_or_all};
use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, changing, changing_found};
use crate::help;
use crate::link::device_name;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option, number, once};

/// What follows `uplink`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Add(add::Add),
    Set { name: String, changes: UplinkSet },
    Delete { name: String },
    Show { name: Option<String> },
}

impl Command {
    /// The order of the arms is that of `link`, and decides what an abbreviation means.
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        Ok(match command {
            _ if is("add") => Command::Add(add::Add::parse(words)?),
            _ if is("set") || is("change") => Command::Set {
                name: device_name(words, help::UPLINK)?,
                changes: changes(words)?,
            },
            _ if is("delete") => {
                let name = device_name(words, help::UPLINK)?;
                words.end("uplink help")?;
                Command::Delete { name }
            }
            _ if is("show") || is("lst") || is("list") => Command::Show {
                name: optional_name(words, help::UPLINK, "uplink help")?,
            },
            _ if is("help") => return Err(UsageError::Information(help::UPLINK)),
            _ => {
                return Err(UsageError::UnknownCommand {
                    word: command.into(),
                    object: "uplink",
                });
            }
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Add(add) => client.create_uplink(&add.0)?,
            Command::Set { name, changes } => client
                .set_uplink(name, changes)
                .map_err(changing_found(name, || client.uplink(name)))?,
            Command::Delete { name } => client.delete_uplink(name).map_err(changing(name))?,
            Command::Show { name } => return show::run(client, name.as_deref(), options),
        }
        Ok(Output::nothing())
    }
}

/// `[[dev] NAME]`, and nothing else.
pub fn optional_name(
    words: &mut Words<'_>,
    text: &'static str,
    help: &'static str,
) -> Result<Option<String>, UsageError> {
    let name = match words.peek() {
        None => None,
        Some(_) => Some(device_name(words, text)?),
    };
    words.end(help)?;
    Ok(name)
}

/// `{ up | down } [channels N]`, in any order.
fn changes(words: &mut Words<'_>) -> Result<UplinkSet, UsageError> {
    let mut changes = UplinkSet::default();
    while let Some(word) = words.next() {
        match word {
            "up" => changes.up = Some(true),
            "down" => changes.up = Some(false),
            "channels" => {
                let value = words.value()?;
                once(&mut changes.rx_queues, word, value, number(value, "channels")?)?;
            }
            _ => return Err(stray(word)),
        }
    }
    Ok(changes)
}

fn stray(word: &str) -> UsageError {
    match abbreviates_option(word, "help") {
        true => UsageError::Information(help::UPLINK),
        false => UsageError::Garbage {
            word: word.into(),
            help: "uplink help",
        },
    }
}

#[cfg(test)]
pub mod tests {
    pub use super::show::tests::uplink;
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Uplink(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn abbreviations_mean_what_they_mean_to_link() {
        for line in [
            "uplink",
            "u",
            "uplink show",
            "up sh",
            "uplink list",
            "uplink lst",
            "uplink l",
        ] {
            assert_eq!(command(line), Command::Show { name: None }, "{line}");
        }
        for line in ["uplink show wan", "uplink ls dev wan"] {
            let name = Some("wan".into());
            assert_eq!(command(line), Command::Show { name }, "{line}");
        }
        for line in ["uplink d wan", "uplink del dev wan", "uplink delete wan"] {
            let name = "wan".into();
            assert_eq!(command(line), Command::Delete { name }, "{line}");
        }
    }

    #[test]
    fn set_changes_what_is_said() {
        let changes = |line: &str| match command(line) {
            Command::Set { name, changes } if name == "wan" => (changes.up, changes.rx_queues),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(changes("uplink set wan up"), (Some(true), None));
        assert_eq!(
            changes("uplink s dev wan down channels 4"),
            (Some(false), Some(4))
        );
        assert_eq!(changes("uplink set wan channels 16 up"), (Some(true), Some(16)));
        assert_eq!(changes("uplink set wan"), (None, None));
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "uplink set",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "uplink del",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "uplink set wan channels",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "uplink set wan channels all",
                "Error: argument \"all\" is wrong: Invalid \"channels\" value",
            ),
            (
                "uplink set wan channels 1 channels 2",
                "Error: duplicate \"channels\": \"2\" is the second value.",
            ),
            (
                "uplink set wan mtu 9000",
                "Garbage instead of arguments \"mtu ...\". Try \"nkctl uplink help\".",
            ),
            (
                "uplink show wan lan",
                "Garbage instead of arguments \"lan ...\". Try \"nkctl uplink help\".",
            ),
            (
                "uplink del wan lan",
                "Garbage instead of arguments \"lan ...\". Try \"nkctl uplink help\".",
            ),
            (
                "uplink bogus",
                "Command \"bogus\" is unknown, try \"nkctl uplink help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }
}
