//! Frames with right checksums, made of the parts that a test names.

/// The addresses of most frames.
pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GUEST: [u8; 4] = [10, 0, 0, 1];
pub const REMOTE: [u8; 4] = [192, 0, 2, 9];
pub const GUEST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const REMOTE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// The sum of 16-bit words in ones' complement (RFC 1071).
pub fn sum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn ethernet(source: [u8; 6], destination: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination, source].concat();
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet; `fragment` is the field of flags and offset.
pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    ipv4_options(source, destination, protocol, fragment, &[], payload)
}

/// The same with options, of a multiple of four octets.
pub fn ipv4_options(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let len = (header_len + payload.len()) as u16;
    let mut header = vec![0x40 | (header_len / 4) as u8, 0];
    header.extend(len.to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(source);
    header.extend(destination);
    header.extend(options);
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header.extend(payload);
    header
}

pub fn ipv6(source: [u8; 16], destination: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

/// The ends of a transport connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    pub source: &'a [u8],
    pub destination: &'a [u8],
    pub source_port: u16,
    pub destination_port: u16,
}

impl<'a> Ends<'a> {
    pub fn new(source: &'a [u8], source_port: u16, destination: &'a [u8], destination_port: u16) -> Self {
        Ends {
            source,
            destination,
            source_port,
            destination_port,
        }
    }

    /// What is sent the other way.
    pub fn back(self) -> Self {
        Ends::new(
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
        )
    }
}

/// The checksum of a transport header and what follows, with its pseudo header.
pub fn transport_sum(source: &[u8], destination: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    let mut all = [source, destination].concat();
    all.extend([0, protocol]);
    all.extend((segment.len() as u16).to_be_bytes());
    all.extend(segment);
    sum(&all)
}

pub fn udp(ends: Ends<'_>, payload: &[u8]) -> Vec<u8> {
    let mut segment = ends.source_port.to_be_bytes().to_vec();
    segment.extend(ends.destination_port.to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    let checksum = !transport_sum(ends.source, ends.destination, UDP, &segment);
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    segment[6..8].copy_from_slice(&checksum.to_be_bytes());
    segment
}

pub fn tcp(ends: Ends<'_>, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = ends.source_port.to_be_bytes().to_vec();
    segment.extend(ends.destination_port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let checksum = !transport_sum(ends.source, ends.destination, TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// An ICMP echo, or whatever the type makes of it.
pub fn icmp(kind: u8, identifier: u16) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1, b'p', b'i', b'n', b'g']);
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMPv6 message with an identifier where an echo has it.
pub fn icmpv6(source: &[u8], destination: &[u8], kind: u8, identifier: u16) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1, b'p', b'i', b'n', b'g']);
    let checksum = !transport_sum(source, destination, ICMPV6, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// From the guest to the host, over whichever IP the ends have.
pub fn frame_of(ends: Ends<'_>, protocol: u8, segment: &[u8]) -> Vec<u8> {
    match (
        <[u8; 4]>::try_from(ends.source),
        <[u8; 4]>::try_from(ends.destination),
    ) {
        (Ok(source), Ok(destination)) => {
            let packet = ipv4(source, destination, protocol, 0, segment);
            ethernet(GUEST_MAC, HOST_MAC, 0x0800, &packet)
        }
        _ => {
            let (source, destination) = (ends.source.try_into(), ends.destination.try_into());
            let packet = ipv6(source.unwrap(), destination.unwrap(), protocol, segment);
            ethernet(GUEST_MAC, HOST_MAC, 0x86dd, &packet)
        }
    }
}

pub fn udp_frame(ends: Ends<'_>, payload: &[u8]) -> Vec<u8> {
    frame_of(ends, UDP, &udp(ends, payload))
}

pub fn tcp_frame(ends: Ends<'_>, flags: u8) -> Vec<u8> {
    frame_of(ends, TCP, &tcp(ends, flags, b"data"))
}

/// An ARP request or reply.
pub fn arp(sender_mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(sender_mac);
    packet.extend(sender);
    packet.extend([0; 6]);
    packet.extend(target);
    ethernet(sender_mac, [0xff; 6], 0x0806, &packet)
}

/// Whether the checksums of an IPv4 frame without IP options are right.
pub fn has_right_checksums(frame: &[u8]) -> bool {
    let header_len = usize::from(frame[14] & 15) * 4;
    let (header, segment) = frame[14..].split_at(header_len);
    let right = |sum: u16| sum == 0xffff || sum == 0;
    let transport = match header[9] {
        ICMP => sum(segment),
        UDP if segment[6..8] == [0, 0] => 0xffff,
        protocol => transport_sum(&header[12..16], &header[16..20], protocol, segment),
    };
    right(sum(header)) && right(transport)
}
