//! Front ends and drivers that attack the daemon: whatever they do, their neighbours lose no frame and nothing leaks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use netkit_tests::driver::attack::{Held, attack, eventually, wait_until, works};
use netkit_tests::driver::device::{PATIENCE, wait_readable};
use netkit_tests::driver::front_end::{config_payload, single_region};
use netkit_tests::driver::memory::{BUFFERS, RINGS, SharedRegion, memory_file};
use netkit_tests::driver::message::{NEED_REPLY, REPLY, VERSION, longs, protocol, request, words};
use netkit_tests::driver::packet::ethernet;
use netkit_tests::driver::ring::{
    DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor, Part, Ring, write_descriptor,
};
use netkit_tests::driver::{End, Format, FrontEnd, NetDriver, Setup, feature};
use netkit_tests::in_both_formats;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

in_both_formats!(
    memory_that_is_taken_back_under_running_rings,
    receive_buffers_that_are_taken_back_while_the_peer_sends,
    a_region_that_is_removed_under_running_rings,
    a_call_descriptor_that_is_full,
    a_call_descriptor_that_is_full_and_would_block,
    memory_tables_under_traffic,
    a_log_that_is_too_small,
);

/// The daemon's limit for one message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
const REFUSED: Option<u64> = Some(1);
const HUNG_UP: Option<u64> = None;

fn connect(end: &End) -> FrontEnd {
    FrontEnd::connect(&end.socket).expect("a connection")
}

/// A session that may ask for acknowledgements.
fn acknowledged(end: &End) -> FrontEnd {
    let mut front_end = connect(end);
    front_end
        .set_protocol_features(protocol::REPLY_ACK | protocol::LOG_SHMFD | protocol::CONFIG)
        .expect("protocol features");
    front_end
}

/// What the back end answers: a number, or it hangs up.
fn answer(front_end: &FrontEnd) -> Option<u64> {
    match front_end.receive() {
        Ok(message) => Some(message.u64().expect("an acknowledgement")),
        Err(error) => {
            let hung_up = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
            assert!(hung_up.contains(&error.kind()), "no answer: {error}");
            None
        }
    }
}

/// Sends a request on a fresh connection. Who asks for an answer gets `expected`; who does not is hung up on.
fn rejects(end: &End, expected: Option<u64>, request: u32, payload: &[u8], fds: &[RawFd]) {
    let what = || format!("request {request} with {payload:?} and {} descriptors", fds.len());
    // Where an answer is owed anyway, a refusal would be taken for it.
    let expected = expected.filter(|_| ![request::SET_LOG_BASE, request::GET_VRING_BASE].contains(&request));
    let asks = acknowledged(end);
    asks.send(request, VERSION | NEED_REPLY, payload, fds)
        .expect("the message leaves");
    assert_eq!(answer(&asks), expected, "{}", what());
    if expected.is_some() {
        asks.settle().expect("a refusal ends nothing");
    }
    drop(asks);
    let silent = acknowledged(end);
    silent
        .send(request, VERSION, payload, fds)
        .expect("the message leaves");
    assert!(silent.is_hung_up_on(PATIENCE), "{} is not hung up on", what());
}

#[test]
fn a_message_that_is_not_finished_in_time() {
    attack(|_, pair| {
        std::thread::scope(|scope| {
            // An octet now and then does not buy time.
            scope.spawn(|| unfinished(&pair.a, MESSAGE_TIMEOUT / 8));
            scope.spawn(|| unfinished(&pair.b, 2 * MESSAGE_TIMEOUT));
        });
    });
}

fn unfinished(end: &End, pause: Duration) {
    let front_end = connect(end);
    let begun = Instant::now();
    let is_over = |patience| front_end.is_hung_up_on(patience);
    while front_end.send_octets(&[1]).is_ok() && !is_over(pause) {
        assert!(begun.elapsed() < 2 * MESSAGE_TIMEOUT, "it is waited for");
    }
    let took = begun.elapsed();
    assert!(took > MESSAGE_TIMEOUT - Duration::from_millis(200), "{took:?}");
    assert!(took < 2 * MESSAGE_TIMEOUT, "{took:?}");
}

