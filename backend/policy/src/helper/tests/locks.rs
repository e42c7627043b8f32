//! Spin locks.

use super::super::testing::{FUEL, World, assert_refused, call, octets_at, on_stack};
use crate::fault::FaultKind;
use crate::layout::STACK;

#[test]
fn a_lock_is_taken_and_given_back() {
    let world = World::new(&[]);
    world.run(|machine| {
        let lock = on_stack(machine, 0, &[0; 4]);
        assert_eq!(call(machine, 93, [lock, 0, 0, 0, 0]), 0);
        assert_eq!(octets_at(machine, lock, 4), 1u32.to_ne_bytes());
        assert_eq!(call(machine, 94, [lock, 0, 0, 0, 0]), 0);
        assert_eq!(octets_at(machine, lock, 4), [0; 4]);
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 94, [lock, 0, 0, 0, 0], 1);
    });
}

#[test]
fn a_lock_that_the_program_keeps_is_released_when_it_ends() {
    let world = World::new(&[]);
    world.run(|machine| {
        let lock = on_stack(machine, 8, &[0; 4]);
        call(machine, 93, [lock, 0, 0, 0, 0]);
    });
    world.run(|machine| {
        assert_eq!(octets_at(machine, u64::from(STACK) + 8, 4), [0; 4]);
        assert_eq!(machine.lock, None);
    });
}

#[test]
fn nobody_waits_for_a_lock_for_ever() {
    let world = World::new(&[]);
    world.run(|machine| {
        let lock = on_stack(machine, 0, &7u32.to_ne_bytes());
        call(machine, 93, [lock, 0, 0, 0, 0]);
        let address = lock as u32;
        assert_eq!(machine.fault, Some(FaultKind::SpinLock { address }));
        assert_eq!(machine.words.fuel, FUEL - (1 << 15), "waiting costs fuel");
        assert_eq!(machine.lock, None);
    });
}

#[test]
fn a_second_lock_stops_the_program() {
    let world = World::new(&[]);
    world.run(|machine| {
        let lock = on_stack(machine, 0, &[0; 8]);
        call(machine, 93, [lock, 0, 0, 0, 0]);
        call(machine, 93, [lock + 4, 0, 0, 0, 0]);
        let address = lock as u32 + 4;
        assert_eq!(machine.fault, Some(FaultKind::SpinLock { address }));
        assert_eq!(
            machine.lock,
            Some(lock as u32),
            "the first one is still to be released"
        );
    });
}

#[test]
fn a_lock_is_an_aligned_word_that_the_program_can_write() {
    let world = World::new(&[]);
    world.run(|machine| {
        assert_refused(machine, 93, [0; 5], 1);
        let lock = on_stack(machine, 0, &[0; 8]);
        machine.fault = None;
        call(machine, 93, [lock + 1, 0, 0, 0, 0]);
        let address = lock as i64 + 1;
        assert_eq!(machine.fault, Some(FaultKind::Misaligned { address }));
    });
}
