//! What drivers of packed rings must not do, done: the ring breaks, and nothing else does.

mod common;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::chaos::{TABLES, TILES, TORN_TABLE, any_descriptor};
use common::driver::{Descriptor, INDIRECT, NEXT, WRITE, readable};
use common::flip::{sees_only, while_flipping};
use common::frames::{opaque, pattern};
use common::guest::{MERGEABLE, RECEIVES_ALL, RING_PACKED, SENDS_ALL, VERSION_1};
use common::packed::{AVAIL, FIRST, PackedDriver, USED};
use common::ram::{PATCHWORK, Ram, contents};
use common::{cases, within};
use devices::guest::{GuestPort, NetFeatures, ReceiveBurst, Transmitted, transmit};
use devices::packet::{Frame, LINEAR_LEN};
use devices::ring::{Chain, ChainId, LOOKAHEAD, MAX_CHAIN_BUFFERS, PackedRing, Ring, RingConfig, RingError};
use proptest::collection::vec;
use proptest::prelude::*;

const RING: u64 = 0x100;
const BUFFERS: u64 = 0x10_0000;
const TABLE: u64 = 0x1_e001;
/// The end of the memory below the hole.
const HOLE: u64 = 0x2_0000;

/// A guest's two queues, of one size, over the same ring memory.
struct Pair {
    ram: Arc<Ram>,
    port: GuestPort,
    driver: PackedDriver,
}

impl Pair {
    /// With rings that are as the memory says, and that stand at the driver's place.
    fn new(ram: &Arc<Ram>, driver: PackedDriver, features: u64, event_idx: bool) -> Pair {
        let port = GuestPort::new(1);
        for queue in port.queues() {
            let mut queue = queue.lock();
            queue.ring = Some(Ring::Packed(driver.start(event_idx)));
            queue.enabled = true;
            queue.features = NetFeatures(features | RING_PACKED);
        }
        let ram = ram.clone();
        Pair { ram, port, driver }
    }

    /// Where the device may write, whatever the driver does.
    fn written(&self) -> [Range<u64>; 2] {
        [self.driver.ring_range(), self.driver.device_area_range()]
    }

    /// Has the device take whatever it takes, and checks that this ends and writes nothing but the ring.
    fn drain(&self) {
        let before = self.ram.snapshot();
        let mut frame = Frame::new();
        let mut queue = self.port.transmit_queue(0).lock();
        let mut slots = 0;
        loop {
            let chain = match transmit(&mut queue, &mut frame, LINEAR_LEN) {
                Transmitted::Nothing | Transmitted::Broken(_) => break,
                Transmitted::Frame(chain)
                | Transmitted::BadOffload(chain, _)
                | Transmitted::TooLong(chain) => chain,
            };
            assert!(frame.tail().len() <= MAX_CHAIN_BUFFERS);
            assert!(chain.slots() > 0);
            slots += chain.slots();
            assert!(slots <= self.driver.size, "more than the ring has room for");
            let ring = queue.ring.as_mut().unwrap();
            ring.complete(chain, 0);
            self.ram.assert_kept(&before, &[]);
        }
        queue.publish();
        if let Some(ring) = &mut queue.ring {
            ring.suppress_kicks();
            ring.request_kicks();
        }
        self.ram.assert_kept(&before, &self.written());
    }

    /// Delivers frames until the ring is broken or there were as many as it has room for.
    fn fill(&self, octets: &[u8]) {
        for _ in 0..4 * self.driver.size {
            let mut burst = ReceiveBurst::open(self.port.receive_queue(0), 1);
            let written = burst.write(&mut Frame::from_octets(octets), &mut Frame::new());
            if written.is_err() {
                break;
            }
        }
        self.ram.assert_guards();
    }
}

