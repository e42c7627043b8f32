//! Whatever comes, in whatever order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Coalescer, PIECES_MAX};
use super::{LONGEST_BURST, PSH, Segment, burst, coalesce};
use crate::packet::virtio_header::F_DATA_VALID;
use crate::packet::{Frame, Headers, Network, Transport};

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

/// The frame without its TCP checksum, if it has one.
fn without_checksum(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let (Some(_), Ok(headers)) = (flow_of(&frame), Headers::parse(&frame, frame.len())) {
        frame[headers.l4 + 16..headers.l4 + 18].fill(0);
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_flow_comes_out_as_it_came(events in events(), valid: bool, piece in 60..400usize) {
        let frames = arriving(&events);
        let arrivals = burst(&frames, piece, if valid { F_DATA_VALID } else { 0 });
        let mut coalescer = Coalescer::new(true);
        for _ in 0..2 {
            let out = coalesce(&mut coalescer, &arrivals).concat();
            prop_assert_eq!(out.len(), frames.len());
            let mut flows: Vec<_> = frames.iter().map(|frame| flow_of(frame)).collect();
            flows.sort();
            flows.dedup();
            for flow in flows {
                let of_flow = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    let of_flow = frames.iter().filter(|frame| flow_of(frame) == flow);
                    // The word of a NIC that vouches for what is wrong is taken: only what differs otherwise counts.
                    of_flow.map(|frame| if valid { without_checksum(frame) } else { frame.clone() }).collect()
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
        prop_assert!(cut.len() <= 1 + pieces.div_ceil(PIECES_MAX - 4), "{} frames", cut.len());
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
