//! `link set`, `link change` and `link del`: devices that exist.

use netkit_tests::netkitd::Netkitd;
use serde_json::json;

use crate::{assert_device, device};

/// What `ip` says of a device's carrier: the flags besides the constant ones, and the state.
fn carrier(daemon: &Netkitd, name: &str) -> (String, String) {
    let device = daemon.client().device(name).unwrap();
    let constant = ["BROADCAST", "MULTICAST", "NOARP"];
    let flags = device
        .flags
        .iter()
        .filter(|flag| !constant.contains(&flag.as_str()));
    let flags: Vec<&str> = flags.map(String::as_str).collect();
    (flags.join(","), device.operstate)
}

#[test]
fn the_ends_have_a_carrier_while_both_are_up() {
    const DOWN: (&str, &str) = ("", "DOWN");
    const DOWN_BOTH: (&str, &str) = ("M-DOWN", "DOWN");
    const WAITING: (&str, &str) = ("NO-CARRIER,UP,M-DOWN", "LOWERLAYERDOWN");
    const UP: (&str, &str) = ("UP,LOWER_UP", "UP");
    let daemon = Netkitd::start();
    let steps = [
        ("link add a type netkit peer name b", DOWN_BOTH, DOWN_BOTH),
        ("link set a up", WAITING, DOWN),
        ("link set b up", UP, UP),
        ("link set b up", UP, UP),
        ("link set dev a down", DOWN, WAITING),
        ("link set a up", UP, UP),
        ("link set b down", WAITING, DOWN),
        ("link set a down", DOWN_BOTH, DOWN_BOTH),
        ("link set b up", DOWN, WAITING),
    ];
    for (line, a, b) in steps {
        daemon.ok(line);
        for (name, (flags, state)) in [("a", a), ("b", b)] {
            let expected = (flags.to_owned(), state.to_owned());
            assert_eq!(carrier(&daemon, name), expected, "{name} after {line}");
        }
    }
    daemon.ok("link add s up type netkit single");
    assert_eq!(carrier(&daemon, "s"), ("UP,LOWER_UP".into(), "UP".into()));
}

#[test]
fn every_setting_is_the_ends_own() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit mode l2 peer name b");
    let before = device(&daemon, "b");
    let rows = [
        ("link set a mtu 9000", "a", json!({"mtu": 9000})),
        (
            "link set a address 02:00:00:00:00:01",
            "a",
            json!({"address": "02:00:00:00:00:01"}),
        ),
        (
            "link set a up address 02:00:00:00:00:02",
            "a",
            json!({"address": "02:00:00:00:00:02"}),
        ),
        // Also while it is up.
        (
            "link set a address 02:00:00:00:00:03",
            "a",
            json!({"address": "02:00:00:00:00:03"}),
        ),
        ("link set a down", "a", json!({"operstate": "DOWN"})),
        ("link set a domain red", "a", json!({"domain": "red"})),
        ("link set a name c", "c", json!({"mtu": 9000, "domain": "red"})),
        ("link set c name a mtu 1500", "a", json!({"mtu": 1500})),
    ];
    for (line, name, members) in rows {
        daemon.ok(line);
        assert_device(&daemon, name, &members);
    }
    assert_eq!(device(&daemon, "b"), before);
    // Its ifindex is what a device is known by.
    daemon.ok("link set a name c");
    assert_device(&daemon, "b", &json!({"peer_name": "c"}));
    assert_eq!(daemon.fails(1, "link show a"), "Device \"a\" does not exist.\n");
}

#[test]
fn policies_change_through_the_primary() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit peer name b");
    let rows = [
        ("link change a type netkit blackhole", "blackhole", "forward"),
        (
            "link change a type netkit peer blackhole",
            "blackhole",
            "blackhole",
        ),
        ("link set a type netkit forward", "forward", "blackhole"),
        (
            "link change dev a type netkit blackhole peer forward",
            "blackhole",
            "forward",
        ),
        (
            "link change a type netkit forward peer forward",
            "forward",
            "forward",
        ),
        ("link change a type netkit", "forward", "forward"),
    ];
    for (line, own, peer) in rows {
        daemon.ok(line);
        assert_device(&daemon, "a", &json!({"policy": own, "peer_policy": peer}));
        assert_device(&daemon, "b", &json!({"policy": peer, "peer_policy": own}));
    }
}

#[test]
fn either_end_takes_the_other_with_it() {
    let daemon = Netkitd::start();
    let socket = daemon.path("b.sock");
    for victim in ["link del a", "link delete dev b", "link del b type netkit"] {
        daemon.ok("link add a type netkit peer name b");
        daemon.ok(&format!("attach b vhost-user path {}", socket.display()));
        assert!(socket.exists());
        daemon.ok(victim);
        assert_eq!(daemon.client().devices().unwrap(), []);
        assert!(!socket.exists(), "{victim}");
    }
    daemon.ok("link add s type netkit single");
    daemon.ok("link add type netkit");
    daemon.ok("link del s");
    assert_eq!(daemon.client().devices().unwrap().len(), 2);
    // An ifindex is not given twice.
    assert_device(&daemon, "nk0", &json!({"ifindex": 8}));
}
