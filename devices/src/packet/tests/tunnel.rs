//! Frames that a program encapsulated, against segments that are built and encapsulated one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::adapt::{assert_valid, deliver};
use super::recipe::{Field, Layout, Net, Recipe, layouts, oversized};
use super::wrapping::{Fields, Kind, Wrapping, packet, wrappings};
use crate::packet::{
    AdaptError, Adaptation, BadOffload, Encapsulation, Frame, GsoType, HEAD_CAPACITY, HeaderError, Offload,
    OffloadFeatures, Transport, TunnelError, adapt, complete_checksum, recheck,
};

/// The frame of a TCP packet in VXLAN, its octets changed, and what is made of it.
fn judge(
    wrapping: &Wrapping,
    change: impl FnOnce(&mut Vec<u8>, &mut Offload),
) -> Result<Offload, BadOffload> {
    let recipe = Recipe::tcp4(5000);
    let mut octets = wrapping.whole(&recipe);
    let mut offload = wrapping.offload(&recipe, 1000);
    change(&mut octets, &mut offload);
    let mut frame = Frame::from_octets(&octets);
    frame.offload = offload;
    let judged = recheck(&mut frame).map(|()| frame.offload);
    assert_eq!(frame.to_vec(), octets, "nothing is changed");
    // Who does not look must be none the worse for it.
    frame.offload = offload;
    let _ = adapt::<AdaptError>(&mut frame, OffloadFeatures::ALL, &mut Frame::new(), |_| Ok(()));
    judged
}

fn refusal(wrapping: &Wrapping, change: impl FnOnce(&mut Vec<u8>, &mut Offload)) -> BadOffload {
    judge(wrapping, change).unwrap_err()
}

#[test]
fn no_receiver_understands_segmentation_inside_of_a_tunnel() {
    let offload = judge(&Wrapping::vxlan(false), |_, _| {}).unwrap();
    assert_eq!(
        offload.encapsulation,
        Some(Encapsulation { inner: 64, udp: true })
    );
    assert_eq!((offload.hdr_len, offload.ecn), (64 + 20 + 32, true));
    assert_eq!(
        Adaptation::of(&offload, OffloadFeatures::ALL),
        Adaptation::Segment
    );
}

/// The longest packet that a guest sends is longer still with its outer headers, whose lengths say nothing then.
#[test]
fn the_longest_packets_are_cut_inside_of_a_tunnel() {
    for recipe in [Recipe::tcp4(65535 - 20 - 32), Recipe::udp6(65535 - 8)] {
        for wrapping in [Wrapping::vxlan(true), Wrapping::vxlan(false)] {
            let octets = wrapping.whole(&recipe);
            let layout = Layout {
                head: 256,
                pieces: vec![4096],
            };
            let mut frame = layout.frame(&octets);
            frame.offload = wrapping.offload(&recipe, 1448);
            assert_eq!(recheck(&mut frame), Ok(()));
            let delivered = deliver(&mut frame, OffloadFeatures::ALL);
            let octets: Vec<_> = delivered.into_iter().map(|(octets, _)| octets).collect();
            assert_eq!(octets, wrapping.cut(&recipe, 1448));
        }
    }
}

#[test]
fn segments_that_the_outer_header_cannot_express_are_refused() {
    let recipe = Recipe::udp6(65535 - 8);
    let wrapping = Wrapping::vxlan(false);
    let mut frame = Frame::from_octets(&wrapping.whole(&recipe));
    frame.offload = wrapping.offload(&recipe, 65500);
    let too_long = TunnelError::TooLong(20 + 8 + 22 + 48 + 65500);
    assert_eq!(recheck(&mut frame), Err(BadOffload::Encapsulation(too_long)));
    frame.offload = wrapping.offload(&recipe, 65500);
    let adapted = adapt(&mut frame, OffloadFeatures::ALL, &mut Frame::new(), |_| Ok(()));
    assert_eq!(adapted, Err(AdaptError::Tunnel(too_long)));
}

