//! `uplink show`: NICs in the manner of `ip link show`.

use netkit_api::{
    AfXdpMode, AfXdpNic, Drop, KernelNic, MacvtapMode, MacvtapNic, NicSpec, QueueLease, Share, TapNic,
    Uplink, UplinkShare, UplinkState, VfioNic,
};
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::link::statistics_lines;

pub fn run(client: &Client, name: Option<&str>, options: Options) -> Result<Output, Error> {
    let uplinks = one_or_all(client, name)?;
    if options.json {
        return Output::json(&uplinks, options);
    }
    let texts: String = uplinks.iter().map(|uplink| text(uplink, options)).collect();
    Ok(Output::text(texts))
}

pub fn one_or_all(client: &Client, name: Option<&str>) -> Result<Vec<Uplink>, Error> {
    match name {
        Some(name) => Ok(vec![client.uplink(name).map_err(showing(name))?]),
        None => Ok(client.uplinks()?),
    }
}

/// `leased to nk0(7) queue 1 domain red`
pub fn lease(lease: &QueueLease) -> String {
    let domain = lease.domain.iter().map(|domain| format!(" domain {domain}"));
    format!(
        "leased to {}({}) queue {}{}",
        lease.device,
        lease.ifindex,
        lease.queue,
        domain.collect::<String>()
    )
}

fn text(uplink: &Uplink, options: Options) -> String {
    let mut lines = vec![first_line(uplink), second_line(uplink), nic_line(uplink)];
    lines.extend(uplink.reason.iter().map(|reason| format!("    reason: {reason}")));
    if options.details {
        lines.extend(detail_lines(uplink));
    }
    if options.statistics {
        lines.extend(statistics_lines(&uplink.statistics));
        lines.extend(uplink.drops.iter().map(drop_line));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn first_line(uplink: &Uplink) -> String {
    format!(
        "{}: {}: mtu {} state {} domain {}",
        uplink.ifindex,
        uplink.name,
        uplink.mtu,
        state(uplink.state),
        uplink.domain
    )
}

fn second_line(uplink: &Uplink) -> String {
    let speed = uplink.speed.map(|speed| format!(" speed {speed}Mb/s"));
    format!("    link/ether {}{}", uplink.address, speed.unwrap_or_default())
}

/// The NIC as `uplink add` takes it, and what drives it.
fn nic_line(uplink: &Uplink) -> String {
    let driver = uplink.driver.iter().map(|driver| format!(" driver {driver}"));
    format!("    {}{}", nic(&uplink.nic), driver.collect::<String>())
}

fn nic(nic: &NicSpec) -> String {
    let count = |queues: &Option<u16>| {
        queues
            .map(|queues| format!(" queues {queues}"))
            .unwrap_or_default()
    };
    match nic {
        NicSpec::Kernel(KernelNic { ifname, queues }) => format!("kernel dev {ifname}{}", count(queues)),
        NicSpec::Tap(TapNic { ifname, queues }) => format!("tap dev {ifname}{}", count(queues)),
        NicSpec::Macvtap(MacvtapNic {
            ifname,
            lower,
            mode,
            queues,
        }) => {
            let lower = lower.iter().map(|lower| format!(" link {lower}"));
            let lower: String = lower.collect();
            format!(
                "macvtap dev {ifname}{lower} mode {}{}",
                macvtap_mode(*mode),
                count(queues)
            )
        }
        NicSpec::AfXdp(AfXdpNic {
            ifname,
            queue,
            queues,
            mode,
            busy_poll,
        }) => {
            let busy_poll = if *busy_poll { " busy-poll on" } else { "" };
            let mode = af_xdp_mode(*mode);
            format!(
                "af_xdp dev {ifname} queue {queue}{} mode {mode}{busy_poll}",
                count(queues)
            )
        }
        NicSpec::Vfio(VfioNic {
            address,
            queues,
            bind,
            unsafe_noiommu,
        }) => {
            let bind = if *bind { " bind" } else { "" };
            let unsafe_noiommu = if *unsafe_noiommu { " unsafe-noiommu" } else { "" };
            format!("vfio {address}{}{bind}{unsafe_noiommu}", count(queues))
        }
    }
}

fn detail_lines(uplink: &Uplink) -> Vec<String> {
    let capabilities = match uplink.capabilities.is_empty() {
        true => "none".to_owned(),
        false => uplink.capabilities.join(" "),
    };
    let used = uplink.queues.iter().filter(|queue| queue.used);
    let used: Vec<String> = used.map(|queue| queue.queue.to_string()).collect();
    let used = match used.is_empty() {
        true => "none".to_owned(),
        false => used.join(","),
    };
    let mut lines = vec![
        format!("    capabilities {capabilities}"),
        format!("    rx queues {} used {used}", uplink.queues.len()),
    ];
    for queue in &uplink.queues {
        let leased = queue.lease.iter().map(lease);
        lines.extend(leased.map(|lease| format!("    queue {} {lease}", queue.queue)));
    }
    lines.extend(uplink.devices.iter().map(device_line));
    lines
}

fn device_line(share: &UplinkShare) -> String {
    let by = match share.share {
        Share::None => return format!("    device {}", share.device),
        Share::Mac => "mac",
        Share::Ip => "ip",
    };
    format!("    device {} {by} {}", share.device, share.addresses.join(" "))
}

fn drop_line(drop: &Drop) -> String {
    format!(
        "    dropped {} {}: {}",
        drop.frames, drop.reason, drop.description
    )
}

/// As `ip` writes states.
fn state(state: UplinkState) -> &'static str {
    match state {
        UplinkState::Up => "UP",
        UplinkState::Down => "DOWN",
        UplinkState::NoCarrier => "NO-CARRIER",
        UplinkState::Missing => "MISSING",
    }
}

fn macvtap_mode(mode: MacvtapMode) -> &'static str {
    match mode {
        MacvtapMode::Bridge => "bridge",
        MacvtapMode::Vepa => "vepa",
        MacvtapMode::Private => "private",
        MacvtapMode::Passthru => "passthru",
    }
}

