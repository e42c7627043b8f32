//! What a program puts around a packet, and the plainest code that makes it: the oracle of the tests of tunnels.

use proptest::collection::vec;
use proptest::prelude::*;

use super::recipe::{Field, Recipe, naive_sum};
use crate::packet::{Encapsulation, Offload};

/// What is around a packet.
#[derive(Debug, Clone)]
pub struct Wrapping {
    pub is_v6: bool,
    /// Octets of IP options or extension headers.
    pub options: usize,
    pub identification: u16,
    pub tunnel: Kind,
    /// What lies between the tunnel header and the packet.
    pub between: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Ip,
    Udp { checksum: bool },
    Gre { checksum: bool, key: bool },
}

/// What a program leaves in the fields that are made anew for each segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fields {
    Stale,
    Right,
}

impl Wrapping {
    /// VXLAN: eight octets and an Ethernet header.
    pub fn vxlan(checksum: bool) -> Wrapping {
        Wrapping {
            is_v6: false,
            options: 0,
            identification: 0xfffe,
            tunnel: Kind::Udp { checksum },
            between: vec![8; 22],
        }
    }

    fn l4(&self) -> usize {
        14 + if self.is_v6 { 40 } else { 20 } + self.options
    }

    /// Length of all that is in front of the packet.
    pub fn len(&self) -> usize {
        let tunnel_len = match self.tunnel {
            Kind::Ip => 0,
            Kind::Udp { .. } => 8,
            Kind::Gre { checksum, key } => 4 + 4 * usize::from(checksum) + 4 * usize::from(key),
        };
        self.l4() + tunnel_len + self.between.len()
    }

    fn has_checksum(&self) -> bool {
        matches!(
            self.tunnel,
            Kind::Udp { checksum: true } | Kind::Gre { checksum: true, .. }
        )
    }

