//! `nkctl drops`: why frames that a device sent were not delivered.

use netkit_api::DeviceDrops;
use serde::Serialize;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::help;
use crate::link::device_name;
use crate::usage::UsageError;
use crate::words::Words;

/// `drops [DEV]`
#[derive(Debug, PartialEq, Eq)]
pub struct Drops {
    pub device: Option<String>,
}

/// One line of the table.
#[derive(Serialize)]
struct Row<'a> {
    device: &'a str,
    reason: &'a str,
    frames: u64,
    description: &'a str,
}

impl Drops {
    pub fn parse(words: &mut Words<'_>) -> Result<Drops, UsageError> {
        if words.peek().is_none() {
            return Ok(Drops { device: None });
        }
        let device = device_name(words, help::DROPS)?;
        words.end("drops help")?;
        Ok(Drops { device: Some(device) })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let device = self.device.as_deref();
        let drops = client
            .drops(device)
            .map_err(showing(device.unwrap_or_default()))?;
        let rows = rows(&drops);
        if options.json {
            return Output::json(&rows, options);
        }
        Ok(Output::text(match (rows.is_empty(), device) {
            (false, _) => table(&rows),
            (true, Some(device)) => format!("No frame of {device} was dropped."),
            (true, None) => "No frame was dropped.".into(),
        }))
    }
}

fn rows(devices: &[DeviceDrops]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for device in devices {
        rows.extend(device.drops.iter().map(|drop| Row {
            device: &device.device,
            reason: &drop.reason,
            frames: drop.frames,
            description: &drop.description,
        }));
    }
    rows
}

fn table(rows: &[Row<'_>]) -> String {
    let width = |title: &str, longest: Option<usize>| title.len().max(longest.unwrap_or(0));
    let device = width("device", rows.iter().map(|row| row.device.len()).max());
    let reason = width("reason", rows.iter().map(|row| row.reason.len()).max());
    let frames = width(
        "frames",
        rows.iter().map(|row| row.frames.to_string().len()).max(),
    );
    let mut text = format!(
        "{:device$}  {:reason$}  {:>frames$}  description\n",
        "device", "reason", "frames"
    );
    for row in rows {
        text += &format!(
            "{:device$}  {:reason$}  {:>frames$}  {}\n",
            row.device, row.reason, row.frames, row.description
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use netkit_api::Drop;

    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn drop(reason: &str, frames: u64, description: &str) -> Drop {
        Drop {
            reason: reason.into(),
            description: description.into(),
            frames,
        }
    }

    #[test]
    fn one_device_or_all() {
        let drops = |line| match parse(line) {
            Ok(Command::Drops(drops)) => drops.device,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(drops("drops"), None);
        assert_eq!(drops("drops nk0").as_deref(), Some("nk0"));
        assert_eq!(drops("dr dev nk0").as_deref(), Some("nk0"));
        let text = "Garbage instead of arguments \"nk1 ...\". Try \"nkctl drops help\".";
        assert_eq!(refusal("drops nk0 nk1"), (text.into(), 255));
    }

    #[test]
    fn a_table_has_a_row_for_each_device_and_reason() {
        let drops = [
            DeviceDrops {
                device: "nk0".into(),
                drops: vec![
                    drop("peer_down", 12, "The other end is down."),
                    drop("program", 1234567, "A program said so."),
                ],
            },
            DeviceDrops {
                device: "nk1".into(),
                drops: vec![],
            },
            DeviceDrops {
                device: "longer-name".into(),
                drops: vec![drop("too_short", 1, "The frame has no Ethernet header.")],
            },
        ];
        assert_eq!(
            table(&rows(&drops)),
            "\
device       reason      frames  description
nk0          peer_down       12  The other end is down.
nk0          program    1234567  A program said so.
longer-name  too_short        1  The frame has no Ethernet header.
"
        );
        let json = serde_json::to_value(rows(&drops[2..])).expect("rows are JSON");
        assert_eq!(
            json,
            serde_json::json!([{
                "device": "longer-name", "reason": "too_short", "frames": 1,
                "description": "The frame has no Ethernet header.",
            }])
        );
    }
}
