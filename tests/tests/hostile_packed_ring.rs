//! Drivers that break the rules of a packed ring (virtio 1.3, 2.8): each loses its own ring and nothing else.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netkit_tests::driver::attack::{attack, eventually, works};
use netkit_tests::driver::device::{PATIENCE, wait_readable};
use netkit_tests::driver::memory::BUFFERS;
use netkit_tests::driver::packet::ethernet;
use netkit_tests::driver::ring::{
    DESC_AVAIL, DESC_INDIRECT, DESC_NEXT, DESC_USED, DESC_WRITE, EventFlags, PackedDescriptor, PackedRing,
    Part,
};
use netkit_tests::driver::{Format, Header, NetDriver, Pair, Random, Received, Setup, feature};

const SIZE: u16 = 256;
/// The flags of everything that a driver makes available in its first lap.
const FIRST_LAP: u16 = DESC_AVAIL;
/// Long enough for something that is not to happen, to happen.
const QUIET: Duration = Duration::from_millis(50);

fn ring(driver: &NetDriver, index: usize) -> &PackedRing {
    driver.queues[index].ring.packed()
}

/// A good descriptor of the first lap.
fn fine(driver: &NetDriver) -> PackedDescriptor {
    PackedDescriptor {
        address: driver.memory.regions()[BUFFERS].guest,
        len: 72,
        id: 0,
        flags: FIRST_LAP,
    }
}

/// The same with further flags.
fn flagged(driver: &NetDriver, flags: u16) -> PackedDescriptor {
    PackedDescriptor {
        flags: FIRST_LAP | flags,
        ..fine(driver)
    }
}

/// Writes what a chain is made of into the transmit ring, its head last, and kicks.
fn transmit(driver: &NetDriver, chain: &[PackedDescriptor]) {
    write(driver, 1, chain);
    driver.queues[1].kick.write(1).expect("a kick");
}

fn write(driver: &NetDriver, index: usize, chain: &[PackedDescriptor]) {
    for (slot, descriptor) in chain.iter().enumerate().rev() {
        ring(driver, index).set_descriptor(&driver.memory, slot as u16, *descriptor);
    }
}

/// A descriptor that refers to a table with these entries.
fn table(driver: &NetDriver, entries: &[PackedDescriptor]) -> PackedDescriptor {
    let at = driver.memory.regions()[BUFFERS].guest + 4096;
    for (index, entry) in entries.iter().enumerate() {
        let at = at + 16 * index as u64;
        driver.memory.store(at, entry.address);
        driver.memory.store(at + 8, entry.len);
        driver.memory.store(at + 12, entry.id);
        driver.memory.store(at + 14, entry.flags);
    }
    PackedDescriptor {
        address: at,
        len: 16 * entries.len() as u32,
        ..flagged(driver, DESC_INDIRECT)
    }
}

