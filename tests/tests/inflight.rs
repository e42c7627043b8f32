//! Inflight I/O tracking of vhost-user (U16): memory that a front end keeps for its back end, so that the next one knows
//! what the last one had taken and not used.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use netkit_tests::driver::attack::attack;
use netkit_tests::driver::device::PATIENCE;
use netkit_tests::driver::inflight::{InflightRegion, payload};
use netkit_tests::driver::memory::memory_file;
use netkit_tests::driver::message::{NEED_REPLY, VERSION, protocol, request};
use netkit_tests::driver::{
    End, Format, FrontEnd, Header, NetDriver, Opening, Pair, PairConfig, Setup, feature, packet,
};
use netkit_tests::in_both_formats;
use netkit_tests::netkitd::Netkitd;

in_both_formats!(
    u16_a_region_has_the_layout_of_its_format,
    u16_a_region_is_given_back_on_every_connection,
    u16_a_killed_daemon_loses_nothing_and_uses_nothing_twice,
    u16_a_region_full_of_anything_harms_nobody,
);

/// Room for all frames of a round, and for those that come twice.
const SIZE: u16 = 128;

fn lasting(format: Format) -> Setup {
    Setup {
        inflight: true,
        size: SIZE,
        ..format.linux()
    }
}

fn bench() -> (Netkitd, Pair) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    (daemon, pair)
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

/// A front end that has agreed on everything, and on these virtio features.
fn agreed(end: &End, features: u64) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&end.socket).unwrap();
    let offered = front_end.protocol_features().unwrap();
    assert_ne!(offered & protocol::INFLIGHT_SHMFD, 0, "not offered");
    front_end.set_protocol_features(offered).unwrap();
    front_end
        .set_features(features | feature::PROTOCOL_FEATURES)
        .unwrap();
    front_end
}

/// Octets of a queue's region: a header, and a state for each descriptor.
fn least(format: Format, queue_size: u64) -> u64 {
    match format {
        Format::Split => 16 + 16 * queue_size,
        Format::Packed => 32 + 32 * queue_size,
    }
}

fn u16_a_region_has_the_layout_of_its_format(format: Format) {
    let daemon = Netkitd::start();
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let front_end = agreed(&pair.a, format.linux().features);
    for (queues, size) in [(1, 1), (2, 256), (4, 1024), (4, 32768)] {
        let region = front_end.inflight(queues, size).unwrap();
        let needed = u64::from(queues) * least(format, size.into());
        assert!(region.size >= needed, "{queues} of {size}: {}", region.size);
        assert!(region.file.metadata().unwrap().len() >= region.offset + region.size);
        assert!(
            region.contents().unwrap().iter().all(|octet| *octet == 0),
            "a new region"
        );
        let link = std::fs::read_link(format!("/proc/self/fd/{}", region.file.as_raw_fd())).unwrap();
        assert!(link.to_string_lossy().starts_with("/memfd:"), "{link:?}");
    }
    drop(front_end);

    let setup = Setup {
        pairs: 2,
        ..lasting(format)
    };
    let (mut a, mut b) = pair.connect(&setup).unwrap();
    flows(&mut a, &mut b, 40);
    a.flush();
    let region = a.inflight.region.as_ref().unwrap();
    let octets = region.contents().unwrap();
    let field = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
    for queue in 0..4 {
        let at = queue * octets.len() / 4;
        assert_eq!(
            (field(at + 8), field(at + 10)),
            (1, SIZE),
            "version and descriptors"
        );
    }
    // Where the transmit queue stands.
    let transmit = octets.len() / 4;
    match format {
        Format::Split => assert_eq!(field(transmit + 14), 40, "used_idx"),
        Format::Packed => {
            assert_eq!(
                (field(transmit + 16), field(transmit + 18)),
                (40, 40),
                "used indices"
            );
            assert_eq!(octets[transmit + 20..transmit + 22], [1, 1], "wrap counters");
        }
    }
    // Nothing is in flight: the first octet of each state.
    let (header, step) = match format {
        Format::Split => (16, 16),
        Format::Packed => (32, 32),
    };
    let states = octets[transmit + header..].chunks(step).take(SIZE.into());
    assert!(
        states.into_iter().all(|state| state[0] == 0),
        "something is in flight"
    );
}

fn u16_a_region_is_given_back_on_every_connection(format: Format) {
    let (_daemon, pair) = bench();
    for opening in [Opening::Qemu, Opening::CloudHypervisor] {
        let setup = Setup {
            opening,
            ..lasting(format)
        };
        let (mut a, mut b) = pair.connect(&setup).unwrap();
        for round in 0..10 {
            flows(&mut a, &mut b, 10 + 17 * round);
            flows(&mut b, &mut a, 3);
            // Some are taken while nobody looks.
            for number in 0..20 {
                assert!(a.try_send(0, &Header::default(), &frame(number)));
            }
            a.reconnect(&pair.a.socket).unwrap();
            b.reconnect(&pair.b.socket).unwrap();
            a.flush();
            let mut came = 0;
            while let Some(it) = b.receive_within(Duration::from_millis(20)) {
                assert_eq!(it.frame, frame(came), "{opening:?}, round {round}");
                came += 1;
            }
            // Those that came while the receiver was away are lost, as on any wire.
            assert!(came <= 20);
        }
        flows(&mut a, &mut b, 200);
    }
}

