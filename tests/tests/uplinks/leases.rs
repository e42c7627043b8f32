//! Queues of a NIC that are a device's own.

use std::net::Ipv4Addr;

use netkit_tests::driver::{End, Pair, Setup, packet};
use netkit_tests::outside::LabConfig;

use crate::programs::loaded;
use crate::{Bench, GUEST, UPLINK, Way, guest, ping_both_ways, stream_in, stream_out};

const STREAM: usize = 1 << 20;

fn two_queues() -> LabConfig {
    LabConfig {
        queues: 2,
        ..LabConfig::default()
    }
}

/// An AF_XDP uplink with two queues, and a pair whose peer can lease some.
fn bench(test: &str) -> Option<(Bench, End)> {
    let bench = Bench::new(test, Way::AfXdp, two_queues())?;
    let end = lessee(&bench, "nk", 4);
    Some((bench, end))
}

/// The peer of a new pair, with so many queues allocated and a guest's socket behind it.
fn lessee(bench: &Bench, name: &str, queues: u32) -> End {
    bench.daemon.ok(&format!(
        "link add {name}0 type netkit mode l2 peer name {name}1 numrxqueues {queues}"
    ));
    for end in ["0", "1"] {
        bench.daemon.ok(&format!("link set {name}{end} up"));
    }
    let device = format!("{name}1");
    let socket = bench.daemon.path(&format!("{device}.sock"));
    bench
        .daemon
        .ok(&format!("attach {device} vhost-user path {}", socket.display()));
    // A handle on what was made by nkctl.
    Pair::ends(&bench.daemon, name).b
}

#[test]
fn programs_run_on_what_passes_a_leased_queue() {
    let Some((bench, end)) = bench("programs_run_on_what_passes_a_leased_queue") else {
        return;
    };
    let Some(programs) = loaded(&bench) else { return };
    let leased = bench.daemon.ok(&format!("queue lease {} {UPLINK} 1", end.device));
    println!("{leased}");
    for (list, program) in [("tcx_egress", "count_egress"), ("tcx_ingress", "count_ingress")] {
        bench
            .daemon
            .ok(&format!("net attach {list} name {program} dev {UPLINK}"));
    }
    let mut guest = guest(&end, &Setup::default(), GUEST);
    let capture = bench.lab.capture();
    ping_both_ways(&bench.lab, &mut guest, GUEST);
    stream_out(&bench.lab, &mut guest, 9001, STREAM);
    stream_in(&bench.lab, &mut guest, GUEST, 9002, STREAM);
    capture.all_right();
    assert!(programs.read_u64("seen", 0) > 20 && programs.read_u64("seen", 1) > 20);
    let before = programs.read_u64("seen", 1);
    guest
        .driver
        .send_frame(&packet::ethernet([2; 6], [4; 6], b"dropped"));
    guest.driver.flush();
    assert_eq!(programs.read_u64("seen", 1), before + 1);
}

#[test]
fn a_lease_outlives_the_daemon_and_the_nic() {
    let Some((mut bench, end)) = bench("a_lease_outlives_the_daemon_and_the_nic") else {
        return;
    };
    bench.daemon.ok(&format!("queue lease {} {UPLINK} 1", end.device));
    let lease = |bench: &Bench| {
        let queues = bench.uplink().queues;
        let lease = queues[1].lease.clone().expect("it is leased");
        (lease.device, lease.queue)
    };
    let expected = (end.device.clone(), 1);
    assert_eq!(lease(&bench), expected);
    let mut guest = guest(&end, &Setup::default(), GUEST);
    ping_both_ways(&bench.lab, &mut guest, GUEST);

    bench.daemon.kill();
    bench.daemon.run();
    bench.await_state("up");
    assert_eq!(lease(&bench), expected);
    guest.driver.reconnect(&end.socket).unwrap();
    ping_both_ways(&bench.lab, &mut guest, GUEST);

    bench.lab.remove_wire();
    bench.await_state("missing");
    bench.lab.make_wire();
    bench.await_state("up");
    assert_eq!(lease(&bench), expected);
    ping_both_ways(&bench.lab, &mut guest, GUEST);

    // The lessee goes, and the queue is free for another.
    bench.daemon.ok("link del nk0");
    assert_eq!(bench.uplink().queues[1].lease, None);
    let other = lessee(&bench, "other", 4);
    bench
        .daemon
        .ok(&format!("queue lease {} {UPLINK} 1", other.device));
}

#[test]
fn a_lessee_and_a_guest_that_shares_the_uplink_do_not_disturb_each_other() {
    let test = "a_lessee_and_a_guest_that_shares_the_uplink_do_not_disturb_each_other";
    let Some((bench, end)) = bench(test) else { return };
    bench.daemon.ok(&format!("queue lease {} {UPLINK} 1", end.device));
    let pair = bench.pair("sh", "share mac");
    let address = Ipv4Addr::new(10, 77, 0, 20);
    let mut lessee = guest(&end, &Setup::default(), GUEST);
    let mut sharer = bench.guest(&pair, &Setup::default(), address);
    for _ in 0..2 {
        ping_both_ways(&bench.lab, &mut lessee, GUEST);
        ping_both_ways(&bench.lab, &mut sharer, address);
    }
    stream_out(&bench.lab, &mut lessee, 9001, STREAM);
    stream_out(&bench.lab, &mut sharer, 9002, STREAM);
}

#[test]
fn what_cannot_be_leased_is_refused_with_netkits_errno() {
    let Some((bench, end)) = bench("what_cannot_be_leased_is_refused_with_netkits_errno") else {
        return;
    };
    let refuse = |words: &str, what: &str| {
        let text = bench.daemon.fails(2, &format!("queue lease {words}"));
        assert!(text.contains(what), "queue lease {words}: {text}");
    };
    let device = &end.device;
    refuse(&format!("nk0 {UPLINK} 1"), "Operation not supported");
    refuse(&format!("{device} {UPLINK} 2"), "Numerical result out of range");
    refuse(&format!("{device} nowhere 1"), "No such device");
    let nobody = bench.daemon.fails(1, &format!("queue lease nobody {UPLINK} 1"));
    assert!(nobody.contains("Cannot find device"), "{nobody}");
    bench.daemon.ok(&format!("queue lease {device} {UPLINK} 1"));
    refuse(&format!("{device} {UPLINK} 1"), "Device or resource busy");
    let full = lessee(&bench, "full", 1);
    refuse(&format!("{} {UPLINK} 0", full.device), "Invalid argument");
}
