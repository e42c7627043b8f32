//! The headers of a frame that a program encapsulated: the outer ones, which each segment gets anew, and the inner ones.

use super::adapt::{put_u16, store_checksum};
use super::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_MIN_LEN, IPV6_LEN};
use super::segment::fix_network_header;
use super::{Checksum, Encapsulation, Frame, HEAD_CAPACITY, HeaderError, Headers, Network, Transport};

/// IP in IP (RFC 2003).
pub(super) const PROTOCOL_IPV4: u8 = 4;
/// IPv6 in IP (RFC 2473, RFC 4213).
pub(super) const PROTOCOL_IPV6: u8 = 41;
/// GRE (RFC 2784).
pub(super) const PROTOCOL_GRE: u8 = 47;
const PROTOCOL_UDP: u8 = 17;

/// Where the headers of an encapsulated frame are. All of them are in its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel {
    pub outer: Outer,
    pub inner: Headers,
}

/// Why a frame with an outer header cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The outer or the inner headers make no sense.
    #[error("the headers of an encapsulated frame cannot be read: {0}")]
    Headers(#[from] HeaderError),
    /// The outer packet is a part only.
    #[error("the outer packet is an IP fragment, which cannot be cut")]
    Fragment,
    /// The outer headers end in something that is no tunnel, or not the one that was announced.
    #[error("the outer headers end in {0:?}, which is no tunnel or not the one that the program announced")]
    Protocol(Transport),
    /// The inner packet is not where, or not what, the tunnel header says.
    #[error(
        "the inner packet starts at octet {inner}, which contradicts the tunnel header that ends at {end}"
    )]
    Misplaced {
        /// Where the inner network header was said to start, in octets from the start of the frame.
        inner: usize,
        /// Where the tunnel header ends.
        end: usize,
    },
    /// GRE with a sequence number, with routing, or of another version.
    #[error("a frame behind a GRE header with flags {0:#06x} cannot be cut")]
    Gre(u16),
    /// The outer checksum covers an address that may not be the one in the outer IP header.
    #[error("the checksum of the outer UDP header lies behind IP options or extension headers; make it zero")]
    ChecksumBehindOptions,
    /// A segment exceeds what the outer IP header can express.
    #[error("an outer IP packet of {0} octets is too long")]
    TooLong(usize),
}

impl Tunnel {
    /// Locates the headers of `frame`, and pulls them into its head as far as needed.
    ///
    /// What lies between the tunnel header and the inner network header (VXLAN or Geneve, Ethernet, MPLS) is not looked
    /// into: it is the same for each segment.
    pub fn of(frame: &mut Frame, encapsulation: Encapsulation) -> Result<Tunnel, TunnelError> {
        let outer = Headers::of(frame)?;
        let inner = Headers::of_packet(frame, encapsulation.inner.into())?;
        if inner.payload > HEAD_CAPACITY {
            // Each of up to thousands of segments has a copy.
            return Err(HeaderError::TooLong(inner.payload).into());
        }
        if outer.is_fragment {
            return Err(TunnelError::Fragment);
        }
        if encapsulation.udp != (outer.transport == Transport::Udp) {
            return Err(TunnelError::Protocol(outer.transport));
        }
        let header = TunnelHeader::behind(&outer, frame.head())?;
        let fits = match header.carries {
            Some(network) => inner.l3 == header.end && inner.network == network,
            None => inner.l3 >= header.end,
        };
        if !fits {
            return Err(TunnelError::Misplaced {
                inner: inner.l3,
                end: header.end,
            });
        }
        let checksum = header.checksum;
        Ok(Tunnel {
            outer: Outer {
                headers: outer,
                checksum,
            },
            inner,
        })
    }
}

/// What follows the outer IP header.
struct TunnelHeader {
    end: usize,
    /// What packet follows at once, if one does.
    carries: Option<Network>,
    /// Where the checksum is, if there is one.
    checksum: Option<usize>,
}

