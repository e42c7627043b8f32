//! What virtio asks of a network device's queues, clause by clause (virtio 1.3, 5.1.6).

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use common::driver::{Driver, Part, Used, by_head, readable, writable};
use common::frames::{
    self, headers, is_complete, opaque, payload, tcp4, tcp6, udp4, unsegmented, without_checksum,
};
use common::guest::{
    EVENT_IDX, GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_USO, Guest, MERGEABLE, RECEIVES_ALL,
    Received, SENDS_ALL, VERSION_1,
};
use common::ram::{PATCHWORK, Ram, SEAM};
use devices::Refusal;
use devices::guest::{GuestPort, NetFeatures, OFFERED, ReceiveBurst, Transmitted, transmit};
use devices::memory::DirtyLog;
use devices::packet::virtio_header::{
    F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4,
};
use devices::packet::{BadOffload, Frame, LINEAR_LEN, Offload, VirtioNetHeader};
use devices::ring::{ChainId, Ring, SplitRing};

const NO_INTERRUPT: u16 = 1;
/// The longest IP packet, and an Ethernet header with two VLAN tags.
const MAX_FRAME_LEN: usize = 65535 + 14 + 8;

/// A frame that the guest sends in one descriptor, as the device takes it, and the chain to complete. The frame is good
/// for as long as the guest is.
fn sent(guest: &mut Guest, header: &VirtioNetHeader, octets: &[u8]) -> (Frame, ChainId) {
    guest.send(header, octets);
    let mut frame = Frame::new();
    match guest.transmit(&mut frame) {
        Transmitted::Frame(head) => (frame, head),
        other => panic!("{other:?}"),
    }
}

/// Sends a frame from one guest to another, as it is or adapted.
fn relay(
    from: &mut Guest,
    to: &mut Guest,
    header: &VirtioNetHeader,
    octets: &[u8],
) -> Result<Vec<Received>, Refusal> {
    let (mut frame, head) = sent(from, header, octets);
    to.deliver(&mut frame)?;
    from.complete(head);
    Ok(to.received())
}

/// A guest that may leave everything to the device.
fn talker() -> Guest {
    Guest::new(VERSION_1 | SENDS_ALL)
}

/// A guest with room for long frames.
fn listener(features: u64) -> Guest {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE | features);
    for _ in 0..60 {
        guest.post(2000);
    }
    guest
}

#[test]
fn headers_are_12_octets_and_10_for_a_legacy_driver_without_mergeable_buffers() {
    for (features, len) in [
        (0, 10),
        (MERGEABLE, 12),
        (VERSION_1, 12),
        (VERSION_1 | MERGEABLE, 12),
    ] {
        let mut guest = Guest::new(features);
        let octets = opaque(60);
        guest.send_cut(&[&vec![0; len][..], &octets].concat(), &[]);
        let mut frame = Frame::new();
        assert_eq!(guest.transmit(&mut frame), Transmitted::Frame(by_head(0)));
        assert_eq!(frame.to_vec(), octets);

        guest.post(500);
        guest.deliver(&mut frame).unwrap();
        let used = guest.receiver.used_element(0).start;
        assert_eq!(guest.ram.read::<u32>(used + 4), len as u32 + 60);
        assert_eq!(guest.received_one().octets, octets);
    }
}

#[test]
fn the_header_may_be_spread_over_descriptors_in_any_way() {
    let mut octets = tcp4(900);
    let header = unsegmented(&mut octets, GSO_TCPV4, 400);
    let whole = [&header.emit()[..], &octets].concat();
    let mut layouts: Vec<Vec<usize>> = (1..60).map(|cut| vec![cut]).collect();
    layouts.push((1..30).collect());
    layouts.push((1..250).collect());
    layouts.push(vec![4, 11, 12, 12 + LINEAR_LEN]);
    layouts.push(vec![11, 13, 11 + LINEAR_LEN, 13 + LINEAR_LEN]);
    layouts.push(vec![]);
    for cuts in layouts {
        let mut guest = talker();
        guest.send_cut(&whole, &cuts);
        let mut frame = Frame::new();
        assert!(
            matches!(guest.transmit(&mut frame), Transmitted::Frame(_)),
            "cut at {cuts:?}"
        );
        assert_eq!(frame.to_vec(), octets, "cut at {cuts:?}");
        assert_eq!(frame.head().len(), LINEAR_LEN);
        assert_eq!((frame.offload.gso_size, frame.offload.csum_start), (400, 34));
    }
}

