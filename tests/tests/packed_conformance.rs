//! What virtio 1.3, 2.8 asks of a device that uses packed rings, and what vhost-user says of where they stand, clause by
//! clause. Everything that holds for both formats is in `vhost_user_conformance`.

use std::os::fd::AsRawFd;
use std::time::Duration;

use netkit_tests::driver::attack::eventually;
use netkit_tests::driver::device::{PATIENCE, wait_readable};
use netkit_tests::driver::memory::BUFFERS;
use netkit_tests::driver::ring::{
    DESC_AVAIL, DESC_INDIRECT, DESC_NEXT, DESC_USED, DESC_WRITE, EventFlags, PackedDescriptor, PackedRing,
    Part, Position,
};
use netkit_tests::driver::{Format, FrontEnd, NetDriver, Opening, Pair, Random, Setup, feature, packet};
use netkit_tests::netkitd::Netkitd;

/// Long enough for something that is not to happen, to happen.
const QUIET: Duration = Duration::from_millis(100);
const BOTH: u16 = DESC_AVAIL | DESC_USED;
/// No tables, no batches, notifications by flags.
const BARE: u64 = feature::VERSION_1 | feature::MRG_RXBUF;

fn bench() -> (Netkitd, Pair) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    (daemon, pair)
}

fn setup(features: u64, size: u16) -> Setup {
    Setup {
        size,
        ..Format::Packed.with(features)
    }
}

fn frame(number: u32) -> Vec<u8> {
    packet::ethernet([2; 6], [4; 6], &number.to_be_bytes())
}

fn flows(a: &mut NetDriver, b: &mut NetDriver, count: u32) {
    for number in 0..count {
        a.send_frame(&frame(number));
        assert_eq!(b.receive().frame, frame(number));
    }
}

fn ring(driver: &NetDriver, index: usize) -> &PackedRing {
    driver.queues[index].ring.packed()
}

/// A frame in memory of its own, as the parts of one chain of so many descriptors.
fn chain(driver: &mut NetDriver, frame: &[u8], descriptors: usize) -> Vec<Part> {
    let octets = [&[0; 12], frame].concat();
    let address = driver.memory.allocate(BUFFERS, octets.len() as u64, 16);
    driver.memory.write(address, &octets);
    let step = octets.len() / descriptors;
    (0..descriptors)
        .map(|index| {
            let end = if index + 1 == descriptors {
                octets.len()
            } else {
                (index + 1) * step
            };
            Part {
                address: address + (index * step) as u64,
                len: (end - index * step) as u32,
                writable: false,
            }
        })
        .collect()
}

fn push(driver: &mut NetDriver, parts: &[Part]) -> u16 {
    driver.queues[1].ring.push(&driver.memory, parts)
}

fn publish(driver: &mut NetDriver) {
    driver.queues[1].ring.publish(&driver.memory);
    driver.queues[1].kick.write(1).unwrap();
}

fn descriptors(driver: &NetDriver, index: usize) -> Vec<PackedDescriptor> {
    let ring = ring(driver, index);
    (0..ring.size)
        .map(|slot| ring.descriptor(&driver.memory, slot))
        .collect()
}

// P1 and P2: in ring order.

#[test]
fn p01_p02_chains_are_taken_in_ring_order_and_used_where_the_one_before_ended() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE, 32)).unwrap();
    // Chains of one to five descriptors, laps that end in the middle of a chain, ids in no order.
    let mut sent = 0;
    for lap in 0..200 {
        let counts = [1 + lap % 5, 3, 1, 1 + lap * 7 % 4];
        for count in counts {
            let parts = chain(&mut a, &frame(sent), count as usize);
            push(&mut a, &parts);
            sent += 1;
        }
        publish(&mut a);
        for number in sent - 4..sent {
            assert_eq!(b.receive().frame, frame(number));
        }
        for _ in counts {
            eventually("a chain is not used", || {
                // The driver looks at no other place for it, and checks the id.
                a.queues[1].ring.pop(&a.memory).is_some()
            });
        }
    }
    assert_eq!(a.queues[1].ring.used_index(&a.memory), 800);
}

