//! Programs that change packets: whoever receives them finds them right.

use std::net::{IpAddr, Ipv4Addr};

use netkit_tests::driver::header::NEEDS_CSUM;
use netkit_tests::driver::packet::{self, Host, carried, leave_checksum, leave_segmentation};
use netkit_tests::driver::{Header, Pair, Random, Setup, feature};
use vmm_glue::client::End;

use crate::{A, B, assert_nothing, daemon_with, dropped, frame};

const MSS: u16 = 1400;

/// Receivers that take everything, checksums only, and nothing.
fn receivers() -> [Setup; 3] {
    [
        Setup::default(),
        Setup::with(feature::VERSION_1 | feature::GUEST_CSUM),
        Setup::plain(),
    ]
}

/// A UDP datagram and a TCP segment, each with complete checksums and with what a sender may leave to the device.
fn packets() -> Vec<(&'static str, Header, Vec<u8>)> {
    let payload = |len| Random::new(len as u64).octets(len);
    let udp = packet::udp(A, B, &payload(500));
    let tcp = packet::tcp(A, B, 0xffff_ff00, &payload(1001));
    let large = packet::tcp(A, B, 0xffff_8000, &payload(40_001));
    let datagrams = packet::udp(A, B, &payload(9_001));
    let left = |frame: &Vec<u8>| {
        let mut frame = frame.clone();
        (leave_checksum(&mut frame), frame)
    };
    let cut = |frame: &Vec<u8>| {
        let mut frame = frame.clone();
        (leave_segmentation(&mut frame, MSS), frame)
    };
    let ((udp_header, udp_left), (tcp_header, tcp_left)) = (left(&udp), left(&tcp));
    let ((large_header, large), (datagrams_header, datagrams)) = (cut(&large), cut(&datagrams));
    vec![
        ("UDP", Header::default(), udp),
        ("TCP", Header::default(), tcp),
        ("UDP, checksum left", udp_header, udp_left),
        ("TCP, checksum left", tcp_header, tcp_left),
        ("TSO", large_header, large),
        ("USO", datagrams_header, datagrams),
    ]
}

