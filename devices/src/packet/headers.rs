//! Where a frame's headers are: Ethernet, VLAN tags, IPv4 or IPv6 with extension headers, TCP or UDP.

use super::{Frame, GsoType};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of a provider's VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// Length of an Ethernet header without tags, in octets.
pub const ETHERNET_LEN: usize = 14;
const VLAN_TAG_LEN: usize = 4;
pub(super) const IPV4_MIN_LEN: usize = 20;
pub(super) const IPV6_LEN: usize = 40;
const TCP_MIN_LEN: usize = 20;
const UDP_LEN: usize = 8;

/// Tags beyond these are taken for the payload of an unknown protocol.
const MAX_VLAN_TAGS: usize = 2;
/// Linux passes eight by default as well (`net.ipv6.max_hbh_opts_number` and its kin).
const MAX_EXTENSION_HEADERS: usize = 8;

/// The network layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Anything else; nothing behind its EtherType is looked at.
    Other,
}

impl Network {
    /// The longest packet that the header can express, in octets; an IPv6 header does not count itself.
    pub(super) fn max_len(self) -> usize {
        let payload = usize::from(u16::MAX);
        if self == Network::Ipv6 {
            IPV6_LEN + payload
        } else {
            payload
        }
    }
}

/// The transport layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Another IP protocol, or an extension header that is not looked into.
    Other(u8),
    /// Not an IP packet.
    None,
}

impl Transport {
    fn of(protocol: u8) -> Transport {
        match protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            other => Transport::Other(other),
        }
    }

    /// Where the checksum is, in octets from the start of the transport header.
    pub fn checksum_offset(self) -> Option<usize> {
        match self {
            Transport::Tcp => Some(16),
            Transport::Udp => Some(6),
            Transport::Other(_) | Transport::None => None,
        }
    }
}

/// Where the headers are, in octets from the start of the frame.
///
/// `l3 <= l4 <= payload <= ` the length of the head that was parsed, and each header that is named lies
/// whole between its offset and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// EtherType behind the VLAN tags, in host order; below 0x600 it is a length.
    pub ethertype: u16,
    /// Network layer.
    pub network: Network,
    /// Transport layer.
    pub transport: Transport,
    /// Whether this is a part of an IP packet only: no transport header is looked for then.
    pub is_fragment: bool,
    /// Start of the network header.
    pub l3: usize,
    /// Length in octets that the network header claims for itself and what follows; nobody checked it.
    pub l3_len: usize,
    /// Start of the transport header; `l3` if the frame is not IP.
    pub l4: usize,
    /// Start of what follows the last header that was understood.
    pub payload: usize,
}

/// Why the headers could not be located.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The head is too short and the frame is not: pull that many octets and parse again.
    #[error("the first {0} octets of the frame are needed to read its headers")]
    NeedMore(usize),
    /// The headers exceed what a head can hold.
    #[error("the headers take up {0} octets, more than a frame's head can hold")]
    TooLong(usize),
    /// The frame ends inside a header.
    #[error("the frame of {len} octets ends before octet {end} of its headers")]
    Truncated {
        /// Where the header ends, in octets from the start of the frame.
        end: usize,
        /// Length of the frame in octets.
        len: usize,
    },
    /// The IP version contradicts the EtherType, or is none.
    #[error("IP version {0} contradicts the EtherType, or is none")]
    Version(u8),
    /// A header claims to be shorter than it can be.
    #[error("a header claims the impossible length of {0} octets")]
    HeaderLength(usize),
    /// More IPv6 extension headers than anyone sends.
    #[error("more than {MAX_EXTENSION_HEADERS} IPv6 extension headers")]
    TooManyExtensionHeaders,
}