#[test]
fn headers_that_nobody_may_send() {
    const GET: u32 = request::GET_FEATURES;
    let headers = [
        ("request 0", [0, VERSION, 0]),
        ("unknown request", [999, VERSION, 0]),
        ("largest request", [u32::MAX, VERSION, 0]),
        ("known request that is not offered", [26, VERSION, 0]),
        ("version 0", [GET, 0, 0]),
        ("version 2", [GET, 2, 0]),
        ("version 3", [GET, 3, 0]),
        ("a reply", [GET, VERSION | REPLY, 0]),
        ("payload of 4097", [GET, VERSION, 4097]),
        ("largest payload", [request::SET_MEM_TABLE, VERSION, u32::MAX]),
    ];
    attack(|_, pair| {
        for (what, header) in headers {
            let front_end = connect(&pair.a);
            let begun = Instant::now();
            front_end.send_octets(&words(&header)).expect("a header");
            assert!(front_end.is_hung_up_on(PATIENCE), "{what}");
            assert!(begun.elapsed() < MESSAGE_TIMEOUT, "{what} is waited for");
        }
    });
}

/// Requests with a payload, and the payload's length.
const PAYLOADS: [(u32, usize); 18] = [
    (request::SET_FEATURES, 8),
    (request::SET_PROTOCOL_FEATURES, 8),
    (request::SET_MEM_TABLE, 8 + 32),
    (request::ADD_MEM_REG, 40),
    (request::REM_MEM_REG, 40),
    (request::SET_LOG_BASE, 16),
    (request::SET_VRING_NUM, 8),
    (request::SET_VRING_ADDR, 40),
    (request::SET_VRING_BASE, 8),
    (request::GET_VRING_BASE, 8),
    (request::SET_VRING_KICK, 8),
    (request::SET_VRING_CALL, 8),
    (request::SET_VRING_ERR, 8),
    (request::SET_VRING_ENABLE, 8),
    (request::SEND_RARP, 8),
    (request::NET_SET_MTU, 8),
    (request::SET_STATUS, 8),
    (request::SET_CONFIG, 12),
];

#[test]
fn payloads_of_another_length() {
    attack(|_, pair| {
        for (request, right) in PAYLOADS {
            for wrong in [0, right - 1, right + 1, 4096] {
                let mut payload = vec![0; wrong];
                // One region is announced; without it, an empty table would have its eight octets.
                if let Some(count) = payload.first_mut() {
                    *count = 1;
                }
                rejects(&pair.a, HUNG_UP, request, &payload, &[]);
            }
        }
    });
}