#[test]
fn frames_are_taken_up_to_the_longest_and_the_ring_survives_longer_ones() {
    let mut guest = talker();
    let mut frame = Frame::new();
    for len in [MAX_FRAME_LEN, MAX_FRAME_LEN + 1, 3 * MAX_FRAME_LEN] {
        let id = guest.send_cut(&vec![0; 12 + len], &[12]);
        let head = guest.chain(id, 2);
        let expected = if len > MAX_FRAME_LEN {
            Transmitted::TooLong(head)
        } else {
            Transmitted::Frame(head)
        };
        assert_eq!(guest.transmit(&mut frame), expected);
        guest.complete(head);
        assert_eq!(guest.sent_back().len(), 1);
    }
}

#[test]
fn a_disabled_transmit_queue_can_be_drained_and_a_stopped_one_cannot() {
    let mut guest = talker();
    guest.port.transmit_queue(0).lock().enabled = false;
    let (_, head) = sent(&mut guest, &VirtioNetHeader::default(), &opaque(60));
    guest.complete(head);
    assert_eq!(guest.sent_back().len(), 1);
    guest.send(&VirtioNetHeader::default(), &opaque(60));
    guest.port.transmit_queue(0).lock().ring = None;
    assert_eq!(guest.transmit(&mut Frame::new()), Transmitted::Nothing);
}

#[test]
fn t1_header_flags_that_are_not_known_are_ignored() {
    for flags in 0..=u8::MAX {
        let mut octets = tcp4(40);
        let needs_csum = without_checksum(&mut octets);
        let header = VirtioNetHeader { flags, ..needs_csum };
        let mut from = talker();
        let (frame, _) = sent(&mut from, &header, &octets);
        assert_eq!(frame.offload.needs_csum, flags & F_NEEDS_CSUM != 0);
        assert!(!frame.offload.data_valid, "a driver is not believed");
        assert_eq!(frame.to_vec(), octets);
    }
}

#[test]
fn t2_checksum_fields_mean_nothing_without_needs_csum() {
    for (csum_start, csum_offset) in [(34, 16), (0, 0), (13, 1), (u16::MAX, u16::MAX)] {
        let header = VirtioNetHeader {
            csum_start,
            csum_offset,
            ..VirtioNetHeader::default()
        };
        let octets = tcp4(40);
        let mut to = listener(RECEIVES_ALL);
        let mut from = talker();
        let (mut frame, _) = sent(&mut from, &header, &octets);
        assert_eq!(frame.offload, Offload::default());
        to.deliver(&mut frame).unwrap();
        let received = to.received_one();
        assert_eq!((received.header.csum_start, received.header.csum_offset), (0, 0));
        assert_eq!(received.octets, octets);
    }
}

#[test]
fn t3_hdr_len_is_a_hint_that_nothing_depends_on() {
    for hdr_len in [0, 1, 53, 54, 55, 255, 256, 3000, u16::MAX] {
        let mut octets = tcp4(3000);
        let header = VirtioNetHeader {
            hdr_len,
            ..unsegmented(&mut octets, GSO_TCPV4, 1000)
        };
        let whole = relay(&mut talker(), &mut listener(RECEIVES_ALL), &header, &octets).unwrap();
        assert_eq!(whole[0].header.hdr_len, 54);
        assert_eq!(whole[0].octets, octets);
        let cut = relay(&mut talker(), &mut listener(0), &header, &octets).unwrap();
        assert_eq!(cut.len(), 3);
        assert!(cut.iter().all(|segment| is_complete(&segment.octets)));
    }
}

#[test]
fn t4_a_checksum_that_was_not_left_to_the_device_is_not_vouched_for() {
    let mut octets = tcp4(300);
    octets[50] ^= 0x55; // the checksum field
    assert!(!is_complete(&octets));
    for features in [0, RECEIVES_ALL] {
        for flags in [0, F_DATA_VALID] {
            let header = VirtioNetHeader {
                flags,
                ..VirtioNetHeader::default()
            };
            let received = relay(&mut talker(), &mut listener(features), &header, &octets).unwrap();
            assert_eq!(received[0].header.flags, 0);
            assert_eq!(received[0].octets, octets, "nothing is mended either");
        }
    }
}

#[test]
fn a_frame_that_asks_for_more_than_was_negotiated_is_refused_alone() {
    let mut guest = Guest::new(VERSION_1);
    let mut octets = tcp4(300);
    let header = without_checksum(&mut octets);
    let id = guest.send(&header, &octets);
    let head = guest.chain(id, 1);
    let refused = Transmitted::BadOffload(head, BadOffload::ChecksumNotNegotiated);
    assert_eq!(guest.transmit(&mut Frame::new()), refused);
    guest.complete(head);
    sent(&mut guest, &VirtioNetHeader::default(), &octets);
    assert_eq!(guest.errors(), 0);
}

