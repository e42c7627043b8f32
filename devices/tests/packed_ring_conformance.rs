//! What virtio asks of a device's packed rings, clause by clause (virtio 1.3, 2.8).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::driver::{Descriptor, INDIRECT, NEXT, Part, Used, WRITE, readable, writable};
use common::frames::pattern;
use common::packed::{
    AVAIL, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, FIRST, PackedDriver, Place, USED, step,
};
use common::ram::{PATCHWORK, Ram, SEAM, contents};
use common::rendezvous::one_side_sees_the_other;
use common::within;
use devices::memory::DirtyLog;
use devices::ring::{
    Chain, ChainId, LOOKAHEAD, MAX_CHAIN_BUFFERS, MAX_QUEUE_SIZE, PackedRing, RingConfig, RingError,
};
use vmm_sys_util::eventfd::EventFd;

const RING: u64 = 0x1000;
const TABLE: u64 = 0x1_f001;
const BUFFERS: u64 = 0x10_0000;
const SIZES: [u16; 8] = [1, 2, 3, 5, 8, 64, 100, 255];

fn ring_of(size: u16) -> PackedDriver {
    PackedDriver::new(&Ram::new(PATCHWORK), size, RING)
}

fn take(ring: &mut PackedRing) -> Chain {
    let mut chain = Chain::default();
    assert!(ring.take(&mut chain).unwrap(), "a chain is waiting");
    chain
}

fn nothing_to_take(ring: &mut PackedRing) -> bool {
    !ring.take(&mut Chain::default()).unwrap()
}

fn used(id: u16, len: u32) -> Used {
    Used { id: id.into(), len }
}

/// Has `count` chains used, and says whether the driver is to be notified.
fn use_chains(driver: &mut PackedDriver, ring: &mut PackedRing, count: u16) -> bool {
    for _ in 0..count {
        driver.post(&[readable(BUFFERS, 1)]);
        let chain = take(ring).id;
        ring.complete(chain, 0);
    }
    let notify = ring.publish();
    assert_eq!(driver.collect().len(), usize::from(count));
    notify
}

/// Every place of a ring of that size.
fn places(size: u16) -> impl Iterator<Item = Place> {
    (0..2 * size).map(move |count| step(step(FIRST, count / 2, size), count - count / 2, size))
}

/// A ring that went through its first notification, which has a rule of its own, and stands at `place`.
fn settled(ram: &Arc<Ram>, size: u16, event_idx: bool, place: Place) -> (PackedDriver, PackedRing) {
    let mut driver = PackedDriver::new(ram, size, RING);
    let before = places(size).find(|before| step(*before, 1, size) == place);
    driver.resume_at(before.unwrap());
    let mut ring = driver.start(event_idx);
    use_chains(&mut driver, &mut ring, 1);
    assert_eq!(driver.next, place);
    (driver, ring)
}

/// A message in pieces that lie anywhere, in no order, one of them across two regions.
fn scatter(ram: &Ram, message: &[u8], piece: usize) -> Vec<Part> {
    let place = |index: u64| match index % 3 {
        _ if index == 0 => SEAM - 1,
        1 => 0x1_0000_0000 + index * 0x101,
        _ => 0x11_0000 - index * 0x103,
    };
    let pieces = message.chunks(piece).enumerate();
    pieces
        .map(|(index, octets)| {
            let at = place(index as u64);
            ram.put(at, octets);
            readable(at, octets.len() as u32)
        })
        .collect()
}

#[test]
fn p01_chains_are_taken_in_ring_order() {
    for size in SIZES {
        let mut driver = ring_of(size);
        let mut ring = driver.start(false);
        let mut count = 0u64;
        // Batches of all lengths, over the end of the ring and over both of its rounds.
        for batch in (1..=size.min(20)).cycle().take(100) {
            let ids: Vec<u16> = (0..u64::from(batch))
                .map(|n| driver.post(&[readable(BUFFERS + (count + n) % 1000, 1)]))
                .collect();
            for (n, id) in ids.iter().enumerate() {
                let chain = take(&mut ring);
                assert_eq!(chain.readable()[0].guest, BUFFERS + (count + n as u64) % 1000);
                assert_eq!(chain.id, ChainId::new(*id, 1));
                ring.complete(chain.id, 0);
            }
            assert!(nothing_to_take(&mut ring));
            ring.publish();
            let back: Vec<u32> = driver.collect().iter().map(|used| used.id).collect();
            assert_eq!(back, ids.iter().map(|id| u32::from(*id)).collect::<Vec<_>>());
            count += u64::from(batch);
        }
        driver.ram.assert_guards();
    }
}

#[test]
fn p02_nothing_is_used_before_it_is_published_and_then_all_is() {
    for place in places(7) {
        let mut driver = ring_of(7);
        driver.resume_at(place);
        let mut ring = driver.start(false);
        let ids: Vec<u16> = (0..3)
            .map(|n| {
                driver.post(&[
                    writable(BUFFERS + 100 * n, 50),
                    writable(BUFFERS + 100 * n + 50, 50),
                ])
            })
            .collect();
        let before = driver.ram.snapshot();
        for n in 0..3 {
            let chain = take(&mut ring).id;
            ring.complete(chain, 0x0102_0300 + n);
        }
        driver.ram.assert_kept(&before, &[]);
        ring.publish();
        // Of each list the first descriptor only, and not its address; and where the device stands.
        let mut written = vec![driver.device_area_range()];
        written.extend([0, 2, 4].map(|offset| {
            let range = driver.descriptor_range(step(place, offset, 7));
            range.start + 8..range.end
        }));
        driver.ram.assert_kept(&before, &written);
        let expected: Vec<Used> = (0..3).map(|n| used(ids[n], 0x0102_0300 + n as u32)).collect();
        assert_eq!(driver.collect(), expected);
        assert_eq!(driver.next_used, driver.next);
    }
}