/// A descriptor that may break any rule, and is available more often than not.
fn any_packed(place_wraps: bool) -> impl Strategy<Value = Descriptor> {
    let state = prop_oneof![
        8 => Just(if place_wraps { AVAIL } else { USED }),
        1 => prop::sample::select(vec![0, AVAIL, USED, AVAIL | USED]),
    ];
    (any_descriptor(8), state, any::<u16>()).prop_map(|(descriptor, state, id)| Descriptor {
        flags: descriptor.flags & !(AVAIL | USED) | state,
        next: id,
        ..descriptor
    })
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn descriptors_that_keep_to_no_rule_do_no_harm(
        first_round in vec(any_packed(true), 1..12),
        second_round in vec(any_packed(false), 12),
        table in vec(any_packed(true), 8),
        start in 0..12u16,
        wrap: bool,
        event: u32,
        event_idx: bool,
        in_order: bool,
        features in prop::sample::select(vec![0, VERSION_1, VERSION_1 | MERGEABLE | SENDS_ALL | RECEIVES_ALL]),
        len in 14..2000usize,
    ) {
        within(Duration::from_secs(20), move || {
            let ram = Ram::new(TILES);
            let size = first_round.len() as u16;
            let mut driver = PackedDriver::new(&ram, size, RING);
            driver.in_order = in_order;
            let start = start % size;
            driver.next = start | if wrap { FIRST } else { 0 };
            driver.next_used = driver.next;
            ram.store(driver.driver_area, event);
            for index in 0..size {
                // From the start on the descriptors are of one round, before it of the next.
                let round = if (index >= start) == wrap { &first_round } else { &second_round };
                driver.describe_at(driver.descriptor_range(index).start, round[usize::from(index)]);
            }
            for (index, descriptor) in (0..8).zip(&table) {
                driver.describe_at(TABLES + 16 * index, *descriptor);
                driver.describe_at(TORN_TABLE + 16 * index, *descriptor);
            }
            let pair = Pair::new(&ram, driver, features, event_idx);
            pair.drain();
            pair.fill(&opaque(len));
        });
    }

    #[test]
    fn octets_of_any_value_in_the_rings_do_no_harm(
        size in 1..50u16,
        octets in vec(any::<u8>(), 0x400),
        event_idx: bool,
        payload in vec(any::<u8>(), 14..2000),
    ) {
        within(Duration::from_secs(20), move || {
            let ram = Ram::new(TILES);
            ram.put(RING, &octets);
            let driver = PackedDriver::new(&ram, size, RING);
            // Of the flags only those of the first descriptors are such that the rest is looked at.
            for index in 0..size.min(3) {
                let flags: u16 = ram.load(driver.flags_at(index));
                ram.store(driver.flags_at(index), flags & !USED | AVAIL);
            }
            let pair = Pair::new(&ram, driver, VERSION_1 | MERGEABLE | SENDS_ALL, event_idx);
            pair.drain();
            pair.fill(&payload);
        });
    }

    #[test]
    fn a_base_of_any_value_is_a_place_in_the_ring_or_refused(size in 1..=100u16, base in any_base()) {
        let ram = Ram::new(TILES);
        let driver = PackedDriver::new(&ram, size, RING);
        let config = RingConfig { base, ..driver.config(true) };
        match PackedRing::start(&config, ram.device(), None) {
            Ok(mut ring) => {
                prop_assert!(ring.position() & 0x7fff < size.into());
                let _ = ring.ever_filled();
                let _ = ring.prepare(LOOKAHEAD);
                ring.request_kicks();
            }
            Err(error) => prop_assert_eq!(error, RingError::BadBase { base, size }),
        }
        ram.assert_guards();
    }
}

fn any_base() -> impl Strategy<Value = u32> {
    let half = || (0..110u32, any::<bool>()).prop_map(|(index, wrap)| index | u32::from(wrap) << 15);
    prop_oneof![
        any::<u32>(),
        (half(), half()).prop_map(|(low, high)| low | high << 16)
    ]
}

/// Why a transmit queue breaks on these descriptors.
fn broken_by(descriptors: &[Descriptor]) -> RingError {
    let ram = Ram::new(PATCHWORK);
    let mut driver = PackedDriver::new(&ram, 8, 0x1000);
    driver.offer(descriptors);
    let pair = Pair::new(&ram, driver, VERSION_1, false);
    let before = ram.snapshot();
    let mut queue = pair.port.transmit_queue(0).lock();
    let mut frame = Frame::new();
    let Transmitted::Broken(error) = transmit(&mut queue, &mut frame, LINEAR_LEN) else {
        panic!("the ring was not broken");
    };
    assert!(frame.is_empty());
    assert!(queue.ring.is_none());
    assert_eq!(queue.broken, Some(error));
    assert_eq!(queue.base, 0x8000_8000, "nothing was completed");
    ram.assert_kept(&before, &[]);
    error
}

fn descriptor(address: u64, len: u32, flags: u16) -> Descriptor {
    Descriptor {
        address,
        len,
        flags,
        next: 0,
    }
}

