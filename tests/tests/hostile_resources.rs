//! Front ends that use up what the daemon has only once: a worker's time, its address space, its table of guarded memory.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netkit_tests::driver::memory::{SharedRegion, memory_file};
use netkit_tests::driver::message::protocol;
use netkit_tests::driver::packet::ethernet;
use netkit_tests::driver::{Bystanders, End, Format, FrontEnd, Pair, Setup};
use netkit_tests::in_both_formats;
use netkit_tests::netkitd::Netkitd;

in_both_formats!(a_call_descriptor_that_is_made_to_block_holds_its_worker_up_for_a_moment);

/// What a worker may be held up by one guest, with room for a busy machine.
const MOMENT: Duration = Duration::from_secs(2);

/// A daemon with a single worker, which all guests share.
fn daemon() -> Netkitd {
    Netkitd::with(&["--workers", "1"])
}

fn is_alive(daemon: &Netkitd) -> bool {
    daemon.process().status().expect("its status").is_none()
}

fn acknowledged(end: &End) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&end.socket).expect("a connection");
    let wanted = protocol::REPLY_ACK | protocol::CONFIGURE_MEM_SLOTS;
    front_end.set_protocol_features(wanted).expect("acknowledgements");
    front_end
}

/// The front end shares the open file behind a call descriptor, so it can fill its counter and make writes to it block.
fn a_call_descriptor_that_is_made_to_block_holds_its_worker_up_for_a_moment(format: Format) {
    let daemon = daemon();
    let bystanders = Bystanders::start(&daemon);
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&format.linux()).expect("two guests");
    let frame = ethernet([2; 6], [4; 6], b"blocked");
    for round in 0..10 {
        let call = &b.queues[0].call;
        let _ = call.read();
        call.write(u64::MAX - 1).expect("a full counter");
        // SAFETY: plain system call; the descriptor is open and the flags are valid.
        assert_eq!(unsafe { libc::fcntl(call.as_raw_fd(), libc::F_SETFL, 0) }, 0);
        b.queues[0].ring.arm(&b.memory);
        let begun = Instant::now();
        a.send_frame(&frame);
        a.flush();
        assert!(
            begun.elapsed() < MOMENT,
            "round {round}: held up for {:?}",
            begun.elapsed()
        );
        let before = bystanders.rounds();
        bystanders.go_on();
        assert!(bystanders.rounds() > before);
        assert_eq!(b.poll().expect("the frame").frame, frame);
        // A descriptor that is given anew is notified again.
        // SAFETY: as above.
        let status = unsafe { libc::fcntl(call_of(&b), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(status, 0);
        b.queues[0].call.read().expect("the full counter");
        b.front_end
            .set_vring_call(0, Some(call_of(&b)))
            .expect("the same descriptor again");
        a.send_frame(&frame);
        assert_eq!(b.receive().frame, frame);
    }
    bystanders.finish();
}

fn call_of(driver: &netkit_tests::driver::NetDriver) -> i32 {
    driver.queues[0].call.as_raw_fd()
}

/// Files in memory are as long as anybody wants, and mapping them takes of 128 TiB that all guests share.
#[test]
fn memory_that_no_host_has_is_refused() {
    const TIB: u64 = 1 << 40;
    let daemon = daemon();
    let bystanders = Bystanders::start(&daemon);
    let pair = Pair::new(&daemon, "nk");
    let front_end = acknowledged(&pair.a);
    let file = memory_file(200 * TIB).expect("a sparse file");
    let region = |index: u64, size: u64| SharedRegion {
        guest: index * 64 * TIB,
        size,
        user: index * 64 * TIB,
        file_offset: 0,
        fd: file.as_raw_fd(),
    };
    // A guest may be large.
    front_end.add_mem_reg(&region(0, 4 * TIB)).expect("4 TiB");
    let mut taken = 4;
    for index in 1..200 {
        if front_end.add_mem_reg(&region(index, 4 * TIB)).is_ok() {
            taken += 4;
        }
    }
    assert!(taken <= 16, "{taken} TiB for one guest");
    assert!(front_end.add_mem_reg(&region(300, 60 * TIB)).is_err());
    // Others find room.
    let other = Pair::new(&daemon, "ot");
    let (mut a, mut b) = other.connect(&Setup::default()).expect("memory of two guests");
    let frame = ethernet([2; 6], [4; 6], b"room");
    a.send_frame(&frame);
    assert_eq!(b.receive().frame, frame);
    bystanders.finish();
}

/// Memory that its owner may truncate is guarded, and guards are counted: without one there is no mapping.
#[test]
fn memory_that_cannot_be_guarded_is_refused() {
    const GUARDS: u64 = 8192;
    let daemon = daemon();
    let bystanders = Bystanders::start(&daemon);
    let victim = Pair::new(&daemon, "vi");
    let file = memory_file(4096).expect("a file");
    let mut taken = 0;
    let mut front_ends = Vec::new();
    for number in 0.. {
        let pair = Pair::new(&daemon, &format!("h{number}x"));
        let front_end = acknowledged(&pair.a);
        let slots = front_end.max_mem_slots().expect("a number");
        let region = |index: u64| SharedRegion {
            guest: index << 20,
            size: 4096,
            user: index << 20,
            file_offset: 0,
            fd: file.as_raw_fd(),
        };
        let added = (0..slots)
            .take_while(|index| front_end.add_mem_reg(&region(*index)).is_ok())
            .count() as u64;
        taken += added;
        front_ends.push(front_end);
        if added < slots {
            break;
        }
        assert!(taken <= GUARDS, "{taken} mappings, and {GUARDS} guards");
    }
    // Whoever is let in nevertheless harms only itself.
    if let Ok(a) = victim.a.connect(Setup::default()) {
        for region in 0..a.memory.regions().len() {
            a.memory.file(region).set_len(0).expect("a truncated file");
        }
        let _ = a.queues[1].kick.write(1);
        let _ = a.front_end.is_hung_up_on(MOMENT);
    }
    assert!(is_alive(&daemon), "the daemon has ended:\n{}", daemon.log());
    drop(front_ends);
    bystanders.finish();
}