/// As `kill -9` in the middle of traffic. Every chain is used once: the driver checks each id when it takes it back, and
/// `flush` waits for all of them. Frames arrive in order, once or, at the seam, twice.
fn u16_a_killed_daemon_loses_nothing_and_uses_nothing_twice(format: Format) {
    let (mut daemon, pair) = bench();
    // QEMU's order: cloud-hypervisor starts its rings before it enables them, and what a guest has sent by then is
    // discarded (U3).
    let (mut a, mut b) = pair.connect(&lasting(format)).unwrap();
    let (mut sent, mut received) = (0u32, 0u32);
    for round in 0..12u64 {
        for _ in 0..60 {
            assert!(a.try_send(0, &Header::default(), &frame(sent)));
            sent += 1;
        }
        // At another moment of its work each time.
        std::thread::sleep(Duration::from_micros(round * 15));
        daemon.kill();
        daemon.run();
        b.reconnect(&pair.b.socket).unwrap();
        a.reconnect(&pair.a.socket).unwrap();
        a.flush();
        while received < sent {
            let it = b.receive_within(PATIENCE);
            let it = it.unwrap_or_else(|| panic!("round {round}: frames are lost: {:?}", pair.a.drops()));
            if it.frame == frame(received) {
                received += 1;
            } else {
                let known = (0..received).any(|number| it.frame == frame(number));
                assert!(known, "round {round}: frame {received} was lost");
            }
        }
        while let Some(it) = b.poll() {
            let known = (0..sent).any(|number| it.frame == frame(number));
            assert!(known, "a frame came from nowhere");
        }
        // All buffers are there again.
        assert_eq!(b.queues[0].ring.outstanding(), usize::from(SIZE));
        flows(&mut b, &mut a, 70);
        flows(&mut a, &mut b, 70);
    }
}

/// QEMU's virtio-net has no region, and gives the base that its rings began with. What is left of a packed ring tells the
/// daemon better, if it was not killed in the middle of returning a burst.
#[test]
fn u8_packed_rings_survive_a_killed_daemon_without_a_region() {
    for features in [
        feature::LINUX,
        feature::LINUX | feature::IN_ORDER,
        feature::VERSION_1,
    ] {
        let (mut daemon, pair) = bench();
        let setup = Setup {
            size: SIZE,
            ..Format::Packed.with(features)
        };
        assert!(!setup.inflight);
        let (mut a, mut b) = pair.connect(&setup).unwrap();
        for round in 0..12u32 {
            flows(&mut a, &mut b, 1 + 37 * round);
            flows(&mut b, &mut a, 5);
            a.flush();
            b.flush();
            daemon.kill();
            for number in 0..20 {
                assert!(a.try_send(0, &Header::default(), &frame(number)));
            }
            daemon.run();
            // The receiver first: what finds nobody is lost, as on any wire.
            b.reconnect(&pair.b.socket).unwrap();
            a.reconnect(&pair.a.socket).unwrap();
            for number in 0..20 {
                assert_eq!(b.receive().frame, frame(number), "{features:#x}, round {round}");
            }
            assert_eq!(b.queues[0].ring.outstanding(), usize::from(SIZE));
        }
    }
}

/// The front end keeps the region, so it may write whatever it likes into it.
fn u16_a_region_full_of_anything_harms_nobody(format: Format) {
    use std::os::unix::fs::FileExt;
    attack(|_, pair| {
        let mut random = netkit_tests::driver::Random::new(16);
        for round in 0..40 {
            let mut a = pair.a.connect(lasting(format)).expect("a session");
            let region = a.inflight.region.as_ref().expect("a region");
            let mut octets = match round % 4 {
                0 => vec![0xff; region.size as usize],
                _ => random.octets(region.size as usize),
            };
            // A right version and number of descriptors lead further.
            if round % 4 > 1 {
                for queue in 0..2 {
                    let at = queue * octets.len() / 2;
                    octets[at + 8..at + 10].copy_from_slice(&1u16.to_ne_bytes());
                    octets[at + 10..at + 12].copy_from_slice(&SIZE.to_ne_bytes());
                }
            }
            region
                .file
                .write_all_at(&octets, region.offset)
                .expect("a region");
            for number in 0..20 {
                let _ = a.try_send(0, &Header::default(), &frame(number));
            }
            // Under running rings, and for new ones.
            let _ = a.front_end.settle();
            a.front_end = FrontEnd::connect(&pair.a.socket).expect("a connection");
            if a.negotiate().is_ok() {
                let _ = a.activate();
            }
            a.queues[1].kick.write(1).expect("a kick");
            let _ = a.front_end.settle();
        }
    });
}

