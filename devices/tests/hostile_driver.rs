//! What drivers must not do, done: the ring breaks, and nothing else does.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::chaos::{TABLES, TILES, TORN_TABLE, any_descriptor};
use common::driver::{Descriptor, Driver, INDIRECT, NEXT, Part, WRITE, by_head, readable, writable};
use common::flip::{sees_only, while_flipping};
use common::frames::{self, is_complete, opaque, pattern, payload, tcp4, unsegmented, without_checksum};
use common::guest::{Guest, MERGEABLE, RECEIVES_ALL, SENDS_ALL, VERSION_1};
use common::ram::{PATCHWORK, Ram, SEAM, contents};
use common::{cases, within};
use devices::Refusal;
use devices::guest::{GuestPort, NetFeatures, ReceiveBurst, Transmitted, transmit};
use devices::memory::MAX_REGIONS;
use devices::packet::virtio_header::GSO_TCPV4;
use devices::packet::{BadOffload, Frame, LINEAR_LEN, Offload, VirtioNetHeader};
use devices::ring::{Chain, MAX_CHAIN_BUFFERS, Ring, RingConfig, RingError, SplitRing};
use proptest::collection::vec;
use proptest::prelude::*;

const BUFFERS: u64 = 0x10_0000;
const TABLE: u64 = 0x1_e001;
/// The end of the memory below the hole.
const HOLE: u64 = 0x2_0000;

/// Why the transmit queue of a guest breaks on what `build` makes available, after checking that this is all that
/// happens.
fn broken_by(build: impl FnOnce(&mut Driver)) -> RingError {
    let mut guest = Guest::new(VERSION_1 | SENDS_ALL);
    build(&mut guest.sender);
    let before = guest.ram.snapshot();
    let mut frame = Frame::new();
    let Transmitted::Broken(error) = guest.transmit(&mut frame) else {
        panic!("the ring was not broken");
    };
    assert!(frame.is_empty());
    assert_eq!((guest.errors(), guest.calls()), (1, 0));
    let queue = guest.port.transmit_queue(0).lock();
    assert!(queue.ring.is_none() && !queue.is_running());
    assert_eq!(queue.broken, Some(error));
    drop(queue);
    assert_eq!(guest.transmit(&mut frame), Transmitted::Nothing);
    guest.ram.assert_kept(&before, &[]);
    // The other queue is as good as before.
    guest.post(200);
    guest.deliver(&mut Frame::from_octets(&opaque(60))).unwrap();
    assert_eq!(guest.received().len(), 1);
    error
}

/// As [`broken_by`], for chains of these descriptors.
fn broken_by_descriptors(descriptors: &[(u64, u32, u16, u16)]) -> RingError {
    broken_by(|driver| {
        for (index, descriptor) in descriptors.iter().enumerate() {
            driver.describe(index as u16, from_tuple(*descriptor));
        }
        driver.offer(0);
    })
}

/// As [`broken_by`], for an indirect table of these descriptors.
fn broken_by_table(descriptors: &[(u64, u32, u16, u16)]) -> RingError {
    broken_by(|driver| {
        for (index, descriptor) in descriptors.iter().enumerate() {
            driver.describe_at(TABLE + 16 * index as u64, from_tuple(*descriptor));
        }
        let len = 16 * descriptors.len() as u32;
        driver.describe(0, from_tuple((TABLE, len, INDIRECT, 0)));
        driver.offer(0);
    })
}

fn from_tuple((address, len, flags, next): (u64, u32, u16, u16)) -> Descriptor {
    Descriptor {
        address,
        len,
        flags,
        next,
    }
}

#[test]
fn loops_end() {
    let node = |next| (BUFFERS, 8, NEXT, next);
    assert_eq!(broken_by_descriptors(&[node(0)]), RingError::Loop);
    assert_eq!(
        broken_by_descriptors(&[node(1), node(2), node(0)]),
        RingError::Loop
    );
    assert_eq!(
        broken_by_descriptors(&[node(1), node(2), node(2)]),
        RingError::Loop
    );
    assert_eq!(broken_by_table(&[node(0)]), RingError::Loop);
    assert_eq!(broken_by_table(&[node(1), node(0)]), RingError::Loop);
    assert_eq!(
        broken_by_table(&[node(2), node(1), node(1), node(0)]),
        RingError::Loop
    );
}

#[test]
fn indices_outside_of_their_table_are_refused() {
    for head in [256, 257, 0x8000, u16::MAX] {
        assert_eq!(broken_by(|driver| driver.offer(head)), RingError::BadIndex(head));
        let next = (BUFFERS, 8, NEXT, head);
        assert_eq!(broken_by_descriptors(&[next]), RingError::BadIndex(head));
    }
    for next in [2, 3, 256, u16::MAX] {
        let table = [(BUFFERS, 8, NEXT, next), (BUFFERS, 8, 0, 0)];
        assert_eq!(broken_by_table(&table), RingError::BadIndex(next));
    }
}

