//! Frames made by hand, and what a driver does with their checksums. Built and checked with smoltcp's wire formats,
//! which know nothing of the daemon's.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, IpVersion, Ipv4Packet,
    Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr, checksum,
};

use super::header::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Header, NEEDS_CSUM};

/// Octets of an Ethernet header.
pub const ETHERNET: usize = 14;
const HOP_LIMIT: u8 = 64;

/// One side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Ethernet address.
    pub mac: [u8; 6],
    /// IP address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

/// What a received frame carries, its checksums found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What the transport header is followed by.
    pub payload: Vec<u8>,
    /// Octets before that.
    pub headers: usize,
    /// TCP only.
    pub sequence: u32,
    /// TCP only: PSH is set.
    pub push: bool,
    /// IPv4 only: identification.
    pub ident: u16,
}

/// An Ethernet frame of a type for experiments, 60 octets at least: no stack answers it.
pub fn ethernet(from: [u8; 6], to: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &[0x88, 0xb5], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A UDP datagram with a complete checksum.
pub fn udp(from: Host, to: Host, payload: &[u8]) -> Vec<u8> {
    let repr = UdpRepr {
        src_port: from.port,
        dst_port: to.port,
    };
    let fill = |octets: &mut [u8], source: IpAddress, destination: IpAddress| {
        repr.emit(
            &mut UdpPacket::new_unchecked(octets),
            &source,
            &destination,
            payload.len(),
            |room| room.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
    };
    ip(from, to, IpProtocol::Udp, repr.header_len() + payload.len(), fill)
}

/// A TCP segment in the middle of a stream, PSH set, with a complete checksum.
pub fn tcp(from: Host, to: Host, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: from.port,
        dst_port: to.port,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: Some(TcpSeqNumber(1)),
        window_len: 0xffff,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let fill = |octets: &mut [u8], source: IpAddress, destination: IpAddress| {
        let mut packet = TcpPacket::new_unchecked(octets);
        repr.emit(
            &mut packet,
            &source,
            &destination,
            &ChecksumCapabilities::default(),
        );
    };
    ip(from, to, IpProtocol::Tcp, repr.buffer_len(), fill)
}

fn ip(
    from: Host,
    to: Host,
    protocol: IpProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8], IpAddress, IpAddress),
) -> Vec<u8> {
    let (source, destination) = (IpAddress::from(from.ip), IpAddress::from(to.ip));
    let repr = IpRepr::new(source, destination, protocol, len, HOP_LIMIT);
    let mut octets = vec![0; ETHERNET + repr.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut octets);
    frame.set_src_addr(EthernetAddress(from.mac));
    frame.set_dst_addr(EthernetAddress(to.mac));
    frame.set_ethertype(match repr.version() {
        IpVersion::Ipv4 => EthernetProtocol::Ipv4,
        IpVersion::Ipv6 => EthernetProtocol::Ipv6,
    });
    repr.emit(frame.payload_mut(), &ChecksumCapabilities::default());
    fill(&mut frame.payload_mut()[repr.header_len()..], source, destination);
    octets
}

/// Where things are in a frame.
struct Layout {
    source: IpAddress,
    destination: IpAddress,
    protocol: IpProtocol,
    transport: usize,
    /// IPv4 only.
    ident: u16,
}

fn layout(frame: &[u8]) -> Option<Layout> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            assert!(packet.verify_checksum(), "the IPv4 header's checksum is wrong");
            assert_eq!(
                usize::from(packet.total_len()),
                ethernet.payload().len(),
                "the IPv4 header's length is wrong"
            );
            Some(Layout {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: packet.next_header(),
                transport: ETHERNET + usize::from(packet.header_len()),
                ident: packet.ident(),
            })
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            assert_eq!(
                packet.total_len(),
                ethernet.payload().len(),
                "the IPv6 header's length is wrong"
            );
            Some(Layout {
                source: packet.src_addr().into(),
                destination: packet.dst_addr().into(),
                protocol: packet.next_header(),
                transport: ETHERNET + packet.header_len(),
                ident: 0,
            })
        }
        _ => None,
    }
}

/// Leaves the checksum of a TCP or UDP frame to the device: the field gets the pseudo-header's sum. Other frames are as
/// they were, with an empty header.
pub fn leave_checksum(frame: &mut [u8]) -> Header {
    let Some(layout) = layout(frame) else {
        return Header::default();
    };
    let offset = match layout.protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return Header::default(),
    };
    let len = (frame.len() - layout.transport) as u32;
    let sum = checksum::pseudo_header(&layout.source, &layout.destination, layout.protocol, len);
    let field = layout.transport + offset;
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Header {
        flags: NEEDS_CSUM,
        csum_start: layout.transport as u16,
        csum_offset: offset as u16,
        ..Header::default()
    }
}

/// Leaves the segmentation of a TCP or UDP frame to the device, with so many octets of payload in each.
pub fn leave_segmentation(frame: &mut [u8], gso_size: u16) -> Header {
    let header = leave_checksum(frame);
    let layout = layout(frame).expect("an IP frame");
    let (gso_type, transport_len) = match (layout.protocol, layout.source.version()) {
        (IpProtocol::Tcp, version) => {
            let len = TcpPacket::new_unchecked(&frame[layout.transport..]).header_len();
            let kind = if version == IpVersion::Ipv4 {
                GSO_TCPV4
            } else {
                GSO_TCPV6
            };
            (kind, usize::from(len))
        }
        _ => (GSO_UDP_L4, 8),
    };
    Header {
        gso_type,
        gso_size,
        hdr_len: (layout.transport + transport_len) as u16,
        ..header
    }
}

/// Does what a driver's stack does with a received frame before it checks it: the checksum that was left to it.
pub fn complete(header: &Header, frame: &mut [u8]) {
    if header.flags & NEEDS_CSUM == 0 {
        return;
    }
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    let sum = match !checksum::data(&frame[start..]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What a received TCP or UDP frame carries.
///
/// # Panics
/// If a length or a checksum in it is wrong.
pub fn carried(header: &Header, frame: &[u8]) -> Carried {
    let mut frame = frame.to_vec();
    complete(header, &mut frame);
    let layout = layout(&frame).expect("an IP frame");
    let transport = &frame[layout.transport..];
    let (source, destination) = (layout.source, layout.destination);
    match layout.protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(transport).expect("a TCP segment");
            assert!(
                packet.verify_checksum(&source, &destination),
                "the TCP checksum is wrong"
            );
            Carried {
                payload: packet.payload().to_vec(),
                headers: layout.transport + usize::from(packet.header_len()),
                sequence: packet.seq_number().0 as u32,
                push: packet.psh(),
                ident: layout.ident,
            }
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(transport).expect("a UDP datagram");
            assert_ne!(packet.checksum(), 0, "the UDP checksum is missing");
            assert!(
                packet.verify_checksum(&source, &destination),
                "the UDP checksum is wrong"
            );
            assert_eq!(
                usize::from(packet.len()),
                transport.len(),
                "the UDP length is wrong"
            );
            Carried {
                payload: packet.payload().to_vec(),
                headers: layout.transport + 8,
                sequence: 0,
                push: false,
                ident: layout.ident,
            }
        }
        other => panic!("a frame of protocol {other}"),
    }
}
