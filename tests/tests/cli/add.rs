//! `link add`: the kernel's defaults, and every word that changes one of them.

use std::collections::HashSet;

use netkit_tests::netkitd::Netkitd;
use serde_json::{Value, json};

use crate::{assert_device, device};

#[test]
fn a_pair_has_the_kernels_defaults() {
    let daemon = Netkitd::start();
    daemon.ok("link add type netkit");
    // The peer is made first, so it has the lower number and ifindex.
    let peer = json!({
        "ifindex": 1, "name": "nk0", "peer_ifindex": 2, "peer_name": "nk1", "primary": false, "domain": "if1",
    });
    let primary = json!({
        "ifindex": 2, "name": "nk1", "peer_ifindex": 1, "peer_name": "nk0", "primary": true, "domain": "host",
    });
    let both = json!({
        "mode": "l3", "pairing": "pair", "address": "00:00:00:00:00:00", "mtu": 1500,
        "flags": ["BROADCAST", "MULTICAST", "NOARP", "M-DOWN"], "operstate": "DOWN",
        "policy": "forward", "peer_policy": "forward", "scrub": "default", "peer_scrub": "default",
        "headroom": 0, "tailroom": 0, "num_rx_queues": 1, "num_tx_queues": 1,
        "attachment": {
            "kind": "none", "path": null, "mode": null, "queues": 0, "ifname": null, "uplink": null, "connected": false,
            "running": false, "guest_address": null, "features": null,
        },
        "statistics": {
            "rx_packets": 0, "rx_bytes": 0, "rx_dropped": 0, "tx_packets": 0, "tx_bytes": 0, "tx_dropped": 0,
        },
    });
    for (name, own) in [("nk0", peer), ("nk1", primary)] {
        let members = own.as_object().unwrap().clone().into_iter();
        let all: Value = members.chain(both.as_object().unwrap().clone()).collect();
        assert_eq!(device(&daemon, name), all);
    }
}

#[test]
fn every_word_does_what_it_says() {
    let daemon = Netkitd::start();
    let rows = [
        (
            "link add a type netkit",
            "a",
            json!({"mode": "l3", "peer_name": "nk0", "primary": true}),
        ),
        ("link add name b type netkit", "b", json!({"peer_name": "nk1"})),
        ("link add dev c type netkit", "c", json!({"peer_name": "nk2"})),
        (
            "li a d mtu 1400 numrx 2 ty netkit mode l3",
            "d",
            json!({"mtu": 1400, "num_rx_queues": 2}),
        ),
        (
            "link add vm%d type netkit peer name vm%d",
            "vm1",
            json!({"peer_name": "vm0"}),
        ),
        (
            "link add e address 2:0:0:0:0:e type netkit mode l2",
            "e",
            json!({
                "mode": "l2", "address": "02:00:00:00:00:0e", "flags": ["BROADCAST", "MULTICAST", "M-DOWN"],
            }),
        ),
        // Without words of its own the peer takes the primary's link attributes.
        (
            "link add f mtu 9000 numrxqueues 4 type netkit peer",
            "f",
            json!({"mtu": 9000, "num_rx_queues": 4}),
        ),
        (
            "link show",
            "nk5",
            json!({"peer_name": "f", "mtu": 9000, "num_rx_queues": 4}),
        ),
        (
            "link add g mtu 9000 numrxqueues 4 type netkit peer name gp",
            "g",
            json!({"mtu": 9000}),
        ),
        (
            "link show",
            "gp",
            json!({"mtu": 1500, "num_rx_queues": 1, "primary": false}),
        ),
        (
            "link add h mtu 68 numrxqueues 1024 numtxqueues 1 txqlen 5 type netkit",
            "h",
            json!({"mtu": 68, "num_rx_queues": 1024}),
        ),
        ("link add i mtu 65535 type netkit", "i", json!({"mtu": 65535})),
        (
            "link add j type netkit mode l2 peer name jp address 02:00:00:00:00:0b mtu 1280 domain red numrxqueues 2",
            "jp",
            json!({"address": "02:00:00:00:00:0b", "mtu": 1280, "domain": "red", "num_rx_queues": 2}),
        ),
        (
            "link add k domain blue type netkit peer kp netns green",
            "k",
            json!({"domain": "blue"}),
        ),
        ("link show", "kp", json!({"domain": "green"})),
        (
            "link add l type netkit blackhole",
            "l",
            json!({"policy": "blackhole", "peer_policy": "forward"}),
        ),
        (
            "link add m type netkit forward peer blackhole name mp",
            "m",
            json!({"policy": "forward", "peer_policy": "blackhole"}),
        ),
        (
            "link show",
            "mp",
            json!({"policy": "blackhole", "peer_policy": "forward"}),
        ),
        (
            "link add n type netkit scrub none",
            "n",
            json!({"scrub": "none", "peer_scrub": "default"}),
        ),
        (
            "link add o type netkit scrub default peer scrub none op",
            "o",
            json!({"scrub": "default", "peer_scrub": "none"}),
        ),
        (
            "link show",
            "op",
            json!({"scrub": "none", "peer_scrub": "default"}),
        ),
        // What is asked for one end is needed by what it hands to the other: both ends have it.
        (
            "link add p type netkit headroom 32 tailroom 8 peer pp",
            "p",
            json!({"headroom": 32, "tailroom": 8}),
        ),
        ("link show", "pp", json!({"headroom": 32, "tailroom": 8})),
        (
            "link add s type netkit single",
            "s",
            json!({
                "pairing": "single", "primary": true, "peer_name": null, "peer_ifindex": null, "mode": "l3",
                "scrub": null, "peer_scrub": null, "policy": "forward", "peer_policy": null,
                "flags": ["BROADCAST", "MULTICAST", "NOARP"], "operstate": "DOWN",
            }),
        ),
        (
            "link add t type netkit single forward mode l2 headroom 65535 tailroom 1",
            "t",
            json!({"pairing": "single", "mode": "l2", "headroom": 65535, "tailroom": 1}),
        ),
        (
            "link add u index 1000 type netkit peer index 999",
            "u",
            json!({"ifindex": 1000, "peer_ifindex": 999}),
        ),
        (
            "link add v up type netkit peer vp up",
            "v",
            json!({"operstate": "UP"}),
        ),
        ("link show", "vp", json!({"operstate": "UP"})),
    ];
    for (line, name, members) in rows {
        daemon.ok(line);
        assert_device(&daemon, name, &members);
    }
}

#[test]
fn addresses_that_nobody_chose_are_random_local_and_unicast() {
    let daemon = Netkitd::start();
    for _ in 0..10 {
        daemon.ok("link add type netkit mode l2");
    }
    let devices = daemon.client().devices().unwrap();
    let addresses: HashSet<&str> = devices.iter().map(|device| device.address.as_str()).collect();
    assert_eq!(addresses.len(), 20);
    for address in addresses {
        let first = u8::from_str_radix(&address[..2], 16).unwrap();
        assert_eq!(first & 3, 2, "{address}");
    }
}

#[test]
fn the_daemon_takes_as_many_workers_as_it_is_given() {
    let daemon = Netkitd::with(&["--workers", "3"]);
    assert_eq!(daemon.client().daemon().unwrap().workers, 3);
}
