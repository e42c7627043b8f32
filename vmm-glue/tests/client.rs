//! The client as a library, against a fake daemon.

mod fake;

use std::os::unix::net::UnixListener;
use std::time::Duration;

use fake::{FakeDaemon, device, problem};
use netkit_api::{
    AttachmentKind, AttachmentSpec, Daemon, DeviceCreate, DeviceSet, LeaseCreate, NetkitChange, NicPass,
    NicSpec, Policy, QueueKind, TapNic, TapSpec, UplinkCreate, UplinkSet,
};
use serde_json::{Value, json};
use vmm_glue::{Client, ClientError};

#[test]
fn every_call_has_its_method_path_and_body() -> Result<(), ClientError> {
    let done = || (204, Value::Null);
    let fake = FakeDaemon::answering([
        (200, json!([device()])),
        (200, device()),
        (201, json!({"primary": "nk1", "peer": null})),
        done(),
        done(),
        done(),
        done(),
        done(),
        (200, json!([])),
        (200, json!([{"device": "nk0", "drops": []}])),
        (200, json!({"version": "0.1.0", "pid": 7, "workers": 2})),
    ]);
    let client = Client::new(fake.socket());
    assert_eq!(client.socket(), fake.socket());
    assert_eq!(client.devices()?[0].name, "nk0");
    assert_eq!(client.device("nk 0")?.attachment.kind, AttachmentKind::VhostUser);
    assert_eq!(client.create(&DeviceCreate::default())?.peer, None);
    client.set("nk0", &DeviceSet::default())?;
    let blackhole = NetkitChange {
        policy: Some(Policy::Blackhole),
        ..NetkitChange::default()
    };
    client.change("nk0", &blackhole)?;
    client.delete("nk0")?;
    client.attach("nk0", &AttachmentSpec::Tap(TapSpec::default()))?;
    client.detach("nk0")?;
    assert_eq!(client.drops(None)?, []);
    assert_eq!(client.drops(Some("nk0"))?[0].device, "nk0");
    let daemon = Daemon {
        version: "0.1.0".into(),
        pid: 7,
        workers: 2,
    };
    assert_eq!(client.daemon()?, daemon);
    let lines: Vec<String> = fake.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/devices",
            "GET /v1/devices/nk%200",
            "POST /v1/devices",
            "PATCH /v1/devices/nk0",
            "PATCH /v1/devices/nk0/netkit",
            "DELETE /v1/devices/nk0",
            "PUT /v1/devices/nk0/attachment",
            "DELETE /v1/devices/nk0/attachment",
            "GET /v1/drops",
            "GET /v1/devices/nk0/drops",
            "GET /v1/daemon",
        ]
    );
    Ok(())
}

#[test]
fn every_call_about_uplinks_and_nics_has_its_method_and_path() -> Result<(), ClientError> {
    let done = || (204, Value::Null);
    let nic = || {
        let nic = json!({
            "address": "0000:03:00.0", "id": "8086:10c9", "driver": "igb", "netdevs": [], "iommu_group": null,
            "siblings": [], "supported": null, "user": "host", "refusals": [], "warnings": [],
        });
        (200, nic)
    };
    let fake = FakeDaemon::answering([
        (200, json!([])),
        problem(404, ("ENODEV", 19), "there is no uplink"),
        (201, Value::Null),
        done(),
        done(),
        (201, json!({"queue": 1, "steered": true, "reason": null})),
        (200, json!([nic().1])),
        nic(),
        nic(),
        nic(),
    ]);
    let client = Client::new(fake.socket());
    assert_eq!(client.uplinks()?, []);
    assert!(
        client
            .uplink("wan 0")
            .is_err_and(|error| error.is_no_such_device())
    );
    let tap = TapNic {
        ifname: "tap0".into(),
        queues: None,
    };
    client.create_uplink(&UplinkCreate {
        name: "wan".into(),
        nic: NicSpec::Tap(tap),
        domain: None,
        ifindex: None,
    })?;
    client.set_uplink("wan", &UplinkSet::default())?;
    client.delete_uplink("wan")?;
    let lease = LeaseCreate {
        uplink: "wan".into(),
        queue: 15,
        domain: None,
        kind: QueueKind::Rx,
    };
    assert_eq!(client.lease("nk0", &lease)?.queue, 1);
    assert_eq!(client.nics()?.len(), 1);
    assert_eq!(client.nic("0000:03:00.0")?.driver.as_deref(), Some("igb"));
    assert_eq!(client.pass_nic("0000:03:00.0", &NicPass::default())?.user, "host");
    assert_eq!(client.give_back_nic("0000:03:00.0")?.user, "host");
    let requests = fake.requests();
    assert_eq!(
        requests[2].body,
        json!({"name": "wan", "nic": {"kind": "tap", "ifname": "tap0", "queues": null}, "domain": null, "ifindex": null})
    );
    let lines: Vec<String> = requests.into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/uplinks",
            "GET /v1/uplinks/wan%200",
            "POST /v1/uplinks",
            "PATCH /v1/uplinks/wan",
            "DELETE /v1/uplinks/wan",
            "POST /v1/devices/nk0/leases",
            "GET /v1/nics",
            "GET /v1/nics/0000%3A03%3A00.0",
            "PUT /v1/nics/0000%3A03%3A00.0/pass",
            "DELETE /v1/nics/0000%3A03%3A00.0/pass",
        ]
    );
    Ok(())
}

#[test]
fn a_body_is_what_the_api_says() -> Result<(), ClientError> {
    let fake = FakeDaemon::answering([(204, Value::Null)]);
    let up = DeviceSet {
        up: Some(true),
        ..DeviceSet::default()
    };
    Client::new(fake.socket()).set("nk0", &up)?;
    let body = serde_json::to_value(&up).expect("the API's types are JSON");
    assert_eq!(fake.requests()[0].body, body);
    Ok(())
}

#[test]
fn a_refusal_keeps_the_problem() {
    let fake = FakeDaemon::answering([problem(404, ("ENODEV", 19), "there is no device nk0")]);
    let error = Client::new(fake.socket()).device("nk0").expect_err("refused");
    assert!(error.is_no_such_device());
    assert!(matches!(error, ClientError::Refused(problem) if problem.errno_number == 19));
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let socket = directory.path().join("api.sock");
    let _silent = UnixListener::bind(&socket).expect("the path is short");
    let client = Client::new(&socket).with_timeout(Duration::from_millis(50));
    let error = client.daemon().expect_err("nobody answers");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("did not answer GET /v1/daemon within 50ms"),
        "{error}"
    );
}

#[test]
fn a_connection_that_breaks_is_an_error() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let socket = directory.path().join("api.sock");
    let listener = UnixListener::bind(&socket).expect("the path is short");
    let hangs_up = std::thread::spawn(move || drop(listener.accept()));
    let error = Client::new(&socket).daemon().expect_err("the daemon hangs up");
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
    hangs_up.join().expect("it hung up");
}
