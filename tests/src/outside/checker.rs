//! Checks every frame of a wire: lengths, all checksums, what was left to do on it, and where it is in its stream.
//! With smoltcp's wire formats, which know nothing of the daemon's.

use std::collections::HashMap;

use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket, checksum,
};

use crate::driver::Header;
use crate::driver::header::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};
use crate::driver::packet::ETHERNET;

/// Octets of an Ethernet frame without its check sequence that are filled up with padding.
const SHORTEST: usize = 60;
const VLAN_TAG: usize = 4;

/// Looks at frame after frame.
#[derive(Debug, Clone)]
pub struct Checker {
    mtu: usize,
    takes_unfinished: bool,
    tally: Tally,
    /// The next sequence number of each direction of a TCP connection.
    streams: HashMap<(IpAddress, u16, IpAddress, u16), u32>,
}

/// What has been seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// All frames.
    pub frames: u64,
    /// Those with a VLAN tag.
    pub tagged: u64,
    /// Those of IPv4 and IPv6.
    pub ip: u64,
    /// TCP segments.
    pub tcp: u64,
    /// UDP datagrams.
    pub udp: u64,
    /// ICMP messages of both versions.
    pub icmp: u64,
    /// Parts of fragmented datagrams, of which only the IP header can be checked.
    pub fragments: u64,
    /// Frames of which a checksum, or the segmentation, was left to the receiver.
    pub unfinished: u64,
    /// Octets of TCP payload.
    pub tcp_octets: u64,
    /// TCP segments that began behind where their stream had come to: others were lost or late.
    pub gaps: u64,
    /// TCP segments with octets that had been seen before.
    pub repeats: u64,
    /// Octets of the longest frame.
    pub longest: usize,
}

/// What is wrong with which frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame {number} of {len} octets: {wrong}; it begins {begins:02x?}")]
pub struct Fault {
    /// The frame's number in the capture, from 1.
    pub number: u64,
    /// Its length.
    pub len: usize,
    /// What is wrong.
    pub wrong: Wrong,
    /// Its first octets.
    pub begins: Vec<u8>,
}

