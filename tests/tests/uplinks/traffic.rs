//! Echoes and streams between a guest and the outside, and every frame that was on the wire.

use netkit_tests::driver::Setup;
use netkit_tests::outside::{Impairment, LabConfig};

use crate::{Bench, GUEST, Way, ping_both_ways, stream_in, stream_out};

const STREAM: usize = 2 << 20;

/// All that two sides say to each other, by a guest with and without offloads; the wire's frames are complete, or, on a
/// virtual wire, what is left to do on them makes sense.
fn converse(test: &str, way: Way, config: LabConfig) {
    let Some(bench) = Bench::new(test, way, config) else {
        return;
    };
    let pair = bench.pair("nk", "");
    for (port, setup) in [(9001, Setup::default()), (9002, Setup::plain())] {
        let mut guest = bench.guest(&pair, &setup, GUEST);
        let capture = bench.lab.capture();
        ping_both_ways(&bench.lab, &mut guest, GUEST);
        stream_out(&bench.lab, &mut guest, port, STREAM);
        stream_in(&bench.lab, &mut guest, GUEST, port + 10, STREAM);
        let tally = capture.all_right();
        println!("{test}: {tally:?}");
        assert!(tally.icmp >= 12, "{tally:?}");
        assert!(tally.tcp_octets >= 4 * STREAM as u64, "{tally:?}");
        assert_eq!(tally.unfinished > 0, config.offloads, "{tally:?}");
    }
}

fn of_mtu(mtu: u32) -> LabConfig {
    LabConfig {
        mtu,
        ..LabConfig::default()
    }
}

fn with_offloads() -> LabConfig {
    LabConfig {
        offloads: true,
        ..LabConfig::default()
    }
}

/// A test for each way.
macro_rules! on {
    ($($name:ident: $way:ident $config:expr;)*) => {
        $(
            #[test]
            fn $name() {
                converse(stringify!($name), Way::$way, $config);
            }
        )*
    };
}

on! {
    a_guest_converses_over_packet_sockets: Kernel of_mtu(1500);
    a_guest_converses_over_packet_sockets_in_jumbo_frames: Kernel of_mtu(9000);
    a_guest_converses_over_packet_sockets_of_a_nic_with_offloads: Kernel with_offloads();
    a_guest_converses_over_a_macvtap: Macvtap of_mtu(1500);
    a_guest_converses_over_a_macvtap_in_jumbo_frames: Macvtap of_mtu(9000);
    a_guest_converses_over_a_tap: Tap of_mtu(1500);
    a_guest_converses_over_a_tap_in_jumbo_frames: Tap of_mtu(9000);
    a_guest_converses_over_af_xdp: AfXdp of_mtu(1500);
    a_guest_converses_over_af_xdp_in_jumbo_frames: AfXdp of_mtu(9000);
    a_guest_converses_over_a_tap_of_its_own_in_a_bridge: OwnTap of_mtu(1500);
}

/// One frame in ten is lost, one in twenty comes late.
fn survive_a_bad_wire(test: &str, way: Way) {
    let config = LabConfig {
        impairment: Some(Impairment { loss: 10, reorder: 5 }),
        ..LabConfig::default()
    };
    let Some(mut bench) = Bench::new(test, way, config) else {
        return;
    };
    let pair = bench.pair("nk", "");
    let mut guest = bench.guest(&pair, &Setup::default(), GUEST);
    // A stack without selective acknowledgements takes its time.
    stream_out(&bench.lab, &mut guest, 9001, STREAM / 16);
    stream_in(&bench.lab, &mut guest, GUEST, 9002, STREAM / 16);
    let passed = bench.lab.take_forwarder().unwrap().stop();
    println!("{test}: {passed:?}");
    assert_eq!(passed.faults, []);
    assert!(passed.lost > 0 && passed.reordered > 0 && passed.tally.repeats > 0);
}

#[test]
fn streams_survive_a_bad_wire_over_packet_sockets() {
    survive_a_bad_wire("streams_survive_a_bad_wire_over_packet_sockets", Way::Kernel);
}

#[test]
fn streams_survive_a_bad_wire_over_af_xdp() {
    survive_a_bad_wire("streams_survive_a_bad_wire_over_af_xdp", Way::AfXdp);
}

#[test]
fn streams_survive_a_bad_wire_over_a_tap_in_a_bridge() {
    survive_a_bad_wire("streams_survive_a_bad_wire_over_a_tap_in_a_bridge", Way::OwnTap);
}
