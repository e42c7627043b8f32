//! PCI NICs that go to guests and come back, through VMMs that say yes, no or nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vmm_glue::vm::PassedNic;
use vmm_glue::vm::hot_plug::{HotPlug, Patience, PlugError, Vmm};

use crate::fake::{FakeDaemon, Request, problem};
use crate::{Ran, answered, asks, failed, nkctl, printed};

fn nic(driver: &str, user: &str) -> Value {
    json!({
        "address": "0000:03:00.0", "id": "8086:10c9", "driver": driver, "netdevs": [], "iommu_group": 12,
        "siblings": [], "supported": "igb", "user": user, "refusals": [], "warnings": [],
    })
}

fn of_host() -> (u16, Value) {
    (200, nic("igb", "host"))
}

fn passed() -> (u16, Value) {
    (200, nic("vfio-pci", "passed"))
}

const SHOW: &str = "GET /v1/nics/0000%3A03%3A00.0";
const PASS: &str = "PUT /v1/nics/0000%3A03%3A00.0/pass";
const GIVE_BACK: &str = "DELETE /v1/nics/0000%3A03%3A00.0/pass";

fn lines(requests: Vec<Request>) -> Vec<String> {
    requests.into_iter().map(|request| request.line).collect()
}

/// A QEMU whose monitor greets one client and answers each of its commands as it was told to, with any number of
/// messages.
struct FakeQemu {
    directory: TempDir,
    thread: JoinHandle<Vec<Value>>,
}

impl FakeQemu {
    fn answering<const N: usize>(answers: [&[Value]; N]) -> FakeQemu {
        let greeting =
            json!({"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}});
        FakeQemu::saying(&greeting, [&[&[returned()][..]], &answers[..]].concat())
    }

    fn saying(greeting: &Value, answers: Vec<&[Value]>) -> FakeQemu {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let listener = UnixListener::bind(directory.path().join("qmp.sock")).expect("the path is short");
        let answers: Vec<String> = answers.into_iter().map(messages).collect();
        let greeting = messages(std::slice::from_ref(greeting));
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client connects");
            stream.write_all(greeting.as_bytes()).expect("the client reads");
            let mut commands = BufReader::new(stream.try_clone().expect("a descriptor is left")).lines();
            let mut asked = Vec::new();
            for answer in answers {
                let Some(Ok(command)) = commands.next() else { break };
                asked.push(serde_json::from_str(&command).expect("commands are JSON"));
                stream.write_all(answer.as_bytes()).expect("the client reads");
            }
            // Until the client has enough.
            assert!(
                commands.next().is_none_or(|line| line.is_err()),
                "one command too many"
            );
            asked
        });
        FakeQemu { directory, thread }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("qmp.sock")
    }

    /// What was asked after the capabilities, once the client is gone.
    fn commands(self) -> Vec<Value> {
        let mut asked = self.thread.join().expect("every command was answered");
        assert_eq!(asked.remove(0), json!({"execute": "qmp_capabilities"}));
        asked
    }
}

fn messages(messages: &[Value]) -> String {
    messages.iter().map(|message| format!("{message}\r\n")).collect()
}

fn returned() -> Value {
    json!({"return": {}})
}

fn refused(class: &str, why: &str) -> Value {
    json!({"error": {"class": class, "desc": why}})
}

fn event(name: &str, device: Option<&str>) -> Value {
    let mut event =
        json!({"event": name, "data": {"path": "/machine/peripheral/x"}, "timestamp": {"seconds": 1}});
    if let Some(device) = device {
        event["data"]["device"] = json!(device);
    }
    event
}

/// For tests whose VMM says nothing after a while.
const IMPATIENT: Patience = Patience {
    vmm: Duration::from_secs(1),
    guest: Duration::from_millis(250),
};

fn nic0() -> PassedNic {
    PassedNic {
        address: "0000:03:00.0".into(),
        id: "nic0".into(),
        bus: None,
    }
}

