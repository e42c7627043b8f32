//! Two nested guests boot under KVM inside an outer guest: the ground for tests that need a whole host.

use netkit_tests::rig::{GuestConfig, Nested, Nic, Shell, outer, ping};
use std::time::Instant;

#[test]
fn nested_guests_boot_and_talk_to_each_other() {
    let begun = Instant::now();
    let host = outer::start(outer::config("outer").unwrap()).unwrap();
    println!("outer guest ready after {:?}", begun.elapsed());
    assert!(host.check("uname -r").unwrap().starts_with("6."));

    let wire = |here: &str, there: &str| {
        let (local, remote) = (format!("/run/{here}"), format!("/run/{there}"));
        Nic::netdev(format!(
            "dgram,local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
        ))
    };
    let a = Nested::start(&host, 0, GuestConfig::new("a").nic(wire("a", "b"))).unwrap();
    let b = Nested::start(&host, 1, GuestConfig::new("b").nic(wire("b", "a"))).unwrap();
    a.set_up("eth0", &["10.0.0.1/24"]).unwrap();
    b.set_up("eth0", &["10.0.0.2/24"]).unwrap();
    println!("nested guests ready after {:?}", begun.elapsed());

    assert_eq!(a.run("exit 42").unwrap().status, 42);
    assert!(a.check("dmesg").unwrap().contains("Hypervisor detected: KVM"));
    assert_eq!(ping(&a, "10.0.0.2", 3).unwrap().received, 3);
}
