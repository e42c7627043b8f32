//! A TCP segment as it came, and whether it follows another one (Linux: `inet_gro_receive`, `tcp_gro_receive`).

use crate::nic::arrival::Arrival;
use crate::packet::{Checksum, Frame, GsoType, HeaderError, Headers, Network, Offload, Transport};

const PROTOCOL_TCP: u8 = 6;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const DONT_FRAGMENT: u16 = 0x4000;
const CHECKSUM_OFFSET: usize = 16;
const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;
/// Smaller segments are refused as the work of somebody who wants to keep us busy (`packet::accept`).
const SEGMENT_MIN: usize = 8;
/// What an IPv4 header can express; IPv6 frames are not made longer, either.
const PACKET_MAX: usize = u16::MAX as usize;

/// A TCP packet, perhaps a part of one, whose headers are in its first piece.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    arrival: &'a Arrival,
    /// The first piece.
    octets: &'a [u8],
    headers: Headers,
    len: usize,
}

/// What is known of segments that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    /// Of the first.
    headers: Headers,
    /// Segments.
    count: u16,
    /// Octets of payload in each but the last.
    segment_len: usize,
    /// Octets of payload in all.
    payload_len: usize,
    /// FIN and PSH of the last.
    last_flags: u8,
    /// Whether all have the same IPv4 identification, as those that are never cut may.
    same_identification: bool,
}

impl<'a> Packet<'a> {
    /// None if this is not TCP.
    ///
    /// # Errors
    /// [`HeaderError::NeedMore`] if not all headers are in the first piece.
    pub(super) fn of(arrival: &'a Arrival) -> Result<Option<Packet<'a>>, HeaderError> {
        let (octets, len) = (arrival.first(), arrival.len());
        let headers = Headers::parse(octets, len)?;
        Ok((headers.transport == Transport::Tcp).then_some(Packet {
            arrival,
            octets,
            headers,
            len,
        }))
    }

    /// The first of the segments that `summary` is of. None if this is another arrival.
    pub(super) fn first_of(arrival: &'a Arrival, summary: &Summary) -> Option<Packet<'a>> {
        let (octets, headers) = (arrival.first(), summary.headers);
        (headers.payload <= octets.len()).then(|| Packet {
            arrival,
            octets,
            headers,
            len: arrival.len(),
        })
    }

    /// Whether it belongs to the same flow as `first`, which is whole: a part of a packet goes by its addresses.
    pub(super) fn is_of_flow(&self, first: &Packet) -> bool {
        let (mine, its) = (&self.headers, &first.headers);
        self.arrival.vlan == first.arrival.vlan
            && mine.network == its.network
            && self.octets[..mine.l3] == first.octets[..its.l3]
            && self.addresses() == first.addresses()
            && (mine.is_fragment || self.octets[mine.l4..][..4] == first.octets[its.l4..][..4])
    }

    /// What is known if others may follow this one. None if it has to go alone.
    pub(super) fn begin(&self) -> Option<Summary> {
        if !self.is_plain() || self.tcp()[FLAGS] & (FIN | SYN | RST | PSH | URG) != 0 {
            return None;
        }
        let payload_len = self.len.checked_sub(self.headers.payload)?;
        if payload_len < SEGMENT_MIN {
            return None;
        }
        Some(Summary {
            headers: self.headers,
            count: 1,
            segment_len: payload_len,
            payload_len,
            last_flags: 0,
            same_identification: false,
        })
    }

    /// Pieces that it lies in.
    pub(super) fn pieces(&self) -> usize {
        self.arrival.slices.len()
    }

    /// Whether its checksum is right, by the NIC's word or our own.
    pub(super) fn is_verified(&self) -> bool {
        if self.arrival.header.data_valid() {
            return true;
        }
        let mut sum = pseudo_header(self.addresses(), self.len - self.headers.l4);
        let mut skipped = self.headers.l4;
        for slice in &self.arrival.slices {
            let skip = skipped.min(slice.len);
            skipped -= skip;
            // SAFETY: the piece is mapped and nobody writes to it while the queue is not released.
            unsafe { sum.add_raw(slice.ptr.add(skip), slice.len - skip) };
        }
        sum.finish() == 0
    }

    /// Whether nothing is special about it: the NIC left nothing to us, and the network header is of the usual form, right
    /// and accounts for all that came.
    fn is_plain(&self) -> bool {
        let Headers {
            l3,
            l4,
            l3_len,
            network,
            is_fragment,
            ..
        } = self.headers;
        let has_form = match network {
            Network::Ipv4 => {
                let mut sum = Checksum::new();
                sum.add(&self.octets[l3..l4]);
                l4 - l3 == IPV4_LEN && sum.finish() == 0 && self.fragment_field() & !DONT_FRAGMENT == 0
            }
            Network::Ipv6 => l4 - l3 == IPV6_LEN,
            Network::Other => false,
        };
        has_form && !is_fragment && l3 + l3_len == self.len && self.arrival.header.asks_for_nothing()
    }

    fn addresses(&self) -> &'a [u8] {
        addresses(self.octets, self.headers.network, self.headers.l3)
    }

    fn fragment_field(&self) -> u16 {
        get_u16(self.octets, self.headers.l3 + 6)
    }

    fn identification(&self) -> u16 {
        get_u16(self.octets, self.headers.l3 + 4)
    }

    /// The TCP header with its options.
    fn tcp(&self) -> &'a [u8] {
        &self.octets[self.headers.l4..self.headers.payload]
    }

