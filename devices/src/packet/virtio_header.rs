//! The header that stands before every frame in a virtio-net ring, as a value.

use virtio_bindings::virtio_net as spec;

/// `flags`: the checksum is still to be computed.
pub const F_NEEDS_CSUM: u8 = spec::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
/// `flags`: the checksums were validated.
pub const F_DATA_VALID: u8 = spec::VIRTIO_NET_HDR_F_DATA_VALID as u8;

/// `gso_type`: one wire frame.
pub const GSO_NONE: u8 = spec::VIRTIO_NET_HDR_GSO_NONE as u8;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV4 as u8;
/// `gso_type`: UDP to be cut into IP fragments (UFO).
pub const GSO_UDP: u8 = spec::VIRTIO_NET_HDR_GSO_UDP as u8;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV6 as u8;
/// `gso_type`: UDP to be cut into datagrams (USO).
pub const GSO_UDP_L4: u8 = spec::VIRTIO_NET_HDR_GSO_UDP_L4 as u8;
/// `gso_type`: inside a UDP tunnel over IPv4.
pub const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
/// `gso_type`: inside a UDP tunnel over IPv6.
pub const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;
/// `gso_type`: the TCP header has the CWR flag.
pub const GSO_ECN: u8 = spec::VIRTIO_NET_HDR_GSO_ECN as u8;

/// `struct virtio_net_hdr_mrg_rxbuf` as it lies in the ring (virtio 1.3, 5.1.6); nothing in it is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VirtioNetHeader {
    /// `F_*` bits.
    pub flags: u8,
    /// One of `GSO_*`, perhaps with `GSO_ECN`.
    pub gso_type: u8,
    /// Length of all headers in octets; a hint.
    pub hdr_len: u16,
    /// Payload octets of each segment.
    pub gso_size: u16,
    /// Where checksumming starts, in octets from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum goes, in octets from `csum_start`.
    pub csum_offset: u16,
    /// Receive buffers that the frame takes up; unused when sending.
    pub num_buffers: u16,
}

impl VirtioNetHeader {
    /// Length in octets.
    pub const LEN: usize = 12;
    /// Length in octets for a driver that negotiated neither VERSION_1 nor MRG_RXBUF (virtio 1.3, 5.1.6.1).
    ///
    /// `num_buffers` is missing then: read into the start of twelve zero octets, write as many of the twelve.
    /// Such a driver's byte order is its guest's; it is taken to be little-endian.
    pub const LEGACY_LEN: usize = 10;

    /// Reads the header; every octet string is one.
    #[inline]
    pub fn parse(octets: &[u8; Self::LEN]) -> VirtioNetHeader {
        let field = |at: usize| u16::from_le_bytes([octets[at], octets[at + 1]]);
        VirtioNetHeader {
            flags: octets[0],
            gso_type: octets[1],
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
            num_buffers: field(10),
        }
    }

    /// Writes the header.
    #[inline]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut octets = [0; Self::LEN];
        octets[0] = self.flags;
        octets[1] = self.gso_type;
        let fields = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        ];
        for (place, field) in octets[2..].chunks_exact_mut(2).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        octets
    }

    /// Whether the sender leaves nothing to us: what [`accept`](super::accept) makes an empty offload of.
    #[inline]
    pub fn asks_for_nothing(&self) -> bool {
        !self.needs_csum() && self.gso_type == GSO_NONE
    }

    /// Whether the checksum is still to be computed.
    #[inline]
    pub fn needs_csum(&self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }

    /// Whether the sender vouches for the checksums; only the host's own netdevs are believed.
    pub fn data_valid(&self) -> bool {
        self.flags & F_DATA_VALID != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_the_specification() {
        let header = VirtioNetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
            num_buffers: 0x090a,
        };
        assert_eq!(header.emit(), [1, 0x81, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9]);
        assert_eq!(VirtioNetHeader::parse(&header.emit()), header);
    }
}