#[test]
fn too_few_or_too_many_descriptors() {
    let (file, event) = (memory_file(1 << 20).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    let table = [words(&[1, 0]), single_region(&region(&file))[8..].to_vec()].concat();
    let messages = [
        (request::SET_MEM_TABLE, table, file.as_raw_fd()),
        (
            request::ADD_MEM_REG,
            single_region(&region(&file)),
            file.as_raw_fd(),
        ),
        (request::SET_LOG_BASE, longs(&[4096, 0]), file.as_raw_fd()),
        (request::SET_VRING_KICK, longs(&[0]), event.as_raw_fd()),
        (request::SET_VRING_CALL, longs(&[0]), event.as_raw_fd()),
        (request::SET_VRING_ERR, longs(&[0]), event.as_raw_fd()),
    ];
    attack(|_, pair| {
        for (request, payload, fd) in &messages {
            for count in [0, 2, 32] {
                rejects(&pair.a, REFUSED, *request, payload, &vec![*fd; count]);
            }
            for count in [33, 34, 253] {
                rejects(&pair.a, HUNG_UP, *request, payload, &vec![*fd; count]);
            }
        }
        a_few_with_every_octet(&pair.a, file.as_raw_fd());
        a_request_that_has_none(&pair.a, file.as_raw_fd());
    });
}

fn a_few_with_every_octet(end: &End, fd: RawFd) {
    let front_end = connect(end);
    let header = words(&[request::SET_MEM_TABLE, VERSION, 40]);
    for octet in header {
        // It may have hung up at the thirty-third.
        if front_end.send_octets_with(&[octet], &[fd; 8]).is_err() {
            break;
        }
    }
    assert!(front_end.is_hung_up_on(MESSAGE_TIMEOUT / 2));
}

fn a_request_that_has_none(end: &End, fd: RawFd) {
    let front_end = connect(end);
    for _ in 0..100 {
        front_end
            .send(request::GET_FEATURES, VERSION, &[], &[fd; 32])
            .expect("a message");
        front_end.receive().expect("an answer");
    }
}

#[test]
fn descriptors_of_another_kind() {
    let (pipe, _end) = io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let (memory, null) = (memory_file(8).unwrap(), File::open("/dev/null").unwrap());
    let kinds = [
        ("pipe", pipe.as_raw_fd()),
        ("socket", socket.as_raw_fd()),
        ("memory", memory.as_raw_fd()),
        ("device", null.as_raw_fd()),
    ];
    let requests = [
        request::SET_VRING_KICK,
        request::SET_VRING_CALL,
        request::SET_VRING_ERR,
    ];
    attack(|_, pair| {
        for (kind, fd) in kinds {
            println!("{kind}");
            for request in requests {
                rejects(&pair.a, REFUSED, request, &longs(&[1]), &[fd]);
            }
        }
    });
}

#[test]
fn rings_that_the_device_does_not_have() {
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    attack(|_, pair| {
        for ring in [2, 255, 256, u32::MAX] {
            let mut addresses = words(&[ring, 0]);
            addresses.extend(longs(&[0; 4]));
            rejects(&pair.a, REFUSED, request::SET_VRING_ADDR, &addresses, &[]);
            for (request, value) in [
                (request::SET_VRING_NUM, 256),
                (request::SET_VRING_BASE, 0),
                (request::GET_VRING_BASE, 0),
                (request::SET_VRING_ENABLE, 1),
            ] {
                rejects(&pair.a, REFUSED, request, &words(&[ring, value]), &[]);
            }
        }
        for ring in [2, 255] {
            for request in [
                request::SET_VRING_KICK,
                request::SET_VRING_CALL,
                request::SET_VRING_ERR,
            ] {
                rejects(&pair.a, REFUSED, request, &longs(&[ring]), &[event.as_raw_fd()]);
            }
        }
        for size in [0, 3, 32769, 65536, u32::MAX] {
            rejects(&pair.a, REFUSED, request::SET_VRING_NUM, &words(&[0, size]), &[]);
        }
        for enable in [2, u32::MAX] {
            rejects(
                &pair.a,
                REFUSED,
                request::SET_VRING_ENABLE,
                &words(&[0, enable]),
                &[],
            );
        }
    });
}

/// The whole of a file of one MiB as a region.
fn region(file: &File) -> SharedRegion {
    SharedRegion {
        guest: 0x10_0000,
        size: 0x10_0000,
        user: 0x7000_0000,
        file_offset: 0,
        fd: file.as_raw_fd(),
    }
}

#[test]
fn memory_that_cannot_be() {
    let file = memory_file(1 << 20).unwrap();
    let good = region(&file);
    let top = u64::MAX - 0xfff;
    let regions = [
        ("empty", SharedRegion { size: 0, ..good }),
        ("guest addresses wrap", SharedRegion { guest: top, ..good }),
        ("user addresses wrap", SharedRegion { user: top, ..good }),
        (
            "the file's end wraps",
            SharedRegion {
                file_offset: top,
                ..good
            },
        ),
        (
            "as long as can be",
            SharedRegion {
                size: u64::MAX,
                guest: 0,
                user: 0,
                ..good
            },
        ),
        (
            "longer than the file",
            SharedRegion {
                size: good.size + 1,
                ..good
            },
        ),
        (
            "beyond the file",
            SharedRegion {
                file_offset: 0x1000,
                ..good
            },
        ),
        (
            "within a page",
            SharedRegion {
                file_offset: 0x800,
                size: 0x1000,
                ..good
            },
        ),
    ];
    attack(|_, pair| {
        for (what, region) in regions {
            println!("{what}");
            let [single, table] = [single_region(&region), table_of(&[region])];
            rejects(&pair.a, REFUSED, request::ADD_MEM_REG, &single, &[region.fd]);
            rejects(&pair.a, REFUSED, request::SET_MEM_TABLE, &table, &[region.fd]);
        }
        let next = SharedRegion {
            guest: good.guest + good.size,
            user: good.user + good.size,
            ..good
        };
        for (what, second) in [
            ("twice the same", good),
            (
                "guest addresses overlap",
                SharedRegion {
                    guest: next.guest - 1,
                    ..next
                },
            ),
            (
                "user addresses overlap",
                SharedRegion {
                    user: next.user - 1,
                    ..next
                },
            ),
        ] {
            println!("{what}");
            let table = table_of(&[good, second]);
            rejects(
                &pair.a,
                REFUSED,
                request::SET_MEM_TABLE,
                &table,
                &[good.fd, second.fd],
            );
        }
        rejects(&pair.a, REFUSED, request::SET_MEM_TABLE, &table_of(&[]), &[]);
        rejects(&pair.a, REFUSED, request::REM_MEM_REG, &single_region(&good), &[]);
        nine_regions(&pair.a, good);
    });
}

fn nine_regions(end: &End, good: SharedRegion) {
    let nth = |index: u64| SharedRegion {
        guest: good.guest + index * good.size,
        user: good.user + index * good.size,
        ..good
    };
    let nine: Vec<SharedRegion> = (0..9).map(nth).collect();
    rejects(
        end,
        REFUSED,
        request::SET_MEM_TABLE,
        &table_of(&nine),
        &[good.fd; 9],
    );
}

fn table_of(regions: &[SharedRegion]) -> Vec<u8> {
    let mut payload = words(&[regions.len() as u32, 0]);
    regions
        .iter()
        .for_each(|region| payload.extend(&single_region(region)[8..]));
    payload
}

/// Makes a chain available that lies in [`BUFFERS`], without touching its buffer.
fn send_untouched(driver: &mut NetDriver) {
    let address = driver.memory.regions()[BUFFERS].guest;
    let part = Part {
        address,
        len: 100,
        writable: false,
    };
    let queue = &mut driver.queues[1];
    queue.ring.push(&driver.memory, &[part]);
    queue.ring.publish(&driver.memory);
    queue.kick.write(1).expect("a kick");
}

fn memory_that_is_taken_back_under_running_rings(format: Format) {
    attack(|_, pair| {
        for _ in 0..8 {
            for region in [BUFFERS, RINGS] {
                let mut a = pair.a.connect(format.linux()).expect("a session");
                if region == RINGS {
                    a.memory.file(RINGS).set_len(0).expect("a shorter file");
                    a.queues[1].kick.write(1).expect("a kick");
                } else {
                    a.memory.file(BUFFERS).set_len(0).expect("a shorter file");
                    send_untouched(&mut a);
                }
                assert!(a.front_end.is_hung_up_on(PATIENCE), "region {region}");
            }
        }
    });
}

fn receive_buffers_that_are_taken_back_while_the_peer_sends(format: Format) {
    attack(|_, pair| {
        for _ in 0..8 {
            let (a, mut b) = pair.connect(&format.linux()).expect("two sessions");
            a.memory.file(BUFFERS).set_len(0).expect("a shorter file");
            b.send_frame(&ethernet([2; 6], [4; 6], b"into nothing"));
            assert!(a.front_end.is_hung_up_on(PATIENCE));
            drop(a);
            // The sender is innocent: its session goes on.
            let mut a = pair.a.connect(format.linux()).expect("a new session");
            let frame = ethernet([2; 6], [4; 6], b"into a new guest");
            eventually("the sender is not served", || {
                b.send_frame(&frame);
                a.receive_within(Duration::from_millis(50)).is_some()
            });
        }
    });
}

fn a_region_that_is_removed_under_running_rings(format: Format) {
    attack(|_, pair| {
        for region in [BUFFERS, RINGS] {
            let (a, mut b) = pair.connect(&format.linux()).expect("two sessions");
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        b.send_frame(&ethernet([2; 6], [4; 6], b"traffic"));
                    }
                });
                let removed = a.memory.regions()[region];
                a.front_end.rem_mem_reg(&removed).expect("a removal");
                let told = wait_readable(&[a.queues[0].err.as_raw_fd()], PATIENCE);
                a.front_end.settle().expect("the session goes on");
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                assert!(told, "region {region}: nobody says that the ring has stopped");
            });
        }
    });
}