#[test]
fn what_is_said_of_a_frame_does_not_depend_on_how_much_of_it_is_copied() {
    let mut cases: Vec<(VirtioNetHeader, Vec<u8>)> =
        unfinished().map(|(header, octets, _)| (header, octets)).into();
    for (gso_type, _, frame) in GSO {
        let mut octets = frame(5000);
        let header = unsegmented(&mut octets, gso_type, 1200);
        cases.push((header, octets.clone()));
        let misplaced = header.csum_start + 2;
        cases.push((
            VirtioNetHeader {
                csum_start: misplaced,
                ..header
            },
            octets,
        ));
    }
    cases.push((VirtioNetHeader::default(), opaque(60)));
    cases.push((VirtioNetHeader::default(), opaque(1500)));
    for (header, octets) in cases {
        let taken = |linear_len| {
            let mut guest = talker();
            guest.send(&header, &octets);
            let mut frame = Frame::new();
            let taken = transmit(&mut guest.port.transmit_queue(0).lock(), &mut frame, linear_len);
            (taken, frame.offload, frame.to_vec())
        };
        let whole = taken(LINEAR_LEN);
        assert_eq!(whole.2, octets);
        for linear_len in [0, 1, 14, 33, 60] {
            assert_eq!(taken(linear_len), whole, "{header:?}");
        }
    }
}

#[test]
fn r1_num_buffers_is_1_without_mergeable_buffers_and_their_count_with_them() {
    let mut guest = Guest::new(VERSION_1);
    guest.post_parts(&[12, 100, 1000]);
    guest.deliver(&mut Frame::from_octets(&opaque(900))).unwrap();
    assert_eq!(guest.received_one().header.num_buffers, 1);

    for (len, count) in [
        (60, 1),
        (88, 1),
        (89, 2),
        (188, 2),
        (189, 3),
        (988, 10),
        (2000, 21),
    ] {
        let mut guest = Guest::new(VERSION_1 | MERGEABLE);
        for _ in 0..30 {
            guest.post(100);
        }
        guest.deliver(&mut Frame::from_octets(&opaque(len))).unwrap();
        let received = guest.received_one();
        assert_eq!(usize::from(received.header.num_buffers), count);
        assert_eq!(received.lens.len(), count);
        assert_eq!(received.octets, opaque(len));
    }
}

#[test]
fn r2_without_mergeable_buffers_a_frame_that_does_not_fit_is_dropped_and_takes_nothing() {
    for features in [VERSION_1, 0] {
        let mut guest = Guest::new(features);
        let room = 500 - guest.features.header_len();
        guest.post_parts(&[300, 200]);
        guest.post(2000);
        let before = guest.ram.snapshot();
        let long = guest.deliver(&mut Frame::from_octets(&opaque(room + 1)));
        assert_eq!(long, Err(Refusal::TooLong));
        guest.ram.assert_kept(&before, &[]);
        assert_eq!(guest.calls(), 0);
        guest.deliver(&mut Frame::from_octets(&opaque(room))).unwrap();
        let received = guest.received_one();
        assert_eq!(received.octets, opaque(room));
        assert_eq!(received.lens, [500]);
    }
}

#[test]
fn r3_every_buffer_but_the_last_is_filled_to_its_end_and_none_beyond() {
    let buffers: [&[u32]; 6] = [&[13], &[1, 1, 40], &[700], &[12, 256], &[2000, 1], &[5000]];
    let rooms = buffers.map(|lens| lens.iter().sum::<u32>());
    for len in [14, 60, 500, 1000, 1010, 1011, 1012, 3000, 7000] {
        let mut guest = Guest::new(VERSION_1 | MERGEABLE);
        let heads = buffers.map(|lens| guest.post_parts(lens));
        let parts: Vec<Part> = heads
            .iter()
            .flat_map(|head| guest.posted(*head).to_vec())
            .collect();
        let before = guest.ram.snapshot();
        let mut from = talker();
        let (mut frame, _) = sent(&mut from, &VirtioNetHeader::default(), &opaque(len));
        guest.deliver(&mut frame).unwrap();

        let mut left = 12 + len as u64;
        let mut allowed = guest.receive_used_ranges();
        for part in parts {
            let take = left.min(part.len.into());
            allowed.push(part.address..part.address + take);
            left -= take;
        }
        guest.ram.assert_kept(&before, &allowed);
        let received = guest.received_one();
        let (last, full) = received.lens.split_last().unwrap();
        assert_eq!(full, &rooms[..full.len()]);
        assert!(*last <= rooms[full.len()]);
        assert_eq!(received.octets, opaque(len));
    }
}

#[test]
fn r4_the_buffers_of_a_burst_become_visible_in_one_step() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    for _ in 0..20 {
        guest.post(100);
    }
    let mut burst = ReceiveBurst::open(guest.port.receive_queue(0), 1);
    for _ in 0..2 {
        burst
            .write(&mut Frame::from_octets(&opaque(500)), &mut Frame::new())
            .unwrap();
        assert_eq!((guest.returned(), guest.calls()), (0, 0));
    }
    drop(burst);
    assert_eq!((guest.returned(), guest.calls()), (12, 1));
    assert_eq!(guest.received().len(), 2);
    drop(ReceiveBurst::open(guest.port.receive_queue(0), 1));
    assert_eq!(guest.calls(), 0, "a burst of nothing");
}