/// What a criminal makes available in its transmit ring.
type Crime = (&'static str, fn(&NetDriver) -> Vec<PackedDescriptor>);

const CRIMES: [Crime; 14] = [
    ("a chain as long as the ring, without an end", |it| {
        vec![flagged(it, DESC_NEXT); SIZE.into()]
    }),
    ("indirect and next", |it| {
        vec![flagged(it, DESC_INDIRECT | DESC_NEXT), fine(it)]
    }),
    ("an empty indirect table", |it| {
        vec![PackedDescriptor {
            len: 0,
            ..table(it, &[fine(it)])
        }]
    }),
    ("an indirect table of an odd length", |it| {
        vec![PackedDescriptor {
            len: 17,
            ..table(it, &[fine(it); 2])
        }]
    }),
    ("an indirect table of 4 GiB", |it| {
        vec![PackedDescriptor {
            len: !15,
            ..table(it, &[fine(it)])
        }]
    }),
    ("an indirect table outside memory", |it| {
        vec![PackedDescriptor {
            address: 0,
            ..table(it, &[fine(it)])
        }]
    }),
    ("nested indirect tables", |it| {
        vec![table(it, &[fine(it), table(it, &[])])]
    }),
    ("a buffer outside memory", |it| {
        vec![PackedDescriptor {
            address: 0,
            ..fine(it)
        }]
    }),
    ("a buffer that wraps around", |it| {
        vec![PackedDescriptor {
            address: u64::MAX - 8,
            ..fine(it)
        }]
    }),
    ("a buffer of 4 GiB", |it| {
        vec![PackedDescriptor {
            len: u32::MAX,
            ..fine(it)
        }]
    }),
    ("an empty buffer", |it| {
        vec![PackedDescriptor { len: 0, ..fine(it) }]
    }),
    ("a writable buffer", |it| vec![flagged(it, DESC_WRITE)]),
    ("a readable buffer behind a writable one", |it| {
        vec![flagged(it, DESC_WRITE | DESC_NEXT), fine(it)]
    }),
    ("a bad buffer in the middle of a chain", |it| {
        let bad = PackedDescriptor {
            address: 0,
            ..flagged(it, DESC_NEXT)
        };
        vec![flagged(it, DESC_NEXT), bad, fine(it)]
    }),
];

#[test]
fn crimes_in_a_running_ring() {
    attack(|daemon, pair| {
        let found = || daemon.drops(&pair.a.device, "malformed_chain");
        for (what, crime) in CRIMES {
            let before = found();
            let a = pair.a.connect(Format::Packed.linux()).expect("a session");
            transmit(&a, &crime(&a));
            assert_stopped(&a, 1, what);
            eventually(&format!("{what} is not counted"), || found() == before + 1);
            // Good chains are not looked at any more.
            transmit(&a, &[fine(&a)]);
            a.front_end.settle().expect("the session goes on");
            std::thread::sleep(QUIET);
            assert_eq!(ring(&a, 1).descriptor(&a.memory, 0), fine(&a), "{what}");
            drop(a);
            works(pair);
        }
    });
}

/// The device says on the ring's error descriptor that it has stopped it.
fn assert_stopped(driver: &NetDriver, ring: usize, what: &str) {
    let err = driver.queues[ring].err.as_raw_fd();
    let told = wait_readable(&[err], PATIENCE);
    assert!(told, "{what}: nobody says that the ring has stopped");
}

#[test]
fn crimes_in_a_receive_ring() {
    let crimes: [Crime; 6] = [
        ("readable buffers", |it| vec![fine(it); SIZE.into()]),
        ("a chain without an end", |it| {
            vec![flagged(it, DESC_WRITE | DESC_NEXT); SIZE.into()]
        }),
        ("buffers outside memory", |it| {
            let bad = PackedDescriptor {
                address: 0,
                ..flagged(it, DESC_WRITE)
            };
            vec![bad; SIZE.into()]
        }),
        ("empty buffers", |it| {
            vec![
                PackedDescriptor {
                    len: 0,
                    ..flagged(it, DESC_WRITE)
                };
                SIZE.into()
            ]
        }),
        ("nested indirect tables", |it| {
            vec![table(it, &[table(it, &[])]); SIZE.into()]
        }),
        ("a readable buffer behind a writable one", |it| {
            vec![table(it, &[flagged(it, DESC_WRITE), fine(it)]); SIZE.into()]
        }),
    ];
    attack(|_, pair| {
        for (what, crime) in crimes {
            let (a, mut b) = pair.connect(&Format::Packed.linux()).expect("two sessions");
            write(&a, 0, &crime(&a));
            b.send_frame(&ethernet([2; 6], [4; 6], b"for a criminal"));
            assert_stopped(&a, 0, what);
            // The sender is innocent.
            b.flush();
        }
    });
}

/// The specification leaves ids to the driver. A device may refuse one that is no number of a descriptor, or give it
/// back; it may not use it for anything.
#[test]
fn ids_out_of_range() {
    attack(|_, pair| {
        for id in [SIZE, SIZE + 1, 0x7fff, u16::MAX] {
            for setup in [Format::Packed.linux(), in_order()] {
                let (a, _b) = pair.connect(&setup).expect("two sessions");
                transmit(&a, &[PackedDescriptor { id, ..fine(&a) }]);
                let err = a.queues[1].err.as_raw_fd();
                eventually("the device neither refuses nor uses it", || {
                    let there = ring(&a, 1).descriptor(&a.memory, 0);
                    let is_used = there.flags & (DESC_AVAIL | DESC_USED) == DESC_AVAIL | DESC_USED;
                    assert!(!is_used || there.id == id, "id {} for id {id}", there.id);
                    is_used || wait_readable(&[err], Duration::from_millis(1))
                });
            }
        }
    });
}

fn in_order() -> Setup {
    Format::Packed.with(feature::LINUX | feature::IN_ORDER)
}

/// Two drivers of a pair of rings without tables, so that a chain takes as many descriptors as it has buffers.
fn direct(pair: &Pair) -> (NetDriver, NetDriver) {
    let setup = Format::Packed.with(feature::VERSION_1 | feature::MRG_RXBUF);
    pair.connect(&setup).expect("two sessions")
}

#[test]
fn a_descriptor_whose_wrap_counter_is_not_flipped_is_not_available() {
    attack(|_, pair| {
        let (mut a, mut b) = direct(pair);
        let frame = ethernet([2; 6], [4; 6], b"a lap");
        for _ in 0..SIZE {
            a.send_frame(&frame);
            assert_eq!(b.receive().frame, frame);
        }
        a.flush();
        let used = ring(&a, 1).descriptor(&a.memory, 0);
        assert_eq!(used.flags & (DESC_AVAIL | DESC_USED), DESC_AVAIL | DESC_USED);
        // As in the lap before: what a driver that lost count would write.
        for flags in [DESC_AVAIL, DESC_AVAIL | DESC_USED, 0] {
            transmit(&a, &[PackedDescriptor { flags, ..fine(&a) }]);
            a.front_end.settle().expect("the session goes on");
            std::thread::sleep(QUIET);
            assert_eq!(ring(&a, 1).descriptor(&a.memory, 0).flags, flags, "it was used");
            assert!(b.poll().is_none(), "flags {flags:#x} let a frame through");
        }
        // As it is to be.
        a.memory.write(fine(&a).address + 12, &frame);
        transmit(
            &a,
            &[PackedDescriptor {
                flags: DESC_USED,
                ..fine(&a)
            }],
        );
        assert_eq!(b.receive().frame, frame);
    });
}

#[test]
fn a_whole_ring_that_is_made_available_again_and_again() {
    attack(|_, pair| {
        let (a, mut b) = direct(pair);
        let frame = ethernet([2; 6], [4; 6], b"all at once");
        a.memory
            .write(fine(&a).address, &[&[0; 12], frame.as_slice()].concat());
        let mut received = 0;
        for lap in 0..100 {
            // The same octet for octet as the device's used descriptors of the lap before but for one bit.
            let flags = if lap % 2 == 0 { DESC_AVAIL } else { DESC_USED };
            transmit(&a, &vec![PackedDescriptor { flags, ..fine(&a) }; SIZE.into()]);
            let last = || ring(&a, 1).descriptor(&a.memory, SIZE - 1).flags & (DESC_AVAIL | DESC_USED);
            let both = if lap % 2 == 0 { DESC_AVAIL | DESC_USED } else { 0 };
            while last() != both {
                while let Some(it) = b.poll() {
                    assert_eq!(it.frame, frame);
                    received += 1;
                }
                std::thread::yield_now();
            }
        }
        while b.poll().is_some() {
            received += 1;
        }
        assert!(
            received > 0 && received <= 100 * usize::from(SIZE),
            "{received} frames"
        );
        assert!(
            !wait_readable(&[a.queues[1].err.as_raw_fd()], QUIET),
            "nothing was wrong"
        );
    });
}

/// The next frame, without waiting for a notification.
fn polled(driver: &mut NetDriver) -> Received {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(received) = driver.poll() {
            return received;
        }
        assert!(Instant::now() < end, "a frame is held up");
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[test]
fn event_suppression_that_says_nothing_sensible() {
    attack(|_, pair| {
        for setup in [Format::Packed.plain(), Format::Packed.linux()] {
            let (mut a, mut b) = pair.connect(&setup).expect("two sessions");
            let frame = ethernet([2; 6], [4; 6], b"event");
            for (place, flags) in [
                (SIZE, EventFlags::Descriptor as u16),
                (u16::MAX, EventFlags::Descriptor as u16),
                (0x7fff, EventFlags::Descriptor as u16),
                (0, 3),
                (u16::MAX, u16::MAX),
            ] {
                for (driver, index) in [(&a, 1), (&b, 0)] {
                    ring(driver, index).set_driver_event(&driver.memory, place, flags);
                }
                for _ in 0..2 * SIZE {
                    a.send_frame(&frame);
                    // Whether there is a notification is the driver's problem.
                    assert_eq!(polled(&mut b).frame, frame);
                }
            }
        }
    });
}

/// The event areas and descriptors hold anything while the ring starts.
#[test]
fn rings_of_random_octets() {
    attack(|_, pair| {
        let mut random = Random::new(0x9ac);
        for _ in 0..30 {
            let a = pair.a.connect(Format::Packed.linux()).expect("a session");
            for index in 0..2 {
                let octets = random.octets(16 * usize::from(SIZE));
                a.memory.write(ring(&a, index).descriptors, &octets);
                a.memory.write(ring(&a, index).driver_event, &random.octets(4));
                a.queues[index].kick.write(1).expect("a kick");
            }
            a.front_end.settle().expect("the session goes on");
        }
    });
}

/// A chain that grows while it is walked, and shrinks again.
#[test]
fn flags_that_change_while_the_ring_is_served() {
    attack(|_, pair| {
        for _ in 0..10 {
            let (a, mut b) = direct(pair);
            let end = Instant::now() + Duration::from_millis(100);
            let mut random = Random::new(7);
            while Instant::now() < end {
                let drawn = random.number();
                let flags = drawn as u16 & (DESC_AVAIL | DESC_USED | DESC_NEXT);
                let slot = (drawn >> 16) as u16 % 4;
                ring(&a, 1).set_descriptor(&a.memory, slot, PackedDescriptor { flags, ..fine(&a) });
                a.queues[1].kick.write(1).expect("a kick");
                while let Some(it) = b.poll() {
                    assert!(it.frame.len() <= 72 * usize::from(SIZE));
                }
            }
        }
    });
}

/// The size and the place of a packed ring are checked as those of a split one.
#[test]
fn rings_that_cannot_be() {
    attack(|_, pair| {
        let (a, mut b) = pair.connect(&Format::Packed.linux()).expect("two sessions");
        drop(a);
        // Not a power of two is right (virtio 1.3, 2.8.10.1); the split format has no such ring.
        for (size, is_right) in [(1, true), (3, true), (200, true), (0, false), (32769, false)] {
            let setup = Setup {
                size: if is_right { size as u16 } else { 64 },
                ..Format::Packed.linux()
            };
            let front_end = netkit_tests::driver::FrontEnd::connect(&pair.a.socket).expect("a connection");
            let mut a = NetDriver::prepare(front_end, setup).expect("memory");
            a.negotiate().expect("features");
            let features = a.setup().features | feature::PROTOCOL_FEATURES;
            a.front_end.set_features(features).expect("features");
            let told = a.front_end.set_vring_num(1, size);
            assert_eq!(told.is_ok(), is_right, "a ring of {size}: {told:?}");
            if !is_right {
                continue;
            }
            a.activate().expect("rings");
            let frame = ethernet([2; 6], [4; 6], &size.to_be_bytes());
            for _ in 0..3 {
                assert!(a.try_send(0, &Header::default(), &frame), "a ring of {size}");
                assert_eq!(b.receive().frame, frame, "a ring of {size}");
                a.flush();
            }
        }
        let mut a = pair.a.connect(Format::Packed.linux()).expect("a session");
        a.stop().expect("bases");
        let good = a.ring_setups()[1].addresses;
        for (what, bad) in [
            ("descriptors misaligned", shifted(&good, 8, 0, 0)),
            ("driver area misaligned", shifted(&good, 0, 2, 0)),
            ("device area misaligned", shifted(&good, 0, 0, 2)),
            ("descriptors outside memory", shifted(&good, 1 << 40, 0, 0)),
            ("driver area outside memory", shifted(&good, 0, 1 << 40, 0)),
            ("device area outside memory", shifted(&good, 0, 0, 1 << 40)),
        ] {
            // Refused at once, or the ring does not start: no frame comes through it.
            let _ = a.front_end.set_vring_addr(1, &bad);
            let _ = a.front_end.set_vring_kick(1, Some(a.queues[1].kick.as_raw_fd()));
            let part = Part {
                address: fine(&a).address,
                len: 72,
                writable: false,
            };
            let queue = &mut a.queues[1];
            if queue.ring.outstanding() == 0 {
                queue.ring.push(&a.memory, &[part]);
                queue.ring.publish(&a.memory);
            }
            queue.kick.write(1).expect("a kick");
            std::thread::sleep(QUIET);
            assert!(b.poll().is_none(), "{what}");
            let _ = a.front_end.vring_base(1);
        }
    });
}

fn shifted(
    good: &netkit_tests::driver::front_end::RingAddresses,
    descriptors: u64,
    driver: u64,
    device: u64,
) -> netkit_tests::driver::front_end::RingAddresses {
    netkit_tests::driver::front_end::RingAddresses {
        descriptors: good.descriptors + descriptors,
        available: good.available + driver,
        used: good.used + device,
        log: None,
    }
}
