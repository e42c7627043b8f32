//! `nkctl queue`: queues of uplinks, and the devices that lease them.

use netkit_api::{LeaseCreate, LeaseCreated, QueueKind, QueueLease, Uplink, UplinkQueue};
use serde::Serialize;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, changing_found};
use crate::help;
use crate::link::device_name;
use crate::uplink::{lease, one_or_all, optional_name};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option, number, once};

/// What follows `queue`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Lease { device: String, lease: LeaseCreate },
    Show { uplink: Option<String> },
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        match command {
            _ if is("show") || is("lst") || is("list") => Ok(Command::Show {
                uplink: optional_name(words, help::QUEUE, "queue help")?,
            }),
            _ if is("lease") => Ok(Command::Lease {
                device: device_name(words, help::QUEUE)?,
                lease: wanted(words)?,
            }),
            _ if is("help") => Err(UsageError::Information(help::QUEUE)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "queue",
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Lease { device, lease } => {
                // ENODEV can be about the uplink.
                let look = || client.device(device);
                let leased = client
                    .lease(device, lease)
                    .map_err(changing_found(device, look))?;
                leased_text(device, lease, &leased, options)
            }
            Command::Show { uplink } => {
                let uplinks = one_or_all(client, uplink.as_deref())?;
                match options.json {
                    true => Output::json(&rows(&uplinks), options),
                    false => Ok(Output::text(text(&uplinks))),
                }
            }
        }
    }
}

/// `UPLINK QUEUE [domain D]`
fn wanted(words: &mut Words<'_>) -> Result<LeaseCreate, UsageError> {
    let uplink = words.value()?.to_owned();
    let queue = number(words.value()?, "queue")?;
    let mut domain = None;
    while let Some(word) = words.next() {
        match word {
            "domain" | "netns" => {
                let value = words.value()?;
                once(&mut domain, word, value, value.to_owned())?;
            }
            _ if abbreviates_option(word, "help") => return Err(UsageError::Information(help::QUEUE)),
            _ => {
                return Err(UsageError::Garbage {
                    word: word.into(),
                    help: "queue help",
                });
            }
        }
    }
    Ok(LeaseCreate {
        uplink,
        queue,
        domain,
        kind: QueueKind::Rx,
    })
}

fn leased_text(
    device: &str,
    lease: &LeaseCreate,
    leased: &LeaseCreated,
    options: Options,
) -> Result<Output, Error> {
    let mut output = match options.json {
        true => Output::json(leased, options)?,
        false => Output::text(format!(
            "queue {} of {device} leases queue {} of {}",
            leased.queue, lease.queue, lease.uplink
        )),
    };
    if !leased.steered {
        let why = leased.reason.iter().map(|reason| format!(": {reason}"));
        let why: String = why.collect();
        output.notes.push(format!(
            "Note: {} does not steer the frames for {device} to this queue, netkitd tells them apart{why}",
            lease.uplink
        ));
    }
    Ok(output)
}

/// Names are those of the netdev netlink family's `queue-get`; those of uplinks and domains are netkitd's own.
#[derive(Debug, Serialize)]
struct Row<'a> {
    ifindex: u32,
    uplink: &'a str,
    #[serde(flatten)]
    queue: QueueId,
    used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseRow<'a>>,
}

#[derive(Debug, Serialize)]
struct QueueId {
    id: u32,
    #[serde(rename = "type")]
    kind: QueueKind,
}

#[derive(Debug, Serialize)]
struct LeaseRow<'a> {
    ifindex: u32,
    device: &'a str,
    queue: QueueId,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

fn rows(uplinks: &[Uplink]) -> Vec<Row<'_>> {
    let of = |uplink| move |queue| Row::new(uplink, queue);
    uplinks
        .iter()
        .flat_map(|uplink| uplink.queues.iter().map(of(uplink)))
        .collect()
}