impl TunnelHeader {
    fn behind(outer: &Headers, head: &[u8]) -> Result<TunnelHeader, TunnelError> {
        let packet = |network| TunnelHeader {
            end: outer.l4,
            carries: Some(network),
            checksum: None,
        };
        match outer.transport {
            Transport::Udp => TunnelHeader::udp(outer, head),
            Transport::Other(PROTOCOL_IPV4) => Ok(packet(Network::Ipv4)),
            Transport::Other(PROTOCOL_IPV6) => Ok(packet(Network::Ipv6)),
            Transport::Other(PROTOCOL_GRE) => TunnelHeader::gre(outer.l4, head),
            other => Err(TunnelError::Protocol(other)),
        }
    }

    fn udp(outer: &Headers, head: &[u8]) -> Result<TunnelHeader, TunnelError> {
        let field = outer.l4 + 6;
        // RFC 768 and, for tunnels over IPv6, RFC 6935: zero is no checksum.
        let has_checksum = head[field..field + 2] != [0, 0];
        // RFC 8200, 8.1: a routing header has the address that the checksum covers; so do source routes of IPv4.
        let plain_len = match outer.network {
            Network::Ipv6 => IPV6_LEN,
            _ => IPV4_MIN_LEN,
        };
        if has_checksum && outer.l4 - outer.l3 != plain_len {
            return Err(TunnelError::ChecksumBehindOptions);
        }
        Ok(TunnelHeader {
            end: outer.payload,
            carries: None,
            checksum: has_checksum.then_some(field),
        })
    }

    /// RFC 2784, 2.1, and RFC 2890, 2.
    fn gre(at: usize, head: &[u8]) -> Result<TunnelHeader, TunnelError> {
        const CHECKSUM: u16 = 0x8000;
        const KEY: u16 = 0x2000;

        let Some(&[f0, f1, p0, p1]) = head.get(at..).and_then(|rest| rest.first_chunk()) else {
            return Err(HeaderError::Truncated {
                end: at + 4,
                len: head.len(),
            }
            .into());
        };
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & !(CHECKSUM | KEY) != 0 {
            return Err(TunnelError::Gre(flags));
        }
        let has_checksum = flags & CHECKSUM != 0;
        let fields = usize::from(has_checksum) + usize::from(flags & KEY != 0);
        Ok(TunnelHeader {
            end: at + 4 + 4 * fields,
            carries: match u16::from_be_bytes([p0, p1]) {
                ETHERTYPE_IPV4 => Some(Network::Ipv4),
                ETHERTYPE_IPV6 => Some(Network::Ipv6),
                _ => None,
            },
            checksum: has_checksum.then_some(at + 4),
        })
    }
}

/// The outer headers of an encapsulated frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    headers: Headers,
    /// Where the checksum of the tunnel is, if it has one.
    checksum: Option<usize>,
}

impl Outer {
    /// Makes sure that the outer headers can express a segment of `len` octets.
    pub fn check_len(&self, len: usize) -> Result<(), TunnelError> {
        let l3_len = len - self.headers.l3;
        if l3_len > self.headers.network.max_len() {
            return Err(TunnelError::TooLong(l3_len));
        }
        Ok(())
    }

    /// Makes the outer headers those of a segment that is done but for them.
    pub fn fix(&self, segment: &mut Frame, index: u16) {
        let Headers { l4, transport, .. } = self.headers;
        fix_network_header(segment, &self.headers, index);
        if transport == Transport::Udp {
            let l4_len = (segment.len() - l4) as u16;
            put_u16(segment.head_mut(), l4 + 4, l4_len);
        }
        if let Some(field) = self.checksum {
            let pseudo_header = self.pseudo_header(segment).fold();
            put_u16(segment.head_mut(), field, pseudo_header);
            store_checksum(segment, l4, field);
        }
    }

    /// What the checksum covers in front of the tunnel header: nothing in case of GRE.
    fn pseudo_header(&self, segment: &Frame) -> Checksum {
        let Headers { l3, l4, .. } = self.headers;
        let mut sum = Checksum::new();
        if self.headers.transport == Transport::Udp {
            let addresses = match self.headers.network {
                Network::Ipv6 => l3 + 8..l3 + 40,
                _ => l3 + 12..l3 + 20,
            };
            sum.add(&segment.head()[addresses]);
            sum.add(&[0, PROTOCOL_UDP]);
            sum.add(&((segment.len() - l4) as u16).to_be_bytes());
        }
        sum
    }
}
