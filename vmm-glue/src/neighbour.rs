//! `nkctl neigh`: the neighbours that programs of a domain look up, in the grammar of `ip neigh`.

use netkit_api::{Neighbour, Origin};
use serde_json::{Value, json};
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::link::link_layer_address;
use crate::route::{address, only_domain};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, once};

/// What follows `neigh`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show {
        domain: String,
    },
    Add {
        domain: String,
        neighbour: Neighbour,
    },
    Delete {
        domain: String,
        address: String,
        device: String,
    },
}

/// What of a neighbour was said.
#[derive(Debug, Default)]
struct Wanted {
    address: Option<String>,
    device: Option<String>,
    lladdr: Option<String>,
    domain: Option<String>,
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        match command {
            _ if is("add") || is("replace") => {
                let wanted = Wanted::parse(words)?;
                Ok(Command::Add {
                    neighbour: Neighbour {
                        address: wanted.address.ok_or(UsageError::Missing("to"))?,
                        device: wanted.device.ok_or(UsageError::Missing("dev"))?,
                        lladdr: wanted.lladdr.ok_or(UsageError::Missing("lladdr"))?,
                        origin: None,
                    },
                    domain: wanted.domain.ok_or(UsageError::Missing("domain"))?,
                })
            }
            _ if is("delete") => {
                let wanted = Wanted::parse(words)?;
                Ok(Command::Delete {
                    address: wanted.address.ok_or(UsageError::Missing("to"))?,
                    device: wanted.device.ok_or(UsageError::Missing("dev"))?,
                    domain: wanted.domain.ok_or(UsageError::Missing("domain"))?,
                })
            }
            _ if is("show") || is("lst") || is("list") => {
                let domain = only_domain(words, help::NEIGHBOUR, "neigh help")?;
                Ok(Command::Show { domain })
            }
            _ if is("help") => Err(UsageError::Information(help::NEIGHBOUR)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "neigh",
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show { domain } => {
                let neighbours = client.neighbours(domain)?;
                match options.json {
                    true => Output::json(&neighbours.iter().map(row).collect::<Vec<_>>(), options),
                    false => Ok(Output::text(neighbours.iter().map(text).collect::<String>())),
                }
            }
            Command::Add { domain, neighbour } => {
                client.add_neighbour(domain, neighbour)?;
                Ok(Output::nothing())
            }
            Command::Delete {
                domain,
                address,
                device,
            } => {
                let mut neighbours = client.neighbours(domain)?.into_iter();
                let found = neighbours.find(|one| one.address == *address && one.device == *device);
                let found = found.ok_or_else(|| Error::NoSuch("neighbour"))?;
                client.delete_neighbour(domain, &found)?;
                Ok(Output::nothing())
            }
        }
    }
}

impl Wanted {
    fn parse(words: &mut Words<'_>) -> Result<Wanted, UsageError> {
        let mut wanted = Wanted::default();
        while let Some(word) = words.next() {
            match word {
                "dev" | "domain" | "netns" => {
                    let is_device = word == "dev";
                    let slot = if is_device {
                        &mut wanted.device
                    } else {
                        &mut wanted.domain
                    };
                    let value = words.value()?;
                    once(slot, word, value, value.to_owned())?;
                }
                "lladdr" => {
                    let value = words.value()?;
                    once(&mut wanted.lladdr, word, value, link_layer_address(value)?)?;
                }
                "help" => return Err(UsageError::Information(help::NEIGHBOUR)),
                _ => {
                    let value = if word == "to" { words.value()? } else { word };
                    once(&mut wanted.address, "to", value, address(value)?.to_string())?;
                }
            }
        }
        Ok(wanted)
    }
}

/// Those of the API are made by hand, and stay. Those of the host count as long as they are shown.
fn text(neighbour: &Neighbour) -> String {
    let Neighbour {
        address,
        device,
        lladdr,
        origin,
    } = neighbour;
    let state = match origin {
        Some(Origin::Host) => "proto kernel REACHABLE",
        _ => "PERMANENT",
    };
    format!("{address} dev {device} lladdr {lladdr} {state}\n")
}

/// Names and order are those of `ip -j neigh show`.
fn row(neighbour: &Neighbour) -> Value {
    let Neighbour {
        address,
        device,
        lladdr,
        origin,
    } = neighbour;
    match origin {
        Some(Origin::Host) => {
            json!({"dst": address, "dev": device, "lladdr": lladdr, "protocol": "kernel", "state": ["REACHABLE"]})
        }
        _ => json!({"dst": address, "dev": device, "lladdr": lladdr, "state": ["PERMANENT"]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Neighbour(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn neighbour() -> Neighbour {
        Neighbour {
            address: "10.1.1.1".into(),
            device: "nk0".into(),
            lladdr: "aa:00:00:00:00:01".into(),
            origin: None,
        }
    }

    #[test]
    fn a_neighbour_is_written_as_for_ip() {
        for line in [
            "neigh add 10.1.1.1 lladdr AA:0:0:0:0:1 dev nk0 domain red",
            "neighbour replace to 10.1.1.1 dev nk0 lladdr aa:00:00:00:00:01 netns red",
            "neighbor a 10.1.1.1 lladdr AA:0:0:0:0:1 dev nk0 domain red",
        ] {
            assert_eq!(
                command(line),
                Command::Add {
                    domain: "red".into(),
                    neighbour: neighbour(),
                },
                "{line}"
            );
        }
        assert_eq!(
            command("neigh del 10.1.1.1 dev nk0 domain red"),
            Command::Delete {
                domain: "red".into(),
                address: "10.1.1.1".into(),
                device: "nk0".into(),
            }
        );
        assert_eq!(
            command("neigh show domain red"),
            Command::Show { domain: "red".into() }
        );
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "neigh",
                "Not enough information: \"domain\" argument is required.",
            ),
            (
                "neigh add 10.1.1.1 dev nk0 domain red",
                "Not enough information: \"lladdr\" argument is required.",
            ),
            (
                "neigh add 10.1.1.1 lladdr zz dev nk0",
                "\"zz\" is invalid lladdr.",
            ),
            (
                "neigh add nk0",
                "Error: argument \"nk0\" is wrong: an IP address is expected",
            ),
            (
                "neigh del 10.1.1.1 domain red",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "neigh flush",
                "Command \"flush\" is unknown, try \"nkctl neigh help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
        for line in ["neigh help", "neigh add help", "neigh show help"] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
    }

    #[test]
    fn neighbours_are_printed_as_ip_prints_them() {
        assert_eq!(
            text(&neighbour()),
            "10.1.1.1 dev nk0 lladdr aa:00:00:00:00:01 PERMANENT\n"
        );
        assert_eq!(
            row(&neighbour()).to_string(),
            "{\"dst\":\"10.1.1.1\",\"dev\":\"nk0\",\"lladdr\":\"aa:00:00:00:00:01\",\"state\":[\"PERMANENT\"]}"
        );
    }
}