    /// The frame around a packet, as that of the segment with this index.
    pub fn around(&self, packet: &[u8], index: u16, fields: Fields) -> Vec<u8> {
        let inner_v6 = packet[0] >> 4 == 6;
        let protocol = match self.tunnel {
            Kind::Ip if inner_v6 => 41,
            Kind::Ip => 4,
            Kind::Udp { .. } => 17,
            Kind::Gre { .. } => 47,
        };
        let l4_len = self.len() - self.l4() + packet.len();
        let mut octets = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
        let mut pseudo = vec![];
        if self.is_v6 {
            octets.extend([0x86, 0xdd, 0x6a, 0xbc, 0xde, 0xf0]);
            octets.extend(((self.options + l4_len) as u16).to_be_bytes());
            octets.extend([if self.options > 0 { 60 } else { protocol }, 64]);
            pseudo.extend((0..32).map(|index| 0x20 ^ index));
            octets.extend(&pseudo);
            if self.options > 0 {
                octets.extend([protocol, (self.options / 8 - 1) as u8]);
                octets.resize(self.l4(), 0);
            }
        } else {
            let mut header = vec![0x45 + (self.options / 4) as u8, 0x02];
            header.extend(((20 + self.options + l4_len) as u16).to_be_bytes());
            header.extend(self.identification.wrapping_add(index).to_be_bytes());
            header.extend([0, 0, 64, protocol, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2]);
            header.resize(20 + self.options, 1);
            let checksum = !naive_sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            pseudo.extend(&header[12..20]);
            octets.extend([0x08, 0x00]);
            octets.extend(header);
        }
        let mut place = None;
        let mut rest = vec![];
        match self.tunnel {
            Kind::Ip => {}
            Kind::Udp { checksum } => {
                pseudo.extend([0, 17]);
                pseudo.extend((l4_len as u16).to_be_bytes());
                rest.extend([0xc0, 0x01, 0x12, 0xb5]);
                rest.extend((l4_len as u16).to_be_bytes());
                rest.extend([0, 0]);
                place = checksum.then_some(6);
            }
            Kind::Gre { checksum, key } => {
                rest.extend([u8::from(checksum) << 7 | u8::from(key) << 5, 0]);
                rest.extend(match (self.between.is_empty(), inner_v6) {
                    (false, _) => [0x65, 0x58],
                    (true, true) => [0x86, 0xdd],
                    (true, false) => [0x08, 0x00],
                });
                if checksum {
                    rest.extend([0; 4]);
                }
                if key {
                    rest.extend([7; 4]);
                }
                pseudo.clear();
                place = checksum.then_some(4);
            }
        }
        rest.extend(&self.between);
        rest.extend(packet);
        if let Some(place) = place {
            let sum = naive_sum(&[pseudo, rest.clone()].concat());
            let checksum = if sum == 0xffff { 0xffff } else { !sum };
            rest[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        octets.extend(rest);
        if fields == Fields::Stale {
            self.spoil(&mut octets);
        }
        octets
    }

    /// Writes nonsense wherever each segment has something of its own.
    fn spoil(&self, octets: &mut [u8]) {
        let mut write = |at: usize| octets[at..at + 2].copy_from_slice(&[0xbe, 0xef]);
        if self.is_v6 {
            write(18);
        } else {
            write(16);
            write(24);
        }
        if let Kind::Udp { .. } = self.tunnel {
            write(self.l4() + 4);
        }
        if self.has_checksum() {
            write(
                self.l4()
                    + if matches!(self.tunnel, Kind::Udp { .. }) {
                        6
                    } else {
                        4
                    },
            );
        }
    }

    fn encapsulation(&self) -> Encapsulation {
        Encapsulation {
            inner: self.len() as u16,
            udp: matches!(self.tunnel, Kind::Udp { .. }),
        }
    }

    /// What is left to do on a frame around the packet of `recipe`.
    pub fn offload(&self, recipe: &Recipe, gso_size: u16) -> Offload {
        Offload {
            needs_csum: true,
            csum_start: (self.len() + recipe.l4() - recipe.l3()) as u16,
            csum_offset: recipe.csum_offset() as u16,
            gso_type: recipe.gso_type(),
            gso_size,
            ecn: recipe.has_cwr(),
            encapsulation: Some(self.encapsulation()),
            ..Offload::default()
        }
    }

    /// The frame of `recipe` after a program encapsulated it.
    pub fn whole(&self, recipe: &Recipe) -> Vec<u8> {
        self.around(&packet(recipe, Field::PseudoHeader), 0, Fields::Stale)
    }

    /// The segments of that frame.
    pub fn cut(&self, recipe: &Recipe, gso_size: u16) -> Vec<Vec<u8>> {
        let segments = recipe.cut(gso_size.into());
        let wrapped = segments
            .iter()
            .zip(0..)
            .map(|(segment, index)| self.around(&packet(segment, Field::Checksum), index, Fields::Right));
        wrapped.collect()
    }
}

pub fn packet(recipe: &Recipe, field: Field) -> Vec<u8> {
    recipe.build(field).split_off(recipe.l3())
}

pub fn wrappings() -> impl Strategy<Value = Wrapping> {
    let kinds = prop_oneof![
        Just(Kind::Ip),
        any::<bool>().prop_map(|checksum| Kind::Udp { checksum }),
        any::<[bool; 2]>().prop_map(|[checksum, key]| Kind::Gre { checksum, key }),
    ];
    let between = prop_oneof![Just(0usize), Just(22), 0..80usize].prop_flat_map(|len| vec(any::<u8>(), len));
    (kinds, any::<bool>(), 0..4usize, any::<u16>(), between).prop_map(
        |(tunnel, is_v6, options, identification, between)| Wrapping {
            is_v6,
            options: match tunnel {
                Kind::Udp { checksum: true } => 0,
                _ => 8 * options,
            },
            identification,
            tunnel,
            between: if tunnel == Kind::Ip { vec![] } else { between },
        },
    )
}
