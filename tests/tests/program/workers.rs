//! Which worker serves which queue: at the start, and by hand.

use std::time::{Duration, Instant};

use netkit_tests::driver::{Bystanders, Pair, Setup};
use netkit_tests::netkitd::Netkitd;

/// The worker that serves the first queue of a device.
fn worker_of(daemon: &Netkitd, device: &str) -> Option<u32> {
    let workers = daemon.client().workers().expect("the workers");
    let serves = |it: &&netkit_api::Worker| it.queues.iter().any(|it| it.device == device && it.queue == 0);
    workers.iter().find(serves).map(|it| it.worker)
}

#[test]
fn queues_are_spread_over_the_workers_and_shown() {
    let daemon = Netkitd::with(&["--workers", "2"]);
    let pairs = ["p", "q", "r"].map(|name| Pair::new(&daemon, name));
    assert!(
        daemon
            .client()
            .workers()
            .unwrap()
            .iter()
            .all(|it| it.queues.is_empty())
    );
    let guests = pairs
        .each_ref()
        .map(|pair| pair.connect(&Setup::default()).unwrap());
    let workers = daemon.client().workers().unwrap();
    let counts: Vec<usize> = workers.iter().map(|it| it.queues.len()).collect();
    assert_eq!(counts, [3, 3]);
    let shown = daemon.ok("worker show");
    assert!(shown.starts_with("0: busy 0."), "{shown}");
    for name in ["p0", "p1", "q0", "q1", "r0", "r1"] {
        let line = format!("    dev {name} queue 0 frames 0\n");
        assert!(shown.contains(&line), "{shown}");
    }
    drop(guests);
    let end = Instant::now() + Duration::from_secs(10);
    while daemon
        .client()
        .workers()
        .unwrap()
        .iter()
        .any(|it| !it.queues.is_empty())
    {
        assert!(Instant::now() < end, "queues of guests that are gone are served");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_queue_that_goes_from_worker_to_worker_loses_no_frame() {
    let daemon = Netkitd::with(&["--workers", "2"]);
    let bystanders = Bystanders::start(&daemon);
    for round in 0..200 {
        for device in ["by0", "by1"] {
            daemon.client().move_queue(device, 0, round % 2).expect("a move");
            assert_eq!(worker_of(&daemon, device), Some(round % 2));
        }
        if round % 20 == 0 {
            bystanders.go_on();
        }
    }
    daemon.ok("worker move by0 0 0");
    let shown = daemon.ok("worker");
    assert!(
        shown.contains("dev by0 queue 0 frames ") && shown.contains(" fixed\n"),
        "{shown}"
    );
    bystanders.finish();
}

#[test]
fn a_move_that_makes_no_sense_is_refused_with_what_to_do() {
    let daemon = Netkitd::with(&["--workers", "2"]);
    let pair = Pair::new(&daemon, "nk");
    let said = daemon.fails(2, "worker move nk0 0 1");
    assert!(
        said.contains("queue 0 of nk0 stays") && said.contains("(ENOENT"),
        "{said}"
    );
    let _guests = pair.connect(&Setup::default()).unwrap();
    let said = daemon.fails(2, "worker move nk0 0 2");
    assert!(
        said.contains("choose one below 2") && said.contains("(EINVAL"),
        "{said}"
    );
    daemon.fails(2, "worker move nk0 7 1");
    daemon.fails(1, "worker move nosuch 0 1");
}
