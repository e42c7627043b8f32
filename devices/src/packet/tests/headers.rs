//! Where headers are found, and what is not taken for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::recipe::{Field, L4, Net, Recipe, layouts, recipes};
use crate::packet::{Frame, HEAD_CAPACITY, HeaderError, Headers, Network, Slice, Transport};

fn parse(octets: &[u8]) -> Result<Headers, HeaderError> {
    Headers::parse(octets, octets.len())
}

fn with_extensions(numbers: &[u8]) -> Vec<u8> {
    let extensions = numbers.iter().map(|number| (*number, vec![0; 6])).collect();
    let network = Net::V6 { extensions };
    Recipe {
        network,
        ..Recipe::tcp4(10)
    }
    .build(Field::Checksum)
}

#[test]
fn only_two_tags_are_looked_behind() {
    let tagged = |tags: &[u16]| {
        let tags = tags.to_vec();
        parse(
            &Recipe {
                tags,
                ..Recipe::tcp4(0)
            }
            .build(Field::Checksum),
        )
        .unwrap()
    };
    assert_eq!(tagged(&[0x88a8, 0x8100]).network, Network::Ipv4);
    let three = tagged(&[0x88a8, 0x8100, 0x8100]);
    assert_eq!(
        (three.network, three.ethertype, three.l4),
        (Network::Other, 0x8100, 22)
    );
}

#[test]
fn what_is_not_ip_ends_behind_its_ethertype() {
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let headers = parse(&arp).unwrap();
    assert_eq!((headers.ethertype, headers.transport), (0x0806, Transport::None));
    assert_eq!(
        (headers.l3, headers.l3_len, headers.l4, headers.payload),
        (14, 28, 14, 14)
    );
}

#[test]
fn other_transports_have_no_header() {
    let mut octets = Recipe::tcp4(0).build(Field::Checksum);
    octets[23] = 1;
    let headers = parse(&octets).unwrap();
    assert_eq!(
        (headers.transport, headers.l4, headers.payload),
        (Transport::Other(1), 34, 34)
    );
    assert_eq!(headers.transport.checksum_offset(), None);
}

#[test]
fn fragments_have_no_transport_header() {
    // Neither of the flags, "don't fragment", "more fragments", an offset.
    for (flags, is_fragment) in [(0, false), (0x4000, false), (0x2000, true), (0x0001u16, true)] {
        let mut octets = Recipe::tcp4(0).build(Field::Checksum);
        octets[20..22].copy_from_slice(&flags.to_be_bytes());
        let headers = parse(&octets).unwrap();
        assert_eq!(headers.is_fragment, is_fragment, "{flags:#x}");
        assert_eq!(headers.payload == headers.l4, is_fragment);
    }
    // RFC 6946: neither an offset nor "more fragments", whatever the reserved bits are.
    for (offset, is_fragment) in [(0, false), (6, false), (1, true), (8u16, true)] {
        let mut octets = with_extensions(&[0, 44, 60]);
        octets[64..66].copy_from_slice(&offset.to_be_bytes());
        let headers = parse(&octets).unwrap();
        assert_eq!(headers.is_fragment, is_fragment, "{offset:#x}");
        let (transport, l4) = if is_fragment {
            (Transport::Other(60), 70)
        } else {
            (Transport::Tcp, 78)
        };
        assert_eq!((headers.transport, headers.l4), (transport, l4));
    }
}

#[test]
fn impossible_headers_are_refused() {
    let good = Recipe::tcp4(100).build(Field::Checksum);
    let with = |at: usize, value: u8| {
        let mut octets = good.clone();
        octets[at] = value;
        parse(&octets)
    };
    assert_eq!(with(14, 0x65), Err(HeaderError::Version(6)));
    assert_eq!(with(14, 0x44), Err(HeaderError::HeaderLength(16)));
    assert_eq!(with(46, 0x40), Err(HeaderError::HeaderLength(16)));
    assert_eq!(
        with(13, 0xdd),
        parse(&good).map(|headers| Headers {
            ethertype: 0x08dd,
            network: Network::Other,
            transport: Transport::None,
            l3_len: good.len() - 14,
            l4: 14,
            payload: 14,
            ..headers
        })
    );
    assert_eq!(
        parse(&with_extensions(&[60; 8])).map(|headers| headers.transport),
        Ok(Transport::Tcp)
    );
    assert_eq!(
        parse(&with_extensions(&[60; 9])),
        Err(HeaderError::TooManyExtensionHeaders)
    );
}

#[test]
fn headers_that_no_head_can_hold_are_refused() {
    let extensions = vec![(60, vec![0; 2046]), (60, vec![0; 2046])];
    let octets = Recipe {
        network: Net::V6 { extensions },
        ..Recipe::tcp4(0)
    }
    .build(Field::Checksum);
    let mut frame = Frame::from_octets(&octets[..256]);
    let rest = &octets[256..];
    // SAFETY: the octets outlive the frame.
    unsafe {
        frame.push_slice(Slice {
            ptr: rest.as_ptr(),
            len: rest.len(),
        })
    };
    assert_eq!(Headers::of(&mut frame), Err(HeaderError::TooLong(54 + 2048)));
    const { assert!(54 + 2048 > HEAD_CAPACITY) };
}

proptest! {
    #[test]
    fn every_header_is_found(recipe in recipes(), layout in layouts()) {
        let octets = recipe.build(Field::Checksum);
        let mut frame = layout.frame(&octets);
        let headers = Headers::of(&mut frame).unwrap();
        prop_assert_eq!((headers.l3, headers.l4, headers.payload), (recipe.l3(), recipe.l4(), recipe.header_len()));
        prop_assert_eq!(headers.l3_len, octets.len() - recipe.l3());
        prop_assert!(headers.suit(recipe.gso_type()) && !headers.is_fragment);
        let is_tcp = matches!(recipe.transport, L4::Tcp { .. });
        prop_assert_eq!(headers.transport, if is_tcp { Transport::Tcp } else { Transport::Udp });
        prop_assert!(frame.head().len() >= headers.payload);
        prop_assert_eq!(frame.to_vec(), octets);
    }

    #[test]
    fn asking_for_more_always_leads_on(recipe in recipes()) {
        let octets = recipe.build(Field::Checksum);
        let mut head = 0;
        let found = loop {
            match Headers::parse(&octets[..head], octets.len()) {
                Err(HeaderError::NeedMore(more)) => {
                    prop_assert!(more > head && more <= recipe.header_len());
                    head = more;
                }
                found => break found,
            }
        };
        prop_assert_eq!(found, parse(&octets));
    }

    #[test]
    fn a_frame_cut_short_is_truncated(recipe in recipes(), at: prop::sample::Index) {
        let octets = recipe.build(Field::Checksum);
        let len = at.index(recipe.header_len());
        let truncated = matches!(parse(&octets[..len]), Err(HeaderError::Truncated { end, len: is }) if end > len && is == len);
        prop_assert!(truncated);
    }

    #[test]
    fn offsets_never_leave_the_head(
        mut octets in vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), any::<u16>()],
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        total_len in 0..400usize,
    ) {
        if octets.len() > 14 {
            octets[12..14].copy_from_slice(&ethertype.to_be_bytes());
            octets[14] = version;
        }
        if let Ok(headers) = Headers::parse(&octets, total_len) {
            prop_assert!(headers.l3 <= headers.l4 && headers.l4 <= headers.payload);
            prop_assert!(headers.payload <= octets.len());
        }
    }
}
