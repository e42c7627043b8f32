//! Devices as `ip -j link show` prints them for programs.

use netkit_api::{
    Attachment, AttachmentKind, Device, Mode, Pairing, Policy, Scrub, SocketMode, Statistics, UplinkSpec,
};
use serde::Serialize;

use super::{BROADCAST, MAX_MTU, MIN_MTU, TX_QUEUE_LENGTH, qdisc};
use crate::cli::Options;

/// Every device, in the order given.
pub fn links(devices: &[Device], options: Options) -> Vec<Link<'_>> {
    devices.iter().map(|device| Link::new(device, options)).collect()
}

/// One device; names and order are those of `ip`.
#[derive(Debug, Serialize)]
pub struct Link<'a> {
    ifindex: u32,
    /// Null for a single, as `ip` has it for a device without a link.
    link: Option<&'a str>,
    ifname: &'a str,
    flags: &'a [String],
    mtu: u32,
    qdisc: &'static str,
    operstate: &'a str,
    linkmode: &'static str,
    group: &'static str,
    txqlen: u32,
    link_type: &'static str,
    address: &'a str,
    broadcast: &'static str,
    #[serde(flatten)]
    details: Option<Details<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats64: Option<Stats>,
}

/// What `-d` adds; `domain` and `attachment` are netkitd's own.
#[derive(Debug, Serialize)]
struct Details<'a> {
    promiscuity: u32,
    allmulti: u32,
    min_mtu: u32,
    max_mtu: u32,
    linkinfo: LinkInfo,
    num_tx_queues: u32,
    num_rx_queues: u32,
    domain: &'a str,
    attachment: AttachmentInfo<'a>,
}

#[derive(Debug, Serialize)]
struct LinkInfo {
    info_kind: &'static str,
    info_data: Netkit,
}

#[derive(Debug, Serialize)]
struct Netkit {
    mode: Mode,
    #[serde(rename = "type")]
    end: &'static str,
    policy: Policy,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrub: Option<Scrub>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_scrub: Option<Scrub>,
    headroom: u16,
    tailroom: u16,
    pairing: Pairing,
}

/// The API's attachment without what it has not.
#[derive(Debug, Serialize)]
struct AttachmentInfo<'a> {
    kind: AttachmentKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<SocketMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink: Option<&'a UplinkSpec>,
    queues: u16,
    connected: bool,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<u64>,
}

/// What `-s` adds.
#[derive(Debug, Serialize)]
struct Stats {
    rx: Received,
    tx: Transmitted,
}

#[derive(Debug, Serialize)]
struct Received {
    bytes: u64,
    packets: u64,
    errors: u64,
    dropped: u64,
    over_errors: u64,
    multicast: u64,
}

#[derive(Debug, Serialize)]
struct Transmitted {
    bytes: u64,
    packets: u64,
    errors: u64,
    dropped: u64,
    carrier_errors: u64,
    collisions: u64,
}

