//! Headers as drivers send them, and as no honest driver does.

use proptest::prelude::*;

use super::recipe::{Field, L4, Layout, Net, Recipe, layouts, oversized};
use crate::packet::virtio_header::*;
use crate::packet::{
    BadOffload, GsoType, HEAD_CAPACITY, HeaderError, Offload, OffloadFeatures, VirtioNetHeader, accept,
    header_for,
};

const SHORT_HEAD: &Layout = &Layout {
    head: 20,
    pieces: Vec::new(),
};

/// What becomes of `octets` with `header`, if everything was negotiated.
fn judge(octets: &[u8], header: &VirtioNetHeader) -> Result<Offload, BadOffload> {
    judge_for(octets, header, OffloadFeatures::ALL)
}

fn judge_for(
    octets: &[u8],
    header: &VirtioNetHeader,
    allowed: OffloadFeatures,
) -> Result<Offload, BadOffload> {
    let layout = Layout {
        pieces: vec![700],
        ..SHORT_HEAD.clone()
    };
    let mut frame = layout.frame(octets);
    frame.offload.ecn = true;
    let judged = accept(&mut frame, header, allowed);
    assert_eq!(frame.to_vec(), octets, "nothing is changed");
    if judged.is_err() {
        assert_eq!(frame.offload, Offload::default());
    }
    judged.map(|()| frame.offload)
}

fn large() -> (Recipe, Vec<u8>, VirtioNetHeader) {
    let recipe = Recipe::tcp4(4000);
    let octets = recipe.build(Field::PseudoHeader);
    let header = recipe.header(1448);
    (recipe, octets, header)
}

/// T1, T2, T4: without NEEDS_CSUM there is nothing but a frame.
#[test]
fn a_plain_frame_has_no_offload_whatever_the_other_fields_say() {
    let (_, octets, header) = large();
    for flags in [0, F_DATA_VALID, !F_NEEDS_CSUM] {
        let header = VirtioNetHeader {
            flags,
            gso_type: GSO_NONE,
            csum_start: 0xffff,
            csum_offset: 0xffff,
            ..header
        };
        assert_eq!(
            judge_for(&octets, &header, OffloadFeatures::NONE),
            Ok(Offload::default())
        );
        assert_eq!(judge(&[], &header), Ok(Offload::default()));
    }
}

/// T1.
#[test]
fn unknown_flags_are_ignored() {
    let (_, octets, header) = large();
    let known = judge(&octets, &header).unwrap();
    assert_eq!(
        judge(
            &octets,
            &VirtioNetHeader {
                flags: 0xff,
                ..header
            }
        ),
        Ok(known)
    );
    assert!(!known.data_valid);
}

/// T3.
#[test]
fn the_header_length_is_found_not_believed() {
    let (recipe, octets, header) = large();
    for hdr_len in [0, 1, 54, 0xffff] {
        let offload = judge(&octets, &VirtioNetHeader { hdr_len, ..header }).unwrap();
        assert_eq!(usize::from(offload.hdr_len), recipe.header_len());
    }
}

#[test]
fn a_single_segment_is_a_whole_frame() {
    let (_, octets, header) = large();
    let gso_type = |gso_size| {
        judge(&octets, &VirtioNetHeader { gso_size, ..header })
            .unwrap()
            .gso_type
    };
    assert_eq!(gso_type(3999), GsoType::TcpV4);
    assert_eq!(gso_type(4000), GsoType::None);
    assert_eq!(gso_type(0xffff), GsoType::None);
    let empty = Recipe::tcp4(0);
    let octets = empty.build(Field::PseudoHeader);
    assert_eq!(
        judge(&octets, &empty.header(100)),
        judge(&octets, &empty.header(0))
    );
}

#[test]
fn ecn_is_what_the_tcp_header_says() {
    let (mut recipe, octets, header) = large();
    assert!(judge(&octets, &header).unwrap().ecn);
    let silent = VirtioNetHeader {
        gso_type: GSO_TCPV4,
        ..header
    };
    assert!(judge(&octets, &silent).unwrap().ecn);
    recipe.transport = L4::Tcp {
        sequence: 0,
        flags: 0x10,
        options: vec![],
    };
    let octets = recipe.build(Field::PseudoHeader);
    let boast = VirtioNetHeader {
        gso_type: GSO_TCPV4 | GSO_ECN,
        ..recipe.header(1448)
    };
    assert!(!judge(&octets, &boast).unwrap().ecn);
}

