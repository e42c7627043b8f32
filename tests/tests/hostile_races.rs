//! Drivers that change descriptors and headers while the device looks at them. The device copies each once, checks the
//! copy and uses nothing else: whatever is changed when, nothing arrives that was not right as a whole.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netkit_tests::driver::attack::attack;
use netkit_tests::driver::device::{PATIENCE, wait_readable};
use netkit_tests::driver::header::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
use netkit_tests::driver::memory::{BUFFERS, Memory};
use netkit_tests::driver::packet::{self, Host};
use netkit_tests::driver::ring::Part;
use netkit_tests::driver::{Format, NetDriver, Pair, Random, Received, Setup, feature};
use netkit_tests::in_both_formats;

in_both_formats!(
    descriptors_that_change_between_good_values,
    descriptors_that_change_between_good_and_bad_values,
    receive_descriptors_that_change,
    headers_that_change,
);

/// How long each race is run at least, until there was traffic.
const RACE: Duration = Duration::from_millis(600);
/// Frames of a race that has proved something.
const TRAFFIC: usize = 100;
const SIZE: u16 = 64;
/// Octets of the two chains that are right, virtio-net header included.
const LENGTHS: [u32; 2] = [72, 1500];
const HEADER: usize = 12;

/// Rings with and without tables of descriptors.
fn setups(format: Format) -> [Setup; 2] {
    let features = feature::VERSION_1 | feature::MRG_RXBUF | feature::HOST_OFFLOADS;
    [features, features | feature::INDIRECT].map(|features| Setup {
        size: SIZE,
        ..format.with(features)
    })
}

/// Two buffers of a frame each, full of another octet each, and room behind them.
fn buffers(driver: &mut NetDriver) -> [u64; 2] {
    [0xaa, 0xbb].map(|octet| {
        let at = driver.memory.allocate(BUFFERS, 4096, 64);
        let frame = packet::ethernet([2; 6], [4; 6], &[octet; 4000]);
        driver.memory.write(at, &[&[0; HEADER], &frame[..4000]].concat());
        at
    })
}

/// Runs `change` in a thread of its own while `race` runs here.
fn beside<T>(change: impl Fn(&mut Random) + Sync, race: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(11);
            while !stop.load(Ordering::Relaxed) {
                change(&mut random);
            }
        });
        // Also when the race fails.
        let _stop = Stop(&stop);
        race()
    })
}

/// Says so when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[(random.number() >> 33) as usize % of.len()]
}

/// Changes address and length of any chain of a ring, each at a time of its own.
fn change(memory: &Memory, descriptors: &[u64], addresses: &[u64], lengths: &[u32], random: &mut Random) {
    let at = pick(random, descriptors);
    memory.store(at, pick(random, addresses));
    memory.store(at + 8, pick(random, lengths));
}

fn descriptors(driver: &NetDriver, queue: usize) -> Vec<u64> {
    let ring = &driver.queues[queue].ring;
    (0..SIZE).map(|slot| ring.first_descriptor(slot)).collect()
}

/// Whether a race goes on that has lasted since `begun`.
fn goes_on(begun: Instant, received: usize) -> bool {
    begun.elapsed() < RACE || received < TRAFFIC && begun.elapsed() < PATIENCE
}

/// Has `a` make the buffers available while they are changed, and says how many frames `b` has received.
fn race(a: &mut NetDriver, b: &mut NetDriver, addresses: &[u64], lengths: &[u32]) -> usize {
    let at = descriptors(a, 1);
    let (memory, queue) = (&a.memory, &mut a.queues[1]);
    let mut received = 0;
    beside(
        |random| change(memory, &at, addresses, lengths, random),
        || {
            let begun = Instant::now();
            while goes_on(begun, received) {
                while queue.ring.pop(memory).is_some() {}
                while queue.ring.free() > 0 {
                    let part = Part {
                        address: addresses[0],
                        len: LENGTHS[1],
                        writable: false,
                    };
                    queue.ring.push(memory, &[part]);
                }
                queue.ring.publish(memory);
                queue.kick.write(1).expect("a kick");
                while let Some(it) = b.poll() {
                    is_whole(&it);
                    received += 1;
                }
                if wait_readable(&[queue.err.as_raw_fd()], Duration::from_micros(1)) {
                    return;
                }
            }
        },
    );
    while let Some(it) = b.receive_within(Duration::from_millis(20)) {
        is_whole(&it);
        received += 1;
    }
    received
}