#[test]
fn replies_that_are_never_read() {
    attack(|_, pair| {
        let front_end = connect(&pair.a);
        let question = words(&[request::GET_FEATURES, VERSION, 0]);
        let begun = Instant::now();
        while front_end.send_octets(&question.repeat(64)).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it is never hung up on");
        }
    });
}

fn a_call_descriptor_that_is_full(format: Format) {
    attack(|_, pair| {
        let (mut a, b) = pair.connect(&format.linux()).expect("two sessions");
        let _ = b.queues[0].call.read();
        b.queues[0].call.write(u64::MAX - 1).expect("a full counter");
        b.queues[0].ring.arm(&b.memory);
        for _ in 0..100 {
            a.send_frame(&ethernet([2; 6], [4; 6], b"one call more"));
        }
        a.flush();
        eventually("a frame is held up", || b.queues[0].ring.ready(&b.memory) == 100);
    });
}

fn a_call_descriptor_that_is_full_and_would_block(format: Format) {
    attack(|_, pair| {
        let (mut a, b) = pair.connect(&format.linux()).expect("two sessions");
        let call = &b.queues[0].call;
        let _ = call.read();
        call.write(u64::MAX - 1).expect("a full counter");
        // The flag belongs to the open file, which the front end shares.
        // SAFETY: plain fcntl call on a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(call.as_raw_fd(), libc::F_SETFL, 0) }, 0);
        b.queues[0].ring.arm(&b.memory);
        a.send_frame(&ethernet([2; 6], [4; 6], b"one call more"));
        let used = wait_until(PATIENCE / 4, || a.queues[1].ring.ready(&a.memory) > 0);
        // Lets the daemon go on whatever it did, so that this test ends.
        call.read().expect("the counter");
        assert!(used, "a worker waits for a guest");
    });
}

