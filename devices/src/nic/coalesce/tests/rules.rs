//! What is joined, and what is not.

use super::super::Coalescer;
use super::{CWR, FIN, PSH, SYN, Segment, burst, coalesce};
use crate::nic::Arrivals;
use crate::packet::virtio_header::F_DATA_VALID;
use crate::packet::{Frame, Slice, VlanTag};

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
    let differences: [fn(&mut Segment); 8] = [
        |it| it.acknowledgement += 1,
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
        let arrival = tagged.add().unwrap();
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
    let bad = arrivals.add().unwrap();
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

#[test]
fn a_packet_whose_headers_lie_in_two_pieces_does_not_pass_its_flow() {
    let mut frames: Vec<Vec<u8>> = in_order(3).iter().map(Segment::build).collect();
    // As many TCP options as there can be: they end at octet 94.
    frames[1][46] = 0xf0;
    let cut = coalesce(&mut Coalescer::new(true), &burst(&frames, 86, 0));
    assert_eq!(cut.concat(), frames);
}

/// Not what callers are to do, but nothing that makes the process end.
#[test]
fn a_burst_that_is_left_half_way_does_no_harm_to_the_next() {
    let frames: Vec<Vec<u8>> = in_order(20).iter().map(Segment::build).collect();
    let short: Vec<Vec<u8>> = (0..30).map(|len| vec![0; 14 + len]).collect();
    for split in [1, 5, 19] {
        let mut coalescer = Coalescer::new(true);
        let mut frame = Frame::new();
        let mut interleaved = frames.clone();
        interleaved[split] = Segment {
            flags: SYN,
            ..Segment::of(2, 0, 0)
        }
        .build();
        assert!(coalescer.next(&burst(&interleaved, 2048, 0), &mut frame));
        while coalescer.next(&burst(&short, 2048, 0), &mut frame) {}
        assert_eq!(
            coalesce(&mut coalescer, &burst(&frames, 2048, 0)).concat(),
            frames
        );
    }
}
