//! Right frames pass, and wrong ones do not.

use super::*;
use crate::driver::packet::{Host, ethernet, leave_checksum, leave_segmentation, tcp, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn hosts(version: u8) -> [Host; 2] {
    let ip = |last: u8| match version {
        4 => IpAddr::from(Ipv4Addr::new(10, 0, 0, last)),
        _ => IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())),
    };
    [1, 2].map(|last| Host {
        mac: [2, 0, 0, 0, 0, last],
        ip: ip(last),
        port: 1000,
    })
}

/// A request as `ping -s 4` sends it: padded by nobody.
fn echo_request() -> Vec<u8> {
    let [a, b] = hosts(4);
    let mut frame = udp(a, b, &[1, 2, 3, 4]);
    frame[23] = 1;
    frame[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 2]);
    for (at, range) in [(24, 14..34), (36, 34..46)] {
        frame[at..at + 2].fill(0);
        let sum = !checksum::data(&frame[range]);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

fn wrong(mtu: usize, frame: &[u8]) -> Option<Wrong> {
    let result = Checker::new(mtu).check(&Header::default(), frame);
    result.err().map(|fault| fault.wrong)
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
}

#[test]
fn right_frames_pass_and_are_counted() {
    let mut checker = Checker::new(1500);
    for version in [4, 6] {
        let [a, b] = hosts(version);
        for frame in [udp(a, b, b"datagram"), tcp(a, b, 7, b"segment")] {
            checker.check(&Header::default(), &frame).unwrap();
            checker.check(&Header::default(), &tagged(&frame)).unwrap();
            let mut padded = frame.clone();
            padded.resize(60.max(frame.len()), 0);
            checker.check(&Header::default(), &padded).unwrap();
        }
    }
    checker.check(&Header::default(), &echo_request()).unwrap();
    let other = ethernet([2; 6], [4; 6], b"");
    checker.check(&Header::default(), &other).unwrap();
    let tally = checker.tally();
    assert_eq!((tally.frames, tally.ip, tally.tagged), (14, 13, 4));
    assert_eq!((tally.tcp, tally.udp, tally.icmp), (6, 6, 1));
}

#[test]
fn every_changed_bit_that_a_checksum_covers_is_found() {
    for version in [4, 6] {
        let [a, b] = hosts(version);
        let ip_header = if version == 4 { 20 } else { 40 };
        let mut frames = vec![udp(a, b, b"datagram"), tcp(a, b, 7, b"segment")];
        if version == 4 {
            frames.push(echo_request());
        }
        for frame in frames {
            assert_eq!(wrong(1500, &frame), None);
            // Of IPv6's header only the addresses are in a checksum.
            let covered = ETHERNET + if version == 4 { 0 } else { 8 };
            assert!(frame.len() > ETHERNET + ip_header);
            for bit in covered * 8..frame.len() * 8 {
                let mut changed = frame.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(wrong(1500, &changed), None, "IPv{version}, octet {}", bit / 8);
            }
        }
    }
}

#[test]
fn lengths_are_found_wrong() {
    let [a, b] = hosts(4);
    let frame = udp(a, b, &[0; 1472]);
    assert_eq!(wrong(1500, &frame), None);
    assert_eq!(wrong(1499, &frame), Some(Wrong::TooLong { len: 1500, mtu: 1499 }));
    assert_eq!(wrong(1500, &tagged(&frame)), None);
    for len in 0..frame.len() {
        assert!(wrong(1500, &frame[..len]).is_some(), "cut to {len} octets");
    }
    let [a, b] = hosts(6);
    let frame = tcp(a, b, 1, &[0; 100]);
    for len in 0..frame.len() {
        assert!(wrong(1500, &frame[..len]).is_some(), "cut to {len} octets");
    }
    let longer = [&frame[..], &[0]].concat();
    assert_eq!(wrong(1500, &longer), Some(Wrong::Length("IPv6 packet")));
}

#[test]
fn a_datagram_without_a_checksum_is_found() {
    let [a, b] = hosts(4);
    let mut frame = udp(a, b, b"datagram");
    frame[40..42].fill(0);
    assert_eq!(wrong(1500, &frame), Some(Wrong::NoChecksum));
}

#[test]
fn what_is_left_to_the_receiver_is_checked_on_a_virtual_wire_and_refused_on_another() {
    let [a, b] = hosts(4);
    let mut whole = tcp(a, b, 1, &[5; 20_000]);
    let header = leave_segmentation(&mut whole, 1448);
    let check = |header: &Header, frame: &[u8]| {
        let result = Checker::virtual_wire(1500).check(header, frame);
        result.err().map(|fault| fault.wrong)
    };
    assert_eq!(check(&header, &whole), None);
    let refused = Checker::new(1500).check(&header, &whole).unwrap_err();
    assert_eq!(refused.wrong, Wrong::Unfinished);
    let larger = Header {
        gso_size: 1461,
        ..header
    };
    assert!(matches!(
        check(&larger, &tagged(&whole)),
        Some(Wrong::Senseless | Wrong::TooLong { .. })
    ));
    for header in [
        Header {
            gso_type: GSO_TCPV6,
            ..header
        },
        Header {
            gso_size: 0,
            ..header
        },
        Header {
            csum_offset: 6,
            ..header
        },
        Header {
            csum_start: 33,
            ..header
        },
        Header { flags: 0, ..header },
    ] {
        assert!(check(&header, &whole).is_some(), "{header:?}");
    }
    let mut one = udp(a, b, b"datagram");
    let header = leave_checksum(&mut one);
    assert_eq!(check(&header, &one), None);
    one[40] ^= 1;
    assert_eq!(check(&header, &one), Some(Wrong::Checksum("pseudo-header")));
}

#[test]
fn gaps_and_repeats_of_a_stream_are_counted() {
    let [a, b] = hosts(4);
    let mut checker = Checker::new(1500);
    let first = u32::MAX - 99;
    for offset in [0, 100, 200, 400, 200, 300, 500] {
        let frame = tcp(a, b, first.wrapping_add(offset), &[1; 100]);
        checker.check(&Header::default(), &frame).unwrap();
    }
    let other_way = tcp(b, a, 1, &[1; 100]);
    checker.check(&Header::default(), &other_way).unwrap();
    let tally = checker.tally();
    assert_eq!((tally.tcp, tally.gaps, tally.repeats), (8, 1, 2));
}