#[test]
fn tables_in_tables_and_tables_with_a_successor_are_refused() {
    let last = (BUFFERS, 20, 0, 0);
    let table = (TABLE, 16, INDIRECT, 0);
    assert_eq!(broken_by_table(&[table]), RingError::NestedIndirect);
    assert_eq!(
        broken_by_table(&[(BUFFERS, 20, NEXT, 1), table]),
        RingError::NestedIndirect
    );
    let mut followed = (TABLE, 16, INDIRECT | NEXT, 1);
    assert_eq!(broken_by_descriptors(&[followed, last]), RingError::IndirectNext);
    followed.2 |= WRITE;
    let second = [(BUFFERS, 20, NEXT, 1), followed, last];
    assert_eq!(broken_by_descriptors(&second), RingError::IndirectNext);
}

#[test]
fn tables_of_impossible_length_are_refused() {
    for len in [
        0,
        1,
        8,
        15,
        17,
        31,
        16 * 32769,
        16 * 65536,
        u32::MAX - 15,
        u32::MAX,
    ] {
        let table = (TABLE, len, INDIRECT, 0);
        assert_eq!(broken_by_descriptors(&[table]), RingError::BadIndirectLength(len));
    }
}

#[test]
fn tables_outside_of_memory_are_refused() {
    let places = [
        HOLE,
        HOLE - 15,
        HOLE - 16,
        0x1_0001_0010,
        u64::MAX - 15,
        u64::MAX - 16,
        u64::MAX,
    ];
    for address in places {
        let error = broken_by(|driver| {
            // The descriptor that is the last in memory leads on.
            if address == HOLE - 16 {
                driver.describe_at(address, from_tuple((BUFFERS, 20, NEXT, 1)));
            }
            driver.describe(0, from_tuple((address, 32, INDIRECT, 0)));
            driver.offer(0);
        });
        assert_eq!(error, RingError::BadBuffer { address, len: 32 });
    }
}

/// From the last region that there can be, the next but one descriptor of a table would be at the start of memory.
#[test]
fn tables_do_not_wrap_around_the_end_of_addresses() {
    const TOP: u64 = u64::MAX - 16;
    let ram = Ram::new(&[(0, 0x1000), (TOP - 0xff0, 0x1000)]);
    let mut driver = Driver::new(&ram, 8, 0x100);
    driver.describe_at(TOP, from_tuple((0x800, 20, NEXT, 2)));
    driver.describe_at(15, from_tuple((0x800, 20, 0, 0)));
    driver.describe(0, from_tuple((TOP, 48, INDIRECT, 0)));
    driver.offer(0);
    let taken = driver.start(false).take(&mut Chain::default());
    let bad = RingError::BadBuffer {
        address: TOP,
        len: 48,
    };
    assert_eq!(taken, Err(bad));
}

#[test]
fn buffers_outside_of_memory_are_refused() {
    const TOP: u64 = 0x1_0001_0010;
    for (address, len) in [
        (HOLE, 1),
        (HOLE - 1, 2),
        (HOLE - 1, u32::MAX - 20),
        (SEAM - 1, 0x8000),
        (HOLE - 1, 0xe_0002),
        (BUFFERS - 1, 20),
        (TOP, 1),
        (TOP - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, 20),
        (u64::MAX - 9, 20),
        (1 << 63, 20),
    ] {
        let bad = RingError::BadBuffer { address, len };
        assert_eq!(broken_by_descriptors(&[(address, len, 0, 0)]), bad);
        assert_eq!(
            broken_by_table(&[(BUFFERS, 20, NEXT, 1), (address, len, 0, 0)]),
            bad
        );
    }
}

#[test]
fn chains_of_4_gib_are_refused() {
    // What is too long is refused before it is looked for.
    let last = (BUFFERS, u32::MAX, 0, 0);
    assert_eq!(
        broken_by_descriptors(&[(BUFFERS, 1, NEXT, 1), last]),
        RingError::TooLong
    );
    assert_eq!(
        broken_by_table(&[(BUFFERS, 1, NEXT, 1), last]),
        RingError::TooLong
    );
}

#[test]
fn empty_buffers_are_refused_at_once() {
    for address in [BUFFERS, HOLE, u64::MAX] {
        let empty = RingError::EmptyBuffer(address);
        assert_eq!(broken_by_descriptors(&[(address, 0, 0, 0)]), empty);
        // A chain of nothing, again and again, is not gone through to find its end.
        assert_eq!(broken_by_descriptors(&[(address, 0, NEXT, 0)]), empty);
        assert_eq!(
            broken_by_table(&[(BUFFERS, 60, NEXT, 1), (address, 0, 0, 0)]),
            empty
        );
    }
}

#[test]
fn readable_buffers_behind_writable_ones_are_refused() {
    let (first, last) = ((BUFFERS, 20, NEXT | WRITE, 1), (BUFFERS, 20, 0, 0));
    assert_eq!(
        broken_by_descriptors(&[first, last]),
        RingError::ReadableAfterWritable
    );
    assert_eq!(broken_by_table(&[first, last]), RingError::ReadableAfterWritable);
    let over_the_border = broken_by(|driver| {
        driver.post_indirect(&[writable(BUFFERS, 20)], TABLE, &[readable(BUFFERS, 20)], 0);
    });
    assert_eq!(over_the_border, RingError::ReadableAfterWritable);
}