fn af_xdp_mode(mode: AfXdpMode) -> &'static str {
    match mode {
        AfXdpMode::Auto => "auto",
        AfXdpMode::ZeroCopy => "zero-copy",
        AfXdpMode::Copy => "copy",
    }
}

#[cfg(test)]
pub mod tests {
    use netkit_api::{Statistics, UplinkQueue};

    use super::*;

    /// Shared by two devices; a third one leases its last queue.
    pub fn uplink() -> Uplink {
        let queue = |queue, lease| UplinkQueue {
            queue,
            used: queue < 2 || queue == 15,
            lease,
        };
        let share = |device: &str, share, address: &str| UplinkShare {
            device: device.into(),
            share,
            addresses: vec![address.into()],
        };
        Uplink {
            ifindex: 4,
            name: "wan".into(),
            nic: NicSpec::AfXdp(AfXdpNic {
                ifname: "eth0".into(),
                queue: 0,
                queues: Some(2),
                mode: AfXdpMode::Auto,
                busy_poll: true,
            }),
            state: UplinkState::Up,
            reason: None,
            driver: Some("af_xdp (copy)".into()),
            capabilities: ["csum", "sg"].map(String::from).into(),
            address: "52:54:00:12:34:56".into(),
            mtu: 1500,
            speed: Some(10_000),
            domain: "host".into(),
            queues: vec![
                queue(0, None),
                queue(1, None),
                queue(2, None),
                queue(
                    15,
                    Some(QueueLease {
                        device: "nk0".into(),
                        ifindex: 7,
                        queue: 1,
                        domain: Some("red".into()),
                    }),
                ),
            ],
            devices: vec![
                share("vm1", Share::Mac, "52:54:00:00:00:01"),
                share("vm2", Share::Ip, "10.0.0.0/8"),
            ],
            statistics: Statistics {
                rx_packets: 29,
                rx_bytes: 3193,
                tx_packets: 5,
                tx_bytes: 300,
                ..Statistics::default()
            },
            drops: vec![Drop {
                reason: "no_uplink_device".into(),
                description: "No device shares the uplink under this address.".into(),
                frames: 3,
            }],
        }
    }

