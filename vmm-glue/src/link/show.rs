//! `link show`: devices as `ip link show` prints them.

mod json;
mod text;

use netkit_api::Device;
use vmm_glue::Client;

pub use self::text::statistics_lines;
use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates_option};

/// `link show [DEV] [up] [type TYPE]`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Show {
    pub device: Option<String>,
    /// Only devices that are up.
    pub up: bool,
    /// Only devices of this type; all are netkit.
    pub kind: Option<String>,
}

impl Show {
    pub fn parse(words: &mut Words<'_>) -> Result<Show, UsageError> {
        let mut show = Show::default();
        while let Some(word) = words.next() {
            match word {
                "up" => show.up = true,
                "type" => show.kind = Some(words.value()?.into()),
                "group" | "master" | "vrf" | "nomaster" => {
                    return Err(UsageError::NotSupported {
                        word: word.into(),
                        instead: "netkitd's devices have no such attribute.",
                    });
                }
                "dev" => show.read_device(words.value()?)?,
                _ if abbreviates_option(word, "help") => return Err(UsageError::Information(help::LINK)),
                _ => show.read_device(word)?,
            }
        }
        Ok(show)
    }

    fn read_device(&mut self, word: &str) -> Result<(), UsageError> {
        match self.device.replace(word.into()) {
            None => Ok(()),
            Some(_) => Err(UsageError::DuplicateOrGarbage {
                key: "dev",
                word: word.into(),
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let mut devices = match &self.device {
            Some(name) => vec![client.device(name).map_err(showing(name))?],
            None => client.devices()?,
        };
        devices.retain(|device| self.selects(device));
        if options.json {
            return Output::json(&json::links(&devices, options), options);
        }
        Ok(Output::text(text::links(&devices, options)))
    }

    fn selects(&self, device: &Device) -> bool {
        let of_kind = self.kind.as_ref().is_none_or(|kind| kind == "netkit");
        of_kind && (!self.up || is_up(device))
    }
}

fn is_up(device: &Device) -> bool {
    device.flags.iter().any(|flag| flag == "UP")
}

/// The kernel gives a device its queueing discipline when it is first brought up.
fn qdisc(device: &Device) -> &'static str {
    match is_up(device) {
        true => "noqueue",
        false => "noop",
    }
}

// What `ip` prints of every netkit device.
const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
const TX_QUEUE_LENGTH: u32 = 1000;
const MIN_MTU: u32 = 68;
const MAX_MTU: u32 = 65535;

#[cfg(test)]
mod tests {
    use netkit_api::{Attachment, AttachmentKind, Mode, Pairing, Policy, Scrub, SocketMode, Statistics};

    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn unattached() -> Attachment {
        Attachment {
            kind: AttachmentKind::None,
            path: None,
            mode: None,
            queues: 0,
            ifname: None,
            uplink: None,
            connected: false,
            running: false,
            guest_address: None,
            features: None,
        }
    }

    /// The primary of an L3 pair that is up at both ends.
    pub fn primary() -> Device {
        Device {
            ifindex: 2,
            name: "nk1".into(),
            peer_ifindex: Some(1),
            peer_name: Some("nk0".into()),
            flags: ["BROADCAST", "MULTICAST", "NOARP", "UP", "LOWER_UP"]
                .map(String::from)
                .into(),
            operstate: "UP".into(),
            mtu: 1500,
            address: "00:00:00:00:00:00".into(),
            domain: "host".into(),
            num_rx_queues: 1,
            num_tx_queues: 1,
            mode: Mode::L3,
            pairing: Pairing::Pair,
            primary: true,
            policy: Policy::Forward,
            peer_policy: Some(Policy::Forward),
            scrub: Some(Scrub::Default),
            peer_scrub: Some(Scrub::Default),
            headroom: 0,
            tailroom: 0,
            attachment: unattached(),
            statistics: Statistics::default(),
        }
    }

    /// An L2 peer with a guest behind it; the primary is down.
    pub fn guest() -> Device {
        Device {
            ifindex: 7,
            name: "vm7".into(),
            peer_ifindex: Some(8),
            peer_name: Some("up7".into()),
            flags: ["NO-CARRIER", "BROADCAST", "MULTICAST", "UP", "M-DOWN"]
                .map(String::from)
                .into(),
            operstate: "LOWERLAYERDOWN".into(),
            mtu: 9000,
            address: "52:54:00:00:00:07".into(),
            domain: "vm7".into(),
            num_rx_queues: 2,
            mode: Mode::L2,
            primary: false,
            policy: Policy::Blackhole,
            scrub: Some(Scrub::None),
            headroom: 64,
            tailroom: 32,
            attachment: Attachment {
                kind: AttachmentKind::VhostUser,
                path: Some("/run/a.sock".into()),
                mode: Some(SocketMode::Server),
                queues: 1,
                connected: true,
                running: true,
                guest_address: Some("52:54:00:00:00:07".into()),
                features: Some(0x1_3000_0000),
                ..unattached()
            },
            statistics: Statistics {
                rx_packets: 29,
                rx_bytes: 3193,
                rx_dropped: 0,
                tx_packets: 12_345_678,
                tx_bytes: 987_654_321_098,
                tx_dropped: 5,
            },
            ..primary()
        }
    }

    /// A single with a tap behind it, down.
    pub fn single() -> Device {
        Device {
            ifindex: 3,
            name: "lone".into(),
            peer_ifindex: None,
            peer_name: None,
            flags: ["BROADCAST", "MULTICAST", "NOARP"].map(String::from).into(),
            operstate: "DOWN".into(),
            pairing: Pairing::Single,
            peer_policy: None,
            scrub: None,
            peer_scrub: None,
            attachment: Attachment {
                kind: AttachmentKind::Tap,
                queues: 1,
                ifname: Some("tap0".into()),
                connected: true,
                ..unattached()
            },
            ..primary()
        }
    }

    pub const PLAIN: Options = Options {
        json: false,
        pretty: false,
        details: false,
        statistics: false,
    };

    pub const EVERYTHING: Options = Options {
        details: true,
        statistics: true,
        ..PLAIN
    };

    #[test]
    fn words() {
        let show = |line| match parse(line) {
            Ok(Command::Link(super::super::Command::Show(show))) => show,
            other => panic!("{line}: {other:?}"),
        };
        let nk0 = || Show {
            device: Some("nk0".into()),
            ..Show::default()
        };
        assert_eq!(show("link"), Show::default());
        assert_eq!(show("-j -d -s link show"), Show::default());
        assert_eq!(show("link show nk0"), nk0());
        assert_eq!(show("link ls dev nk0"), nk0());
        assert_eq!(show("link show a").device.as_deref(), Some("a"));
        assert_eq!(show("link show up nk0"), Show { up: true, ..nk0() });
        let kind = Some("netkit".into());
        assert_eq!(show("link show nk0 type netkit"), Show { kind, ..nk0() });
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "link show dev",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "link show nk0 nk1",
                "Error: either \"dev\" is duplicate, or \"nk1\" is a garbage.",
            ),
            (
                "link show master br0",
                "Error: \"master\" is not supported: netkitd's devices have no such attribute.",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn filters() {
        let up = Show {
            up: true,
            ..Show::default()
        };
        assert!(up.selects(&primary()) && up.selects(&guest()) && !up.selects(&single()));
        let veth = Show {
            kind: Some("veth".into()),
            ..Show::default()
        };
        assert!(!veth.selects(&primary()));
    }
}
