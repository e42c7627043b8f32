//! A front end stops one ring, as at a queue reset (virtio 1.3, 2.6.1), and starts it again with another size and
//! elsewhere, while the others run.

use std::time::Duration;

use netkit_tests::driver::{Format, NetDriver, Pair, PairConfig, Setup, feature, packet};
use netkit_tests::in_both_formats;
use netkit_tests::netkitd::Netkitd;

in_both_formats!(
    g10_a_ring_that_is_reset_is_left_alone,
    g11_g12_a_ring_starts_again_with_another_size_and_elsewhere,
    g12_rings_are_reset_again_and_again_while_the_rest_carries_traffic,
);

/// Long enough for something that is not to happen, to happen.
const QUIET: Duration = Duration::from_millis(100);

fn guests(format: Format, pairs: u16) -> (Netkitd, Pair, NetDriver, NetDriver) {
    let daemon = Netkitd::start();
    let config = PairConfig {
        queues: pairs,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let setup = Setup {
        pairs: pairs.into(),
        size: 64,
        ..format.with(feature::LINUX)
    };
    let (a, b) = pair.connect(&setup).unwrap();
    (daemon, pair, a, b)
}

fn frame(number: u32) -> Vec<u8> {
    packet::ethernet([2; 6], [4; 6], &number.to_be_bytes())
}

fn flows(a: &mut NetDriver, b: &mut NetDriver, count: u32) {
    for number in 0..count {
        a.send_frame(&frame(number));
        assert_eq!(b.receive().frame, frame(number));
    }
}

fn octets(driver: &NetDriver) -> Vec<u8> {
    let region = driver.memory.regions()[0];
    let mut octets = vec![0; region.size as usize];
    driver.memory.read(region.guest, &mut octets);
    octets
}

fn g10_a_ring_that_is_reset_is_left_alone(format: Format) {
    let (_daemon, _pair, mut a, mut b) = guests(format, 1);
    flows(&mut a, &mut b, 100);
    flows(&mut b, &mut a, 100);
    a.flush();
    // Both of its rings.
    a.stop().unwrap();
    let before = octets(&a);
    a.queues.iter().for_each(|queue| drop(queue.call.read()));
    for number in 0..20 {
        b.send_frame(&frame(number));
    }
    b.flush();
    a.queues[1].kick.write(1).unwrap();
    std::thread::sleep(QUIET);
    assert!(octets(&a) == before, "a ring that was reset was written to");
    for queue in &a.queues {
        assert!(queue.call.read().is_err(), "a ring that was reset notified");
    }
}

fn g11_g12_a_ring_starts_again_with_another_size_and_elsewhere(format: Format) {
    let (_daemon, _pair, mut a, mut b) = guests(format, 1);
    flows(&mut a, &mut b, 150);
    for size in [256, 16, 128, 64] {
        a.flush();
        a.reset_ring(1, size).unwrap();
        flows(&mut a, &mut b, 300);
        b.reset_ring(0, size).unwrap();
        flows(&mut a, &mut b, 300);
        // The rings that were not reset went on all the while.
        flows(&mut b, &mut a, 10);
        // As many fit as the new size says.
        assert_eq!(b.queues[0].ring.outstanding(), usize::from(size));
    }
    assert!(b.poll().is_none());
}

fn g12_rings_are_reset_again_and_again_while_the_rest_carries_traffic(format: Format) {
    let (_daemon, pair, mut a, mut b) = guests(format, 2);
    // All frames are of one flow, which has one receive queue.
    a.send_frame(&frame(0));
    let busy = b.receive().pair;
    let idle_ring = 2 * (1 - busy);
    for round in 0..10u32 {
        // One transmit ring and one receive ring are reset while the others are full of work.
        for number in 0..40 {
            a.send(
                1,
                &netkit_tests::driver::Header::default(),
                &frame(round << 16 | number),
            );
        }
        let size = [32, 64, 128][round as usize % 3];
        a.flush();
        a.reset_ring(1, size).unwrap();
        b.reset_ring(idle_ring, size).unwrap();
        for number in 0..40 {
            let received = b.receive();
            assert_eq!(
                (received.pair, received.frame),
                (busy, frame(round << 16 | number))
            );
        }
        flows(&mut a, &mut b, 20);
    }
    assert_eq!(pair.a.drops(), []);
}
