//! What comes out of a coalescer, cut again, is what went in.

use etherparse::{PacketBuilder, TcpOptionElement};
use proptest::collection::vec;
use proptest::prelude::*;

use super::Coalescer;
use crate::nic::Arrivals;
use crate::packet::virtio_header::F_DATA_VALID;
use crate::packet::{
    AdaptError, Frame, GsoType, Headers, Network, OffloadFeatures, Slice, Transport, VlanTag, adapt, recheck,
};

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
            .ack(99);
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
        let arrival = arrivals.next().unwrap();
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

fn together(segments: &[Segment]) -> Vec<usize> {
    let frames: Vec<Vec<u8>> = segments.iter().map(Segment::build).collect();
    let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
    assert_eq!(cut.concat(), frames, "the segments that came, in their order");
    cut.iter().map(Vec::len).collect()
}

fn in_order(count: usize) -> Vec<Segment> {
    (0..count).map(|index| Segment::of(0, index, 1448)).collect()
}

#[test]
fn segments_in_order_become_one_frame() {
    for flow in [0, 1] {
        let segments: Vec<Segment> = (0..40).map(|index| Segment::of(flow, index, 1448)).collect();
        assert_eq!(together(&segments), [40], "IPv{}", if flow == 1 { 6 } else { 4 });
    }
}

#[test]
fn no_packet_gets_longer_than_its_header_can_say() {
    assert_eq!(together(&in_order(60)), [45, 15]);
}

#[test]
fn a_short_segment_and_one_that_is_pushed_are_the_last() {
    let mut segments = in_order(6);
    segments[2].flags = PSH;
    segments[4].payload.truncate(100);
    segments[5].sequence = segments[4].sequence.wrapping_add(100);
    assert_eq!(together(&segments), [3, 2, 1]);
    let mut segments = in_order(3);
    segments[2].flags = FIN;
    segments[0].flags = CWR;
    assert_eq!(together(&segments), [3]);
}

#[test]
fn a_longer_segment_begins_anew() {
    let mut segments = in_order(4);
    segments[2].payload.push(1);
    segments[3].sequence = segments[3].sequence.wrapping_add(1);
    assert_eq!(together(&segments), [2, 2]);
}

#[test]
fn what_differs_is_not_joined() {
    let differences: [fn(&mut Segment); 7] = [
        |it| it.window += 1,
        |it| it.timestamp = Some(8),
        |it| it.timestamp = None,
        |it| it.flags = SYN,
        |it| it.flags = CWR,
        |it| it.sequence = it.sequence.wrapping_add(1),
        |it| it.identification = it.identification.wrapping_add(1),
    ];
    for (index, difference) in differences.into_iter().enumerate() {
        let mut segments = in_order(2);
        difference(&mut segments[1]);
        assert_eq!(together(&segments), [1, 1], "difference {index}");
    }
}

/// Changes octets of the second of two frames that would be joined, and puts its IPv4 checksum right.
fn changed(at: usize, value: u8, right: bool) -> Vec<usize> {
    let mut frames: Vec<Vec<u8>> = in_order(2).iter().map(Segment::build).collect();
    frames[1][at] = value;
    if right {
        frames[1][24..26].fill(0);
        let mut sum = crate::packet::Checksum::new();
        sum.add(&frames[1][14..34]);
        let sum = sum.finish();
        frames[1][24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
    assert_eq!(cut.concat(), frames);
    cut.iter().map(Vec::len).collect()
}

#[test]
fn network_headers_have_to_be_alike_and_right() {
    assert_eq!(changed(15, 0, true), [2], "nothing changed");
    assert_eq!(changed(15, 2, true), [1, 1], "ECN");
    assert_eq!(changed(20, 0, true), [1, 1], "may be cut, unlike the first");
    assert_eq!(changed(20, 0x60, true), [1, 1], "a fragment");
    assert_eq!(changed(22, 63, true), [1, 1], "time to live");
    assert_eq!(changed(15, 2, false), [1, 1], "a wrong checksum");
    assert_eq!(changed(5, 9, true), [1, 1], "another destination");
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    assert_eq!(changed(100, 0xee, true), [1, 1]);
    let frames: Vec<Vec<u8>> = in_order(3).iter().map(Segment::build).collect();
    for wrong in 0..3 {
        let mut frames = frames.clone();
        frames[wrong][200] ^= 1;
        let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
        assert_eq!(cut.concat(), frames);
    }
    // Unless the NIC says that it was right when it came.
    assert_eq!(
        coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, F_DATA_VALID)).len(),
        1
    );
}

