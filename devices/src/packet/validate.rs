//! Turns the header that came with a frame into an offload that can be trusted, and back for the receiver.

use super::headers::{HeaderError, Headers, IPV4_MIN_LEN, IPV6_LEN, Transport};
use super::tunnel::{PROTOCOL_GRE, PROTOCOL_IPV4, PROTOCOL_IPV6, Tunnel, TunnelError};
use super::virtio_header as wire;
use super::{Encapsulation, Frame, GsoType, HEAD_CAPACITY, Offload, OffloadFeatures, VirtioNetHeader};

/// Datagrams that one USO frame may stand for (Linux `UDP_MAX_SEGMENTS`).
const MAX_UDP_SEGMENTS: usize = 128;
/// Smallest TCP payload per segment; less would only serve to make us busy (Linux `TCP_MIN_GSO_SIZE`).
const MIN_TCP_GSO_SIZE: u16 = 8;

/// Why the header that came with a frame was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOffload {
    /// NEEDS_CSUM without the feature.
    #[error("the frame leaves its checksum to us, which was not negotiated")]
    ChecksumNotNegotiated,
    /// The checksum would be stored behind the frame's end.
    #[error("the checksum would end at octet {end} of a frame of {len}")]
    ChecksumOutside {
        /// Where the checksum would end, in octets from the start of the frame.
        end: usize,
        /// Length of the frame in octets.
        len: usize,
    },
    /// The checksum would be stored where a frame's head cannot reach.
    #[error("the checksum would end at octet {0}, behind the most that a frame's head can hold")]
    ChecksumTooFar(usize),
    /// The checksum would be stored where no checksum that we know of belongs.
    #[error("the checksum from octet {start} with offset {offset} belongs to no protocol of the frame")]
    ChecksumMisplaced {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
    },
    /// A checksum or segmentation left to us on a part of an IP packet.
    #[error("the frame is an IP fragment, which cannot be offloaded")]
    Fragment,
    /// The frame's headers make no sense.
    #[error("the headers of an offloaded frame cannot be read: {0}")]
    Headers(#[from] HeaderError),
    /// Segmentation without NEEDS_CSUM.
    #[error("the frame is to be segmented but does not leave its checksum to us")]
    GsoWithoutChecksum,
    /// A `gso_type` that no specification names.
    #[error("gso_type {0:#04x} is unknown")]
    GsoUnknown(u8),
    /// UFO, which is never offered.
    #[error("the frame is to be cut into UDP fragments (UFO), which is not offered")]
    Ufo,
    /// Segmentation inside a tunnel, which is never offered.
    #[error("the frame is to be segmented inside a UDP tunnel, which is not offered")]
    Tunnel,
    /// An outer header of a program's that cannot be made for each segment.
    #[error("the frame is to be segmented inside of a tunnel: {0}")]
    Encapsulation(#[from] TunnelError),
    /// A `gso_type` without its feature.
    #[error("segmentation of type {0:?} was not negotiated")]
    GsoNotNegotiated(GsoType),
    /// The `gso_type` contradicts the frame's headers.
    #[error("segmentation of type {0:?} does not fit the headers of the frame")]
    GsoProtocol(GsoType),
    /// The checksum of a frame to be segmented is not that of its transport header.
    #[error("the frame is to be segmented but its checksum is not that of its transport header")]
    GsoChecksum,
    /// A `gso_size` of zero, or so small that it only makes us busy.
    #[error("segments of {0} octets are too small")]
    GsoSize(u16),
    /// More datagrams than a receiver takes.
    #[error("the frame stands for {0} datagrams, more than {MAX_UDP_SEGMENTS}")]
    TooManySegments(usize),
    /// The IP header of a frame to be segmented does not account for all of it.
    #[error("the IP header claims {claimed} octets, there are {actual}")]
    IpLength {
        /// By the IP header, in octets.
        claimed: usize,
        /// From the IP header to the end of the frame, in octets.
        actual: usize,
    },
    /// GSO_ECN without the feature.
    #[error("segmentation with ECN was not negotiated")]
    EcnNotNegotiated,
    /// GSO_ECN on something else than TCP.
    #[error("segmentation with ECN is for TCP only")]
    EcnWithoutTcp,
}

/// Sets `frame.offload` from the header that came with it, which must keep to what was negotiated.
///
/// The headers of an offloaded frame are in its head afterwards, up to the checksum at least.
/// DATA_VALID is ignored: a driver must not set it (virtio 1.3, 5.1.6.2.1) and is not believed.
///
/// # Errors
/// A frame that is refused is to be dropped; its offload is then empty.
pub fn accept(
    frame: &mut Frame,
    header: &VirtioNetHeader,
    allowed: OffloadFeatures,
) -> Result<(), BadOffload> {
    accept_inside(frame, header, allowed, None)
}

/// As [`accept`], with what is around the packet that is to be segmented, if something is.
fn accept_inside(
    frame: &mut Frame,
    header: &VirtioNetHeader,
    allowed: OffloadFeatures,
    encapsulation: Option<Encapsulation>,
) -> Result<(), BadOffload> {
    frame.offload = Offload::default();
    let gso_type = gso_type(header)?;
    if !header.needs_csum() {
        // virtio 1.3, 5.1.6.2: the checksum fields mean nothing then.
        return if gso_type == GsoType::None {
            Ok(())
        } else {
            Err(BadOffload::GsoWithoutChecksum)
        };
    }
    if !allowed.csum {
        return Err(BadOffload::ChecksumNotNegotiated);
    }
    let (headers, outer) = match encapsulation {
        Some(encapsulation) if gso_type != GsoType::None => {
            let tunnel = Tunnel::of(frame, encapsulation)?;
            (tunnel.inner, Some(tunnel.outer))
        }
        _ => (Headers::of(frame)?, None),
    };
    check_checksum(frame, header, &headers)?;
    let mut offload = Offload {
        needs_csum: true,
        csum_start: header.csum_start,
        csum_offset: header.csum_offset,
        ..Offload::default()
    };
    if gso_type != GsoType::None {
        segmentation(frame, header, &headers, gso_type, allowed, &mut offload)?;
    }
    if let Some(outer) = outer
        && offload.gso_type != GsoType::None
    {
        outer.check_len(headers.payload + usize::from(offload.gso_size))?;
        offload.encapsulation = encapsulation;
    }
    frame.offload = offload;
    Ok(())
}

/// Looks at the offload of a frame again after somebody changed the frame: what no longer fits it is refused as if it had
/// come from a guest. An outer header that a program put around a frame to be cut is looked at as well.
///
/// # Errors
/// As [`accept`].
pub fn recheck(frame: &mut Frame) -> Result<(), BadOffload> {
    let Offload {
        data_valid,
        encapsulation,
        ..
    } = frame.offload;
    let header = header_for(&frame.offload, 1);
    accept_inside(frame, &header, OffloadFeatures::ALL, encapsulation)?;
    frame.offload.data_valid = data_valid;
    Ok(())
}

/// The header for a receiver that takes the frame as [`adapt`](super::adapt) delivers it.
///
/// `num_buffers` is the count of receive buffers that the frame takes up; 1 without MRG_RXBUF.
#[inline]
pub fn header_for(offload: &Offload, num_buffers: u16) -> VirtioNetHeader {
    let mut header = VirtioNetHeader {
        num_buffers,
        ..VirtioNetHeader::default()
    };
    if offload.needs_csum {
        header.flags = wire::F_NEEDS_CSUM;
        header.csum_start = offload.csum_start;
        header.csum_offset = offload.csum_offset;
    } else if offload.data_valid {
        header.flags = wire::F_DATA_VALID;
    }
    header.gso_type = match offload.gso_type {
        GsoType::None => return header,
        GsoType::TcpV4 => wire::GSO_TCPV4,
        GsoType::TcpV6 => wire::GSO_TCPV6,
        GsoType::Udp => wire::GSO_UDP_L4,
    };
    if offload.ecn {
        header.gso_type |= wire::GSO_ECN;
    }
    header.gso_size = offload.gso_size;
    header.hdr_len = offload.hdr_len;
    header
}

/// The type of segmentation that the header asks for.
fn gso_type(header: &VirtioNetHeader) -> Result<GsoType, BadOffload> {
    if header.gso_type & (wire::GSO_UDP_TUNNEL_IPV4 | wire::GSO_UDP_TUNNEL_IPV6) != 0 {
        return Err(BadOffload::Tunnel);
    }
    match header.gso_type & !wire::GSO_ECN {
        // ECN alone asks for nothing, and Linux refuses it.
        wire::GSO_NONE if header.gso_type == wire::GSO_NONE => Ok(GsoType::None),
        wire::GSO_TCPV4 => Ok(GsoType::TcpV4),
        wire::GSO_TCPV6 => Ok(GsoType::TcpV6),
        wire::GSO_UDP_L4 => Ok(GsoType::Udp),
        wire::GSO_UDP => Err(BadOffload::Ufo),
        _ => Err(BadOffload::GsoUnknown(header.gso_type)),
    }
}

/// Makes sure that the checksum can be stored, and that storing it changes nothing but a checksum.
///
/// Otherwise a sender could have us rewrite, after its frame passed a policy, what the policy looked at.
fn check_checksum(frame: &mut Frame, header: &VirtioNetHeader, headers: &Headers) -> Result<(), BadOffload> {
    let start = usize::from(header.csum_start);
    let offset = usize::from(header.csum_offset);
    let end = start + offset + 2;
    if end > frame.len() {
        return Err(BadOffload::ChecksumOutside {
            end,
            len: frame.len(),
        });
    }
    if headers.is_fragment {
        return Err(BadOffload::Fragment);
    }
    let is_own = start == headers.l4 && headers.transport.checksum_offset() == Some(offset);
    let is_inner = tunnel_payload(headers).is_some_and(|payload| start >= payload);
    if !is_own && !is_inner {
        return Err(BadOffload::ChecksumMisplaced {
            start: header.csum_start,
            offset: header.csum_offset,
        });
    }
    // Further in, there would be no room for the tags that its place moves by.
    if end > HEAD_CAPACITY || !frame.pull(end) {
        return Err(BadOffload::ChecksumTooFar(end));
    }
    Ok(())
}

/// Where, at the earliest, a packet with a checksum starts inside a tunnel that Linux offloads it for.
fn tunnel_payload(headers: &Headers) -> Option<usize> {
    match headers.transport {
        Transport::Udp => Some(headers.payload), // VXLAN, Geneve, GUE
        Transport::Other(PROTOCOL_IPV4) => Some(headers.l4 + IPV4_MIN_LEN),
        Transport::Other(PROTOCOL_IPV6) => Some(headers.l4 + IPV6_LEN),
        Transport::Other(PROTOCOL_GRE) => Some(headers.l4 + 4),
        Transport::Tcp | Transport::Other(_) | Transport::None => None,
    }
}

/// Fills in what `offload` says about segmentation, unless the frame is a single segment.
fn segmentation(
    frame: &Frame,
    header: &VirtioNetHeader,
    headers: &Headers,
    gso_type: GsoType,
    allowed: OffloadFeatures,
    offload: &mut Offload,
) -> Result<(), BadOffload> {
    if !allowed.allows(gso_type) {
        return Err(BadOffload::GsoNotNegotiated(gso_type));
    }
    let is_tcp = gso_type != GsoType::Udp;
    if header.gso_type & wire::GSO_ECN != 0 {
        if !is_tcp {
            return Err(BadOffload::EcnWithoutTcp);
        }
        if !allowed.ecn {
            return Err(BadOffload::EcnNotNegotiated);
        }
    }
    if !headers.suit(gso_type) {
        return Err(BadOffload::GsoProtocol(gso_type));
    }
    if usize::from(header.csum_start) != headers.l4 {
        return Err(BadOffload::GsoChecksum);
    }
    let actual = frame.len() - headers.l3;
    if headers.l3_len != actual {
        return Err(BadOffload::IpLength {
            claimed: headers.l3_len,
            actual,
        });
    }
    if header.gso_size == 0 || is_tcp && header.gso_size < MIN_TCP_GSO_SIZE {
        return Err(BadOffload::GsoSize(header.gso_size));
    }
    let segments = (frame.len() - headers.payload).div_ceil(usize::from(header.gso_size));
    if segments <= 1 {
        return Ok(());
    }
    if !is_tcp && segments > MAX_UDP_SEGMENTS {
        return Err(BadOffload::TooManySegments(segments));
    }
    offload.gso_type = gso_type;
    offload.gso_size = header.gso_size;
    offload.hdr_len = headers.payload as u16;
    // What the TCP header says counts, the sender's word does not.
    offload.ecn = is_tcp && frame.head()[headers.l4 + 13] & 0x80 != 0;
    Ok(())
}
