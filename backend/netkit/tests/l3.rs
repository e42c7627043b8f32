//! A virtual machine behind an L3 device: its ARP and neighbour discovery are answered, its IP passes
//! with zero addresses, and what comes back has Ethernet addresses again.

use std::net::{Ipv4Addr, Ipv6Addr};

use devices::packet::{Frame, MacAddress, Slice};
use etherparse::{Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use netkit::DropReason;
use netkit::l3::{L3Input, REPLY_MAX, from_guest, to_guest};
use proptest::prelude::*;

const GUEST: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 1]);
const GATEWAY: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xfe]);
const MALFORMED: L3Input = L3Input::Dropped(DropReason::NeighbourMalformed);

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// What the guest gets to hear to a frame.
fn input(octets: &[u8]) -> (L3Input, Vec<u8>) {
    let mut reply = [0xee; REPLY_MAX];
    let result = from_guest(&mut Frame::from_octets(octets), GATEWAY, &mut reply);
    let length = if let L3Input::Reply(length) = result {
        length
    } else {
        0
    };
    (result, reply[..length].to_vec())
}

fn ethernet(destination: MacAddress, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &GUEST.0, &ether_type.to_be_bytes(), payload].concat()
}

fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let message = [
        &[0, 1, 8, 0, 6, 4][..],
        &operation.to_be_bytes(),
        &GUEST.0,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
        &[0; 18], // Ethernet's padding
    ];
    ethernet(MacAddress::BROADCAST, 0x0806, &message.concat())
}

#[test]
fn arp_requests_are_answered_for_any_address() {
    for target in ["169.254.1.1", "10.0.0.1", "10.0.0.3", "203.0.113.7"] {
        let (result, reply) = input(&arp(1, v4("10.0.0.2"), v4(target)));
        assert_eq!(result, L3Input::Reply(42));
        assert_eq!(
            (&reply[..6], &reply[6..12], &reply[12..14]),
            (&GUEST.0[..], &GATEWAY.0[..], &[8, 6][..])
        );
        assert_eq!(reply[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(
            (&reply[22..28], &reply[28..32]),
            (&GATEWAY.0[..], &v4(target).octets()[..])
        );
        assert_eq!(
            (&reply[32..38], &reply[38..42]),
            (&GUEST.0[..], &[10, 0, 0, 2][..])
        );
    }
}

#[test]
fn arp_probes_announcements_and_replies_are_not_answered() {
    let own = v4("10.0.0.2");
    for frame in [
        arp(1, Ipv4Addr::UNSPECIFIED, own),
        arp(1, own, own),
        arp(2, own, own),
        arp(2, own, v4("10.0.0.1")),
        arp(3, own, v4("10.0.0.1")),
        arp(1, own, Ipv4Addr::UNSPECIFIED),
        arp(1, own, Ipv4Addr::BROADCAST),
        arp(1, own, Ipv4Addr::LOCALHOST),
        arp(1, own, v4("224.0.0.1")),
    ] {
        assert_eq!(input(&frame).0, L3Input::Consumed);
    }
}

#[test]
fn malformed_arp_is_dropped() {
    let good = arp(1, v4("10.0.0.2"), v4("10.0.0.1"));
    for length in 14..42 {
        assert_eq!(input(&good[..length]).0, MALFORMED, "{length}");
    }
    // Hardware, protocol, their lengths, and a sender that is zero or a group.
    for (offset, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (22, 0xff)] {
        let mut bad = good.clone();
        bad[offset] = value;
        assert_eq!(input(&bad).0, MALFORMED, "{offset}");
    }
    let mut bad = good;
    bad[22..28].fill(0);
    assert_eq!(input(&bad).0, MALFORMED);
}

/// A solicitation as Linux sends it, built by other hands.
fn solicit(source: Ipv6Addr, target: Ipv6Addr, with_address: bool) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group: Ipv6Addr = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c].into();
    let mut payload = target.octets().to_vec();
    if with_address {
        payload.extend([1, 1]);
        payload.extend(GUEST.0);
    }
    let builder = PacketBuilder::ethernet2(GUEST.0, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborSolicitation);
    let mut octets = Vec::new();
    builder.write(&mut octets, &payload).unwrap();
    octets
}