#[test]
fn u16_a_region_that_is_taken_back_under_the_daemon() {
    attack(|_, pair| {
        for format in Format::BOTH {
            let mut a = pair.a.connect(lasting(format)).expect("a session");
            let region = a.inflight.region.as_ref().expect("a region");
            // If the daemon sealed it, that is as good.
            let _ = region.file.set_len(0);
            for number in 0..20 {
                let _ = a.try_send(0, &Header::default(), &frame(number));
            }
            let _ = a.front_end.settle();
        }
    });
}

/// The front end's own file instead of the daemon's.
fn own(size: u64) -> File {
    memory_file(size).expect("a file")
}

#[test]
fn u16_descriptions_that_cannot_be_are_refused() {
    attack(|_, pair| {
        for format in Format::BOTH {
            let features = format.linux().features;
            // What a region for two rings of 64 has.
            let region = agreed(&pair.a, features).inflight(2, SIZE).expect("a region");
            let (size, fd) = (region.size, region.file.as_raw_fd());
            let whole = own(1 << 20);
            let short = own(size / 2);
            let null = File::open("/dev/null").expect("a device");
            let (pipe, _end) = std::io::pipe().expect("a pipe");
            let cases: [(&str, Vec<u8>, RawFd); 13] = [
                ("no octets", payload(0, 0, 2, SIZE), fd),
                ("an octet short", payload(size / 2 - 1, 0, 2, SIZE), fd),
                (
                    "larger than the file",
                    payload(size + 4096, 0, 2, SIZE),
                    short.as_raw_fd(),
                ),
                (
                    "beyond the file",
                    payload(size, 1 << 40, 2, SIZE),
                    whole.as_raw_fd(),
                ),
                ("an end that wraps", payload(size, u64::MAX - 100, 2, SIZE), fd),
                ("a size that wraps", payload(u64::MAX, 4096, 2, SIZE), fd),
                ("no rings", payload(size, 0, 0, SIZE), fd),
                ("more rings than there are", payload(size, 0, 3, SIZE), fd),
                ("the most rings", payload(size, 0, u16::MAX, SIZE), fd),
                ("rings too large for it", payload(size, 0, 2, 32768), fd),
                (
                    "a file that is too short",
                    payload(size, 0, 2, SIZE),
                    short.as_raw_fd(),
                ),
                ("a device", payload(size, 0, 2, SIZE), null.as_raw_fd()),
                ("a pipe", payload(size, 0, 2, SIZE), pipe.as_raw_fd()),
            ];
            for (what, payload, fd) in &cases {
                is_refused(&pair.a, features, what, payload, &[*fd]);
            }
            let good = region.payload();
            is_refused(&pair.a, features, "no descriptor", &good, &[]);
            is_refused(&pair.a, features, "two descriptors", &good, &[fd, fd]);
            // And so is a question for a region that cannot be.
            for (queues, size) in [(0, 64), (3, 64), (u16::MAX, u16::MAX), (2, 0), (2, 32769)] {
                let front_end = agreed(&pair.a, features);
                let asked = front_end.inflight(queues, size);
                assert!(asked.is_err(), "a region for {queues} rings of {size}");
            }
            for wrong in [0, 8, 19, 25, 4096] {
                let front_end = agreed(&pair.a, features);
                let question = vec![0; wrong];
                front_end
                    .send(request::GET_INFLIGHT_FD, VERSION, &question, &[])
                    .expect("a question");
                assert!(front_end.is_hung_up_on(PATIENCE), "a question of {wrong} octets");
            }
        }
    });
}

fn is_refused(end: &End, features: u64, what: &str, payload: &[u8], fds: &[RawFd]) {
    let front_end = agreed(end, features);
    let message = (request::SET_INFLIGHT_FD, VERSION | NEED_REPLY);
    front_end
        .send(message.0, message.1, payload, fds)
        .expect("a message");
    match front_end.receive() {
        Ok(answer) => assert_ne!(answer.u64(), Some(0), "{what} was accepted"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{what}"),
    }
}

/// A region may lie anywhere in its file, and be larger than it must.
#[test]
fn u16_a_region_within_a_larger_file_is_taken() {
    let (_daemon, pair) = bench();
    for format in Format::BOTH {
        let (mut a, mut b) = pair.connect(&lasting(format)).unwrap();
        let told = a.inflight.region.take().unwrap();
        a.inflight.region = Some(InflightRegion {
            file: own(1 << 20),
            offset: 8192,
            ..told
        });
        a.reconnect(&pair.a.socket).unwrap();
        flows(&mut a, &mut b, 100);
        a.flush();
        let written = a.inflight.region.as_ref().unwrap().contents().unwrap();
        assert!(written.iter().any(|octet| *octet != 0), "nothing was noted");
    }
}