impl<'a> Row<'a> {
    fn new(uplink: &'a Uplink, queue: &'a UplinkQueue) -> Row<'a> {
        Row {
            ifindex: uplink.ifindex,
            uplink: &uplink.name,
            queue: QueueId::rx(queue.queue),
            used: queue.used,
            lease: queue.lease.as_ref().map(LeaseRow::new),
        }
    }
}

impl QueueId {
    fn rx(id: u32) -> QueueId {
        QueueId {
            id,
            kind: QueueKind::Rx,
        }
    }
}

impl<'a> LeaseRow<'a> {
    fn new(lease: &'a QueueLease) -> LeaseRow<'a> {
        LeaseRow {
            ifindex: lease.ifindex,
            device: &lease.device,
            queue: QueueId::rx(lease.queue),
            domain: lease.domain.as_deref(),
        }
    }
}

fn text(uplinks: &[Uplink]) -> String {
    let mut text = String::new();
    for uplink in uplinks {
        for queue in &uplink.queues {
            let used = if queue.used { " used" } else { "" };
            let leased = queue.lease.iter().map(|to| format!(" {}", lease(to)));
            text += &format!(
                "{}({}) queue {}{used}{}\n",
                uplink.name,
                uplink.ifindex,
                queue.queue,
                leased.collect::<String>()
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};
    use crate::uplink::tests::uplink;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Queue(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lease_names_a_device_an_uplink_and_its_queue() {
        let lease = |domain: Option<&str>| Command::Lease {
            device: "nk0".into(),
            lease: LeaseCreate {
                uplink: "wan".into(),
                queue: 15,
                domain: domain.map(String::from),
                kind: QueueKind::Rx,
            },
        };
        assert_eq!(command("queue lease nk0 wan 15"), lease(None));
        assert_eq!(command("q le dev nk0 wan 0xf domain red"), lease(Some("red")));
        assert_eq!(command("queue lease nk0 wan 15 netns red"), lease(Some("red")));
    }

    #[test]
    fn show_one_uplink_or_all() {
        for line in ["queue", "q show", "queue list", "queue l"] {
            assert_eq!(command(line), Command::Show { uplink: None }, "{line}");
        }
        let uplink = Some("wan".into());
        assert_eq!(command("queue show wan"), Command::Show { uplink });
    }

    #[test]
    fn refusals() {
        let incomplete = "Command line is not complete. Try option \"help\"";
        let cases = [
            (
                "queue lease",
                "Not enough information: \"dev\" argument is required.",
            ),
            ("queue lease nk0", incomplete),
            ("queue lease nk0 wan", incomplete),
            (
                "queue lease nk0 wan x",
                "Error: argument \"x\" is wrong: Invalid \"queue\" value",
            ),
            (
                "queue lease nk0 wan 1 2",
                "Garbage instead of arguments \"2 ...\". Try \"nkctl queue help\".",
            ),
            (
                "queue show wan 1",
                "Garbage instead of arguments \"1 ...\". Try \"nkctl queue help\".",
            ),
            (
                "queue bogus",
                "Command \"bogus\" is unknown, try \"nkctl queue help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn a_queue_is_a_line_that_says_who_leases_it() {
        assert_eq!(
            text(&[uplink()]),
            "\
wan(4) queue 0 used
wan(4) queue 1 used
wan(4) queue 2
wan(4) queue 15 used leased to nk0(7) queue 1 domain red
"
        );
        assert_eq!(
            serde_json::to_string(&rows(&[uplink()])[2..]).expect("rows are JSON"),
            concat!(
                r#"[{"ifindex":4,"uplink":"wan","id":2,"type":"rx","used":false},"#,
                r#"{"ifindex":4,"uplink":"wan","id":15,"type":"rx","used":true,"#,
                r#""lease":{"ifindex":7,"device":"nk0","queue":{"id":1,"type":"rx"},"domain":"red"}}]"#,
            )
        );
    }
}
