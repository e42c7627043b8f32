//! Frames with headers that are right, and the plainest check that they still are.

use devices::packet::VirtioNetHeader;
use devices::packet::virtio_header::F_NEEDS_CSUM;
use etherparse::PacketBuilder;

const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// A TCP segment over IPv4 with its checksum.
pub fn tcp4(payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(SOURCE, DESTINATION).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut octets = vec![];
    let builder = builder.tcp(1000, 2000, 0xffff_fff0, 500).ack(7).psh();
    builder.write(&mut octets, &pattern(payload)).unwrap();
    octets
}

/// A TCP segment over IPv6 with its checksum.
pub fn tcp6(payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(SOURCE, DESTINATION).ipv6([0x11; 16], [0x22; 16], 64);
    let mut octets = vec![];
    let builder = builder.tcp(1000, 2000, 3, 500).ack(7).psh();
    builder.write(&mut octets, &pattern(payload)).unwrap();
    octets
}

/// A UDP datagram over IPv4 with its checksum.
pub fn udp4(payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(SOURCE, DESTINATION).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut octets = vec![];
    builder
        .udp(1000, 2000)
        .write(&mut octets, &pattern(payload))
        .unwrap();
    octets
}

/// A frame that nobody looks into.
pub fn opaque(len: usize) -> Vec<u8> {
    let mut octets = [DESTINATION, SOURCE].concat();
    octets.extend([0x88, 0xb5]);
    octets.extend(pattern(len - octets.len()));
    octets
}

/// Octets that tell where they belong.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 251) as u8).collect()
}

/// Undoes the transport checksum, as a sender does that leaves it to the device, and returns the header that says so.
pub fn without_checksum(frame: &mut [u8]) -> VirtioNetHeader {
    let field = l4(frame) + checksum_offset(frame);
    let sum = fold(pseudo_header(frame)).to_be_bytes();
    frame[field..field + 2].copy_from_slice(&sum);
    VirtioNetHeader {
        flags: F_NEEDS_CSUM,
        csum_start: l4(frame) as u16,
        csum_offset: checksum_offset(frame) as u16,
        ..VirtioNetHeader::default()
    }
}

/// As [`without_checksum`], to be cut into segments of `size` octets as well.
pub fn unsegmented(frame: &mut [u8], gso_type: u8, size: u16) -> VirtioNetHeader {
    VirtioNetHeader {
        gso_type,
        gso_size: size,
        hdr_len: headers(frame) as u16,
        ..without_checksum(frame)
    }
}

/// Length of all headers.
pub fn headers(frame: &[u8]) -> usize {
    let transport = if is_tcp(frame) { 20 } else { 8 };
    l4(frame) + transport
}

/// Start of the transport header.
pub fn l4(frame: &[u8]) -> usize {
    ETHERNET + if is_v4(frame) { 20 } else { 40 }
}

/// What the frame carries for the application.
pub fn payload(frame: &[u8]) -> &[u8] {
    &frame[headers(frame)..]
}

/// Whether every checksum is right, and every length.
pub fn is_complete(frame: &[u8]) -> bool {
    let ip = &frame[ETHERNET..];
    let length = usize::from(u16::from_be_bytes(if is_v4(frame) {
        [ip[2], ip[3]]
    } else {
        [ip[4], ip[5]]
    }));
    let header_is_right = if is_v4(frame) {
        fold(sum(&ip[..20])) == 0xffff && length == ip.len()
    } else {
        length == ip.len() - 40
    };
    header_is_right && fold(pseudo_header(frame) + sum(&frame[l4(frame)..])) == 0xffff
}

/// Whether the checksum field holds the sum of the pseudo-header.
pub fn has_pseudo_header_sum(frame: &[u8]) -> bool {
    let field = l4(frame) + checksum_offset(frame);
    frame[field..field + 2] == fold(pseudo_header(frame)).to_be_bytes()
}

fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

fn is_tcp(frame: &[u8]) -> bool {
    frame[ETHERNET + if is_v4(frame) { 9 } else { 6 }] == 6
}

fn checksum_offset(frame: &[u8]) -> usize {
    if is_tcp(frame) { 16 } else { 6 }
}

fn pseudo_header(frame: &[u8]) -> u32 {
    let ip = &frame[ETHERNET..];
    let addresses = if is_v4(frame) { &ip[12..20] } else { &ip[8..40] };
    let protocol = if is_tcp(frame) { 6 } else { 17 };
    sum(addresses) + protocol + (frame.len() - l4(frame)) as u32
}

fn sum(octets: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    octets.chunks(2).map(word).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    ((once >> 16) + (once & 0xffff)) as u16
}
