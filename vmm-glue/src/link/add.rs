//! `link add`: makes a pair or a single.

use netkit_api::{DeviceCreate, DeviceSet, PeerCreate};
use vmm_glue::Client;

use super::attributes::Attributes;
use super::netkit::Netkit;
use crate::command::Output;
use crate::error::Error;
use crate::usage::UsageError;
use crate::words::Words;

/// `link add ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Add {
    pub device: DeviceCreate,
    /// Whether the device shall be up.
    pub up: bool,
    /// Whether its peer shall be up.
    pub peer_up: bool,
}

impl Add {
    pub fn parse(words: &mut Words<'_>) -> Result<Add, UsageError> {
        let own = Attributes::parse(words)?;
        let name = own.new_name()?;
        let netkit = Netkit::parse(own.kind.as_deref(), words)?.ok_or(UsageError::Missing("type"))?;
        let peer = netkit.peer.as_ref().map(peer).transpose()?;
        let peer_up = netkit.peer.as_ref().and_then(|peer| peer.up).unwrap_or(false);
        let device = DeviceCreate {
            name,
            address: own.address,
            mtu: own.mtu,
            num_rx_queues: own.num_rx_queues,
            num_tx_queues: own.num_tx_queues,
            ifindex: own.index,
            domain: own.domain,
            mode: netkit.mode,
            policy: netkit.policy,
            scrub: netkit.scrub,
            peer_policy: netkit.peer_policy,
            peer_scrub: netkit.peer_scrub,
            headroom: netkit.headroom,
            tailroom: netkit.tailroom,
            pairing: netkit.pairing,
            peer,
        };
        let up = own.up.unwrap_or(false);
        Ok(Add { device, up, peer_up })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        let made = client.create(&self.device)?;
        let up = DeviceSet {
            up: Some(true),
            ..DeviceSet::default()
        };
        if let Some(peer) = made.peer.filter(|_| self.peer_up) {
            client.set(&peer, &up)?;
        }
        if self.up {
            client.set(&made.primary, &up)?;
        }
        Ok(Output::nothing())
    }
}

pub(super) fn peer(attributes: &Attributes) -> Result<PeerCreate, UsageError> {
    Ok(PeerCreate {
        name: attributes.new_name()?,
        address: attributes.address.clone(),
        mtu: attributes.mtu,
        domain: attributes.domain.clone(),
        num_rx_queues: attributes.num_rx_queues,
        num_tx_queues: attributes.num_tx_queues,
        ifindex: attributes.index,
    })
}