#[test]
fn show_one_nic_or_all() {
    let line = "0000:03:00.0 8086:10c9 driver igb iommu_group 12 user host\n    netkitd drives it with igb\n";
    let (out, asked) = answered("nic", [(200, json!([nic("igb", "host")]))]);
    assert_eq!((out.as_str(), asked), (line, vec!["GET /v1/nics".into()]));
    let (out, asked) = answered("nic show 03:00.0", [of_host()]);
    assert_eq!((out.as_str(), asked), (line, vec![SHOW.into()]));
    let (out, _) = answered("-j nic show 03:00.0", [of_host()]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json, json!([nic("igb", "host")]));
}

#[test]
fn pass_prints_what_to_tell_the_vmm() {
    let daemon = FakeDaemon::answering([passed(), passed(), passed()]);
    assert_eq!(
        nkctl(&daemon.socket(), "nic pass 03:00.0"),
        printed(
            "\
# QEMU
-device vfio-pci,host=0000:03:00.0,id=nic-0000-03-00.0
# cloud-hypervisor
--device path=/sys/bus/pci/devices/0000:03:00.0/,id=nic-0000-03-00.0
"
        )
    );
    assert_eq!(
        nkctl(&daemon.socket(), "nic pass 0000:03:00.0 qemu id nic0"),
        printed("-device vfio-pci,host=0000:03:00.0,id=nic0\n")
    );
    let json = nkctl(&daemon.socket(), "-j nic pass 03:00.0 cloud-hypervisor id nic0");
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        json,
        json!({
            "nic": nic("vfio-pci", "passed"), "id": "nic0", "plugged": false,
            "cloud-hypervisor": {
                "arguments": ["--device", "path=/sys/bus/pci/devices/0000:03:00.0/,id=nic0"],
                "hot_plug": {"path": "/sys/bus/pci/devices/0000:03:00.0/", "id": "nic0"},
            },
        })
    );
    let requests = daemon.requests();
    assert_eq!(requests[0].body, json!({"dry_run": false}));
    assert_eq!(lines(requests), [PASS; 3]);
}

#[test]
fn a_nic_that_the_host_needs_stays_with_it() {
    let why = "eth0 has the default route; move it to another netdev";
    let daemon = FakeDaemon::answering([problem(409, ("EBUSY", 16), why)]);
    let error = format!("Error: {why} (EBUSY: Device or resource busy)\n");
    assert_eq!(nkctl(&daemon.socket(), "nic pass 03:00.0"), failed(2, &error));
    assert_eq!(lines(daemon.requests()), [PASS]);
}

#[test]
fn a_dry_run_says_what_would_be_and_reaches_no_vmm() {
    let mut needed = nic("igb", "host");
    needed["refusals"] = json!([
        "eth0 has the default route; move it",
        "0000:03:00.1 is of the same group; pass it too"
    ]);
    let mut warned = nic("igb", "host");
    warned["warnings"] = json!(["iommu=pt is not set"]);
    let daemon = FakeDaemon::answering([(200, needed), (200, warned)]);
    let line = "nic pass 03:00.0 dry-run qemu socket /nonexistent/qmp id nic0";
    let error = "Error: 0000:03:00.0 cannot be passed to a guest: eth0 has the default route; move it; 0000:03:00.1 is \
                 of the same group; pass it too\n";
    assert_eq!(nkctl(&daemon.socket(), line), failed(2, error));
    assert_eq!(
        nkctl(&daemon.socket(), line),
        Ran {
            code: 0,
            out: "-device vfio-pci,host=0000:03:00.0,id=nic0\n".into(),
            error: "Note: iommu=pt is not set\n".into(),
        }
    );
    let requests = daemon.requests();
    assert_eq!(requests[0].body, json!({"dry_run": true}));
    assert_eq!(lines(requests), [PASS; 2]);
}

