//! nkctl against a fake daemon: what it asks, what it prints and how it exits.

#[path = "../fake/mod.rs"]
mod fake;
mod maps;
mod nics;
mod programs;
mod uplinks;

use std::path::Path;
use std::process::Command;

use fake::{FakeDaemon, device, problem};
use serde_json::{Value, json};

/// What a run of nkctl left.
#[derive(Debug, PartialEq)]
struct Ran {
    code: i32,
    out: String,
    error: String,
}

fn nkctl(socket: &Path, line: &str) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_nkctl"))
        .args(line.split(' '))
        .env("NETKITD_API", socket))
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("nkctl is there");
    Ran {
        code: output.status.code().expect("nkctl was not killed"),
        out: String::from_utf8(output.stdout).expect("nkctl prints text"),
        error: String::from_utf8(output.stderr).expect("nkctl prints text"),
    }
}

fn printed(out: &str) -> Ran {
    Ran {
        code: 0,
        out: out.into(),
        error: String::new(),
    }
}

fn failed(code: i32, error: &str) -> Ran {
    Ran {
        code,
        out: String::new(),
        error: error.into(),
    }
}

/// Runs a command that succeeds, and returns what it asked besides what it printed.
fn answered<const N: usize>(line: &str, answers: [(u16, Value); N]) -> (String, Vec<String>) {
    let daemon = FakeDaemon::answering(answers);
    let ran = nkctl(&daemon.socket(), line);
    assert_eq!((ran.code, ran.error.as_str()), (0, ""), "{line}");
    let lines = daemon.requests().into_iter().map(|request| request.line);
    (ran.out, lines.collect())
}

/// Runs a command that succeeds and prints nothing, and checks what it asked.
fn asks<const N: usize>(line: &str, answers: [(u16, Value); N], expected: &[(&str, Value); N]) {
    let daemon = FakeDaemon::answering(answers);
    assert_eq!(nkctl(&daemon.socket(), line), printed(""), "{line}");
    let requests = daemon.requests();
    let asked: Vec<(&str, Value)> = requests
        .iter()
        .map(|request| (request.line.as_str(), without_nulls(&request.body)))
        .collect();
    assert_eq!(asked, *expected, "{line}");
}

/// To the API null is absent.
fn without_nulls(body: &Value) -> Value {
    let Value::Object(map) = body else {
        return body.clone();
    };
    let said = map.iter().filter(|(_, value)| !value.is_null());
    said.map(|(key, value)| (key.clone(), without_nulls(value)))
        .collect()
}

const DONE: (u16, Value) = (204, Value::Null);

#[test]
fn add_posts_a_device() {
    let line = "link add nk1 mtu 9000 type netkit mode l2 blackhole peer forward name nk0 domain red";
    let made = (201, json!({"primary": "nk1", "peer": "nk0"}));
    let body = json!({
        "name": "nk1", "mtu": 9000, "mode": "l2", "policy": "blackhole", "peer_policy": "forward",
        "peer": {"name": "nk0", "domain": "red"},
    });
    asks(line, [made], &[("POST /v1/devices", body)]);
}

#[test]
fn add_brings_up_what_the_daemon_made() {
    let made = (201, json!({"primary": "nk5", "peer": "nk4"}));
    let up = json!({"up": true});
    asks(
        "link add up type netkit peer up",
        [made, DONE, DONE],
        &[
            ("POST /v1/devices", json!({"peer": {}})),
            ("PATCH /v1/devices/nk4", up.clone()),
            ("PATCH /v1/devices/nk5", up),
        ],
    );
}

#[test]
fn set_and_change_patch() {
    let device = "PATCH /v1/devices/nk0";
    let netkit = "PATCH /v1/devices/nk0/netkit";
    let body = json!({"up": true, "mtu": 1400, "name": "nk9"});
    asks("link set nk0 up mtu 1400 name nk9", [DONE], &[(device, body)]);
    let policy = || json!({"peer_policy": "blackhole"});
    asks(
        "link change nk0 type netkit peer blackhole",
        [DONE],
        &[(netkit, policy())],
    );
    asks(
        "link set nk0 down type netkit peer blackhole",
        [DONE, DONE],
        &[(netkit, policy()), (device, json!({"up": false}))],
    );
    asks("link set nk0", [DONE], &[(device, json!({}))]);
}

