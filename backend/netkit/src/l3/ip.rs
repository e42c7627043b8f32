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