/// virtio 1.3, 2.8.9: the buffers of one frame. The last of them is what the driver looks at next to the first.
#[test]
fn p02_a_driver_on_another_cpu_never_sees_a_part_of_what_is_published_together() {
    const BATCHES: u32 = 3000;
    const BATCH: u16 = 200;
    within(Duration::from_secs(60), || {
        let driver = ring_of(256);
        let mut ring = driver.start(false);
        let seen = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for batch in 0..BATCHES {
                    while seen.load(Ordering::SeqCst) < batch {
                        std::thread::yield_now();
                    }
                    for n in 0..BATCH {
                        ring.complete(ChainId::new(n, 1), batch + 1);
                    }
                    ring.publish();
                }
            });
            let is_used = |place: Place| {
                let flags: u16 = driver.ram.load(driver.flags_at(place));
                let wrap = place & FIRST != 0;
                (flags & AVAIL != 0, flags & USED != 0) == (wrap, wrap)
            };
            let mut place = FIRST;
            for batch in 0..BATCHES {
                let last = step(place, BATCH - 1, 256);
                let start = Instant::now();
                while !is_used(place) {
                    if start.elapsed() > Duration::from_millis(1) {
                        std::thread::yield_now();
                    }
                }
                assert!(is_used(last));
                for n in [BATCH - 1, 0, BATCH / 2] {
                    let at = driver.descriptor_range(step(place, n, 256)).start;
                    let seen: (u32, u16) = (driver.ram.read(at + 8), driver.ram.read(at + 12));
                    assert_eq!(seen, (batch + 1, n));
                }
                place = step(last, 1, 256);
                seen.store(batch + 1, Ordering::SeqCst);
            }
        });
    });
}

#[test]
fn p03_buffers_tables_and_the_drivers_area_are_not_written() {
    for in_order in [false, true] {
        let mut driver = ring_of(6);
        driver.in_order = in_order;
        driver.ram.put(BUFFERS, &pattern(4000));
        let mut ring = driver.start(true);
        driver.post(&[readable(BUFFERS, 100), writable(BUFFERS + 100, 100)]);
        driver.post_indirect(
            TABLE,
            &[
                readable(BUFFERS, 100),
                writable(SEAM - 9, 90),
                writable(BUFFERS, 8),
            ],
            WRITE,
        );
        let before = driver.ram.snapshot();
        for _ in 0..2 {
            let chain = take(&mut ring).id;
            ring.complete(chain, 7);
        }
        ring.publish();
        ring.suppress_kicks();
        ring.request_kicks();
        driver
            .ram
            .assert_kept(&before, &[driver.ring_range(), driver.device_area_range()]);
        assert_eq!(driver.collect().len(), 2);
    }
}

#[test]
fn p03_writable_buffers_are_not_read() {
    let mut driver = ring_of(16);
    for n in 0..8 {
        driver.post(&[writable(BUFFERS + 0x8000 * n, 0x4000)]);
    }
    let mut ring = driver.start(false);
    let before = driver.ram.touched_pages();
    assert_eq!(ring.prepare(LOOKAHEAD), Ok(8));
    for _ in 0..8 {
        let chain = take(&mut ring).id;
        ring.complete(chain, 1);
    }
    ring.publish();
    assert_eq!(driver.ram.touched_pages(), before);
}

#[test]
fn p04_a_descriptor_is_taken_when_its_flags_say_so_in_this_round_and_not_before() {
    for place in places(3) {
        for flags in [0, AVAIL, USED, AVAIL | USED] {
            let mut driver = ring_of(3);
            driver.resume_at(place);
            let mut ring = driver.start(false);
            assert!(nothing_to_take(&mut ring), "everything was used");
            let descriptor = Descriptor {
                address: BUFFERS,
                len: 10,
                flags,
                next: 1,
            };
            driver.describe_at(driver.descriptor_range(place).start, descriptor);
            let is_available = flags == PackedDriver::available(place);
            assert_eq!(
                nothing_to_take(&mut ring),
                !is_available,
                "{flags:#x} at {place:#x}"
            );
        }
    }
}

/// The first descriptor of a list is made available after the others: until then none of them is.
#[test]
fn p04_a_list_is_not_looked_at_before_its_first_descriptor_is_available() {
    let mut driver = ring_of(8);
    let mut ring = driver.start(false);
    driver.post(&[
        readable(BUFFERS, 1),
        readable(BUFFERS + 1, 2),
        readable(BUFFERS + 3, 3),
    ]);
    let whole: u16 = driver.ram.load(driver.flags_at(0));
    driver.ram.store(driver.flags_at(0), 0u16);
    assert_eq!(ring.prepare(LOOKAHEAD), Ok(0));
    assert!(nothing_to_take(&mut ring) && !ring.ever_filled());
    driver.ram.store(driver.flags_at(0), whole);
    assert_eq!(take(&mut ring).readable_len(), 6);
}