#[test]
fn qemu_is_told_of_the_device_when_it_is_with_vfio_pci() {
    let qemu = FakeQemu::answering([&[event("RTC_CHANGE", None), returned()]]);
    let daemon = FakeDaemon::answering([of_host(), passed()]);
    let line = format!(
        "nic pass 03:00.0 qemu socket {} bus port1",
        qemu.socket().display()
    );
    assert_eq!(nkctl(&daemon.socket(), &line), printed(""));
    assert_eq!(lines(daemon.requests()), [SHOW, PASS]);
    assert_eq!(
        qemu.commands(),
        [json!({"execute": "device_add", "arguments": {
            "driver": "vfio-pci", "host": "0000:03:00.0", "id": "nic-0000-03-00.0", "bus": "port1",
        }})]
    );
}

#[test]
fn a_nic_that_qemu_refuses_is_given_back() {
    let no_hotplug = refused("GenericError", "Bus 'pcie.0' does not support hotplugging");
    let qemu = FakeQemu::answering([&[no_hotplug]]);
    let daemon = FakeDaemon::answering([of_host(), passed(), of_host()]);
    let line = format!("nic pass 03:00.0 qemu socket {}", qemu.socket().display());
    let error = "Error: QEMU refuses device_add: Bus 'pcie.0' does not support hotplugging; name a free pcie-root-port \
                 of the guest with \"bus ID\". 0000:03:00.0 was given back to the host.\n";
    assert_eq!(nkctl(&daemon.socket(), &line), failed(2, error));
    assert_eq!(lines(daemon.requests()), [SHOW, PASS, GIVE_BACK]);
}

#[test]
fn a_refusal_tells_if_the_nic_could_not_be_given_back() {
    let qemu = FakeQemu::answering([&[refused("GenericError", "no room")]]);
    let lost = problem(500, ("EIO", 5), "igb does not take it");
    let daemon = FakeDaemon::answering([of_host(), passed(), lost]);
    let line = format!("nic pass 03:00.0 qemu socket {}", qemu.socket().display());
    let error = "Error: QEMU refuses device_add: no room. 0000:03:00.0 was to be given back to the host, but igb does \
                 not take it (EIO: Input/output error); try \"nkctl nic return 0000:03:00.0\"\n";
    assert_eq!(nkctl(&daemon.socket(), &line), failed(2, error));
    assert_eq!(lines(daemon.requests()), [SHOW, PASS, GIVE_BACK]);
}

#[test]
fn what_the_host_had_not_before_stays_so_if_the_vmm_refuses() {
    for user in ["passed", "vfio"] {
        let qemu = FakeQemu::answering([&[refused("GenericError", "Duplicate device ID 'nic0'")]]);
        let daemon = FakeDaemon::answering([(200, nic("vfio-pci", user)), passed()]);
        let line = format!("nic pass 03:00.0 qemu socket {} id nic0", qemu.socket().display());
        let error = "Error: QEMU refuses device_add: Duplicate device ID 'nic0'. 0000:03:00.0 is still with vfio-pci: \
                     if the guest has not got it, \"nkctl nic return 0000:03:00.0\" gives it back to the host\n";
        assert_eq!(nkctl(&daemon.socket(), &line), failed(2, error));
        assert_eq!(lines(daemon.requests()), [SHOW, PASS]);
    }
}

