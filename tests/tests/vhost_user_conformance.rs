//! What the vhost-user specification (docs/interop/vhost-user.rst of QEMU) and the virtio specification ask of a back
//! end, clause by clause, and the ways in which the front ends that exist speak.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use netkit_api::{DeviceSet, SocketMode};
use netkit_tests::driver::device::{PATIENCE, wait_readable};
use netkit_tests::driver::front_end::{config_payload, receive, single_region};
use netkit_tests::driver::memory::{BUFFERS, RINGS, SharedRegion, memory_file};
use netkit_tests::driver::message::{
    NEED_REPLY, REPLY, VERSION, backend_request, longs, protocol, request, words,
};
use netkit_tests::driver::ring::{DESC_INDIRECT, DESC_NEXT, PackedDescriptor, Part, Position, Ring};
use netkit_tests::driver::{
    End, Format, FrontEnd, Header, NetDriver, Opening, Pair, PairConfig, Random, Setup, feature, packet,
};
use netkit_tests::in_both_formats;
use netkit_tests::netkitd::Netkitd;
use vhost::VhostBackend;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};

in_both_formats!(
    u02_rings_are_enabled_from_the_start_without_protocol_features,
    u02_u03_a_ring_that_is_started_and_disabled_receives_nothing_and_is_drained,
    u02_g01_nothing_is_touched_before_the_rings_start,
    u04_u08_a_ring_stops_where_it_stood_and_goes_on_from_there,
    u08_the_indices_wrap_around,
    u05_the_memory_table_is_replaced_under_running_rings,
    u05_a_descriptor_is_replaced_under_a_running_ring,
    u05_u10_rings_wait_for_a_region_that_is_removed_and_added_again,
    u05_a_buffer_may_lie_in_a_region_that_was_added_and_across_two,
    u05_features_may_be_set_again_while_rings_run,
    u06_g08_a_suspended_device_is_silent,
    u07_every_page_that_is_written_is_logged_and_no_other,
    u07_a_log_outlives_a_change_of_the_memory,
    u09_rings_without_descriptors_are_polled,
    u09_notifications_go_to_the_descriptor_that_was_given_last,
    u09_a_new_call_descriptor_learns_of_what_was_used_before,
    u12_an_mtu_is_taken_or_refused,
    u13_a_guest_is_announced_to_everybody,
    u17_reset_owner_disables_the_rings,
    u17_g06_g07_g08_after_a_reset_the_device_is_as_new,
    g02_a_ring_that_its_driver_broke_says_so_on_its_error_descriptor,
    g04_every_valid_subset_of_the_features_works,
    every_front_end_is_served_in_its_own_order,
    a_front_end_with_fewer_queues_than_the_device_is_served_on_those,
    posted_buffers_survive_a_new_connection_whatever_base_it_gives,
    a_killed_daemon_loses_no_frame_and_no_buffer,
    a_killed_daemon_wakes_a_driver_that_waits_for_room,
);

/// Long enough for something that is not to happen, to happen.
const QUIET: Duration = Duration::from_millis(100);

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A daemon with a pair whose sockets wait for front ends.
fn bench() -> (Netkitd, Pair) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    (daemon, pair)
}

fn frame(number: u32) -> Vec<u8> {
    packet::ethernet(A, B, &number.to_be_bytes())
}

/// Frames go from `a` to `b`, each of them once and in order.
fn flows(a: &mut NetDriver, b: &mut NetDriver, count: u32) {
    for number in 0..count {
        a.send_frame(&frame(number));
    }
    for number in 0..count {
        assert_eq!(b.receive().frame, frame(number));
    }
}

/// Frames go both ways.
fn exchange(a: &mut NetDriver, b: &mut NetDriver) {
    flows(a, b, 100);
    flows(b, a, 100);
}

/// A front end that has agreed on acknowledgements and nothing else.
fn acknowledged(end: &End) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&end.socket).unwrap();
    let offered = front_end.protocol_features().unwrap();
    front_end.set_protocol_features(offered).unwrap();
    front_end
}

fn drops(end: &End, reason: &str) -> u64 {
    let found = end.drops().into_iter().find(|(name, _)| name == reason);
    found.map_or(0, |(_, frames)| frames)
}

// U1: header flags; which requests have answers.