/// What Linux leaves to the device for VXLAN, GRE, IP in IP and SIT: the checksum of the inner packet.
#[test]
fn the_checksum_inside_a_tunnel_is_accepted() {
    for (protocol, inner) in [(17, 8 + 8 + 14 + 20), (47, 4 + 20), (4, 20), (41, 40)] {
        let mut octets = Recipe::tcp4(200).build(Field::Checksum);
        octets[23] = protocol;
        let header = VirtioNetHeader {
            flags: F_NEEDS_CSUM,
            csum_start: 34 + inner,
            csum_offset: 16,
            ..Default::default()
        };
        let offload = judge(&octets, &header).unwrap();
        assert_eq!(
            (offload.csum_start, offload.csum_offset),
            (34 + inner, 16),
            "{protocol}"
        );
    }
}

#[test]
fn each_variant_is_refused_by_its_name() {
    let (recipe, octets, header) = large();
    let with = |change: fn(&mut VirtioNetHeader)| {
        let mut header = header;
        change(&mut header);
        judge(&octets, &header).unwrap_err()
    };
    let without = |change: fn(&mut OffloadFeatures)| {
        let mut allowed = OffloadFeatures::ALL;
        change(&mut allowed);
        judge_for(&octets, &header, allowed).unwrap_err()
    };
    let of = |octets: Vec<u8>, header| judge(&octets, &header).unwrap_err();
    let len = octets.len();

    assert_eq!(
        without(|allowed| allowed.csum = false),
        BadOffload::ChecksumNotNegotiated
    );
    assert_eq!(
        without(|allowed| allowed.tso4 = false),
        BadOffload::GsoNotNegotiated(GsoType::TcpV4)
    );
    assert_eq!(
        without(|allowed| allowed.ecn = false),
        BadOffload::EcnNotNegotiated
    );

    assert_eq!(
        with(|header| header.flags = F_DATA_VALID),
        BadOffload::GsoWithoutChecksum
    );
    assert_eq!(with(|header| header.gso_type = GSO_UDP), BadOffload::Ufo);
    assert_eq!(
        with(|header| header.gso_type = GSO_UDP | GSO_ECN),
        BadOffload::Ufo
    );
    assert_eq!(
        with(|header| header.gso_type |= GSO_UDP_TUNNEL_IPV4),
        BadOffload::Tunnel
    );
    assert_eq!(
        with(|header| header.gso_type |= GSO_UDP_TUNNEL_IPV6),
        BadOffload::Tunnel
    );
    for gso_type in [2, 6, 0x10, 0x11, GSO_ECN] {
        let header = VirtioNetHeader { gso_type, ..header };
        assert_eq!(of(octets.clone(), header), BadOffload::GsoUnknown(gso_type));
    }
    assert_eq!(
        with(|header| header.gso_type = GSO_TCPV6),
        BadOffload::GsoProtocol(GsoType::TcpV6)
    );
    assert_eq!(
        with(|header| header.gso_type = GSO_UDP_L4),
        BadOffload::GsoProtocol(GsoType::Udp)
    );
    assert_eq!(
        with(|header| header.gso_type = GSO_UDP_L4 | GSO_ECN),
        BadOffload::EcnWithoutTcp
    );
    assert_eq!(with(|header| header.gso_size = 0), BadOffload::GsoSize(0));
    assert_eq!(with(|header| header.gso_size = 7), BadOffload::GsoSize(7));

    let outside = |end| BadOffload::ChecksumOutside { end, len };
    assert_eq!(with(|header| header.csum_start = 0xffff), outside(0xffff + 18));
    assert_eq!(
        with(|header| header.csum_offset = 0xffff),
        outside(34 + 0xffff + 2)
    );
    let last = VirtioNetHeader {
        csum_offset: (len - 34 - 1) as u16,
        ..header
    };
    assert_eq!(of(octets.clone(), last), outside(len + 1));
    // The Ethernet addresses, the IP addresses, the ports, and what is behind a TCP header.
    for (csum_start, csum_offset) in [(0, 0), (14, 16), (34, 0), (34, 15), (33, 17), (66, 16)] {
        let header = VirtioNetHeader {
            csum_start,
            csum_offset,
            ..header
        };
        let misplaced = BadOffload::ChecksumMisplaced {
            start: csum_start,
            offset: csum_offset,
        };
        assert_eq!(of(octets.clone(), header), misplaced);
    }

    let mut fragment = octets.clone();
    fragment[20] = 0x20;
    assert_eq!(of(fragment, header), BadOffload::Fragment);
    let mut lying = octets.clone();
    lying[16..18].copy_from_slice(&100u16.to_be_bytes());
    assert_eq!(
        of(lying, header),
        BadOffload::IpLength {
            claimed: 100,
            actual: len - 14
        }
    );
    let mut broken = octets.clone();
    broken[14] = 0x41;
    assert_eq!(
        of(broken, header),
        BadOffload::Headers(HeaderError::HeaderLength(4))
    );
    let cut_short = octets[..40].to_vec();
    assert_eq!(
        of(cut_short, header),
        BadOffload::Headers(HeaderError::Truncated { end: 54, len: 40 })
    );

    let udp = Recipe::udp6(129 * 20);
    let unsized_udp = VirtioNetHeader {
        gso_size: 0,
        ..udp.header(1000)
    };
    assert_eq!(
        of(udp.build(Field::PseudoHeader), unsized_udp),
        BadOffload::GsoSize(0)
    );
    assert_eq!(
        of(udp.build(Field::PseudoHeader), udp.header(20)),
        BadOffload::TooManySegments(129)
    );
    let inner = VirtioNetHeader {
        csum_start: 62 + 8,
        ..udp.header(1000)
    };
    assert_eq!(of(udp.build(Field::PseudoHeader), inner), BadOffload::GsoChecksum);
    let far = VirtioNetHeader {
        csum_start: 2046,
        csum_offset: 1,
        gso_type: GSO_NONE,
        ..inner
    };
    assert_eq!(
        of(udp.build(Field::PseudoHeader), far),
        BadOffload::ChecksumTooFar(HEAD_CAPACITY + 1)
    );

    let extensions = vec![(60, vec![0; 2046]); 2];
    let long = Recipe {
        network: Net::V6 { extensions },
        ..recipe
    };
    let too_long = BadOffload::Headers(HeaderError::TooLong(54 + 2048));
    assert_eq!(of(long.build(Field::PseudoHeader), long.header(1448)), too_long);
}

