//! QEMU guests under KVM with netkitd as their host's daemon, all of it in an outer guest.

use netkit_tests::host::Host;
use netkit_tests::rig::{GuestConfig, Nested, Shell};
use std::time::Instant;

#[test]
fn nested_qemu_guests_talk_over_netkitd_in_an_outer_host() {
    let host = Host::start([]).unwrap();
    let begun = Instant::now();
    let boot = |line, device: &str| {
        let printed = host.nkctl(&format!("vm args {device} qemu memory none")).unwrap();
        // The nested image has no boot firmware for the card.
        let arguments = printed
            .split_whitespace()
            .chain(["-global", "virtio-net-pci.romfile="]);
        Nested::start(host.guest(), line, GuestConfig::new(device).args(arguments)).unwrap()
    };
    let (a, b) = (boot(0, "nka"), boot(1, "nkb"));
    assert!(a.check("dmesg").unwrap().contains("Hypervisor detected: KVM"));
    b.wait_ready().unwrap();
    println!("the nested guests booted in {:.0?}", begun.elapsed());
    host.assert_talk(&a, &b).unwrap();
}