#[test]
fn frames_with_writable_buffers_or_without_a_whole_header_are_refused() {
    let writable = broken_by_descriptors(&[(BUFFERS, 100, NEXT, 1), (BUFFERS, 1, WRITE, 0)]);
    assert_eq!(writable, RingError::WrongDirection);
    assert_eq!(
        broken_by_descriptors(&[(BUFFERS, 100, WRITE, 0)]),
        RingError::WrongDirection
    );
    for len in 1..12 {
        assert_eq!(
            broken_by_descriptors(&[(BUFFERS, len, 0, 0)]),
            RingError::WrongDirection
        );
    }
}

#[test]
fn an_available_index_that_jumps_is_refused() {
    for (at, jump) in [
        (0u16, 257u16),
        (0, 0x8000),
        (5, u16::MAX),
        (5, 0xfffb),
        (65500, 300),
        (65500, 65535),
    ] {
        let found = at.wrapping_add(jump);
        let mut guest = Guest::new(VERSION_1);
        guest.sender.resume_at(at);
        guest.receiver.resume_at(at);
        for (driver, queue) in [
            (&guest.sender, guest.port.transmit_queue(0)),
            (&guest.receiver, guest.port.receive_queue(0)),
        ] {
            queue.lock().ring = Some(Ring::Split(driver.start(false)));
            guest.ram.store(driver.avail + 2, found);
        }
        let jumped = RingError::IndexJump { at, found };
        assert_eq!(guest.transmit(&mut Frame::new()), Transmitted::Broken(jumped));
        let delivered = guest.deliver(&mut Frame::from_octets(&opaque(60)));
        assert_eq!(delivered, Err(Refusal::Malformed));
        assert_eq!(guest.port.receive_queue(0).lock().broken, Some(jumped));
        assert_eq!(guest.errors(), 2);
    }
}

#[test]
fn receive_buffers_that_break_a_rule_break_the_ring_and_are_not_written() {
    let table = |address, len| Descriptor {
        address,
        len,
        flags: INDIRECT,
        next: 0,
    };
    let of = |part: Part| Descriptor {
        address: part.address,
        len: part.len,
        flags: if part.writable { WRITE } else { 0 },
        next: 0,
    };
    for (bad, error) in [
        (of(readable(BUFFERS, 100)), RingError::WrongDirection),
        (of(writable(BUFFERS, 0)), RingError::EmptyBuffer(BUFFERS)),
        (
            of(writable(HOLE - 1, 2)),
            RingError::BadBuffer {
                address: HOLE - 1,
                len: 2,
            },
        ),
        (table(TABLE, 24), RingError::BadIndirectLength(24)),
        (
            table(HOLE, 16),
            RingError::BadBuffer {
                address: HOLE,
                len: 16,
            },
        ),
    ] {
        // The frame has room in the first buffer, or needs the second one, which is bad.
        for (len, survives) in [(88, true), (89, false)] {
            let mut guest = Guest::new(VERSION_1 | MERGEABLE);
            guest.receiver.describe(0, of(writable(BUFFERS + 0x1000, 100)));
            guest.receiver.describe(1, bad);
            guest.receiver.offer(0);
            guest.receiver.offer(1);
            let before = guest.ram.snapshot();
            let delivered = guest.deliver(&mut Frame::from_octets(&opaque(len)));
            if survives {
                assert_eq!(delivered, Ok(()));
                continue;
            }
            assert_eq!(delivered, Err(Refusal::Malformed));
            guest.ram.assert_kept(&before, &[]);
            assert_eq!((guest.errors(), guest.calls()), (1, 0));
            assert_eq!(guest.port.receive_queue(0).lock().broken, Some(error));
            let again = guest.deliver(&mut Frame::from_octets(&opaque(60)));
            assert_eq!(again, Err(Refusal::NotReady));
        }
    }
}

#[test]
fn rings_of_no_possible_size_are_refused() {
    let driver = Driver::new(&Ram::new(PATCHWORK), 8, 0x1000);
    for size in [0, 3, 5, 24, 32767, 32769, 65535, 65536, 65544, u32::MAX, 1 << 31] {
        let config = RingConfig {
            size,
            ..driver.config(false)
        };
        let refused = SplitRing::start(&config, driver.ram.device(), None).unwrap_err();
        assert_eq!(refused, RingError::BadSize(size));
    }
}

#[test]
fn rings_that_are_misaligned_or_not_in_one_region_are_refused() {
    let ram = Ram::new(PATCHWORK);
    let good = Driver::new(&ram, 8, 0x1000).config(false);
    let start = ram.user(0);
    // The ends of two regions, of which the first is odd.
    let (odd, even) = (ram.user(SEAM - 1) + 1, ram.user(0x1_0001_000f) + 1);
    let check = |config: RingConfig, part: &'static str, fits: bool| {
        let started = SplitRing::start(&config, ram.device(), None).map(|_| ());
        let expected = if fits {
            Ok(())
        } else {
            Err(RingError::BadAddress(part))
        };
        assert_eq!(started, expected, "{config:x?}");
    };
    for (desc, fits) in [
        (odd - 3 - 128, true),
        (even - 128, true),
        (odd - 3 - 112, false),
        (even - 112, false),
        (start + 8, false),
    ] {
        check(RingConfig { desc, ..good }, "descriptor table", fits);
    }
    for (avail, fits) in [
        (odd - 1 - 22, true),
        (even - 22, true),
        (odd - 1 - 20, false),
        (even - 20, false),
        (start + 1, false),
    ] {
        check(RingConfig { avail, ..good }, "available ring", fits);
    }
    for (used, fits) in [
        (odd - 3 - 68, true),
        (even - 72, true),
        (odd - 3 - 64, false),
        (even - 68, false),
        (start + 2, false),
    ] {
        check(RingConfig { used, ..good }, "used ring", fits);
    }
    for outside in [0, 16, start - 16, odd.next_multiple_of(16), even, !15] {
        check(
            RingConfig {
                desc: outside,
                ..good
            },
            "descriptor table",
            false,
        );
        check(
            RingConfig {
                avail: outside,
                ..good
            },
            "available ring",
            false,
        );
        check(
            RingConfig {
                used: outside,
                ..good
            },
            "used ring",
            false,
        );
    }
}

