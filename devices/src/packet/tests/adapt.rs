//! Segments and checksums against those of the plain code, octet for octet.

use std::sync::atomic::{AtomicU8, Ordering};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use proptest::prelude::*;

use super::recipe::{Field, Layout, Recipe, layouts, oversized, recipes};
use crate::packet::{
    AdaptError, Adaptation, Frame, GsoType, HeaderError, Offload, OffloadFeatures, Slice, accept, adapt,
    complete_checksum,
};

/// As a guest's frames mostly lie: the first octets private, the rest in a few pieces.
fn usual() -> Layout {
    Layout {
        head: 256,
        pieces: vec![999],
    }
}

const CSUM_ONLY: OffloadFeatures = OffloadFeatures {
    csum: true,
    ..OffloadFeatures::NONE
};

/// All that `adapt` delivers of an accepted frame.
pub fn deliver(frame: &mut Frame, receiver: OffloadFeatures) -> Vec<(Vec<u8>, Offload)> {
    let mut delivered = vec![];
    let mut scratch = Frame::from_octets(b"left over");
    let meta = frame.meta;
    let done: Result<(), AdaptError> = adapt(frame, receiver, &mut scratch, |part| {
        assert_eq!(part.meta, meta);
        delivered.push((part.to_vec(), part.offload));
        Ok(())
    });
    done.unwrap();
    delivered
}

fn accepted(octets: &[u8], recipe: &Recipe, gso_size: u16, layout: &Layout) -> Frame {
    let mut frame = layout.frame(octets);
    accept(&mut frame, &recipe.header(gso_size), OffloadFeatures::ALL).unwrap();
    frame.meta.mark = 0x1234;
    frame
}

/// Whether a third party finds the checksums right.
pub fn assert_valid(octets: &[u8]) {
    let headers = PacketHeaders::from_ethernet_slice(octets).unwrap();
    let payload = headers.payload.slice();
    let (tcp, udp) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (Some(tcp), None),
        Some(TransportHeader::Udp(udp)) => (None, Some(udp)),
        other => panic!("{other:?}"),
    };
    let (stored, computed) = match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let tcp = tcp.map(|tcp| (tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload)));
            tcp.or(udp.map(|udp| (udp.checksum, udp.calc_checksum_ipv4(&ip, payload))))
                .unwrap()
        }
        Some(NetHeaders::Ipv6(ip, _)) => {
            let tcp = tcp.map(|tcp| (tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload)));
            tcp.or(udp.map(|udp| (udp.checksum, udp.calc_checksum_ipv6(&ip, payload))))
                .unwrap()
        }
        other => panic!("{other:?}"),
    };
    let computed = computed.unwrap();
    assert!(stored == computed || (stored, computed) == (0xffff, 0));
}

#[test]
fn the_decision() {
    let whole = Offload {
        needs_csum: true,
        ..Offload::default()
    };
    let of = |gso_type| Offload {
        gso_type,
        gso_size: 1000,
        ..whole
    };
    let cases = [
        (Offload::default(), OffloadFeatures::NONE, Adaptation::PassThrough),
        (whole, OffloadFeatures::NONE, Adaptation::ChecksumOnly),
        (whole, CSUM_ONLY, Adaptation::PassThrough),
        (of(GsoType::TcpV4), CSUM_ONLY, Adaptation::Segment),
        (
            of(GsoType::TcpV4),
            OffloadFeatures {
                tso4: true,
                ..CSUM_ONLY
            },
            Adaptation::PassThrough,
        ),
        (
            of(GsoType::TcpV4),
            OffloadFeatures {
                tso6: true,
                ..CSUM_ONLY
            },
            Adaptation::Segment,
        ),
        (
            of(GsoType::TcpV6),
            OffloadFeatures {
                tso4: true,
                ..CSUM_ONLY
            },
            Adaptation::Segment,
        ),
        (
            of(GsoType::TcpV6),
            OffloadFeatures {
                tso6: true,
                ..CSUM_ONLY
            },
            Adaptation::PassThrough,
        ),
        (
            of(GsoType::Udp),
            OffloadFeatures {
                uso: true,
                ..CSUM_ONLY
            },
            Adaptation::PassThrough,
        ),
        (
            of(GsoType::Udp),
            OffloadFeatures {
                uso: false,
                ..OffloadFeatures::ALL
            },
            Adaptation::Segment,
        ),
        // G3: segmentation builds on checksums.
        (
            of(GsoType::TcpV4),
            OffloadFeatures {
                csum: false,
                ..OffloadFeatures::ALL
            },
            Adaptation::Segment,
        ),
        // R7: ECN only for who knows of it.
        (
            Offload {
                ecn: true,
                ..of(GsoType::TcpV4)
            },
            OffloadFeatures {
                ecn: false,
                ..OffloadFeatures::ALL
            },
            Adaptation::Segment,
        ),
    ];
    for (offload, receiver, expected) in cases {
        assert_eq!(
            Adaptation::of(&offload, receiver),
            expected,
            "{offload:?} {receiver:?}"
        );
    }
}