#[test]
fn a_nic_that_qemu_may_have_is_not_taken_from_it() {
    let qemu = FakeQemu::answering([&[]]);
    let mut guest = HotPlug::open(Vmm::Qemu, &qemu.socket(), IMPATIENT).expect("it greets");
    // It reads the command and says nothing.
    let error = guest.plug(&nic0()).expect_err("no answer");
    assert!(
        matches!(
            error,
            PlugError::Timeout {
                command: "device_add",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!error.left_nothing());
}

#[test]
fn without_a_vmm_the_host_keeps_its_nic() {
    let nowhere = Path::new("/nonexistent/api.sock");
    for (vmm, text) in [
        (
            "qemu",
            "QEMU at \"/nonexistent/vmm\": No such file or directory (os error 2); is it running, and is this its QMP \
             socket?",
        ),
        (
            "cloud-hypervisor",
            "cloud-hypervisor at \"/nonexistent/vmm\": No such file or directory (os error 2); is it running, and is \
             this its API socket?",
        ),
    ] {
        // The daemon is not asked for anything: there is none.
        let ran = nkctl(
            nowhere,
            &format!("nic pass 03:00.0 {vmm} socket /nonexistent/vmm"),
        );
        assert_eq!(ran, failed(1, &format!("Error: cannot connect to {text}\n")));
    }
}

#[test]
fn what_is_no_monitor_is_named() {
    let odd = FakeQemu::saying(&json!({"hello": 1}), vec![]);
    let error = HotPlug::open(Vmm::Qemu, &odd.socket(), IMPATIENT).expect_err("no greeting");
    assert!(error.left_nothing());
    assert_eq!(
        error.to_string(),
        format!(
            "what answers at {:?} is not QEMU: \"{{\\\"hello\\\":1}}\"; give the path of its QMP socket",
            odd.socket()
        )
    );
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let socket = directory.path().join("qmp.sock");
    let _silent = UnixListener::bind(&socket).expect("the path is short");
    let error = HotPlug::open(Vmm::Qemu, &socket, IMPATIENT).expect_err("no greeting");
    assert!(
        error
            .to_string()
            .contains("did not answer the greeting within 1s"),
        "{error}"
    );
    let other = FakeDaemon::answering([(404, json!("nothing here"))]);
    let error = HotPlug::open(Vmm::CloudHypervisor, &other.socket(), IMPATIENT).expect_err("no ping");
    assert!(matches!(error, PlugError::NotThisVmm { .. }), "{error:?}");
}

#[test]
fn return_waits_until_qemu_has_let_go() {
    let gone = [
        event("DEVICE_DELETED", None),
        event("DEVICE_DELETED", Some("other")),
        event("DEVICE_DELETED", Some("nic0")),
    ];
    let asked_then_gone = [&[returned()], &gone[..]].concat();
    let at_once = [&gone[..], &[returned()]].concat();
    let again = refused("GenericError", "Device nic0 is already in the process of unplug");
    let asked_before = [&[again], &gone[..]].concat();
    for answer in [asked_then_gone, at_once, asked_before] {
        let qemu = FakeQemu::answering([&answer]);
        let line = format!(
            "nic return 03:00.0 qemu socket {} id nic0",
            qemu.socket().display()
        );
        asks(&line, [of_host()], &[(GIVE_BACK, Value::Null)]);
        assert_eq!(
            qemu.commands(),
            [json!({"execute": "device_del", "arguments": {"id": "nic0"}})]
        );
    }
    asks("nic return 03:00.0", [of_host()], &[(GIVE_BACK, Value::Null)]);
    let (out, _) = answered("-j nic return 03:00.0", [of_host()]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json, nic("igb", "host"));
}

#[test]
fn a_nic_that_the_guest_keeps_is_not_taken() {
    let nowhere = Path::new("/nonexistent/api.sock");
    let cases = [
        (
            vec![returned(), event("DEVICE_UNPLUG_GUEST_ERROR", Some("nic0"))],
            1,
            "Error: the guest refuses to release nic0: end what uses the NIC there, then try again\n",
        ),
        (
            vec![refused("DeviceNotFound", "Device 'nic0' not found")],
            2,
            "Error: QEMU refuses device_del: Device 'nic0' not found; name it with \"id ID\", or leave the socket out if \
             the guest has let it go\n",
        ),
    ];
    for (answer, code, error) in cases {
        let qemu = FakeQemu::answering([&answer]);
        let line = format!(
            "nic return 03:00.0 qemu socket {} id nic0",
            qemu.socket().display()
        );
        // The daemon is not asked for anything: there is none.
        assert_eq!(nkctl(nowhere, &line), failed(code, error));
    }
    let qemu = FakeQemu::answering([&[returned(), event("DEVICE_DELETED", Some("other"))]]);
    let mut guest = HotPlug::open(Vmm::Qemu, &qemu.socket(), IMPATIENT).expect("it greets");
    let error = guest.unplug("nic0").expect_err("kept");
    assert!(matches!(error, PlugError::Kept { .. }), "{error:?}");
}

#[test]
fn a_qemu_that_ends_is_an_error() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let socket = directory.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).expect("the path is short");
    let ends = std::thread::spawn(move || drop(listener.accept()));
    let error = HotPlug::open(Vmm::Qemu, &socket, Patience::default()).expect_err("it has ended");
    assert!(matches!(error, PlugError::Broken { .. }), "{error:?}");
    assert!(!error.left_nothing());
    ends.join().expect("it hung up");
}