#[test]
fn a_driver_that_breaks_a_rule_breaks_its_ring_and_nothing_else() {
    let good = |flags| descriptor(BUFFERS, 20, flags);
    let bad = |address, len| RingError::BadBuffer { address, len };
    for (descriptors, error) in [
        (vec![good(NEXT); 8], RingError::Loop),
        (vec![good(NEXT); 7], RingError::Unfinished),
        (vec![good(NEXT), good(INDIRECT)], RingError::IndirectNext),
        (
            vec![descriptor(TABLE, 16, INDIRECT | NEXT)],
            RingError::IndirectNext,
        ),
        (
            vec![good(WRITE | NEXT), good(0)],
            RingError::ReadableAfterWritable,
        ),
        (vec![good(WRITE)], RingError::WrongDirection),
        (vec![descriptor(BUFFERS, 0, 0)], RingError::EmptyBuffer(BUFFERS)),
        (vec![descriptor(HOLE - 10, 20, 0)], bad(HOLE - 10, 20)),
        (vec![descriptor(u64::MAX - 10, 20, 0)], bad(u64::MAX - 10, 20)),
        (vec![good(NEXT), descriptor(HOLE, 1, 0)], bad(HOLE, 1)),
        (vec![descriptor(HOLE, 32, INDIRECT)], bad(HOLE, 32)),
        (
            vec![descriptor(u64::MAX - 15, 32, INDIRECT)],
            bad(u64::MAX - 15, 32),
        ),
        (vec![descriptor(TABLE, 32, INDIRECT)], RingError::EmptyBuffer(0)),
        (
            vec![descriptor(BUFFERS, u32::MAX, NEXT); 2],
            bad(BUFFERS, u32::MAX),
        ),
    ] {
        assert_eq!(broken_by(&descriptors), error, "{descriptors:x?}");
    }
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
        let table = [descriptor(TABLE, len, INDIRECT)];
        assert_eq!(broken_by(&table), RingError::BadIndirectLength(len));
    }
}

/// The receive buffers are the ring itself: what the device writes is what it reads next.
#[test]
fn receive_buffers_that_lie_over_their_own_ring_harm_nobody_else() {
    within(Duration::from_secs(60), || {
        for octet in 0..=u8::MAX {
            let ram = Ram::new(PATCHWORK);
            let mut driver = PackedDriver::new(&ram, 64, 0x1000);
            let len = 16 * 64 + 8;
            for offset in [0, 12, 14, 16 * 7, 16 * 30 + 2] {
                driver.offer(&[descriptor(0x1000 + offset, len - offset as u32, WRITE)]);
            }
            let pair = Pair::new(&ram, driver, VERSION_1 | MERGEABLE, true);
            pair.fill(&[octet; 1500]);
        }
    });
}

/// Whatever the driver writes over descriptors that the device has, the device gives back what it took.
#[test]
fn descriptors_that_change_after_they_were_looked_at_are_used_as_they_were() {
    let ram = Ram::new(PATCHWORK);
    let mut driver = PackedDriver::new(&ram, 4, 0x1000);
    for n in 0..4 {
        driver.offer(&[Descriptor {
            next: n,
            ..descriptor(BUFFERS + u64::from(n), 1, 0)
        }]);
    }
    let mut ring = driver.start(false);
    assert_eq!(ring.prepare(LOOKAHEAD), Ok(4));
    ram.put(driver.desc, &[0xff; 64]);
    let mut chain = Chain::default();
    for n in 0..4 {
        assert_eq!(ring.take(&mut chain), Ok(true));
        assert_eq!(chain.id, ChainId::new(n, 1));
        assert_eq!(chain.readable()[0].guest, BUFFERS + u64::from(n));
        ring.complete(chain.id, 0);
    }
    assert_eq!(ring.take(&mut chain), Ok(false));
    ring.publish();
    for n in 0..4u16 {
        let at = driver.descriptor_range(n).start;
        assert_eq!(
            ram.read::<u64>(at + 8),
            u64::from(n) << 32 | u64::from(AVAIL | USED) << 48
        );
    }
}

/// A ring of two descriptors, the second of which is available as it is.
fn lone_ring(first: Descriptor) -> (PackedDriver, PackedRing) {
    let ram = Ram::new(PATCHWORK);
    let mut driver = PackedDriver::new(&ram, 2, 0x1000);
    driver.offer(&[first]);
    driver.offer(&[descriptor(BUFFERS + 300, 50, 0)]);
    let ring = driver.start(false);
    (driver, ring)
}

