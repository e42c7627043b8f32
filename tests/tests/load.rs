//! The load generator against netkitd: whatever it sends must come as it was sent.

use netkit_tests::driver::{Pair, PairConfig};
use netkit_tests::load::{Mode, Options, Report, Size, Verify, run};
use netkit_tests::netkitd::Netkitd;

fn run_with(queues: u16, change: impl FnOnce(&mut Options)) -> Report {
    let daemon = Netkitd::with(&["--workers", "1"]);
    let pair = Pair::with(
        &daemon,
        "ld",
        PairConfig {
            queues,
            ..PairConfig::default()
        },
    );
    let mut options = Options::new(pair.a.socket.clone(), pair.b.socket.clone());
    options.verify = Verify::All;
    options.huge = Some(false);
    (options.queues, options.warm_up, options.seconds) = (queues, 0.0, 0.2);
    change(&mut options);
    let report = run(&options).expect("a run");
    assert_eq!(report.fault(), None, "{report}");
    assert!(report.received > 0, "{report}");
    assert!(report.received <= report.sent, "{report}");
    report
}

#[test]
fn one_way_every_frame_that_comes_is_as_it_was_sent() {
    let report = run_with(1, |options| options.size = Size::Imix);
    assert_eq!(report.per_direction.len(), 1);
}

#[test]
fn both_ways_over_two_queues_the_order_of_each_flow_is_kept() {
    let report = run_with(2, |options| (options.mode, options.flows) = (Mode::BothWays, 7));
    assert!(report.per_direction.iter().all(|it| it.received > 0), "{report}");
}

#[test]
fn large_frames_come_whole() {
    run_with(1, |options| options.size = Size::Gso);
    run_with(1, |options| {
        (options.size, options.mergeable) = (Size::Gso, Some(false))
    });
}

#[test]
fn the_ring_s_features_change_nothing() {
    run_with(1, |options| {
        (options.in_order, options.mergeable) = (Some(false), Some(false));
        (options.event_idx, options.indirect) = (true, true);
    });
}

#[test]
fn in_the_closed_loop_nothing_is_lost() {
    for in_flight in [1, 32] {
        let report = run_with(1, |options| {
            (options.mode, options.in_flight) = (Mode::ClosedLoop, in_flight);
            options.flows = 3;
        });
        assert_eq!(report.lost, 0, "{report}");
        let times = report.round_trip_ns.expect("round trips");
        assert_eq!(2 * times.count, report.received, "{report}");
        assert!(times.median <= times.p99 && times.p99 <= times.max, "{report}");
    }
}

#[test]
fn a_sleeping_daemon_is_woken_and_wakes_the_driver() {
    for event_idx in [false, true] {
        let report = run_with(1, |options| {
            (options.mode, options.event_idx) = (Mode::Wake, event_idx)
        });
        assert_eq!(report.lost, 0, "{report}");
        assert_eq!(
            report.wake_ns.map(|it| it.count),
            Some(report.received),
            "{report}"
        );
    }
}
