//! Several guests behind one uplink.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netkit_api::Mode;
use netkit_tests::driver::conversation::{ping, transfer};
use netkit_tests::driver::{Pair, Setup, Stack, packet};
use netkit_tests::outside::{Lab, LabConfig};
use smoltcp::wire::IpAddress;

use crate::{Bench, PATIENCE, Way, ping_both_ways, stream_in, stream_out};

const STREAM: usize = 1 << 20;
const NAMES: [&str; 3] = ["x", "y", "z"];

fn address(guest: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 11 + guest as u8)
}

/// Three guests; the pairs must outlive them.
fn guests(bench: &Bench, mode: Mode) -> (Vec<Pair>, [Stack; 3]) {
    let pairs: Vec<Pair> = NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let share = match mode {
                Mode::L2 => "share mac".to_owned(),
                Mode::L3 => format!("ip {}", address(index)),
            };
            bench.pair_in(mode, name, &share)
        })
        .collect();
    let guests = [0, 1, 2].map(|index| bench.guest(&pairs[index], &Setup::default(), address(index)));
    (pairs, guests)
}

fn converse(test: &str, way: Way, mode: Mode) {
    let Some(bench) = Bench::new(test, way, LabConfig::default()) else {
        return;
    };
    let (_pairs, mut guests) = guests(&bench, mode);
    assert_eq!(bench.uplink().devices.len(), 3, "{}", bench.told());
    for (index, guest) in guests.iter_mut().enumerate() {
        let port = 9001 + index as u16;
        let capture = bench.lab.capture();
        ping_both_ways(&bench.lab, guest, address(index));
        stream_out(&bench.lab, guest, port, STREAM);
        stream_in(&bench.lab, guest, address(index), port, STREAM);
        capture.all_right();
    }
    settle(&bench.lab, &mut guests);
    // Guests of one uplink reach each other; what they say is not for the wire.
    let [a, b, c] = &mut guests;
    let capture = bench.lab.capture();
    let ip = |index: usize| IpAddress::from(address(index));
    ping(a, b, ip(0), ip(1), 3);
    ping(c, a, ip(2), ip(0), 3);
    transfer(a, b, ip(1), (41_000, 81), STREAM);
    transfer(c, b, ip(1), (41_001, 82), STREAM);
    let tally = capture.all_right();
    assert_eq!((tally.tcp, tally.icmp), (0, 0), "{tally:?}");
}

/// Lets streams that are still closing end, until the wire is silent.
fn settle(lab: &Lab, guests: &mut [Stack]) {
    const SILENCE: Duration = Duration::from_millis(300);
    let end = Instant::now() + PATIENCE;
    loop {
        let capture = lab.capture();
        let quiet = Instant::now() + SILENCE;
        while Instant::now() < quiet {
            guests.iter_mut().for_each(|guest| {
                guest.poll();
            });
        }
        if capture.all_right().tcp == 0 {
            return;
        }
        assert!(Instant::now() < end, "the streams do not end");
    }
}

#[test]
fn guests_share_an_uplink_by_ethernet_address_over_packet_sockets() {
    converse(
        "guests_share_an_uplink_by_ethernet_address_over_packet_sockets",
        Way::Kernel,
        Mode::L2,
    );
}

#[test]
fn guests_share_an_uplink_by_ethernet_address_over_af_xdp() {
    converse(
        "guests_share_an_uplink_by_ethernet_address_over_af_xdp",
        Way::AfXdp,
        Mode::L2,
    );
}

#[test]
fn guests_share_an_uplink_by_ip_address() {
    converse("guests_share_an_uplink_by_ip_address", Way::Kernel, Mode::L3);
}

/// What one guest hears is not another's: nobody reads what is for a neighbour, and broadcasts are for all.
#[test]
fn a_guest_gets_what_is_for_it_and_for_all() {
    let test = "a_guest_gets_what_is_for_it_and_for_all";
    let Some(bench) = Bench::new(test, Way::Kernel, LabConfig::default()) else {
        return;
    };
    let (pairs, [a, b, c]) = guests(&bench, Mode::L2);
    let mut wire = bench
        .lab
        .outside
        .enter(|| {
            let sight = netkit_tests::outside::wire::Sight::Arriving;
            netkit_tests::outside::Wire::packet(netkit_tests::outside::FAR, sight)
        })
        .unwrap();
    let from = [2, 0, 0, 0, 0, 0x77];
    let [mut a, mut b, mut c] = [a, b, c].map(|guest| guest.driver);
    let for_b = packet::ethernet(from, pairs[1].b.guest_address(), b"for b");
    let for_all = packet::ethernet(from, [0xff; 6], b"for all");
    let for_nobody = packet::ethernet(from, [2, 0, 0, 0, 0, 0x99], b"for nobody");
    let header = netkit_tests::driver::Header::default();
    for frame in [&for_nobody, &for_b, &for_all] {
        assert!(wire.send(&header, frame));
    }
    assert_eq!(b.receive().frame, for_b);
    for guest in [&mut a, &mut b, &mut c] {
        assert_eq!(guest.receive().frame, for_all);
        assert!(guest.poll().is_none());
    }
}
