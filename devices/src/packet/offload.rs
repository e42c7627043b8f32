//! The offload metadata of a frame: what virtio_net_hdr says, in a form that cannot hold nonsense.

/// How a frame larger than a segment is to be cut (virtio 1.3, 5.1.6: `gso_type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GsoType {
    /// One wire frame.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP, each segment a datagram of its own (USO).
    Udp,
}

/// An outer header that a program put around a frame that is still to be cut: each segment gets it too.
///
/// The outer network header is the one behind the frame's Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encapsulation {
    /// Where the inner network header starts, in octets from the start of the frame.
    pub inner: u16,
    /// Whether the outer headers end in UDP.
    pub udp: bool,
}

/// What is left to do on a frame before it may go on a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum from `csum_start` on is still to be computed and stored at `csum_start + csum_offset`;
    /// the field holds the pseudo-header sum.
    pub needs_csum: bool,
    /// The sender vouches for the checksums (virtio 1.3: `VIRTIO_NET_HDR_F_DATA_VALID`).
    pub data_valid: bool,
    /// Where checksumming starts, in octets from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum goes, in octets from `csum_start`.
    pub csum_offset: u16,
    /// How the frame is to be segmented.
    pub gso_type: GsoType,
    /// The sender's TCP uses ECN (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
    /// Payload octets of each segment; zero when `gso_type` is `None`.
    pub gso_size: u16,
    /// Octets of all headers up to and including the transport header; zero when `gso_type` is `None`.
    pub hdr_len: u16,
    /// What is around the packet that is to be cut, in whose headers `csum_start` is then; `None` when `gso_type` is.
    /// No sender can ask for this, and no receiver understands it.
    pub encapsulation: Option<Encapsulation>,
}