/// A front end that is in league with its guest may share memory in crumbs, so that each buffer falls into many.
#[test]
fn memory_in_crumbs_does_not_make_chains_without_end() {
    const CRUMBS: u64 = MAX_REGIONS as u64 - 1;
    let mut ranges = vec![(0, 0x1000)];
    ranges.extend((0..CRUMBS).map(|n| (0x1000 + n, 1)));
    let ram = Ram::new(&ranges);
    let mut driver = Driver::new(&ram, 8, 0);
    let whole = readable(0x1000, CRUMBS as u32);
    driver.post(&[whole, whole]);
    driver.post(&[whole, whole, whole]);
    let mut ring = driver.start(false);
    let mut chain = Chain::default();
    assert!(ring.take(&mut chain).unwrap());
    assert_eq!(chain.readable().len(), 2 * CRUMBS as usize);
    assert_eq!(ring.take(&mut chain), Err(RingError::TooManyBuffers));
    assert!(chain.readable().len() <= MAX_CHAIN_BUFFERS);
}

/// The receive buffers are the ring itself: what the device writes is what it reads next.
#[test]
fn receive_buffers_that_lie_over_their_own_ring_harm_nobody_else() {
    within(Duration::from_secs(60), || {
        for octet in 0..=u8::MAX {
            let mut guest = Guest::new(VERSION_1 | MERGEABLE);
            let start = guest.receiver.desc;
            let len = (guest.receiver.used_range().end - start) as u32;
            for offset in [0, 12, 4096 + 2, 4096 + 520] {
                guest
                    .receiver
                    .post(&[writable(start + offset, len - offset as u32)]);
            }
            for _ in 0..20 {
                let _ = guest.deliver(&mut Frame::from_octets(&[octet; 1500]));
            }
            guest.ram.assert_guards();
        }
    });
}

/// A guest that is sent its own frame may have it lie where it receives.
#[test]
fn a_frame_may_be_written_over_itself() {
    let mut guest = Guest::new(VERSION_1 | SENDS_ALL);
    let octets = opaque(3000);
    let parts = guest.place(&[&[0; 12][..], &octets].concat(), &[]);
    guest.sender.post(&parts);
    // The same place, but for the header's copy and the head's, which are private before anything is written.
    guest.receiver.post(&[writable(parts[0].address, 3012)]);
    let mut frame = Frame::new();
    assert!(matches!(guest.transmit(&mut frame), Transmitted::Frame(_)));
    guest.deliver(&mut frame).unwrap();
    assert_eq!(guest.ram.octets(parts[0].address + 12, 3000), octets);
    guest.ram.assert_guards();
}

/// A guest's two queues, of one size, over the same ring memory.
struct Pair {
    ram: Arc<Ram>,
    port: GuestPort,
    driver: Driver,
}

impl Pair {
    fn new(size: u16, features: u64) -> Pair {
        let ram = Ram::new(TILES);
        let driver = Driver::new(&ram, size, 0x100);
        let port = GuestPort::new(1);
        for queue in port.queues() {
            let mut queue = queue.lock();
            queue.ring = Some(Ring::Split(driver.start(false)));
            queue.enabled = true;
            queue.features = NetFeatures(features);
        }
        Pair { ram, port, driver }
    }

    /// Has the device take whatever it takes, and checks that this ends and writes nothing but the used ring.
    fn drain(&self) {
        let before = self.ram.snapshot();
        let mut frame = Frame::new();
        let mut queue = self.port.transmit_queue(0).lock();
        let mut turns = 0;
        loop {
            let head = match transmit(&mut queue, &mut frame, LINEAR_LEN) {
                Transmitted::Nothing | Transmitted::Broken(_) => break,
                Transmitted::Frame(head) | Transmitted::BadOffload(head, _) | Transmitted::TooLong(head) => {
                    head
                }
            };
            assert!(frame.tail().len() <= MAX_CHAIN_BUFFERS);
            queue.ring.as_mut().unwrap().complete(head, 0);
            turns += 1;
            assert!(
                turns <= self.driver.size,
                "more chains than the ring has room for"
            );
        }
        queue.publish();
        self.ram.assert_kept(&before, &[self.driver.used_range()]);
    }