// P3 and P5: what the device writes to.

#[test]
fn p03_p05_a_descriptor_is_written_to_once_and_a_readable_buffer_never() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE, 32)).unwrap();
    let buffer = chain(&mut a, &frame(0), 1)[0].address;
    let mut before = [0; 72];
    a.memory.read(buffer, &mut before);
    let parts: Vec<Part> = (0..3)
        .map(|index| Part {
            address: buffer + 24 * index,
            len: 24,
            writable: false,
        })
        .collect();
    let id = push(&mut a, &parts);
    publish(&mut a);
    assert_eq!(b.receive().frame, frame(0));
    eventually("the chain is not used", || a.queues[1].ring.ready(&a.memory) == 1);
    let used = descriptors(&a, 1);
    // virtio 1.3, 2.8.4 and 2.8.6: id and flags of the first descriptor; the others are as the driver wrote them.
    assert_eq!((used[0].id, used[0].flags & BOTH), (id, BOTH));
    assert_eq!(used[0].flags & DESC_WRITE, 0, "nothing was written");
    for (offset, descriptor) in used.iter().enumerate().take(3).skip(1) {
        assert_eq!(
            descriptor.flags & BOTH,
            DESC_AVAIL,
            "descriptor {offset} was changed"
        );
        assert_eq!((descriptor.address, descriptor.len), (parts[offset].address, 24));
    }
    assert_eq!(used[3..], [PackedDescriptor::default(); 29], "beyond the chain");
    for _ in 0..10 {
        let other = chain(&mut a, &frame(1), 1);
        push(&mut a, &other);
        publish(&mut a);
        b.receive();
    }
    a.flush();
    assert_eq!(descriptors(&a, 1)[..3], used[..3], "changed after it was used");
    let mut after = [0; 72];
    a.memory.read(buffer, &mut after);
    assert_eq!(after, before, "a readable buffer was written to");
}

#[test]
fn p03_a_received_frame_begins_at_the_first_octet_and_its_length_is_told() {
    let (_daemon, pair) = bench();
    let (mut a, b) = pair.connect(&setup(BARE, 8)).unwrap();
    a.send_frame(&frame(7));
    eventually("nothing is received", || b.queues[0].ring.ready(&b.memory) == 1);
    let used = ring(&b, 0).descriptor(&b.memory, 0);
    assert_eq!(used.flags & (BOTH | DESC_WRITE), BOTH | DESC_WRITE);
    assert_eq!(used.len, 12 + 60);
}

// P4: the wrap counter.

#[test]
fn p04_a_chain_is_not_used_before_its_first_descriptor_is_available() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE, 16)).unwrap();
    let rounds = 40;
    for number in 0..rounds {
        // All but the flags of the first: the rest of the chain says that it is available.
        let parts = chain(&mut a, &frame(number), 3);
        push(&mut a, &parts);
        a.queues[1].kick.write(1).unwrap();
        a.front_end.settle().unwrap();
        if number < 4 {
            std::thread::sleep(QUIET);
        }
        assert!(b.poll().is_none(), "a frame before it was available");
        publish(&mut a);
        assert_eq!(b.receive().frame, frame(number));
        a.flush();
    }
}

// P6 and P10: chains.

#[test]
fn p06_p10_the_id_is_that_of_the_last_descriptor_and_the_length_of_the_chain_is_skipped() {
    let (_daemon, pair) = bench();
    // A size that is no power of two (virtio 1.3, 2.8.10.1).
    let (mut a, mut b) = pair.connect(&setup(BARE, 23)).unwrap();
    for round in 0..60u32 {
        let parts = chain(&mut a, &frame(round), 1 + round as usize % 9);
        let at = ring(&a, 1).next_available();
        let id = push(&mut a, &parts);
        publish(&mut a);
        assert_eq!(b.receive().frame, frame(round));
        a.flush();
        let used = ring(&a, 1).descriptor(&a.memory, at.slot);
        assert_eq!(used.id, id);
        let next = at.advanced(parts.len() as u16, 23);
        assert_eq!(ring(&a, 1).next_used(), next);
    }
}

