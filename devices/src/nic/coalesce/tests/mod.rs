//! What comes out of a coalescer, cut again, is what went in.

mod properties;
mod rules;

use etherparse::{PacketBuilder, TcpOptionElement};

use super::Coalescer;
use crate::nic::Arrivals;
use crate::packet::{AdaptError, Frame, GsoType, OffloadFeatures, Slice, adapt, recheck};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
const LONGEST_BURST: usize = crate::nic::arrival::BURST;

/// What a segment is made of.
#[derive(Debug, Clone)]
struct Segment {
    flow: u16,
    ipv6: bool,
    sequence: u32,
    acknowledgement: u32,
    identification: u16,
    flags: u8,
    window: u16,
    timestamp: Option<u32>,
    payload: Vec<u8>,
}

impl Segment {
    fn of(flow: u16, index: usize, len: usize) -> Segment {
        Segment {
            flow,
            ipv6: flow % 2 == 1,
            sequence: 0xffff_f000u32.wrapping_add((index * len) as u32),
            acknowledgement: 99,
            identification: 0xfffe_u16.wrapping_add(index as u16),
            flags: 0,
            window: 500,
            timestamp: Some(7),
            payload: (0..len)
                .map(|octet| (octet * 7 + index * 13 + usize::from(flow)) as u8)
                .collect(),
        }
    }

    fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let network = if self.ipv6 {
            ethernet.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2])
                    .unwrap();
            header.identification = self.identification;
            ethernet.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        };
        let mut tcp = network
            .tcp(1000 + self.flow, 80, self.sequence, self.window)
            .ack(self.acknowledgement);
        if let Some(now) = self.timestamp {
            let options = [
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(now, 5),
            ];
            tcp = tcp.options(&options).unwrap();
        }
        for (flag, set) in [
            (FIN, |it: etherparse::PacketBuilderStep<etherparse::TcpHeader>| {
                it.fin()
            }),
            (SYN, |it: etherparse::PacketBuilderStep<etherparse::TcpHeader>| {
                it.syn()
            }),
            (PSH, |it: etherparse::PacketBuilderStep<etherparse::TcpHeader>| {
                it.psh()
            }),
            (CWR, |it: etherparse::PacketBuilderStep<etherparse::TcpHeader>| {
                it.cwr()
            }),
        ] as [(u8, fn(_) -> _); 4]
        {
            if self.flags & flag != 0 {
                tcp = set(tcp);
            }
        }
        let mut octets = Vec::new();
        tcp.write(&mut octets, &self.payload).unwrap();
        // Zero has two forms, of which we write the other (RFC 1071, 2).
        let checksum = if self.ipv6 { 70 } else { 50 };
        if octets[checksum..checksum + 2] == [0, 0] {
            octets[checksum..checksum + 2].fill(0xff);
        }
        octets
    }
}

/// A burst that lies in `frames`, each in pieces of this length at most.
fn burst(frames: &[Vec<u8>], piece: usize, flags: u8) -> Arrivals {
    let mut arrivals = Arrivals::default();
    for octets in frames {
        let arrival = arrivals.add().unwrap();
        arrival.header.flags = flags;
        arrival.slices.extend(octets.chunks(piece).map(|piece| Slice {
            ptr: piece.as_ptr(),
            len: piece.len(),
        }));
    }
    arrivals
}

/// What comes out: each frame, in the segments that it stands for.
fn coalesce(coalescer: &mut Coalescer, arrivals: &Arrivals) -> Vec<Vec<Vec<u8>>> {
    let (mut frame, mut scratch) = (Frame::new(), Frame::new());
    let mut frames = Vec::new();
    while coalescer.next(arrivals, &mut frame) {
        assert!(frame.tail().len() <= super::PIECES_MAX);
        if frame.offload.gso_type != GsoType::None {
            let before = frame.offload;
            recheck(&mut frame).unwrap();
            assert_eq!(
                frame.offload, before,
                "what is said of the frame is what a receiver makes of it"
            );
        }
        let mut segments = Vec::new();
        adapt(&mut frame, OffloadFeatures::NONE, &mut scratch, |segment| {
            segments.push(segment.to_vec());
            Ok::<(), AdaptError>(())
        })
        .unwrap();
        frames.push(segments);
    }
    frames
}
