//! What virtio asks of a device's split rings, clause by clause (virtio 1.3, 2.7).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::driver::{Descriptor, Driver, Part, Used, WRITE, by_head, readable, writable};
use common::frames::pattern;
use common::guest::{Guest, MERGEABLE, SENDS_ALL, VERSION_1};
use common::ram::{PATCHWORK, Ram, SEAM, contents};
use common::rendezvous::one_side_sees_the_other;
use common::{frames, within};
use devices::Refusal;
use devices::guest::{ReceiveBurst, Transmitted};
use devices::packet::Frame;
use devices::ring::{Chain, LOOKAHEAD, MAX_CHAIN_BUFFERS, MAX_QUEUE_SIZE, RingError, SplitRing};
use vmm_sys_util::eventfd::EventFd;

const RING: u64 = 0x1000;
const TABLE: u64 = 0x1_f001;
const BUFFERS: u64 = 0x10_0000;
/// Places where an index is about to do something special.
const INDICES: [u16; 9] = [0, 1, 7, 8, 32767, 32768, 65529, 65534, 65535];

fn ring_of(size: u16) -> Driver {
    Driver::new(&Ram::new(PATCHWORK), size, RING)
}

fn take(ring: &mut SplitRing) -> Chain {
    let mut chain = Chain::default();
    assert!(ring.take(&mut chain).unwrap(), "a chain is waiting");
    chain
}

/// Has `count` chains used, and says whether the driver is to be notified.
fn use_chains(driver: &mut Driver, ring: &mut SplitRing, count: u16) -> bool {
    for _ in 0..count {
        driver.post(&[readable(BUFFERS, 1)]);
        let chain = take(ring).id;
        ring.complete(chain, 0);
    }
    let notify = ring.publish();
    assert_eq!(driver.collect().len(), usize::from(count));
    notify
}

/// A ring that went through its first notification, which has a rule of its own, and stands at `index`.
fn settled(ram: &Arc<Ram>, size: u16, event_idx: bool, index: u16) -> (Driver, SplitRing) {
    let mut driver = Driver::new(ram, size, RING);
    driver.resume_at(index.wrapping_sub(1));
    let mut ring = driver.start(event_idx);
    use_chains(&mut driver, &mut ring, 1);
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
fn s01_no_layout_of_descriptors_is_assumed() {
    let message = pattern(200);
    for piece in [1, 2, 7, 10, 12, 64, 199, 200] {
        let pieces = message.len().div_ceil(piece);
        for direct in [0, 1, 2, pieces / 2, pieces - 1, pieces] {
            let mut driver = ring_of(256);
            let parts = scatter(&driver.ram, &message, piece);
            let (front, back) = parts.split_at(direct.min(pieces));
            let head = if back.is_empty() {
                driver.post(front)
            } else {
                driver.post_indirect(front, TABLE, back, 0)
            };
            let mut ring = driver.start(false);
            let chain = take(&mut ring);
            assert_eq!(chain.id, by_head(head));
            assert_eq!(
                contents(chain.readable()),
                message,
                "pieces of {piece}, {direct} direct"
            );
            assert_eq!((chain.readable_len(), chain.writable_len()), (200, 0));
        }
    }
}

#[test]
fn s02_chains_are_taken_up_to_the_limit_and_refused_beyond() {
    let parts: Vec<Part> = (0..=MAX_CHAIN_BUFFERS as u64)
        .map(|n| writable(BUFFERS + n, 1))
        .collect();
    for direct in [0, 1, 1000, MAX_CHAIN_BUFFERS] {
        let attempt = |count: usize| {
            let mut driver = Driver::new(&Ram::new(PATCHWORK), 2048, 0x10_8000);
            match parts[..count].split_at(direct) {
                (front, []) => driver.post(front),
                (front, back) => driver.post_indirect(front, TABLE - 0x7000, back, 0),
            };
            let mut chain = Chain::default();
            driver.start(false).take(&mut chain).map(|taken| {
                assert!(taken);
                chain.writable_len()
            })
        };
        assert_eq!(attempt(MAX_CHAIN_BUFFERS), Ok(MAX_CHAIN_BUFFERS as u64));
        assert_eq!(attempt(MAX_CHAIN_BUFFERS + 1), Err(RingError::TooManyBuffers));
    }
}

#[test]
fn s03_readable_buffers_are_never_written() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE | SENDS_ALL);
    let mut octets = frames::tcp4(900);
    let header = frames::without_checksum(&mut octets);
    let sent = [&header.emit()[..], &octets].concat();
    guest.send_cut(&sent, &[5, 12, 300]);
    // A driver that offers readable buffers to be received into has no right to be received into.
    guest
        .receiver
        .post(&[readable(BUFFERS, 100), writable(BUFFERS + 100, 2000)]);
    guest.ram.put(BUFFERS, &pattern(2100));

    let before = guest.ram.snapshot();
    let mut frame = Frame::new();
    let Transmitted::Frame(head) = guest.transmit(&mut frame) else {
        panic!("the frame is good");
    };
    // Completing the checksum changes the frame, and must not change what the sender holds.
    devices::packet::complete_checksum(&mut frame).unwrap();
    assert_eq!(guest.deliver(&mut frame), Err(Refusal::Malformed));
    guest.complete(head);
    assert_eq!(
        guest.sender.collect(),
        [Used {
            id: head.id().into(),
            len: 0
        }]
    );
    guest.ram.assert_kept(&before, &[guest.sender.used_range()]);
}