#[test]
fn p07_a_chain_may_be_as_long_as_the_ring() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE, 48)).unwrap();
    for round in 0..5 {
        let sent = packet::ethernet([2; 6], [4; 6], &Random::new(round).octets(1400));
        let parts = chain(&mut a, &sent, 48);
        push(&mut a, &parts);
        publish(&mut a);
        assert_eq!(b.receive().frame, sent);
        a.flush();
        // The next one begins somewhere else.
        for number in 0..5 {
            let parts = chain(&mut a, &frame(number), 1);
            push(&mut a, &parts);
            publish(&mut a);
            assert_eq!(b.receive().frame, frame(number));
        }
        a.flush();
    }
}

#[test]
fn p07_tables_are_walked_in_order_whatever_their_flags_say() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE | feature::INDIRECT, 16)).unwrap();
    for round in 0..40 {
        let parts = chain(&mut a, &frame(round), 1 + round as usize % 20);
        let at = ring(&a, 1).next_available();
        push(&mut a, &parts);
        // virtio 1.3, 2.8.7: NEXT is reserved in a table, and so are the bits of availability.
        for entry in 0..parts.len() as u64 {
            let flags = ring(&a, 1).first_descriptor(at.slot) + 16 * entry + 14;
            a.memory
                .store(flags, [0, BOTH, DESC_AVAIL, DESC_USED][round as usize % 4]);
        }
        publish(&mut a);
        assert_eq!(b.receive().frame, frame(round));
        a.flush();
    }
}

#[test]
fn s07_a_descriptor_that_refers_to_a_table_may_carry_write() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE | feature::INDIRECT, 16)).unwrap();
    let parts = chain(&mut a, &frame(1), 2);
    let at = ring(&a, 1).next_available();
    push(&mut a, &parts);
    publish(&mut a);
    assert_eq!(b.receive().frame, frame(1));
    a.flush();
    // virtio 1.3, 2.8.7: the flag is reserved, and a device ignores it.
    let parts = chain(&mut a, &frame(2), 2);
    push(&mut a, &parts);
    let flags = ring(&a, 1).descriptors + 16 * (u64::from(at.slot) + 1) + 14;
    a.memory.store(flags, DESC_INDIRECT | DESC_WRITE | DESC_AVAIL);
    a.queues[1].kick.write(1).unwrap();
    assert_eq!(b.receive().frame, frame(2));
}

// P8: the driver's event suppression.

/// The device used a chain and the driver has looked for a notification.
fn is_notified(a: &mut NetDriver, b: &NetDriver, number: u32) -> bool {
    let call = b.queues[0].call.as_raw_fd();
    let ready = b.queues[0].ring.ready(&b.memory);
    a.send_frame(&frame(number));
    eventually("nothing is received", || {
        b.queues[0].ring.ready(&b.memory) > ready
    });
    let notified = wait_readable(&[call], QUIET / 4);
    let _ = b.queues[0].call.read();
    notified
}

#[test]
fn p08_flags_enable_and_disable_notifications() {
    let (_daemon, pair) = bench();
    for features in [BARE, BARE | feature::EVENT_IDX] {
        let (mut a, mut b) = pair.connect(&setup(features, 64)).unwrap();
        // The first one after the start may come unasked.
        flows(&mut a, &mut b, 1);
        let _ = b.queues[0].call.read();
        for round in 0..6 {
            let (flags, expected) = match round % 2 {
                0 => (EventFlags::Disable, false),
                _ => (EventFlags::Enable, true),
            };
            ring(&b, 0).set_driver_event(&b.memory, 0, flags as u16);
            assert_eq!(is_notified(&mut a, &b, round), expected, "{flags:?}");
        }
    }
}