/// What was taken is the device's until it gives it back, whatever the driver writes there meanwhile.
#[test]
fn p04_no_more_is_taken_than_the_ring_holds() {
    for size in SIZES {
        let mut driver = ring_of(size);
        let mut ring = driver.start(false);
        let mut taken = 0;
        // Every place of the next round looks available, too.
        for _ in 0..3 * size {
            let descriptor = Descriptor {
                address: BUFFERS,
                len: 1,
                ..Descriptor::default()
            };
            driver.offer(&[descriptor]);
            let mut chain = Chain::default();
            if ring.take(&mut chain).unwrap() {
                ring.complete(chain.id, 0);
                taken += 1;
            }
        }
        assert_eq!(taken, size);
        ring.publish();
        driver.ram.assert_guards();
    }
}

#[test]
fn p05_a_used_descriptor_is_not_changed_again() {
    for in_order in [false, true] {
        let mut driver = ring_of(16);
        driver.in_order = in_order;
        let mut ring = driver.start(false);
        for batch in 1..=4u16 {
            for _ in 0..batch {
                driver.post(&[writable(BUFFERS, 9)]);
            }
            let before = driver.ram.snapshot();
            let first = driver.next_used;
            for n in 0..batch {
                let chain = take(&mut ring).id;
                ring.complete(chain, u32::from(n + 1));
            }
            ring.publish();
            let fresh =
                driver.descriptor_range(first).start..driver.descriptor_range(step(first, batch, 16)).start;
            let written = [fresh, driver.device_area_range()];
            driver.ram.assert_kept(&before, &written);
            assert_eq!(driver.collect().len(), usize::from(batch));
            let before = driver.ram.snapshot();
            assert!(!ring.publish(), "nothing was used");
            driver.ram.assert_kept(&before, &[]);
        }
    }
}

#[test]
fn p06_lists_and_tables_are_read_in_their_order() {
    let message = pattern(200);
    for piece in [1, 2, 7, 10, 12, 64, 199, 200] {
        for (place, is_indirect) in [0, 100, 255]
            .into_iter()
            .flat_map(|place| [(place, false), (place, true)])
        {
            let mut driver = ring_of(256);
            driver.resume_at(place);
            let parts = scatter(&driver.ram, &message, piece);
            let id = match is_indirect {
                false => driver.post(&parts),
                true => driver.post_indirect(TABLE, &parts, 0),
            };
            let follower = driver.post(&[writable(BUFFERS, 1)]);
            let mut ring = driver.start(false);
            let chain = take(&mut ring);
            assert_eq!(contents(chain.readable()), message, "pieces of {piece}");
            assert_eq!((chain.readable_len(), chain.writable_len()), (200, 0));
            let slots = if is_indirect { 1 } else { parts.len() as u16 };
            assert_eq!(chain.id, ChainId::new(id, slots));
            assert_eq!(take(&mut ring).id.id(), follower);
        }
    }
}

#[test]
fn p06_of_the_flags_in_a_table_only_write_has_a_meaning() {
    for flags in [0, NEXT, INDIRECT, AVAIL, USED, !WRITE] {
        for own in [0, WRITE] {
            let mut driver = ring_of(4);
            driver.ram.put(BUFFERS, &pattern(30));
            let parts = [readable(BUFFERS, 30), writable(BUFFERS + 30, 9)];
            driver.post_indirect(TABLE, &parts, own);
            driver.write_table(TABLE, &parts, flags);
            let chain = take(&mut driver.start(false));
            assert_eq!(contents(chain.readable()), pattern(30));
            assert_eq!(chain.writable_len(), 9);
        }
    }
}

#[test]
fn p06_in_a_table_of_a_transmit_queue_not_even_write_has_a_meaning() {
    let mut driver = ring_of(4);
    driver.ram.put(BUFFERS, &pattern(30));
    // As DPDK's driver has it: the header writable, the frame readable.
    let parts = [writable(BUFFERS, 12), readable(BUFFERS + 12, 18)];
    driver.post_indirect(TABLE, &parts, 0);
    let start = |only_reads| {
        let config = RingConfig {
            only_reads,
            ..driver.config(false)
        };
        PackedRing::start(&config, driver.ram.device(), None).unwrap()
    };
    let chain = take(&mut start(true));
    assert_eq!(contents(chain.readable()), pattern(30));
    assert!(chain.writable().is_empty());
    let refused = start(false).take(&mut Chain::default());
    assert_eq!(refused, Err(RingError::ReadableAfterWritable));
}

#[test]
fn p07_chains_are_taken_up_to_the_limit_and_refused_beyond() {
    let parts: Vec<Part> = (0..=MAX_CHAIN_BUFFERS as u64)
        .map(|n| writable(BUFFERS + n, 1))
        .collect();
    for is_indirect in [false, true] {
        let attempt = |count: usize| {
            let mut driver = PackedDriver::new(&Ram::new(PATCHWORK), 2000, 0x10_8000);
            // Over the end of the ring.
            driver.resume_at(1500);
            match is_indirect {
                false => driver.post(&parts[..count]),
                true => driver.post_indirect(TABLE - 0x7000, &parts[..count], 0),
            };
            let mut chain = Chain::default();
            let taken = driver.start(false).take(&mut chain);
            taken.map(|taken| (taken, chain.writable_len()))
        };
        assert_eq!(attempt(MAX_CHAIN_BUFFERS), Ok((true, MAX_CHAIN_BUFFERS as u64)));
        assert_eq!(attempt(MAX_CHAIN_BUFFERS + 1), Err(RingError::TooManyBuffers));
    }
}