/// What can be wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("it ends before its {0} does")]
    Cut(&'static str),
    #[error("its packet of {len} octets is longer than the MTU of {mtu}")]
    TooLong { len: usize, mtu: usize },
    #[error("its {0} has another length than the frame has room for")]
    Length(&'static str),
    #[error("the checksum of its {0} is wrong")]
    Checksum(&'static str),
    #[error("its UDP datagram has no checksum")]
    NoChecksum,
    #[error("something was left to do on it, on a wire that carries complete frames")]
    Unfinished,
    #[error("what was left to do on it makes no sense")]
    Senseless,
}

impl Checker {
    /// For a wire of this MTU (of IP packets) that carries complete frames only.
    pub fn new(mtu: usize) -> Checker {
        Checker {
            mtu,
            takes_unfinished: false,
            tally: Tally::default(),
            streams: HashMap::new(),
        }
    }

    /// For a virtual wire, on which checksums and segmentation may be left to the receiver.
    pub fn virtual_wire(mtu: usize) -> Checker {
        Checker {
            takes_unfinished: true,
            ..Checker::new(mtu)
        }
    }

    /// The longest packet that may be seen.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// What has been seen so far.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Looks at the next frame, with what was left to do on it.
    pub fn check(&mut self, header: &Header, frame: &[u8]) -> Result<(), Fault> {
        self.tally.frames += 1;
        self.tally.longest = self.tally.longest.max(frame.len());
        self.look(header, frame).map_err(|wrong| Fault {
            number: self.tally.frames,
            len: frame.len(),
            wrong,
            begins: frame[..frame.len().min(64)].to_vec(),
        })
    }

    fn look(&mut self, header: &Header, frame: &[u8]) -> Result<(), Wrong> {
        let (ethertype, start) = ethertype(frame)?;
        self.tally.tagged += u64::from(start > ETHERNET);
        let packet = &frame[start..];
        let is_unfinished = header.flags & NEEDS_CSUM != 0 || header.gso_type != GSO_NONE;
        if is_unfinished && !self.takes_unfinished {
            return Err(Wrong::Unfinished);
        }
        self.tally.unfinished += u64::from(is_unfinished);
        if header.gso_type == GSO_NONE && packet.len() > self.mtu {
            let (len, mtu) = (packet.len(), self.mtu);
            return Err(Wrong::TooLong { len, mtu });
        }
        match ethertype {
            0x0800 => self.ipv4(header, frame.len(), start, packet),
            0x86dd => self.ipv6(header, frame.len(), start, packet),
            _ if is_unfinished => Err(Wrong::Senseless),
            _ => Ok(()),
        }
    }

    fn ipv4(&mut self, header: &Header, frame_len: usize, start: usize, octets: &[u8]) -> Result<(), Wrong> {
        self.tally.ip += 1;
        let packet = Ipv4Packet::new_checked(octets).map_err(|_| Wrong::Cut("IPv4 packet"))?;
        if packet.version() != 4 {
            return Err(Wrong::Senseless);
        }
        if !packet.verify_checksum() {
            return Err(Wrong::Checksum("IPv4 header"));
        }
        let len = usize::from(packet.total_len());
        check_padding("IPv4 packet", frame_len, octets.len(), len)?;
        if packet.more_frags() || packet.frag_offset() != 0 {
            self.tally.fragments += 1;
            return Ok(());
        }
        let transport = usize::from(packet.header_len());
        let ends = (packet.src_addr().into(), packet.dst_addr().into());
        let at = start + transport;
        self.transport(header, at, ends, packet.next_header(), &octets[transport..len])
    }

    fn ipv6(&mut self, header: &Header, frame_len: usize, start: usize, octets: &[u8]) -> Result<(), Wrong> {
        self.tally.ip += 1;
        let packet = Ipv6Packet::new_checked(octets).map_err(|_| Wrong::Cut("IPv6 packet"))?;
        if packet.version() != 6 {
            return Err(Wrong::Senseless);
        }
        let len = packet.total_len();
        check_padding("IPv6 packet", frame_len, octets.len(), len)?;
        let ends = (packet.src_addr().into(), packet.dst_addr().into());
        let (mut next, mut at) = (packet.next_header(), packet.header_len());
        while let IpProtocol::HopByHop | IpProtocol::Ipv6Opts | IpProtocol::Ipv6Route = next {
            let [kind, units] = octets
                .get(at..at + 2)
                .and_then(|it| it.try_into().ok())
                .ok_or(Wrong::Cut("IPv6 extension header"))?;
            (next, at) = (IpProtocol::from(kind), at + 8 * (usize::from(units) + 1));
        }
        if next == IpProtocol::Ipv6Frag {
            self.tally.fragments += 1;
            return Ok(());
        }
        let payload = octets.get(at..len).ok_or(Wrong::Cut("IPv6 extension header"))?;
        self.transport(header, start + at, ends, next, payload)
    }

    /// `start` is where the transport header begins in the frame.
    fn transport(
        &mut self,
        header: &Header,
        start: usize,
        (source, destination): (IpAddress, IpAddress),
        protocol: IpProtocol,
        octets: &[u8],
    ) -> Result<(), Wrong> {
        let ends = (source, destination);
        match protocol {
            IpProtocol::Tcp => self.tcp(header, start, ends, octets),
            IpProtocol::Udp => self.udp(header, start, ends, octets),
            _ if header.flags & NEEDS_CSUM != 0 || header.gso_type != GSO_NONE => Err(Wrong::Senseless),
            IpProtocol::Icmp => {
                self.tally.icmp += 1;
                let packet = Icmpv4Packet::new_checked(octets).map_err(|_| Wrong::Cut("ICMP message"))?;
                right(packet.verify_checksum(), Wrong::Checksum("ICMP message"))
            }
            IpProtocol::Icmpv6 => {
                self.tally.icmp += 1;
                let (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) = ends else {
                    return Err(Wrong::Senseless);
                };
                let packet = Icmpv6Packet::new_checked(octets).map_err(|_| Wrong::Cut("ICMPv6 message"))?;
                let sum = packet.verify_checksum(&source, &destination);
                right(sum, Wrong::Checksum("ICMPv6 message"))
            }
            _ => Ok(()),
        }
    }

    fn tcp(
        &mut self,
        header: &Header,
        start: usize,
        (source, destination): (IpAddress, IpAddress),
        octets: &[u8],
    ) -> Result<(), Wrong> {
        self.tally.tcp += 1;
        let packet = TcpPacket::new_checked(octets).map_err(|_| Wrong::Cut("TCP segment"))?;
        if header.flags & NEEDS_CSUM != 0 {
            let ends = (&source, &destination);
            left_checksum(header, start, 16, ends, IpProtocol::Tcp, octets)?;
        } else if !packet.verify_checksum(&source, &destination) {
            return Err(Wrong::Checksum("TCP segment"));
        }
        let gso = match source {
            IpAddress::Ipv4(_) => GSO_TCPV4,
            IpAddress::Ipv6(_) => GSO_TCPV6,
        };
        let headers = start - ETHERNET + usize::from(packet.header_len());
        self.left_segmentation(header, gso, headers)?;

        let payload = packet.payload().len() as u32;
        self.tally.tcp_octets += u64::from(payload);
        let len = payload + u32::from(packet.syn()) + u32::from(packet.fin());
        let stream = (source, packet.src_port(), destination, packet.dst_port());
        self.follow(stream, packet.seq_number().0 as u32, len, packet.syn());
        Ok(())
    }

    fn udp(
        &mut self,
        header: &Header,
        start: usize,
        (source, destination): (IpAddress, IpAddress),
        octets: &[u8],
    ) -> Result<(), Wrong> {
        self.tally.udp += 1;
        let packet = UdpPacket::new_checked(octets).map_err(|_| Wrong::Cut("UDP datagram"))?;
        self.left_segmentation(header, GSO_UDP_L4, start - ETHERNET + 8)?;
        if usize::from(packet.len()) != octets.len() {
            return Err(Wrong::Length("UDP datagram"));
        }
        if header.flags & NEEDS_CSUM != 0 {
            let ends = (&source, &destination);
            return left_checksum(header, start, 6, ends, IpProtocol::Udp, octets);
        }
        right(packet.checksum() != 0, Wrong::NoChecksum)?;
        right(
            packet.verify_checksum(&source, &destination),
            Wrong::Checksum("UDP datagram"),
        )
    }

    /// Segmentation that is left must be of the frame's own kind, with segments that fit the MTU; `headers` are the
    /// octets of a packet before its payload, with tags if there are any.
    fn left_segmentation(&self, header: &Header, kind: u8, headers: usize) -> Result<(), Wrong> {
        if header.gso_type == GSO_NONE {
            return Ok(());
        }
        let size = usize::from(header.gso_size);
        let is_right = header.gso_type == kind && header.flags & NEEDS_CSUM != 0 && size > 0;
        right(is_right, Wrong::Senseless)?;
        let (len, mtu) = (headers + size, self.mtu + VLAN_TAG);
        right(len <= mtu, Wrong::TooLong { len, mtu })
    }

    fn follow(&mut self, stream: (IpAddress, u16, IpAddress, u16), sequence: u32, len: u32, is_first: bool) {
        if len == 0 {
            return;
        }
        let end = sequence.wrapping_add(len);
        let next = self.streams.entry(stream).or_insert(sequence);
        if is_first {
            *next = sequence;
        }
        match sequence.wrapping_sub(*next) as i32 {
            0 => *next = end,
            1.. => {
                self.tally.gaps += 1;
                *next = end;
            }
            ..0 => {
                self.tally.repeats += 1;
                if end.wrapping_sub(*next) as i32 > 0 {
                    *next = end;
                }
            }
        }
    }
}

/// The type of what a frame carries, and where that begins.
fn ethertype(frame: &[u8]) -> Result<(u16, usize), Wrong> {
    let mut at = ETHERNET;
    loop {
        let octets = frame.get(at - 2..at).ok_or(Wrong::Cut("Ethernet header"))?;
        match u16::from_be_bytes([octets[0], octets[1]]) {
            0x8100 | 0x88a8 => at += VLAN_TAG,
            ethertype => return Ok((ethertype, at)),
        }
    }
}

/// Nothing may follow a packet but what fills up the shortest frame.
fn check_padding(what: &'static str, frame_len: usize, room: usize, len: usize) -> Result<(), Wrong> {
    // A tag that is taken out leaves the frame shorter than it was, one that is put in longer.
    let is_padding = frame_len <= SHORTEST + VLAN_TAG;
    right(room == len || room > len && is_padding, Wrong::Length(what))
}

/// A checksum that is left to the receiver begins as the sum of the pseudo-header.
fn left_checksum(
    header: &Header,
    start: usize,
    field: usize,
    (source, destination): (&IpAddress, &IpAddress),
    protocol: IpProtocol,
    octets: &[u8],
) -> Result<(), Wrong> {
    let places = (usize::from(header.csum_start), usize::from(header.csum_offset));
    right(places == (start, field), Wrong::Senseless)?;
    let begun = checksum::pseudo_header(source, destination, protocol, octets.len() as u32);
    let found = octets.get(field..field + 2).ok_or(Wrong::Senseless)?;
    right(found == begun.to_be_bytes(), Wrong::Checksum("pseudo-header"))
}

fn right(is_right: bool, wrong: Wrong) -> Result<(), Wrong> {
    if is_right { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests;
