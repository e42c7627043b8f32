//! Uplinks, leases of their queues, and the program lists that they have.

use serde_json::{Value, json};

use crate::fake::{FakeDaemon, device, problem};
use crate::{DONE, answered, asks, failed, nkctl, printed};

fn uplink() -> Value {
    json!({
        "ifindex": 4, "name": "wan", "nic": {"kind": "kernel", "ifname": "eth0", "queues": 2}, "state": "nocarrier",
        "reason": "eth0 is down", "driver": "packet sockets", "capabilities": ["csum", "tso4"],
        "address": "02:00:00:00:00:04", "mtu": 1500, "speed": null, "domain": "host",
        "queues": [
            {"queue": 0, "used": true, "lease": null},
            {"queue": 1, "used": true, "lease": {"device": "nk0", "ifindex": 1, "queue": 1, "domain": null}},
        ],
        "devices": [{"device": "nk0", "share": "mac", "addresses": ["02:00:00:00:00:01"]}],
        "statistics": {
            "rx_packets": 1, "rx_bytes": 60, "rx_dropped": 0, "tx_packets": 2, "tx_bytes": 120, "tx_dropped": 3,
        },
        "drops": [{"reason": "no_carrier", "description": "The NIC has no carrier.", "frames": 3}],
    })
}

#[test]
fn add_posts_an_uplink_of_each_kind() {
    let cases = [
        (
            "kernel eth0 domain red index 7",
            json!({"name": "wan", "domain": "red", "ifindex": 7, "nic": {"kind": "kernel", "ifname": "eth0"}}),
        ),
        (
            "tap tap0 queues 2",
            json!({"name": "wan", "nic": {"kind": "tap", "ifname": "tap0", "queues": 2}}),
        ),
        (
            "macvtap mv0 link eth0",
            json!({"name": "wan", "nic": {"kind": "macvtap", "ifname": "mv0", "lower": "eth0", "mode": "bridge"}}),
        ),
        (
            "af_xdp eth0 queue 3 mode zero-copy",
            json!({"name": "wan", "nic": {
                "kind": "af-xdp", "ifname": "eth0", "queue": 3, "mode": "zero-copy", "busy_poll": false,
            }}),
        ),
        (
            "vfio 03:00.0 bind",
            json!({"name": "wan", "nic": {
                "kind": "vfio", "address": "0000:03:00.0", "bind": true, "unsafe_noiommu": false,
            }}),
        ),
    ];
    for (words, body) in cases {
        let made = (201, Value::Null);
        asks(
            &format!("uplink add wan {words}"),
            [made],
            &[("POST /v1/uplinks", body)],
        );
    }
}

#[test]
fn set_and_delete() {
    let body = json!({"up": true, "rx_queues": 4});
    asks(
        "uplink set wan up channels 4",
        [DONE],
        &[("PATCH /v1/uplinks/wan", body)],
    );
    asks(
        "uplink del wan",
        [DONE],
        &[("DELETE /v1/uplinks/wan", Value::Null)],
    );
}

#[test]
fn show_prints_what_the_daemon_has() {
    let (out, asked) = answered("uplink", [(200, json!([uplink()]))]);
    let plain = "\
4: wan: mtu 1500 state NO-CARRIER domain host
    link/ether 02:00:00:00:00:04
    kernel dev eth0 queues 2 driver packet sockets
    reason: eth0 is down
";
    assert_eq!((out.as_str(), asked), (plain, vec!["GET /v1/uplinks".into()]));
    let (out, asked) = answered("-d -s uplink show wan", [(200, uplink())]);
    let everything = format!(
        "{plain}    capabilities csum tso4
    rx queues 2 used 0,1
    queue 1 leased to nk0(1) queue 1
    device nk0 mac 02:00:00:00:00:01
    RX:  bytes packets errors dropped  missed   mcast
            60       1      0       0       0       0
    TX:  bytes packets errors dropped carrier collsns
           120       2      0       3       0       0
    dropped 3 no_carrier: The NIC has no carrier.
"
    );
    assert_eq!((out, asked), (everything, vec!["GET /v1/uplinks/wan".into()]));
    let (out, _) = answered("-j uplink show wan", [(200, uplink())]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json, json!([uplink()]), "all that the API has");
}

#[test]
fn an_uplink_that_is_not_there_is_reported_in_the_words_of_ip() {
    let refused = || problem(404, ("ENODEV", 19), "there is no uplink nosuch");
    let missing = failed(1, "Cannot find device \"nosuch\"\n");
    let daemon = FakeDaemon::answering([refused(), refused()]);
    assert_eq!(nkctl(&daemon.socket(), "uplink set nosuch up"), missing);
    daemon.requests();
    let daemon = FakeDaemon::answering([refused()]);
    assert_eq!(nkctl(&daemon.socket(), "uplink del nosuch"), missing);
    daemon.requests();
    for line in ["uplink show nosuch", "queue show nosuch"] {
        let daemon = FakeDaemon::answering([refused()]);
        let missing = failed(1, "Device \"nosuch\" does not exist.\n");
        assert_eq!(nkctl(&daemon.socket(), line), missing, "{line}");
    }
}