#[test]
fn cloud_hypervisor_is_asked_by_its_api() {
    let vmm = FakeDaemon::answering([
        (200, json!({"version": "v54"})),
        (200, json!({"id": "nic0", "bdf": "0000:00:06.0"})),
    ]);
    let daemon = FakeDaemon::answering([of_host(), passed()]);
    let line = format!(
        "nic pass 03:00.0 cloud-hypervisor socket {} id nic0",
        vmm.socket().display()
    );
    assert_eq!(nkctl(&daemon.socket(), &line), printed(""));
    assert_eq!(lines(daemon.requests()), [SHOW, PASS]);
    let requests = vmm.requests();
    assert_eq!(
        requests[1].body,
        json!({"path": "/sys/bus/pci/devices/0000:03:00.0/", "id": "nic0"})
    );
    assert_eq!(
        lines(requests),
        ["GET /api/v1/vmm.ping", "PUT /api/v1/vm.add-device"]
    );
}

#[test]
fn a_nic_that_cloud_hypervisor_refuses_is_given_back() {
    let errors = json!([
        "Error from API",
        "The device could not be added to the VM",
        "No such group"
    ]);
    let vmm = FakeDaemon::answering([(200, json!({})), (500, errors)]);
    let daemon = FakeDaemon::answering([of_host(), passed(), of_host()]);
    let line = format!(
        "nic pass 03:00.0 cloud-hypervisor socket {}",
        vmm.socket().display()
    );
    let error = "Error: cloud-hypervisor refuses vm.add-device: Error from API: The device could not be added to the \
                 VM: No such group (500 Internal Server Error). 0000:03:00.0 was given back to the host.\n";
    assert_eq!(nkctl(&daemon.socket(), &line), failed(2, error));
    assert_eq!(lines(daemon.requests()), [SHOW, PASS, GIVE_BACK]);
}

#[test]
fn return_waits_until_the_guest_of_cloud_hypervisor_has_ejected_it() {
    let info = |tree: Value| {
        (
            200,
            json!({"config": {}, "state": "Running", "device_tree": tree}),
        )
    };
    let vmm = FakeDaemon::answering([
        (200, json!({})),
        (204, Value::Null),
        info(json!({"nic0": {"id": "nic0"}, "_net1": {"id": "_net1"}})),
        info(json!({"_net1": {"id": "_net1"}})),
    ]);
    let line = format!(
        "nic return 03:00.0 cloud-hypervisor socket {} id nic0",
        vmm.socket().display()
    );
    asks(&line, [of_host()], &[(GIVE_BACK, Value::Null)]);
    let requests = vmm.requests();
    assert_eq!(requests[1].body, json!({"id": "nic0"}));
    assert_eq!(
        lines(requests),
        [
            "GET /api/v1/vmm.ping",
            "PUT /api/v1/vm.remove-device",
            "GET /api/v1/vm.info",
            "GET /api/v1/vm.info",
        ]
    );
    let kept = || info(json!({"nic0": {"id": "nic0"}}));
    let vmm = FakeDaemon::answering([
        (200, json!({})),
        (204, Value::Null),
        kept(),
        kept(),
        kept(),
        kept(),
        kept(),
    ]);
    let mut guest = HotPlug::open(Vmm::CloudHypervisor, &vmm.socket(), IMPATIENT).expect("it answers");
    let error = guest.unplug("nic0").expect_err("kept");
    assert!(matches!(error, PlugError::Kept { .. }), "{error:?}");
}