#[test]
fn r4_a_driver_on_another_cpu_never_sees_a_part_of_a_frame() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    let (ram, used) = (guest.ram.clone(), guest.receiver.used);
    let (done, ready) = (AtomicBool::new(false), Barrier::new(2));
    let watch = || {
        let mut seen = BTreeSet::new();
        ready.wait();
        while !done.load(Ordering::Relaxed) {
            seen.insert(ram.load::<u16>(used + 2));
        }
        seen
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        ready.wait();
        for _ in 0..5000 {
            for _ in 0..4 {
                guest.post(100);
            }
            guest.deliver(&mut Frame::from_octets(&opaque(388))).unwrap();
            assert_eq!(guest.received_one().lens, [100; 4]);
        }
        done.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        assert!(seen.iter().all(|index| index % 4 == 0), "{seen:?}");
    });
}

/// A frame of each kind with its checksum left undone, the octets that it has with it done, and the header.
fn unfinished() -> [(VirtioNetHeader, Vec<u8>, Vec<u8>); 3] {
    [tcp4(777), tcp6(1200), udp4(33)].map(|finished| {
        let mut octets = finished.clone();
        (without_checksum(&mut octets), octets, finished)
    })
}

#[test]
fn r5_without_guest_csum_flags_are_zero_and_checksums_complete() {
    for (header, octets, finished) in unfinished() {
        let received = relay(&mut talker(), &mut listener(0), &header, &octets).unwrap();
        assert_eq!(received[0].octets, finished);
        let expected = VirtioNetHeader {
            num_buffers: 1,
            ..VirtioNetHeader::default()
        };
        assert_eq!(received[0].header, expected);
    }
}

/// Makes a frame with that many octets of payload.
type Make = fn(usize) -> Vec<u8>;

/// A type of segmentation, the feature for receiving it, and frames that it is for.
const GSO: [(u8, u64, Make); 3] = [
    (GSO_TCPV4, GUEST_TSO4, tcp4),
    (GSO_TCPV6, GUEST_TSO6, tcp6),
    (GSO_UDP_L4, GUEST_USO, udp4),
];

/// Every set of offloads, each with and without that of checksums.
fn offload_sets() -> impl Iterator<Item = u64> {
    let bits = [GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_USO];
    (0..1 << bits.len()).map(move |set| {
        let chosen = bits.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0);
        chosen.map(|(_, feature)| feature).sum()
    })
}

#[test]
fn r6_frames_are_left_whole_only_for_drivers_that_segment_their_type() {
    for (gso_type, feature, frame) in GSO {
        let mut octets = frame(5000);
        let header = unsegmented(&mut octets, gso_type, 1200);
        for features in offload_sets() {
            let received = relay(&mut talker(), &mut listener(features), &header, &octets).unwrap();
            if features & (feature | GUEST_CSUM) == feature | GUEST_CSUM {
                assert_eq!(received.len(), 1, "{features:#x}");
                assert_eq!(received[0].header.gso_type, gso_type);
                assert_eq!(received[0].octets, octets);
            } else {
                check_segments(&received, &octets, 1200, features & GUEST_CSUM != 0);
            }
        }
    }
}

#[test]
fn r6_datagrams_are_left_whole_only_for_drivers_that_take_them_over_both_protocols() {
    let mut octets = udp4(3000);
    let header = unsegmented(&mut octets, GSO_UDP_L4, 1000);
    for bit in [1 << 54, 1 << 55] {
        assert_ne!(GUEST_USO & bit, 0);
        let mut to = listener(GUEST_CSUM | bit);
        let received = relay(&mut talker(), &mut to, &header, &octets).unwrap();
        check_segments(&received, &octets, 1000, true);
    }
}

/// What a driver gets that does not segment: frames as the wire has them, but perhaps for their checksums.
fn check_segments(received: &[Received], whole: &[u8], size: usize, leaves_checksum: bool) {
    let payloads: Vec<&[u8]> = received.iter().map(|frame| payload(&frame.octets)).collect();
    assert_eq!(payloads.concat(), payload(whole));
    assert_eq!(payloads.len(), payload(whole).len().div_ceil(size));
    for frame in received {
        assert!(payload(&frame.octets).len() <= size);
        assert_eq!((frame.header.gso_type, frame.header.gso_size), (GSO_NONE, 0));
        if leaves_checksum {
            assert_eq!(frame.header.flags, F_NEEDS_CSUM);
            assert!(frames::has_pseudo_header_sum(&frame.octets));
        } else {
            assert_eq!(frame.header.flags, 0);
            assert!(is_complete(&frame.octets));
        }
    }
}