#[test]
fn p08_with_event_idx_there_is_one_notification_for_the_descriptor_that_was_named() {
    let (_daemon, pair) = bench();
    let (mut a, b) = pair.connect(&setup(BARE | feature::EVENT_IDX, 64)).unwrap();
    let _ = is_notified(&mut a, &b, 0);
    // Across the end of the ring: the wrap counter is part of the name.
    let mut b = b;
    for round in 0..9u16 {
        b.queues[0]
            .ring
            .arm_behind(&b.memory, b.queues[0].ring.ready(&b.memory) as u16 + 5);
        for number in 0..8 {
            let notified = is_notified(&mut a, &b, number);
            assert_eq!(notified, number == 5, "frame {number} of round {round}");
        }
        while b.take(0).is_some() {}
        b.fill(0);
    }
}

// P9: the device's event suppression.

#[test]
fn p09_the_device_asks_for_kicks_when_it_sleeps() {
    let (_daemon, pair) = bench();
    for features in [BARE, BARE | feature::EVENT_IDX] {
        let (mut a, mut b) = pair.connect(&setup(features, 64)).unwrap();
        for round in 0..5 {
            std::thread::sleep(QUIET);
            let area = ring(&a, 1).device_event;
            let (place, flags) = ring(&a, 1).event(&a.memory, area);
            match flags {
                0 => {}
                2 => {
                    assert_ne!(features & feature::EVENT_IDX, 0, "DESC without EVENT_IDX");
                    assert_eq!(place, ring(&a, 1).next_available(), "where the next chain comes");
                }
                other => panic!("it sleeps with event suppression {other}"),
            }
            // A driver that kicks exactly when it is asked to is served (its publish obeys the area).
            flows(&mut a, &mut b, 20 + round);
            a.flush();
        }
    }
}

// P11: in order.

#[test]
fn p11_g16_with_in_order_one_used_descriptor_may_stand_for_many_and_the_order_is_kept() {
    let (_daemon, pair) = bench();
    for features in [BARE, BARE | feature::INDIRECT | feature::EVENT_IDX] {
        let (mut a, mut b) = pair.connect(&setup(features | feature::IN_ORDER, 64)).unwrap();
        let mut sent = 0;
        for burst in [1, 7, 32, 3, 60, 64, 2].repeat(6) {
            for _ in 0..burst {
                let parts = chain(&mut a, &frame(sent), 1);
                push(&mut a, &parts);
                sent += 1;
            }
            publish(&mut a);
            for number in sent - burst..sent {
                assert_eq!(b.receive().frame, frame(number));
            }
            a.flush();
        }
        assert_eq!(a.queues[1].ring.used_index(&a.memory), sent as u16);
    }
}

#[test]
fn p11_in_order_frames_of_many_buffers_say_their_lengths() {
    let (_daemon, pair) = bench();
    let features = BARE | feature::IN_ORDER | feature::GUEST_OFFLOADS | feature::HOST_OFFLOADS;
    let (mut a, mut b) = pair.connect(&setup(features, 256)).unwrap();
    for len in [10_000, 100, 5000, 60_000, 2036, 2037] {
        let host = |last| packet::Host {
            mac: [2, 0, 0, 0, 0, last],
            ip: std::net::Ipv4Addr::new(10, 1, 0, last).into(),
            port: 1000,
        };
        let mut sent = packet::tcp(host(1), host(2), 1, &Random::new(len).octets(len as usize));
        let header = packet::leave_segmentation(&mut sent, 1400);
        a.send(0, &header, &sent);
        let received = b.receive();
        assert_eq!(received.frame, sent);
        assert_eq!(received.buffers.len(), (sent.len() + 12).div_ceil(2048));
    }
}