#[test]
fn u01_a_request_with_an_answer_gets_one_and_no_acknowledgement() {
    let (_daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let ring = words(&[0, 0]);
    let config = config_payload(0, 0, &[0; 6]);
    let requests: [(u32, &[u8]); 7] = [
        (request::GET_FEATURES, &[]),
        (request::GET_PROTOCOL_FEATURES, &[]),
        (request::GET_QUEUE_NUM, &[]),
        (request::GET_MAX_MEM_SLOTS, &[]),
        (request::GET_STATUS, &[]),
        (request::GET_VRING_BASE, &ring),
        (request::GET_CONFIG, &config),
    ];
    for (number, payload) in requests {
        for flags in [VERSION, VERSION | NEED_REPLY] {
            front_end.send(number, flags, payload, &[]).unwrap();
            let answer = front_end.receive().unwrap();
            assert_eq!((answer.request, answer.flags), (number, VERSION | REPLY));
            assert!(!answer.payload.is_empty());
        }
    }
    // A second answer to any of them would be taken for the answer to this.
    assert_ne!(front_end.features().unwrap(), 0);
}

#[test]
fn u01_a_request_without_an_answer_is_acknowledged_if_that_was_agreed_and_wanted() {
    let (_daemon, pair) = bench();
    let mut front_end = FrontEnd::connect(&pair.a.socket).unwrap();
    // Not agreed yet.
    front_end
        .send(request::SET_OWNER, VERSION | NEED_REPLY, &[], &[])
        .unwrap();
    front_end.features().unwrap();
    front_end.set_protocol_features(protocol::REPLY_ACK).unwrap();
    // Agreed, and not wanted.
    front_end.send(request::SET_OWNER, VERSION, &[], &[]).unwrap();
    front_end.features().unwrap();
    assert_eq!(front_end.acknowledge(request::SET_OWNER, &[], &[]).unwrap(), 0);
    let size = |size| words(&[0, size]);
    assert_eq!(
        front_end
            .acknowledge(request::SET_VRING_NUM, &size(256), &[])
            .unwrap(),
        0
    );
    // A refusal is an answer too, and not the end.
    for refused in [0, 3, 65536, u32::MAX] {
        assert_ne!(
            front_end
                .acknowledge(request::SET_VRING_NUM, &size(refused), &[])
                .unwrap(),
            0
        );
    }
    front_end.features().unwrap();
}

#[test]
fn u01_other_versions_and_replies_end_the_connection() {
    let (_daemon, pair) = bench();
    for flags in [0, 2, 3, VERSION | REPLY] {
        let front_end = acknowledged(&pair.a);
        front_end.send(request::GET_FEATURES, flags, &[], &[]).unwrap();
        assert!(front_end.is_hung_up_on(PATIENCE), "flags {flags:#x}");
    }
}

#[test]
fn u01_a_refused_request_for_an_answer_is_not_answered_with_something_else() {
    let (_daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let nowhere = words(&[7, 0]);
    front_end
        .send(request::GET_VRING_BASE, VERSION | NEED_REPLY, &nowhere, &[])
        .unwrap();
    match front_end.receive() {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
        Ok(answer) => panic!("{answer:?} looks like the base of a ring"),
    }
}

// U2 and U3: started or stopped, enabled or disabled.

fn u02_rings_are_enabled_from_the_start_without_protocol_features(format: Format) {
    let (_daemon, pair) = bench();
    let setup = format.plain();
    let front_end = FrontEnd::connect(&pair.a.socket).unwrap();
    let mut a = NetDriver::prepare(front_end, setup.clone()).unwrap();
    a.fill(0);
    // A front end of old: no protocol features, no SET_VRING_ENABLE.
    a.front_end.set_features(a.setup().features).unwrap();
    a.front_end.set_mem_table(a.memory.regions()).unwrap();
    for (index, ring) in a.ring_setups().iter().enumerate() {
        a.front_end.set_vring_num(index, u32::from(ring.size)).unwrap();
        a.front_end.set_vring_base(index, format.start()).unwrap();
        a.front_end.set_vring_addr(index, &ring.addresses).unwrap();
        a.front_end.set_vring_call(index, ring.call).unwrap();
        a.front_end.set_vring_kick(index, ring.kick).unwrap();
    }
    a.front_end.settle().unwrap();
    let mut b = pair.b.connect(setup).unwrap();
    exchange(&mut a, &mut b);
}

fn u02_u03_a_ring_that_is_started_and_disabled_receives_nothing_and_is_drained(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    for ring in 0..2 {
        a.front_end.set_vring_enable(ring, false).unwrap();
    }
    for number in 0..10 {
        a.send_frame(&frame(number));
        b.send_frame(&frame(number));
    }
    a.flush();
    b.flush();
    assert_eq!(
        (
            drops(&pair.a, "ring_disabled"),
            drops(&pair.b, "receiver_not_ready")
        ),
        (10, 10)
    );
    assert!(a.poll().is_none() && b.poll().is_none());
    for ring in 0..2 {
        a.front_end.set_vring_enable(ring, true).unwrap();
    }
    exchange(&mut a, &mut b);
}

fn u02_g01_nothing_is_touched_before_the_rings_start(format: Format) {
    let (_daemon, pair) = bench();
    let mut b = pair.b.connect(format.linux()).unwrap();
    let front_end = FrontEnd::connect(&pair.a.socket).unwrap();
    let mut a = NetDriver::prepare(front_end, format.linux()).unwrap();
    a.negotiate().unwrap();
    a.fill(0);
    for number in 0..10 {
        assert!(a.try_send(0, &Header::default(), &frame(number)));
        b.send_frame(&frame(number));
    }
    // All but the descriptor that starts a ring.
    let rings = a.ring_setups();
    a.front_end
        .set_features(a.setup().features | feature::PROTOCOL_FEATURES)
        .unwrap();
    a.front_end.set_mem_table(a.memory.regions()).unwrap();
    for (index, ring) in rings.iter().enumerate() {
        a.front_end.set_vring_num(index, u32::from(ring.size)).unwrap();
        a.front_end.set_vring_base(index, format.start()).unwrap();
        a.front_end.set_vring_addr(index, &ring.addresses).unwrap();
        a.front_end.set_vring_enable(index, true).unwrap();
    }
    b.flush();
    std::thread::sleep(QUIET);
    for queue in &a.queues {
        assert_eq!(queue.ring.used_index(&a.memory), 0);
        assert!(queue.call.read().is_err(), "a notification before the start");
    }
    assert_eq!(drops(&pair.b, "receiver_not_ready"), 10);
    // U4: what was made available before is picked up at the start, without a kick.
    for queue in &a.queues {
        let _ = queue.kick.read();
    }
    for (index, ring) in rings.iter().enumerate() {
        a.front_end.set_vring_kick(index, ring.kick).unwrap();
    }
    for number in 0..10 {
        assert_eq!(b.receive().frame, frame(number));
    }
    exchange(&mut a, &mut b);
}

// U4 and U8: where a ring starts and stops.

fn u04_u08_a_ring_stops_where_it_stood_and_goes_on_from_there(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    flows(&mut a, &mut b, 70);
    a.flush();
    let (start, after) = (format.start(), base(format, 256, 70));
    assert_eq!(a.stop().unwrap(), [start, after]);
    assert_eq!(b.stop().unwrap(), [after, start]);
    // Stopped once more, they stand where they stood.
    assert_eq!(a.stop().unwrap(), [start, after]);
    assert_eq!(b.stop().unwrap(), [after, start]);
    for number in 0..5 {
        assert!(a.try_send(0, &Header::default(), &frame(number)));
    }
    std::thread::sleep(QUIET);
    assert_eq!(
        a.queues[1].ring.used_index(&a.memory),
        70,
        "a stopped ring was served"
    );
    for driver in [&mut b, &mut a] {
        driver.restart().unwrap();
    }
    for number in 0..5 {
        assert_eq!(b.receive().frame, frame(number));
    }
    exchange(&mut a, &mut b);
}

/// Where a ring stands whose driver made so many chains available, one descriptor each, all of which were used (U8).
fn base(format: Format, size: u32, chains: u32) -> u32 {
    if format == Format::Split {
        return chains & 0xffff;
    }
    let place = Position::START.advanced((chains % (2 * size)) as u16, size as u16);
    u32::from(place.encode()) * 0x1_0001
}

fn u08_the_indices_wrap_around(format: Format) {
    let (_daemon, pair) = bench();
    let setup = Setup {
        size: 64,
        ..format.linux()
    };
    let (mut a, mut b) = pair.connect(&setup).unwrap();
    let count = (1u32 << 16) + 500;
    let (mut sent, mut received) = (0, 0);
    while received < count {
        // The receiver has 64 buffers, each of which takes a frame.
        while sent < count && sent - received < 60 && a.try_send(0, &Header::default(), &frame(sent)) {
            sent += 1;
        }
        while let Some(it) = b.poll() {
            assert_eq!(it.frame, frame(received));
            received += 1;
        }
        if sent - received == 60 {
            b.wait(QUIET);
        }
    }
    a.flush();
    let (start, after) = (format.start(), base(format, 64, count));
    assert_eq!(a.stop().unwrap(), [start, after]);
    assert_eq!(b.stop().unwrap(), [after, start]);
}

#[test]
fn u08_a_ring_that_never_started_answers_the_base_that_it_was_given() {
    let (_daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    assert_eq!(front_end.vring_base(1).unwrap(), 0);
    front_end.set_vring_base(1, 0xfedc).unwrap();
    assert_eq!(front_end.vring_base(1).unwrap(), 0xfedc);
}

// U5: changes under running rings.

fn u05_the_memory_table_is_replaced_under_running_rings(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    // VPP-1784: no SET_VRING_ADDR follows.
    for round in 0..50u32 {
        for number in 0..20 {
            a.send_frame(&frame(round * 20 + number));
        }
        a.front_end.set_mem_table(a.memory.regions()).unwrap();
        b.front_end.set_mem_table(b.memory.regions()).unwrap();
        for number in 0..20 {
            assert_eq!(b.receive().frame, frame(round * 20 + number));
        }
    }
    exchange(&mut a, &mut b);
    assert_eq!(pair.a.drops(), []);
}

fn u05_a_descriptor_is_replaced_under_a_running_ring(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    for round in 0..200u32 {
        for number in 0..10 {
            assert!(a.try_send(0, &Header::default(), &frame(round * 10 + number)));
        }
        a.front_end
            .set_vring_kick(1, Some(a.queues[1].kick.as_raw_fd()))
            .unwrap();
        b.front_end
            .set_vring_kick(0, Some(b.queues[0].kick.as_raw_fd()))
            .unwrap();
        for number in 0..10 {
            assert_eq!(b.receive().frame, frame(round * 10 + number));
        }
        a.flush();
    }
    assert!(b.poll().is_none(), "a frame arrived twice");
}

fn u05_u10_rings_wait_for_a_region_that_is_removed_and_added_again(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    // QEMU tells a region of another size so: away with it, and here it is again.
    for driver in [&a, &b] {
        let region = driver.memory.regions()[RINGS];
        driver.front_end.rem_mem_reg(&region).unwrap();
    }
    for number in 0..5 {
        assert!(a.try_send(0, &Header::default(), &frame(number)));
    }
    std::thread::sleep(QUIET);
    assert!(b.poll().is_none(), "a frame through memory that was taken away");
    for driver in [&b, &a] {
        let region = driver.memory.regions()[RINGS];
        driver.front_end.add_mem_reg(&region).unwrap();
    }
    for number in 0..5 {
        assert_eq!(b.receive().frame, frame(number));
    }
    exchange(&mut a, &mut b);
}

fn u05_a_buffer_may_lie_in_a_region_that_was_added_and_across_two(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    let boundary = a.memory.regions()[BUFFERS].guest + a.memory.regions()[BUFFERS].size;
    let sent = packet::ethernet(A, B, &Random::new(1).octets(1000));
    let octets = [vec![0; 12], sent.clone()].concat();
    for start in [boundary - 6, boundary - 500, a.memory.regions()[3].guest] {
        a.memory.write(start, &octets);
        let part = Part {
            address: start,
            len: octets.len() as u32,
            writable: false,
        };
        let queue = &mut a.queues[1];
        queue.ring.push(&a.memory, &[part]);
        queue.ring.publish(&a.memory);
        queue.kick.write(1).unwrap();
        assert_eq!(b.receive().frame, sent);
        eventually("the frame is given back", || queue.ring.pop(&a.memory).is_some());
    }
}

fn u05_features_may_be_set_again_while_rings_run(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    for extra in [feature::LOG_ALL, 0] {
        let features = a.setup().features | feature::PROTOCOL_FEATURES | extra;
        a.front_end.set_features(features).unwrap();
        b.front_end.set_features(features).unwrap();
        exchange(&mut a, &mut b);
    }
}

// U6: silence.

fn u06_g08_a_suspended_device_is_silent(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    let offered = a.front_end.protocol_features().unwrap();
    a.front_end.set_protocol_features(offered).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let channel = [theirs.as_raw_fd()];
    a.front_end
        .tell(request::SET_BACKEND_REQ_FD, &[], &channel)
        .unwrap();
    drop(theirs);
    let mtu = |mtu| {
        pair.a.set(&DeviceSet {
            mtu: Some(mtu),
            ..DeviceSet::default()
        });
    };
    // While it runs, it says that its configuration has changed.
    mtu(1400);
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let message = receive(&ours).unwrap();
    assert_eq!(
        (message.request, message.flags),
        (backend_request::CONFIG_CHANGE, VERSION)
    );
    exchange(&mut a, &mut b);
    a.flush();

    a.stop().unwrap();
    for queue in &a.queues {
        let _ = queue.call.read();
    }
    let before = contents(&a);
    for number in 0..10 {
        b.send_frame(&frame(number));
    }
    b.flush();
    mtu(1300);
    a.front_end.settle().unwrap();
    ours.set_read_timeout(Some(QUIET)).unwrap();
    assert!(receive(&ours).is_err(), "a message of a suspended device");
    assert!(contents(&a) == before, "a suspended device wrote to memory");
    for queue in &a.queues {
        assert!(queue.call.read().is_err(), "a suspended device notified");
    }
    a.restart().unwrap();
    exchange(&mut a, &mut b);
}

/// All that a device may write to: the rings, and the beginning of the buffers.
fn contents(driver: &NetDriver) -> Vec<u8> {
    let mut octets = Vec::new();
    for region in driver.memory.regions() {
        let mut part = vec![0; region.size.min(4 << 20) as usize];
        driver.memory.read(region.guest, &mut part);
        octets.extend(part);
    }
    octets
}

// U7: the dirty log.

const PAGE: u64 = 4096;

fn u07_every_page_that_is_written_is_logged_and_no_other(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    exchange(&mut a, &mut b);
    // A bit for each page below 4 GiB + 16 MiB.
    let log = Log::new((1 << 32) + (16 << 20));
    let answer = b.front_end.set_log_base(&log.file, log.octets, 0).unwrap();
    assert_eq!(answer.request, request::SET_LOG_BASE);
    assert!(log.pages().is_empty());
    let base = b.setup().features | feature::PROTOCOL_FEATURES;
    b.front_end.set_features(base | feature::LOG_ALL).unwrap();
    for (index, ring) in b.ring_setups().iter().enumerate() {
        let mut addresses = ring.addresses;
        addresses.log = Some(b.queues[index].ring.device_area());
        b.front_end.set_vring_addr(index, &addresses).unwrap();
    }
    b.front_end.settle().unwrap();

    let before = contents(&b);
    flows(&mut a, &mut b, 200);
    let after = contents(&b);
    let logged = log.pages();
    let written: Vec<u64> = changed_pages(&b, &before, &after)
        .into_iter()
        // The driver itself has written to its rings.
        .filter(|page| !contains(&b.memory.regions()[RINGS], page * PAGE))
        .collect();
    assert!(written.len() > 10, "the test writes to many pages");
    for page in &written {
        assert!(logged.contains(page), "page {page:#x} was written and not logged");
    }
    let used = b.queues[0].ring.used_area() / PAGE;
    assert!(logged.contains(&used), "the used ring was not logged");
    for page in &logged {
        let region = b.memory.regions().iter().find(|it| contains(it, page * PAGE));
        assert!(region.is_some(), "page {page:#x} does not exist");
    }

    // Off again: what is written now is not logged (a migration that failed).
    b.front_end.set_features(base).unwrap();
    log.clear();
    flows(&mut a, &mut b, 100);
    assert!(log.pages().is_empty());
}

fn u07_a_log_outlives_a_change_of_the_memory(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    let log = Log::new((1 << 32) + (16 << 20));
    b.front_end.set_log_base(&log.file, log.octets, 0).unwrap();
    let features = b.setup().features | feature::PROTOCOL_FEATURES | feature::LOG_ALL;
    b.front_end.set_features(features).unwrap();
    b.front_end.set_mem_table(b.memory.regions()).unwrap();
    log.clear();
    flows(&mut a, &mut b, 10);
    assert!(
        !log.pages().is_empty(),
        "regions that came after the log are not logged"
    );
}

fn contains(region: &SharedRegion, guest: u64) -> bool {
    (region.guest..region.guest + region.size).contains(&guest)
}

fn changed_pages(driver: &NetDriver, before: &[u8], after: &[u8]) -> Vec<u64> {
    let mut pages = Vec::new();
    let mut at = 0;
    for region in driver.memory.regions() {
        let len = region.size.min(4 << 20) as usize;
        for offset in (0..len).step_by(PAGE as usize) {
            let range = at + offset..at + offset + PAGE as usize;
            if before[range.clone()] != after[range] {
                pages.push((region.guest + offset as u64) / PAGE);
            }
        }
        at += len;
    }
    pages
}

/// A dirty log, as its front end sees it.
struct Log {
    file: std::fs::File,
    octets: u64,
}

impl Log {
    fn new(memory: u64) -> Log {
        let octets = memory / PAGE / 8;
        Log {
            file: memory_file(octets).unwrap(),
            octets,
        }
    }

    fn pages(&self) -> Vec<u64> {
        use std::os::unix::fs::FileExt;
        let mut octets = vec![0; self.octets as usize];
        self.file.read_exact_at(&mut octets, 0).unwrap();
        let bits = octets.iter().enumerate().filter(|(_, octet)| **octet != 0);
        bits.flat_map(|(index, octet)| {
            (0..8)
                .filter(move |bit| octet & 1 << bit != 0)
                .map(move |bit| 8 * index as u64 + bit)
        })
        .collect()
    }

    fn clear(&self) {
        use std::os::unix::fs::FileExt;
        self.file.write_all_at(&vec![0; self.octets as usize], 0).unwrap();
    }
}

// U9: event descriptors.

fn u09_rings_without_descriptors_are_polled(format: Format) {
    let (_daemon, pair) = bench();
    for (kicks, calls) in [(false, true), (true, false), (false, false)] {
        let setup = Setup {
            kicks,
            calls,
            ..format.linux()
        };
        let (mut a, mut b) = pair.connect(&setup).unwrap();
        exchange(&mut a, &mut b);
        // After a while of nothing as well.
        std::thread::sleep(QUIET);
        exchange(&mut a, &mut b);
    }
}

fn u09_notifications_go_to_the_descriptor_that_was_given_last(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.plain()).unwrap();
    exchange(&mut a, &mut b);
    let old = b.queues[0].call.try_clone().unwrap();
    let new = vmm_sys_util::eventfd::EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap();
    b.front_end.set_vring_call(0, Some(new.as_raw_fd())).unwrap();
    b.queues[0].call = new;
    let _ = old.read();
    exchange(&mut a, &mut b);
    assert!(
        old.read().is_err(),
        "a notification on a descriptor that was replaced"
    );
    // Without a descriptor, without a notification.
    b.front_end.set_vring_call(0, None).unwrap();
    let _ = b.queues[0].call.read();
    b.queues[0].ring.arm(&b.memory);
    a.send_frame(&frame(0));
    a.flush();
    assert!(!wait_readable(&[b.queues[0].call.as_raw_fd()], QUIET));
    assert_eq!(b.poll().unwrap().frame, frame(0));
}

/// QEMU gives the call descriptor after the one that starts the ring. What is used in between would be notified to
/// nobody, and a driver that waits for exactly that waits for ever; libvhost-user notifies a new descriptor at once.
fn u09_a_new_call_descriptor_learns_of_what_was_used_before(format: Format) {
    let (_daemon, pair) = bench();
    let mut b = pair.b.connect(format.linux()).unwrap();
    let mut a = pair.a.connect(format.linux()).unwrap();
    a.front_end.set_vring_call(1, None).unwrap();
    // The driver's ring is full, and it sleeps until the first frame is taken.
    a.queues[1].ring.arm_behind(&a.memory, 0);
    for number in 0..10 {
        assert!(a.try_send(0, &Header::default(), &frame(number)));
    }
    for number in 0..10 {
        assert_eq!(b.receive().frame, frame(number));
    }
    let call = a.queues[1].call.as_raw_fd();
    a.front_end.set_vring_call(1, Some(call)).unwrap();
    assert!(wait_readable(&[call], PATIENCE), "the driver sleeps for ever");
}

#[test]
fn u09_descriptors_are_closed_when_they_are_replaced_and_at_the_end() {
    let (daemon, pair) = bench();
    let before = descriptors(&daemon);
    let (a, b) = pair.connect(&Setup::default()).unwrap();
    let connected = descriptors(&daemon);
    for _ in 0..300 {
        for (index, ring) in a.ring_setups().iter().enumerate() {
            a.front_end.set_vring_kick(index, ring.kick).unwrap();
            a.front_end.set_vring_call(index, ring.call).unwrap();
            a.front_end.set_vring_err(index, Some(ring.err)).unwrap();
        }
        a.front_end.set_mem_table(a.memory.regions()).unwrap();
    }
    assert_eq!(descriptors(&daemon), connected);
    drop((a, b));
    eventually("all descriptors are closed", || descriptors(&daemon) == before);
}

/// What front ends have given to the daemon; its own sockets come and go with calls of its API.
fn descriptors(daemon: &Netkitd) -> usize {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", daemon.process().id())).unwrap();
    let links = dir.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let given = |link: &std::path::PathBuf| {
        ["eventfd", "memfd"]
            .iter()
            .any(|it| link.to_string_lossy().contains(it))
    };
    links.filter(given).count()
}

fn maps(daemon: &Netkitd) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", daemon.process().id())).unwrap();
    maps.lines().filter(|line| line.contains("memfd:guest")).count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "{what}: it never comes true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// U10: removal of regions.

#[test]
fn u10_a_region_is_removed_by_its_addresses_and_a_stray_descriptor_is_closed() {
    let (daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let (fds, mapped) = (descriptors(&daemon), maps(&daemon));
    let file = memory_file(1 << 20).unwrap();
    let region = SharedRegion {
        guest: 0x10_0000,
        size: 1 << 20,
        user: 0x7000_0000,
        file_offset: 0,
        fd: file.as_raw_fd(),
    };
    front_end.add_mem_reg(&region).unwrap();
    assert_eq!(maps(&daemon), mapped + 1);
    let others = [
        SharedRegion { guest: 0, ..region },
        SharedRegion { user: 0, ..region },
        SharedRegion { size: 4096, ..region },
    ];
    for other in others {
        assert!(front_end.rem_mem_reg(&other).is_err(), "{other:?}");
    }
    let elsewhere = SharedRegion {
        file_offset: 77,
        ..region
    };
    let stray = [file.as_raw_fd()];
    let refusal = front_end.acknowledge(request::REM_MEM_REG, &single_region(&elsewhere), &stray);
    assert_eq!(refusal.unwrap(), 0);
    assert_eq!((descriptors(&daemon), maps(&daemon)), (fds, mapped));
    // Gone is gone.
    assert!(front_end.rem_mem_reg(&region).is_err());
}

#[test]
fn u10_as_many_regions_as_were_promised_can_be_added() {
    let (daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let mapped = maps(&daemon);
    let slots = front_end.max_mem_slots().unwrap();
    let file = memory_file(4096).unwrap();
    let region = |index: u64| SharedRegion {
        guest: index << 20,
        size: 4096,
        user: index << 20,
        file_offset: 0,
        fd: file.as_raw_fd(),
    };
    for index in 0..slots {
        front_end.add_mem_reg(&region(index)).unwrap();
    }
    assert!(front_end.add_mem_reg(&region(slots)).is_err());
    for index in 0..slots {
        front_end.rem_mem_reg(&region(index)).unwrap();
    }
    assert_eq!(maps(&daemon), mapped);
}

// U11: the configuration space.

#[test]
fn u11_the_configuration_is_read_in_any_piece() {
    let daemon = Netkitd::start();
    let config = PairConfig {
        mtu: 9000,
        queues: 3,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let front_end = acknowledged(&pair.a);
    let whole = front_end.config(0, 256).unwrap().unwrap();
    // virtio 1.3, 5.1.4: address, status, queue pairs, MTU.
    assert_eq!(whole[..6], pair.a.guest_address());
    assert_eq!(whole[6..8], 1u16.to_le_bytes(), "the link is up");
    assert_eq!(whole[8..10], 3u16.to_le_bytes());
    assert_eq!(whole[10..12], 9000u16.to_le_bytes());
    for (offset, len) in [(0, 6), (6, 2), (10, 2), (3, 7), (255, 1), (0, 12)] {
        let part = front_end.config(offset, len).unwrap().unwrap();
        assert_eq!(part, whole[offset as usize..][..len as usize]);
    }
    for (offset, len) in [(256, 1), (0, 257), (u32::MAX, 1), (250, 10)] {
        assert_eq!(front_end.config(offset, len).unwrap(), None, "{offset} {len}");
    }
    pair.b.set(&DeviceSet {
        up: Some(false),
        ..DeviceSet::default()
    });
    assert_eq!(
        front_end.config(6, 2).unwrap().unwrap(),
        [0, 0],
        "the link is down"
    );
}

#[test]
fn u11_the_configuration_is_read_only_but_for_a_migration() {
    const WRITABLE: u32 = 0;
    const LIVE_MIGRATION: u32 = 2;
    let (_daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let before = front_end.config(0, 12).unwrap();
    let set = |flags, octets: &[u8]| {
        let payload = config_payload(0, flags, octets);
        front_end.acknowledge(request::SET_CONFIG, &payload, &[]).unwrap()
    };
    assert_ne!(set(WRITABLE, &[9; 6]), 0);
    assert_eq!(set(LIVE_MIGRATION, &before.clone().unwrap()), 0);
    assert_eq!(front_end.config(0, 12).unwrap(), before);
}

// U12 and U13: messages of network devices.

fn u12_an_mtu_is_taken_or_refused(format: Format) {
    let (_daemon, pair) = bench();
    let mut b = pair
        .b
        .connect(format.with(feature::LINUX | feature::MTU))
        .unwrap();
    let mut a = pair.a.connect(format.linux()).unwrap();
    let set = |mtu: u64| {
        b.front_end
            .acknowledge(request::NET_SET_MTU, &longs(&[mtu]), &[])
            .unwrap()
    };
    for bad in [0, 67, 65536, u64::MAX] {
        assert_ne!(set(bad), 0, "{bad}");
    }
    for good in [68, 1280, 65535, 600] {
        assert_eq!(set(good), 0, "{good}");
    }
    assert_eq!(b.front_end.config(10, 2).unwrap().unwrap(), 600u16.to_le_bytes());
    // virtio 1.3, 5.1.6.4.1: no longer frame than that is received.
    let fits = packet::ethernet(A, B, &[1; 600]);
    a.send_frame(&packet::ethernet(A, B, &[1; 605]));
    a.send_frame(&fits);
    assert_eq!(b.receive().frame, fits);
    assert_eq!(drops(&pair.a, "frame_too_long"), 1);
}

fn u13_a_guest_is_announced_to_everybody(format: Format) {
    let (_daemon, pair) = bench();
    let (a, mut b) = pair.connect(&format.linux()).unwrap();
    a.front_end.send_rarp(A).unwrap();
    let announcement = b.receive().frame;
    assert_eq!(announcement[..6], [0xff; 6]);
    assert_eq!(announcement[6..12], A);
    // RFC 903: a request, for one's own address.
    assert_eq!(announcement[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    assert_eq!(announcement[22..28], A);
    assert_eq!(announcement[32..38], A);
    assert_eq!(announcement.len(), 60);
}

// U17: resets.

fn u17_reset_owner_disables_the_rings(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    a.front_end.reset_owner().unwrap();
    b.send_frame(&frame(0));
    b.flush();
    assert_eq!(drops(&pair.b, "receiver_not_ready"), 1);
    for ring in 0..2 {
        a.front_end.set_vring_enable(ring, true).unwrap();
    }
    exchange(&mut a, &mut b);
}

fn u17_g06_g07_g08_after_a_reset_the_device_is_as_new(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    exchange(&mut a, &mut b);
    a.flush();
    a.front_end.set_status(0xf).unwrap();
    assert_eq!(a.front_end.status().unwrap(), 0xf);
    a.front_end.reset_device().unwrap();
    assert_eq!(a.front_end.status().unwrap(), 0);
    for queue in &a.queues {
        let _ = queue.call.read();
    }
    let before = contents(&a);
    for number in 0..10 {
        b.send_frame(&frame(number));
        assert!(a.try_send(0, &Header::default(), &frame(number)));
    }
    b.flush();
    std::thread::sleep(QUIET);
    let used: Vec<u16> = a
        .queues
        .iter()
        .map(|queue| queue.ring.used_index(&a.memory))
        .collect();
    assert_eq!(used, [100, 100], "a reset device used buffers");
    let region = a.memory.regions()[BUFFERS];
    let skipped = a.memory.regions()[RINGS].size.min(4 << 20) as usize;
    let posted = 256 * 2100;
    assert!(region.size > posted as u64);
    assert!(
        contents(&a)[skipped..skipped + posted] == before[skipped..skipped + posted],
        "a reset device wrote to buffers"
    );
    for queue in &a.queues {
        assert!(queue.call.read().is_err(), "a reset device notified");
    }
    // The same features and more of everything as the first time, with other rings.
    let mut again = NetDriver::prepare(a.front_end, format.linux()).unwrap();
    let slots = again.memory.regions().to_vec();
    let offered = again.front_end.features().unwrap();
    let features = again.setup().features;
    assert_eq!(offered & features, features);
    again.fill(0);
    again
        .front_end
        .set_features(features | feature::PROTOCOL_FEATURES)
        .unwrap();
    again.front_end.set_mem_table(&slots).unwrap();
    again.restart().unwrap();
    for ring in 0..2 {
        again.front_end.set_vring_enable(ring, true).unwrap();
    }
    exchange(&mut again, &mut b);
}

// U18 and U19.

#[test]
fn u18_many_queues_are_always_offered() {
    let (_daemon, pair) = bench();
    let front_end = FrontEnd::connect(&pair.a.socket).unwrap();
    assert_ne!(front_end.protocol_features().unwrap() & protocol::MQ, 0);
    assert!(front_end.queue_num().unwrap() >= 2);
}

#[test]
fn u19_an_unknown_or_malformed_message_ends_the_connection_and_nothing_else() {
    let (daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let spare = Pair::new(&daemon, "sp");
    let pid = daemon.process().id();
    let ring = longs(&[0]);
    let bad: Vec<(u32, Vec<u8>)> = [0, 45, 200, u32::MAX]
        .into_iter()
        .map(|number| (number, Vec::new()))
        // Requests that were not offered: IOTLB, crypto, postcopy, GPU, device state, shared objects; inflight regions
        // without their description.
        .chain(
            [22, 23, 26, 27, 28, 29, 30, 31, 32, 33, 35, 41, 42, 43, 44].map(|number| (number, vec![0; 8])),
        )
        .chain([
            (request::SET_FEATURES, vec![0; 7]),
            (request::SET_FEATURES, vec![0; 9]),
            (request::SET_FEATURES, Vec::new()),
            (request::SET_MEM_TABLE, words(&[2, 0, 0, 0])),
            (request::SET_MEM_TABLE, words(&[u32::MAX, 0])),
            (request::SET_MEM_TABLE, vec![0; 7]),
            (request::SET_VRING_NUM, vec![0; 4]),
            (request::SET_VRING_ADDR, vec![0; 39]),
            (request::ADD_MEM_REG, vec![0; 8]),
            (request::GET_CONFIG, words(&[0, 100, 0])),
            (request::GET_CONFIG, vec![0; 3]),
            (request::SET_LOG_BASE, ring),
            (request::SEND_RARP, vec![0; 6]),
        ])
        .collect();
    for (number, payload) in bad {
        let front_end = acknowledged(&spare.a);
        front_end
            .send(number, VERSION | NEED_REPLY, &payload, &[])
            .unwrap();
        assert!(
            front_end.is_hung_up_on(PATIENCE),
            "request {number} with {payload:?}"
        );
    }
    exchange(&mut a, &mut b);
    assert_eq!(daemon.process().id(), pid);
    assert!(
        daemon.process().status().unwrap().is_none(),
        "the daemon has ended"
    );
}

// G2 to G5.

fn g02_a_ring_that_its_driver_broke_says_so_on_its_error_descriptor(format: Format) {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&format.linux()).unwrap();
    exchange(&mut a, &mut b);
    a.flush();
    // Five frames and a chain that cannot be, seen together: the device is to take what comes before the fault.
    for queue in &mut a.queues[1..] {
        let buffer = a.memory.allocate(BUFFERS, 200, 16);
        a.memory.write(buffer + 12, &frame(0));
        for _ in 0..5 {
            let part = Part {
                address: buffer,
                len: 72,
                writable: false,
            };
            queue.ring.push(&a.memory, &[part]);
        }
        match &mut queue.ring {
            Ring::Split(ring) => ring.offer(&a.memory, 9999),
            Ring::Packed(ring) => {
                let at = ring.next_available();
                let crime = PackedDescriptor {
                    flags: DESC_INDIRECT | DESC_NEXT | at.available_flags(),
                    ..PackedDescriptor::default()
                };
                ring.set_descriptor(&a.memory, at.slot, crime);
            }
        }
        queue.ring.publish(&a.memory);
        queue.kick.write(1).unwrap();
    }
    assert!(
        wait_readable(&[a.queues[1].err.as_raw_fd()], PATIENCE),
        "nobody was told"
    );
    assert_eq!(drops(&pair.a, "malformed_chain"), 1);
    // The other rings go on.
    flows(&mut b, &mut a, 50);
    for _ in 0..5 {
        assert_eq!(b.receive().frame, frame(0));
        assert!(
            a.queues[1].ring.pop(&a.memory).is_some(),
            "a delivered frame was not given back"
        );
    }
    assert_eq!(a.front_end.vring_base(1).unwrap(), base(format, 256, 105));
}

#[test]
fn g03_g05_what_is_offered_is_known_and_has_what_it_needs() {
    let (_daemon, pair) = bench();
    let front_end = acknowledged(&pair.a);
    let offered = front_end.features().unwrap();
    // virtio 1.3, 5.1.3.1: bit, and the bits of which it needs one.
    let needs: [(u32, &[u32]); 14] = [
        (7, &[1]),
        (8, &[1]),
        (9, &[7, 8]),
        (54, &[1]),
        (55, &[1]),
        (11, &[0]),
        (12, &[0]),
        (13, &[11, 12]),
        (56, &[0]),
        (18, &[17]),
        (19, &[17]),
        (21, &[17]),
        (22, &[17]),
        (23, &[17]),
    ];
    for (bit, any) in needs {
        let needed = any.iter().any(|other| offered & 1 << other != 0);
        assert!(
            offered & 1 << bit == 0 || needed,
            "bit {bit} without any of {any:?}"
        );
    }
    // G14, and what the data path stands on.
    let rings = feature::IN_ORDER | feature::RING_PACKED;
    let always = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::LOG_ALL | rings;
    assert_eq!(offered & always, always);
    // Not ours: UFO both ways, RSS, hash reports, address translation, SR-IOV; and the reset of single rings, which QEMU
    // offers to the guest if we do, and keeps from us.
    for bit in [10, 14, 33, 37, 40, 57, 60] {
        assert_eq!(offered & 1 << bit, 0, "bit {bit}");
        let taken = longs(&[feature::VERSION_1 | 1 << bit]);
        assert_ne!(
            front_end.acknowledge(request::SET_FEATURES, &taken, &[]).unwrap(),
            0
        );
    }
    let protocol = front_end.protocol_features().unwrap();
    for bit in 0..64 {
        let answer = front_end.acknowledge(
            request::SET_PROTOCOL_FEATURES,
            &longs(&[protocol::REPLY_ACK | 1 << bit]),
            &[],
        );
        assert_eq!(
            answer.unwrap() == 0,
            protocol & 1 << bit != 0,
            "protocol bit {bit}"
        );
    }
}

fn g04_every_valid_subset_of_the_features_works(format: Format) {
    let (_daemon, pair) = bench();
    let mut b = pair.b.connect(format.linux()).unwrap();
    let mut random = Random::new(4);
    for _ in 0..60 {
        let drawn = random.number();
        let known = feature::LINUX | feature::IN_ORDER | feature::MTU | feature::MAC;
        let mut features = drawn & known | format.feature();
        if features & feature::CSUM == 0 {
            features &= !feature::HOST_OFFLOADS;
        }
        if features & feature::GUEST_CSUM == 0 {
            features &= !feature::GUEST_OFFLOADS;
        }
        let setup = Setup {
            opening: [Opening::Qemu, Opening::CloudHypervisor, Opening::VirtioUser]
                [(drawn >> 60) as usize % 3],
            transmit_cuts: [&[][..], &[10], &[1, 2, 3, 4, 5]][(drawn >> 56) as usize % 3],
            ..format.with(features)
        };
        let mut a = pair.a.connect(setup).unwrap();
        flows(&mut a, &mut b, 20);
        flows(&mut b, &mut a, 20);
        assert_eq!(
            pair.a.shown().attachment.features,
            Some(features),
            "{features:#x}"
        );
    }
}

// The front ends that exist.

fn every_front_end_is_served_in_its_own_order(format: Format) {
    let daemon = Netkitd::start();
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    for opening in [Opening::Qemu, Opening::CloudHypervisor, Opening::VirtioUser] {
        for pairs in [1, 2] {
            let setup = Setup {
                opening,
                pairs,
                ..format.linux()
            };
            let (mut a, mut b) = pair.connect(&setup).unwrap();
            for queue in 0..pairs {
                a.send(queue, &Header::default(), &frame(queue as u32));
                assert_eq!(b.receive().frame, frame(queue as u32), "{opening:?}");
            }
            // Each flow has a receive queue of its own, and all queues are used.
            let mut used = BTreeSet::new();
            for flow in 0..32u8 {
                let source = [2, 0, 0, 0, 1, flow];
                let mut queues = BTreeSet::new();
                for number in 0..4u8 {
                    let sent = packet::ethernet(source, B, &[number; 4]);
                    a.send(usize::from(number) % pairs, &Header::default(), &sent);
                    let received = b.receive();
                    assert_eq!(received.frame, sent, "{opening:?}");
                    queues.insert(received.pair);
                }
                assert_eq!(queues.len(), 1, "a flow on several queues");
                used.extend(queues);
            }
            assert_eq!(used.len(), pairs, "{opening:?}");
            exchange(&mut a, &mut b);
        }
    }
}

fn a_front_end_with_fewer_queues_than_the_device_is_served_on_those(format: Format) {
    let daemon = Netkitd::start();
    let config = PairConfig {
        queues: 4,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let setup = |pairs| Setup {
        pairs,
        ..format.linux()
    };
    let mut a = pair.a.connect(setup(4)).unwrap();
    let mut b = pair.b.connect(setup(1)).unwrap();
    for queue in 0..4 {
        a.send(queue, &Header::default(), &frame(queue as u32));
        assert_eq!(b.receive().frame, frame(queue as u32));
    }
}

/// The library that cloud-hypervisor and crosvm speak with waits for the log's description in the answer.
#[test]
fn the_front_end_of_rust_vmm_can_set_a_log() {
    let (_daemon, pair) = bench();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut front_end = Frontend::connect(&pair.a.socket, 2).unwrap();
        front_end.set_owner().unwrap();
        let features = front_end.get_features().unwrap();
        front_end.set_features(features).unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::LOG_SHMFD));
        front_end.set_protocol_features(protocol).unwrap();
        let file = memory_file(4096).unwrap();
        let region = vhost::VhostUserDirtyLogRegion {
            mmap_size: 4096,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        front_end.set_log_base(0, Some(region)).unwrap();
        front_end.get_queue_num().unwrap();
        done.send(()).unwrap();
    });
    finished
        .recv_timeout(PATIENCE)
        .expect("an answer that the library understands");
}

// Reconnection.

/// A guest whose rings can go on with another daemon. A packed ring does not tell where it stood; the inflight region
/// does (U16).
fn lasting(format: Format) -> Setup {
    Setup {
        inflight: format == Format::Packed,
        ..format.linux()
    }
}

fn posted_buffers_survive_a_new_connection_whatever_base_it_gives(format: Format) {
    let (_daemon, pair) = bench();
    for opening in [Opening::Qemu, Opening::CloudHypervisor] {
        let setup = Setup {
            opening,
            size: 32,
            ..lasting(format)
        };
        let (mut a, mut b) = pair.connect(&setup).unwrap();
        for _ in 0..3 {
            flows(&mut a, &mut b, 20);
        }
        for round in 0..5 {
            // All 32 buffers are posted: whoever goes on from the available index never has one again.
            assert_eq!(b.queues[0].ring.outstanding(), 32);
            b.reconnect(&pair.b.socket).unwrap();
            a.reconnect(&pair.a.socket).unwrap();
            for number in 0..32 {
                a.send_frame(&frame(round * 32 + number));
            }
            a.flush();
            for number in 0..32 {
                assert_eq!(b.receive().frame, frame(round * 32 + number), "{opening:?}");
            }
        }
    }
}

#[test]
fn a_second_connection_waits_for_the_end_of_the_first() {
    let (_daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let second = FrontEnd::connect(&pair.a.socket).unwrap();
    second.send(request::GET_FEATURES, VERSION, &[], &[]).unwrap();
    exchange(&mut a, &mut b);
    assert!(
        !wait_readable(&[second.socket().as_raw_fd()], QUIET),
        "two at a time"
    );
    exchange(&mut a, &mut b);
    drop(a);
    assert_eq!(second.receive().unwrap().request, request::GET_FEATURES);
    let mut a = NetDriver::open(second, Setup::default()).unwrap();
    exchange(&mut a, &mut b);
}

fn a_killed_daemon_loses_no_frame_and_no_buffer(format: Format) {
    let (mut daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&lasting(format)).unwrap();
    let (mut sent, mut received, mut twice) = (0u32, 0u32, 0u32);
    for round in 0..8 {
        for _ in 0..60 {
            assert!(a.try_send(0, &Header::default(), &frame(sent)));
            sent += 1;
        }
        // At another moment of its work each time.
        std::thread::sleep(Duration::from_micros(round * 20));
        daemon.kill();
        daemon.run();
        b.reconnect(&pair.b.socket).unwrap();
        a.reconnect(&pair.a.socket).unwrap();
        a.flush();
        while received < sent {
            let it = b.receive().frame;
            // Frames that were delivered and not yet taken back are sent again; the driver has checked the buffers.
            match it == frame(received) {
                true => received += 1,
                false => {
                    assert!(
                        (0..received).any(|number| it == frame(number)),
                        "a frame was lost"
                    );
                    twice += 1;
                }
            }
        }
        // What was sent twice comes behind all that was sent once; `flush` has waited for it.
        while let Some(it) = b.poll() {
            let known = (0..sent).any(|number| it.frame == frame(number));
            assert!(known, "a frame came from nowhere");
            twice += 1;
        }
        exchange(&mut a, &mut b);
    }
    assert!(twice <= 8 * 64, "more than a burst was sent twice: {twice}");
}

fn a_killed_daemon_wakes_a_driver_that_waits_for_room(format: Format) {
    let (mut daemon, pair) = bench();
    let (mut a, mut b) = pair.connect(&lasting(format)).unwrap();
    exchange(&mut a, &mut b);
    a.flush();
    daemon.kill();
    // The ring fills while nobody serves it, and the driver sleeps until the first of these is taken.
    while a.try_send(0, &Header::default(), &frame(0)) {}
    a.queues[1].ring.arm_behind(&a.memory, 0);
    let _ = a.queues[1].call.read();
    daemon.run();
    b.reconnect(&pair.b.socket).unwrap();
    a.reconnect(&pair.a.socket).unwrap();
    assert!(
        wait_readable(&[a.queues[1].call.as_raw_fd()], PATIENCE),
        "the driver sleeps for ever"
    );
}

#[test]
fn a_front_end_that_listens_is_tried_for_ever() {
    let daemon = Netkitd::start();
    let pair = Pair::unattached(&daemon, "nk", PairConfig::default());
    pair.a.attach(SocketMode::Client, 1);
    pair.b.attach(SocketMode::Server, 1);
    let mut b = pair.b.connect(Setup::default()).unwrap();
    let mut listener = None;
    let mut a: Option<NetDriver> = None;
    // Absent at first, then there, then gone and there again, for longer than any number of tries that is small.
    for outage in [500, 0, 3000] {
        std::thread::sleep(Duration::from_millis(outage));
        let bound = listener
            .take()
            .unwrap_or_else(|| UnixListener::bind(&pair.a.socket).unwrap());
        let front_end = FrontEnd::from_stream(bound.accept().unwrap().0).unwrap();
        let driver = match a.take() {
            None => NetDriver::open(front_end, Setup::default()).unwrap(),
            Some(mut driver) => {
                driver.resume(front_end).unwrap();
                driver
            }
        };
        let driver = a.insert(driver);
        exchange(driver, &mut b);
        let hung_up = FrontEnd::from_stream(driver.front_end.socket().try_clone().unwrap()).unwrap();
        hung_up.socket().shutdown(std::net::Shutdown::Both).unwrap();
        if outage == 500 {
            // The next time the listener stays.
            listener = Some(bound);
        } else {
            drop(bound);
            std::fs::remove_file(&pair.a.socket).unwrap();
        }
    }
    assert!(
        daemon.cpu_seconds() < 5.0,
        "the tries cost {} s",
        daemon.cpu_seconds()
    );
}
