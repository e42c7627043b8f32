//! What is refused: with which errno and exit code, and in words that name the object and say what to do.

use netkit_tests::netkitd::Netkitd;

use crate::{assert_has, device};

/// `pp` and `pe` are a pair in L3 mode, `qp` and `qe` one in L2 mode, `s` is a single.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add pp type netkit peer name pe");
    daemon.ok("link add qp type netkit mode l2 peer name qe");
    daemon.ok("link add s type netkit single");
    daemon
}

/// A command, the errno's name, and what the refusal says besides.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Asserts that the daemon refuses every command, and that none has changed a device.
fn assert_refused(rows: &[Row]) {
    let daemon = daemon();
    let before = daemon.client().devices().unwrap();
    for (line, errno, parts) in rows {
        let text = daemon.fails(2, line);
        assert_has(&text, &["Error: ", &format!("({errno}: ")]);
        assert_has(&text, parts);
        assert_eq!(daemon.client().devices().unwrap(), before, "{line}");
    }
}

#[test]
fn what_the_kernel_refuses_to_create() {
    const L3_ADDRESS: &[&str] = &["x", "l3 mode", "use l2"];
    const ADDRESS: &[&str] = &["x", "unicast and not zero"];
    assert_refused(&[
        (
            "link add x address 02:00:00:00:00:01 type netkit",
            "EOPNOTSUPP",
            L3_ADDRESS,
        ),
        (
            "link add x address 02:00:00:00:00:01 type netkit mode l3",
            "EOPNOTSUPP",
            L3_ADDRESS,
        ),
        (
            "link add y type netkit peer x address 02:00:00:00:00:01",
            "EOPNOTSUPP",
            L3_ADDRESS,
        ),
        (
            "link add x address 01:00:5e:00:00:01 type netkit mode l2",
            "EADDRNOTAVAIL",
            ADDRESS,
        ),
        (
            "link add x address ff:ff:ff:ff:ff:ff type netkit mode l2",
            "EADDRNOTAVAIL",
            ADDRESS,
        ),
        (
            "link add x address 00:00:00:00:00:00 type netkit mode l2",
            "EADDRNOTAVAIL",
            ADDRESS,
        ),
        (
            "link add y type netkit mode l2 peer x address 33:33:00:00:00:01",
            "EADDRNOTAVAIL",
            ADDRESS,
        ),
        (
            "link add x mtu 67 type netkit",
            "EINVAL",
            &["mtu less than device minimum", "x", "68 to 65535"],
        ),
        (
            "link add x mtu 0 type netkit",
            "EINVAL",
            &["mtu less than device minimum"],
        ),
        (
            "link add x mtu 65536 type netkit",
            "EINVAL",
            &["mtu greater than device maximum", "68 to 65535"],
        ),
        (
            "link add y type netkit peer x mtu 67",
            "EINVAL",
            &["mtu less than device minimum", "x"],
        ),
        (
            "link add x numrxqueues 0 type netkit",
            "EINVAL",
            &["Invalid number of receive queues", "x"],
        ),
        (
            "link add x numrxqueues 4097 type netkit",
            "EINVAL",
            &["Invalid number of receive queues", "4097"],
        ),
        (
            "link add x numtxqueues 0 type netkit",
            "EINVAL",
            &["Invalid number of transmit queues", "x"],
        ),
        (
            "link add x numrxqueues 1025 type netkit",
            "EOPNOTSUPP",
            &["1025", "at most 1024"],
        ),
        (
            "link add x numtxqueues 2 type netkit",
            "EOPNOTSUPP",
            &["2 transmit queues", "at most 1"],
        ),
        (
            "link add y type netkit peer x numrxqueues 1025",
            "EOPNOTSUPP",
            &["x", "at most 1024"],
        ),
    ]);
}

#[test]
fn what_a_single_cannot_have() {
    assert_refused(&[
        (
            "link add x type netkit single blackhole",
            "EOPNOTSUPP",
            &["single", "policy other than forward"],
        ),
        (
            "link add x type netkit single scrub none",
            "EOPNOTSUPP",
            &["single", "a scrub", "create a pair"],
        ),
        (
            "link add x type netkit single scrub default",
            "EOPNOTSUPP",
            &["single", "a scrub"],
        ),
        (
            "link add x type netkit single peer forward",
            "EOPNOTSUPP",
            &["single", "a peer policy"],
        ),
        (
            "link add x type netkit single peer scrub none",
            "EOPNOTSUPP",
            &["single", "a peer scrub"],
        ),
        (
            "link add x type netkit single peer name y",
            "EOPNOTSUPP",
            &["single", "a peer"],
        ),
        (
            "link change s type netkit forward",
            "EOPNOTSUPP",
            &["policy of s", "single"],
        ),
        (
            "link change s type netkit blackhole",
            "EOPNOTSUPP",
            &["policy of s", "single"],
        ),
        (
            "link change s type netkit peer blackhole",
            "EOPNOTSUPP",
            &["peer policy of s", "single"],
        ),
    ]);
}