impl Headers {
    /// Locates the headers of a frame of `total_len` octets that starts with `head`.
    ///
    /// # Errors
    /// [`HeaderError::NeedMore`] if a longer head would help, another one if nothing would.
    pub fn parse(head: &[u8], total_len: usize) -> Result<Headers, HeaderError> {
        let octets = Octets {
            head,
            total_len: total_len.max(head.len()),
        };
        let (ethertype, l3) = ethernet(octets)?;
        match ethertype {
            ETHERTYPE_IPV4 => ipv4(octets, l3),
            ETHERTYPE_IPV6 => ipv6(octets, l3),
            _ => Ok(Headers {
                ethertype,
                network: Network::Other,
                transport: Transport::None,
                is_fragment: false,
                l3,
                l3_len: octets.total_len - l3,
                l4: l3,
                payload: l3,
            }),
        }
    }

    /// As [`parse`](Headers::parse), but of the IP packet that starts at `l3`, whatever is in front of it.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_packet(head: &[u8], total_len: usize, l3: usize) -> Result<Headers, HeaderError> {
        let octets = Octets {
            head,
            total_len: total_len.max(head.len()),
        };
        let [version] = *octets.get(l3)?;
        match version >> 4 {
            4 => ipv4(octets, l3),
            _ => ipv6(octets, l3),
        }
    }

    /// Locates the headers of `frame`, and pulls them into its head as far as needed.
    ///
    /// # Errors
    /// Any [`HeaderError`] but `NeedMore`.
    pub fn of(frame: &mut Frame) -> Result<Headers, HeaderError> {
        Headers::pulling(frame, Headers::parse)
    }

    /// As [`of`](Headers::of), but of the IP packet that starts at `l3`, whatever is in front of it.
    ///
    /// # Errors
    /// As `of`.
    pub fn of_packet(frame: &mut Frame, l3: usize) -> Result<Headers, HeaderError> {
        Headers::pulling(frame, |head, len| Headers::parse_packet(head, len, l3))
    }

    fn pulling(
        frame: &mut Frame,
        parse: impl Fn(&[u8], usize) -> Result<Headers, HeaderError>,
    ) -> Result<Headers, HeaderError> {
        loop {
            match parse(frame.head(), frame.len()) {
                Err(HeaderError::NeedMore(len)) if frame.pull(len) => {}
                Err(HeaderError::NeedMore(len)) => return Err(HeaderError::TooLong(len)),
                parsed => return parsed,
            }
        }
    }

    /// Whether a frame with these headers can be segmented that way.
    pub fn suit(&self, gso_type: GsoType) -> bool {
        let is =
            |network, transport| !self.is_fragment && self.network == network && self.transport == transport;
        match gso_type {
            GsoType::None => true,
            GsoType::TcpV4 => is(Network::Ipv4, Transport::Tcp),
            GsoType::TcpV6 => is(Network::Ipv6, Transport::Tcp),
            GsoType::Udp => is(Network::Ipv4, Transport::Udp) || is(Network::Ipv6, Transport::Udp),
        }
    }
}

/// The head of a frame, read with a check at every step.
#[derive(Clone, Copy)]
struct Octets<'a> {
    head: &'a [u8],
    total_len: usize,
}

impl<'a> Octets<'a> {
    /// The `N` octets from `at` on.
    fn get<const N: usize>(self, at: usize) -> Result<&'a [u8; N], HeaderError> {
        self.head
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .ok_or_else(|| self.missing(at + N))
    }

    /// The 16-bit field at `at`.
    fn get_u16(self, at: usize) -> Result<u16, HeaderError> {
        self.get(at).map(|octets| u16::from_be_bytes(*octets))
    }

    /// Makes sure that the head reaches to `end`.
    fn require(self, end: usize) -> Result<usize, HeaderError> {
        if end <= self.head.len() {
            Ok(end)
        } else {
            Err(self.missing(end))
        }
    }

    fn missing(self, end: usize) -> HeaderError {
        if end <= self.total_len {
            HeaderError::NeedMore(end)
        } else {
            HeaderError::Truncated {
                end,
                len: self.total_len,
            }
        }
    }
}