#[test]
fn p07_a_list_may_take_up_the_whole_ring_and_no_more() {
    for size in SIZES {
        for place in [FIRST, 0, FIRST | (size - 1), size - 1] {
            let mut driver = ring_of(size);
            driver.resume_at(place);
            let mut ring = driver.start(false);
            let parts: Vec<Part> = (0..u64::from(size)).map(|n| writable(BUFFERS + n, 1)).collect();
            for _ in 0..5 {
                let id = driver.post(&parts);
                let chain = take(&mut ring);
                assert_eq!(chain.id, ChainId::new(id, size));
                assert_eq!(chain.writable_len(), u64::from(size));
                ring.complete(chain.id, 3);
                ring.publish();
                assert_eq!(driver.collect(), [used(id, 3)]);
            }
            let endless = Descriptor {
                address: BUFFERS,
                len: 1,
                flags: NEXT,
                next: 0,
            };
            driver.offer(&vec![endless; size.into()]);
            assert_eq!(ring.take(&mut Chain::default()), Err(RingError::Loop));
        }
    }
}

#[test]
fn p07_a_list_that_goes_on_where_nothing_is_available_is_refused() {
    for count in 1..8 {
        let mut driver = ring_of(8);
        let endless = Descriptor {
            address: BUFFERS,
            len: 1,
            flags: NEXT,
            next: 0,
        };
        driver.offer(&vec![endless; count]);
        let mut ring = driver.start(false);
        assert_eq!(ring.take(&mut Chain::default()), Err(RingError::Unfinished));
    }
}

#[test]
fn lists_that_mix_kinds_are_refused() {
    let direct = |flags| Descriptor {
        address: BUFFERS,
        len: 16,
        flags,
        next: 0,
    };
    for list in [
        vec![direct(NEXT), direct(INDIRECT)],
        vec![direct(NEXT), direct(INDIRECT | NEXT), direct(0)],
        vec![direct(INDIRECT | NEXT), direct(0)],
    ] {
        let mut driver = ring_of(8);
        driver.offer(&list);
        let taken = driver.start(false).take(&mut Chain::default());
        assert_eq!(taken, Err(RingError::IndirectNext));
    }
}

#[test]
fn p08_a_driver_that_wants_no_notification_gets_none() {
    for event_idx in [false, true] {
        let mut driver = ring_of(9);
        driver.set_event(0, EVENT_DISABLE);
        let mut ring = driver.start(event_idx);
        for count in 1..=9 {
            assert!(!use_chains(&mut driver, &mut ring, count));
        }
    }
}

#[test]
fn p08_a_driver_that_wants_notifications_gets_one_for_each_step() {
    for event_idx in [false, true] {
        let mut driver = ring_of(9);
        let mut ring = driver.start(event_idx);
        for count in 1..=9 {
            // The place has no meaning here, and bits that are reserved have none at all.
            driver.set_event(0x7777 * (count % 2), EVENT_ENABLE | (0xfffc * (count % 2)));
            assert!(use_chains(&mut driver, &mut ring, count));
        }
        assert!(!ring.publish(), "nothing was used");
        driver.set_event(0, EVENT_DISABLE);
        assert!(!use_chains(&mut driver, &mut ring, 1));
        driver.set_event(0, EVENT_ENABLE);
        assert!(use_chains(&mut driver, &mut ring, 1));
    }
}

#[test]
fn p08_a_place_is_told_once_it_is_passed_and_only_with_event_idx() {
    let ram = Ram::new(PATCHWORK);
    for event_idx in [true, false] {
        for in_order in [false, true] {
            for place in places(5) {
                for event in places(5) {
                    for count in 1..=5 {
                        let (mut driver, mut ring) = settled(&ram, 5, event_idx, place);
                        driver.in_order = in_order;
                        driver.set_event(event, EVENT_DESC);
                        let notify = use_chains(&mut driver, &mut ring, count);
                        let passed = driver.passes(place, step(place, count, 5), event);
                        assert_eq!(notify, passed || !event_idx, "{place:x} + {count}, {event:x}");
                        ram.assert_guards();
                    }
                }
            }
        }
    }
}

#[test]
fn p08_a_place_in_the_middle_of_a_list_or_a_batch_is_passed_with_it() {
    for in_order in [false, true] {
        for offset in 0..8 {
            let mut driver = ring_of(10);
            driver.in_order = in_order;
            let mut ring = driver.start(true);
            use_chains(&mut driver, &mut ring, 1);
            driver.set_event(step(driver.next, offset, 10), EVENT_DESC);
            for _ in 0..3 {
                driver.post(&[readable(BUFFERS, 1), readable(BUFFERS, 1)]);
                let chain = take(&mut ring).id;
                ring.complete(chain, 0);
            }
            assert_eq!(ring.publish(), offset < 6);
        }
    }
}

/// The place may be one that the device before this one already answered.
#[test]
fn p08_the_first_step_after_a_start_is_told_whatever_the_place_says() {
    let mut driver = ring_of(8);
    driver.set_event(7, EVENT_DESC);
    let mut ring = driver.start(true);
    assert!(!ring.publish(), "nothing was used");
    assert!(use_chains(&mut driver, &mut ring, 1));
    assert!(!use_chains(&mut driver, &mut ring, 1));
}

#[test]
fn p09_kicks_are_asked_for_in_the_devices_area() {
    for event_idx in [false, true] {
        for place in places(6) {
            let mut driver = ring_of(6);
            driver.resume_at(place);
            let mut ring = driver.start(event_idx);
            for _ in 0..4 {
                use_chains(&mut driver, &mut ring, 2);
                let before = driver.ram.snapshot();
                ring.suppress_kicks();
                assert_eq!(driver.device_event(), (driver.next, EVENT_DISABLE));
                assert!(!ring.request_kicks());
                let flags = if event_idx { EVENT_DESC } else { EVENT_ENABLE };
                assert_eq!(driver.device_event(), (driver.next, flags));
                assert!(driver.must_kick(driver.next, step(driver.next, 1, 6), event_idx));
                driver.ram.assert_kept(&before, &[driver.device_area_range()]);
            }
        }
    }
}