#[test]
fn an_identification_that_stays_the_same_is_for_packets_that_are_never_cut() {
    let mut segments = in_order(4);
    segments.iter_mut().for_each(|segment| segment.identification = 0);
    let frames: Vec<Vec<u8>> = segments.iter().map(Segment::build).collect();
    let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [4]);
    segments[3].identification = 3;
    assert_eq!(
        coalesce(
            &mut Coalescer::new(true),
            &burst(&segments.iter().map(Segment::build).collect::<Vec<_>>(), 2048, 0)
        )
        .len(),
        2
    );
}

#[test]
fn flows_are_told_apart_and_more_than_there_is_room_for_are_let_go() {
    let interleave = |flows: u16| -> Vec<Segment> {
        let rounds = 0..usize::from(48 / flows);
        rounds
            .flat_map(|index| (0..flows).map(move |flow| Segment::of(flow, index, 500)))
            .collect()
    };
    for (flows, frames) in [(1, 1), (8, 8), (12, 48)] {
        let octets: Vec<Vec<u8>> = interleave(flows).iter().map(Segment::build).collect();
        assert_eq!(
            coalesce(&mut Coalescer::new(true), &burst(&octets, 2048, 0)).len(),
            frames,
            "{flows} flows"
        );
    }
}

#[test]
fn tags_tell_flows_apart() {
    let frames: Vec<Vec<u8>> = in_order(4).iter().map(Segment::build).collect();
    let mut tagged = Arrivals::default();
    for (index, octets) in frames.iter().enumerate() {
        let arrival = tagged.next().unwrap();
        arrival.vlan = (index >= 2).then_some(VlanTag {
            protocol: 0x8100,
            tci: 5,
        });
        arrival.slices.push(Slice {
            ptr: octets.as_ptr(),
            len: octets.len(),
        });
    }
    let (mut coalescer, mut frame) = (Coalescer::new(true), Frame::new());
    let mut tags = Vec::new();
    while coalescer.next(&tagged, &mut frame) {
        tags.push((frame.meta.vlan.map(|tag| tag.tci), frame.offload.gso_size));
    }
    assert_eq!(tags, [(None, 1448), (Some(5), 1448)]);
}

#[test]
fn nothing_is_joined_when_it_is_off() {
    let frames: Vec<Vec<u8>> = in_order(10).iter().map(Segment::build).collect();
    let cut = coalesce(&mut Coalescer::new(false), &burst(&frames, 2048, 0));
    assert_eq!((cut.len(), cut.concat()), (10, frames));
}

#[test]
fn a_frame_that_the_nic_cannot_describe_is_left_out_and_counted() {
    let frames: Vec<Vec<u8>> = in_order(1).iter().map(Segment::build).collect();
    let mut arrivals = burst(&frames, 2048, 0);
    let bad = arrivals.next().unwrap();
    bad.header.gso_type = 77;
    bad.slices.push(Slice {
        ptr: frames[0].as_ptr(),
        len: frames[0].len(),
    });
    for enabled in [false, true] {
        let mut coalescer = Coalescer::new(enabled);
        assert_eq!(coalesce(&mut coalescer, &arrivals).len(), 1);
        assert_eq!((coalescer.malformed(), coalescer.malformed()), (1, 0));
    }
}

/// What may happen to a segment on its way.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Lost,
    Twice,
    Swapped,
    Changed(usize, u8),
    Cut(usize),
}

fn events() -> impl Strategy<Value = Vec<(u16, usize, Event)>> {
    let event = prop_oneof![
        12 => Just(Event::Nothing),
        1 => Just(Event::Lost),
        1 => Just(Event::Twice),
        1 => Just(Event::Swapped),
        2 => (0..100usize, any::<u8>()).prop_map(|(at, value)| Event::Changed(at, value)),
        1 => (0..120usize).prop_map(Event::Cut),
    ];
    vec(
        (0..4u16, prop_oneof![8 => Just(200usize), 1 => 0..400usize], event),
        1..LONGEST_BURST / 2,
    )
}

/// The frames that arrive.
fn arriving(events: &[(u16, usize, Event)]) -> Vec<Vec<u8>> {
    let mut sent = [(0usize, 0usize); 4];
    let mut frames = Vec::new();
    for (flow, len, event) in events {
        let (count, octets) = &mut sent[usize::from(*flow)];
        let mut segment = Segment::of(*flow, 0, *len);
        segment.sequence = segment.sequence.wrapping_add(*octets as u32);
        segment.identification = segment.identification.wrapping_add(*count as u16);
        segment.flags = if len % 16 == 3 { PSH } else { 0 };
        *count += 1;
        *octets += len;
        let mut frame = segment.build();
        match event {
            Event::Nothing => {}
            Event::Lost => continue,
            Event::Twice => frames.push(frame.clone()),
            Event::Swapped if !frames.is_empty() => frames.insert(frames.len() - 1, frame.clone()),
            Event::Swapped => {}
            Event::Changed(at, value) => {
                let headers = frame.len().min(74);
                frame[*at % headers] ^= value;
            }
            Event::Cut(at) => frame.truncate(14 + at),
        }
        if !matches!(event, Event::Swapped) {
            frames.push(frame);
        }
    }
    frames.truncate(LONGEST_BURST);
    frames
}