#[test]
fn descriptors_that_are_replaced_again_and_again() {
    let (file, event) = (memory_file(4096).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    attack(|daemon, pair| {
        let before = Held::by(daemon);
        let front_end = acknowledged(&pair.a);
        for _ in 0..200 {
            let fd = Some(event.as_raw_fd());
            front_end.set_vring_kick(1, fd).expect("a kick descriptor");
            front_end.set_vring_call(1, fd).expect("a call descriptor");
            front_end.set_vring_err(1, fd).expect("an err descriptor");
            front_end.set_log_base(&file, 4096, 0).expect("a log");
            let log = front_end.acknowledge(request::SET_LOG_FD, &[], &[event.as_raw_fd()]);
            assert_eq!(log.expect("an answer"), 0);
        }
        let held = Held::by(daemon);
        // The socket, three descriptors and the log, and whoever asks the API meanwhile.
        assert!(
            held.descriptors <= before.descriptors + 8,
            "{before:?}, then {held:?}"
        );
        assert!(
            held.shared_maps <= before.shared_maps + 1,
            "{before:?}, then {held:?}"
        );
    });
}

#[test]
fn as_many_regions_as_there_are_slots_and_one_more() {
    let file = memory_file(1 << 20).unwrap();
    attack(|_, pair| {
        let front_end = acknowledged(&pair.a);
        let slots = front_end.max_mem_slots().expect("a number");
        let good = region(&file);
        for index in 0..=slots {
            let nth = SharedRegion {
                guest: good.guest + index * good.size,
                user: good.user + index * good.size,
                ..good
            };
            let payload = single_region(&nth);
            let status = front_end.acknowledge(request::ADD_MEM_REG, &payload, &[nth.fd]);
            assert_eq!(
                status.expect("an answer"),
                u64::from(index == slots),
                "region {index}"
            );
        }
    });
}

#[test]
fn what_a_session_holds_is_seen_and_given_back() {
    attack(|daemon, pair| {
        let before = Held::by(daemon);
        let sessions = pair.connect(&Setup::default()).expect("two sessions");
        let held = Held::by(daemon);
        let regions = sessions.0.memory.regions().len() + sessions.1.memory.regions().len();
        assert!(
            held.shared_maps >= before.shared_maps + regions,
            "{before:?}, then {held:?}"
        );
        assert!(held.descriptors > before.descriptors, "{before:?}, then {held:?}");
        assert!(!held.is_within(&before));
    });
}

#[test]
fn a_storm_of_connections() {
    attack(|_, pair| {
        std::thread::scope(|scope| {
            for thread in 0..10 {
                let end = if thread % 2 == 0 { &pair.a } else { &pair.b };
                scope.spawn(move || {
                    for round in 0..50 {
                        let front_end = connect(end);
                        if round % 3 == 0 {
                            // The one before may be connected still, so there is nobody to answer.
                            front_end.send_octets(&[1; 7]).expect("part of a message");
                        }
                    }
                });
            }
        });
    });
}

fn memory_tables_under_traffic(format: Format) {
    const TABLES: u64 = 200;
    attack(|_, pair| {
        let (mut a, mut b) = pair.connect(&format.linux()).expect("two sessions");
        let (regions_a, regions_b) = (a.memory.regions().to_vec(), b.memory.regions().to_vec());
        for round in 0..TABLES {
            let frame = |part: u8| ethernet([2; 6], [4; 6], &[&round.to_be_bytes()[..], &[part]].concat());
            a.send_frame(&frame(0));
            b.front_end.set_mem_table(&regions_b).expect("a table");
            a.send_frame(&frame(1));
            a.front_end.set_mem_table(&regions_a).expect("a table");
            for part in 0..2 {
                assert_eq!(b.receive().frame, frame(part), "round {round}");
            }
        }
    });
}

/// What a criminal puts into all descriptors of its receive ring.
type Trap = (&'static str, fn(&NetDriver) -> Descriptor);

/// A driver's crime in its transmit ring.
type Crime = (&'static str, fn(&mut NetDriver));

const CRIMES: [Crime; 18] = [
    ("descriptor loops to itself", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_NEXT,
                next: 0,
                ..fine(it)
            },
        )
    }),
    ("two descriptors loop", |it| {
        describe(
            it,
            1,
            Descriptor {
                flags: DESC_NEXT,
                next: 0,
                ..fine(it)
            },
        );
        one(
            it,
            Descriptor {
                flags: DESC_NEXT,
                next: 1,
                ..fine(it)
            },
        );
    }),
    ("head outside the table", |it| offer(it, 256)),
    ("largest head", |it| offer(it, u16::MAX)),
    ("next outside the table", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_NEXT,
                next: 256,
                ..fine(it)
            },
        )
    }),
    ("indirect and next", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_INDIRECT | DESC_NEXT,
                next: 1,
                ..fine(it)
            },
        );
    }),
    ("empty indirect table", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_INDIRECT,
                len: 0,
                ..fine(it)
            },
        )
    }),
    ("odd indirect table", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_INDIRECT,
                len: 17,
                ..fine(it)
            },
        )
    }),
    ("indirect table outside memory", |it| {
        one(
            it,
            Descriptor {
                address: 0,
                flags: DESC_INDIRECT,
                len: 16,
                next: 0,
            },
        )
    }),
    ("nested indirect tables", |it| {
        indirect(
            it,
            Descriptor {
                flags: DESC_INDIRECT,
                ..fine(it)
            },
        )
    }),
    ("indirect table loops", |it| {
        indirect(
            it,
            Descriptor {
                flags: DESC_NEXT,
                next: 0,
                ..fine(it)
            },
        )
    }),
    ("next outside the indirect table", |it| {
        indirect(
            it,
            Descriptor {
                flags: DESC_NEXT,
                next: 1,
                ..fine(it)
            },
        )
    }),
    ("buffer outside memory", |it| {
        one(
            it,
            Descriptor {
                address: 0,
                ..fine(it)
            },
        )
    }),
    ("buffer wraps around", |it| {
        one(
            it,
            Descriptor {
                address: u64::MAX - 8,
                ..fine(it)
            },
        )
    }),
    ("buffer of 4 GiB", |it| {
        one(
            it,
            Descriptor {
                len: u32::MAX,
                ..fine(it)
            },
        )
    }),
    ("empty buffer", |it| one(it, Descriptor { len: 0, ..fine(it) })),
    ("writable buffer", |it| {
        one(
            it,
            Descriptor {
                flags: DESC_WRITE,
                ..fine(it)
            },
        )
    }),
    ("available index beyond the ring", |it| {
        it.queues[1].ring.split().set_available_index(&it.memory, 257);
        it.queues[1].kick.write(1).expect("a kick");
    }),
];