/// EtherType behind the tags, and where the network header starts.
fn ethernet(octets: Octets) -> Result<(u16, usize), HeaderError> {
    let mut l3 = ETHERNET_LEN;
    let mut ethertype = octets.get_u16(l3 - 2)?;
    for _ in 0..MAX_VLAN_TAGS {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
            break;
        }
        l3 += VLAN_TAG_LEN;
        ethertype = octets.get_u16(l3 - 2)?;
    }
    Ok((ethertype, l3))
}

/// RFC 791, 3.1.
fn ipv4(octets: Octets, l3: usize) -> Result<Headers, HeaderError> {
    let header: &[u8; IPV4_MIN_LEN] = octets.get(l3)?;
    check_version(header[0], 4)?;
    let len = usize::from(header[0] & 0xf) * 4;
    if len < IPV4_MIN_LEN {
        return Err(HeaderError::HeaderLength(len));
    }
    let l4 = octets.require(l3 + len)?;
    // Neither "more fragments" nor an offset; "don't fragment" does not matter.
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let transport = Transport::of(header[9]);
    Ok(Headers {
        ethertype: ETHERTYPE_IPV4,
        network: Network::Ipv4,
        transport,
        is_fragment,
        l3,
        l3_len: usize::from(u16::from_be_bytes([header[2], header[3]])),
        l4,
        payload: if is_fragment {
            l4
        } else {
            transport_end(octets, transport, l4)?
        },
    })
}

/// RFC 8200, 3 and 4.
fn ipv6(octets: Octets, l3: usize) -> Result<Headers, HeaderError> {
    let header: &[u8; IPV6_LEN] = octets.get(l3)?;
    check_version(header[0], 6)?;
    let (l4, protocol, is_fragment) = extension_headers(octets, l3 + IPV6_LEN, header[6])?;
    let transport = Transport::of(protocol);
    Ok(Headers {
        ethertype: ETHERTYPE_IPV6,
        network: Network::Ipv6,
        transport,
        is_fragment,
        l3,
        l3_len: IPV6_LEN + usize::from(u16::from_be_bytes([header[4], header[5]])),
        l4,
        payload: if is_fragment {
            l4
        } else {
            transport_end(octets, transport, l4)?
        },
    })
}

fn check_version(octet: u8, version: u8) -> Result<(), HeaderError> {
    if octet >> 4 == version {
        Ok(())
    } else {
        Err(HeaderError::Version(octet >> 4))
    }
}

/// Where the extension headers end, the protocol behind them, and whether it is a fragment.
fn extension_headers(octets: Octets, mut at: usize, mut next: u8) -> Result<(usize, u8, bool), HeaderError> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;

    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Ok((at, next, false));
        }
        let [following, _, offset @ ..]: [u8; 4] = *octets.get(at)?;
        // RFC 8200, 4.5: bit 0 says that more follow; an "atomic" fragment (RFC 6946) is whole.
        let is_fragment = next == FRAGMENT && u16::from_be_bytes(offset) & !0b110 != 0;
        let len = if next == FRAGMENT {
            8
        } else {
            (usize::from(octets.get::<2>(at)?[1]) + 1) * 8
        };
        at = octets.require(at + len)?;
        next = following;
        if is_fragment {
            return Ok((at, next, true));
        }
    }
    Err(HeaderError::TooManyExtensionHeaders)
}

/// Where the transport header that starts at `l4` ends.
fn transport_end(octets: Octets, transport: Transport, l4: usize) -> Result<usize, HeaderError> {
    match transport {
        Transport::Tcp => {
            let header: &[u8; TCP_MIN_LEN] = octets.get(l4)?;
            let len = usize::from(header[12] >> 4) * 4; // RFC 9293, 3.1: data offset
            if len < TCP_MIN_LEN {
                return Err(HeaderError::HeaderLength(len));
            }
            octets.require(l4 + len)
        }
        Transport::Udp => octets.require(l4 + UDP_LEN),
        Transport::Other(_) | Transport::None => Ok(l4),
    }
}
