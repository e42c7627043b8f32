//! Helpers on maps, and those that send records through them.

use super::super::testing::{FUEL, NO_MAP, World, assert_refused, call, octets_at, on_stack};
use crate::code::function_handle;
use crate::fault::FaultKind;
use crate::layout::{CONTEXT, PACKET_DATA, STACK_TOP};
use crate::map::MapKind;
use crate::packet::NoEnvironment;
use crate::{Errno, packet};

const EINVAL: u64 = -22i64 as u64;

#[test]
fn what_is_put_into_a_map_is_found_in_it() {
    let world = World::new(&[MapKind::Array]);
    let map = world.handle(0);
    world.run(|machine| {
        let key = on_stack(machine, 0, &2u32.to_ne_bytes());
        let value = on_stack(machine, 8, b"eight888");
        assert_eq!(call(machine, 2, [map, key, value, 0, 0]), 0);
        let found = call(machine, 1, [map, key, 0, 0, 0]);
        assert_eq!(octets_at(machine, found, 8), b"eight888");
        let absent = on_stack(machine, 16, &9u32.to_ne_bytes());
        assert_eq!(call(machine, 1, [map, absent, 0, 0, 0]), 0);
        assert_eq!(call(machine, 2, [map, key, value, 1 << 40, 0]), EINVAL);
        assert_eq!(machine.words.stopped, 0);
    });
}

#[test]
fn a_key_may_lie_in_a_map_and_the_address_have_any_upper_half() {
    let world = World::new(&[MapKind::Array]);
    let map = world.handle(0);
    world.run(|machine| {
        let key = on_stack(machine, 0, &1u32.to_ne_bytes());
        let found = call(machine, 1, [map, key, 0, 0, 0]);
        // The value is 0, a key as well.
        let first = call(machine, 1, [map, found | 0xdead << 32, 0, 0, 0]);
        assert_eq!(first, found - 8);
    });
}

#[test]
fn a_program_that_passes_no_map_or_one_of_another_kind_is_stopped() {
    let world = World::new(&[
        MapKind::Array,
        MapKind::Queue,
        MapKind::Ringbuf,
        MapKind::HashOfMaps,
    ]);
    let [array, queue, ring, maps] = [0, 1, 2, 3].map(|map| world.handle(map));
    world.run(|machine| {
        let key = on_stack(machine, 0, &[0; 16]);
        for id in [1, 2, 3, 87, 88, 89, 164, 195, 130, 131, 134] {
            for no_map in [0, NO_MAP, 0x8000, u64::MAX, array | 1 << 32] {
                assert_refused(machine, id, [no_map, key, key, 0, 0], 1);
            }
        }
        assert_refused(machine, 1, [queue, key, 0, 0, 0], 1);
        assert_refused(machine, 2, [maps, key, key, 0, 0], 1);
        assert_refused(machine, 3, [ring, key, 0, 0, 0], 1);
        assert_refused(machine, 87, [array, key, 0, 0, 0], 1);
        assert_refused(machine, 195, [array, key, 0, 0, 0], 1);
        assert_refused(machine, 164, [queue, function_handle(1).into(), 0, 0, 0], 1);
        assert_refused(machine, 131, [array, 8, 0, 0, 0], 1);
        assert_refused(machine, 25, [CONTEXT.into(), ring, 0, key, 8], 2);
    });
}

#[test]
fn keys_and_values_must_be_accessible_as_a_whole() {
    let world = World::new(&[MapKind::Array, MapKind::Queue]);
    let [map, queue] = [0, 1].map(|map| world.handle(map));
    world.run(|machine| {
        let good = on_stack(machine, 0, &[0; 8]);
        for bad in [0, map, u64::from(STACK_TOP) - 3, 0xffff_ffff] {
            assert_refused(machine, 1, [map, bad, 0, 0, 0], 2);
            assert_refused(machine, 2, [map, bad, good, 0, 0], 2);
            assert_refused(machine, 2, [map, good, bad, 0, 0], 3);
            assert_refused(machine, 87, [queue, bad, 0, 0, 0], 2);
            assert_refused(machine, 88, [queue, bad, 0, 0, 0], 2);
        }
    });
}

#[test]
fn queues_give_back_what_was_pushed() {
    let world = World::new(&[MapKind::Queue, MapKind::BloomFilter]);
    let [queue, filter] = [0, 1].map(|map| world.handle(map));
    world.run(|machine| {
        let value = on_stack(machine, 0, b"12345678");
        assert_eq!(call(machine, 87, [queue, value, 0, 0, 0]), 0);
        assert_eq!(call(machine, 89, [queue, value + 8, 0, 0, 0]), 0);
        assert_eq!(call(machine, 88, [queue, value + 16, 0, 0, 0]), 0);
        assert_eq!(octets_at(machine, value, 24), b"123456781234567812345678");
        assert_eq!(
            call(machine, 89, [filter, value, 0, 0, 0]),
            Errno::ENOENT.to_register()
        );
    });
}