#[test]
fn names_and_numbers_that_are_taken_or_impossible() {
    assert_refused(&[
        (
            "link add pp type netkit",
            "EEXIST",
            &["\"pp\"", "choose another name"],
        ),
        ("link add pe type netkit", "EEXIST", &["\"pe\""]),
        ("link add x type netkit peer name qe", "EEXIST", &["\"qe\""]),
        ("link add x type netkit peer name x", "EEXIST", &["\"x\""]),
        ("link set pp name qp", "EEXIST", &["\"qp\""]),
        (
            "link add x index 1 type netkit",
            "EEXIST",
            &["ifindex 1", "choose another"],
        ),
        (
            "link add x index 77 type netkit peer index 2",
            "EBUSY",
            &["ifindex 2", "choose another"],
        ),
        ("link add . type netkit", "EINVAL", &["\".\"", "directory"]),
        ("link add .. type netkit", "EINVAL", &["\"..\"", "directory"]),
        ("link add a:b type netkit", "EINVAL", &["\"a:b\"", "colon"]),
        ("link add x%s type netkit", "EINVAL", &["\"x%s\"", "one %d"]),
        ("link add x%d%d type netkit", "EINVAL", &["%d"]),
        ("link set pp name a:b", "EINVAL", &["\"a:b\"", "colon"]),
        (
            "link add x domain a/b type netkit",
            "EINVAL",
            &["\"a/b\"", "domain"],
        ),
        (
            "link add x type netkit peer domain ..",
            "EINVAL",
            &["\"..\"", "domain"],
        ),
        ("link set pp domain a/b", "EINVAL", &["\"a/b\"", "domain"]),
    ]);
}

#[test]
fn what_cannot_change() {
    const FIXED: &str = "cannot be changed after device creation; delete pp";
    const PEER: &[&str] = &[
        "netkit link settings can be changed only through the primary device",
        "pe",
    ];
    assert_refused(&[
        (
            "link change pp type netkit mode l2",
            "EACCES",
            &["netkit link operating mode", FIXED],
        ),
        (
            "link change pp type netkit mode l3",
            "EACCES",
            &["netkit link operating mode", FIXED],
        ),
        (
            "link change pp type netkit scrub none",
            "EACCES",
            &["netkit link scrubbing", FIXED],
        ),
        (
            "link change pp type netkit peer scrub none",
            "EACCES",
            &["netkit link peer scrubbing", FIXED],
        ),
        (
            "link change pp type netkit peer name x",
            "EACCES",
            &["netkit link peer info", FIXED],
        ),
        (
            "link change pp type netkit headroom 8",
            "EACCES",
            &["netkit link headroom", FIXED],
        ),
        (
            "link change pp type netkit tailroom 8",
            "EACCES",
            &["netkit link tailroom", FIXED],
        ),
        (
            "link change pp type netkit single",
            "EACCES",
            &["netkit link pairing", FIXED],
        ),
        // Found before anything is applied.
        (
            "link change pp type netkit blackhole mode l2",
            "EACCES",
            &["netkit link operating mode", FIXED],
        ),
        (
            "link set pp mtu 1400 type netkit blackhole scrub none",
            "EACCES",
            &["netkit link scrubbing", FIXED],
        ),
        ("link change pe type netkit blackhole", "EACCES", PEER),
        ("link change pe type netkit mode l2", "EACCES", PEER),
        ("link change pe type netkit peer forward", "EACCES", PEER),
        (
            "link set pp address 02:00:00:00:00:01",
            "EOPNOTSUPP",
            &["pp", "l3 mode"],
        ),
        (
            "link set pe address 02:00:00:00:00:01",
            "EOPNOTSUPP",
            &["pe", "l3 mode"],
        ),
        (
            "link set qp address 01:00:00:00:00:01",
            "EADDRNOTAVAIL",
            &["qp", "unicast"],
        ),
        (
            "link set qp address 00:00:00:00:00:00",
            "EADDRNOTAVAIL",
            &["qp", "not zero"],
        ),
        (
            "link set qp mtu 67",
            "EINVAL",
            &["qp", "mtu less than device minimum"],
        ),
        (
            "link set qp mtu 65536",
            "EINVAL",
            &["qp", "mtu greater than device maximum"],
        ),
    ]);
}

