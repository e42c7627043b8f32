//! Functions of the program that helpers call. Without an engine these tests would say nothing.

use super::super::testing::{FUEL, World, call, octets_at, on_stack};
use crate::code::{Code, Function, function_handle};
use crate::map::MapKind;
use crate::{Instruction, opcode};

fn instruction(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Instruction {
    Instruction {
        opcode,
        dst,
        src,
        offset,
        imm,
    }
}

/// A world whose second function counts its calls in the word that the register `context` points to, and stops at the
/// third.
fn counting(context: u8, kinds: &[MapKind]) -> World {
    let exit = instruction(opcode::EXIT, 0, 0, 0, 0);
    let code = [
        exit,
        // r1 = [context]; r1 += 1; [context] = r1; r0 = r1 > 2
        instruction(0x79, 1, context, 0, 0),
        instruction(0x07, 1, 0, 0, 1),
        instruction(0x7b, context, 1, 0, 0),
        instruction(0xb7, 0, 0, 0, 0),
        instruction(0xd5, 1, 0, 1, 2),
        instruction(0xb7, 0, 0, 0, 1),
        exit,
    ];
    let function = |start, end| Function {
        name: format!("function_{start}"),
        start,
        end,
    };
    let functions = [function(0, 1), function(1, 8)];
    World::with_code(Code::new(code.into(), functions.into(), [].into()), kinds)
}

#[test]
fn a_loop_counts_its_iterations_and_ends_when_the_function_says() {
    let world = counting(2, &[]);
    let function = function_handle(1).into();
    world.run(|machine| {
        let counter = on_stack(machine, 0, &[0; 8]);
        assert_eq!(call(machine, 181, [2, function, counter, 0, 0]), 2);
        on_stack(machine, 0, &[0; 8]);
        assert_eq!(call(machine, 181, [10, function, counter, 0, 0]), 3);
        assert_eq!(octets_at(machine, counter, 8), 3u64.to_ne_bytes());
        assert!(machine.words.fuel < FUEL, "each call costs fuel");
    });
}

#[test]
fn a_loop_cannot_outlive_its_fuel() {
    let world = counting(2, &[]);
    world.run(|machine| {
        let counter = on_stack(machine, 0, &(1u64 << 63).to_ne_bytes());
        call(machine, 181, [1 << 23, function_handle(1).into(), counter, 0, 0]);
        assert_eq!(machine.words.stopped, 1);
    });
}

#[test]
fn a_walk_visits_entries_until_the_function_stops_it() {
    let world = counting(4, &[MapKind::Array]);
    world.run(|machine| {
        let counter = on_stack(machine, 0, &[0; 8]);
        let arguments = [world.handle(0), function_handle(1).into(), counter, 0, 0];
        assert_eq!(call(machine, 164, arguments), 3);
        assert_eq!(machine.words.stopped, 0);
    });
}
