//! Where rings stand, and what sizes they have.

use super::*;

#[test]
fn u08_a_packed_ring_of_any_size_keeps_its_32_bit_base() {
    let mut bench = Bench::new(PACKED);
    bench.start(5, 0x0003_0003, HERE);
    assert_eq!(bench.position(), Some(0x0003_0003));
    bench.offer_packed(HERE[0], 3..5, false);
    bench.offer_packed(HERE[0], 0..1, true);
    bench.burst(3, true);
    assert_eq!(bench.stop(), 0x8001_8001);
    assert_eq!(bench.stop(), 0x8001_8001);
    bench.ask(Request::SET_VRING_BASE, &words(&[RING, 0x8004_8004]));
    assert_eq!(bench.stop(), 0x8004_8004);
}

/// U5, U8: what the front end said at the start is stale by then.
#[test]
fn u08_a_running_ring_that_something_changes_under_goes_on_from_where_it_is() {
    for change in [
        Bench::share_memory as fn(&mut Bench),
        |bench| bench.set_addr(HERE),
        Bench::kick,
        |bench| {
            let log = memfd(4096);
            bench.ask_with(Request::SET_LOG_BASE, &longs(&[4096, 0]), Some(&log));
        },
        |bench| {
            bench.ask(Request::SET_VRING_BASE, &words(&[RING, 0x8000_8000]));
            bench.share_memory();
        },
    ] {
        let mut bench = Bench::new(PACKED);
        bench.start(8, 0x8000_8000, HERE);
        bench.offer_packed(HERE[0], 0..8, true);
        bench.burst(3, true);
        change(&mut bench);
        assert_eq!(bench.position(), Some(0x8003_8003));
        bench.burst(5, true);
        assert_eq!(bench.stop(), 0);
    }
}

#[test]
fn u08_a_ring_whose_memory_went_away_goes_on_from_where_it_was() {
    let mut bench = Bench::new(PACKED);
    bench.start(8, 0x8000_8000, HERE);
    bench.offer_packed(HERE[0], 0..8, true);
    bench.burst(3, true);
    let other = [words(&[1, 0]), longs(&[0x100_0000, 0x1000, 0x100_0000, 0])].concat();
    bench.ask_with(Request::SET_MEM_TABLE, &other, Some(&memfd(0x1000)));
    assert_eq!(bench.position(), None);
    bench.share_memory();
    assert_eq!(bench.position(), Some(0x8003_8003));
}

#[test]
fn only_packed_rings_have_other_sizes_than_powers_of_two() {
    for (features, takes_seven) in [(0, false), (PACKED, true)] {
        let mut bench = Bench::new(features);
        let mut takes = |size| {
            bench
                .handle(Request::SET_VRING_NUM, &words(&[RING, size]), None)
                .is_ok()
        };
        assert_eq!(takes(7), takes_seven);
        assert!(takes(1) && takes(256) && takes(32768));
        assert!(!takes(0) && !takes(32769) && !takes(65536 + 256));
    }
}

#[test]
fn the_format_changes_only_while_no_ring_runs() {
    let mut bench = Bench::new(PACKED);
    bench.start(8, 0x8000_8000, HERE);
    let split = longs(&[VERSION_1 | PROTOCOL_FEATURES]);
    let packed = longs(&[VERSION_1 | PROTOCOL_FEATURES | PACKED]);
    let refused = bench.handle(Request::SET_FEATURES, &split, None);
    assert!(matches!(refused, Err(Violation::FormatChange)));
    bench.ask(Request::SET_FEATURES, &packed);
    assert_eq!(bench.stop(), 0x8000_8000);
    bench.ask(Request::SET_FEATURES, &split);
    bench.offer_split(THERE, 2);
    bench.start(8, 0, THERE);
    bench.burst(2, true);
    assert_eq!(bench.stop(), 2);
    bench.ask(Request::SET_FEATURES, &packed);
    bench.start(8, 0x8000_8000, HERE);
    assert_eq!(bench.position(), Some(0x8000_8000));
}
