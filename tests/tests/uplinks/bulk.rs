//! A real guest with Linux' stack, and iperf3.

use netkit_tests::needs;
use netkit_tests::outside::{Lab, LabConfig};
use netkit_tests::rig::{Guest, GuestConfig, Iperf, Nic, Shell};

use crate::{Bench, GUEST, Way};

#[test]
fn a_linux_guest_sends_and_receives_in_bulk_over_packet_sockets() {
    let test = "a_linux_guest_sends_and_receives_in_bulk_over_packet_sockets";
    if !needs::program(test, "iperf3") {
        return;
    }
    let config = LabConfig {
        offloads: true,
        ..LabConfig::default()
    };
    let Some(bench) = Bench::new(test, Way::Kernel, config) else {
        return;
    };
    let pair = bench.pair("nk", "");
    let mac = pair.b.shown().attachment.guest_address.unwrap();
    let nic = Nic::vhost_user(&pair.b.socket).mac(mac);
    let guest = Guest::start(GuestConfig::new("bulk").nic(nic)).unwrap();
    guest.set_up("eth0", &[&format!("{GUEST}/24")]).unwrap();
    let capture = bench.lab.capture();
    let outside = &bench.lab.outside;
    for (what, iperf) in [("out", Iperf::tcp()), ("in", Iperf::tcp().reverse())] {
        let result = iperf.run(&guest, outside, &Lab::OUTSIDE.to_string()).unwrap();
        println!(
            "{what}: {:.0} Mbit/s, {} retransmits",
            result.bits_per_second / 1e6,
            result.retransmits
        );
        assert!(
            result.bits_per_second > 5e6,
            "{what}: {result:?}\n{}",
            bench.told()
        );
    }
    capture.all_right();
}