fn fine(driver: &NetDriver) -> Descriptor {
    Descriptor {
        address: driver.memory.regions()[BUFFERS].guest,
        len: 64,
        flags: 0,
        next: 0,
    }
}

fn describe(driver: &NetDriver, index: u16, descriptor: Descriptor) {
    driver.queues[1]
        .ring
        .split()
        .set_descriptor(&driver.memory, index, descriptor);
}

fn offer(driver: &mut NetDriver, head: u16) {
    let queue = &mut driver.queues[1];
    if let Ring::Split(ring) = &mut queue.ring {
        ring.offer(&driver.memory, head);
    }
    queue.ring.publish(&driver.memory);
    queue.kick.write(1).expect("a kick");
}

fn one(driver: &mut NetDriver, descriptor: Descriptor) {
    describe(driver, 0, descriptor);
    offer(driver, 0);
}

/// A table of one descriptor.
fn indirect(driver: &mut NetDriver, descriptor: Descriptor) {
    let table = driver.memory.regions()[BUFFERS].guest;
    write_descriptor(&driver.memory, table, descriptor);
    one(
        driver,
        Descriptor {
            flags: DESC_INDIRECT,
            len: 16,
            ..fine(driver)
        },
    );
}

#[test]
fn crimes_in_a_running_ring() {
    attack(|daemon, pair| {
        let found = || daemon.drops(&pair.a.device, "malformed_chain");
        for (what, commit) in CRIMES {
            let before = found();
            let mut a = pair.a.connect(Setup::default()).expect("a session");
            commit(&mut a);
            let err = a.queues[1].err.as_raw_fd();
            assert!(
                wait_readable(&[err], PATIENCE),
                "{what}: nobody says that the ring has stopped"
            );
            eventually(&format!("{what} is not counted"), || found() == before + 1);
            // Good chains are not looked at any more.
            let used = a.queues[1].ring.used_index(&a.memory);
            a.queues[1]
                .ring
                .split()
                .set_available_index(&a.memory, used.wrapping_add(1));
            describe(&a, 0, fine(&a));
            a.queues[1].kick.write(1).expect("a kick");
            a.front_end.settle().expect("the session goes on");
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(a.queues[1].ring.used_index(&a.memory), used, "{what}");
            drop(a);
            works(pair);
        }
    });
}