#[test]
fn loops_and_walks_check_what_the_kernel_checks() {
    let world = World::new(&[MapKind::Array]);
    let map = world.handle(0);
    let function = u64::from(function_handle(1));
    world.run(|machine| {
        assert_eq!(call(machine, 181, [0, function, 0, 0, 0]), 0);
        assert_eq!(call(machine, 181, [1, function, 0, 1, 0]), EINVAL);
        assert_eq!(
            call(machine, 181, [(1 << 23) + 1, function, 0, 0, 0]),
            Errno::E2BIG.to_register()
        );
        assert_eq!(call(machine, 164, [map, function, 0, 1, 0]), EINVAL);
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 181, [0, 3, 0, 0, 0], 2);
        assert_refused(machine, 164, [map, function + 1, 0, 0, 0], 2);
    });
}

#[test]
fn samples_go_back_to_their_ring_whatever_the_program_does() {
    let world = World::new(&[MapKind::Ringbuf, MapKind::Ringbuf]);
    world.run(|machine| {
        let sample = call(machine, 131, [world.handle(0), 16, 0, 0, 0]);
        let other = call(machine, 131, [world.handle(1), 16, 0, 0, 0]);
        assert!(sample != 0 && other != 0);
        assert_eq!(call(machine, 131, [world.handle(0), 16, 1, 0, 0]), 0, "flags");
        assert_eq!(call(machine, 132, [sample | 1 << 40, 0, 0, 0, 0]), 0);
        assert_refused(machine, 132, [sample, 0, 0, 0, 0], 1);
        assert_refused(machine, 133, [sample + 8, 0, 0, 0, 0], 1);
        assert_eq!(call(machine, 133, [other, 0, 0, 0, 0]), 0);
        let many = (0..20)
            .filter(|_| call(machine, 131, [world.handle(0), 8, 0, 0, 0]) != 0)
            .count();
        assert_eq!(many, 16);
    });
    world.run(|machine| {
        let sample = call(machine, 131, [world.handle(0), 8, 0, 0, 0]);
        assert_ne!(sample, 0, "what was left was discarded when the run ended");
        assert_refused(machine, 132, [sample - 16, 0, 0, 0, 0], 1);
    });
}

#[test]
fn ring_output_copies_what_the_program_may_read() {
    let world = World::new(&[MapKind::Ringbuf]);
    let ring = world.handle(0);
    world.run(|machine| {
        let data = on_stack(machine, 0, b"data");
        assert_eq!(call(machine, 130, [ring, data, 4, 0, 0]), 0);
        assert_eq!(call(machine, 130, [ring, data, 4, 4, 0]), EINVAL);
        assert_eq!(
            call(machine, 130, [ring, u64::from(PACKET_DATA), 8192, 0, 0]),
            Errno::EAGAIN.to_register()
        );
        assert_refused(machine, 130, [ring, data, u64::MAX, 0, 0], 2);
    });
}

/// A frame of which only the first octets are linear.
#[derive(Debug)]
pub struct Fragmented {
    pub linear: Vec<u8>,
    pub fragments: Vec<u8>,
}

impl packet::Octets for Fragmented {
    fn linear(&self) -> &[u8] {
        &self.linear
    }
    fn set_linear(&mut self, octets: &[u8]) {
        self.linear = octets.to_vec();
    }
    fn fragments_len(&self) -> usize {
        self.fragments.len()
    }
    fn read_fragments(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.fragments[offset..offset + to.len()]);
    }
    fn take_fragments(&mut self, to: &mut [u8]) {
        self.read_fragments(0, to);
        self.fragments.drain(..to.len());
    }
    fn truncate_fragments(&mut self, len: usize) {
        self.fragments.truncate(len);
    }
}

#[test]
fn perf_events_carry_as_much_of_the_frame_as_the_flags_say() {
    let world = World::new(&[MapKind::PerfEventArray]);
    let events = world.handle(0);
    let mut frame = Fragmented {
        linear: b"lin".to_vec(),
        fragments: b"fragments".to_vec(),
    };
    world.run_on(&mut frame, &mut NoEnvironment, |machine| {
        let data = on_stack(machine, 0, b"meta:");
        let flags = |len: u64| len << 32 | 0xffff_ffff;
        let context = u64::from(CONTEXT);
        assert_eq!(call(machine, 25, [context, events, flags(7), data, 5]), 0);
        assert_eq!(
            octets_at(machine, PACKET_DATA.into(), 7),
            b"linfrag",
            "in one piece"
        );
        let too_long = call(machine, 25, [context, events, flags(13), data, 5]);
        assert_eq!(too_long, Errno::EFAULT.to_register());
        assert_eq!(call(machine, 25, [context, events, 1 << 52, data, 5]), EINVAL);
        assert_refused(machine, 25, [context, events, flags(0), data, 1 << 32], 4);
        assert_eq!(machine.linear_len(), 3, "the frame is as it was");
    });
}

#[test]
fn work_on_many_octets_costs_fuel() {
    let world = World::new(&[MapKind::PerfEventArray]);
    let mut frame = vec![1; 60_000];
    world.run_on(&mut frame, &mut NoEnvironment, |machine| {
        let events = world.handle(0);
        let arguments = [CONTEXT.into(), events, 60_000 << 32, CONTEXT.into(), 8];
        call(machine, 25, arguments);
        assert_eq!(machine.words.fuel, FUEL - 60_008 / 32);
        machine.words.fuel = 10;
        call(machine, 25, arguments);
        assert_eq!((machine.words.stopped, machine.fault), (1, Some(FaultKind::Fuel)));
    });
}
