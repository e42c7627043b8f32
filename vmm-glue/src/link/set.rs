//! `link set`, `link change` and `link delete`: a device that exists.

use netkit_api::{DeviceSet, NetkitChange};
use vmm_glue::Client;

use super::add::peer;
use super::attributes::Attributes;
use super::netkit::Netkit;
use crate::command::Output;
use crate::error::{Error, changing};
use crate::usage::UsageError;
use crate::words::Words;

/// `link set DEV ...` and `link change DEV ...`, which are the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Set {
    pub device: String,
    pub attributes: DeviceSet,
    /// After `type netkit`.
    pub netkit: NetkitChange,
}

/// `link delete DEV`
#[derive(Debug, PartialEq, Eq)]
pub struct Delete {
    pub device: String,
}

impl Set {
    pub fn parse(words: &mut Words<'_>) -> Result<Set, UsageError> {
        let own = Attributes::parse(words)?;
        own.check_existing()?;
        let device = own.device()?;
        let netkit = Netkit::parse(own.kind.as_deref(), words)?.unwrap_or_default();
        Ok(Set {
            device,
            netkit: change(&netkit)?,
            attributes: DeviceSet {
                name: own.rename(),
                up: own.up,
                mtu: own.mtu,
                address: own.address,
                domain: own.domain,
            },
        })
    }

    /// The kernel's order: the type's own options first. A command that changes nothing still finds the
    /// device.
    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        let has_netkit = self.netkit != NetkitChange::default();
        if has_netkit {
            client
                .change(&self.device, &self.netkit)
                .map_err(changing(&self.device))?;
        }
        if !has_netkit || self.attributes != DeviceSet::default() {
            client
                .set(&self.device, &self.attributes)
                .map_err(changing(&self.device))?;
        }
        Ok(Output::nothing())
    }
}

impl Delete {
    /// As with `ip`, what else is said of the device is read and has no effect.
    pub fn parse(words: &mut Words<'_>) -> Result<Delete, UsageError> {
        let own = Attributes::parse(words)?;
        let device = own.device()?;
        Netkit::parse(own.kind.as_deref(), words)?;
        Ok(Delete { device })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        client.delete(&self.device).map_err(changing(&self.device))?;
        Ok(Output::nothing())
    }
}