/// By what a frame belongs to a flow. What has no whole TCP header belongs to none, but keeps its order, too.
fn flow_of(frame: &[u8]) -> Option<Vec<u8>> {
    let headers = Headers::parse(frame, frame.len()).ok()?;
    if headers.transport != Transport::Tcp || headers.is_fragment {
        return None;
    }
    let addresses = match headers.network {
        Network::Ipv4 => &frame[headers.l3 + 12..][..8],
        _ => &frame[headers.l3 + 8..][..32],
    };
    Some([&frame[..headers.l3], addresses, &frame[headers.l4..][..4]].concat())
}

#[test]
fn a_part_of_a_packet_does_not_pass_its_flow() {
    let mut frames: Vec<Vec<u8>> = in_order(3).iter().map(Segment::build).collect();
    frames.push(Segment::of(1, 0, 100).build());
    // More fragments are to come.
    frames[2][20] = 0x20;
    let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(cut.concat(), frames);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_flow_comes_out_as_it_came(events in events(), valid: bool, piece in 60..400usize) {
        let frames = arriving(&events);
        // A NIC that vouches for what is wrong has its word taken, so only right ones are vouched for.
        let vouched = valid && !events.iter().any(|(_, _, event)| matches!(event, Event::Changed(..)));
        let arrivals = burst(&frames, piece, if vouched { F_DATA_VALID } else { 0 });
        let mut coalescer = Coalescer::new(true);
        for _ in 0..2 {
            let out = coalesce(&mut coalescer, &arrivals).concat();
            prop_assert_eq!(out.len(), frames.len());
            let mut flows: Vec<_> = frames.iter().map(|frame| flow_of(frame)).collect();
            flows.sort();
            flows.dedup();
            for flow in flows {
                let of_flow = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    frames.iter().filter(|frame| flow_of(frame) == flow).cloned().collect()
                };
                let (before, after) = (of_flow(&frames), of_flow(&out));
                prop_assert_eq!(before, after);
            }
        }
        prop_assert_eq!(coalescer.malformed(), 0);
    }

    #[test]
    fn segments_of_a_whole_frame_become_that_frame_again(len in 1..60000usize, size in 8..3000usize, flow in 0..2u16) {
        let payload: Vec<u8> = (0..len).map(|octet| (octet * 31) as u8).collect();
        let count = len.div_ceil(size).min(LONGEST_BURST);
        let frames: Vec<Vec<u8>> = payload.chunks(size).take(count).enumerate().map(|(index, part)| {
            let mut segment = Segment::of(flow, index, size);
            segment.payload = part.to_vec();
            segment.build()
        }).collect();
        let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 2048, 0));
        prop_assert_eq!(cut.concat(), frames);
        let pieces = count * (size + 66).div_ceil(2048);
        prop_assert!(cut.len() <= 1 + pieces.div_ceil(super::PIECES_MAX - 4), "{} frames", cut.len());
    }

    #[test]
    fn no_octets_make_it_panic(
        frames in vec(vec(any::<u8>(), 0..120), 1..LONGEST_BURST),
        starts in vec(0..6usize, LONGEST_BURST),
        piece in 1..130usize,
        flags: u8,
    ) {
        let template: Vec<Vec<u8>> = (0..6).map(|index| Segment::of(index, 0, 40).build()).collect();
        let frames: Vec<Vec<u8>> = frames.into_iter().zip(starts).map(|(noise, start)| {
            let mut frame = template[start].clone();
            for pair in noise.chunks(2).filter(|pair| pair.len() == 2) {
                let at = usize::from(pair[0]) % frame.len();
                if pair[0] % 3 == 0 { frame[at] = pair[1] }
            }
            frame.truncate(noise.len().max(14));
            frame
        }).collect();
        let frames: Vec<Vec<u8>> = frames.into_iter().map(|mut frame| { frame.truncate(piece * 19); frame }).collect();
        let arrivals = burst(&frames, piece, flags & F_DATA_VALID);
        let mut frame = Frame::new();
        let mut coalescer = Coalescer::new(true);
        let mut octets = 0;
        while coalescer.next(&arrivals, &mut frame) {
            octets += frame.len();
        }
        prop_assert!(octets <= frames.iter().map(Vec::len).sum());
    }
}
