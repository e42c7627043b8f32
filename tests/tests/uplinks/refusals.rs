//! What cannot be: it is refused with an errno and what to do, and nothing is left of it.

use netkit_tests::outside::{LabConfig, NIC};

use crate::{Bench, UPLINK, Way};

/// All that a host could find of ours: netdevs with their settings, and programs attached to them.
fn traces(bench: &Bench) -> String {
    let links = bench.lab.inside.run("ip -details -oneline link show");
    let programs = bench.lab.inside.run("bpftool net show");
    format!("{links}{programs}")
}

#[test]
fn what_is_refused_says_why_and_what_to_do_and_leaves_nothing() {
    let test = "what_is_refused_says_why_and_what_to_do_and_leaves_nothing";
    let config = LabConfig {
        queues: 2,
        ..LabConfig::default()
    };
    let Some(bench) = Bench::without_uplink(test, Way::Kernel, config) else {
        return;
    };
    let before = traces(&bench);
    let cases = [
        ("kernel nowhere0".to_owned(), "No such device"),
        ("af_xdp nowhere0".to_owned(), "No such device"),
        ("macvtap mv0 link nowhere0".to_owned(), "No such device"),
        ("macvtap mv0".to_owned(), "No such device"),
        ("vfio 0000:ff:1f.7 bind".to_owned(), "No such device"),
        (format!("af_xdp {NIC} queue 2"), "Invalid argument"),
        (format!("af_xdp {NIC} queue 1 queues 2"), "Invalid argument"),
    ];
    for (words, errno) in cases {
        let text = bench.daemon.fails(2, &format!("uplink add {UPLINK} {words}"));
        println!("uplink add {UPLINK} {words}\n{text}");
        assert!(text.contains(errno), "{words}: {text}");
        assert!(text.contains(';'), "{words}: it does not say what to do: {text}");
        assert_eq!(traces(&bench), before, "{words}: something is left");
    }
}

#[test]
fn a_name_a_queue_and_a_wire_are_given_once() {
    let test = "a_name_a_queue_and_a_wire_are_given_once";
    let config = LabConfig {
        queues: 2,
        ..LabConfig::default()
    };
    let Some(bench) = Bench::without_uplink(test, Way::AfXdp, config) else {
        return;
    };
    bench
        .lab
        .inside
        .run("ip link add other0 type veth peer name other1; ip link set other0 up");
    let before = traces(&bench);
    let daemon = &bench.daemon;
    daemon.ok(&format!("uplink add {UPLINK} af_xdp {NIC} queue 0"));
    let while_used = traces(&bench);

    let name = daemon.fails(2, &format!("uplink add {UPLINK} kernel other0"));
    assert!(name.contains("File exists"), "{name}");
    let queue = daemon.fails(2, &format!("uplink add up1 af_xdp {NIC} queue 0"));
    assert!(queue.contains("Device or resource busy"), "{queue}");
    let other_way = daemon.fails(2, &format!("uplink add up1 kernel {NIC}"));
    assert!(other_way.contains("Device or resource busy"), "{other_way}");
    let device = daemon.fails(2, &format!("link add {UPLINK} type netkit"));
    assert!(device.contains("File exists"), "{device}");
    assert_eq!(traces(&bench), while_used);

    daemon.ok("link add a0 type netkit mode l2 peer name a1");
    daemon.ok("link add b0 type netkit mode l2 peer name b1");
    daemon.ok(&format!("attach a0 uplink {UPLINK}"));
    let wire = daemon.fails(2, &format!("attach b0 uplink {UPLINK}"));
    assert!(
        wire.contains("Device or resource busy") && wire.contains("share"),
        "{wire}"
    );
    let other = daemon.fails(2, "attach b0 uplink nowhere");
    assert!(other.contains("nowhere"), "{other}");

    daemon.ok(&format!("uplink del {UPLINK}"));
    assert_eq!(
        traces(&bench),
        before,
        "an uplink that was deleted left something"
    );
    let gone = daemon.fails(1, &format!("uplink del {UPLINK}"));
    assert!(gone.contains("Cannot find device"), "{gone}");
}

#[test]
fn an_uplink_that_is_deleted_or_killed_leaves_the_nic_as_it_was() {
    for way in [Way::Kernel, Way::Macvtap, Way::AfXdp] {
        let test = "an_uplink_that_is_deleted_or_killed_leaves_the_nic_as_it_was";
        let Some(mut bench) = Bench::without_uplink(test, way, LabConfig::default()) else {
            return;
        };
        let before = traces(&bench);
        bench.add_uplink();
        bench.await_state("up");
        bench.daemon.ok(&format!("uplink del {UPLINK}"));
        assert_eq!(traces(&bench), before, "{way:?}");
        // The kernel takes back what belongs to a process; a macvtap is made again under its name.
        if way != Way::Macvtap {
            bench.add_uplink();
            bench.await_state("up");
            bench.daemon.kill();
            assert_eq!(traces(&bench), before, "{way:?}, killed");
        }
    }
}