/// Takes the first chain and leaves everything as it was.
fn look_at(ring: &mut PackedRing, chain: &mut Chain) -> Result<bool, RingError> {
    let mark = ring.mark();
    let taken = ring.take(chain);
    ring.rewind(mark);
    taken
}

#[test]
fn a_descriptor_that_flips_between_two_lengths_is_one_of_them() {
    let (driver, mut ring) = lone_ring(descriptor(BUFFERS, 100, 0));
    let (ram, mut chain) = (driver.ram.clone(), Chain::default());
    ram.put(BUFFERS, &pattern(400));
    while_flipping(
        |turn| ram.store(driver.desc + 8, [100u32, 300][turn as usize % 2]),
        || {
            sees_only([100, 300], || {
                assert_eq!(look_at(&mut ring, &mut chain), Ok(true));
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
    let (driver, mut ring) = lone_ring(descriptor(BUFFERS, 100, 0));
    let (ram, mut chain) = (driver.ram.clone(), Chain::default());
    ram.put(BUFFERS, &[1; 100]);
    ram.put(BUFFERS + 0x1000, &[2; 100]);
    let addresses = [BUFFERS, HOLE - 50, BUFFERS + 0x1000, u64::MAX - 50];
    while_flipping(
        |turn| ram.store(driver.desc, addresses[turn as usize % 4]),
        || {
            sees_only([Some(1), Some(2), None], || {
                match look_at(&mut ring, &mut chain) {
                    Ok(true) => {
                        let octets = contents(chain.readable());
                        assert!(octets == [octets[0]; 100]);
                        Some(octets[0])
                    }
                    Err(RingError::BadBuffer { address, len: 100 }) => {
                        assert!(addresses.contains(&address));
                        None
                    }
                    other => panic!("{other:?}"),
                }
            });
        },
    );
    ram.assert_guards();
}

#[test]
fn flags_that_flip_are_those_that_were_looked_at() {
    let (driver, mut ring) = lone_ring(descriptor(BUFFERS, 32, 0));
    let (ram, mut chain) = (driver.ram.clone(), Chain::default());
    // Read as a buffer these are 32 octets; read as a table, two buffers.
    driver.write_table(
        BUFFERS,
        &[readable(BUFFERS + 100, 3), readable(BUFFERS + 200, 4)],
        0,
    );
    let flags = [
        AVAIL,
        AVAIL | NEXT,
        AVAIL | INDIRECT,
        0,
        AVAIL | USED,
        AVAIL | INDIRECT | NEXT,
    ];
    while_flipping(
        |turn| ram.store(driver.flags_at(0), flags[turn as usize % flags.len()]),
        || {
            let buffer = (BUFFERS, 32);
            let expected = [
                Ok((1, vec![buffer])),
                Ok((2, vec![buffer, (BUFFERS + 300, 50)])),
                Ok((1, vec![(BUFFERS + 100, 3), (BUFFERS + 200, 4)])),
                Ok((0, vec![])),
                Err(()),
            ];
            sees_only(expected, || match look_at(&mut ring, &mut chain) {
                Ok(true) => {
                    let buffers = chain.readable().iter();
                    Ok((chain.id.slots(), buffers.map(|it| (it.guest, it.len)).collect()))
                }
                Ok(false) => Ok((0, vec![])),
                Err(error) => {
                    assert_eq!(error, RingError::IndirectNext);
                    Err(())
                }
            });
        },
    );
}

#[test]
fn a_table_that_flips_its_length_is_read_by_one_of_them() {
    let (driver, mut ring) = lone_ring(descriptor(TABLE, 48, INDIRECT));
    let (ram, mut chain) = (driver.ram.clone(), Chain::default());
    let parts = [
        readable(BUFFERS, 10),
        readable(BUFFERS, 20),
        readable(BUFFERS, 40),
    ];
    driver.write_table(TABLE, &parts, 0);
    let lens = [48u32, 32, 0, 40, u32::MAX];
    while_flipping(
        |turn| ram.store(driver.desc + 8, lens[turn as usize % 5]),
        || {
            let refused =
                [0, 40, u32::MAX].map(|len| Err(format!("{:?}", RingError::BadIndirectLength(len))));
            sees_only(refused.into_iter().chain([Ok(30), Ok(70)]), || {
                look_at(&mut ring, &mut chain)
                    .map(|_| chain.readable_len())
                    .map_err(|error| format!("{error:?}"))
            });
        },
    );
}