#[test]
fn s04_writable_buffers_are_not_read() {
    let mut guest = Guest::new(VERSION_1);
    for _ in 0..8 {
        guest.post_parts(&[0x4000, 0x4000]);
    }
    let before = guest.ram.touched_pages();
    guest
        .deliver(&mut Frame::from_octets(&frames::opaque(1000)))
        .unwrap();
    // The pages of the buffers do not exist until someone reads or writes them: 1012 octets lie in one page or two.
    assert!((1..=2).contains(&(guest.ram.touched_pages() - before)));
}

#[test]
fn s05_descriptor_tables_are_never_written() {
    let mut guest = Guest::new(VERSION_1 | MERGEABLE);
    let front = [writable(BUFFERS, 50)];
    let back = [writable(BUFFERS + 100, 20), writable(SEAM - 9, 90)];
    guest.receiver.post_indirect(&front, TABLE, &back, WRITE);
    guest.receiver.post(&[writable(BUFFERS + 4000, 5000)]);
    let sent = guest.place(&[0; 12 + 400], &[100]);
    guest
        .sender
        .post_indirect(&sent[..1], TABLE + 0x100, &sent[1..], 0);

    let before = guest.ram.snapshot();
    let mut frame = Frame::new();
    let Transmitted::Frame(head) = guest.transmit(&mut frame) else {
        panic!("the frame is good");
    };
    guest.deliver(&mut frame).unwrap();
    guest.complete(head);
    assert_eq!(guest.receiver.collect().len(), 2);
    let written = |part: &Part| part.address..part.address + u64::from(part.len);
    let mut allowed = vec![guest.receiver.used_range(), guest.sender.used_range()];
    allowed.extend(front.iter().chain(&back).map(written));
    allowed.push(BUFFERS + 4000..BUFFERS + 9000);
    guest.ram.assert_kept(&before, &allowed);
}

#[test]
fn s06_the_write_flag_of_an_indirect_descriptor_means_nothing() {
    for flags in [0, WRITE] {
        let mut driver = ring_of(4);
        driver.ram.put(BUFFERS, &pattern(30));
        driver.post_indirect(
            &[],
            TABLE,
            &[readable(BUFFERS, 30), writable(BUFFERS + 30, 9)],
            flags,
        );
        let chain = take(&mut driver.start(false));
        assert_eq!(contents(chain.readable()), pattern(30));
        assert_eq!(chain.writable_len(), 9);
    }
}

#[test]
fn s07_any_number_of_descriptors_may_precede_an_indirect_one() {
    let message = pattern(90);
    for direct in 0..8 {
        let mut driver = ring_of(8);
        let parts = scatter(&driver.ram, &message, 9);
        driver.post_indirect(&parts[..direct], TABLE, &parts[direct..], 0);
        let chain = take(&mut driver.start(false));
        assert_eq!(contents(chain.readable()), message, "{direct} before the table");
    }
}

#[test]
fn s08_used_event_means_nothing_without_event_idx() {
    let ram = Ram::new(PATCHWORK);
    for index in INDICES {
        for event in [
            index.wrapping_sub(1),
            index,
            index.wrapping_add(1),
            index ^ 0x8000,
        ] {
            for flags in [0, 1] {
                let (mut driver, mut ring) = settled(&ram, 8, false, index);
                driver.set_used_event(event);
                driver.set_avail_flags(flags);
                assert_eq!(use_chains(&mut driver, &mut ring, 1), flags == 0);
            }
        }
    }
}

