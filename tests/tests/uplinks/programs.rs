//! Programs on an uplink, as on a NIC of the kernel: `tcx_ingress` and `tcx_egress`.

use std::path::Path;

use netkit_tests::driver::{Setup, packet};
use netkit_tests::outside::LabConfig;
use netkit_tests::programs::{self, Programs};

use crate::{Bench, GUEST, UPLINK, Way, ping_both_ways, stream_in, stream_out};

const STREAM: usize = 1 << 20;

/// A daemon with the programs of `programs/uplink.c`.
pub fn loaded(bench: &Bench) -> Option<Programs> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uplinks/programs");
    let object = programs::compile(&directory.join("uplink.c"))?;
    let programs = Programs(bench.daemon.client());
    programs.load(&object);
    Some(programs)
}

/// The guest's device has no uplink behind it: the uplink's program sends it what arrives, and the device's own program,
/// of the host's policies, sends what the guest says to the uplink.
fn redirected(test: &str, program: &str) {
    let Some(bench) = Bench::new(test, Way::Kernel, LabConfig::default()) else {
        return;
    };
    let Some(programs) = loaded(&bench) else { return };
    let pair = bench.pair("nk", "");
    let mut guest = bench.guest(&pair, &Setup::default(), GUEST);
    let ifindex = pair.a.shown().ifindex;
    programs.write("target", &0u32.to_ne_bytes(), &ifindex.to_ne_bytes());
    bench
        .daemon
        .ok(&format!("net attach tcx_ingress name {program} dev {UPLINK}"));
    ping_both_ways(&bench.lab, &mut guest, GUEST);
    stream_out(&bench.lab, &mut guest, 9001, STREAM);
    stream_in(&bench.lab, &mut guest, GUEST, 9002, STREAM);
    assert!(programs.runs(program) > 0, "{}", bench.told());
}

#[test]
fn an_ingress_program_redirects_to_a_device_that_transmits() {
    redirected(
        "an_ingress_program_redirects_to_a_device_that_transmits",
        "to_device",
    );
}

#[test]
fn an_ingress_program_redirects_to_a_guest_behind_a_peer() {
    redirected("an_ingress_program_redirects_to_a_guest_behind_a_peer", "to_peer");
}

#[test]
fn an_egress_program_counts_and_drops() {
    let test = "an_egress_program_counts_and_drops";
    let Some(bench) = Bench::new(test, Way::Kernel, LabConfig::default()) else {
        return;
    };
    let Some(programs) = loaded(&bench) else { return };
    let pair = bench.pair("nk", "");
    let mut guest = bench.guest(&pair, &Setup::default(), GUEST);
    for (list, program) in [("tcx_egress", "count_egress"), ("tcx_ingress", "count_ingress")] {
        bench
            .daemon
            .ok(&format!("net attach {list} name {program} dev {UPLINK}"));
    }
    let capture = bench.lab.capture();
    for _ in 0..20 {
        guest
            .driver
            .send_frame(&packet::ethernet([2; 6], [4; 6], b"dropped"));
    }
    guest.driver.flush();
    ping_both_ways(&bench.lab, &mut guest, GUEST);
    let tally = capture.all_right();
    let (came, went) = (programs.read_u64("seen", 0), programs.read_u64("seen", 1));
    assert!(came >= 6 && went >= 26, "{came} came, {went} went");
    // Those that were dropped were not on the wire; all others that went or came were.
    assert_eq!(tally.frames, came + went - 20, "{tally:?}");
    assert_eq!(bench.uplink().drops.iter().map(|it| it.frames).sum::<u64>(), 20);
}
