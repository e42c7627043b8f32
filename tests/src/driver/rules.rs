//! What a device may say in the header of a frame that a driver receives (virtio 1.3, 5.1.6.4.1).

use super::feature;
use super::header::{DATA_VALID, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM};

const GSO_ECN: u8 = 0x80;
/// Ethernet, IPv4 and UDP: no frame with a checksum left to do has less.
const LEAST_HEADERS: u16 = 14 + 20 + 8;

/// Checks a header against the features that the driver took.
///
/// # Panics
/// If it breaks a rule.
pub fn check(features: u64, header: &Header, frame: &[u8]) {
    let has = |mask: u64| features & mask == mask;
    let context = || format!("{header:?} of {} octets with features {features:#x}", frame.len());
    assert_eq!(header.flags & !(NEEDS_CSUM | DATA_VALID), 0, "{}", context());
    if !has(feature::GUEST_CSUM) {
        assert_eq!(header.flags, 0, "no GUEST_CSUM: {}", context());
    }
    if header.flags & NEEDS_CSUM != 0 {
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        assert!(end <= frame.len(), "checksum outside: {}", context());
    }
    let allowed = match header.gso_type & !GSO_ECN {
        GSO_NONE => {
            assert_eq!(header.gso_type, GSO_NONE, "ECN alone: {}", context());
            return;
        }
        GSO_TCPV4 => has(feature::GUEST_TSO4),
        GSO_TCPV6 => has(feature::GUEST_TSO6),
        GSO_UDP_L4 => has(feature::GUEST_USO),
        _ => false,
    };
    assert!(allowed, "gso_type was not negotiated: {}", context());
    assert!(
        header.gso_type & GSO_ECN == 0 || has(feature::GUEST_ECN),
        "ECN was not negotiated: {}",
        context()
    );
    assert_ne!(
        header.flags & NEEDS_CSUM,
        0,
        "GSO without checksum: {}",
        context()
    );
    assert_ne!(header.gso_size, 0, "{}", context());
    assert!(header.hdr_len >= LEAST_HEADERS, "{}", context());
    assert!(usize::from(header.hdr_len) <= frame.len(), "{}", context());
}