/// R5: without GUEST_CSUM no flag is set.
#[test]
fn a_receiver_without_checksums_is_not_told_that_they_are_valid() {
    for (receiver, expected) in [(OffloadFeatures::NONE, false), (CSUM_ONLY, true)] {
        let mut frame = Frame::from_octets(&Recipe::tcp4(10).build(Field::Checksum));
        frame.offload.data_valid = true;
        assert_eq!(deliver(&mut frame, receiver)[0].1.data_valid, expected);
    }
}

/// RFC 768: an all-zero checksum means that there is none.
#[test]
fn a_checksum_of_zero_is_sent_as_ones() {
    let mut recipe = Recipe::udp6(4);
    recipe.payload = vec![0, 0, 0, 0];
    let octets = recipe.build(Field::Checksum);
    // With its own checksum in the payload, the frame sums to zero.
    let checksum = [octets[recipe.l4() + 6], octets[recipe.l4() + 7]];
    recipe.payload[..2].copy_from_slice(&checksum);
    let octets = recipe.build(Field::PseudoHeader);
    let mut frame = accepted(&octets, &recipe, 0, &usual());
    complete_checksum(&mut frame).unwrap();
    assert_eq!(frame.head()[recipe.l4() + 6..recipe.l4() + 8], [0xff, 0xff]);
    assert_eq!(frame.offload, Offload::default());
    assert_valid(frame.head());
}

#[test]
fn the_longest_frames_are_cut() {
    for recipe in [Recipe::tcp4(65535 - 20 - 32), Recipe::udp6(65535 - 8)] {
        let octets = recipe.build(Field::PseudoHeader);
        for gso_size in [600, 1448, 8948, 65400] {
            let mut frame = accepted(&octets, &recipe, gso_size, &usual());
            let delivered = deliver(&mut frame, OffloadFeatures::NONE);
            let expected: Vec<_> = recipe
                .cut(gso_size.into())
                .iter()
                .map(|part| part.build(Field::Checksum))
                .collect();
            assert!(delivered.iter().map(|(octets, _)| octets).eq(&expected));
        }
    }
}

#[test]
fn delivery_ends_with_the_first_refusal() {
    let recipe = Recipe::tcp4(5000);
    let octets = recipe.build(Field::PseudoHeader);
    let mut frame = accepted(&octets, &recipe, 1000, &usual());
    let mut scratch = Frame::new();
    let mut count = 0;
    let refused = adapt(&mut frame, OffloadFeatures::NONE, &mut scratch, |_| {
        count += 1;
        if count < 3 {
            Ok(())
        } else {
            Err(AdaptError::TooLong(count))
        }
    });
    assert_eq!((refused, count), (Err(AdaptError::TooLong(3)), 3));
    assert!(scratch.is_empty() && scratch.tail().is_empty());
    assert_eq!(frame.to_vec(), octets);
}

#[test]
fn headers_that_no_longer_fit_are_refused() {
    let recipe = Recipe::tcp4(5000);
    let octets = recipe.build(Field::PseudoHeader);
    let refusal = |change: fn(&mut Frame)| {
        let mut frame = accepted(&octets, &recipe, 1000, &usual());
        change(&mut frame);
        adapt(&mut frame, OffloadFeatures::NONE, &mut Frame::new(), |_| Ok(())).unwrap_err()
    };
    let mismatches: [fn(&mut Frame); 7] = [
        |frame| frame.head_mut()[23] = 17,
        |frame| frame.head_mut()[20] = 0x20,
        |frame| frame.offload.gso_size = 0,
        |frame| frame.offload.gso_type = GsoType::TcpV6,
        |frame| frame.offload.needs_csum = false,
        |frame| frame.offload.csum_start += 4,
        |frame| frame.offload.csum_offset -= 2,
    ];
    for change in mismatches {
        assert!(matches!(refusal(change), AdaptError::Mismatch(_)));
    }
    assert_eq!(
        refusal(|frame| frame.head_mut()[14] = 0),
        AdaptError::Headers(HeaderError::Version(0))
    );
    let mut frame = accepted(&octets, &recipe, 0, &usual());
    frame.offload.csum_start = 6000;
    assert_eq!(
        complete_checksum(&mut frame),
        Err(AdaptError::ChecksumOutside(6016))
    );
}

/// A program may have taken the payload away.
#[test]
fn a_frame_without_payload_is_one_segment() {
    let recipe = Recipe::tcp4(0);
    let octets = recipe.build(Field::PseudoHeader);
    let mut frame = accepted(&octets, &recipe, 0, &usual());
    frame.offload = Offload {
        gso_type: GsoType::TcpV4,
        gso_size: 1000,
        ..frame.offload
    };
    let expected = vec![(recipe.build(Field::Checksum), Offload::default())];
    assert_eq!(deliver(&mut frame, OffloadFeatures::NONE), expected);
}