#[test]
fn translated_packets_are_right_whatever_is_left_to_whom() {
    let Some((daemon, programs)) = daemon_with("rewrite", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    programs.attach(&pair.a.device, End::Primary, "nat");
    let mut a = pair.a.connect(Setup::default()).unwrap();
    for setup in receivers() {
        let mut b = pair.b.connect(setup.clone()).unwrap();
        for (name, header, frame) in packets() {
            let sent = carried(&header, &frame).payload;
            a.send(0, &header, &frame);
            let mut payload = Vec::new();
            while payload.len() < sent.len() {
                let received = b.receive();
                // carried() verifies lengths and checksums.
                payload.extend(carried(&received.header, &received.frame).payload);
                assert_eq!(received.frame[26..30], [10, 1, 0, 1], "{name}");
                assert_eq!(received.frame[30..34], [10, 9, 8, 7], "{name}");
                assert_eq!(
                    received.frame[34..38],
                    [1000u16.to_be_bytes(), 4660u16.to_be_bytes()].concat(),
                    "{name}"
                );
                let is_left = received.header.flags & NEEDS_CSUM != 0;
                assert!(b.has(feature::GUEST_CSUM) || !is_left, "{name}");
            }
            assert!(payload == sent, "{name}: the payload was changed");
            assert_nothing(&mut b);
        }
    }
    assert_eq!(pair.a.drops(), []);
}

#[test]
fn a_large_segment_whose_header_is_changed_is_cut_right() {
    let Some((daemon, programs)) = daemon_with("rewrite", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    programs.attach(&pair.a.device, End::Primary, "shift");
    let mut a = pair.a.connect(Setup::default()).unwrap();
    for setup in receivers() {
        let mut b = pair.b.connect(setup).unwrap();
        let mut frame = packet::tcp(A, B, 0xffff_ff00, &Random::new(3).octets(30_000));
        let header = leave_segmentation(&mut frame, MSS);
        let sent = carried(&header, &frame).payload;
        a.send(0, &header, &frame);
        let mut payload = Vec::new();
        while payload.len() < sent.len() {
            let received = b.receive();
            let part = carried(&received.header, &received.frame);
            let expected = 0xffff_ff00u32.wrapping_add(1000 + payload.len() as u32);
            assert_eq!(part.sequence, expected);
            payload.extend(part.payload);
        }
        assert!(payload == sent, "the payload was changed");
    }
    // A header with which nobody could cut the frame keeps it from going on. A plain frame is the receiver's business.
    programs.set_list(&pair.a.device, End::Primary, &["break_header"]);
    let mut b = pair.b.connect(Setup::default()).unwrap();
    let mut frame = packet::tcp(A, B, 1, &[7; 3000]);
    let header = leave_segmentation(&mut frame, MSS);
    a.send(0, &header, &frame);
    assert_nothing(&mut b);
    assert_eq!(dropped(&pair.a, "bad_offload_header"), 1);
    a.send_frame(&packet::tcp(A, B, 1, &[7; 1000]));
    assert_eq!(b.receive().frame[46], 2 << 4);
}

#[test]
fn a_tag_is_in_the_octets_that_arrive() {
    let Some((daemon, programs)) = daemon_with("rewrite", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let mut a = pair.a.connect(Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "tag");
    for setup in receivers() {
        let mut b = pair.b.connect(setup).unwrap();
        let sent = frame(b"to be tagged");
        a.send_frame(&sent);
        let received = b.receive().frame;
        assert_eq!(received[..12], sent[..12]);
        assert_eq!(received[12..16], [0x81, 0, 0, 42]);
        assert_eq!(received[16..], sent[12..]);

        // A packet whose checksum is left to the device moves with its header.
        let mut udp = packet::udp(A, B, &[9; 300]);
        let header = leave_checksum(&mut udp);
        a.send(0, &header, &udp);
        let received = b.receive();
        assert_eq!(received.frame[12..16], [0x81, 0, 0, 42]);
        let mut plain = received.frame.clone();
        plain.drain(12..16);
        let mut header = received.header;
        if header.flags & NEEDS_CSUM != 0 {
            header.csum_start -= 4;
        }
        assert_eq!(carried(&header, &plain).payload, [9; 300]);
    }
    // And a tag that the sender put into the octets can be taken off.
    programs.set_list(&pair.a.device, End::Primary, &["untag"]);
    let mut b = pair.b.connect(Setup::default()).unwrap();
    let sent = frame(b"tagged by the sender");
    let tagged = [&sent[..12], &[0x81, 0, 0, 7], &sent[12..]].concat();
    a.send_frame(&tagged);
    assert_eq!(b.receive().frame, sent);
}

#[test]
fn a_packet_can_be_put_into_another_one() {
    let Some((daemon, programs)) = daemon_with("rewrite", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let mut a = pair.a.connect(Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "encapsulate");
    for setup in receivers() {
        let mut b = pair.b.connect(setup).unwrap();
        for left in [false, true] {
            let complete = packet::udp(A, B, &[3; 700]);
            let mut sent = complete.clone();
            let header = if left {
                leave_checksum(&mut sent)
            } else {
                Header::default()
            };
            a.send(0, &header, &sent);
            let received = b.receive();
            let outer = &received.frame[14..34];
            assert_eq!((outer[0], outer[9]), (0x45, 4));
            assert_eq!(
                usize::from(u16::from_be_bytes([outer[2], outer[3]])),
                received.frame.len() - 14
            );
            assert_eq!(outer[12..20], [192, 0, 2, 1, 192, 0, 2, 2]);
            assert_eq!(ones_complement(outer), 0xffff, "the outer checksum is wrong");
            // The inner checksum may only be left to somebody who is told where it is.
            let mut inner = [&complete[..14], &received.frame[34..]].concat();
            if received.header.flags & NEEDS_CSUM != 0 {
                let header = Header {
                    csum_start: received.header.csum_start - 20,
                    ..received.header
                };
                packet::complete(&header, &mut inner);
            }
            assert_eq!(inner, complete);
        }
    }
    assert_eq!(pair.a.drops(), []);
}

fn ones_complement(octets: &[u8]) -> u32 {
    let sum: u32 = octets
        .chunks(2)
        .map(|it| u32::from(u16::from_be_bytes([it[0], it[1]])))
        .sum();
    (sum & 0xffff) + (sum >> 16)
}

#[test]
fn source_addresses_are_translated_there_and_back() {
    let Some((daemon, programs)) = daemon_with("rewrite", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "nat");
    programs.attach(&pair.a.device, End::Peer, "nat");
    let away = Host {
        ip: IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7)),
        port: 4660,
        ..B
    };
    // Both lists see their own direction, at once.
    for round in 0..50u8 {
        let (there, back) = (packet::udp(A, B, &[round; 100]), packet::udp(B, A, &[round; 100]));
        a.send_frame(&there);
        b.send_frame(&back);
        assert_eq!(b.receive().frame, packet::udp(A, away, &[round; 100]));
        let returned = Host { mac: A.mac, ..away };
        assert_eq!(a.receive().frame, packet::udp(B, returned, &[round; 100]));
    }
}
