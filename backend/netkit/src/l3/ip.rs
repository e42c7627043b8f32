//! The internet checksum over an IPv6 message.

use std::net::Ipv6Addr;

/// The sum of a message and its pseudo-header, folded and complemented: what belongs into the
/// checksum field if it is zero in `message`, and 0 if the field is right (RFC 8200, 8.1).
pub(super) fn checksum(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, message: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u64 {
        octets
            .chunks(2)
            .map(|word| u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])))
            .sum()
    };
    let pseudo_header = words(&source.octets()) + words(&destination.octets()) + u64::from(next_header);
    let mut sum = pseudo_header + message.len() as u64 + words(message);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, 3, as far as a message goes; an odd octet counts as if 0 followed.
    #[test]
    fn sums_are_ones_complement() {
        let none = Ipv6Addr::UNSPECIFIED;
        let message = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(none, none, 0, &message), !(0xddf2 + 8));
        assert_eq!(checksum(none, none, 58, &[0x12]), !(0x1200 + 58 + 1));
    }

    #[test]
    fn a_right_sum_checks_to_zero() {
        let (source, destination) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
        let mut message = [136, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let sum = checksum(source, destination, 58, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(source, destination, 58, &message), 0);
    }
}