impl<'a> Link<'a> {
    fn new(device: &'a Device, options: Options) -> Link<'a> {
        Link {
            ifindex: device.ifindex,
            link: device.peer_name.as_deref(),
            ifname: &device.name,
            flags: &device.flags,
            mtu: device.mtu,
            qdisc: qdisc(device),
            operstate: &device.operstate,
            linkmode: "DEFAULT",
            group: "default",
            txqlen: TX_QUEUE_LENGTH,
            link_type: "ether",
            address: &device.address,
            broadcast: BROADCAST,
            details: options.details.then(|| Details::new(device)),
            stats64: options.statistics.then(|| Stats::new(&device.statistics)),
        }
    }
}

impl<'a> Details<'a> {
    fn new(device: &'a Device) -> Details<'a> {
        Details {
            promiscuity: 0,
            allmulti: 0,
            min_mtu: MIN_MTU,
            max_mtu: MAX_MTU,
            linkinfo: LinkInfo {
                info_kind: "netkit",
                info_data: Netkit::new(device),
            },
            num_tx_queues: device.num_tx_queues,
            num_rx_queues: device.num_rx_queues,
            domain: &device.domain,
            attachment: AttachmentInfo::new(&device.attachment),
        }
    }
}

impl Netkit {
    fn new(device: &Device) -> Netkit {
        Netkit {
            mode: device.mode,
            end: if device.primary { "primary" } else { "peer" },
            policy: device.policy,
            peer_policy: device.peer_policy,
            scrub: device.scrub,
            peer_scrub: device.peer_scrub,
            headroom: device.headroom,
            tailroom: device.tailroom,
            pairing: device.pairing,
        }
    }
}

impl<'a> AttachmentInfo<'a> {
    fn new(attachment: &'a Attachment) -> AttachmentInfo<'a> {
        AttachmentInfo {
            kind: attachment.kind,
            path: attachment.path.as_deref(),
            mode: attachment.mode,
            ifname: attachment.ifname.as_deref(),
            uplink: attachment.uplink.as_ref(),
            queues: attachment.queues,
            connected: attachment.connected,
            running: attachment.running,
            guest_address: attachment.guest_address.as_deref(),
            features: attachment.features,
        }
    }
}

impl Stats {
    /// A virtual device has none of the errors that hardware has.
    fn new(statistics: &Statistics) -> Stats {
        Stats {
            rx: Received {
                bytes: statistics.rx_bytes,
                packets: statistics.rx_packets,
                errors: 0,
                dropped: statistics.rx_dropped,
                over_errors: 0,
                multicast: 0,
            },
            tx: Transmitted {
                bytes: statistics.tx_bytes,
                packets: statistics.tx_packets,
                errors: 0,
                dropped: statistics.tx_dropped,
                carrier_errors: 0,
                collisions: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EVERYTHING, PLAIN, guest, primary, single};
    use super::*;

    fn text(devices: &[Device], options: Options) -> String {
        serde_json::to_string(&links(devices, options)).expect("devices are JSON")
    }

    #[test]
    fn as_ip_prints_them() {
        assert_eq!(
            text(&[primary(), single()], PLAIN),
            concat!(
                r#"[{"ifindex":2,"link":"nk0","ifname":"nk1","#,
                r#""flags":["BROADCAST","MULTICAST","NOARP","UP","LOWER_UP"],"mtu":1500,"qdisc":"noqueue","#,
                r#""operstate":"UP","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"ether","#,
                r#""address":"00:00:00:00:00:00","broadcast":"ff:ff:ff:ff:ff:ff"},"#,
                r#"{"ifindex":3,"link":null,"ifname":"lone","#,
                r#""flags":["BROADCAST","MULTICAST","NOARP"],"mtu":1500,"qdisc":"noop","#,
                r#""operstate":"DOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"ether","#,
                r#""address":"00:00:00:00:00:00","broadcast":"ff:ff:ff:ff:ff:ff"}]"#,
            )
        );
        assert_eq!(text(&[], PLAIN), "[]");
    }

    #[test]
    fn details_and_statistics() {
        assert_eq!(
            text(&[guest()], EVERYTHING),
            concat!(
                r#"[{"ifindex":7,"link":"up7","ifname":"vm7","#,
                r#""flags":["NO-CARRIER","BROADCAST","MULTICAST","UP","M-DOWN"],"mtu":9000,"qdisc":"noqueue","#,
                r#""operstate":"LOWERLAYERDOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,"#,
                r#""link_type":"ether","address":"52:54:00:00:00:07","broadcast":"ff:ff:ff:ff:ff:ff","#,
                r#""promiscuity":0,"allmulti":0,"min_mtu":68,"max_mtu":65535,"#,
                r#""linkinfo":{"info_kind":"netkit","info_data":{"mode":"l2","type":"peer","policy":"blackhole","#,
                r#""peer_policy":"forward","scrub":"none","peer_scrub":"default","headroom":64,"tailroom":32,"#,
                r#""pairing":"pair"}},"num_tx_queues":1,"num_rx_queues":2,"domain":"vm7","#,
                r#""attachment":{"kind":"vhost-user","path":"/run/a.sock","mode":"server","queues":1,"#,
                r#""connected":true,"running":true,"guest_address":"52:54:00:00:00:07","features":5100273664},"#,
                r#""stats64":{"rx":{"bytes":3193,"packets":29,"errors":0,"dropped":0,"over_errors":0,"multicast":0},"#,
                r#""tx":{"bytes":987654321098,"packets":12345678,"errors":0,"dropped":5,"carrier_errors":0,"#,
                r#""collisions":0}}}]"#,
            )
        );
    }

    #[test]
    fn a_single_says_nothing_of_a_peer() {
        let text = text(&[single()], EVERYTHING);
        assert!(text.contains(
            r#""info_data":{"mode":"l3","type":"primary","policy":"forward","headroom":0,"tailroom":0,"pairing":"single"}"#
        ));
        assert!(text.contains(
            r#""attachment":{"kind":"tap","ifname":"tap0","queues":1,"connected":true,"running":false}"#
        ));
    }

    #[test]
    fn an_uplink_is_named_with_what_is_shared() {
        let mut device = primary();
        device.attachment.kind = AttachmentKind::Uplink;
        device.attachment.queues = 1;
        device.attachment.uplink = Some(UplinkSpec {
            uplink: "wan".into(),
            share: netkit_api::Share::Mac,
            addresses: vec!["02:00:00:00:00:0a".into()],
        });
        assert!(text(&[device], EVERYTHING).contains(concat!(
            r#""attachment":{"kind":"uplink","#,
            r#""uplink":{"uplink":"wan","share":"mac","addresses":["02:00:00:00:00:0a"]},"#,
            r#""queues":1,"connected":false,"running":false}"#
        )));
    }
}
