//! The internet checksum against one that adds word by word.

use proptest::collection::vec;
use proptest::prelude::*;

use super::recipe::naive_sum;
use crate::packet::Checksum;
use crate::packet::checksum::update;

/// RFC 1071, 3.
#[test]
fn the_example_of_the_rfc() {
    let mut sum = Checksum::new();
    sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!((sum.fold(), sum.finish()), (0xddf2, 0x220d));
    assert_eq!(Checksum::new().finish(), 0xffff);
}

#[test]
fn a_long_run_of_ones_does_not_overflow() {
    let octets = vec![0xff; 1 << 20];
    let mut sum = Checksum::new();
    for _ in 0..64 {
        sum.add(&octets);
    }
    assert_eq!(sum.fold(), 0xffff);
}

/// RFC 1624, 4: the case that equation 2 gets wrong.
#[test]
fn the_incremental_example_of_the_rfc() {
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn pseudo_headers() {
    let (v4, v6) = (
        [192, 0, 2, 1],
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    );
    let header = etherparse::TcpHeader::new(1, 2, 3, 4);
    let mut sum = Checksum::pseudo_header_v4(v4, [198, 51, 100, 9], 6, 20 + 5);
    sum.add(&header.to_bytes());
    sum.add(b"hello");
    let expected = header.calc_checksum_ipv4_raw(v4, [198, 51, 100, 9], b"hello");
    assert_eq!(sum.finish(), expected.unwrap());

    let mut sum = Checksum::pseudo_header_v6(v6, [0xfe; 16], 6, 20 + 5);
    sum.add(&header.to_bytes());
    sum.add(b"hello");
    let expected = header.calc_checksum_ipv6_raw(v6, [0xfe; 16], b"hello");
    assert_eq!(sum.finish(), expected.unwrap());
}

proptest! {
    #[test]
    fn any_split_sums_to_the_same(octets in vec(any::<u8>(), 0..3000), pieces in vec(0..200usize, 1..8)) {
        let mut sum = Checksum::new();
        let mut rest = octets.as_slice();
        for len in pieces {
            let (piece, others) = rest.split_at(len.min(rest.len()));
            sum.add(piece);
            rest = others;
        }
        // SAFETY: the slice is readable.
        unsafe { sum.add_raw(rest.as_ptr(), rest.len()) };
        prop_assert_eq!(sum.fold(), naive_sum(&octets));
    }

    #[test]
    fn an_update_equals_summing_again(mut words in vec(any::<u8>(), 2..64), new: u16, at: prop::sample::Index) {
        words.truncate(words.len() & !1);
        words[0] |= 1; // an all-zero string has a checksum that no update can yield
        let at = at.index(words.len() / 2) * 2;
        let old = u16::from_be_bytes([words[at], words[at + 1]]);
        let before = !naive_sum(&words);
        words[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let after = !naive_sum(&words);
        prop_assume!(naive_sum(&words) != 0);
        prop_assert_eq!(update(before, old, new), after);
    }
}
