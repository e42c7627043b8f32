use proptest::prelude::*;

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = Vec::from((value.len() as u16 + 4).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::from((body.len() as u32 + 16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend([0; 10]);
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// `struct rtmsg` of a unicast route in the main table, with attributes behind it.
fn route(family: i32, length: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![family as u8, length, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    body.extend(attributes.concat());
    body
}

/// `struct ndmsg`, with attributes behind it.
fn neighbour(state: u16, flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![2, 0, 0, 0, 5, 0, 0, 0, state as u8, (state >> 8) as u8, flags, 1];
    body.extend(attributes.concat());
    body
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn plain() -> Vec<u8> {
    let mtu = attribute(RTAX_MTU, &1400u32.to_ne_bytes());
    route(
        libc::AF_INET,
        8,
        &[
            attribute(libc::RTA_TABLE, &254u32.to_ne_bytes()),
            attribute(libc::RTA_DST, &[10, 0, 0, 0]),
            attribute(libc::RTA_PRIORITY, &7u32.to_ne_bytes()),
            // The nesting bit is no part of the type.
            attribute(libc::RTA_METRICS | 0x8000, &mtu),
            attribute(libc::RTA_PREFSRC, &[10, 1, 1, 2]),
            attribute(libc::RTA_GATEWAY, &[10, 1, 1, 1]),
            attribute(libc::RTA_OIF, &5u32.to_ne_bytes()),
        ],
    )
}

fn multipath() -> Vec<u8> {
    let hop = |flags: u8, ifindex: u32, gateway: &[u8]| {
        let gateway = attribute(libc::RTA_GATEWAY, gateway);
        let mut octets = Vec::from((gateway.len() as u16 + 8).to_ne_bytes());
        octets.extend([flags, 0]);
        octets.extend(ifindex.to_ne_bytes());
        octets.extend(gateway);
        octets
    };
    let hops = [hop(0, 4, &[10, 0, 0, 4]), hop(1, 5, &[10, 0, 0, 5])].concat();
    route(libc::AF_INET, 0, &[attribute(libc::RTA_MULTIPATH, &hops)])
}

fn known_neighbour() -> Vec<u8> {
    let attributes = [
        attribute(libc::NDA_DST, &[10, 0, 0, 9]),
        attribute(libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 9]),
    ];
    neighbour(libc::NUD_STALE, 0, &attributes)
}

#[test]
fn a_route_is_read_with_all_that_programs_look_up() {
    let expected = RouteMessage {
        destination: ip("10.0.0.0"),
        length: 8,
        hops: vec![Hop {
            ifindex: 5,
            via: Some(ip("10.1.1.1")),
            usable: true,
        }],
        source: Some(ip("10.1.1.2")),
        mtu: Some(1400),
        metric: 7,
        ordinary: true,
    };
    assert_eq!(RouteMessage::parse(&plain()), Some(expected));
}

#[test]
fn a_gateway_may_be_of_the_other_family_and_ways_may_be_many() {
    let via = [&[10u8, 0][..], &[0xfe, 0x80], &[0; 13], &[1]].concat();
    let attributes = [
        attribute(libc::RTA_VIA, &via),
        attribute(libc::RTA_OIF, &5u32.to_ne_bytes()),
    ];
    let route = RouteMessage::parse(&route(libc::AF_INET, 0, &attributes)).unwrap();
    assert_eq!(
        (route.destination, route.hops[0].via),
        (ip("0.0.0.0"), Some(ip("fe80::1")))
    );

    let route = RouteMessage::parse(&multipath()).unwrap();
    let hops: Vec<_> = route.hops.iter().map(|hop| (hop.ifindex, hop.usable)).collect();
    assert_eq!(hops, [(4, true), (5, false)], "the second one is dead");
    assert!(route.leads_through(5) && !route.leads_through(6));
}

#[test]
fn what_is_no_ordinary_route_is_told_apart() {
    let ordinary = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = plain();
        change(&mut body);
        RouteMessage::parse(&body).map(|route| route.ordinary)
    };
    assert_eq!(ordinary(&|_| {}), Some(true));
    assert_eq!(ordinary(&|body| body[2] = 8), Some(false), "for some sources");
    assert_eq!(
        ordinary(&|body| body[3] = 4),
        Some(false),
        "for a type of service"
    );
    assert_eq!(ordinary(&|body| body[7] = 6), Some(false), "a blackhole");
    assert_eq!(ordinary(&|body| body[9] = 2), Some(false), "a cached one");
    assert_eq!(ordinary(&|body| body[16] = 100), Some(false), "in another table");
    assert_eq!(ordinary(&|body| body[0] = 28), None, "of another family");
    assert_eq!(
        ordinary(&|body| body[0] = 10),
        None,
        "an address of another family"
    );
    assert_eq!(ordinary(&|body| body[1] = 33), None, "a prefix that is too long");
}

#[test]
fn a_neighbour_counts_while_its_address_is_valid() {
    let read = |body: &[u8]| NeighbourMessage::parse(body);
    let expected = NeighbourMessage {
        ifindex: 5,
        address: ip("10.0.0.9"),
        lladdr: Some(MacAddress([2, 0, 0, 0, 0, 9])),
    };
    assert_eq!(read(&known_neighbour()), Some(expected));
    let lladdr = |state: u16| {
        let mut body = known_neighbour();
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        read(&body).unwrap().lladdr.is_some()
    };
    for valid in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
        assert!(lladdr(valid), "{valid:#x}");
    }
    for invalid in [0x00, 0x01, 0x20] {
        assert!(!lladdr(invalid), "{invalid:#x}");
    }
    let mut proxy = known_neighbour();
    proxy[10] = NTF_PROXY;
    assert_eq!(read(&proxy), None);
    let mut of_bridge = known_neighbour();
    of_bridge[0] = libc::AF_BRIDGE as u8;
    assert_eq!(read(&of_bridge), None);
    assert_eq!(
        read(&neighbour(libc::NUD_STALE, 0, &[])),
        None,
        "it has no address"
    );
}

#[test]
fn a_datagram_holds_many_messages_and_ends_at_what_is_none() {
    let mut datagram = message(libc::RTM_NEWROUTE, &plain());
    datagram.extend(message(libc::RTM_NEWLINK, &[0, 0, 0, 0, 9, 0, 0, 0, 1]));
    datagram.extend(message(3, &(-libc::EPERM).to_ne_bytes()));
    datagram.extend(100u32.to_ne_bytes());
    let read: Vec<_> = messages(&datagram).collect();
    assert_eq!(
        read.iter().map(|message| message.kind).collect::<Vec<_>>(),
        [libc::RTM_NEWROUTE, libc::RTM_NEWLINK, 3]
    );
    assert_eq!((read[1].link(), read[2].errno()), (Some(9), libc::EPERM));
}

fn read_all(datagram: &[u8]) {
    for message in messages(datagram).take(1000) {
        let _ = (message.link(), message.errno());
        let _ = RouteMessage::parse(message.body);
        let _ = NeighbourMessage::parse(message.body);
    }
}

#[test]
fn every_cut_of_a_datagram_is_read_without_harm() {
    let bodies = [plain(), multipath(), known_neighbour()];
    for body in bodies {
        let datagram = message(libc::RTM_NEWROUTE, &body);
        for len in 0..datagram.len() {
            read_all(&datagram[..len]);
            // As if the message were whole: then its attributes are cut.
            let mut short = datagram[..len].to_vec();
            if let Some(field) = short.get_mut(..4) {
                field.copy_from_slice(&(len as u32).to_ne_bytes());
            }
            read_all(&short);
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&octets);
        let _ = (RouteMessage::parse(&octets), NeighbourMessage::parse(&octets));
    }

    #[test]
    fn garbled_messages_are_read_without_harm(
        changes in prop::collection::vec((0usize..120, any::<u8>()), 1..6), which in 0usize..3,
    ) {
        let body = [plain(), multipath(), known_neighbour()][which].clone();
        let mut datagram = message(libc::RTM_NEWROUTE, &body);
        for (at, value) in changes {
            let len = datagram.len();
            datagram[at % len] = value;
        }
        read_all(&datagram);
        // The message's own length whole again, so that what is in it is reached.
        let len = datagram.len() as u32;
        datagram[..4].copy_from_slice(&len.to_ne_bytes());
        read_all(&datagram);
    }
}