#[test]
fn p09_kicks_that_come_while_they_are_asked_for_are_not_missed() {
    for event_idx in [false, true] {
        for place in places(5) {
            let mut driver = ring_of(5);
            driver.resume_at(place);
            let mut ring = driver.start(event_idx);
            assert!(!ring.request_kicks());
            driver.post(&[readable(BUFFERS, 1)]);
            assert!(ring.request_kicks(), "a chain is waiting");
            assert_eq!(ring.prepare(LOOKAHEAD), Ok(1));
            assert!(ring.request_kicks(), "looked at is waiting");
            take(&mut ring);
            assert!(!ring.request_kicks(), "taken is not waiting");
            let next = step(driver.next, 1, 5);
            assert!(driver.must_kick(driver.next, next, event_idx), "the next one is");
        }
    }
}

#[test]
fn p09_a_kick_for_nothing_does_nothing() {
    let mut driver = ring_of(8);
    let mut ring = driver.start(true);
    use_chains(&mut driver, &mut ring, 5);
    let before = driver.ram.snapshot();
    for _ in 0..3 {
        assert_eq!(ring.prepare(LOOKAHEAD), Ok(0));
        assert!(!ring.publish());
    }
    driver.ram.assert_kept(&before, &[]);
}

#[test]
fn p10_the_next_used_descriptor_is_behind_all_descriptors_of_the_chain() {
    for size in [5, 8, 13] {
        let mut driver = ring_of(size);
        let mut ring = driver.start(false);
        for turn in 0..100u16 {
            let len = turn % size + 1;
            let parts: Vec<Part> = (0..u64::from(len)).map(|n| writable(BUFFERS + n, 1)).collect();
            let is_indirect = turn % 3 == 0;
            let id = match is_indirect {
                false => driver.post(&parts),
                true => driver.post_indirect(TABLE, &parts, 0),
            };
            let chain = take(&mut ring).id;
            // The id is that of the last descriptor; the model gives the others another one.
            assert_eq!(chain.id(), id);
            ring.complete(chain, 1);
            ring.publish();
            // The model knows how many descriptors to skip, and finds no chain unless the device skips as many.
            assert_eq!(driver.collect(), [used(id, 1)]);
        }
    }
}

#[test]
fn p11_in_order_one_used_descriptor_stands_for_a_batch_that_was_only_read() {
    for place in places(9) {
        let mut driver = ring_of(9);
        driver.in_order = true;
        driver.resume_at(place);
        let mut ring = driver.start(false);
        for _ in 0..5 {
            let mut ids = vec![];
            for count in [1, 3, 2] {
                ids.push(driver.post(&vec![readable(BUFFERS, 1); count]));
            }
            let (before, first) = (driver.ram.snapshot(), driver.next_used);
            for _ in 0..3 {
                let chain = take(&mut ring).id;
                ring.complete(chain, 0);
            }
            ring.publish();
            let written = [driver.descriptor_range(first), driver.device_area_range()];
            driver.ram.assert_kept(&before, &written);
            let at = driver.descriptor_range(first).start;
            assert_eq!(driver.ram.read::<u16>(at + 12), ids[2], "the last id");
            assert_eq!(
                driver.collect(),
                [used(ids[0], 0), used(ids[1], 0), used(ids[2], 0)]
            );
            assert_eq!(driver.next_used, driver.next);
        }
    }
}

#[test]
fn p11_in_order_each_buffer_that_was_written_has_its_length() {
    let mut driver = ring_of(9);
    driver.in_order = true;
    let mut ring = driver.start(false);
    for lens in [[1, 2, 3], [0, 2, 0], [7, 0, 0], [0, 0, 9]] {
        let ids = [0; 3].map(|_| driver.post(&[writable(BUFFERS, 10)]));
        for len in lens {
            let chain = take(&mut ring).id;
            ring.complete(chain, len);
        }
        ring.publish();
        let expected = [0, 1, 2].map(|n| used(ids[n], lens[n]));
        assert_eq!(driver.collect(), expected);
    }
}

#[test]
fn work_goes_on_where_the_front_end_says_that_it_was_left() {
    for place in places(7) {
        let mut driver = ring_of(7);
        driver.resume_at(place);
        let ids: Vec<u16> = (0..5).map(|_| driver.post(&[readable(BUFFERS, 1)])).collect();
        driver.next = place;
        let mut first = driver.start(false);
        for _ in 0..2 {
            let chain = take(&mut first).id;
            first.complete(chain, 0);
        }
        first.publish();
        // What was taken and not completed is taken anew.
        take(&mut first);
        let base = first.position();
        let left = u32::from(step(place, 2, 7));
        assert_eq!(base, left | left << 16);
        drop(first);
        let config = RingConfig {
            base,
            ..driver.config(false)
        };
        let mut second = PackedRing::start(&config, driver.ram.device(), None).unwrap();
        assert_eq!(second.position(), base);
        for _ in 2..5 {
            let chain = take(&mut second).id;
            second.complete(chain, 0);
        }
        assert!(nothing_to_take(&mut second));
        second.publish();
        let back: Vec<u32> = driver.collect().iter().map(|used| used.id).collect();
        assert_eq!(back, ids.iter().map(|id| u32::from(*id)).collect::<Vec<_>>());
    }
}

