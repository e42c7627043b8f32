//! The frames that are sent: what is the same in all frames of a flow, and what is told from the tag of one.

/// Octets of the virtio-net header of a driver that took VERSION_1 (virtio 1.3, 5.1.6).
pub const HEADER: usize = 12;
/// Octets of a tag: flow and sequence number.
pub const TAG: usize = 8;
/// Octets of the header and the frame that are copied for every UDP frame: one cache line, tag included.
pub const UDP_TEMPLATE: usize = 64;
/// As [`UDP_TEMPLATE`], for TCP frames.
pub const TCP_TEMPLATE: usize = 80;

/// Where the checksum of a TCP frame is.
pub const TCP_CHECKSUM: usize = ETHERNET + IP + 16;

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const TCP: usize = 20;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const SEQUENCE: u64 = (1 << 48) - 1;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// What a frame is like, whatever flow it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Octets of the Ethernet frame, without FCS.
    pub len: usize,
    /// Payload octets of the segments that a TCP frame is to be cut into; `None` is UDP.
    pub segment: Option<u16>,
}

impl Shape {
    /// Where the tag is in the frame.
    pub fn tag_at(self) -> usize {
        ETHERNET + IP + if self.segment.is_some() { TCP } else { UDP }
    }
}

/// Flow and sequence number of a frame, as it carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of a flow's frame.
    #[inline]
    pub fn new(flow: u16, sequence: u64) -> Tag {
        Tag(u64::from(flow) << 48 | (sequence & SEQUENCE))
    }

    /// The flow.
    #[inline]
    pub fn flow(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// How many frames of the flow were before.
    #[inline]
    pub fn sequence(self) -> u64 {
        self.0 & SEQUENCE
    }
}

/// Header and first octets of a flow's frames.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// What precedes the tag. Behind it, zeroes.
    pub octets: [u8; TCP_TEMPLATE],
    /// What the frames are like.
    pub shape: Shape,
}

impl Template {
    /// Frames from one address to another. Flows differ in addresses and ports.
    pub fn new(from: Mac, to: Mac, flow: u16, shape: Shape) -> Template {
        let [high, low] = flow.to_be_bytes();
        let (source, destination) = ([10, 1, high, low], [10, 2, high, low]);
        let mut frame = Vec::with_capacity(TCP_TEMPLATE);
        frame.extend_from_slice(&virtio_header(shape));
        frame.extend_from_slice(&to);
        frame.extend_from_slice(&from);
        frame.extend_from_slice(&[0x08, 0x00]);
        frame.extend_from_slice(&ip_header(shape, source, destination));
        let ports = [10_000u16.wrapping_add(flow), 5001];
        frame.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        let len = (shape.len - ETHERNET - IP) as u16;
        if shape.segment.is_some() {
            frame.extend_from_slice(&tcp_rest(source, destination, len));
        } else {
            // A UDP checksum of zero is none.
            frame.extend_from_slice(&len.to_be_bytes());
            frame.extend_from_slice(&[0, 0]);
        }
        frame.resize(TCP_TEMPLATE, 0);
        let mut octets = [0; TCP_TEMPLATE];
        octets.copy_from_slice(&frame);
        Template { octets, shape }
    }

    /// A whole frame with this tag, without virtio-net header.
    pub fn whole(&self, tag: Tag, frame: &mut Vec<u8>) {
        let at = self.shape.tag_at();
        frame.clear();
        frame.extend_from_slice(&self.octets[HEADER..HEADER + at]);
        frame.extend_from_slice(&tag.0.to_ne_bytes());
        let mut word = tag.0;
        while frame.len() < self.shape.len {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            frame.extend_from_slice(&word.to_ne_bytes());
        }
        frame.truncate(self.shape.len);
    }
}

impl Template {
    /// Whether a frame that was sent may come with this header: with what was left to the device still to be done, or,
    /// if something was, with everything done. `hdr_len` is a hint, and `num_buffers` the device's to say.
    pub fn may_come_with(&self, header: &[u8]) -> bool {
        let unchanged = header[..2] == self.octets[..2] && header[4..10] == self.octets[4..10];
        let done = header[0] & !DATA_VALID == 0 && header[1..10] == [0; 9];
        unchanged || self.shape.segment.is_some() && done
    }