    fn missing() -> Uplink {
        Uplink {
            state: UplinkState::Missing,
            reason: Some("eth0 is gone".into()),
            driver: None,
            capabilities: vec![],
            speed: None,
            queues: vec![],
            devices: vec![UplinkShare {
                device: "vm1".into(),
                share: Share::None,
                addresses: vec![],
            }],
            drops: vec![],
            ..uplink()
        }
    }

    const PLAIN: Options = Options {
        json: false,
        pretty: false,
        details: false,
        statistics: false,
    };

    #[test]
    fn three_lines_and_the_reason_if_frames_do_not_flow() {
        assert_eq!(
            text(&uplink(), PLAIN),
            "\
4: wan: mtu 1500 state UP domain host
    link/ether 52:54:00:12:34:56 speed 10000Mb/s
    af_xdp dev eth0 queue 0 queues 2 mode auto busy-poll on driver af_xdp (copy)
"
        );
        assert_eq!(
            text(&missing(), PLAIN),
            "\
4: wan: mtu 1500 state MISSING domain host
    link/ether 52:54:00:12:34:56
    af_xdp dev eth0 queue 0 queues 2 mode auto busy-poll on
    reason: eth0 is gone
"
        );
    }

    #[test]
    fn details_and_statistics() {
        let everything = Options {
            details: true,
            statistics: true,
            ..PLAIN
        };
        let all = text(&uplink(), everything);
        let added = all.lines().skip(3).collect::<Vec<_>>().join("\n");
        assert_eq!(
            added,
            "    capabilities csum sg
    rx queues 4 used 0,1,15
    queue 15 leased to nk0(7) queue 1 domain red
    device vm1 mac 52:54:00:00:00:01
    device vm2 ip 10.0.0.0/8
    RX:  bytes packets errors dropped  missed   mcast
          3193      29      0       0       0       0
    TX:  bytes packets errors dropped carrier collsns
           300       5      0       0       0       0
    dropped 3 no_uplink_device: No device shares the uplink under this address."
        );
        let details = Options {
            details: true,
            ..PLAIN
        };
        let all = text(&missing(), details);
        let added = all.lines().skip(4).collect::<Vec<_>>().join("\n");
        assert_eq!(
            added,
            "    capabilities none\n    rx queues 0 used none\n    device vm1"
        );
    }

    #[test]
    fn a_nic_is_printed_as_it_is_added() {
        use crate::command::Command;
        use crate::link::tests::parse;
        for words in [
            "kernel dev eth0",
            "kernel dev eth0 queues 4",
            "tap dev tap0 queues 2",
            "macvtap dev mv0 mode bridge",
            "macvtap dev mv0 link eth0 mode vepa queues 2",
            "macvtap dev mv0 mode private",
            "macvtap dev mv0 mode passthru",
            "af_xdp dev eth0 queue 3 mode zero-copy",
            "af_xdp dev eth0 queue 0 queues 2 mode copy busy-poll on",
            "af_xdp dev eth0 queue 0 mode auto",
            "vfio 0000:03:00.0",
            "vfio 0000:03:00.0 queues 2 bind unsafe-noiommu",
        ] {
            let line = format!("uplink add wan {words}");
            let Ok(Command::Uplink(crate::uplink::Command::Add(add))) = parse(&line) else {
                panic!("{line}")
            };
            assert_eq!(nic(&add.0.nic), words);
        }
        assert_eq!(state(UplinkState::Down), "DOWN");
        assert_eq!(state(UplinkState::NoCarrier), "NO-CARRIER");
    }
}
