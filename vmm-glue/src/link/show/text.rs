//! Devices as `ip link show` prints them for people, without the spaces it leaves at the ends of lines.

use netkit_api::{
    Attachment, AttachmentKind, Device, Mode, Pairing, Policy, Scrub, Share, SocketMode, Statistics,
    UplinkSpec,
};

use super::{BROADCAST, MAX_MTU, MIN_MTU, TX_QUEUE_LENGTH, qdisc};
use crate::cli::Options;

/// Every device, one after another.
pub fn links(devices: &[Device], options: Options) -> String {
    let links: Vec<String> = devices.iter().map(|device| link(device, options)).collect();
    links.concat()
}

fn link(device: &Device, options: Options) -> String {
    let mut lines = vec![first_line(device), second_line(device, options)];
    if options.details {
        lines.push(netkit_line(device));
        lines.push(attachment_line(&device.attachment));
    }
    if options.statistics {
        lines.extend(statistics_lines(&device.statistics));
    }
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn first_line(device: &Device) -> String {
    format!(
        "{}: {}@{}: <{}> mtu {} qdisc {} state {} mode DEFAULT group default qlen {TX_QUEUE_LENGTH}",
        device.ifindex,
        device.name,
        device.peer_name.as_deref().unwrap_or("NONE"),
        device.flags.join(","),
        device.mtu,
        qdisc(device),
        device.operstate,
    )
}

fn second_line(device: &Device, options: Options) -> String {
    let details = match options.details {
        true => format!(" promiscuity 0 allmulti 0 minmtu {MIN_MTU} maxmtu {MAX_MTU}"),
        false => String::new(),
    };
    format!("    link/ether {} brd {BROADCAST}{details}", device.address)
}

fn netkit_line(device: &Device) -> String {
    let mut words = vec![
        format!("mode {}", mode(device.mode)),
        format!("type {}", if device.primary { "primary" } else { "peer" }),
        format!("policy {}", policy(device.policy)),
    ];
    words.extend(
        device
            .peer_policy
            .map(|peer| format!("peer policy {}", policy(peer))),
    );
    words.extend(device.scrub.map(|own| format!("scrub {}", scrub(own))));
    words.extend(
        device
            .peer_scrub
            .map(|peer| format!("peer scrub {}", scrub(peer))),
    );
    words.extend([
        format!("headroom {} tailroom {}", device.headroom, device.tailroom),
        format!("pairing {}", pairing(device.pairing)),
        format!(
            "numtxqueues {} numrxqueues {}",
            device.num_tx_queues, device.num_rx_queues
        ),
        format!("domain {}", device.domain),
    ]);
    format!("    netkit {}", words.join(" "))
}

fn attachment_line(attachment: &Attachment) -> String {
    let mut words = vec![kind(attachment.kind).to_owned()];
    words.extend(attachment.path.iter().map(|path| format!("path {path}")));
    words.extend(attachment.mode.map(|mode| format!("mode {}", side(mode))));
    words.extend(attachment.ifname.iter().map(|ifname| format!("ifname {ifname}")));
    words.extend(attachment.uplink.iter().map(uplink));
    if attachment.kind != AttachmentKind::None {
        words.push(format!("queues {}", attachment.queues));
    }
    let states = [
        (attachment.connected, "connected"),
        (attachment.running, "running"),
    ];
    words.extend(
        states
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| word.to_string()),
    );
    format!("    attachment {}", words.join(" "))
}

/// As `nkctl attach` takes it.
fn uplink(spec: &UplinkSpec) -> String {
    let share = match spec.share {
        Share::None => return spec.uplink.clone(),
        Share::Mac => "mac",
        Share::Ip => "ip",
    };
    match spec.addresses.is_empty() {
        true => format!("{} share {share}", spec.uplink),
        false => format!("{} {share} {}", spec.uplink, spec.addresses.join(" ")),
    }
}

/// The columns are as wide as the widest number of either direction.
pub fn statistics_lines(statistics: &Statistics) -> [String; 4] {
    let rx = [
        statistics.rx_bytes,
        statistics.rx_packets,
        0,
        statistics.rx_dropped,
        0,
        0,
    ];
    let tx = [
        statistics.tx_bytes,
        statistics.tx_packets,
        0,
        statistics.tx_dropped,
        0,
        0,
    ];
    let mut widths = [10, 7, 6, 7, 7, 7];
    for (column, width) in widths.iter_mut().enumerate() {
        let digits = rx[column].max(tx[column]).to_string().len();
        *width = digits.max(*width);
    }
    let titles = |direction: &str, titles: [&str; 5]| {
        let bytes = widths[0] - 4;
        let first = format!("    {direction}: {:>bytes$}", "bytes");
        let columns = titles.iter().zip(&widths[1..]);
        columns.fold(first, |line, (title, width)| format!("{line} {title:>width$}"))
    };
    let numbers = |numbers: [u64; 6]| {
        let columns = numbers.iter().zip(&widths);
        let cells: Vec<String> = columns
            .map(|(number, width)| format!("{number:>width$}"))
            .collect();
        format!("    {}", cells.join(" "))
    };
    [
        titles("RX", ["packets", "errors", "dropped", "missed", "mcast"]),
        numbers(rx),
        titles("TX", ["packets", "errors", "dropped", "carrier", "collsns"]),
        numbers(tx),
    ]
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::L2 => "l2",
        Mode::L3 => "l3",
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Forward => "forward",
        Policy::Blackhole => "blackhole",
    }
}