    /// Makes the checksum of a frame with this content what it is beside a header with these flags. DPDK leaves the
    /// length out of one that is still to be completed, as network cards want it; then `received` is like that.
    pub fn adapt_checksum(&self, flags: u8, received: [u8; 2], frame: &mut [u8]) {
        if self.shape.segment.is_none() {
            return;
        }
        let checksum = if flags & NEEDS_CSUM == 0 {
            // The field holds the sum of the pseudo header.
            !sum(&frame[ETHERNET + IP..])
        } else {
            let without_length = sum(&[&frame[26..34], &[0, 6]].concat());
            if received != without_length.to_be_bytes() {
                return;
            }
            without_length
        };
        frame[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn virtio_header(shape: Shape) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    if let Some(segment) = shape.segment {
        header[0] = NEEDS_CSUM;
        header[1] = GSO_TCPV4;
        header[2..4].copy_from_slice(&((ETHERNET + IP + TCP) as u16).to_le_bytes());
        header[4..6].copy_from_slice(&segment.to_le_bytes());
        header[6..8].copy_from_slice(&((ETHERNET + IP) as u16).to_le_bytes());
        header[8..10].copy_from_slice(&16u16.to_le_bytes());
    }
    header
}

fn ip_header(shape: Shape, source: [u8; 4], destination: [u8; 4]) -> [u8; IP] {
    let [high, low] = ((shape.len - ETHERNET) as u16).to_be_bytes();
    let protocol = if shape.segment.is_some() { 6 } else { 17 };
    let mut header = [0; IP];
    header[..10].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol]);
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(&destination);
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// A TCP header behind its ports; the checksum is that of the pseudo header, the rest is the device's to do.
fn tcp_rest(source: [u8; 4], destination: [u8; 4], len: u16) -> [u8; TCP - 4] {
    let [high, low] = len.to_be_bytes();
    let pseudo = [source, destination, [0, 6, high, low]].concat();
    let [sum_high, sum_low] = sum(&pseudo).to_be_bytes();
    // Sequence number, acknowledgement, header length, ACK, window, checksum, no urgent data.
    [
        0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, sum_high, sum_low, 0, 0,
    ]
}

fn sum(octets: &[u8]) -> u16 {
    let words = octets
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_udp_frame_is_in_its_first_line() {
        let shape = Shape {
            len: 64,
            segment: None,
        };
        assert!(HEADER + shape.tag_at() + TAG <= UDP_TEMPLATE);
        let shape = Shape {
            len: 65214,
            segment: Some(1448),
        };
        assert!(HEADER + shape.tag_at() + TAG <= TCP_TEMPLATE);
    }

    #[test]
    fn headers_are_valid() {
        let shape = Shape {
            len: 594,
            segment: None,
        };
        let template = Template::new([2; 6], [4; 6], 0x1234, shape);
        let mut frame = Vec::new();
        template.whole(Tag::new(0x1234, 77), &mut frame);
        assert_eq!(frame.len(), 594);
        assert_eq!(sum(&frame[14..34]), 0xffff, "the IP header's checksum");
        assert_eq!(frame[16..18], 580u16.to_be_bytes());
        assert_eq!(frame[38..40], 560u16.to_be_bytes());
        assert_eq!(frame[26..30], [10, 1, 0x12, 0x34]);
    }

    #[test]
    fn frames_of_two_tags_differ_to_the_end() {
        let template = Template::new(
            [2; 6],
            [4; 6],
            1,
            Shape {
                len: 1518,
                segment: None,
            },
        );
        let (mut one, mut other) = (Vec::new(), Vec::new());
        template.whole(Tag::new(1, 1), &mut one);
        template.whole(Tag::new(1, 2), &mut other);
        let same = one.chunks(8).zip(other.chunks(8)).skip(6).filter(|(a, b)| a == b);
        assert_eq!(same.count(), 0);
    }

    #[test]
    fn the_checksum_of_a_large_frame_is_complete_or_still_to_be_completed() {
        let shape = Shape {
            len: 54 + 45 * 1448,
            segment: Some(1448),
        };
        let template = Template::new([2; 6], [4; 6], 1, shape);
        let (sent, done) = (template.octets[..HEADER].to_vec(), [0; HEADER]);
        assert!(template.may_come_with(&sent) && template.may_come_with(&done));
        let mut other = sent.clone();
        other[4] ^= 1;
        assert!(!template.may_come_with(&other));
        let mut frame = Vec::new();
        template.whole(Tag::new(1, 1), &mut frame);
        let mut complete = frame.clone();
        template.adapt_checksum(0, [0, 0], &mut complete);
        let len = (frame.len() - 34) as u16;
        let pseudo = [&frame[26..34], &[0, 6], &len.to_be_bytes()].concat();
        assert_eq!(sum(&[pseudo.as_slice(), &complete[34..]].concat()), 0xffff);
        let mut unchanged = frame.clone();
        template.adapt_checksum(NEEDS_CSUM, [0, 0], &mut unchanged);
        assert_eq!(unchanged, frame);
    }
}