#[test]
fn delete_attach_and_detach() {
    let delete = "DELETE /v1/devices/nk0";
    asks("link del nk0", [DONE], &[(delete, Value::Null)]);
    let put = "PUT /v1/devices/nk0/attachment";
    let guest = json!({"kind": "vhost-user", "path": "/run/a.sock", "mode": "client", "queues": 4});
    asks(
        "attach nk0 vhost-user path /run/a.sock mode client queues 4",
        [DONE],
        &[(put, guest)],
    );
    let tap = json!({"kind": "tap", "ifname": "tap0"});
    asks("attach nk0 tap ifname tap0", [DONE], &[(put, tap)]);
    let uplink = json!({"kind": "uplink", "uplink": "wan", "share": "none", "addresses": []});
    asks("attach nk0 uplink wan", [DONE], &[(put, uplink)]);
    let shared = json!({"kind": "uplink", "uplink": "wan", "share": "ip", "addresses": ["10.0.0.1/32"]});
    asks("attach nk0 uplink wan ip 10.0.0.1", [DONE], &[(put, shared)]);
    let delete = "DELETE /v1/devices/nk0/attachment";
    asks("detach nk0", [DONE], &[(delete, Value::Null)]);
}

#[test]
fn show_prints_what_the_daemon_has() {
    let daemon = FakeDaemon::answering([(200, json!([device()])), (200, device()), (200, device())]);
    let plain = "\
1: nk0@nk1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff
";
    assert_eq!(nkctl(&daemon.socket(), "link"), printed(plain));
    let details = "\
1: nk0@nk1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535
    netkit mode l2 type peer policy forward peer policy blackhole scrub default peer scrub none headroom 0 tailroom 0 \
pairing pair numtxqueues 1 numrxqueues 1 domain nk0
    attachment vhost-user path /run/a.sock mode server queues 2 connected
    RX:  bytes packets errors dropped  missed   mcast
            60       1      0       0       0       0
    TX:  bytes packets errors dropped carrier collsns
           120       2      0       3       0       0
";
    assert_eq!(
        nkctl(&daemon.socket(), "-d -s link show dev nk0"),
        printed(details)
    );
    let json = nkctl(&daemon.socket(), "--json -p link show nk0").out;
    assert!(
        json.starts_with("[\n  {\n    \"ifindex\": 1,\n    \"link\": \"nk1\",\n"),
        "{json}"
    );
    let lines: Vec<String> = daemon
        .requests()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        lines,
        ["GET /v1/devices", "GET /v1/devices/nk0", "GET /v1/devices/nk0"]
    );
}

#[test]
fn drops_are_a_table_or_a_friendly_line() {
    let drops = json!([{
        "device": "nk0",
        "drops": [{"reason": "peer_down", "description": "The other end is down.", "frames": 3}],
    }]);
    let daemon = FakeDaemon::answering([
        (200, drops.clone()),
        (200, drops),
        (200, json!([])),
        (200, json!([])),
    ]);
    let table = "\
device  reason     frames  description
nk0     peer_down       3  The other end is down.
";
    assert_eq!(nkctl(&daemon.socket(), "drops"), printed(table));
    let json = "[{\"device\":\"nk0\",\"reason\":\"peer_down\",\"frames\":3,\"description\":\"The other end is down.\"}]\n";
    assert_eq!(nkctl(&daemon.socket(), "-j drops nk0"), printed(json));
    assert_eq!(
        nkctl(&daemon.socket(), "drops nk0"),
        printed("No frame of nk0 was dropped.\n")
    );
    assert_eq!(
        nkctl(&daemon.socket(), "drops"),
        printed("No frame was dropped.\n")
    );
    let lines: Vec<String> = daemon
        .requests()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        lines,
        [
            "GET /v1/drops",
            "GET /v1/devices/nk0/drops",
            "GET /v1/devices/nk0/drops",
            "GET /v1/drops"
        ]
    );
}