fn change(netkit: &Netkit) -> Result<NetkitChange, UsageError> {
    Ok(NetkitChange {
        policy: netkit.policy,
        peer_policy: netkit.peer_policy,
        mode: netkit.mode,
        scrub: netkit.scrub,
        peer_scrub: netkit.peer_scrub,
        headroom: netkit.headroom,
        tailroom: netkit.tailroom,
        pairing: netkit.pairing,
        peer: netkit.peer.as_ref().map(peer).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use netkit_api::{Mode, PeerCreate, Policy};

    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn set(line: &str) -> Set {
        match parse(line) {
            Ok(Command::Link(super::super::Command::Set(set))) => set,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn attributes(line: &str) -> DeviceSet {
        let set = set(line);
        assert_eq!(
            (set.device.as_str(), set.netkit),
            ("nk0", NetkitChange::default())
        );
        set.attributes
    }

    #[test]
    fn one_setting() {
        let none = DeviceSet::default();
        let cases = [
            ("link set nk0", none.clone()),
            (
                "link set nk0 up",
                DeviceSet {
                    up: Some(true),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 down",
                DeviceSet {
                    up: Some(false),
                    ..none.clone()
                },
            ),
            (
                "link set up nk0",
                DeviceSet {
                    up: Some(true),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 mtu 1400",
                DeviceSet {
                    mtu: Some(1400),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 address 02:00:00:00:00:01",
                DeviceSet {
                    address: Some("02:00:00:00:00:01".into()),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 domain red",
                DeviceSet {
                    domain: Some("red".into()),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 netns red",
                DeviceSet {
                    domain: Some("red".into()),
                    ..none.clone()
                },
            ),
            (
                "link set nk0 name nk9",
                DeviceSet {
                    name: Some("nk9".into()),
                    ..none.clone()
                },
            ),
            (
                "link set name nk9 nk0",
                DeviceSet {
                    name: Some("nk9".into()),
                    ..none.clone()
                },
            ),
            ("link set nk0 name nk0", none.clone()),
            ("link set name nk0", none.clone()),
            ("link set nk0 txqueuelen 500", none.clone()),
            ("link set nk0 type netkit", none),
        ];
        for (line, expected) in cases {
            assert_eq!(attributes(line), expected, "{line}");
        }
    }

    #[test]
    fn several_settings() {
        let expected = DeviceSet {
            up: Some(true),
            mtu: Some(9000),
            address: Some("02:00:00:00:00:01".into()),
            domain: Some("red".into()),
            name: Some("nk9".into()),
        };
        let line = "link set dev nk0 down name nk9 mtu 9000 addr 2:0:0:0:0:1 domain red up";
        assert_eq!(attributes(line), expected);
    }

    #[test]
    fn change_is_set_with_a_type() {
        let expected = Set {
            device: "nk0".into(),
            attributes: DeviceSet {
                mtu: Some(1400),
                ..DeviceSet::default()
            },
            netkit: NetkitChange {
                policy: Some(Policy::Blackhole),
                peer_policy: Some(Policy::Forward),
                ..NetkitChange::default()
            },
        };
        for command in ["change", "set", "ch"] {
            let line = format!("link {command} nk0 mtu 1400 type netkit blackhole peer forward");
            assert_eq!(set(&line), expected, "{line}");
        }
        // Whether these may change is the daemon's to say.
        let refused = set("link change nk0 type netkit mode l2 peer name nk9").netkit;
        assert_eq!(refused.mode, Some(Mode::L2));
        let peer = PeerCreate {
            name: Some("nk9".into()),
            ..PeerCreate::default()
        };
        assert_eq!(refused.peer, Some(peer));
    }

    #[test]
    fn delete_takes_a_device() {
        let delete = |line| match parse(line) {
            Ok(Command::Link(super::super::Command::Delete(delete))) => delete.device,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["link del nk0", "link delete dev nk0", "link d nk0 type netkit"] {
            assert_eq!(delete(line), "nk0", "{line}");
        }
    }

    #[test]
    fn refusals() {
        let missing = "Not enough information: \"dev\" argument is required.";
        let incomplete = "Command line is not complete. Try option \"help\"";
        let cases = [
            ("link set", missing, 255),
            ("link set up", missing, 255),
            ("link set up up", missing, 255),
            ("link del", missing, 255),
            ("link change type netkit", missing, 255),
            ("link set dev", incomplete, 255),
            ("link set nk0 mtu", incomplete, 255),
            ("link set nk0 up mtu", incomplete, 255),
            ("link set nk0 address", incomplete, 255),
            ("link del nk0 type", incomplete, 255),
            (
                "link set nosuch mtu xyz",
                "Error: argument \"xyz\" is wrong: Invalid \"mtu\" value",
                255,
            ),
            (
                "link set nk0 mtu 99999999999",
                "Error: argument \"99999999999\" is wrong: Invalid \"mtu\" value",
                255,
            ),
            (
                "link set nk0 mtu 1500 mtu 9000",
                "Error: duplicate \"mtu\": \"9000\" is the second value.",
                255,
            ),
            ("link set nk0 address zz", "\"zz\" is invalid lladdr.", 255),
            (
                "link set nk0 address 02:00:00:00:00:01:02",
                "Invalid address length 7 - must be 6 bytes",
                255,
            ),
            (
                "link set dev nk0 dev nk1",
                "Error: either \"dev\" is duplicate, or \"nk1\" is a garbage.",
                255,
            ),
            (
                "link set nk0 up foo bar",
                "Error: either \"dev\" is duplicate, or \"foo\" is a garbage.",
                255,
            ),
            (
                "link set nk0 name waytoolongnameforalink",
                "Error: argument \"waytoolongnameforalink\" is wrong: \"name\" not a valid ifname",
                255,
            ),
            (
                "link set nk0 promisc on",
                "Error: \"promisc\" is not supported: netkitd's devices have no such attribute.",
                255,
            ),
            (
                "link set nk0 index 7",
                "index can be used only when creating devices.",
                255,
            ),
            (
                "link set nk0 numrxqueues 2",
                "numrxqueues can be used only when creating devices.",
                255,
            ),
            ("link set nk0 type veth", "Error: Unknown device type.", 2),
            (
                "link del nk0 nk1",
                "Error: either \"dev\" is duplicate, or \"nk1\" is a garbage.",
                255,
            ),
        ];
        for (line, text, code) in cases {
            assert_eq!(refusal(line), (text.into(), code), "{line}");
        }
    }
}