#[test]
fn r7_the_ecn_bit_comes_with_guest_ecn_and_a_frame_that_reduces_its_window() {
    const CWR: u8 = 0x80;
    for (gso_type, features, frame) in &GSO[..2] {
        for cwr in [0, CWR] {
            let mut octets = frame(3000);
            let flags = frames::l4(&octets) + 13;
            octets[flags] |= cwr;
            let mut header = unsegmented(&mut octets, *gso_type, 1000);
            header.gso_type |= if cwr == 0 { 0 } else { GSO_ECN };
            let with = GUEST_CSUM | features | GUEST_ECN;
            let received = relay(&mut talker(), &mut listener(with), &header, &octets).unwrap();
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].header.gso_type, header.gso_type);

            let without = GUEST_CSUM | features;
            let received = relay(&mut talker(), &mut listener(without), &header, &octets).unwrap();
            assert_eq!(received.len(), if cwr == 0 { 1 } else { 3 });
            assert!(received.iter().all(|frame| frame.header.gso_type & GSO_ECN == 0));
        }
    }
}

#[test]
fn r8_a_checksum_that_is_left_undone_comes_with_its_place_and_the_pseudo_header_sum() {
    for (header, octets, finished) in unfinished() {
        let received = relay(&mut talker(), &mut listener(GUEST_CSUM), &header, &octets).unwrap();
        let got = &received[0];
        assert_eq!(got.header.flags, F_NEEDS_CSUM);
        assert_eq!(usize::from(got.header.csum_start), frames::l4(&finished));
        assert_eq!(got.header.csum_offset, header.csum_offset);
        assert!(frames::has_pseudo_header_sum(&got.octets));
        assert_eq!(got.octets, octets);
    }
}

#[test]
fn r9_and_r10_a_whole_frame_comes_with_needs_csum_a_size_and_the_length_of_its_headers() {
    for (gso_type, feature, frame) in GSO {
        let mut octets = frame(4000);
        let header = VirtioNetHeader {
            hdr_len: 1,
            ..unsegmented(&mut octets, gso_type, 900)
        };
        let mut to = listener(GUEST_CSUM | feature);
        let received = relay(&mut talker(), &mut to, &header, &octets).unwrap();
        let got = received[0].header;
        assert_eq!((got.flags, got.gso_size), (F_NEEDS_CSUM, 900));
        assert!(usize::from(got.hdr_len) >= headers(&octets));
    }
}

#[test]
fn r11_only_what_the_host_validated_is_said_to_be_valid_and_only_to_drivers_that_listen() {
    for (features, data_valid, flags) in [
        (GUEST_CSUM, true, F_DATA_VALID),
        (GUEST_CSUM, false, 0),
        (0, true, 0),
    ] {
        let mut guest = listener(features);
        let mut frame = Frame::from_octets(&tcp4(100));
        frame.offload.data_valid = data_valid;
        guest.deliver(&mut frame).unwrap();
        assert_eq!(guest.received_one().header.flags, flags);
    }
}

/// R12 to R14 are about receive coalescing, tunnels and IPsec, all of them features from bit 46 on.
#[test]
fn r12_to_r14_concern_features_that_are_not_offered() {
    const USO: u64 = 0b111 << 54;
    const UFO: u64 = 1 << 10 | 1 << 14;
    assert_eq!(OFFERED >> 42, USO >> 42);
    assert_eq!(OFFERED & UFO, 0);
}

#[test]
fn n5_no_frame_is_longer_than_the_driver_expects_unless_the_driver_segments_it() {
    let mut guest = listener(RECEIVES_ALL);
    guest.port.receive_queue(0).lock().max_frame = Some(1514);
    guest.deliver(&mut Frame::from_octets(&opaque(1514))).unwrap();
    let before = guest.ram.snapshot();
    let longer = guest.deliver(&mut Frame::from_octets(&opaque(1515)));
    assert_eq!(longer, Err(Refusal::TooLong));
    guest.ram.assert_kept(&before, &[]);
    assert_eq!(guest.received().len(), 1);

    let mut octets = tcp4(5000);
    let header = unsegmented(&mut octets, GSO_TCPV4, 1460);
    assert_eq!(
        relay(&mut talker(), &mut guest, &header, &octets).unwrap().len(),
        1
    );
    for (size, fits) in [(1460, true), (1461, false)] {
        let mut guest = listener(GUEST_CSUM);
        guest.port.receive_queue(0).lock().max_frame = Some(1514);
        let header = unsegmented(&mut octets, GSO_TCPV4, size);
        let relayed = relay(&mut talker(), &mut guest, &header, &octets);
        assert_eq!(relayed.as_ref().err(), (!fits).then_some(&Refusal::TooLong));
        assert_eq!(guest.returned(), if fits { 4 } else { 0 });
    }
}