#[test]
fn vm_args_are_for_a_device_with_a_guest() {
    let mut tap = device();
    tap["attachment"] = json!({
        "kind": "tap", "queues": 1, "ifname": "tap0", "connected": true, "running": true,
    });
    let mut uplink = device();
    uplink["attachment"] = json!({
        "kind": "uplink", "queues": 1, "uplink": {"uplink": "wan"}, "connected": true, "running": true,
    });
    let daemon = FakeDaemon::answering([
        (200, device()),
        (200, device()),
        (200, device()),
        (200, tap),
        (200, uplink),
    ]);
    let qemu = "-chardev socket,id=char-nk0,path=/run/a.sock,reconnect-ms=1000 \
                -netdev vhost-user,id=net-nk0,chardev=char-nk0,queues=2 \
                -device virtio-net-pci,id=nic-nk0,netdev=net-nk0,mac=52:54:00:00:00:01,mq=on,vectors=6,\
                rx_queue_size=1024,tx_queue_size=1024\n";
    assert_eq!(
        nkctl(&daemon.socket(), "vm args nk0 qemu memory none"),
        printed(qemu)
    );
    let cloud_hypervisor = "--memory size=512M,shared=on --net mac=52:54:00:00:00:01,vhost_user=true,\
                            socket=/run/a.sock,vhost_mode=client,num_queues=4,queue_size=256,mtu=1500\n";
    assert_eq!(
        nkctl(&daemon.socket(), "vm args nk0 cloud-hypervisor"),
        printed(cloud_hypervisor)
    );
    let libvirt = nkctl(&daemon.socket(), "vm args nk0 libvirt");
    assert!(libvirt.out.contains("<mac address='52:54:00:00:00:01'/>"));
    let error = "Error: device \"nk0\" is attached to a tap, not to a vhost-user socket: \"nkctl detach nk0\", then \
                 \"nkctl attach nk0 vhost-user path SOCKET\"\n";
    assert_eq!(nkctl(&daemon.socket(), "vm args nk0 qemu"), failed(1, error));
    let error = "Error: device \"nk0\" is attached to an uplink, not to a vhost-user socket: a guest goes behind its \
                 other end, or \"nkctl detach nk0\", then \"nkctl attach nk0 vhost-user path SOCKET\"\n";
    assert_eq!(nkctl(&daemon.socket(), "vm args nk0 qemu"), failed(1, error));
    daemon.requests();
}

#[test]
fn a_device_that_is_not_there_is_reported_in_the_words_of_ip() {
    let refused = || problem(404, ("ENODEV", 19), "there is no device nosuch");
    for line in [
        "link set nosuch up",
        "link change nosuch type netkit forward",
        "link del nosuch",
        "detach nosuch",
    ] {
        let daemon = FakeDaemon::answering([refused()]);
        assert_eq!(
            nkctl(&daemon.socket(), line),
            failed(1, "Cannot find device \"nosuch\"\n"),
            "{line}"
        );
    }
    for line in [
        "link show nosuch",
        "-j link show nosuch",
        "drops nosuch",
        "vm args nosuch qemu",
    ] {
        let daemon = FakeDaemon::answering([refused()]);
        assert_eq!(
            nkctl(&daemon.socket(), line),
            failed(1, "Device \"nosuch\" does not exist.\n"),
            "{line}"
        );
    }
}

#[test]
fn a_tap_without_a_driver_is_not_mistaken_for_a_device_that_is_not_there() {
    let no_driver = || problem(404, ("ENODEV", 19), "cannot open /dev/net/tun");
    let daemon = FakeDaemon::answering([no_driver(), (200, device())]);
    let error = "Error: cannot open /dev/net/tun (ENODEV: No such device)\n";
    assert_eq!(nkctl(&daemon.socket(), "attach nk0 tap"), failed(2, error));
    let daemon = FakeDaemon::answering([no_driver(), no_driver()]);
    let error = "Cannot find device \"nk0\"\n";
    assert_eq!(nkctl(&daemon.socket(), "attach nk0 tap"), failed(1, error));
}

#[test]
fn a_refusal_is_printed_with_its_errno() {
    let cases = [
        ("link add nk0 type netkit", ("EEXIST", 17), "EEXIST: File exists"),
        (
            "link set nk0 address 02:00:00:00:00:01",
            ("EOPNOTSUPP", 95),
            "EOPNOTSUPP: Operation not supported",
        ),
        (
            "link change nk0 type netkit mode l2",
            ("EACCES", 13),
            "EACCES: Permission denied",
        ),
        ("attach nk0 tap", ("EBUSY", 16), "EBUSY: Device or resource busy"),
    ];
    for (line, errno, text) in cases {
        let daemon = FakeDaemon::answering([problem(409, errno, "cannot do that to nk0")]);
        assert_eq!(
            nkctl(&daemon.socket(), line),
            failed(2, &format!("Error: cannot do that to nk0 ({text})\n")),
            "{line}"
        );
    }
}

