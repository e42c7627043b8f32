//! Frames to try helpers on.

use super::calls::Random;
use crate::packet::Metadata;

/// A frame of TCP, UDP or something else over IPv4, IPv6 or something else, with or without a VLAN tag in it.
pub fn any(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![0; 12];
    random.fill(&mut frame);
    match random.below(4) {
        0 => frame[..6].fill(0),
        1 => frame[..6].fill(0xff),
        _ => {}
    }
    for _ in 0..random.pick(&[0, 0, 0, 0, 1, 2]) {
        frame.extend(random.pick(&[[0x81, 0x00], [0x88, 0xa8]]));
        frame.extend((random.next() as u16).to_be_bytes());
    }
    match random.below(8) {
        0 => {
            let protocol = random.pick(&[0x0806, 0x0040, 0x86dd_u16]);
            frame.extend(protocol.to_be_bytes());
            let least = if protocol == 0x86dd { 40 } else { 0 };
            let mut rest = vec![0; least + random.below(60) as usize];
            random.fill(&mut rest);
            frame.extend(rest);
            frame
        }
        1..=4 => {
            frame.extend([0x08, 0x00]);
            let payload = payload(random);
            let mut header = [0; 20];
            random.fill(&mut header);
            header[0] = 0x45;
            header[9] = random.pick(&[6, 17, 1]);
            frame.extend(header);
            frame.extend(payload);
            frame
        }
        _ => {
            frame.extend([0x86, 0xdd]);
            let payload = payload(random);
            let mut header = [0; 40];
            random.fill(&mut header);
            header[0] = 0x60 | header[0] & 0x0f;
            header[6] = random.pick(&[6, 17, 58]);
            frame.extend(header);
            frame.extend(payload);
            frame
        }
    }
}

fn payload(random: &mut Random) -> Vec<u8> {
    let limit = random.pick(&[1, 30, 200, 1420]);
    let mut payload = vec![0; random.below(limit) as usize];
    random.fill(&mut payload);
    payload
}

/// What a kernel makes of a frame that comes in on the loopback device (eth.c: `eth_type_trans`).
pub fn metadata(frame: &[u8]) -> Metadata {
    let [protocol, next] = [12, 14].map(|at| {
        let octet = |at: usize| frame.get(at).copied().unwrap_or(0);
        u16::from_be_bytes([octet(at), octet(at + 1)])
    });
    let destination = &frame[..6];
    Metadata {
        // All zero is that device's own address, and its broadcast address.
        packet_type: match destination {
            [first, ..] if first & 1 != 0 => 2,
            [0, 0, 0, 0, 0, 0] => 0,
            _ => 3,
        },
        protocol: match protocol {
            0x0600.. => protocol,
            _ if next == 0xffff => 0x0001,
            _ => 0x0004,
        },
        ifindex: 1,
        ..Metadata::default()
    }
}

/// A TCP or UDP segment with right checksums.
#[derive(Debug, Clone)]
pub struct Segment {
    pub octets: Vec<u8>,
    pub ipv6: bool,
    pub udp: bool,
}

impl Segment {
    pub fn new(ipv6: bool, udp: bool, random: &mut Random) -> Segment {
        let mut octets = vec![2; 12];
        let mut payload = vec![0; 20 + random.below(300) as usize];
        random.fill(&mut payload);
        let protocol = if udp { 17 } else { 6 };
        if ipv6 {
            octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            octets.extend((payload.len() as u16).to_be_bytes());
            octets.extend([protocol, 64]);
            octets.extend([0; 32]);
            random.fill(&mut octets[22..54]);
        } else {
            octets.extend([0x08, 0x00, 0x45, 0]);
            octets.extend((20 + payload.len() as u16).to_be_bytes());
            octets.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            octets.extend([0; 8]);
            random.fill(&mut octets[26..34]);
        }
        if udp {
            let len = payload.len() as u16;
            payload[4..6].copy_from_slice(&len.to_be_bytes());
        } else {
            payload[12] = 0x50;
        }
        octets.extend(payload);
        let mut segment = Segment { octets, ipv6, udp };
        segment.compute_network();
        segment.compute_transport();
        segment
    }

    pub fn transport(&self) -> usize {
        if self.ipv6 { 54 } else { 34 }
    }

    /// Where the transport's checksum is, from the start of its header.
    pub fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    pub fn checksum_at(&self) -> usize {
        self.transport() + self.checksum_offset()
    }

    /// Where the addresses are.
    pub fn addresses(&self) -> std::ops::Range<usize> {
        if self.ipv6 { 22..54 } else { 26..34 }
    }

    pub fn pseudo_header(&self) -> u16 {
        let len = (self.octets.len() - self.transport()) as u16;
        let protocol = if self.udp { 17 } else { 6 };
        let rest = [&len.to_be_bytes()[..], &[0, protocol]].concat();
        sum(&[&self.octets[self.addresses()], &rest])
    }

    fn compute_network(&mut self) {
        if !self.ipv6 {
            self.octets[24..26].fill(0);
            let sum = !sum(&[&self.octets[14..34]]);
            self.octets[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// Computes the transport's checksum from scratch.
    pub fn compute_transport(&mut self) {
        let at = self.checksum_at();
        self.octets[at..at + 2].fill(0);
        let sum = !sum(&[
            &self.octets[self.transport()..],
            &self.pseudo_header().to_be_bytes(),
        ]);
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        self.octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Leaves the transport's checksum to whoever sends the frame (`CHECKSUM_PARTIAL`).
    pub fn leave_transport(&mut self) {
        let (at, sum) = (self.checksum_at(), self.pseudo_header());
        self.octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Does what was left, as a device does: without looking at headers.
    pub fn complete_transport(&mut self) {
        let (at, start) = (self.checksum_at(), self.transport());
        let sum = !sum(&[&self.octets[start..]]);
        self.octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    pub fn is_right(&self) -> bool {
        let network = self.ipv6 || sum(&[&self.octets[14..34]]) == 0xffff;
        let transport = sum(&[
            &self.octets[self.transport()..],
            &self.pseudo_header().to_be_bytes(),
        ]);
        network && transport == 0xffff
    }
}

/// The Internet checksum's sum as RFC 1071 has it, of parts of which all but the last have even lengths.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