#[test]
fn a_nic_that_is_not_there_is_not_mistaken_for_its_uplink() {
    let gone = problem(404, ("ENODEV", 19), "eth0 is gone");
    let daemon = FakeDaemon::answering([gone, (200, uplink())]);
    let error = "Error: eth0 is gone (ENODEV: No such device)\n";
    assert_eq!(
        nkctl(&daemon.socket(), "uplink set wan channels 4"),
        failed(2, error)
    );
    daemon.requests();
}

#[test]
fn a_lease_says_its_queue_and_whether_the_nic_steers() {
    let daemon = FakeDaemon::answering([
        (201, json!({"queue": 1, "steered": true, "reason": null})),
        (201, json!({"queue": 1, "steered": true, "reason": null})),
        (
            201,
            json!({"queue": 2, "steered": false, "reason": "the driver has no filters"}),
        ),
    ]);
    assert_eq!(
        nkctl(&daemon.socket(), "queue lease nk0 wan 15"),
        printed("queue 1 of nk0 leases queue 15 of wan\n")
    );
    assert_eq!(
        nkctl(&daemon.socket(), "-j queue lease nk0 wan 15"),
        printed("{\"queue\":1,\"steered\":true,\"reason\":null}\n")
    );
    let unsteered = nkctl(&daemon.socket(), "queue lease nk0 wan 14 domain red");
    assert_eq!(
        (unsteered.code, unsteered.out.as_str()),
        (0, "queue 2 of nk0 leases queue 14 of wan\n")
    );
    assert_eq!(
        unsteered.error,
        "Note: wan does not steer the frames for nk0 to this queue, netkitd tells them apart: the driver has no \
         filters\n"
    );
    let requests = daemon.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.line == "POST /v1/devices/nk0/leases")
    );
    assert_eq!(
        requests[0].body,
        json!({"uplink": "wan", "queue": 15, "domain": null, "kind": "rx"})
    );
    assert_eq!(requests[2].body["domain"], "red");
}

#[test]
fn a_lease_tells_a_missing_device_from_a_missing_uplink() {
    let refused = |what: &str| problem(404, ("ENODEV", 19), what);
    let daemon = FakeDaemon::answering([refused("no device nk9"), refused("no device nk9")]);
    assert_eq!(
        nkctl(&daemon.socket(), "queue lease nk9 wan 1"),
        failed(1, "Cannot find device \"nk9\"\n")
    );
    daemon.requests();
    let daemon = FakeDaemon::answering([refused("there is no uplink wan"), (200, device())]);
    let error = "Error: there is no uplink wan (ENODEV: No such device)\n";
    assert_eq!(nkctl(&daemon.socket(), "queue lease nk0 wan 1"), failed(2, error));
    daemon.requests();
}

#[test]
fn queues_are_shown_with_who_leases_them() {
    let (out, asked) = answered("queue show", [(200, json!([uplink()]))]);
    let lines = "wan(4) queue 0 used\nwan(4) queue 1 used leased to nk0(1) queue 1\n";
    assert_eq!((out.as_str(), asked), (lines, vec!["GET /v1/uplinks".into()]));
    let (out, asked) = answered("-j queue show wan", [(200, uplink())]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        json[1],
        json!({"ifindex": 4, "uplink": "wan", "id": 1, "type": "rx", "used": true,
               "lease": {"ifindex": 1, "device": "nk0", "queue": {"id": 1, "type": "rx"}}})
    );
    assert_eq!(asked, ["GET /v1/uplinks/wan"]);
}

#[test]
fn programs_are_attached_to_either_direction_of_an_uplink() {
    let attached = (200, json!({"revision": 2, "link_id": null}));
    asks(
        "net attach tcx_ingress filter dev wan",
        [attached],
        &[(
            "POST /v1/devices/wan/lists/tcx_ingress",
            json!({"program": "filter", "link": false}),
        )],
    );
    asks(
        "net detach tcx_egress filter dev wan",
        [DONE],
        &[(
            "POST /v1/devices/wan/lists/tcx_egress/detach",
            json!({"program": "filter"}),
        )],
    );
    let lists = json!([{
        "device": "wan", "ifindex": 4, "kind": "tcx/ingress", "revision": 2,
        "programs": [{"name": "filter", "prog_id": 7, "link_id": null}],
    }]);
    let (out, asked) = answered("net show dev wan", [(200, lists)]);
    assert_eq!(out, "tc:\nwan(4) tcx/ingress filter prog_id 7\n");
    assert_eq!(asked, ["GET /v1/devices/wan/lists"]);
}