#[test]
fn an_answer_of_another_kind_is_an_error_too() {
    let daemon = FakeDaemon::answering([(500, json!("out of order")), (200, json!({"devices": []}))]);
    let error = "Error: netkitd answered GET /v1/devices with status 500: \"\\\"out of order\\\"\"; is something else \
                 listening there?\n";
    assert_eq!(nkctl(&daemon.socket(), "link"), failed(1, error));
    let ran = nkctl(&daemon.socket(), "link");
    let start = "Error: the answer to GET /v1/devices is not of this version's API: ";
    assert!(ran.code == 1 && ran.error.starts_with(start), "{ran:?}");
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let socket = directory.path().join("api.sock");
    let ran = nkctl(&socket, "link");
    let start = format!("Error: there is no netkitd at {socket:?}: start it");
    assert!(ran.code == 1 && ran.error.starts_with(&start), "{ran:?}");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the path is short"));
    let ran = nkctl(&socket, "link");
    let part = format!("nothing listens at {socket:?}");
    assert!(ran.code == 1 && ran.error.contains(&part), "{ran:?}");
}

#[test]
fn the_option_wins_over_the_environment() {
    for option in ["--api", "-api", "-a"] {
        let daemon = FakeDaemon::answering([(200, json!([])), (200, json!([]))]);
        let socket = daemon.socket();
        let elsewhere = Path::new("/nonexistent/api.sock");
        let socket = socket.display();
        assert_eq!(nkctl(elsewhere, &format!("{option} {socket} link")), printed(""));
        assert_eq!(
            nkctl(elsewhere, &format!("--api={socket} -j link")),
            printed("[]\n")
        );
        daemon.requests();
    }
    let default = run(Command::new(env!("CARGO_BIN_EXE_nkctl"))
        .arg("link")
        .env("NETKITD_API", ""));
    assert!(
        default.code == 0 || default.error.contains("/run/netkitd/api.sock"),
        "{default:?}"
    );
}

#[test]
fn a_bad_command_line_never_reaches_the_daemon() {
    let nowhere = Path::new("/nonexistent/api.sock");
    assert_eq!(
        nkctl(nowhere, "link set nk0 mtu xyz"),
        failed(255, "Error: argument \"xyz\" is wrong: Invalid \"mtu\" value\n")
    );
    assert_eq!(
        nkctl(nowhere, "bogus"),
        failed(1, "Object \"bogus\" is unknown, try \"nkctl help\".\n")
    );
    let ran = nkctl(nowhere, "link add nk0 type netkit bogus");
    assert!(
        ran.code == 255
            && ran
                .error
                .starts_with("netkit: unknown option \"bogus\"?\nUsage: ... netkit ")
    );
    let nothing = run(&mut Command::new(env!("CARGO_BIN_EXE_nkctl")));
    assert!(nothing.code == 255 && nothing.error.starts_with("Usage: nkctl "));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let nowhere = Path::new("/nonexistent/api.sock");
    for (line, start) in [
        ("help", "Usage: nkctl [ OPTIONS ] OBJECT"),
        ("-h", "Usage: nkctl [ OPTIONS ] OBJECT"),
        ("link help", "Usage: nkctl link add"),
        ("link help netkit", "Usage: ... netkit"),
        ("attach help", "Usage: nkctl attach"),
        ("drops help", "Usage: nkctl drops"),
        ("vm help", "Usage: nkctl vm args"),
        ("prog help", "Usage: nkctl prog"),
        ("map help", "Usage: nkctl map"),
        ("net help", "Usage: nkctl net"),
        ("link help bpf", "Usage: nkctl link show { bpf"),
        ("trace help", "Usage: nkctl trace"),
        ("route help", "Usage: nkctl route"),
        ("neigh help", "Usage: nkctl neigh"),
        ("worker help", "Usage: nkctl worker"),
        ("uplink help", "Usage: nkctl uplink add"),
        ("queue help", "Usage: nkctl queue"),
        ("nic help", "Usage: nkctl nic"),
        ("-V", "nkctl utility, netkitd-"),
    ] {
        let ran = nkctl(nowhere, line);
        assert!(
            ran.code == 0 && ran.error.is_empty() && ran.out.starts_with(start),
            "{line}: {ran:?}"
        );
    }
}