/// A front end that lost its back end gives the base that the rings began with (QEMU).
fn reborn(driver: &PackedDriver, event_idx: bool) -> PackedRing {
    let config = RingConfig {
        base: u32::from(FIRST) << 16 | u32::from(FIRST),
        ..driver.config(event_idx)
    };
    PackedRing::start(&config, driver.ram.device(), None).unwrap()
}

#[test]
fn a_device_that_was_killed_is_followed_by_one_that_goes_on_where_it_was() {
    for size in [2, 7, 64] {
        for event_idx in [false, true] {
            for asleep in [false, true] {
                let mut driver = ring_of(size);
                let mut expected = vec![];
                let mut back = vec![];
                for life in 0..3 * size {
                    let mut ring = reborn(&driver, event_idx);
                    ring.suppress_kicks();
                    let place = driver.next_used;
                    assert_eq!(ring.position() & 0xffff, u32::from(place), "life {life}");
                    let count = life % size + 1;
                    expected.extend((0..count).map(|_| u32::from(driver.post(&[readable(BUFFERS, 1)]))));
                    for _ in 0..count {
                        let chain = take(&mut ring).id;
                        ring.complete(chain, 0);
                    }
                    ring.publish();
                    back.extend(driver.collect().iter().map(|used| used.id));
                    if asleep {
                        ring.request_kicks();
                    }
                    // Some more that it takes, and is killed.
                    if life % 2 == 0 {
                        expected.push(driver.post(&[readable(BUFFERS, 1)]).into());
                        take(&mut ring);
                        drop(ring);
                        let mut next = reborn(&driver, event_idx);
                        let chain = take(&mut next).id;
                        next.complete(chain, 0);
                        next.publish();
                        back.extend(driver.collect().iter().map(|used| used.id));
                    }
                }
                assert_eq!(back, expected);
            }
        }
    }
}

/// Other back ends leave in the area what they last waited for, and hand the ring over with a good base.
#[test]
fn a_base_that_the_descriptors_bear_out_is_not_given_up_for_what_is_in_the_area() {
    for stale in places(7) {
        for filled in 0..=7 {
            let mut driver = ring_of(7);
            let mut ring = driver.start(true);
            use_chains(&mut driver, &mut ring, 4);
            use_chains(&mut driver, &mut ring, 5);
            let base = ring.position();
            drop(ring);
            for _ in 0..filled {
                driver.post(&[readable(BUFFERS, 1)]);
            }
            for flags in [EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC] {
                driver.ram.write(driver.device_area, stale);
                driver.ram.write(driver.device_area + 2, flags);
                let config = RingConfig {
                    base,
                    ..driver.config(true)
                };
                let ring = PackedRing::start(&config, driver.ram.device(), None).unwrap();
                assert_eq!(ring.position(), base, "{stale:#x} {filled}");
            }
        }
    }
}

/// The place that work goes on from after a start with that base, or the refusal.
fn started_at(size: u16, base: u32) -> Result<u32, RingError> {
    let driver = PackedDriver::new(&Ram::new(PATCHWORK), size, BUFFERS);
    let config = RingConfig {
        base,
        ..driver.config(false)
    };
    PackedRing::start(&config, driver.ram.device(), None).map(|ring| ring.position() & 0xffff)
}

#[test]
fn u8_the_base_says_what_was_completed_and_the_beginning_may_be_given_by_half() {
    // A back end before us held three chains back: they are taken anew.
    assert_eq!(started_at(8, 0x8002_8005), Ok(0x8002));
    assert_eq!(started_at(8, 0x8006_0001), Ok(0x8006));
    assert_eq!(started_at(8, 0x0000_0003), Ok(0));
    assert_eq!(started_at(8, 0), Ok(0));
    // DPDK's virtio-user.
    assert_eq!(started_at(8, 1 << 15), Ok(0x8000));
    assert_eq!(started_at(8, 0x8000_8000), Ok(0x8000));
    assert_eq!(started_at(8, 0x8007_8007), Ok(0x8007));
    assert_eq!(started_at(32768, 0xffff_ffff), Ok(0xffff));
}

#[test]
fn u8_a_base_that_is_no_place_in_the_ring_is_refused() {
    for (size, base) in [
        (8, 0x8008_8008u32),
        (8, 0x0000_0008),
        (8, 0x8008_8000),
        (8, 0x8000_8008),
        (1, 0x8001_8001),
        (8, u32::MAX),
        // More taken than the ring has, or more completed than taken.
        (8, 0x8000_0001),
        (8, 0x8003_8001),
    ] {
        assert_eq!(started_at(size, base), Err(RingError::BadBase { base, size }));
    }
}

#[test]
fn a_ring_rewinds_to_where_it_was_marked() {
    for place in places(9) {
        let mut driver = ring_of(9);
        driver.resume_at(place);
        let ids: Vec<u16> = (0..4)
            .map(|_| driver.post(&[writable(BUFFERS, 8), writable(BUFFERS, 8)]))
            .collect();
        driver.next = place;
        let mut ring = driver.start(true);
        let chain = take(&mut ring).id;
        ring.complete(chain, 1);
        let mark = ring.mark();
        for _ in 0..3 {
            let chain = take(&mut ring).id;
            ring.complete(chain, 2);
        }
        ring.rewind(mark);
        let position = u32::from(step(place, 2, 9));
        assert_eq!(ring.position(), position | position << 16);
        assert_eq!(ring.prepare(LOOKAHEAD), Ok(6));
        let again = take(&mut ring).id;
        assert_eq!(again.id(), ids[1]);
        ring.complete(again, 3);
        ring.publish();
        assert_eq!(driver.collect(), [used(ids[0], 1), used(ids[1], 3)]);
    }
}