#[test]
fn a_frame_without_room_writes_nothing_and_takes_nothing() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    for _ in 0..2 {
        guest.post(400);
    }
    let before = guest.ram.snapshot();
    let mut frame = Frame::from_octets(&opaque(1000));
    assert_eq!(guest.deliver(&mut frame), Err(Refusal::Full));
    guest.ram.assert_kept(&before, &[]);
    assert_eq!((guest.calls(), guest.errors()), (0, 0));
    guest.post(400);
    guest.deliver(&mut frame).unwrap();
    assert_eq!(guest.received_one().octets, opaque(1000));
    assert_eq!(guest.deliver(&mut frame), Err(Refusal::Full));
}

#[test]
fn a_frame_whose_last_segment_has_no_room_leaves_the_ring_as_it_was() {
    let mut octets = tcp4(4500);
    let header = unsegmented(&mut octets, GSO_TCPV4, 1000);
    for room in 1..=4 {
        let mut guest = Guest::new(VERSION_1 | MERGEABLE);
        guest.post(1200);
        let mut burst = ReceiveBurst::open(guest.port.receive_queue(0), 1);
        burst
            .write(&mut Frame::from_octets(&opaque(50)), &mut Frame::new())
            .unwrap();
        drop(burst);
        for _ in 0..room {
            guest.post(1200);
        }
        let relayed = relay(&mut talker(), &mut guest, &header, &octets);
        assert_eq!(relayed, Err(Refusal::Full));
        assert_eq!(guest.returned(), 1);
        // A shorter frame goes where the first segment was, and the frame before it stays.
        guest.deliver(&mut Frame::from_octets(&opaque(77))).unwrap();
        let lens: Vec<usize> = guest.received().iter().map(|frame| frame.octets.len()).collect();
        assert_eq!(lens, [50, 77]);
        for _ in 0..5 {
            guest.post(1200);
        }
        let segments = relay(&mut talker(), &mut guest, &header, &octets).unwrap();
        check_segments(&segments, &octets, 1000, false);
    }
}

#[test]
fn frames_of_a_burst_that_found_room_stay_when_a_later_one_finds_none() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    for _ in 0..3 {
        guest.post(500);
    }
    let mut burst = ReceiveBurst::open(guest.port.receive_queue(0), 1);
    let mut write = |len| burst.write(&mut Frame::from_octets(&opaque(len)), &mut Frame::new());
    assert_eq!(write(600), Ok(()));
    assert_eq!(write(600), Err(Refusal::Full));
    assert_eq!(write(100), Ok(()));
    assert_eq!(write(100), Err(Refusal::Full));
    drop(burst);
    let lens: Vec<usize> = guest.received().iter().map(|frame| frame.octets.len()).collect();
    assert_eq!(lens, [600, 100]);
}

#[test]
fn a_queue_that_is_disabled_or_stopped_receives_nothing() {
    let mut guest = listener(0);
    let before = guest.ram.snapshot();
    let mut frame = Frame::from_octets(&opaque(100));
    guest.port.receive_queue(0).lock().enabled = false;
    assert_eq!(guest.deliver(&mut frame), Err(Refusal::NotReady));
    guest.port.receive_queue(0).lock().enabled = true;
    let ring = guest.port.receive_queue(0).lock().ring.take();
    assert_eq!(guest.deliver(&mut frame), Err(Refusal::NotReady));
    guest.ram.assert_kept(&before, &[]);
    guest.port.receive_queue(0).lock().ring = ring;
    guest.deliver(&mut frame).unwrap();
    assert_eq!(guest.received().len(), 1);
}

#[test]
fn the_driver_is_interrupted_once_a_burst_if_it_wants_to_be() {
    for features in [VERSION_1, VERSION_1 | EVENT_IDX] {
        let mut guest = Guest::new(features);
        for _ in 0..6 {
            guest.post(1000);
        }
        let mut frame = Frame::from_octets(&opaque(100));
        guest.deliver(&mut frame).unwrap();
        assert_eq!(guest.calls(), 1, "the first after the start");
        guest.receiver.set_avail_flags(NO_INTERRUPT);
        guest.receiver.set_used_event(0);
        guest.deliver(&mut frame).unwrap();
        assert_eq!(guest.calls(), 0);
        guest.receiver.set_avail_flags(0);
        guest.receiver.set_used_event(2);
        guest.deliver(&mut frame).unwrap();
        assert_eq!(guest.calls(), 1);
    }
}