// U8: where a ring starts and stops.

#[test]
fn u08_a_ring_that_never_started_answers_the_base_that_it_was_given() {
    let (_daemon, pair) = bench();
    let mut a = pair.a.connect(Format::Packed.linux()).unwrap();
    assert_eq!(a.stop().unwrap(), [Format::Packed.start(); 2]);
    for base in [0x8046_8046, 0x0003_0003, 0x8000_8000] {
        a.front_end.set_vring_base(1, base).unwrap();
        assert_eq!(a.front_end.vring_base(1).unwrap(), base);
    }
}

#[test]
fn u08_a_ring_starts_in_the_middle_and_in_either_lap() {
    let (_daemon, pair) = bench();
    let mut b = pair.b.connect(Format::Packed.linux()).unwrap();
    for (chains, opening) in [
        (5, Opening::Qemu),
        (64, Opening::Qemu),
        (100, Opening::Qemu),
        (127, Opening::Qemu),
    ] {
        let setup = Setup {
            opening,
            ..setup(feature::LINUX, 64)
        };
        let mut a = pair.a.connect(setup).unwrap();
        flows(&mut a, &mut b, chains);
        a.flush();
        let expected = Position::START.advanced(chains as u16, 64).encode();
        let bases = a.stop().unwrap();
        assert_eq!(bases[1], u32::from(expected) | u32::from(expected) << 16);
        assert_eq!(bases[0], Format::Packed.start());
        // Another back end, which has only these numbers.
        a.reconnect(&pair.a.socket).unwrap();
        flows(&mut a, &mut b, 70);
        flows(&mut b, &mut a, 70);
    }
}

/// DPDK's virtio-user says nothing of the used half.
#[test]
fn u08_a_base_without_its_upper_half_is_that_of_both() {
    let (_daemon, pair) = bench();
    let setup = Setup {
        opening: Opening::VirtioUser,
        ..Format::Packed.linux()
    };
    let (mut a, mut b) = pair.connect(&setup).unwrap();
    flows(&mut a, &mut b, 300);
    flows(&mut b, &mut a, 300);
}

#[test]
fn u04_a_stopped_ring_touches_nothing_and_a_full_one_goes_on() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&setup(BARE, 32)).unwrap();
    flows(&mut a, &mut b, 40);
    a.flush();
    a.stop_ring(1).unwrap();
    for number in 0..32 {
        assert!(a.try_send(0, &netkit_tests::driver::Header::default(), &frame(number)));
    }
    let before = descriptors(&a, 1);
    std::thread::sleep(QUIET);
    assert_eq!(descriptors(&a, 1), before, "a stopped ring was served");
    a.restart_ring(1).unwrap();
    for number in 0..32 {
        assert_eq!(b.receive().frame, frame(number));
    }
}

/// A ring in which every bit of memory is set, as an allocator may leave it, is empty with the other wrap counter only.
#[test]
fn p04_a_new_ring_in_used_memory_is_empty() {
    let (_daemon, pair) = bench();
    let front_end = FrontEnd::connect(&pair.a.socket).unwrap();
    let mut a = NetDriver::prepare(front_end, setup(BARE, 32)).unwrap();
    let at = ring(&a, 1).descriptors;
    // AVAIL and USED alike: used in the lap before, as a driver's own reset leaves it.
    a.memory.write(at, &[0; 16 * 32]);
    for slot in 0..32 {
        a.memory.store(at + 16 * slot + 14, DESC_NEXT | DESC_WRITE);
    }
    a.negotiate().unwrap();
    a.fill(0);
    a.activate().unwrap();
    let mut b = pair.b.connect(setup(BARE, 32)).unwrap();
    std::thread::sleep(QUIET);
    assert!(!wait_readable(
        &[a.queues[1].err.as_raw_fd()],
        QUIET.min(PATIENCE)
    ));
    flows(&mut a, &mut b, 70);
}