#[cfg(test)]
mod tests {
    use netkit_api::{Mode, Pairing, Policy, Scrub};

    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn add(line: &str) -> Add {
        match parse(line) {
            Ok(Command::Link(super::super::Command::Add(add))) => add,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn device(line: &str) -> DeviceCreate {
        add(line).device
    }

    fn named(name: &str) -> DeviceCreate {
        DeviceCreate {
            name: Some(name.into()),
            ..DeviceCreate::default()
        }
    }

    #[test]
    fn nothing_but_the_type_is_needed() {
        assert_eq!(device("link add type netkit"), DeviceCreate::default());
        assert_eq!(device("link add type netkit peer"), DeviceCreate::default());
    }

    #[test]
    fn a_name_may_be_said_in_three_ways() {
        for line in [
            "link add nk0 type netkit",
            "link add name nk0 type netkit",
            "link add dev nk0 type netkit",
            "link add name nk0 dev nk0 type netkit",
            "link add nk0 txqueuelen 1000 type netkit",
        ] {
            assert_eq!(device(line), named("nk0"), "{line}");
        }
        assert_eq!(device("link add a type netkit"), named("a"));
    }

    #[test]
    fn everything_at_once() {
        let expected = DeviceCreate {
            name: Some("nk0".into()),
            address: Some("02:00:00:00:00:0a".into()),
            mtu: Some(9000),
            num_rx_queues: Some(4),
            num_tx_queues: Some(1),
            ifindex: Some(7),
            domain: Some("red".into()),
            mode: Some(Mode::L2),
            policy: Some(Policy::Blackhole),
            scrub: Some(Scrub::None),
            peer_policy: Some(Policy::Forward),
            peer_scrub: Some(Scrub::Default),
            headroom: Some(64),
            tailroom: Some(32),
            pairing: None,
            peer: Some(PeerCreate {
                name: Some("nk1".into()),
                address: Some("02:00:00:00:00:0b".into()),
                mtu: Some(1400),
                domain: Some("blue".into()),
                num_rx_queues: Some(2),
                num_tx_queues: None,
                ifindex: Some(8),
            }),
        };
        let netkit = "type netkit mode l2 blackhole scrub none headroom 64 tailroom 32 peer forward scrub default \
                      name nk1 address 2:0:0:0:0:b mtu 1400 numrxqueues 2 domain blue index 8";
        let lines = [
            "link add nk0 address 02:00:00:00:00:0A mtu 9000 numrxqueues 4 numtxqueues 1 index 7 netns red up",
            "link add numtx 1 numrx 4 up mtu 9000 addr 02:00:00:00:00:0a domain red index 7 dev nk0 qlen 5",
        ];
        for line in lines {
            let add = add(&format!("{line} {netkit}"));
            assert_eq!(add.device, expected, "{line}");
            assert!(add.up && !add.peer_up);
        }
    }

    #[test]
    fn what_follows_peer_is_the_peers() {
        let policies = device("link add nk0 type netkit forward peer blackhole");
        assert_eq!(policies.policy, Some(Policy::Forward));
        assert_eq!(policies.peer_policy, Some(Policy::Blackhole));
        assert_eq!(policies.peer, None);
        let named = device("link add nk0 type netkit peer nk1");
        assert_eq!(named.peer.and_then(|peer| peer.name).as_deref(), Some("nk1"));
        let up = add("link add nk0 type netkit peer name nk1 up");
        assert!(up.peer_up && !up.up);
        let last = device("link add nk0 type netkit forward blackhole");
        assert_eq!(last.policy, Some(Policy::Blackhole));
    }

    #[test]
    fn a_single_has_no_peer() {
        let single = device("link add nk0 numrxqueues 64 type netkit single");
        assert_eq!(single.pairing, Some(Pairing::Single));
        assert_eq!(single.num_rx_queues, Some(64));
    }

    #[test]
    fn refusals_of_link_attributes() {
        let cases = [
            (
                "link add",
                "Not enough information: \"type\" argument is required.",
                255,
            ),
            (
                "link add nk0",
                "Not enough information: \"type\" argument is required.",
                255,
            ),
            (
                "link add nk0 type",
                "Command line is not complete. Try option \"help\"",
                255,
            ),
            ("link add nk0 type veth", "Error: Unknown device type.", 2),
            (
                "link add name",
                "Command line is not complete. Try option \"help\"",
                255,
            ),
            (
                "link add nk0 mtu 1 mtu 9000 type netkit",
                "Error: duplicate \"mtu\": \"9000\" is the second value.",
                255,
            ),
            (
                "link add nk0 mtu 1 mtu xyz type netkit",
                "Error: duplicate \"mtu\": \"xyz\" is the second value.",
                255,
            ),
            (
                "link add nk0 mtu xyz type netkit",
                "Error: argument \"xyz\" is wrong: Invalid \"mtu\" value",
                255,
            ),
            (
                "link add nk0 numrxqueues x type netkit",
                "Error: argument \"x\" is wrong: Invalid \"numrxqueues\" value",
                255,
            ),
            (
                "link add nk0 txqueuelen 5 qlen 6 type netkit",
                "Error: duplicate \"txqueuelen\": \"6\" is the second value.",
                255,
            ),
            (
                "link add nk0 index 0 type netkit",
                "Error: argument \"0\" is wrong: Invalid \"index\" value",
                255,
            ),
            (
                "link add nk0 netns a domain b type netkit",
                "Error: duplicate \"domain\": \"b\" is the second value.",
                255,
            ),
            (
                "link add nk0 address zz type netkit",
                "\"zz\" is invalid lladdr.",
                255,
            ),
            (
                "link add nk0 address 02:00 type netkit",
                "Invalid address length 2 - must be 6 bytes",
                255,
            ),
            (
                "link add nk0 foo type netkit",
                "Error: either \"dev\" is duplicate, or \"foo\" is a garbage.",
                255,
            ),
            (
                "link add name nk0 dev nk1 type netkit",
                "both \"name\" and \"dev\" cannot be used when creating devices.",
                255,
            ),
            (
                "link add name nk0 name nk1 type netkit",
                "Error: duplicate \"name\": \"nk1\" is the second value.",
                255,
            ),
            (
                "link add name waytoolongnameforalink type netkit",
                "Error: argument \"waytoolongnameforalink\" is wrong: \"name\" not a valid ifname",
                255,
            ),
            (
                "link add a/b type netkit",
                "Error: argument \"a/b\" is wrong: \"dev\" not a valid ifname",
                255,
            ),
            (
                "link add  type netkit",
                "Error: argument \"\" is wrong: \"dev\" not a valid ifname",
                255,
            ),
            (
                "link add nk0 link eth0 type netkit",
                "Error: \"link\" is not supported: netkitd's devices have no such attribute.",
                255,
            ),
        ];
        for (line, text, code) in cases {
            assert_eq!(refusal(line), (text.into(), code), "{line}");
        }
    }

    #[test]
    fn refusals_of_netkit_options() {
        let incomplete = "Command line is not complete. Try option \"help\"";
        let mode = "Error: argument of \"mode\" must be either \"l3\" or \"l2\"";
        let scrub = "Error: scrub must be either \"none\" or \"default\"";
        let cases = [
            ("mode", incomplete),
            ("scrub", incomplete),
            ("headroom", incomplete),
            ("peer name", incomplete),
            ("mode l4", mode),
            (
                "mode l2 mode l3",
                "Error: duplicate \"mode\": \"l3\" is the second value.",
            ),
            ("scrub all", scrub),
            ("peer scrub all", scrub),
            (
                "headroom 65536",
                "Error: argument \"65536\" is wrong: Invalid \"headroom\" value",
            ),
            (
                "tailroom 1 tailroom 2",
                "Error: duplicate \"tailroom\": \"2\" is the second value.",
            ),
            (
                "peer peer forward",
                "Error: duplicate \"peer\": \"forward\" is the second value.",
            ),
            (
                "peer name x type netkit",
                "Error: duplicate \"type\": \"netkit\" is the second value.",
            ),
            (
                "peer name x mtu y",
                "Error: argument \"y\" is wrong: Invalid \"mtu\" value",
            ),
            (
                "peer name x forward",
                "both \"name\" and \"dev\" cannot be used when creating devices.",
            ),
            (
                "peer x forward",
                "Error: either \"dev\" is duplicate, or \"forward\" is a garbage.",
            ),
            (
                "peer name x master br0",
                "Error: \"master\" is not supported: netkitd's devices have no such attribute.",
            ),
        ];
        for (options, text) in cases {
            assert_eq!(
                refusal(&format!("link add nk0 type netkit {options}")),
                (text.into(), 255),
                "{options}"
            );
        }
        for word in ["bogus", "name", "blackhol", "m"] {
            let (text, code) = refusal(&format!("link add nk0 type netkit {word} x"));
            assert!(
                text.starts_with(&format!("netkit: unknown option \"{word}\"?\nUsage: ")),
                "{text}"
            );
            assert_eq!(code, 255);
        }
    }
}
