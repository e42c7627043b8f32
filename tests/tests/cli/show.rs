//! `link show`: what `ip` would print, for people and for programs.

use netkit_tests::netkitd::Netkitd;
use serde_json::{Value, json};

/// `a` is up in L2 mode, `b` is not; `s` is a single that is up.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add a up address 02:00:00:00:00:0a mtu 9000 type netkit mode l2 blackhole scrub none headroom 8 \
               peer name b address 02:00:00:00:00:0b domain red");
    daemon.ok("link add s up type netkit single");
    daemon
}

fn json(daemon: &Netkitd, words: &str) -> Value {
    serde_json::from_str(&daemon.ok(words)).unwrap()
}

#[test]
fn a_line_for_the_link_and_a_line_for_its_address() {
    let daemon = daemon();
    let b = "\
1: b@a: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:0b brd ff:ff:ff:ff:ff:ff
";
    let a = "\
2: a@b: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 9000 qdisc noqueue state LOWERLAYERDOWN mode DEFAULT group \
default qlen 1000
    link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff
";
    let s = "\
3: s@NONE: <BROADCAST,MULTICAST,NOARP,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 00:00:00:00:00:00 brd ff:ff:ff:ff:ff:ff
";
    let all = [b, a, s].concat();
    for words in ["link show", "link", "l ls", "link show type netkit"] {
        assert_eq!(daemon.ok(words), all, "{words}");
    }
    for words in ["link show a", "link show dev a", "link list a up"] {
        assert_eq!(daemon.ok(words), a, "{words}");
    }
    assert_eq!(daemon.ok("link show up"), [a, s].concat());
    assert_eq!(daemon.ok("link show b up"), "");
    assert_eq!(daemon.ok("link show type veth"), "");
}

#[test]
fn details_add_the_netkit_line_and_statistics_their_table() {
    let daemon = daemon();
    let details = daemon.ok("-d link show a");
    let lines: Vec<&str> = details.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "    link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535",
            "    netkit mode l2 type primary policy blackhole peer policy forward scrub none peer scrub default headroom 8 \
             tailroom 0 pairing pair numtxqueues 1 numrxqueues 1 domain host",
            "    attachment none",
        ]
    );
    let peer = daemon.ok("-details link show b");
    let netkit = "    netkit mode l2 type peer policy forward peer policy blackhole scrub default peer scrub none headroom 8 \
                  tailroom 0 pairing pair numtxqueues 1 numrxqueues 1 domain red\n";
    assert!(peer.contains(netkit), "{peer}");
    let single = daemon.ok("-d link show s");
    let netkit = "    netkit mode l3 type primary policy forward headroom 0 tailroom 0 pairing single numtxqueues 1 \
                  numrxqueues 1 domain host\n";
    assert!(single.contains(netkit), "{single}");

    let statistics = daemon.ok("-s link show a");
    let lines: Vec<&str> = statistics.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "    RX:  bytes packets errors dropped  missed   mcast",
            "             0       0      0       0       0       0",
            "    TX:  bytes packets errors dropped carrier collsns",
            "             0       0      0       0       0       0",
        ]
    );
}

#[test]
fn json_has_the_members_of_ip() {
    let daemon = daemon();
    let plain = json!([{
        "ifindex": 2, "link": "b", "ifname": "a", "flags": ["NO-CARRIER", "BROADCAST", "MULTICAST", "UP", "M-DOWN"],
        "mtu": 9000, "qdisc": "noqueue", "operstate": "LOWERLAYERDOWN", "linkmode": "DEFAULT", "group": "default",
        "txqlen": 1000, "link_type": "ether", "address": "02:00:00:00:00:0a", "broadcast": "ff:ff:ff:ff:ff:ff",
    }]);
    assert_eq!(json(&daemon, "-j link show a"), plain);

    let counters = json!({"bytes": 0, "packets": 0, "errors": 0, "dropped": 0});
    let with = |more: Value| -> Value {
        let members = counters.as_object().unwrap().clone().into_iter();
        members.chain(more.as_object().unwrap().clone()).collect()
    };
    let more = json!({
        "promiscuity": 0, "allmulti": 0, "min_mtu": 68, "max_mtu": 65535,
        "linkinfo": {"info_kind": "netkit", "info_data": {
            "mode": "l2", "type": "primary", "policy": "blackhole", "peer_policy": "forward", "scrub": "none",
            "peer_scrub": "default", "headroom": 8, "tailroom": 0, "pairing": "pair",
        }},
        "num_tx_queues": 1, "num_rx_queues": 1, "domain": "host",
        "attachment": {"kind": "none", "queues": 0, "connected": false, "running": false},
        "stats64": {
            "rx": with(json!({"over_errors": 0, "multicast": 0})),
            "tx": with(json!({"carrier_errors": 0, "collisions": 0})),
        },
    });
    let members = plain[0].as_object().unwrap().clone().into_iter();
    let all: Value = members.chain(more.as_object().unwrap().clone()).collect();
    assert_eq!(json(&daemon, "-j -d -s link show a"), json!([all]));

    let single = &json(&daemon, "-d -j link show s")[0];
    assert_eq!(single["link"], Value::Null);
    assert_eq!(
        single["linkinfo"]["info_data"],
        json!({
            "mode": "l3", "type": "primary", "policy": "forward", "headroom": 0, "tailroom": 0, "pairing": "single",
        })
    );
    let names = |words| -> Vec<Value> {
        let links = json(&daemon, words);
        links
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["ifname"].clone())
            .collect()
    };
    assert_eq!(names("-j link show"), ["b", "a", "s"]);
    assert_eq!(names("-json link show up"), ["a", "s"]);
    assert_eq!(names("-j link show type veth"), [""; 0]);
    assert_eq!(json(&daemon, "-j -p link show a"), plain);
    assert!(daemon.ok("-j -p link show a").lines().count() > 10);
}
