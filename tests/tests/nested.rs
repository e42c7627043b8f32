//! QEMU guests under KVM with netkitd as their host's daemon, all of it in an outer guest.

use netkit_tests::host::Host;
use netkit_tests::rig::{Error, GuestConfig, Nested, Shell};
use std::time::Instant;

/// The emulator's nested virtualization now and then corrupts the outer guest's kernel, which panics then, with netkitd
/// or without. That says nothing of netkitd, so the outer guest gets another try.
const TRIES: u32 = 3;

#[test]
fn nested_qemu_guests_talk_over_netkitd_in_an_outer_host() {
    for attempt in 1..=TRIES {
        match talk() {
            Err(Error::Panic { guest, console }) if attempt < TRIES => {
                println!("the kernel of {guest} panicked, trying again: {console}");
            }
            result => return result.unwrap(),
        }
    }
}

fn talk() -> Result<(), Error> {
    let host = Host::start([])?;
    let begun = Instant::now();
    let boot = |line, device: &str| {
        let printed = host.nkctl(&format!("vm args {device} qemu memory none"))?;
        // The nested image has no boot firmware for the card.
        let arguments = printed
            .split_whitespace()
            .chain(["-global", "virtio-net-pci.romfile="]);
        Nested::start(host.guest(), line, GuestConfig::new(device).args(arguments))
    };
    let (a, b) = (boot(0, "nka")?, boot(1, "nkb")?);
    assert!(a.check("dmesg")?.contains("Hypervisor detected: KVM"));
    b.wait_ready()?;
    println!("the nested guests booted in {:.0?}", begun.elapsed());
    host.assert_talk(&a, &b)
}