/// A frame of one of the lengths, of one of the buffers and not partly of the other.
fn is_whole(received: &Received) {
    let frame = &received.frame;
    let lengths = LENGTHS.map(|len| len as usize - HEADER);
    assert!(
        lengths.contains(&frame.len()),
        "a frame of {} octets",
        frame.len()
    );
    let octet = frame[packet::ETHERNET];
    assert!([0xaa, 0xbb].contains(&octet), "octets from elsewhere");
    let same = frame[packet::ETHERNET..].iter().all(|it| *it == octet);
    assert!(same, "a frame of two buffers");
}

fn descriptors_that_change_between_good_values(format: Format) {
    attack(|_, pair| {
        for setup in setups(format) {
            let (mut a, mut b) = pair.connect(&setup).expect("two sessions");
            let addresses = buffers(&mut a);
            let received = race(&mut a, &mut b, &addresses, &LENGTHS);
            assert!(received >= TRAFFIC, "{received} frames are no traffic");
            let err = a.queues[1].err.as_raw_fd();
            assert!(
                !wait_readable(&[err], Duration::from_millis(1)),
                "nothing was wrong"
            );
        }
    });
}

fn descriptors_that_change_between_good_and_bad_values(format: Format) {
    attack(|_, pair| {
        for setup in setups(format) {
            let end = Instant::now() + 2 * RACE;
            let mut stopped = 0;
            // On a busy machine the daemon may look at the wrong moments for a while.
            while Instant::now() < end || stopped == 0 && Instant::now() < end + PATIENCE {
                let (mut a, mut b) = pair.connect(&setup).expect("two sessions");
                let [first, second] = buffers(&mut a);
                let outside = [0, 1 << 40, u64::MAX - 100];
                let addresses = [&[first, second].repeat(20)[..], &outside].concat();
                let lengths = [&LENGTHS.repeat(20)[..], &[0, 5, 100_000, u32::MAX]].concat();
                race(&mut a, &mut b, &addresses, &lengths);
                stopped += usize::from(a.queues[1].err.read().is_ok());
            }
            assert!(stopped > 0, "no bad value was ever seen");
        }
    });
}

/// The device writes to one of the buffers and nowhere else, and not more than a length that the driver gave.
fn receive_descriptors_that_change(format: Format) {
    attack(|_, pair| {
        for setup in setups(format) {
            let (mut a, b) = pair.connect(&setup).expect("two sessions");
            let at = descriptors(&b, 0);
            let mut b = b;
            let addresses = guarded(&mut b);
            let frame = packet::ethernet([2; 6], [4; 6], &[0xcc; 1400]);
            let memory = &b.memory;
            for descriptor in &at {
                memory.store(*descriptor, addresses[0]);
            }
            let used = || b.queues[0].ring.used_index(memory);
            let before = used();
            beside(
                |random| change(memory, &at, &addresses, &[2048, 100, 1412], random),
                || {
                    let end = Instant::now() + RACE;
                    while Instant::now() < end {
                        a.send_frame(&frame);
                    }
                    a.flush();
                },
            );
            assert_ne!(used(), before, "nothing was received");
            for address in addresses {
                let mut around = [0; 4096 + GUARD];
                memory.read(address - GUARD as u64, &mut around);
                let (before, rest) = around.split_at(GUARD);
                assert!(before.iter().all(|it| *it == 0x5a), "written before a buffer");
                assert!(
                    rest[2048..].iter().all(|it| *it == 0x5a),
                    "written behind a buffer"
                );
            }
        }
    });
}

/// Octets before a buffer that nobody may write to.
const GUARD: usize = 1024;

fn guarded(driver: &mut NetDriver) -> [u64; 2] {
    [(); 2].map(|()| {
        let at = driver.memory.allocate(BUFFERS, 4096 + GUARD as u64, 64);
        driver.memory.write(at, &[0x5a; 4096 + GUARD]);
        at + GUARD as u64
    })
}

