//! The NIC goes, the cable goes, the daemon goes; and comes back.

use std::thread;
use std::time::{Duration, Instant};

use netkit_tests::driver::{Pair, Setup, Stack, packet};
use netkit_tests::outside::LabConfig;

use crate::{Bench, GUEST, PATIENCE, Way, ping_both_ways, ping_out, stream_disturbed, stream_out};

const STREAM: usize = 4 << 20;
const DOWN: &str = "uplink_down";

fn bench(test: &str, way: Way) -> Option<(Bench, Pair, Stack)> {
    let bench = Bench::new(test, way, LabConfig::default())?;
    let pair = bench.pair("nk", "");
    let mut guest = bench.guest(&pair, &Setup::default(), GUEST);
    ping_both_ways(&bench.lab, &mut guest, GUEST);
    Some((bench, pair, guest))
}

/// What a guest sends now is dropped, and the reason says that the uplink is down.
fn assert_dropped(bench: &Bench, guest: &mut Stack) {
    let before = bench.dropped(DOWN);
    let end = Instant::now() + PATIENCE;
    while bench.dropped(DOWN) == before {
        assert!(
            Instant::now() < end,
            "nothing is dropped as {DOWN}: {}",
            bench.told()
        );
        guest
            .driver
            .send_frame(&packet::ethernet([2; 6], [4; 6], b"lost"));
        thread::sleep(Duration::from_millis(10));
    }
}

/// The uplink shows a state while the NIC is away, frames drop, and all is as before when it is back.
fn goes_and_comes_back(test: &str, way: Way, state: &str, go: fn(&mut Bench), back: fn(&mut Bench)) {
    let Some((mut bench, _pair, mut guest)) = bench(test, way) else {
        return;
    };
    for _ in 0..2 {
        go(&mut bench);
        bench.await_state(state);
        assert!(bench.uplink().reason.is_some(), "{}", bench.told());
        assert_dropped(&bench, &mut guest);
        back(&mut bench);
        bench.await_state("up");
        assert_eq!(bench.uplink().reason, None);
        ping_both_ways(&bench.lab, &mut guest, GUEST);
    }
    stream_out(&bench.lab, &mut guest, 9001, STREAM / 4);
}

/// A test for each way.
macro_rules! on {
    ($($name:ident: $way:ident $state:literal $go:expr, $back:expr;)*) => {
        $(
            #[test]
            fn $name() {
                goes_and_comes_back(stringify!($name), Way::$way, $state, $go, $back);
            }
        )*
    };
}

on! {
    a_cable_goes_and_comes_back_over_packet_sockets: Kernel "nocarrier"
        |bench| bench.lab.set_carrier(false), |bench| bench.lab.set_carrier(true);
    a_cable_goes_and_comes_back_over_af_xdp: AfXdp "nocarrier"
        |bench| bench.lab.set_carrier(false), |bench| bench.lab.set_carrier(true);
    a_nic_that_its_host_sets_down_is_used_again_when_it_is_up: Kernel "nocarrier"
        |bench| bench.lab.set_nic(false), |bench| bench.lab.set_nic(true);
    an_uplink_that_is_set_down_is_used_again_when_it_is_up: Kernel "down"
        |bench| drop(bench.daemon.ok("uplink set up0 down")),
        |bench| drop(bench.daemon.ok("uplink set up0 up"));
    a_nic_is_removed_and_made_again_over_packet_sockets: Kernel "missing"
        |bench| bench.lab.remove_wire(), |bench| bench.lab.make_wire();
    a_nic_is_removed_and_made_again_over_af_xdp: AfXdp "missing"
        |bench| bench.lab.remove_wire(), |bench| bench.lab.make_wire();
}

/// A stream goes on over the deaths of the daemon.
fn survives_deaths(test: &str, way: Way) {
    let Some((mut bench, pair, mut guest)) = bench(test, way) else {
        return;
    };
    let daemon = &mut bench.daemon;
    let mut deaths = 0;
    stream_disturbed(&bench.lab, &mut guest, 9001, STREAM, |guest, left| {
        // While the outside receives, in between, and while it sends.
        if deaths < 3 && left <= STREAM - deaths * STREAM / 4 {
            daemon.kill();
            daemon.run();
            guest
                .driver
                .reconnect(&pair.b.socket)
                .expect("the daemon listens again");
            deaths += 1;
        }
    });
    assert_eq!(deaths, 3);
    if way != Way::OwnTap {
        bench.await_state("up");
    }
    ping_out(&mut guest, GUEST);
}

#[test]
fn a_stream_survives_the_daemons_deaths_over_packet_sockets() {
    survives_deaths(
        "a_stream_survives_the_daemons_deaths_over_packet_sockets",
        Way::Kernel,
    );
}

#[test]
fn a_stream_survives_the_daemons_deaths_over_af_xdp() {
    survives_deaths("a_stream_survives_the_daemons_deaths_over_af_xdp", Way::AfXdp);
}

#[test]
fn a_stream_survives_the_daemons_deaths_over_a_macvtap() {
    survives_deaths(
        "a_stream_survives_the_daemons_deaths_over_a_macvtap",
        Way::Macvtap,
    );
}