    /// Delivers frames until the ring is broken or there were as many as it has room for.
    fn fill(&self, octets: &[u8]) {
        let mut delivered = 0;
        loop {
            let mut burst = ReceiveBurst::open(self.port.receive_queue(0), 1);
            match burst.write(&mut Frame::from_octets(octets), &mut Frame::new()) {
                Ok(()) => delivered += 1,
                Err(_) => break,
            }
            // Buffers over the available ring offer themselves anew; that, too, is only as fast as frames come.
            if delivered > 4 * self.driver.size {
                break;
            }
        }
        self.ram.assert_guards();
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn descriptors_that_keep_to_no_rule_do_no_harm(
        descriptors in vec(any_descriptor(8), 8),
        table in vec(any_descriptor(8), 8),
        heads in vec(prop_oneof![9 => 0..8u16, 1 => any::<u16>()], 1..9),
        features in prop::sample::select(vec![0, VERSION_1, VERSION_1 | MERGEABLE | SENDS_ALL | RECEIVES_ALL]),
        len in 14..2000usize,
    ) {
        within(Duration::from_secs(20), move || {
            let mut pair = Pair::new(8, features);
            for (index, descriptor) in (0..8).zip(&descriptors) {
                pair.driver.describe(index, *descriptor);
            }
            for (index, descriptor) in (0..8).zip(&table) {
                pair.driver.describe_at(TABLES + 16 * index, *descriptor);
                pair.driver.describe_at(TORN_TABLE + 16 * index, *descriptor);
            }
            for head in heads {
                pair.driver.offer(head);
            }
            pair.drain();
            pair.fill(&opaque(len));
        });
    }

    #[test]
    fn octets_of_any_value_in_the_rings_do_no_harm(
        exponent in 0..5u32,
        octets in vec(any::<u8>(), 0x800),
        index in prop_oneof![3 => 1..20u16, 1 => any::<u16>()],
        payload in vec(any::<u8>(), 14..2000),
    ) {
        within(Duration::from_secs(20), move || {
            let pair = Pair::new(1 << exponent, VERSION_1 | MERGEABLE | SENDS_ALL);
            pair.ram.put(pair.driver.desc, &octets);
            // Only the index is such that the rest is looked at.
            pair.ram.store(pair.driver.avail + 2, index);
            pair.drain();
            pair.fill(&payload);
        });
    }

    #[test]
    fn frames_of_any_octets_do_no_harm_to_their_receiver(
        header in vec(any::<u8>(), 12),
        flags in 0..2u8,
        gso_type in prop::sample::select(vec![0u8, 1, 3, 4, 5, 0x81, 0x84]),
        start in 0..40u16,
        octets in vec(any::<u8>(), 1..600),
        cuts in prop::collection::btree_set(1..12usize, 0..5),
        features in prop::sample::select(vec![0, RECEIVES_ALL]),
    ) {
        let mut octets = octets;
        // Half of them look like TCP or UDP at least in the places that are looked at first.
        if octets.len() > 60 && header[11] % 2 == 0 {
            let like = if header[11] % 4 == 0 { tcp4(octets.len() - 54) } else { frames::udp4(octets.len() - 42) };
            octets[..38].copy_from_slice(&like[..38]);
        }
        let mut raw: [u8; 12] = header.try_into().unwrap();
        raw[..2].copy_from_slice(&[flags, gso_type]);
        raw[6..8].copy_from_slice(&start.to_le_bytes());
        let mut from = Guest::new(VERSION_1 | SENDS_ALL);
        let mut to = Guest::new(VERSION_1 | MERGEABLE | features);
        for _ in 0..100 {
            to.post(700);
        }
        from.send_cut(&[&raw[..], &octets].concat(), &cuts.into_iter().collect::<Vec<_>>());
        let mut frame = Frame::new();
        match from.transmit(&mut frame) {
            Transmitted::Frame(_) => {}
            Transmitted::BadOffload(..) => return Ok(()),
            other => panic!("{other:?}"),
        }
        if to.deliver(&mut frame).is_ok() {
            for received in to.received() {
                assert_header_is_sound(&received.header, received.octets.len(), features);
            }
        }
        from.ram.assert_guards();
        to.ram.assert_guards();
    }
}

/// What a receiver may rely on, whoever the sender is.
fn assert_header_is_sound(header: &VirtioNetHeader, len: usize, features: u64) {
    if features == 0 {
        assert_eq!((header.flags, header.gso_type), (0, 0));
    }
    if header.needs_csum() {
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        assert!(end <= len, "the checksum ends at {end} of {len}");
    }
    if header.gso_type != 0 {
        assert!(header.needs_csum() && header.gso_size > 0);
        assert!(usize::from(header.hdr_len) < len);
    }
}

/// Length, flags and successor of a descriptor: the half of it that can be written at once.
fn second_half(len: u32, flags: u16, next: u16) -> u64 {
    u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48
}

/// Takes the chain at descriptor 0 of a ring of its own and gives it back.
fn look_at(driver: &mut Driver, ring: &mut SplitRing, chain: &mut Chain) -> Result<(), RingError> {
    if driver.next_avail == ring.next_avail() {
        driver.offer(0);
    }
    assert!(ring.take(chain)?, "a chain is waiting");
    ring.complete(chain.id, 0);
    ring.publish();
    Ok(())
}

fn lone_ring() -> (Driver, SplitRing, Chain) {
    let driver = Driver::new(&Ram::new(PATCHWORK), 8, 0x1000);
    let ring = driver.start(false);
    (driver, ring, Chain::default())
}

#[test]
fn a_descriptor_that_flips_between_two_lengths_is_one_of_them() {
    let (mut driver, mut ring, mut chain) = lone_ring();
    let ram = driver.ram.clone();
    ram.put(BUFFERS, &pattern(400));
    driver.describe(1, from_tuple((BUFFERS + 300, 50, 0, 0)));
    ram.store(driver.desc, BUFFERS);
    let place = driver.desc + 8;
    let states = [second_half(300, NEXT, 1), second_half(100, 0, 0)];
    ram.store(place, states[0]);
    while_flipping(
        |turn| ram.store(place, states[turn as usize % 2]),
        || {
            sees_only([100, 350], || {
                look_at(&mut driver, &mut ring, &mut chain).unwrap();
                let octets = contents(chain.readable());
                assert_eq!(octets, pattern(400)[..octets.len()]);
                assert_eq!(chain.readable_len(), octets.len() as u64);
                octets.len()
            });
        },
    );
}

#[test]
fn a_descriptor_that_flips_into_nowhere_is_refused_or_is_as_it_was() {
    let (mut driver, mut ring, mut chain) = lone_ring();
    let ram = driver.ram.clone();
    ram.put(BUFFERS, &[1; 100]);
    ram.put(BUFFERS + 0x1000, &[2; 100]);
    ram.store(driver.desc + 8, second_half(100, 0, 0));
    let addresses = [BUFFERS, HOLE - 50, BUFFERS + 0x1000, u64::MAX - 50];
    let place = driver.desc;
    ram.store(place, BUFFERS);
    while_flipping(
        |turn| ram.store(place, addresses[turn as usize % 4]),
        || {
            sees_only([Some(1), Some(2), None], || {
                match look_at(&mut driver, &mut ring, &mut chain) {
                    Ok(()) => {
                        let octets = contents(chain.readable());
                        assert!(octets == [octets[0]; 100]);
                        Some(octets[0])
                    }
                    Err(RingError::BadBuffer { address, len: 100 }) => {
                        assert!(addresses.contains(&address));
                        None
                    }
                    Err(error) => panic!("{error}"),
                }
            });
        },
    );
    ram.assert_guards();
}

#[test]
fn a_table_that_flips_its_length_is_read_by_one_of_them() {
    let (mut driver, mut ring, mut chain) = lone_ring();
    let ram = driver.ram.clone();
    ram.store(driver.desc, TABLE);
    driver.write_table(
        TABLE,
        &[
            readable(BUFFERS, 10),
            readable(BUFFERS, 20),
            readable(BUFFERS, 40),
        ],
    );
    let lens = [48, 32, 0, 40, u32::MAX];
    let place = driver.desc + 8;
    ram.store(place, second_half(48, INDIRECT, 0));
    while_flipping(
        |turn| ram.store(place, second_half(lens[turn as usize % 5], INDIRECT, 0)),
        || {
            let refused =
                [0, 40, u32::MAX].map(|len| Err(format!("{:?}", RingError::BadIndirectLength(len))));
            let short = Err(format!("{:?}", RingError::Loop));
            sees_only(refused.into_iter().chain([short, Ok(70)]), || {
                look_at(&mut driver, &mut ring, &mut chain)
                    .map(|()| chain.readable_len())
                    .map_err(|error| format!("{error:?}"))
            });
        },
    );
}

#[test]
fn a_chain_that_flips_between_a_buffer_and_a_table_is_one_of_them() {
    let (mut driver, mut ring, mut chain) = lone_ring();
    let ram = driver.ram.clone();
    ram.store(driver.desc, BUFFERS);
    // Read as a buffer these are 32 octets; read as a table, two buffers.
    driver.write_table(BUFFERS, &[readable(BUFFERS + 100, 3), readable(BUFFERS + 200, 4)]);
    let place = driver.desc + 8;
    let states = [second_half(32, 0, 0), second_half(32, INDIRECT, 0)];
    ram.store(place, states[0]);
    while_flipping(
        |turn| ram.store(place, states[turn as usize % 2]),
        || {
            sees_only(
                [vec![(BUFFERS, 32)], vec![(BUFFERS + 100, 3), (BUFFERS + 200, 4)]],
                || {
                    look_at(&mut driver, &mut ring, &mut chain).unwrap();
                    let buffers = chain.readable().iter();
                    buffers.map(|buffer| (buffer.guest, buffer.len)).collect()
                },
            );
        },
    );
}

#[test]
fn an_available_entry_that_flips_is_returned_as_it_was_taken() {
    // So small a ring that the entry that is looked at is hardly ever left alone.
    let mut driver = Driver::new(&Ram::new(PATCHWORK), 2, 0x1000);
    let mut ring = driver.start(false);
    let mut chain = Chain::default();
    let (ram, entries) = (driver.ram.clone(), driver.avail + 4);
    for head in 0..2 {
        driver.describe(head, from_tuple((BUFFERS + u64::from(head), 1, 0, 0)));
    }
    while_flipping(
        |turn| ram.store(entries + turn / 3 % 2 * 2, [0u16, 1, 9][turn as usize % 3]),
        || {
            sees_only([Ok(0), Ok(1), Err(9)], || {
                let element = driver.used_element(driver.used_index()).start;
                match look_at(&mut driver, &mut ring, &mut chain) {
                    Ok(()) => {
                        assert_eq!(chain.readable()[0].guest, BUFFERS + u64::from(chain.id.id()));
                        assert_eq!(driver.ram.read::<u32>(element), u32::from(chain.id.id()));
                        Ok(chain.id.id())
                    }
                    Err(RingError::BadIndex(index)) => Err(index),
                    Err(error) => panic!("{error}"),
                }
            });
        },
    );
}

/// One frame again and again, in one descriptor at [`BUFFERS`], header included.
struct Repeater {
    guest: Guest,
    frame: Frame,
}

impl Repeater {
    fn new(header: &VirtioNetHeader, octets: &[u8]) -> Repeater {
        let guest = Guest::new(VERSION_1 | SENDS_ALL);
        guest.ram.put(BUFFERS, &header.emit());
        guest.ram.put(BUFFERS + 12, octets);
        let len = 12 + octets.len() as u32;
        guest.sender.describe(0, from_tuple((BUFFERS, len, 0, 0)));
        Repeater {
            guest,
            frame: Frame::new(),
        }
    }