/// virtio 1.3, 2.8.10.1: the size need not be a power of two.
#[test]
fn every_size_up_to_32768_is_a_size() {
    for size in [1, 2, 3, 7, 63, 64, 65, 100, 255, 1000, 4095, 32767, 32768] {
        let mut driver = PackedDriver::new(&Ram::new(PATCHWORK), size, 0x10_0000);
        let mut ring = driver.start(true);
        for round in 0..3 {
            for n in 0..size {
                driver.post(&[writable(BUFFERS + 0x10_0000 + u64::from(n), 1)]);
            }
            assert_eq!(ring.prepare(LOOKAHEAD), Ok(LOOKAHEAD.min(size.into())));
            let mut ids = vec![];
            for n in 0..size {
                let chain = take(&mut ring);
                assert_eq!(chain.writable()[0].guest, BUFFERS + 0x10_0000 + u64::from(n));
                ring.complete(chain.id, 1);
                ids.push(u32::from(chain.id.id()));
            }
            assert!(nothing_to_take(&mut ring));
            assert!(ring.publish());
            assert_eq!(
                driver.collect().iter().map(|used| used.id).collect::<Vec<_>>(),
                ids
            );
            assert_eq!(driver.next, if round % 2 == 0 { 0 } else { FIRST });
        }
        driver.ram.assert_guards();
    }
    assert_eq!(MAX_QUEUE_SIZE, 32768);
}

#[test]
fn rings_of_no_possible_size_are_refused() {
    let driver = ring_of(8);
    for size in [0, 32769, 65535, 65536, 65544, u32::MAX, 1 << 31] {
        let config = RingConfig {
            size,
            ..driver.config(false)
        };
        let refused = PackedRing::start(&config, driver.ram.device(), None).unwrap_err();
        assert_eq!(refused, RingError::BadPackedSize(size));
    }
}

#[test]
fn rings_that_are_misaligned_or_not_in_one_region_are_refused() {
    let ram = Ram::new(PATCHWORK);
    let good = PackedDriver::new(&ram, 8, 0x1000).config(false);
    let (start, end) = (ram.user(0), ram.user(0x1_0001_000f) + 1);
    let check = |config: RingConfig, part: &'static str, fits: bool| {
        let started = PackedRing::start(&config, ram.device(), None).map(|_| ());
        let expected = if fits {
            Ok(())
        } else {
            Err(RingError::BadAddress(part))
        };
        assert_eq!(started, expected, "{config:x?}");
    };
    for (desc, fits) in [
        (end - 128, true),
        (end - 112, false),
        (start, true),
        (start + 8, false),
        (start.wrapping_sub(16), false),
        (u64::MAX - 15, false),
        (0, false),
    ] {
        check(RingConfig { desc, ..good }, "descriptor ring", fits);
    }
    for (at, fits) in [
        (end - 4, true),
        (end - 3, false),
        (end, false),
        (start + 2, false),
        (u64::MAX - 3, false),
    ] {
        check(
            RingConfig { avail: at, ..good },
            "driver event suppression area",
            fits,
        );
        check(
            RingConfig { used: at, ..good },
            "device event suppression area",
            fits,
        );
    }
}

#[test]
fn a_queue_that_was_filled_once_stays_filled() {
    for size in [1, 3, 8] {
        let mut driver = ring_of(size);
        let mut ring = driver.start(false);
        assert!(!ring.ever_filled());
        driver.post(&[writable(BUFFERS, 1)]);
        assert!(ring.ever_filled());
        driver.next = FIRST;
        let mut driver = ring_of(size);
        let mut ring2 = driver.start(false);
        // Two rounds: the place is the first one again.
        for _ in 0..2 * size {
            use_chains(&mut driver, &mut ring2, 1);
            assert!(ring2.ever_filled());
        }
        assert_eq!(ring2.position(), 0x8000_8000);
        ring.publish();
        driver.resume_at(0);
        assert!(driver.start(false).ever_filled(), "it was, before this start");
    }
}

/// Marks of a log of the first 8 MiB.
struct Pages {
    file: std::fs::File,
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
    fn take(&self) -> Vec<u64> {
        use std::os::unix::fs::FileExt;
        let mut octets = [0; 256];
        self.file.read_exact_at(&mut octets, 0).unwrap();
        self.file.write_all_at(&[0; 256], 0).unwrap();
        let is_marked = |page: &u64| octets[*page as usize / 8] & (1 << (page % 8)) != 0;
        (0..2048).filter(is_marked).collect()
    }
}