    fn sequence(&self) -> u32 {
        get_u32(self.tcp(), 4)
    }
}

impl Summary {
    /// What is known when `packet` has joined those that began with `first`. None if it does not follow them.
    pub(super) fn with(&self, packet: &Packet, first: &Packet) -> Option<Summary> {
        if self.is_complete() || !packet.is_plain() || !same_tcp_header(packet, first) {
            return None;
        }
        let payload_len = packet.len.checked_sub(packet.headers.payload)?;
        let total = self.payload_len + payload_len;
        let expected = first.sequence().wrapping_add(self.payload_len as u32);
        let fits = payload_len > 0
            && payload_len <= self.segment_len
            && packet.sequence() == expected
            && self.headers.payload - self.headers.l3 + total <= PACKET_MAX;
        let same_identification = self.same_network_header(packet, first)?;
        fits.then_some(Summary {
            count: self.count + 1,
            payload_len: total,
            last_flags: packet.tcp()[FLAGS] & (FIN | PSH),
            same_identification,
            ..*self
        })
    }

    /// Whether nothing can follow any more: the last segment was shorter, or is to be seen at once.
    pub(super) fn is_complete(&self) -> bool {
        self.last_flags != 0 || self.payload_len < usize::from(self.count) * self.segment_len
    }

    /// Octets of headers in front of each segment.
    pub(super) fn header_len(&self) -> usize {
        self.headers.payload
    }

    /// Makes the headers of `frame`, which are those of the first segment, fit all of them, and says how it is to be cut.
    pub(super) fn describe(&self, frame: &mut Frame) {
        let Headers { l3, l4, network, .. } = self.headers;
        let (packet_len, tcp_len) = (frame.len() - l3, frame.len() - l4);
        let head = frame.head_mut();
        match network {
            Network::Ipv4 => {
                put_u16(head, l3 + 2, packet_len as u16);
                put_u16(head, l3 + 10, 0);
                let mut sum = Checksum::new();
                sum.add(&head[l3..l4]);
                put_u16(head, l3 + 10, sum.finish());
            }
            _ => put_u16(head, l3 + 4, (packet_len - IPV6_LEN) as u16),
        }
        head[l4 + FLAGS] |= self.last_flags;
        let has_cwr = head[l4 + FLAGS] & CWR != 0;
        let pseudo = pseudo_header(addresses(head, network, l3), tcp_len).fold();
        put_u16(head, l4 + CHECKSUM_OFFSET, pseudo);
        frame.offload = Offload {
            needs_csum: true,
            data_valid: true,
            csum_start: l4 as u16,
            csum_offset: CHECKSUM_OFFSET as u16,
            gso_type: match network {
                Network::Ipv4 => GsoType::TcpV4,
                _ => GsoType::TcpV6,
            },
            ecn: has_cwr,
            gso_size: self.segment_len as u16,
            hdr_len: self.headers.payload as u16,
            encapsulation: None,
        };
    }

    /// None if the network header differs in more than lengths, checksum and identification; else whether all packets have
    /// the same identification. It counts up, or stays the same if the packets may not be cut (RFC 6864, 4.1).
    fn same_network_header(&self, packet: &Packet, first: &Packet) -> Option<bool> {
        let (mine, its) = (
            &packet.octets[packet.headers.l3..],
            &first.octets[first.headers.l3..],
        );
        if self.headers.network == Network::Ipv6 {
            // Version, traffic class and flow label; hop limit.
            return (mine[..4] == its[..4] && mine[7] == its[7]).then_some(false);
        }
        let fragment = packet.fragment_field();
        // Type of service; time to live.
        if mine[1] != its[1] || mine[8] != its[8] || fragment != first.fragment_field() {
            return None;
        }
        let distance = packet.identification().wrapping_sub(first.identification());
        let counts = distance == self.count && (self.count == 1 || !self.same_identification);
        let stays =
            distance == 0 && fragment == DONT_FRAGMENT && (self.count == 1 || self.same_identification);
        (counts || stays).then_some(stays)
    }
}

/// Whether what must not differ does not: acknowledgement, lengths, flags, window, options.
fn same_tcp_header(packet: &Packet, first: &Packet) -> bool {
    let (mine, its) = (packet.tcp(), first.tcp());
    mine.len() == its.len()
        && mine[8..FLAGS] == its[8..FLAGS]
        // CWR is the first one's alone (RFC 3168, 6.1.2), FIN and PSH the last one's.
        && mine[FLAGS] & !(FIN | PSH) == its[FLAGS] & !CWR
        && mine[FLAGS + 1..CHECKSUM_OFFSET] == its[FLAGS + 1..CHECKSUM_OFFSET]
        && mine[CHECKSUM_OFFSET + 2..] == its[CHECKSUM_OFFSET + 2..]
}

fn addresses(octets: &[u8], network: Network, l3: usize) -> &[u8] {
    match network {
        Network::Ipv4 => &octets[l3 + 12..][..8],
        Network::Ipv6 => &octets[l3 + 8..][..32],
        Network::Other => &[],
    }
}

/// The sum of the pseudo-header, which comes out the same with a length of 16 bits (RFC 9293, 3.1) and of 32 (RFC 8200,
/// 8.1).
fn pseudo_header(addresses: &[u8], tcp_len: usize) -> Checksum {
    let mut sum = Checksum::new();
    sum.add(addresses);
    sum.add(&[0, PROTOCOL_TCP]);
    sum.add(&(tcp_len as u32).to_be_bytes());
    sum
}

fn get_u16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn get_u32(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

fn put_u16(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