    /// The device's view of the frame this time.
    fn turn(&mut self) -> Transmitted {
        self.guest.sender.offer(0);
        let turned = self.guest.transmit(&mut self.frame);
        self.guest.complete(by_head(0));
        turned
    }
}

#[test]
fn a_header_that_flips_is_believed_as_it_was_checked() {
    let mut octets = tcp4(900);
    let good = unsegmented(&mut octets, GSO_TCPV4, 200);
    let mut repeater = Repeater::new(&good, &octets);
    let ram = repeater.guest.ram.clone();
    // Flags, and the octets of a size: each is written at once, and every mixture has its verdict.
    let flip = |turn: u64| {
        ram.store(BUFFERS, [1u8, 0][turn as usize % 2]);
        ram.store(BUFFERS + 4, [200u16, 0, 300, 7][turn as usize % 4]);
        ram.store(BUFFERS + 6, [34u16, 0xfff0, 34][turn as usize % 3]);
    };
    let offload = |gso_size| Offload {
        needs_csum: true,
        csum_start: 34,
        csum_offset: 16,
        gso_type: devices::packet::GsoType::TcpV4,
        ecn: false,
        gso_size,
        hdr_len: 54,
        data_valid: false,
        encapsulation: None,
    };
    let outside = BadOffload::ChecksumOutside {
        end: 0xfff0 + 18,
        len: octets.len(),
    };
    let refused = [
        BadOffload::GsoWithoutChecksum,
        BadOffload::GsoSize(0),
        BadOffload::GsoSize(7),
        outside,
    ];
    let expected = refused.map(|reason| format!("{:?}", Transmitted::BadOffload(by_head(0), reason)));
    while_flipping(flip, || {
        let taken = [200, 300].map(|size| format!("{:?}", offload(size)));
        sees_only(expected.into_iter().chain(taken), || match repeater.turn() {
            Transmitted::Frame(_) => {
                // Whoever receives it is told what was checked.
                let mut to = Guest::new(VERSION_1 | MERGEABLE | RECEIVES_ALL);
                to.post(2000);
                let offload = repeater.frame.offload;
                to.deliver(&mut repeater.frame).unwrap();
                let header = to.received_one().header;
                assert_eq!((header.gso_size, header.csum_start), (offload.gso_size, 34));
                format!("{offload:?}")
            }
            refused => format!("{refused:?}"),
        });
    });
}

#[test]
fn a_frame_is_delivered_with_the_head_that_was_looked_at() {
    let octets = tcp4(1200);
    let mut repeater = Repeater::new(&VirtioNetHeader::default(), &octets);
    let ram = repeater.guest.ram.clone();
    let flip = |turn: u64| {
        for at in [
            BUFFERS + 12,
            BUFFERS + 12 + 26,
            BUFFERS + 12 + 255,
            BUFFERS + 12 + 256,
            BUFFERS + 12 + 1200,
        ] {
            ram.store(at, turn as u8);
        }
    };
    let mut to = Guest::new(VERSION_1);
    while_flipping(flip, || {
        sees_only([0, 1], || {
            assert_eq!(repeater.turn(), Transmitted::Frame(by_head(0)));
            let looked_at = repeater.frame.head().to_vec();
            to.post(1500);
            to.deliver(&mut repeater.frame).unwrap();
            let received = to.received_one();
            assert_eq!(received.octets.len(), octets.len());
            assert_eq!(received.octets[..256], looked_at);
            // What is not looked at is the sender's own business, but stays in its place.
            assert_eq!(received.octets[257..1200], octets[257..1200]);
            looked_at[0] % 2
        });
    });
}

#[test]
fn a_frame_whose_headers_flip_is_segmented_as_it_was_checked() {
    let mut octets = tcp4(3000);
    let header = unsegmented(&mut octets, GSO_TCPV4, 500);
    let mut repeater = Repeater::new(&header, &octets);
    let ram = repeater.guest.ram.clone();
    let ip = BUFFERS + 12 + 14;
    let flip = |turn: u64| {
        let bad = turn % 2 == 1;
        ram.store(ip, if bad { 0x4fu8 } else { 0x45 });
        ram.store(
            ip + 2,
            if bad {
                0xffffu16
            } else {
                ((octets.len() - 14) as u16).to_be()
            },
        );
        ram.store(ip + 9, if bad { 17u8 } else { 6 });
        ram.store(ip + 32, if bad { 0xf0u8 } else { 0x50 });
        ram.store(BUFFERS + 12 + 12, if bad { 0xdd86u16 } else { 0x0008 });
    };
    while_flipping(flip, || {
        sees_only([true, false], || {
            if !matches!(repeater.turn(), Transmitted::Frame(_)) {
                return false;
            }
            let mut to = Guest::new(VERSION_1);
            for _ in 0..6 {
                to.post(700);
            }
            to.deliver(&mut repeater.frame).unwrap();
            let segments = to.received();
            assert!(segments.iter().all(|segment| is_complete(&segment.octets)));
            let payloads: Vec<&[u8]> = segments.iter().map(|segment| payload(&segment.octets)).collect();
            assert_eq!(payloads.concat(), payload(&octets));
            true
        });
    });
}

#[test]
fn a_checksum_is_completed_in_the_place_that_was_checked() {
    let mut octets = tcp4(600);
    let header = without_checksum(&mut octets);
    let mut repeater = Repeater::new(&header, &octets);
    let ram = repeater.guest.ram.clone();
    let flip = |turn: u64| {
        // The frame's claims of where TCP is, and where its checksum would go.
        ram.store(BUFFERS + 12 + 14, [0x45u8, 0x46][turn as usize % 2]);
        ram.store(BUFFERS + 8, [16u16, 2][turn as usize % 2]);
    };
    while_flipping(flip, || {
        sees_only([true, false], || {
            if !matches!(repeater.turn(), Transmitted::Frame(_)) {
                return false;
            }
            let mut to = Guest::new(VERSION_1);
            to.post(700);
            to.deliver(&mut repeater.frame).unwrap();
            assert!(is_complete(&to.received_one().octets));
            true
        });
    });
}

/// What a receive buffer holds before anything is written to it.
const FILL: u8 = 0xaa;

#[test]
fn a_receive_buffer_that_flips_its_length_is_filled_to_one_of_them() {
    const COUNT: u16 = 8;
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    let (ram, desc) = (guest.ram.clone(), guest.receiver.desc);
    let buffer = |head: u16| BUFFERS + 0x1000 * u64::from(head);
    for head in 0..COUNT {
        guest
            .receiver
            .describe(head, from_tuple((buffer(head), 64, WRITE, 0)));
        guest.receiver.offer(head);
    }
    let flip = |turn: u64| {
        let len = [64, 0x1000][turn as usize % 2];
        for head in 0..u64::from(COUNT) {
            ram.store(desc + 16 * head + 8, second_half(len, WRITE, 0));
        }
    };
    let octets = opaque(388);
    while_flipping(flip, || {
        sees_only(1..=7, || {
            for head in 0..COUNT {
                ram.put(buffer(head), &[FILL; 500]);
            }
            guest.deliver(&mut Frame::from_octets(&octets)).unwrap();
            let chains = guest.receiver.collect();
            let (last, full) = chains.split_last().unwrap();
            assert!(full.iter().all(|used| used.len == 64));
            let mut whole = vec![];
            for used in &chains {
                let held = ram.octets(buffer(used.id as u16), 500);
                let (written, rest) = held.split_at(used.len as usize);
                whole.extend_from_slice(written);
                assert!(rest.iter().all(|octet| *octet == FILL));
                guest.receiver.offer(used.id as u16);
            }
            assert_eq!(whole[12..], octets);
            assert_eq!(whole[10..12], (chains.len() as u16).to_le_bytes());
            assert!(last.len > 0);
            chains.len()
        });
    });
}

#[test]
fn a_receive_buffer_that_flips_its_place_is_written_in_one_of_them() {
    let mut guest = Guest::new(VERSION_1);
    let ram = guest.ram.clone();
    let places = [BUFFERS, BUFFERS + 0x1000, SEAM - 200];
    guest.receiver.describe(0, from_tuple((places[0], 500, WRITE, 0)));
    let desc = guest.receiver.desc;
    let octets = opaque(400);
    while_flipping(
        |turn| ram.store(desc, places[turn as usize % 3]),
        || {
            sees_only(0..3, || {
                for place in places {
                    ram.put(place, &[FILL; 500]);
                }
                guest.receiver.offer(0);
                guest.deliver(&mut Frame::from_octets(&octets)).unwrap();
                assert_eq!(guest.receiver.collect()[0].len, 412);
                let is_kept = |place: &u64| ram.octets(*place, 500) == [FILL; 500];
                assert_eq!(places.iter().filter(|place| is_kept(place)).count(), 2);
                let written = places.iter().position(|place| !is_kept(place)).unwrap();
                assert_eq!(ram.octets(places[written] + 12, 400), octets);
                written
            });
        },
    );
    ram.assert_guards();
}
