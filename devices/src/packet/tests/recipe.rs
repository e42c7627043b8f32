//! What a frame is made of, and the plainest code that makes it: the oracle of the other tests.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::packet::virtio_header::{F_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
use crate::packet::{Frame, GsoType, HEAD_CAPACITY, Slice, VirtioNetHeader};

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const CWR: u8 = 0x80;

#[derive(Debug, Clone)]
pub struct Recipe {
    /// EtherTypes of the VLAN tags.
    pub tags: Vec<u16>,
    pub network: Net,
    pub transport: L4,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone)]
pub enum Net {
    V4 {
        identification: u16,
        options: Vec<u8>,
    },
    /// Extension headers with their numbers, without the two octets that they all start with.
    V6 {
        extensions: Vec<(u8, Vec<u8>)>,
    },
}

#[derive(Debug, Clone)]
pub enum L4 {
    Tcp {
        sequence: u32,
        flags: u8,
        options: Vec<u8>,
    },
    Udp,
}

/// What the checksum field of the transport header holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    PseudoHeader,
    Checksum,
}

impl Recipe {
    pub fn tcp4(payload: usize) -> Recipe {
        Recipe {
            tags: vec![],
            network: Net::V4 {
                identification: 0xfffe,
                options: vec![],
            },
            transport: L4::Tcp {
                sequence: 0xffff_ff00,
                flags: 0x10 | FIN | PSH | CWR,
                options: vec![1; 12],
            },
            payload: (0..payload)
                .map(|index| (index * 31 + index / 256) as u8)
                .collect(),
        }
    }

    pub fn udp6(payload: usize) -> Recipe {
        Recipe {
            network: Net::V6 { extensions: vec![] },
            transport: L4::Udp,
            ..Recipe::tcp4(payload)
        }
    }

    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub fn l4(&self) -> usize {
        self.l3()
            + match &self.network {
                Net::V4 { options, .. } => 20 + options.len(),
                Net::V6 { extensions } => {
                    40 + extensions.iter().map(|(_, body)| 2 + body.len()).sum::<usize>()
                }
            }
    }

    pub fn header_len(&self) -> usize {
        self.l4()
            + match &self.transport {
                L4::Tcp { options, .. } => 20 + options.len(),
                L4::Udp => 8,
            }
    }

    pub fn len(&self) -> usize {
        self.header_len() + self.payload.len()
    }

    pub fn csum_offset(&self) -> usize {
        match self.transport {
            L4::Tcp { .. } => 16,
            L4::Udp => 6,
        }
    }

    pub fn gso_type(&self) -> GsoType {
        match (&self.network, &self.transport) {
            (_, L4::Udp) => GsoType::Udp,
            (Net::V4 { .. }, L4::Tcp { .. }) => GsoType::TcpV4,
            (Net::V6 { .. }, L4::Tcp { .. }) => GsoType::TcpV6,
        }
    }

    pub fn has_cwr(&self) -> bool {
        matches!(self.transport, L4::Tcp { flags, .. } if flags & CWR != 0)
    }

    /// The header that a driver sends the frame with, as a whole frame if `gso_size` is zero.
    pub fn header(&self, gso_size: u16) -> VirtioNetHeader {
        let gso_type = match self.gso_type() {
            _ if gso_size == 0 => 0,
            GsoType::Udp => GSO_UDP_L4,
            GsoType::TcpV4 => GSO_TCPV4,
            _ => GSO_TCPV6,
        };
        VirtioNetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: gso_type
                | if gso_size > 0 && self.has_cwr() {
                    GSO_ECN
                } else {
                    0
                },
            hdr_len: 0xbad,
            gso_size,
            csum_start: self.l4() as u16,
            csum_offset: self.csum_offset() as u16,
            num_buffers: 0xbad,
        }
    }

    pub fn build(&self, field: Field) -> Vec<u8> {
        let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            octets.extend(tag.to_be_bytes());
            octets.extend([0x20, 0x07]);
        }
        let l4_len = self.len() - self.l4();
        let protocol = match self.transport {
            L4::Tcp { .. } => 6,
            L4::Udp => 17,
        };
        let mut pseudo = vec![];
        match &self.network {
            Net::V4 {
                identification,
                options,
            } => {
                let total = (20 + options.len() + l4_len) as u16;
                let mut header = vec![0x40 | (5 + options.len() / 4) as u8, 0x02];
                header.extend(total.to_be_bytes());
                header.extend(identification.to_be_bytes());
                header.extend([0x40, 0, 64, protocol, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6]);
                header.extend(options);
                let checksum = !naive_sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                pseudo.extend(&header[12..20]);
                octets.extend([0x08, 0x00]);
                octets.extend(header);
            }
            Net::V6 { extensions } => {
                octets.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56]);
                octets.extend(((self.len() - self.l3() - 40) as u16).to_be_bytes());
                let mut numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).collect();
                numbers.push(protocol);
                octets.extend([numbers[0], 64]);
                pseudo.extend((0..32).map(|index| 0xfd ^ index));
                octets.extend(&pseudo);
                for ((number, body), next) in extensions.iter().zip(&numbers[1..]) {
                    let units = if *number == 44 {
                        0
                    } else {
                        (body.len() + 2) / 8 - 1
                    };
                    octets.extend([*next, units as u8]);
                    octets.extend(body);
                }
            }
        }
        pseudo.extend([0, protocol]);
        pseudo.extend((l4_len as u16).to_be_bytes());
        assert_eq!(octets.len(), self.l4());
        octets.extend([0x12, 0x34, 0x56, 0x78]);
        match &self.transport {
            L4::Tcp {
                sequence,
                flags,
                options,
            } => {
                octets.extend(sequence.to_be_bytes());
                octets.extend([
                    1,
                    2,
                    3,
                    4,
                    ((5 + options.len() / 4) << 4) as u8,
                    *flags,
                    0xff,
                    0xff,
                    0,
                    0,
                    0,
                    9,
                ]);
                octets.extend(options);
            }
            L4::Udp => {
                octets.extend((l4_len as u16).to_be_bytes());
                octets.extend([0, 0]);
            }
        }
        octets.extend(&self.payload);
        let place = self.l4() + self.csum_offset();
        let partial = naive_sum(&pseudo);
        octets[place..place + 2].copy_from_slice(&partial.to_be_bytes());
        if field == Field::Checksum {
            let checksum = match !naive_sum(&octets[self.l4()..]) {
                0 => 0xffff,
                checksum => checksum,
            };
            octets[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        octets
    }

    /// The segments that the frame stands for, each a recipe of its own.
    pub fn cut(&self, gso_size: usize) -> Vec<Recipe> {
        let count = self.payload.chunks(gso_size).count();
        let segment = |(index, payload): (usize, &[u8])| {
            let mut segment = Recipe {
                payload: payload.to_vec(),
                ..self.clone()
            };
            if let Net::V4 { identification, .. } = &mut segment.network {
                *identification = identification.wrapping_add(index as u16);
            }
            if let L4::Tcp { sequence, flags, .. } = &mut segment.transport {
                *sequence = sequence.wrapping_add((index * gso_size) as u32);
                if index > 0 {
                    *flags &= !CWR;
                }
                if index + 1 < count {
                    *flags &= !(FIN | PSH);
                }
            }
            segment
        };
        self.payload.chunks(gso_size).enumerate().map(segment).collect()
    }
}