fn scrub(scrub: Scrub) -> &'static str {
    match scrub {
        Scrub::None => "none",
        Scrub::Default => "default",
    }
}

fn pairing(pairing: Pairing) -> &'static str {
    match pairing {
        Pairing::Pair => "pair",
        Pairing::Single => "single",
    }
}

fn kind(kind: AttachmentKind) -> &'static str {
    match kind {
        AttachmentKind::None => "none",
        AttachmentKind::VhostUser => "vhost-user",
        AttachmentKind::Tap => "tap",
        AttachmentKind::Uplink => "uplink",
    }
}

fn side(side: SocketMode) -> &'static str {
    match side {
        SocketMode::Server => "server",
        SocketMode::Client => "client",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EVERYTHING, PLAIN, guest, primary, single};
    use super::*;

    #[test]
    fn as_ip_prints_them() {
        assert_eq!(
            links(&[primary(), single(), guest()], PLAIN),
            "\
2: nk1@nk0: <BROADCAST,MULTICAST,NOARP,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 00:00:00:00:00:00 brd ff:ff:ff:ff:ff:ff
3: lone@NONE: <BROADCAST,MULTICAST,NOARP> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 00:00:00:00:00:00 brd ff:ff:ff:ff:ff:ff
7: vm7@up7: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 9000 qdisc noqueue state LOWERLAYERDOWN mode DEFAULT group \
default qlen 1000
    link/ether 52:54:00:00:00:07 brd ff:ff:ff:ff:ff:ff
"
        );
        assert_eq!(links(&[], PLAIN), "");
    }

    #[test]
    fn details_and_statistics() {
        assert_eq!(
            links(&[guest()], EVERYTHING),
            "\
7: vm7@up7: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 9000 qdisc noqueue state LOWERLAYERDOWN mode DEFAULT group \
default qlen 1000
    link/ether 52:54:00:00:00:07 brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535
    netkit mode l2 type peer policy blackhole peer policy forward scrub none peer scrub default headroom 64 tailroom 32 \
pairing pair numtxqueues 1 numrxqueues 2 domain vm7
    attachment vhost-user path /run/a.sock mode server queues 1 connected running
    RX:    bytes  packets errors dropped  missed   mcast
            3193       29      0       0       0       0
    TX:    bytes  packets errors dropped carrier collsns
    987654321098 12345678      0       5       0       0
"
        );
    }

    #[test]
    fn a_single_has_no_scrub_and_no_peer() {
        assert_eq!(
            links(&[single()], EVERYTHING),
            "\
3: lone@NONE: <BROADCAST,MULTICAST,NOARP> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 00:00:00:00:00:00 brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535
    netkit mode l3 type primary policy forward headroom 0 tailroom 0 pairing single numtxqueues 1 numrxqueues 1 domain host
    attachment tap ifname tap0 queues 1 connected
    RX:  bytes packets errors dropped  missed   mcast
             0       0      0       0       0       0
    TX:  bytes packets errors dropped carrier collsns
             0       0      0       0       0       0
"
        );
    }

    #[test]
    fn nothing_behind_a_device_is_said_too() {
        let text = links(&[primary()], EVERYTHING);
        assert!(text.contains("\n    attachment none\n"), "{text}");
    }

    #[test]
    fn an_uplink_is_printed_as_it_is_attached() {
        let line = |share, addresses: &[&str]| {
            let mut device = primary();
            device.attachment.kind = AttachmentKind::Uplink;
            device.attachment.queues = 2;
            device.attachment.connected = true;
            device.attachment.uplink = Some(UplinkSpec {
                uplink: "wan".into(),
                share,
                addresses: addresses.iter().map(|address| String::from(*address)).collect(),
            });
            let text = links(&[device], EVERYTHING);
            let line = text.lines().find_map(|line| line.strip_prefix("    attachment "));
            String::from(line.expect("there is an attachment"))
        };
        assert_eq!(line(Share::None, &[]), "uplink wan queues 2 connected");
        assert_eq!(line(Share::Mac, &[]), "uplink wan share mac queues 2 connected");
        assert_eq!(
            line(Share::Ip, &["10.0.0.1/32", "2001:db8::/64"]),
            "uplink wan ip 10.0.0.1/32 2001:db8::/64 queues 2 connected"
        );
    }
}