/// Where in a chain something is that decides how its frame is to be treated, and what is put there.
const FIELDS: [(u64, &[u8]); 13] = [
    // virtio-net header: flags, gso_type.
    (0, &[0, 1, 1, 1, 2, 0xff]),
    (
        1,
        &[
            GSO_NONE, GSO_TCPV4, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, 0x81, 3, 0xff,
        ],
    ),
    // hdr_len, gso_size, csum_start, csum_offset.
    (2, &[54, 54, 0, 0xff]),
    (3, &[0, 0, 0xff]),
    (4, &[0, 100, 0xff]),
    (5, &[0, 1, 2, 0xff]),
    (6, &[34, 34, 0, 54, 0xff]),
    (7, &[0, 0, 5, 0xff]),
    (8, &[16, 16, 6, 0, 0xff]),
    // Ethertype, version and header length, protocol, and the TCP header's length.
    (12 + 12, &[0x08, 0x08, 0x86, 0x81]),
    (12 + 14, &[0x45, 0x45, 0x4f, 0x60, 0]),
    (12 + 23, &[6, 6, 17, 0]),
    (12 + 34 + 12, &[0x50, 0x50, 0xf0, 0]),
];

fn headers_that_change(format: Format) {
    let offloads = feature::LINUX;
    let none = feature::VERSION_1 | feature::MRG_RXBUF;
    attack(|_, pair| {
        for receiver in [offloads, none, feature::VERSION_1 | feature::GUEST_CSUM] {
            let mut a = pair.a.connect(format.with(feature::LINUX)).expect("a session");
            let mut b = pair.b.connect(format.with(receiver)).expect("a session");
            let frame = tcp_frame();
            let octets = [&[1, GSO_TCPV4, 54, 0, 100, 2, 34, 0, 16, 0, 0, 0][..], &frame].concat();
            let at = a.memory.allocate(BUFFERS, 4096, 64);
            a.memory.write(at, &octets);
            let (memory, queue) = (&a.memory, &mut a.queues[1]);
            let mut received = 0;
            beside(
                |random| {
                    let (offset, values) = pick(random, &FIELDS);
                    memory.store(at + offset, pick(random, values));
                },
                || {
                    let begun = Instant::now();
                    while goes_on(begun, received) {
                        while queue.ring.pop(memory).is_some() {}
                        while queue.ring.outstanding() < 32 {
                            let part = Part {
                                address: at,
                                len: octets.len() as u32,
                                writable: false,
                            };
                            queue.ring.push(memory, &[part]);
                        }
                        queue.ring.publish(memory);
                        queue.kick.write(1).expect("a kick");
                        while let Some(it) = b.poll() {
                            is_consistent(&it, frame.len());
                            received += 1;
                        }
                    }
                },
            );
            assert!(received >= TRAFFIC, "{received} frames are no traffic");
            works_still(pair);
        }
    });
}

fn works_still(pair: &Pair) {
    let drops = pair.a.drops();
    assert!(
        drops.iter().all(|(reason, _)| reason != "malformed_chain"),
        "{drops:?}"
    );
}

fn tcp_frame() -> Vec<u8> {
    let host = |last| Host {
        mac: [2, 0, 0, 0, 0, last],
        ip: std::net::Ipv4Addr::new(10, 1, 0, last).into(),
        port: 1000,
    };
    packet::tcp(host(1), host(2), 1, &[7; 1400])
}

/// What the header says of the frame is so. What it may say at all is checked for every frame that is received.
fn is_consistent(received: &Received, sent: usize) {
    let (header, frame) = (&received.header, &received.frame);
    let context = || format!("{header:?} with {:02x?}", &frame[..frame.len().min(64)]);
    assert!(frame.len() <= sent, "{} octets, {}", frame.len(), context());
    if header.gso_type == GSO_NONE {
        return;
    }
    let tags = frame[12..]
        .chunks(4)
        .take(2)
        .take_while(|it| it[0] == 0x81)
        .count();
    let network = 14 + 4 * tags;
    let (ethertype, version) = (&frame[network - 2..network], frame[network] >> 4);
    let is_v4 = ethertype == [8, 0] && version == 4;
    let is_v6 = ethertype == [0x86, 0xdd] && version == 6;
    let right = match header.gso_type & 0x7f {
        GSO_TCPV4 => is_v4 && frame[network + 9] == 6,
        GSO_TCPV6 => is_v6,
        GSO_UDP_L4 => is_v6 || is_v4 && frame[network + 9] == 17,
        _ => false,
    };
    assert!(right, "{}", context());
    if is_v4 {
        let transport = network + 4 * usize::from(frame[network] & 0xf);
        assert_eq!(usize::from(header.csum_start), transport, "{}", context());
    }
}