#[test]
fn s09_a_driver_that_wants_no_notification_gets_none() {
    let mut driver = ring_of(8);
    driver.set_avail_flags(1);
    let mut ring = driver.start(false);
    for count in 1..=8 {
        assert!(!use_chains(&mut driver, &mut ring, count));
    }
}

#[test]
fn s10_a_driver_that_wants_notifications_gets_one_for_each_step() {
    let mut driver = ring_of(8);
    let mut ring = driver.start(false);
    for count in 1..=8 {
        // Other flags are nobody's yet.
        driver.set_avail_flags(if count % 2 == 0 { 0xfffe } else { 0 });
        assert!(use_chains(&mut driver, &mut ring, count));
    }
    assert!(!ring.publish(), "nothing was used");
    driver.set_avail_flags(1);
    assert!(!use_chains(&mut driver, &mut ring, 1));
    driver.set_avail_flags(0);
    assert!(use_chains(&mut driver, &mut ring, 1));
}

#[test]
fn s11_the_flag_means_nothing_with_event_idx() {
    let ram = Ram::new(PATCHWORK);
    for flags in [0, 1] {
        let (mut driver, mut ring) = settled(&ram, 8, true, 20);
        driver.set_avail_flags(flags);
        driver.set_used_event(20);
        assert!(use_chains(&mut driver, &mut ring, 1));
        assert!(!use_chains(&mut driver, &mut ring, 1));
    }
}

/// Whether to notify, for each way to go from `index` to `index + count` and each event index near.
fn every_step(mut check: impl FnMut(u16, u16, u16, bool)) {
    let ram = Ram::new(PATCHWORK);
    for index in INDICES {
        for count in 1..=8u16 {
            for event in (0..28).map(|offset| index.wrapping_add(offset).wrapping_sub(10)) {
                let (mut driver, mut ring) = settled(&ram, 8, true, index);
                driver.set_used_event(event);
                let notify = use_chains(&mut driver, &mut ring, count);
                check(index, count, event, notify);
            }
        }
    }
}

/// virtio 1.3, 2.7.7.2: one notification when the element with the event's index is written.
fn crosses(index: u16, count: u16, event: u16) -> bool {
    (0..count).any(|offset| index.wrapping_add(offset) == event)
}

#[test]
fn s12_the_driver_is_notified_when_the_used_index_crosses_its_event() {
    let mut wrapped = 0;
    every_step(|index, count, event, notify| {
        if crosses(index, count, event) {
            assert!(notify, "{index} + {count}, event {event}");
            wrapped += u32::from(index.checked_add(count).is_none());
        }
    });
    assert!(wrapped > 0, "no step went over the end of the index");
}

#[test]
fn s13_the_driver_is_not_notified_otherwise() {
    every_step(|index, count, event, notify| {
        assert!(
            !notify || crosses(index, count, event),
            "{index} + {count}, event {event}"
        );
    });
    let (driver, mut ring) = settled(&Ram::new(PATCHWORK), 8, true, 5);
    driver.set_used_event(4);
    assert!(!ring.publish(), "nothing was used");
}

/// The event index may be one that the device before this one already answered.
#[test]
fn s13_the_first_step_after_a_start_is_told_whatever_the_event_index_says() {
    let mut driver = ring_of(8);
    driver.set_used_event(100);
    let mut ring = driver.start(true);
    assert!(!ring.publish(), "nothing was used");
    assert!(use_chains(&mut driver, &mut ring, 1));
    assert!(!use_chains(&mut driver, &mut ring, 1));
}