/// A policy must not see one address, port or type and the receiver another.
#[test]
fn what_is_not_offloaded_for_has_no_checksum() {
    for protocol in [1, 58, 132, 50, 51] {
        let mut octets = Recipe::tcp4(200).build(Field::Checksum);
        octets[23] = protocol;
        let header = VirtioNetHeader {
            flags: F_NEEDS_CSUM,
            csum_start: 34,
            csum_offset: 8,
            ..Default::default()
        };
        assert!(
            matches!(judge(&octets, &header), Err(BadOffload::ChecksumMisplaced { .. })),
            "{protocol}"
        );
    }
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let header = VirtioNetHeader {
        flags: F_NEEDS_CSUM,
        csum_start: 28,
        csum_offset: 0,
        ..Default::default()
    };
    assert!(matches!(
        judge(&arp, &header),
        Err(BadOffload::ChecksumMisplaced { .. })
    ));
}

/// R8 to R11.
#[test]
fn the_receivers_header_says_what_the_offload_does() {
    assert_eq!(
        header_for(&Offload::default(), 3),
        VirtioNetHeader {
            num_buffers: 3,
            ..Default::default()
        }
    );
    let vouched = Offload {
        data_valid: true,
        ..Offload::default()
    };
    assert_eq!(header_for(&vouched, 1).flags, F_DATA_VALID);
    let both = Offload {
        needs_csum: true,
        ..vouched
    };
    assert_eq!(header_for(&both, 1).flags, F_NEEDS_CSUM);
}

proptest! {
    #[test]
    fn what_drivers_send_is_accepted((recipe, gso_size) in oversized(), layout in layouts()) {
        let octets = recipe.build(Field::PseudoHeader);
        let mut frame = layout.frame(&octets);
        prop_assert_eq!(accept(&mut frame, &recipe.header(gso_size), OffloadFeatures::ALL), Ok(()));
        prop_assert_eq!(frame.offload, Offload {
            needs_csum: true,
            data_valid: false,
            csum_start: recipe.l4() as u16,
            csum_offset: recipe.csum_offset() as u16,
            gso_type: recipe.gso_type(),
            ecn: recipe.has_cwr(),
            gso_size,
            hdr_len: recipe.header_len() as u16,
            encapsulation: None,
        });
        // R8 to R10: the receiver gets the header that an honest sender wrote.
        let header = VirtioNetHeader { hdr_len: recipe.header_len() as u16, num_buffers: 2, ..recipe.header(gso_size) };
        prop_assert_eq!(header_for(&frame.offload, 2), header);
    }
}