/// RFC 1071, 4.1, word by word.
pub fn naive_sum(octets: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Where a frame's octets lie: how many in its head, and in pieces of what length the rest.
#[derive(Debug, Clone)]
pub struct Layout {
    pub head: usize,
    pub pieces: Vec<usize>,
}

impl Layout {
    /// A frame over `octets`, which must outlive it.
    pub fn frame(&self, octets: &[u8]) -> Frame {
        let (head, mut rest) = octets.split_at(self.head.min(octets.len()).min(HEAD_CAPACITY));
        let mut frame = Frame::from_octets(head);
        for len in self.pieces.iter().cycle() {
            let (piece, others) = rest.split_at(*len.min(&rest.len()));
            // SAFETY: the caller keeps the octets.
            unsafe {
                frame.push_slice(Slice {
                    ptr: piece.as_ptr(),
                    len: piece.len(),
                })
            };
            rest = others;
            if rest.is_empty() {
                return frame;
            }
        }
        frame
    }
}

pub fn layouts() -> impl Strategy<Value = Layout> {
    let head = prop_oneof![0..80usize, Just(256), 0..HEAD_CAPACITY];
    (head, vec(1..1500usize, 1..6)).prop_map(|(head, pieces)| Layout { head, pieces })
}

fn networks() -> impl Strategy<Value = Net> {
    let options = (0..=10usize).prop_map(|words| vec![1; 4 * words]);
    let v4 = (any::<u16>(), options).prop_map(|(identification, options)| Net::V4 {
        identification,
        options,
    });
    // RFC 8200, 4.1: in this order, destination options twice only around a routing header; the fragment
    // header is an atomic one.
    let present = any::<[bool; 5]>().prop_map(|[hop, first, routing, fragment, second]| {
        [hop, first, routing, fragment, second && routing]
    });
    let v6 = (present, vec(0..4usize, 5)).prop_map(|(present, units)| {
        let body = |number, units| match number {
            44 => vec![0, 0, 1, 2, 3, 4],
            _ => vec![0; 6 + 8 * units],
        };
        let headers = [0u8, 60, 43, 44, 60].into_iter().zip(present).zip(units);
        let extensions = headers.filter(|((_, present), _)| *present);
        Net::V6 {
            extensions: extensions
                .map(|((number, _), units)| (number, body(number, units)))
                .collect(),
        }
    });
    prop_oneof![v4, v6]
}

pub fn recipes() -> impl Strategy<Value = Recipe> {
    let tags = vec(prop_oneof![Just(0x8100), Just(0x88a8)], 0..=2);
    let tcp = (any::<u32>(), any::<u8>(), 0..=10usize).prop_map(|(sequence, flags, words)| L4::Tcp {
        sequence,
        flags,
        options: vec![1; 4 * words],
    });
    let transports = prop_oneof![tcp, Just(L4::Udp)];
    let payload = prop_oneof![vec(any::<u8>(), 0..100), vec(any::<u8>(), 0..6000)];
    (tags, networks(), transports, payload).prop_map(|(tags, network, transport, payload)| Recipe {
        tags,
        network,
        transport,
        payload,
    })
}

/// A recipe and a size that cuts it into at least two segments, but not into more than a receiver takes.
pub fn oversized() -> impl Strategy<Value = (Recipe, u16)> {
    recipes()
        .prop_filter("two segments at least", |recipe| recipe.payload.len() > 8)
        .prop_flat_map(|recipe| {
            let len = recipe.payload.len();
            let least = (len / 100).max(8);
            (Just(recipe), least as u16..len as u16)
        })
}
