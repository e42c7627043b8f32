//! `uplink`, `queue` and `nic`: NICs that the daemon sends through, on a veth of the host.

use std::path::Path;
use std::process::Command;

use netkit_tests::needs;
use netkit_tests::netkitd::Netkitd;
use serde_json::Value;

use crate::assert_has;

/// One end of a veth with two queues, which goes with the test.
struct Veth {
    near: String,
    far: String,
}

impl Veth {
    /// Both ends are up. `which` tells the tests of this process apart.
    fn new(which: &str) -> Veth {
        let name = |end: &str| format!("nkup{which}{}{end}", std::process::id());
        let veth = Veth {
            near: name("a"),
            far: name("b"),
        };
        let queues = ["numrxqueues", "2", "numtxqueues", "2"];
        let peer = ["type", "veth", "peer", "name", &veth.far];
        ip(&[&["link", "add", &veth.near][..], &queues, &peer, &queues].concat());
        for end in [&veth.near, &veth.far] {
            ip(&["link", "set", end, "up"]);
        }
        veth
    }

    fn address(&self) -> String {
        let path = Path::new("/sys/class/net").join(&self.near).join("address");
        let address = std::fs::read_to_string(path).expect("a netdev has an address");
        address.trim().to_owned()
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", &self.near]).status().ok();
    }
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("ip is there");
    assert!(status.success(), "ip {}", words.join(" "));
}

fn needs_veth(test: &str) -> bool {
    needs::taps(test) && needs::program(test, "ip")
}

fn json(daemon: &Netkitd, words: &str) -> Value {
    serde_json::from_str(&daemon.ok(&format!("-j {words}"))).expect("JSON")
}

#[test]
fn an_uplink_is_made_shown_changed_and_deleted() {
    if !needs_veth("an_uplink_is_made_shown_changed_and_deleted") {
        return;
    }
    let veth = Veth::new("m");
    let daemon = Netkitd::start();
    assert_eq!(daemon.ok("uplink"), "");
    daemon.ok(&format!(
        "uplink add wan domain red index 77 kernel {} queues 2",
        veth.near
    ));
    let shown = daemon.ok("uplink show wan");
    assert_has(
        &shown,
        &[
            "77: wan: mtu 1500 state UP domain red\n",
            &format!("\n    link/ether {}", veth.address()),
            &format!("\n    kernel dev {} queues 2", veth.near),
        ],
    );
    assert_eq!(daemon.ok("uplink"), shown);
    assert_has(
        &daemon.ok("-d uplink"),
        &["\n    capabilities ", "\n    rx queues 2 used "],
    );
    assert_has(&daemon.ok("-s uplink"), &["\n    RX: ", "\n    TX: "]);
    let uplinks = json(&daemon, "uplink");
    assert_eq!(
        (&uplinks[0]["name"], &uplinks[0]["state"]),
        (&"wan".into(), &"up".into())
    );

    daemon.ok("uplink set wan down");
    assert_has(&daemon.ok("uplink show wan"), &["77: wan: mtu 1500 state DOWN "]);
    daemon.ok("uplink set wan up");
    assert_eq!(daemon.ok("uplink show wan"), shown);

    daemon.ok("uplink del wan");
    assert_eq!(daemon.ok("uplink"), "");
    assert_eq!(
        daemon.fails(1, "uplink show wan"),
        "Device \"wan\" does not exist.\n"
    );
    assert_eq!(
        daemon.fails(1, "uplink set wan up"),
        "Cannot find device \"wan\"\n"
    );
    assert_eq!(daemon.fails(1, "uplink del wan"), "Cannot find device \"wan\"\n");
}

#[test]
fn devices_are_wired_to_an_uplink_or_share_it() {
    if !needs_veth("devices_are_wired_to_an_uplink_or_share_it") {
        return;
    }
    let veth = Veth::new("s");
    let daemon = Netkitd::start();
    daemon.ok(&format!("uplink add wan kernel {}", veth.near));
    daemon.ok("link add a type netkit mode l2 peer name b");
    daemon.ok("link add c type netkit peer name d");

    daemon.ok("attach a uplink wan");
    assert_has(
        &daemon.ok("-d link show a"),
        &["\n    attachment uplink wan queues "],
    );
    assert_has(&daemon.ok("-d uplink show wan"), &["\n    device a\n"]);
    assert_has(
        &daemon.fails(1, "vm args a qemu"),
        &["is attached to an uplink", "nkctl detach a"],
    );
    daemon.ok("detach a");

    daemon.ok("attach a uplink wan mac 02:00:00:00:00:0a 02:00:00:00:00:0b");
    daemon.ok("attach c uplink wan ip 10.1.0.0/16 2001:db8::/64");
    assert_has(
        &daemon.ok("-d uplink show wan"),
        &[
            "\n    device a mac 02:00:00:00:00:0a 02:00:00:00:00:0b\n",
            "\n    device c ip 10.1.0.0/16 2001:db8::/64\n",
        ],
    );
    assert_has(
        &daemon.ok("-d link show c"),
        &["\n    attachment uplink wan ip 10.1.0.0/16 2001:db8::/64 queues "],
    );
    daemon.ok("detach a");
    daemon.ok("detach c");
    assert!(!daemon.ok("-d uplink show wan").contains("device "));
}

#[test]
fn a_lease_is_seen_from_the_side_of_the_uplink() {
    if !needs_veth("a_lease_is_seen_from_the_side_of_the_uplink") {
        return;
    }
    let veth = Veth::new("l");
    let daemon = Netkitd::start();
    daemon.ok(&format!(
        "uplink add wan af_xdp {} queue 0 queues 2 mode copy",
        veth.near
    ));
    daemon.ok("link add lone numrxqueues 4 type netkit single");
    assert_eq!(
        daemon.ok("queue lease lone wan 1"),
        "queue 1 of lone leases queue 1 of wan\n"
    );
    let queues = json(&daemon, "queue show wan");
    let leased = queues
        .as_array()
        .expect("an array")
        .iter()
        .find(|it| it["id"] == 1);
    let lease = &leased.expect("the uplink has a queue 1")["lease"];
    assert_eq!(
        (&lease["device"], &lease["queue"]["id"]),
        (&"lone".into(), &1.into())
    );
    assert_has(&daemon.ok("queue show wan"), &["queue 1 ", "leased to lone("]);
    // As a physical netdev takes its lessees with it.
    daemon.ok("uplink del wan");
    assert_eq!(
        daemon.fails(1, "link show lone"),
        "Device \"lone\" does not exist.\n"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit mode l2 peer name b");
    for (words, what) in [
        ("uplink add wan kernel nosuch0", "nosuch0"),
        ("attach a uplink nosuch1", "nosuch1"),
        ("queue lease a nosuch2 1", "nosuch2"),
        ("nic show ffff:ff:1f.7", "ffff:ff:1f.7"),
        ("nic pass ffff:ff:1f.7 dry-run", "ffff:ff:1f.7"),
        ("nic return ffff:ff:1f.7", "ffff:ff:1f.7"),
    ] {
        assert_has(&daemon.fails(2, words), &["Error: ", what]);
    }
    assert_eq!(
        daemon.fails(1, "attach nosuch uplink wan"),
        "Cannot find device \"nosuch\"\n"
    );
    assert_eq!(
        daemon.fails(1, "queue lease nosuch wan 1"),
        "Cannot find device \"nosuch\"\n"
    );
    assert!(json(&daemon, "nic").is_array());
}
