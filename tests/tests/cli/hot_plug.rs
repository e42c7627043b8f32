//! Hot-plug of whole NICs through a real QEMU, as far as it goes without a NIC.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use netkit_tests::needs;
use netkit_tests::rig::Process;
use vmm_glue::vm::PassedNic;
use vmm_glue::vm::hot_plug::{HotPlug, Patience, PlugError, Vmm};

const PATIENT: Patience = Patience {
    vmm: Duration::from_secs(30),
    guest: Duration::from_secs(30),
};

/// A QEMU whose guest never runs, with one monitor for nkctl's part and one for the test.
struct Qemu {
    // Dropped first.
    _process: Process,
    directory: tempfile::TempDir,
}

impl Qemu {
    fn start(machine: &str, device: &str) -> Qemu {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .current_dir(directory.path())
            .args(["-machine", &format!("{machine},accel=tcg"), "-m", "32M", "-S"])
            .args(["-nodefaults", "-display", "none", "-device", device]);
        for monitor in ["plug", "test"] {
            command.args(["-qmp", &format!("unix:{monitor},server=on,wait=off")]);
        }
        let qemu = Qemu {
            _process: Process::spawn(command).expect("QEMU starts"),
            directory,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(qemu.path("test")).is_err() {
            assert!(Instant::now() < deadline, "QEMU does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        qemu
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, patience: Patience) -> HotPlug {
        HotPlug::open(Vmm::Qemu, &self.path("plug"), patience).expect("QEMU greets")
    }
}

fn missing(bus: Option<&str>) -> PassedNic {
    PassedNic {
        address: "ffff:ff:1f.7".into(),
        id: "nic0".into(),
        bus: bus.map(String::from),
    }
}

#[test]
fn qemu_says_why_it_does_not_take_a_nic() {
    if !needs::program("qemu_says_why_it_does_not_take_a_nic", "qemu-system-x86_64") {
        return;
    }
    let qemu = Qemu::start("q35", "pcie-root-port,id=port1");
    let mut guest = qemu.open(PATIENT);
    let mut refusal = |bus| {
        let error = guest.plug(&missing(bus)).expect_err("there is no such NIC");
        assert!(error.is_refusal() && error.left_nothing(), "{error:?}");
        error.to_string()
    };
    crate::assert_has(
        &refusal(None),
        &["QEMU refuses device_add: ", "name a free pcie-root-port"],
    );
    crate::assert_has(&refusal(Some("port1")), &["ffff:ff:1f.7", "no such host device"]);
    let error = guest.unplug("nic0").expect_err("there is no such device");
    crate::assert_has(
        &error.to_string(),
        &["QEMU refuses device_del: ", "leave the socket out"],
    );
}

#[test]
fn qemu_lets_a_device_go_when_its_guest_does() {
    if !needs::program("qemu_lets_a_device_go_when_its_guest_does", "qemu-system-x86_64") {
        return;
    }
    let qemu = Qemu::start("pc", "virtio-net-pci,id=nic0");
    let impatient = Patience {
        guest: Duration::from_millis(300),
        ..PATIENT
    };
    let error = qemu
        .open(impatient)
        .unplug("nic0")
        .expect_err("the guest is stopped");
    assert!(matches!(error, PlugError::Kept { .. }), "{error:?}");

    // The guest was asked already, and lets the device go when it is reset.
    let mut monitor = UnixStream::connect(qemu.path("test")).expect("QEMU listens");
    let mut answers = BufReader::new(monitor.try_clone().expect("a descriptor is left")).lines();
    let mut tell = |command: &str| {
        writeln!(monitor, "{{\"execute\": \"{command}\"}}").expect("QEMU reads");
        let answered = answers.find(|line| line.as_ref().is_ok_and(|line| line.contains("return")));
        answered.expect("QEMU answers").expect("the connection holds");
    };
    tell("qmp_capabilities");
    let mut guest = qemu.open(PATIENT);
    let unplugging = std::thread::spawn(move || guest.unplug("nic0"));
    while !unplugging.is_finished() {
        tell("system_reset");
        std::thread::sleep(Duration::from_millis(200));
    }
    // If the first reset came before the second request, QEMU knows the device no more.
    match unplugging.join().expect("no panic") {
        Ok(()) => {}
        Err(error) => crate::assert_has(&error.to_string(), &["Device 'nic0' not found"]),
    }
    let error = qemu.open(PATIENT).unplug("nic0").expect_err("it is gone");
    crate::assert_has(&error.to_string(), &["Device 'nic0' not found"]);
}