#[test]
fn a_device_that_is_not_there() {
    let daemon = daemon();
    for line in [
        "link set nosuch up",
        "link change nosuch type netkit blackhole",
        "link del nosuch",
        "attach nosuch vhost-user path /tmp/nosuch.sock",
        "attach nosuch tap",
        "detach nosuch",
    ] {
        assert_eq!(daemon.fails(1, line), "Cannot find device \"nosuch\"\n", "{line}");
    }
    for line in [
        "link show nosuch",
        "-j -d -s link show nosuch",
        "drops nosuch",
        "vm args nosuch qemu",
    ] {
        assert_eq!(
            daemon.fails(1, line),
            "Device \"nosuch\" does not exist.\n",
            "{line}"
        );
    }
}

#[test]
fn a_command_line_without_sense_changes_nothing() {
    let daemon = daemon();
    let before = daemon.client().devices().unwrap();
    let rows = [
        (
            "link add sixteen-octets-x type netkit",
            "\"sixteen-octets-x\" is wrong: \"dev\" not a valid ifname",
        ),
        ("link add a/b type netkit", "\"a/b\" is wrong"),
        (
            "link add x type netkit mode l4",
            "\"mode\" must be either \"l3\" or \"l2\"",
        ),
        (
            "link add x type netkit scrub all",
            "scrub must be either \"none\" or \"default\"",
        ),
        (
            "link add x type netkit headroom 65536",
            "Invalid \"headroom\" value",
        ),
        ("link add x type netkit tailroom -1", "Invalid \"tailroom\" value"),
        ("link add x type netkit drop", "unknown option \"drop\""),
        ("link add x type netkit mode l2 mode l2", "duplicate \"mode\""),
        ("link add x mtu 1e3 type netkit", "Invalid \"mtu\" value"),
        (
            "link add x address 02:00:00:00:00 type netkit mode l2",
            "must be 6 bytes",
        ),
        (
            "link add x address zz:00:00:00:00:00 type netkit mode l2",
            "invalid lladdr",
        ),
        ("link add x", "\"type\" argument is required"),
        ("link set pp index 5", "only when creating"),
        ("link set pp master br0", "not supported"),
        ("link set", "\"dev\" argument is required"),
        ("attach pp veth", "must be vhost-user, tap or uplink"),
        ("attach pp uplink wan share ip", "\"ip\" argument is required"),
        ("attach pp vhost-user", "\"path\" argument is required"),
        ("attach pp vhost-user path /tmp/x mode both", "must be server"),
        (
            "attach pp vhost-user path /tmp/x queues -1",
            "Invalid \"queues\" value",
        ),
        ("vm args pp xen", "must be qemu, cloud-hypervisor or libvirt"),
        ("drops pp pe", "Garbage"),
        (
            "uplink add wan veth eth0",
            "must be kernel, tap, macvtap, af_xdp or vfio",
        ),
        ("uplink add wan vfio eth0", "a PCI address such as 0000:03:00.0"),
        ("queue lease pp wan", "not complete"),
        ("nic pass 03:00.0 socket /tmp/x", "say whose it is"),
        ("nic return 03:00.0 qemu", "\"socket\" argument is required"),
    ];
    for (line, part) in rows {
        assert_has(&daemon.fails(255, line), &[part]);
    }
    assert_has(&daemon.fails(2, "link add x type veth"), &["Unknown device type"]);
    assert_has(&daemon.fails(1, "bridge show"), &["Object \"bridge\" is unknown"]);
    assert_eq!(daemon.client().devices().unwrap(), before);
}

#[test]
fn settings_before_the_one_that_is_refused_stay_as_with_ip() {
    let daemon = daemon();
    // The kernel applies the type's own options first, the address before the MTU, and up last.
    daemon.fails(2, "link set qp address 02:00:00:00:00:77 mtu 1 up");
    let shown = device(&daemon, "qp");
    assert_eq!(
        (&shown["address"], &shown["mtu"]),
        (&"02:00:00:00:00:77".into(), &1500.into())
    );
    assert_eq!(shown["operstate"], "DOWN");
    daemon.fails(2, "link set qp mtu 1 type netkit blackhole");
    assert_eq!(device(&daemon, "qp")["policy"], "blackhole");
}