#[test]
fn frames_are_spread_over_the_queues_that_run_and_are_filled() {
    let ram = Ram::new(PATCHWORK);
    let port = GuestPort::new(3);
    let mut drivers: Vec<Driver> = (0..3).map(|n| Driver::new(&ram, 16, 0x1000 * (n + 1))).collect();
    for (pair, driver) in drivers.iter_mut().enumerate() {
        let mut queue = port.receive_queue(pair).lock();
        queue.features = NetFeatures(VERSION_1);
        // The third is set up and enabled but never filled, as by a VMM whose guest uses fewer queues.
        if pair < 2 {
            driver.post(&[writable(0x10_0000, 200)]);
            driver.post(&[writable(0x10_0000, 200)]);
        }
        queue.ring = Some(Ring::Split(driver.start(false)));
        queue.enabled = true;
    }
    let is_used = |pair| ReceiveBurst::open(port.receive_queue(pair), 1).is_used();
    assert_eq!([0, 1, 2].map(is_used), [true, true, false]);
    port.count_receiving_pairs();
    assert_eq!(port.receiving_pairs(), 3);
    port.receive_queue(1).lock().enabled = false;
    assert_eq!([0, 1, 2].map(is_used), [true, false, false]);
    port.count_receiving_pairs();
    assert_eq!(port.receiving_pairs(), 1);
    // Filled and used up is used all the same.
    for _ in 0..2 {
        let mut burst = ReceiveBurst::open(port.receive_queue(0), 1);
        burst
            .write(&mut Frame::from_octets(&opaque(60)), &mut Frame::new())
            .unwrap();
    }
    assert!(is_used(0));
    let held = ReceiveBurst::open(port.receive_queue(0), 1);
    assert!(ReceiveBurst::try_open(port.receive_queue(0), 1).is_none());
    drop(held);
    assert!(ReceiveBurst::try_open(port.receive_queue(0), 1).is_some());
}

/// A log of the first 8 MiB, and the pages that it says were written.
struct Pages {
    file: File,
    log: Arc<DirtyLog>,
}

impl Pages {
    fn new() -> Pages {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(256).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap(), 0, 256).unwrap();
        Pages {
            file,
            log: Arc::new(log),
        }
    }

    /// The pages that were marked since the last call.
    fn take(&self) -> BTreeSet<u64> {
        let mut octets = [0; 256];
        self.file.read_exact_at(&mut octets, 0).unwrap();
        self.file.write_all_at(&[0; 256], 0).unwrap();
        (0..2048)
            .filter(|page| octets[page / 8] & (1 << (page % 8)) != 0)
            .map(|page| page as u64)
            .collect()
    }
}

/// Where a used ring of 512 elements lies such that its index, its elements and its event field are on three pages.
const LOGGED_USED: u64 = 0x10_4ffc;
const INDEX_PAGE: u64 = 0x104;
const ELEMENTS_PAGE: u64 = 0x105;
const EVENT_PAGE: u64 = 0x106;

fn logged_ring(ram: &Arc<Ram>, event_idx: bool, pages: &Pages) -> (Driver, SplitRing) {
    let mut driver = Driver::new(ram, 512, 0x10_0000);
    driver.used = LOGGED_USED;
    let config = driver.config(event_idx);
    let ring = SplitRing::start(&config, ram.device(), Some(pages.log.clone())).unwrap();
    (driver, ring)
}

#[test]
fn u7_every_write_to_the_used_ring_is_logged_and_nothing_else() {
    for event_idx in [false, true] {
        let ram = Ram::new(PATCHWORK);
        let pages = Pages::new();
        let (mut driver, mut ring) = logged_ring(&ram, event_idx, &pages);
        assert_eq!(pages.take(), [].into());
        driver.post(&[readable(0x14_0000, 100)]);
        assert!(ring.take(&mut devices::ring::Chain::default()).unwrap());
        assert_eq!(pages.take(), [].into(), "taking writes nothing");
        ring.complete(by_head(0), 0);
        assert_eq!(pages.take(), [ELEMENTS_PAGE].into());
        ring.publish();
        assert_eq!(pages.take(), [INDEX_PAGE].into());
        ring.suppress_kicks();
        assert_eq!(
            pages.take(),
            if event_idx { [].into() } else { [INDEX_PAGE].into() }
        );
        ring.request_kicks();
        assert_eq!(
            pages.take(),
            [if event_idx { EVENT_PAGE } else { INDEX_PAGE }].into()
        );
        ring.set_log(None);
        ring.complete(by_head(0), 0);
        ring.publish();
        assert_eq!(pages.take(), [].into(), "logging is off");
    }
}

#[test]
fn u7_the_used_ring_is_logged_where_the_front_end_says_or_not_at_all() {
    let ram = Ram::new(PATCHWORK);
    let driver = Driver::new(&ram, 8, 0x1000);
    for (used_log, expected) in [(None, [].into()), (Some(0x20_0000), [0x200].into())] {
        let pages = Pages::new();
        let mut config = driver.config(false);
        config.used_log = used_log;
        let mut ring = SplitRing::start(&config, ram.device(), Some(pages.log.clone())).unwrap();
        ring.complete(by_head(0), 0);
        ring.publish();
        ring.suppress_kicks();
        assert_eq!(pages.take(), expected);
    }
}

