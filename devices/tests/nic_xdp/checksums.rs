//! Checksums that are left undone, by us and by others.

use std::net::UdpSocket;

use super::*;

#[test]
fn a_checksum_that_is_left_to_the_kernel_is_right_on_the_wire() {
    with_cable("checksums on the wire", "mtu 9000", |cable| {
        // Without this a virtual cable hands the request on to its other end.
        assert!(run("ethtool", &format!("-K {NEAR} tx off")).status.success());
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        assert!(nic.port.capabilities.offloads.csum);
        let station = cable.station();
        for payload in [0, 1, 2, 63, 1000, 1472, 3978, 3979, 4000, 8000, 8972] {
            let whole = udp(payload);
            let mut part = Frame::from_octets(&whole);
            leave_checksum(&mut part, whole.len());
            let mut transmit = nic.port.queue(0).transmit();
            transmit.transmit(&part).expect("room");
            transmit.flush();
            let received = station.receive_that(1000, |frame| frame[..6] == [2, 0, 0, 0, 0, 9]);
            assert_eq!(received.expect("a frame"), whole, "{payload} octets");
        }
    });
}

/// XDP has no word for a checksum that is left undone, and a virtual cable hands such frames on as they are. So no arrival
/// is called valid, and the other end must be told to complete its checksums.
#[test]
fn no_checksum_of_an_arrival_is_vouched_for() {
    with_cable("checksums of arrivals", "mtu 9000", |cable| {
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        let socket = cable.far(|| {
            ip(&format!("addr add 10.9.0.2/24 dev {FAR}"));
            ip(&format!("neigh add 10.9.0.7 lladdr {GUEST} dev {FAR}"));
            UdpSocket::bind("10.9.0.2:2000").expect("a socket")
        });
        for completes in [false, true] {
            if completes {
                let off = cable.far(|| run("ethtool", &format!("-K {FAR} tx off")));
                assert!(off.status.success(), "{off:?}");
            }
            for len in [1, 100, 1400, 5000, 8900] {
                socket.send_to(&vec![0x5a; len], "10.9.0.7:1000").expect("sent");
                let (octets, header) = wait_for(&nic, 0, |it| it.len() == 42 + len).expect("a datagram");
                assert!(header.asks_for_nothing() && !header.data_valid(), "{header:?}");
                assert_eq!(udp_sum(&octets) == 0, completes, "{len}");
            }
        }
    });
}

fn udp_sum(frame: &[u8]) -> u16 {
    let address = |at: usize| frame[at..at + 4].try_into().unwrap();
    let mut sum = Checksum::pseudo_header_v4(address(26), address(30), 17, (frame.len() - 34) as u16);
    sum.add(&frame[34..]);
    sum.finish()
}