#[test]
fn s14_elements_are_complete_before_the_index_tells_of_them() {
    for index in INDICES {
        let mut driver = ring_of(4);
        driver.resume_at(index);
        let mut ring = driver.start(false);
        let heads: Vec<u16> = (0..3).map(|n| driver.post(&[writable(BUFFERS + n, 1)])).collect();
        for head in &heads {
            take(&mut ring);
            ring.complete(by_head(*head), 0x0102_0300 + u32::from(*head));
        }
        assert_eq!(driver.used_index(), index);
        let before = driver.ram.snapshot();
        ring.publish();
        driver.ram.assert_kept(&before, &[driver.used_index_range()]);
        let expected = heads.iter().map(|head| Used {
            id: u32::from(*head),
            len: 0x0102_0300 + u32::from(*head),
        });
        assert_eq!(driver.collect(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn s14_a_driver_on_another_cpu_never_sees_the_index_before_the_element() {
    const CHAINS: u32 = 100_000;
    within(Duration::from_secs(60), || {
        let driver = ring_of(64);
        let mut ring = driver.start(false);
        let seen = AtomicU32::new(0);
        let device = || {
            for count in 0..CHAINS {
                while count - seen.load(Ordering::SeqCst) >= 64 {
                    std::thread::yield_now();
                }
                ring.complete(by_head(count as u16), count + 7);
                if count % 3 == 2 || count == CHAINS - 1 {
                    ring.publish();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(device);
            for count in 0..CHAINS {
                while driver.used_index() == count as u16 {
                    std::thread::yield_now();
                }
                let element = driver.used_element(count as u16).start;
                let (id, len) = (
                    driver.ram.read::<u32>(element),
                    driver.ram.read::<u32>(element + 4),
                );
                assert_eq!((id, len), (count & 0xffff, count + 7));
                seen.store(count + 1, Ordering::SeqCst);
            }
        });
    });
}

#[test]
fn s15_octets_are_in_place_from_the_first_on_before_the_index_tells_of_them() {
    let mut guest = Guest::new(VERSION_1);
    let head = guest.post_parts(&[3, 500, 2000]);
    let octets = frames::opaque(700);
    let whole = [&[0; 10][..], &[1, 0], &octets].concat();
    let mut burst = ReceiveBurst::open(guest.port.receive_queue(0), 1);
    burst
        .write(&mut Frame::from_octets(&octets), &mut Frame::new())
        .unwrap();

    let [a, b, c] = guest.posted(head) else {
        panic!("three parts were posted");
    };
    let written = [
        guest.ram.octets(a.address, 3),
        guest.ram.octets(b.address, 500),
        guest.ram.octets(c.address, whole.len() - 503),
    ];
    assert_eq!(written.concat(), whole);
    assert_eq!(
        guest.ram.read::<u32>(guest.receiver.used_element(0).start + 4),
        712
    );
    assert_eq!(guest.receiver.used_index(), 0, "not yet");
    drop(burst);
    assert_eq!(guest.receiver.used_index(), 1);
}

#[test]
fn s16_kicks_are_asked_for_by_the_flag_without_event_idx() {
    let mut driver = ring_of(8);
    let mut ring = driver.start(false);
    use_chains(&mut driver, &mut ring, 3);
    let before = driver.ram.snapshot();
    ring.suppress_kicks();
    assert_eq!(driver.used_flags(), 1);
    ring.suppress_kicks();
    assert_eq!(driver.used_flags(), 1);
    assert!(!ring.request_kicks());
    assert_eq!(driver.used_flags(), 0);
    ring.suppress_kicks();
    driver.ram.assert_kept(&before, &[driver.used_flags_range()]);
}

#[test]
fn s17_kicks_are_asked_for_by_the_event_index_with_event_idx() {
    for index in INDICES {
        let mut driver = ring_of(8);
        driver.resume_at(index);
        let mut ring = driver.start(true);
        for step in 0..4u16 {
            use_chains(&mut driver, &mut ring, 2);
            let before = driver.ram.snapshot();
            ring.suppress_kicks();
            driver.ram.assert_kept(&before, &[]);
            assert!(!ring.request_kicks());
            assert_eq!(driver.avail_event(), index.wrapping_add(2 * step + 2));
            assert_eq!(driver.used_flags(), 0);
            driver.ram.assert_kept(&before, &[driver.avail_event_range()]);
        }
    }
}

#[test]
fn s18_a_kick_for_nothing_does_nothing() {
    for event_idx in [false, true] {
        let mut driver = ring_of(8);
        let mut ring = driver.start(event_idx);
        use_chains(&mut driver, &mut ring, 5);
        let before = driver.ram.snapshot();
        for _ in 0..3 {
            assert_eq!(ring.prepare(LOOKAHEAD), Ok(0));
            assert!(!ring.publish());
        }
        driver.ram.assert_kept(&before, &[]);
    }
    let guest = Guest::new(VERSION_1);
    let before = guest.ram.snapshot();
    for _ in 0..3 {
        assert_eq!(guest.transmit(&mut Frame::new()), Transmitted::Nothing);
    }
    guest.ram.assert_kept(&before, &[]);
    assert_eq!((guest.calls(), guest.errors()), (0, 0));
}

#[test]
fn kicks_that_come_while_they_are_asked_for_are_not_missed() {
    for event_idx in [false, true] {
        for index in INDICES {
            let mut driver = ring_of(8);
            driver.resume_at(index);
            let mut ring = driver.start(event_idx);
            assert!(!ring.request_kicks());
            driver.post(&[readable(BUFFERS, 1)]);
            assert!(ring.request_kicks(), "a chain is waiting");
            take(&mut ring);
            assert!(!ring.request_kicks(), "taken is not waiting");
        }
    }
}

#[test]
fn work_goes_on_where_the_used_index_says_that_it_was_left() {
    for index in INDICES {
        let mut driver = ring_of(8);
        driver.resume_at(index);
        let heads: Vec<u16> = (0..5).map(|_| driver.post(&[readable(BUFFERS, 1)])).collect();
        let mut first = driver.start(false);
        for head in &heads[..2] {
            assert_eq!(take(&mut first).id, by_head(*head));
            first.complete(by_head(*head), 0);
        }
        first.publish();
        // Neither taken nor completed chains count that the driver was not told of.
        take(&mut first);
        first.complete(by_head(heads[2]), 0);
        drop(first);

        let mut second = driver.start(false);
        assert_eq!(second.next_avail(), index.wrapping_add(2));
        assert_eq!(second.prepare(LOOKAHEAD), Ok(3));
        for head in &heads[2..] {
            assert_eq!(take(&mut second).id, by_head(*head));
            second.complete(by_head(*head), 0);
        }
        second.publish();
        let ids: Vec<u32> = driver.collect().iter().map(|used| used.id).collect();
        assert_eq!(ids, heads.iter().map(|head| u32::from(*head)).collect::<Vec<_>>());
    }
}

#[test]
fn a_ring_rewinds_to_where_it_was_marked() {
    for index in INDICES {
        let mut driver = ring_of(8);
        driver.resume_at(index);
        let heads: Vec<u16> = (0..6).map(|_| driver.post(&[writable(BUFFERS, 8)])).collect();
        let mut ring = driver.start(true);
        let chain = take(&mut ring).id;
        ring.complete(chain, 1);
        let mark = ring.mark();
        for _ in 0..4 {
            let chain = take(&mut ring).id;
            ring.complete(chain, 2);
        }
        ring.rewind(mark);
        assert_eq!(ring.next_avail(), index.wrapping_add(1));
        assert_eq!(ring.prepare(LOOKAHEAD), Ok(5));
        let again = take(&mut ring).id;
        assert_eq!(again, by_head(heads[1]));
        ring.complete(again, 3);
        ring.publish();
        let used = |head: u16, len| Used { id: head.into(), len };
        assert_eq!(driver.collect(), [used(heads[0], 1), used(heads[1], 3)]);
    }
}

#[test]
fn indices_wrap_in_rings_of_every_small_size() {
    for size in [1, 2, 4, 16] {
        let mut driver = ring_of(size);
        let mut ring = driver.start(true);
        let mut chain = Chain::default();
        let mut count = 0u32;
        while count < 0x1_0000 + 200 {
            for _ in 0..size {
                driver.post(&[readable(BUFFERS + u64::from(count % 1000), 1)]);
            }
            assert_eq!(ring.prepare(LOOKAHEAD), Ok(usize::from(size)));
            for offset in 0..size {
                assert!(ring.take(&mut chain).unwrap());
                assert_eq!(
                    chain.readable()[0].guest,
                    BUFFERS + u64::from(count % 1000),
                    "{offset}"
                );
                ring.complete(chain.id, count);
            }
            ring.publish();
            for used in driver.collect() {
                assert_eq!(used.len, count);
            }
            count += u32::from(size);
            assert_eq!(ring.next_avail(), count as u16);
        }
        driver.ram.assert_guards();
    }
}

#[test]
fn every_power_of_two_up_to_32768_is_a_size() {
    for size in (0..=15).map(|exponent| 1u16 << exponent) {
        // The ring ends where its region does.
        let at = 0x10_0000 + 0x20_0120 - Driver::footprint(size).next_multiple_of(16);
        let mut driver = Driver::new(&Ram::new(PATCHWORK), size, at);
        let mut ring = driver.start(true);
        for n in 0..size {
            driver.post(&[writable(BUFFERS + u64::from(n), 1)]);
        }
        assert_eq!(ring.prepare(LOOKAHEAD), Ok(LOOKAHEAD.min(size.into())));
        let mut ids = vec![];
        for n in 0..size {
            let chain = take(&mut ring);
            assert_eq!(chain.writable()[0].guest, BUFFERS + u64::from(n));
            ring.complete(chain.id, 1);
            ids.push(u32::from(chain.id.id()));
        }
        assert_eq!(ring.prepare(LOOKAHEAD), Ok(0));
        assert!(ring.publish());
        ring.request_kicks();
        assert_eq!(driver.avail_event(), size);
        assert_eq!(
            driver.collect().iter().map(|used| used.id).collect::<Vec<_>>(),
            ids
        );
        driver.ram.assert_guards();
    }
    assert_eq!(MAX_QUEUE_SIZE, 32768);
}

#[test]
fn a_queue_that_was_filled_once_stays_filled_while_its_index_passes_zero() {
    let mut driver = ring_of(8);
    driver.resume_at(65532);
    let mut ring = driver.start(false);
    for _ in 0..4 {
        driver.post(&[writable(BUFFERS, 1)]);
    }
    assert_eq!(driver.next_avail, 0);
    assert!(ring.ever_filled());
    take(&mut ring);
    assert!(ring.ever_filled());
    assert!(!ring_of(8).start(false).ever_filled());
}

/// Two sides that sleep whenever they may: one notification that is lost, in either direction, and both sleep for good.
fn sleepers(event_idx: bool) {
    const CHAINS: u16 = 20_000;
    let [kick, call] = [0; 2].map(|flags| Arc::new(EventFd::new(flags).unwrap()));
    let mut driver = ring_of(2);
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
    let mut done = 0;
    for _ in 0..CHAINS {
        let old = driver.next_avail;
        driver.post(&[readable(BUFFERS, 1)]);
        let wanted = if event_idx {
            driver.avail_event() == old
        } else {
            driver.used_flags() == 0
        };
        if wanted {
            kick.write(1).unwrap();
        }
        while driver.next_avail.wrapping_sub(done) == 2 {
            // Asks to be told, looks once more, and sleeps.
            driver.set_avail_flags(0);
            driver.set_used_event(done);
            if driver.used_index() == done {
                call.read().unwrap();
            }
            driver.set_avail_flags(1);
            driver.collect();
            done = driver.next_used;
        }
    }
    device.join().unwrap();
}

#[test]
fn no_notification_is_lost_with_flags() {
    within(Duration::from_secs(60), || sleepers(false));
}

#[test]
fn no_notification_is_lost_with_event_indices() {
    within(Duration::from_secs(60), || sleepers(true));
}

/// So large that the index has a cache line without elements most of the time: it takes longer to be written then.
fn contested(event_idx: bool) -> (Driver, SplitRing) {
    let driver = ring_of(256);
    let descriptor = Descriptor {
        address: BUFFERS,
        len: 1,
        ..Descriptor::default()
    };
    driver.describe(0, descriptor);
    let ring = driver.start(event_idx);
    (driver, ring)
}

/// virtio 1.3, 2.7.13.4.1 and 2.7.10: barriers on the device's side of a kick.
#[test]
fn a_chain_is_seen_or_its_kick_is_asked_for() {
    let forget = |ring: &mut SplitRing| {
        let mut chain = Chain::default();
        if ring.take(&mut chain).unwrap() {
            ring.complete(chain.id, 0);
            ring.publish();
        }
        ring.suppress_kicks();
    };
    for event_idx in [false, true] {
        let offer = move |driver: &mut Driver| {
            let index = driver.next_avail;
            driver.offer(0);
            if event_idx {
                driver.avail_event() == index
            } else {
                driver.used_flags() == 0
            }
        };
        within(Duration::from_secs(60), move || {
            one_side_sees_the_other(
                contested(event_idx),
                forget,
                SplitRing::request_kicks,
                |_| {},
                offer,
            );
        });
    }
}

/// virtio 1.3, 2.7.13.4.1 and 2.7.10: barriers on the device's side of a notification.
#[test]
fn a_used_chain_is_seen_or_its_notification_is_sent() {
    let hush = |driver: &mut Driver| {
        driver.collect();
        driver.set_avail_flags(1);
        driver.set_used_event(driver.next_used.wrapping_sub(1));
    };
    for event_idx in [false, true] {
        let wish = move |driver: &mut Driver| {
            if event_idx {
                driver.set_used_event(driver.next_used);
            } else {
                driver.set_avail_flags(0);
            }
            driver.used_index() != driver.next_used
        };
        within(Duration::from_secs(60), move || {
            one_side_sees_the_other(
                contested(event_idx),
                |ring| ring.complete(by_head(0), 0),
                SplitRing::publish,
                hush,
                wish,
            );
        });
    }
}