#[test]
fn u7_every_page_that_a_frame_is_written_to_is_logged_and_no_other() {
    let pages = Pages::new();
    let mut guest = Guest::logged(VERSION_1 | MERGEABLE, Some(pages.log.clone()));
    let used_page = guest.receiver.used >> 12;
    // The last octet of a page, a whole page, and the first page of a buffer of several.
    guest
        .receiver
        .post(&[writable(0x12_0fff, 0x1001), writable(0x14_0100, 0x3000)]);
    // Pages on both sides of the seam between two regions, and none of a buffer behind them.
    guest
        .receiver
        .post(&[writable(SEAM - 20, 0x1000), writable(0x16_0000, 0x5000)]);
    let mut from = talker();
    let (mut frame, _) = sent(&mut from, &VirtioNetHeader::default(), &opaque(0x1001 + 0x200));
    guest.deliver(&mut frame).unwrap();
    assert_eq!(pages.take(), [0x120, 0x121, 0x140, used_page].into());
    guest.deliver(&mut Frame::from_octets(&opaque(500))).unwrap();
    assert_eq!(pages.take(), [(SEAM - 20) >> 12, SEAM >> 12, used_page].into());
    // A page that only the last octets of a frame get to.
    guest.receiver.post(&[writable(0x18_0000, 0x4000)]);
    let (mut frame, _) = sent(&mut from, &VirtioNetHeader::default(), &opaque(0x1000));
    guest.deliver(&mut frame).unwrap();
    assert_eq!(pages.take(), [0x180, 0x181, used_page].into());
}

#[test]
fn u7_a_transmit_queue_logs_its_used_ring_only() {
    let pages = Pages::new();
    let mut guest = Guest::logged(VERSION_1 | SENDS_ALL, Some(pages.log.clone()));
    let (_, head) = sent(&mut guest, &VirtioNetHeader::default(), &opaque(5000));
    assert_eq!(pages.take(), [].into());
    guest.complete(head);
    assert_eq!(pages.take(), [guest.sender.used >> 12].into());
    assert_eq!(
        guest.sender.collect(),
        [Used {
            id: head.id().into(),
            len: 0
        }]
    );
}

/// The same over packed rings, for all of these that do not look at the rings themselves.
mod over_packed_rings {
    macro_rules! again {
        ($($test:ident)*) => {
            $(
                #[test]
                fn $test() {
                    crate::common::guest::over_packed_rings(super::$test);
                }
            )*
        };
    }

    again! {
        the_header_may_be_spread_over_descriptors_in_any_way
        frames_are_taken_up_to_the_longest_and_the_ring_survives_longer_ones
        a_disabled_transmit_queue_can_be_drained_and_a_stopped_one_cannot
        t1_header_flags_that_are_not_known_are_ignored
        t2_checksum_fields_mean_nothing_without_needs_csum
        t3_hdr_len_is_a_hint_that_nothing_depends_on
        t4_a_checksum_that_was_not_left_to_the_device_is_not_vouched_for
        a_frame_that_asks_for_more_than_was_negotiated_is_refused_alone
        r1_num_buffers_is_1_without_mergeable_buffers_and_their_count_with_them
        r2_without_mergeable_buffers_a_frame_that_does_not_fit_is_dropped_and_takes_nothing
        r3_every_buffer_but_the_last_is_filled_to_its_end_and_none_beyond
        r4_the_buffers_of_a_burst_become_visible_in_one_step
        r5_without_guest_csum_flags_are_zero_and_checksums_complete
        r6_frames_are_left_whole_only_for_drivers_that_segment_their_type
        r6_datagrams_are_left_whole_only_for_drivers_that_take_them_over_both_protocols
        r7_the_ecn_bit_comes_with_guest_ecn_and_a_frame_that_reduces_its_window
        r8_a_checksum_that_is_left_undone_comes_with_its_place_and_the_pseudo_header_sum
        r9_and_r10_a_whole_frame_comes_with_needs_csum_a_size_and_the_length_of_its_headers
        r11_only_what_the_host_validated_is_said_to_be_valid_and_only_to_drivers_that_listen
        n5_no_frame_is_longer_than_the_driver_expects_unless_the_driver_segments_it
        a_frame_without_room_writes_nothing_and_takes_nothing
        a_frame_whose_last_segment_has_no_room_leaves_the_ring_as_it_was
        frames_of_a_burst_that_found_room_stay_when_a_later_one_finds_none
        a_queue_that_is_disabled_or_stopped_receives_nothing
    }
}