fn resum(frame: &mut [u8]) {
    frame[56..58].fill(0);
    let words = |octets: &[u8]| {
        octets
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum::<u32>()
    };
    let mut sum = words(&frame[22..54]) + 58 + (frame.len() as u32 - 54) + words(&frame[54..]);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn solicitations_are_answered_for_any_target() {
    for (target, with_address) in [("fe80::1", true), ("fe80::1", false), ("2001:db8::7", true)] {
        let source = v6("fe80::5054:ff:fe00:1");
        let (result, reply) = input(&solicit(source, v6(target), with_address));
        assert_eq!(result, L3Input::Reply(86));
        let packet = SlicedPacket::from_ethernet(&reply).unwrap();
        assert_eq!((&reply[..6], &reply[6..12]), (&GUEST.0[..], &GATEWAY.0[..]));
        let Some(NetSlice::Ipv6(ip)) = packet.net else {
            panic!("not IPv6")
        };
        let ip = ip.header();
        assert_eq!(
            (ip.source_addr(), ip.destination_addr(), ip.hop_limit()),
            (v6(target), source, 255)
        );
        let Some(TransportSlice::Icmpv6(message)) = packet.transport else {
            panic!("not ICMPv6")
        };
        assert!(message.is_checksum_valid(ip.source(), ip.destination()));
        let Icmpv6Type::NeighborAdvertisement(flags) = message.icmp_type() else {
            panic!("not an advertisement")
        };
        assert!(flags.router && flags.solicited && flags.r#override);
        assert_eq!(message.payload()[..16], v6(target).octets());
        assert_eq!(message.payload()[16..], [&[2, 1][..], &GATEWAY.0].concat());
    }
}

#[test]
fn duplicate_address_detection_is_not_answered() {
    let own = v6("fe80::5054:ff:fe00:1");
    assert_eq!(
        input(&solicit(Ipv6Addr::UNSPECIFIED, own, false)).0,
        L3Input::Consumed
    );
    assert_eq!(input(&solicit(own, own, true)).0, L3Input::Consumed);
    assert_eq!(
        input(&solicit(own, Ipv6Addr::LOCALHOST, true)).0,
        L3Input::Consumed
    );
    assert_eq!(
        input(&solicit(own, Ipv6Addr::UNSPECIFIED, true)).0,
        L3Input::Consumed
    );
    let mut advertisement = solicit(own, own, true);
    advertisement[54] = 136;
    resum(&mut advertisement);
    assert_eq!(input(&advertisement).0, L3Input::Consumed);
}

#[test]
fn malformed_solicitations_are_dropped() {
    let good = solicit(v6("fe80::2"), v6("fe80::1"), true);
    let bad = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        resum(&mut frame);
        input(&frame).0
    };
    assert_eq!(bad(&|_| ()), L3Input::Reply(86));
    for length in 55..good.len() {
        assert_eq!(input(&good[..length]).0, MALFORMED, "cut at {length}");
    }
    assert_eq!(bad(&|frame| frame[21] = 254), MALFORMED, "hop limit");
    assert_eq!(bad(&|frame| frame[55] = 1), MALFORMED, "code");
    assert_eq!(bad(&|frame| frame[14] = 0x40), MALFORMED, "version");
    assert_eq!(bad(&|frame| frame[62] = 0xff), MALFORMED, "multicast target");
    assert_eq!(bad(&|frame| frame[22] = 0xff), MALFORMED, "multicast source");
    assert_eq!(bad(&|frame| frame[79] = 0), MALFORMED, "option of length 0");
    assert_eq!(bad(&|frame| frame[79] = 2), MALFORMED, "option beyond the end");
    assert_eq!(
        bad(&|frame| frame[80] = 0xff),
        MALFORMED,
        "group as source address"
    );
    assert_eq!(
        bad(&|frame| frame[22..38].fill(0)),
        MALFORMED,
        "probe with an address"
    );
    let mut probe = solicit(Ipv6Addr::UNSPECIFIED, v6("fe80::1"), false);
    probe[38..54].copy_from_slice(&v6("ff02::1").octets());
    resum(&mut probe);
    assert_eq!(input(&probe).0, MALFORMED, "probe to all nodes");
    let mut wrong_sum = good.clone();
    wrong_sum[57] ^= 1;
    assert_eq!(input(&wrong_sum).0, MALFORMED, "checksum");
}

#[test]
fn a_sum_that_is_not_there_is_not_checked() {
    let mut octets = solicit(v6("fe80::2"), v6("fe80::1"), true);
    octets[56..58].fill(0);
    for partial in [false, true] {
        let mut frame = Frame::from_octets(&octets);
        (frame.offload.needs_csum, frame.offload.data_valid) = (partial, !partial);
        assert_eq!(
            from_guest(&mut frame, GATEWAY, &mut [0; REPLY_MAX]),
            L3Input::Reply(86)
        );
    }
}

#[test]
fn the_rest_passes_with_zero_addresses() {
    let router_solicitation = {
        let mut octets = solicit(v6("fe80::2"), v6("fe80::1"), true);
        octets[54] = 133;
        octets
    };
    let udp = |destination: [u8; 4]| {
        let mut octets = Vec::new();
        let builder = PacketBuilder::ethernet2(GUEST.0, GATEWAY.0)
            .ipv4([10, 0, 0, 2], destination, 64)
            .udp(1, 2);
        builder.write(&mut octets, b"payload").unwrap();
        octets
    };
    for octets in [
        udp([10, 0, 0, 1]),
        udp([255; 4]),
        router_solicitation,
        ethernet(MacAddress::BROADCAST, 0x86dd, &[]),
        ethernet(MacAddress::BROADCAST, 0x8100, &[0; 4]),
        ethernet(MacAddress::BROADCAST, 0x88cc, &[]),
    ] {
        let mut frame = Frame::from_octets(&octets);
        assert_eq!(
            from_guest(&mut frame, GATEWAY, &mut [0; REPLY_MAX]),
            L3Input::Forward
        );
        assert_eq!(frame.head()[..12], [0; 12]);
        assert_eq!(frame.head()[12..], octets[12..]);
    }
    // xmit finds the runts.
    for length in 0..14 {
        assert_eq!(input(&[1; 14][..length]).0, L3Input::Forward);
    }
}

#[test]
fn frames_in_pieces_are_read_all_the_same() {
    let whole = solicit(v6("fe80::2"), v6("fe80::1"), true);
    let mut frame = Frame::from_octets(&whole[..5]);
    for part in whole[5..].chunks(7) {
        // SAFETY: `whole` outlives the frame.
        unsafe {
            frame.push_slice(Slice {
                ptr: part.as_ptr(),
                len: part.len(),
            })
        };
    }
    assert_eq!(
        from_guest(&mut frame, GATEWAY, &mut [0; REPLY_MAX]),
        L3Input::Reply(86)
    );
}

fn delivered(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::from_octets(&[&[0; 12][..], &ether_type.to_be_bytes(), payload].concat());
    to_guest(&mut frame, GUEST, GATEWAY);
    assert_eq!(frame.head()[6..12], GATEWAY.0);
    assert_eq!(frame.head()[14..], *payload);
    frame.head()[..6].to_vec()
}

#[test]
fn frames_to_the_guest_get_ethernet_addresses() {
    let ipv4 = |destination: &str| [&[0x45; 16][..], &v4(destination).octets()].concat();
    let ipv6 = |destination: &str| [&[0x60; 24][..], &v6(destination).octets()].concat();
    for (ether_type, payload, destination) in [
        (0x0800, ipv4("10.0.0.2"), GUEST),
        (0x0800, ipv4("10.0.0.255"), GUEST),
        (0x0800, ipv4("255.255.255.255"), MacAddress::BROADCAST),
        (0x0800, ipv4("224.0.0.251"), MacAddress([1, 0, 0x5e, 0, 0, 0xfb])),
        (0x0800, ipv4("239.255.1.2"), MacAddress([1, 0, 0x5e, 0x7f, 1, 2])),
        (0x86dd, ipv6("2001:db8::2"), GUEST),
        (
            0x86dd,
            ipv6("ff02::1:ff00:1"),
            MacAddress([0x33, 0x33, 0xff, 0, 0, 1]),
        ),
        (0x0800, vec![], GUEST),
        (0x86dd, vec![0xff; 39], GUEST),
        (0x88cc, vec![1, 2, 3], GUEST),
    ] {
        assert_eq!(delivered(ether_type, &payload), destination.0, "{payload:?}");
    }
    let mut runt = Frame::from_octets(&[1; 13]);
    to_guest(&mut runt, GUEST, GATEWAY);
    assert_eq!(runt.head(), [1; 13]);
}

proptest! {
    /// Nothing a guest sends makes this panic, leak unwritten octets of the buffer, or be answered to
    /// somebody else.
    #[test]
    fn hostile_frames(kind in 0..4, edits in prop::collection::vec((0usize..86, any::<u8>()), 0..6),
                      length in 0usize..120, needs_csum: bool) {
        let mut octets = match kind {
            0 => arp(1, v4("10.0.0.2"), v4("10.0.0.1")),
            1 => solicit(v6("fe80::2"), v6("fe80::1"), true),
            2 => solicit(Ipv6Addr::UNSPECIFIED, v6("fe80::1"), false),
            _ => vec![0xff; 120],
        };
        for (offset, value) in edits {
            if let Some(octet) = octets.get_mut(offset) {
                *octet = value;
            }
        }
        octets.truncate(length);
        let mut frame = Frame::from_octets(&octets);
        frame.offload.needs_csum = needs_csum;
        let mut reply = [0xee; REPLY_MAX];
        match from_guest(&mut frame, GATEWAY, &mut reply) {
            L3Input::Reply(length) => {
                prop_assert!(length == 42 || length == 86);
                prop_assert_eq!(&reply[6..12], &GATEWAY.0[..]);
                prop_assert_eq!(reply[0] & 1, 0);
                prop_assert!(reply[length..].iter().all(|octet| *octet == 0xee));
            }
            L3Input::Forward if octets.len() >= 14 => prop_assert_eq!(&frame.head()[..12], &[0; 12][..]),
            _ => (),
        }
        to_guest(&mut frame, GUEST, GATEWAY);
        prop_assert_eq!(frame.len(), octets.len());
    }
}