#[test]
fn crimes_in_a_receive_ring() {
    let crimes: [Trap; 4] = [
        ("readable buffer", fine),
        ("loop", |it| Descriptor {
            flags: DESC_WRITE | DESC_NEXT,
            ..fine(it)
        }),
        ("outside memory", |it| Descriptor {
            address: 0,
            flags: DESC_WRITE,
            ..fine(it)
        }),
        ("next outside", |it| Descriptor {
            flags: DESC_WRITE | DESC_NEXT,
            next: 256,
            ..fine(it)
        }),
    ];
    attack(|_, pair| {
        for (what, crime) in crimes {
            let (a, mut b) = pair.connect(&Setup::default()).expect("two sessions");
            for index in 0..256 {
                a.queues[0]
                    .ring
                    .split()
                    .set_descriptor(&a.memory, index, crime(&a));
            }
            b.send_frame(&ethernet([2; 6], [4; 6], b"for a criminal"));
            let err = a.queues[0].err.as_raw_fd();
            assert!(
                wait_readable(&[err], PATIENCE),
                "{what}: nobody says that the ring has stopped"
            );
            // The sender is innocent.
            b.flush();
        }
    });
}

#[test]
fn configuration_outside_its_space() {
    attack(|_, pair| {
        let front_end = acknowledged(&pair.a);
        for (offset, len) in [
            (257, 1),
            (256, 1),
            (0, 257),
            (250, 7),
            (u32::MAX, 1),
            (u32::MAX, 256),
        ] {
            assert_eq!(
                front_end.config(offset, len).expect("an answer"),
                None,
                "{len} at {offset}"
            );
        }
        assert_eq!(
            front_end.config(0, 256).expect("an answer").map(|it| it.len()),
            Some(256)
        );
        drop(front_end);
        let write = config_payload(u32::MAX, 0, &[0; 8]);
        rejects(&pair.a, REFUSED, request::SET_CONFIG, &write, &[]);
    });
}

