//! The header before every frame in a virtio-net ring (virtio 1.3, 5.1.6).

use virtio_bindings::virtio_net as spec;

/// `flags`: the checksum is still to be computed.
pub const NEEDS_CSUM: u8 = spec::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
/// `flags`: the checksum was validated.
pub const DATA_VALID: u8 = spec::VIRTIO_NET_HDR_F_DATA_VALID as u8;
/// `gso_type`: one wire frame.
pub const GSO_NONE: u8 = spec::VIRTIO_NET_HDR_GSO_NONE as u8;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV4 as u8;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV6 as u8;
/// `gso_type`: UDP datagrams.
pub const GSO_UDP_L4: u8 = spec::VIRTIO_NET_HDR_GSO_UDP_L4 as u8;

/// The header as a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
    /// Not present in a legacy driver's header without mergeable buffers.
    pub num_buffers: u16,
}

impl Header {
    /// The header's first `len` octets, 10 or 12.
    pub fn encode(&self, len: usize) -> Vec<u8> {
        let mut octets = vec![self.flags, self.gso_type];
        for field in [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        ] {
            octets.extend_from_slice(&field.to_le_bytes());
        }
        octets.truncate(len);
        octets
    }

    /// Reads a header of 10 or 12 octets.
    pub fn decode(octets: &[u8]) -> Header {
        let field = |at: usize| u16::from_le_bytes([octets[at], octets[at + 1]]);
        Header {
            flags: octets[0],
            gso_type: octets[1],
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
            num_buffers: if octets.len() < 12 { 1 } else { field(10) },
        }
    }
}