/// What a program took so much from that nothing is left to cut is a frame like any other in a tunnel.
#[test]
fn a_single_segment_in_a_tunnel_is_no_longer_to_be_cut() {
    let recipe = Recipe::tcp4(700);
    let wrapping = Wrapping::vxlan(false);
    let mut frame =
        Frame::from_octets(&wrapping.around(&packet(&recipe, Field::PseudoHeader), 0, Fields::Right));
    frame.offload = wrapping.offload(&recipe, 1000);
    recheck(&mut frame).unwrap();
    assert_eq!(
        (frame.offload.gso_type, frame.offload.encapsulation),
        (GsoType::None, None)
    );
    let delivered = deliver(&mut frame, OffloadFeatures::NONE);
    let expected = wrapping.around(&packet(&recipe, Field::Checksum), 0, Fields::Right);
    assert_eq!(delivered, vec![(expected, Offload::default())]);
}

#[test]
fn a_partial_checksum_inside_of_any_tunnel_can_be_completed() {
    let recipe = Recipe::udp6(700);
    for tunnel in [
        Kind::Ip,
        Kind::Udp { checksum: false },
        Kind::Gre {
            checksum: false,
            key: true,
        },
    ] {
        let wrapping = Wrapping {
            tunnel,
            between: vec![],
            ..Wrapping::vxlan(false)
        };
        let mut frame =
            Frame::from_octets(&wrapping.around(&packet(&recipe, Field::PseudoHeader), 0, Fields::Right));
        frame.offload = Offload {
            gso_type: GsoType::None,
            gso_size: 0,
            encapsulation: None,
            ..wrapping.offload(&recipe, 0)
        };
        complete_checksum(&mut frame).unwrap();
        assert_eq!(
            frame.to_vec(),
            wrapping.around(&packet(&recipe, Field::Checksum), 0, Fields::Right)
        );
    }
}

#[test]
fn outer_headers_that_are_no_tunnel_are_refused() {
    let vxlan = Wrapping::vxlan(true);
    let refused = |change: fn(&mut Vec<u8>, &mut Offload)| refusal(&vxlan, change);
    let protocol = |transport| BadOffload::Encapsulation(TunnelError::Protocol(transport));
    assert_eq!(
        refused(|octets, _| octets[23] = 97),
        protocol(Transport::Other(97))
    );
    assert_eq!(
        refused(|octets, _| octets[23] = 47),
        protocol(Transport::Other(47))
    );
    assert_eq!(
        refused(|_, offload| offload.encapsulation.as_mut().unwrap().udp = false),
        protocol(Transport::Udp)
    );
    let not_announced = refused(|octets, offload| {
        octets[23] = 97;
        offload.encapsulation.as_mut().unwrap().udp = false;
    });
    assert_eq!(not_announced, protocol(Transport::Other(97)));
    let no_ip = refused(|octets, _| octets[12..14].copy_from_slice(&[0x88, 0x47]));
    assert_eq!(no_ip, protocol(Transport::None));
    assert_eq!(
        refused(|octets, _| octets[20] = 0x20),
        BadOffload::Encapsulation(TunnelError::Fragment)
    );
    let version = BadOffload::Encapsulation(TunnelError::Headers(HeaderError::Version(0)));
    assert_eq!(refused(|octets, _| octets[14] = 0), version);
    assert_eq!(refused(|octets, _| octets[64] = 0), version);
    let with_options = Wrapping {
        options: 8,
        ..Wrapping::vxlan(true)
    };
    let behind_options = BadOffload::Encapsulation(TunnelError::ChecksumBehindOptions);
    for is_v6 in [false, true] {
        let wrapping = Wrapping {
            is_v6,
            ..with_options.clone()
        };
        assert_eq!(refusal(&wrapping, |_, _| {}), behind_options);
    }
}

#[test]
fn gre_that_counts_or_routes_is_refused() {
    let gre = Wrapping {
        tunnel: Kind::Gre {
            checksum: true,
            key: true,
        },
        ..Wrapping::vxlan(false)
    };
    assert!(judge(&gre, |_, _| {}).is_ok());
    for (first, second) in [(0x10, 0), (0x40, 0), (0x08, 0), (0, 1)] {
        let refused = refusal(&gre, |octets, _| {
            octets[34] |= first;
            octets[35] |= second;
        });
        let flags = u16::from_be_bytes([0xa0 | first, second]);
        assert_eq!(refused, BadOffload::Encapsulation(TunnelError::Gre(flags)));
    }
}

