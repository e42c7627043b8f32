//! Calls of helpers and of other programs, and what a tracer sees of them.

mod common;

use common::assembler::*;
use common::{engines, evaluate, functions, not_run, one_function, program, run_on_octets};
use policy::interpreter::Tracer;
use policy::machine::Packet;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Program, helper as helpers, jump, size};

/// `bpf_get_smp_processor_id`, which is the shard.
const GET_SMP_PROCESSOR_ID: i32 = 8;
/// `bpf_skb_load_bytes`.
const SKB_LOAD_BYTES: i32 = 26;

#[test]
fn a_helper_leaves_its_result_in_r0_and_nothing_in_r1_to_r5() {
    if helpers::find(GET_SMP_PROCESSOR_ID as u32).is_none() {
        return not_run(
            "a_helper_leaves_its_result_in_r0_and_nothing_in_r1_to_r5",
            "there are no helpers",
        );
    }
    for register in 0..10 {
        let mut code: Vec<_> = (0..10).map(|register| mov_k(register, 100)).collect();
        code.extend([helper(GET_SMP_PROCESSOR_ID), mov(0, register), exit()]);
        let expected = if register < 6 { 0 } else { 100 };
        evaluate(&code, |engine, result| {
            assert_eq!(result, Ok(expected), "r{register}, {engine}")
        });
    }
}

#[test]
fn a_helper_that_stops_the_program_stops_it_at_its_call() {
    if helpers::find(SKB_LOAD_BYTES as u32).is_none() {
        return not_run(
            "a_helper_that_stops_the_program_stops_it_at_its_call",
            "there are no helpers",
        );
    }
    // It is to write to address 0.
    let code = [
        mov_k(2, 0),
        mov_k(3, 0),
        mov_k(4, 8),
        helper(SKB_LOAD_BYTES),
        mov_k(0, 1),
        exit(),
    ];
    evaluate(&code, |engine, result| {
        let fault = result.expect_err(engine);
        assert_eq!(fault.instruction, 3, "{engine}");
    });
}

#[test]
fn a_tail_call_that_fails_goes_on() {
    const TAIL_CALL: i32 = helpers::TAIL_CALL as i32;
    let code = [mov_k(2, 0), helper(TAIL_CALL), exit()];
    // -ENOENT
    evaluate(&code, |engine, result| {
        assert_eq!(result, Ok(-2i64 as u64), "{engine}")
    });
    for register in 1..=5 {
        let code = [
            mov_k(register, 1),
            mov_k(2, 7),
            helper(TAIL_CALL),
            mov(0, register),
            exit(),
        ];
        evaluate(&code, |engine, result| {
            assert_eq!(result, Ok(0), "r{register}, {engine}")
        });
    }
}

/// Writes down where it has been.
#[derive(Default)]
struct Places(Vec<(usize, u64)>);

impl Tracer for Places {
    fn step(&mut self, program: &Program, instruction: usize, registers: &[u64; 11]) {
        assert_eq!(program.name, "test");
        self.0.push((instruction, registers[0]));
    }
}

#[test]
fn a_tracer_sees_each_instruction_before_it_runs() {
    let [low, high] = lddw(0, 2);
    let code = [
        low,
        high,
        add_k(0, 1),
        jump_k(W64, jump::JLT, 0, 4, -2),
        call(1),
        exit(),
        mov_k(0, 9),
        exit(),
    ];
    let traced = program(engines()[0], &code, &functions(&[0, 6, 8]));
    let mut places = Places::default();
    let mut packet = Packet {
        metadata: Metadata::default(),
        octets: &mut vec![0; 64],
        environment: &mut NoEnvironment,
    };
    // SAFETY: the domain is this thread's.
    let result = unsafe { traced.run_traced(0, &mut packet, &mut places) };
    assert_eq!(result, Ok(9));
    let expected = [
        (0, 0),
        (2, 2),
        (3, 3),
        (2, 3),
        (3, 4),
        (4, 4),
        (6, 4),
        (7, 9),
        (5, 9),
    ];
    assert_eq!(places.0, expected);
}

#[test]
fn memory_of_maps_is_accessible_as_far_as_it_is_mapped() {
    use policy::FaultKind;
    use policy::memory::Section;
    let domain = common::domain();
    let memory = domain.memory();
    for (section, writable) in [
        (Section::Shared, true),
        (Section::PerShard, true),
        (Section::ReadOnly, false),
    ] {
        let block = memory.allocate(section, 100).unwrap();
        // Whole pages are mapped.
        let end = u64::from(block.start & !4095) + 4096;
        let at = |address: u64, access| {
            let mut code = Vec::from(lddw(1, address));
            code.extend([access, mov_k(0, 1), exit()]);
            code
        };
        for (address, access, allowed) in [
            (u64::from(block.start), load(size::DW, 2, 1, 0), true),
            (u64::from(block.start), store(size::DW, 1, 0, 2), writable),
            (u64::from(block.start), atomic(size::DW, 0, 1, 0, 2), writable),
            (end - 8, load(size::DW, 2, 1, 0), true),
            (end - 7, load(size::DW, 2, 1, 0), false),
            (end, store(size::B, 1, 0, 2), false),
        ] {
            let code = at(address, access);
            for engine in engines() {
                let program = program(engine, &code, &one_function(&code));
                let result = run_on_octets(&program, &mut vec![]).map_err(|fault| fault.kind);
                let first = if address + 8 > end {
                    end.max(address)
                } else {
                    address
                };
                let fault = FaultKind::Access {
                    address: first as i64,
                };
                let expected = if allowed { Ok(1) } else { Err(fault) };
                assert_eq!(
                    result, expected,
                    "{section:?} {address:#x} {access:?}, {}",
                    engine.name
                );
            }
        }
    }
}