#[test]
fn logs_that_cannot_be() {
    let file = memory_file(4096).unwrap();
    attack(|_, pair| {
        for (size, offset) in [(0, 0), (u64::MAX, 0), (4096, u64::MAX), (4096, 1), (1 << 48, 0)] {
            println!("{size} octets at {offset}");
            rejects(
                &pair.a,
                REFUSED,
                request::SET_LOG_BASE,
                &longs(&[size, offset]),
                &[file.as_raw_fd()],
            );
        }
    });
}

fn a_log_that_is_too_small(format: Format) {
    let empty = memory_file(0).unwrap();
    let small = memory_file(4096).unwrap();
    // The first has no octet behind its pages, the second none for the guest's addresses, the third ends too early.
    for (file, size) in [(&empty, 1 << 20), (&small, 1), (&small, 1 << 20)] {
        attack(|_, pair| {
            let (mut a, mut b) = pair.connect(&format.linux()).expect("two sessions");
            b.front_end.set_log_base(file, size, 0).expect("an answer");
            let features = b.setup().features | feature::PROTOCOL_FEATURES | feature::LOG_ALL;
            b.front_end.set_features(features).expect("an answer");
            // The log's owner misses marks; nobody misses a frame.
            let frame = ethernet([2; 6], [4; 6], b"logged");
            for _ in 0..10 {
                a.send_frame(&frame);
                assert_eq!(b.receive().frame, frame);
            }
        });
    }
}