/// One outer header can be made anew, a second one in between could not.
#[test]
fn a_tunnel_within_a_tunnel_is_refused() {
    let nested = |tunnel, end| {
        let wrapping = Wrapping {
            tunnel,
            between: vec![],
            ..Wrapping::vxlan(false)
        };
        let refused = refusal(&wrapping, |octets, offload| {
            let outer = octets[14..34].to_vec();
            octets.splice(14..14, outer);
            octets[23] = if tunnel == Kind::Ip { 4 } else { octets[23] };
            if tunnel != Kind::Ip {
                // The outer one is GRE as well, and says that IPv4 follows.
                octets.splice(34..34, [0, 0, 8, 0]);
            }
            let moved = if tunnel == Kind::Ip { 20 } else { 24 };
            offload.csum_start += moved;
            offload.encapsulation.as_mut().unwrap().inner += moved;
        });
        let inner = wrapping.len() + if tunnel == Kind::Ip { 20 } else { 24 };
        assert_eq!(
            refused,
            BadOffload::Encapsulation(TunnelError::Misplaced { inner, end })
        );
    };
    nested(Kind::Ip, 34);
    nested(
        Kind::Gre {
            checksum: false,
            key: false,
        },
        38,
    );
}

#[test]
fn a_packet_that_is_not_where_it_was_said_is_refused() {
    let vxlan = Wrapping::vxlan(false);
    let at = |inner: u16| {
        refusal(&vxlan, |octets, offload| {
            if let Some(octet) = octets.get_mut(usize::from(inner)) {
                *octet = 0x45;
            }
            offload.encapsulation.as_mut().unwrap().inner = inner;
        })
    };
    let misplaced = |inner| BadOffload::Encapsulation(TunnelError::Misplaced { inner, end: 42 });
    assert_eq!(at(14), misplaced(14));
    assert_eq!(at(41), misplaced(41));
    assert!(matches!(
        at(u16::MAX),
        BadOffload::Encapsulation(TunnelError::Headers(HeaderError::Truncated { .. }))
    ));
    let far = Wrapping {
        between: vec![0; HEAD_CAPACITY],
        ..Wrapping::vxlan(false)
    };
    let too_long = HeaderError::TooLong(42 + HEAD_CAPACITY + 52);
    assert_eq!(
        refusal(&far, |_, _| {}),
        BadOffload::Encapsulation(TunnelError::Headers(too_long))
    );
}

/// What is refused of a packet without outer headers is refused of one that has some.
#[test]
fn the_packet_inside_must_be_one_that_can_be_cut() {
    let vxlan = Wrapping::vxlan(false);
    let refused = |change: fn(&mut Vec<u8>, &mut Offload)| refusal(&vxlan, change);
    let misplaced = |start, offset| BadOffload::ChecksumMisplaced { start, offset };
    assert_eq!(
        refused(|_, offload| offload.needs_csum = false),
        BadOffload::GsoWithoutChecksum
    );
    assert_eq!(refused(|_, offload| offload.csum_start = 34), misplaced(34, 16));
    assert_eq!(refused(|_, offload| offload.csum_offset = 6), misplaced(84, 6));
    for gso_size in [0, 7] {
        let refused = refusal(&vxlan, |_, offload| offload.gso_size = gso_size);
        assert_eq!(refused, BadOffload::GsoSize(gso_size));
    }
    assert_eq!(
        refused(|_, offload| offload.gso_type = GsoType::TcpV6),
        BadOffload::GsoProtocol(GsoType::TcpV6)
    );
    assert_eq!(refused(|octets, _| octets[70] = 0x20), BadOffload::Fragment);
    assert_eq!(
        refused(|octets, _| octets.truncate(4000)),
        BadOffload::IpLength {
            claimed: 20 + 32 + 5000,
            actual: 4000 - 64
        }
    );
    // A size that went below zero: nothing is left to cut, and the headers are those of any frame in a tunnel.
    let wrapped = judge(&vxlan, |_, offload| offload.gso_size = 20u16.wrapping_sub(50)).unwrap();
    assert_eq!((wrapped.gso_type, wrapped.needs_csum), (GsoType::None, true));
}

