//! `vm args`: what it prints is what the virtual machine monitors need.

use std::process::Command;
use std::time::{Duration, Instant};

use netkit_tests::netkitd::Netkitd;
use netkit_tests::rig::Process;
use netkit_tests::{needs, not_run};
use serde_json::{Value, json};

use crate::{assert_has, device};

/// `a` is an L2 device with a guest's socket, `c` an L3 one whose guest listens; `b` and `d` are their peers.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add a address 02:00:00:00:00:0a mtu 9000 type netkit mode l2 peer name b");
    daemon.ok("link add c type netkit peer name d");
    daemon.ok(&format!(
        "attach a vhost-user path {} queues 2",
        daemon.path("a.sock").display()
    ));
    daemon.ok(&format!(
        "attach c vhost-user path {} mode client",
        daemon.path("c.sock").display()
    ));
    daemon
}

fn guest_address(daemon: &Netkitd, name: &str) -> String {
    device(daemon, name)["attachment"]["guest_address"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn qemu() {
    let daemon = daemon();
    let socket = daemon.path("a.sock");
    let device = format!(
        "-chardev socket,id=char-a,path={},reconnect-ms=1000 -netdev vhost-user,id=net-a,chardev=char-a,queues=2 \
         -device virtio-net-pci,id=nic-a,netdev=net-a,mac=02:00:00:00:00:0a,host_mtu=9000,mq=on,vectors=6,\
         rx_queue_size=1024,tx_queue_size=1024\n",
        socket.display()
    );
    assert_eq!(daemon.ok("vm args a qemu memory none"), device);
    let memory = "-m 1G -object memory-backend-memfd,id=mem0,size=1G,share=on -machine memory-backend=mem0 ";
    assert_eq!(daemon.ok("vm args a qemu memory 1G"), [memory, &device].concat());
    // What the arguments cannot say goes to people, not into the command line.
    let output = daemon.nkctl("vm args dev a qemu");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), device);
    assert_has(&String::from_utf8(output.stderr).unwrap(), &["Note: ", "memory"]);

    // In L3 mode the guest's address is the daemon's to choose.
    let address = guest_address(&daemon, "c");
    assert!(address.starts_with("52:54:"), "{address}");
    let line = daemon.ok("vm args c qemu memory none");
    assert_has(
        &line,
        &[
            "c.sock,server=on,wait=off",
            &format!("mac={address},mq=on,vectors=4"),
        ],
    );

    let commands: Value = serde_json::from_str(&daemon.ok("-j vm args a qemu")).unwrap();
    let names: Vec<&str> = commands
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["execute"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["chardev-add", "netdev_add", "device_add"]);
    assert_eq!(commands[2]["arguments"]["mac"], "02:00:00:00:00:0a");
    assert_eq!(
        commands[0]["arguments"]["backend"]["data"]["addr"]["data"]["path"],
        socket.to_str().unwrap()
    );
}

#[test]
fn cloud_hypervisor_and_libvirt() {
    let daemon = daemon();
    let socket = daemon.path("a.sock");
    let net = format!(
        "--net mac=02:00:00:00:00:0a,vhost_user=true,socket={},vhost_mode=client,num_queues=4,queue_size=256,mtu=9000\n",
        socket.display()
    );
    assert_eq!(daemon.ok("vm args a cloud-hypervisor memory none"), net);
    let memory = "--memory size=512M,shared=on ";
    assert_eq!(daemon.ok("vm args a cloud-hypervisor"), [memory, &net].concat());
    let body: Value = serde_json::from_str(&daemon.ok("-j vm args c cloud-hypervisor")).unwrap();
    let expected = json!({
        "id": "c", "vhost_user": true, "vhost_socket": daemon.path("c.sock"), "vhost_mode": "Server", "num_queues": 2,
        "queue_size": 256, "mtu": 1500, "mac": guest_address(&daemon, "c"),
    });
    assert_eq!(body, expected);

    let element = daemon.ok("vm args a libvirt");
    let source = format!("<source type='unix' path='{}' mode='client'>", socket.display());
    assert_has(
        &element,
        &[
            "<interface type='vhostuser'>",
            "<mac address='02:00:00:00:00:0a'/>",
            &source,
            "queues='2'",
            "<mtu size='9000'/>",
        ],
    );
    assert_has(&daemon.fails(255, "-j vm args a libvirt"), &["libvirt takes XML"]);
}

#[test]
fn a_device_without_a_guest_has_none() {
    let daemon = daemon();
    for vmm in ["qemu", "cloud-hypervisor", "libvirt"] {
        let text = daemon.fails(1, &format!("vm args b {vmm}"));
        assert_has(
            &text,
            &[
                "\"b\" is not attached",
                "\"nkctl attach b vhost-user path SOCKET\"",
            ],
        );
    }
    if needs::taps("cli: vm args of a device with a tap") {
        daemon.ok("attach d tap");
        let text = daemon.fails(1, "vm args d qemu");
        assert_has(&text, &["\"d\" is attached to a tap", "\"nkctl detach d\""]);
    }
}

#[test]
fn qemu_takes_what_is_printed_for_it() {
    let daemon = daemon();
    daemon.ok(&format!(
        "attach b vhost-user path {}",
        daemon.path("b.sock").display()
    ));
    let printed = ["a", "b"].map(|name| {
        let memory = if name == "a" { "64M" } else { "none" };
        daemon.ok(&format!("vm args {name} qemu memory {memory}"))
    });
    let program = std::env::var_os("NETKIT_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    let mut qemu = Command::new(program);
    qemu.args(["-S", "-nodefaults", "-display", "none", "-machine", "q35"]);
    // None of these words has a space or a quotation mark.
    qemu.args(printed.iter().flat_map(|line| line.split_whitespace()));
    let Ok(qemu) = Process::spawn(qemu) else {
        return not_run("cli: QEMU takes what is printed for it", "there is no QEMU");
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !["a", "b"]
        .iter()
        .all(|name| daemon.client().device(name).unwrap().attachment.connected)
    {
        assert_eq!(qemu.status().unwrap(), None, "QEMU refuses {printed:?}");
        assert!(
            Instant::now() < deadline,
            "QEMU does not connect\n{}",
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(qemu.status().unwrap(), None, "QEMU refuses {printed:?}");
}
