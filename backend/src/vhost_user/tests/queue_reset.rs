//! virtio 1.3, 2.6.1: a single queue is reset.

use super::*;

#[test]
fn g10_g11_g12_nothing_is_left_of_a_queue_that_was_reset_but_that_it_is_enabled() {
    for (features, bases) in [(0, [0, 0]), (PACKED, [0x8000_8000, 0x8000_8000])] {
        let mut bench = Bench::new(features);
        bench.ask(Request::SET_VRING_ENABLE, &words(&[RING, 1]));
        bench.start(8, bases[0], HERE);
        bench.queue().fail(RingError::Loop);
        bench.stop();
        assert_eq!(bench.queue().broken, None);
        // Neither size nor addresses are known any more.
        bench.kick();
        assert_eq!(bench.position(), None);
        bench.stop();
        let before = octets::<0x3000>(&bench.memory, 0);
        if features == PACKED {
            bench.offer_packed(THERE[0], 0..4, true);
        } else {
            bench.offer_split(THERE, 4);
        }
        bench.start(4, bases[1], THERE);
        bench.burst(4, true);
        assert!(bench.queue().is_running());
        assert_eq!(octets::<0x3000>(&bench.memory, 0), before);
        assert_eq!(bench.stop(), if features == PACKED { 0 } else { 4 });
    }
}

#[test]
fn g11_a_queue_that_was_reset_is_not_where_its_inflight_region_says() {
    for resets_device in [false, true] {
        let mut bench = Bench::new(PACKED);
        let (spec, file) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
        bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
        bench.start(8, 0x8000_8000, HERE);
        bench.offer_packed(HERE[0], 0..8, true);
        bench.burst(3, true);
        if resets_device {
            bench.ask(Request::RESET_DEVICE, &[]);
            bench.ask(
                Request::SET_FEATURES,
                &longs(&[VERSION_1 | PROTOCOL_FEATURES | PACKED]),
            );
            bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
        } else {
            assert_eq!(bench.stop(), 0x8003_8003);
        }
        // The driver sets the ring up anew.
        bench.offer_packed(HERE[0], 0..8, true);
        bench.start(8, 0x8000_8000, HERE);
        assert_eq!(bench.position(), Some(0x8000_8000));
    }
}