proptest! {
    #[test]
    fn segments_in_a_tunnel_are_those_of_the_plain_code(
        (recipe, gso_size) in oversized(),
        wrapping in wrappings(),
        layout in layouts(),
        csum: bool,
    ) {
        let octets = wrapping.whole(&recipe);
        let mut frame = layout.frame(&octets);
        frame.offload = wrapping.offload(&recipe, gso_size);
        frame.meta.mark = 7;
        prop_assert_eq!(recheck(&mut frame), Ok(()));
        prop_assert_eq!(usize::from(frame.offload.hdr_len), wrapping.len() + recipe.header_len() - recipe.l3());
        let receiver = OffloadFeatures { csum, ..OffloadFeatures::ALL };
        let delivered = deliver(&mut frame, receiver);
        prop_assert!(delivered.iter().all(|(_, offload)| *offload == Offload::default()));
        let segments: Vec<_> = delivered.into_iter().map(|(octets, _)| octets).collect();
        prop_assert_eq!(&segments, &wrapping.cut(&recipe, gso_size));
        for segment in &segments {
            if wrapping.tunnel == (Kind::Udp { checksum: true }) {
                assert_valid(segment);
            }
            let ethernet: [u8; 14] = match recipe.network {
                Net::V4 { .. } => [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0x08, 0x00],
                Net::V6 { .. } => [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0x86, 0xdd],
            };
            assert_valid(&[ethernet.as_slice(), &segment[wrapping.len()..]].concat());
        }
        prop_assert_eq!(frame.to_vec(), octets);
    }

    /// Programs write what they like, in front of and into the packet, and say of it what they like.
    #[test]
    fn whatever_a_program_encapsulates_does_no_harm(
        (recipe, gso_size) in oversized(),
        wrapping in wrappings(),
        layout in layouts(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        inner in prop_oneof![Just(None), (0..200u16).prop_map(Some), any::<u16>().prop_map(Some)],
        start in prop_oneof![Just(None), (0..200u16).prop_map(Some), any::<u16>().prop_map(Some)],
        wild_size in prop_oneof![Just(None), any::<u16>().prop_map(Some)],
        udp in prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)],
        length in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
        honest_checks: bool,
    ) {
        let mut octets = wrapping.whole(&recipe);
        for (at, value) in changes {
            let near = octets.len().min(200);
            octets[at.index(near)] = value;
        }
        if let Some(length) = length {
            octets.truncate(length.index(octets.len()));
        }
        let mut frame = layout.frame(&octets);
        let mut offload = wrapping.offload(&recipe, wild_size.unwrap_or(gso_size));
        let encapsulation = offload.encapsulation.as_mut().unwrap();
        encapsulation.inner = inner.unwrap_or(encapsulation.inner);
        encapsulation.udp = udp.unwrap_or(encapsulation.udp);
        offload.csum_start = start.unwrap_or(offload.csum_start);
        frame.offload = offload;
        do_no_harm(&mut frame, honest_checks)?;
    }

    #[test]
    fn random_octets_in_a_tunnel_do_no_harm(
        octets in vec(any::<u8>(), 0..300),
        layout in layouts(),
        (inner, udp) in (0..300u16, any::<bool>()),
        (csum_start, csum_offset) in (0..300u16, prop_oneof![Just(6u16), Just(16), any::<u16>()]),
        gso_type in prop_oneof![Just(GsoType::TcpV4), Just(GsoType::TcpV6), Just(GsoType::Udp), Just(GsoType::None)],
        gso_size: u16,
        honest_checks: bool,
    ) {
        let mut frame = layout.frame(&octets);
        frame.offload = Offload {
            needs_csum: true,
            csum_start,
            csum_offset,
            gso_type,
            gso_size,
            encapsulation: Some(Encapsulation { inner, udp }),
            ..Offload::default()
        };
        do_no_harm(&mut frame, honest_checks)?;
    }
}

/// What passes the check can be delivered, each octet of the payload once; what nobody checked is delivered or refused.
fn do_no_harm(frame: &mut Frame, checked: bool) -> Result<(), TestCaseError> {
    if checked && recheck(frame).is_err() {
        prop_assert_eq!(frame.offload, Offload::default());
        return Ok(());
    }
    let offload = frame.offload;
    let mut scratch = Frame::new();
    let mut payload_len = 0;
    let adapted: Result<(), AdaptError> = adapt(frame, OffloadFeatures::NONE, &mut scratch, |part| {
        assert!(!part.offload.needs_csum && part.offload.gso_type == GsoType::None);
        payload_len += part.len().saturating_sub(offload.hdr_len.into());
        Ok(())
    });
    prop_assert!(scratch.is_empty());
    if checked {
        prop_assert_eq!(adapted, Ok(()));
        prop_assert_eq!(payload_len, frame.len() - usize::from(offload.hdr_len));
    }
    Ok(())
}