#[test]
fn what_its_ip_header_cannot_express_is_refused() {
    static LONG: [u8; 66_000] = [0; 66_000];
    let recipe = Recipe::tcp4(5000);
    let octets = recipe.build(Field::PseudoHeader);
    let mut frame = accepted(&octets, &recipe, 1000, &usual());
    // SAFETY: a static.
    unsafe {
        frame.push_slice(Slice {
            ptr: LONG.as_ptr(),
            len: LONG.len(),
        })
    };
    let refused: Result<(), AdaptError> = adapt(&mut frame, CSUM_ONLY, &mut Frame::new(), |_| Ok(()));
    assert_eq!(refused, Err(AdaptError::TooLong(20 + 32 + 5000 + 66_000)));
}

/// The sender goes on writing: sums are of what was read, but nothing else depends on it.
#[test]
fn a_race_in_the_payload_changes_no_header() {
    let recipe = Recipe::tcp4(20_000);
    let octets = recipe.build(Field::PseudoHeader);
    let shared: Vec<AtomicU8> = octets[256..].iter().map(|octet| AtomicU8::new(*octet)).collect();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for octet in shared.iter().cycle().take(shared.len() * 500) {
                octet.fetch_add(1, Ordering::Relaxed);
            }
        });
        while !writer.is_finished() {
            let mut frame = Frame::from_octets(&octets[..256]);
            // SAFETY: the octets outlive the frame.
            unsafe {
                frame.push_slice(Slice {
                    ptr: shared.as_ptr().cast(),
                    len: shared.len(),
                })
            };
            accept(&mut frame, &recipe.header(1448), OffloadFeatures::ALL).unwrap();
            let delivered = deliver(&mut frame, OffloadFeatures::NONE);
            for ((octets, _), expected) in delivered.iter().zip(recipe.cut(1448)) {
                let (start, end) = (recipe.l4() + 16, recipe.header_len());
                let expected = expected.build(Field::Checksum);
                assert_eq!(octets.len(), expected.len());
                assert_eq!(octets[..start], expected[..start]);
                assert_eq!(octets[start + 2..end], expected[start + 2..end]);
            }
        }
    });
}

proptest! {
    #[test]
    fn segments_are_those_of_the_plain_code(
        (recipe, gso_size) in oversized(),
        layout in layouts(),
        receiver in prop_oneof![Just(OffloadFeatures::NONE), Just(CSUM_ONLY)],
    ) {
        let octets = recipe.build(Field::PseudoHeader);
        let mut frame = accepted(&octets, &recipe, gso_size, &layout);
        let delivered = deliver(&mut frame, receiver);
        let field = if receiver.csum { Field::PseudoHeader } else { Field::Checksum };
        let expected = recipe.cut(gso_size.into());
        prop_assert_eq!(delivered.len(), expected.len());
        for ((octets, offload), expected) in delivered.iter().zip(&expected) {
            prop_assert_eq!(octets, &expected.build(field));
            prop_assert_eq!(*offload, if receiver.csum {
                let (csum_start, csum_offset) = (recipe.l4() as u16, recipe.csum_offset() as u16);
                Offload { needs_csum: true, csum_start, csum_offset, ..Offload::default() }
            } else {
                Offload::default()
            });
            if !receiver.csum {
                assert_valid(octets);
            }
        }
        let payload: Vec<u8> = delivered.iter().flat_map(|(octets, _)| &octets[recipe.header_len()..]).copied().collect();
        prop_assert_eq!(payload, recipe.payload);
        prop_assert_eq!(frame.to_vec(), octets);
    }

    /// A receiver that computes checksums gets the same octets in the end as one that does not.
    #[test]
    fn segments_completed_later_are_the_same((recipe, gso_size) in oversized(), layout in layouts()) {
        let octets = recipe.build(Field::PseudoHeader);
        let complete = deliver(&mut accepted(&octets, &recipe, gso_size, &layout), OffloadFeatures::NONE);
        let partial = deliver(&mut accepted(&octets, &recipe, gso_size, &layout), CSUM_ONLY);
        for ((complete, _), (partial, offload)) in complete.iter().zip(&partial) {
            let mut frame = layout.frame(partial);
            frame.offload = *offload;
            complete_checksum(&mut frame).unwrap();
            prop_assert_eq!(&frame.to_vec(), complete);
        }
    }

    #[test]
    fn checksums_are_completed(recipe in recipes(), layout in layouts()) {
        let octets = recipe.build(Field::PseudoHeader);
        let mut frame = accepted(&octets, &recipe, 0, &layout);
        let delivered = deliver(&mut frame, OffloadFeatures::NONE);
        prop_assert_eq!(&delivered, &vec![(recipe.build(Field::Checksum), Offload::default())]);
        assert_valid(&delivered[0].0);
    }

    #[test]
    fn what_the_receiver_understands_passes_untouched((recipe, gso_size) in oversized(), layout in layouts()) {
        let octets = recipe.build(Field::PseudoHeader);
        let mut frame = accepted(&octets, &recipe, gso_size, &layout);
        let offload = frame.offload;
        prop_assert_eq!(deliver(&mut frame, OffloadFeatures::ALL), vec![(octets, offload)]);
    }
}