/// The descriptors where they are; the device's area where the front end says that it is.
#[test]
fn u7_every_write_to_the_ring_is_logged_and_nothing_else() {
    let ram = Ram::new(PATCHWORK);
    let pages = Pages::new();
    // The second half of the ring is on another page than the first.
    let mut driver = PackedDriver::new(&ram, 512, 0x10_0000);
    (driver.driver_area, driver.device_area) = (0x10_4000, 0x10_5000);
    let config = driver.config(false);
    let mut ring = PackedRing::start(&config, ram.device(), Some(pages.log.clone())).unwrap();
    for _ in 0..257 {
        driver.post(&[readable(0x14_0000, 100)]);
    }
    let use_some = |ring: &mut PackedRing, count| {
        for _ in 0..count {
            let chain = take(ring).id;
            ring.complete(chain, 0);
        }
        assert_eq!(pages.take(), [0; 0], "neither taking nor completing writes");
        ring.publish();
        pages.take()
    };
    assert_eq!(use_some(&mut ring, 1), [0x100, 0x105]);
    assert_eq!(use_some(&mut ring, 255), [0x100, 0x105]);
    assert_eq!(use_some(&mut ring, 1), [0x101, 0x105]);
    ring.suppress_kicks();
    assert_eq!(pages.take(), [0x105]);
    ring.request_kicks();
    assert_eq!(pages.take(), [0x105]);
    driver.collect();
    ring.set_log(None);
    ring.suppress_kicks();
    driver.post(&[readable(0x14_0000, 100)]);
    assert_eq!(use_some(&mut ring, 1), [0; 0], "logging is off");

    let unlogged = RingConfig {
        used_log: None,
        base: ring.position(),
        ..config
    };
    let mut ring = PackedRing::start(&unlogged, ram.device(), Some(pages.log.clone())).unwrap();
    driver.post(&[readable(0x14_0000, 100)]);
    assert_eq!(use_some(&mut ring, 1), [0; 0], "the front end did not ask for it");
}

/// Two sides that sleep whenever they may: one notification that is lost, in either direction, and both sleep for good.
fn sleepers(event_idx: bool, in_order: bool) {
    const CHAINS: u16 = 20_000;
    let [kick, call] = [0; 2].map(|flags| Arc::new(EventFd::new(flags).unwrap()));
    let mut driver = ring_of(3);
    driver.in_order = in_order;
    let mut ring = driver.start(event_idx);
    let (kicked, caller) = (kick.clone(), call.clone());
    let device = move || {
        let mut chain = Chain::default();
        let mut done = 0;
        while done < CHAINS {
            while ring.take(&mut chain).unwrap() {
                ring.complete(chain.id, 0);
                done += 1;
            }
            if ring.publish() {
                caller.write(1).unwrap();
            }
            if done < CHAINS && !ring.request_kicks() {
                kicked.read().unwrap();
                ring.suppress_kicks();
            }
        }
    };
    let device = std::thread::spawn(device);
    for _ in 0..CHAINS {
        let old = driver.next;
        driver.post(&[readable(BUFFERS, 1)]);
        if driver.must_kick(old, driver.next, event_idx) {
            kick.write(1).unwrap();
        }
        while driver.free_slots() == 0 {
            // Asks to be told, looks once more, and sleeps.
            let flags = if event_idx { EVENT_DESC } else { EVENT_ENABLE };
            driver.set_event(driver.next_used, flags);
            if !driver.is_used() {
                call.read().unwrap();
            }
            driver.set_event(0, EVENT_DISABLE);
            driver.collect();
        }
    }
    device.join().unwrap();
}

#[test]
fn no_notification_is_lost_with_flags() {
    within(Duration::from_secs(60), || sleepers(false, false));
    within(Duration::from_secs(60), || sleepers(false, true));
}

#[test]
fn no_notification_is_lost_with_places() {
    within(Duration::from_secs(60), || sleepers(true, false));
    within(Duration::from_secs(60), || sleepers(true, true));
}

/// A ring whose descriptors have an address, and its device.
fn contested(event_idx: bool) -> (PackedDriver, PackedRing) {
    let driver = ring_of(250);
    for index in 0..driver.size {
        driver.ram.write(driver.descriptor_range(index).start, BUFFERS);
    }
    let ring = driver.start(event_idx);
    (driver, ring)
}

/// virtio 1.3, 2.8.21: barriers on the device's side of a kick.
#[test]
fn a_chain_is_seen_or_its_kick_is_asked_for() {
    let forget = |ring: &mut PackedRing| {
        let mut chain = Chain::default();
        if ring.take(&mut chain).unwrap() {
            ring.complete(chain.id, 0);
            ring.publish();
        }
        ring.suppress_kicks();
    };
    let describe = |driver: &mut PackedDriver| {
        let at = driver.descriptor_range(driver.next).start;
        driver.ram.write(at + 8, 1u32);
    };
    for event_idx in [false, true] {
        let offer = move |driver: &mut PackedDriver| {
            let old = driver.next;
            driver
                .ram
                .store(driver.flags_at(old), PackedDriver::available(old));
            driver.next = step(old, 1, driver.size);
            driver.must_kick(old, driver.next, event_idx)
        };
        within(Duration::from_secs(60), move || {
            let sides = contested(event_idx);
            one_side_sees_the_other(sides, forget, PackedRing::request_kicks, describe, offer);
        });
    }
}

/// virtio 1.3, 2.8.22: barriers on the device's side of a notification.
#[test]
fn a_used_chain_is_seen_or_its_notification_is_sent() {
    let complete = |ring: &mut PackedRing| ring.complete(ChainId::new(0, 1), 0);
    for event_idx in [false, true] {
        let hush = move |driver: &mut PackedDriver| {
            while driver.is_used() {
                driver.next_used = step(driver.next_used, 1, driver.size);
            }
            // What is not to come for two rounds, or nothing.
            let flags = if event_idx { EVENT_DESC } else { EVENT_DISABLE };
            driver.set_event(
                step(driver.next_used ^ FIRST, driver.size - 1, driver.size),
                flags,
            );
        };
        let wish = move |driver: &mut PackedDriver| {
            let flags = if event_idx { EVENT_DESC } else { EVENT_ENABLE };
            driver.set_event(driver.next_used, flags);
            driver.is_used()
        };
        within(Duration::from_secs(60), move || {
            let sides = contested(event_idx);
            one_side_sees_the_other(sides, complete, PackedRing::publish, hush, wish);
        });
    }
}
