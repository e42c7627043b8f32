//! Hostile programs are stopped or harmless, and those of other domains never notice.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::assembler::*;
use common::generate::{self, Random};
use common::objects::*;
use common::{not_run, sides};
use policy::engine::{Config, Engine, LoadOptions, Loaded};
use policy::machine::Packet;
use policy::object::{MapDefinition, Object, ObjectProgram};
use policy::packet::{Metadata, NoEnvironment};
use policy::{Fault, FaultKind, Instruction, Program, atomic as atomics, jump, layout, opcode, size};

const SIZES: [u8; 4] = [size::B, size::H, size::W, size::DW];

/// An engine with a well-behaved program in it.
struct World {
    engine: Engine,
    good: Loaded,
    runs: u32,
    name: &'static str,
}

impl World {
    fn new(interpreter: bool) -> World {
        let mut engine = Engine::new(Config {
            interpreter_only: interpreter,
            ..sides::config()
        });
        let good = object(
            vec![program("good", count(0))],
            vec![array("runs", 1), hash("kept", 8)],
        );
        let good = engine.load(&good, &LoadOptions::default()).unwrap();
        engine
            .map(good.maps[1])
            .unwrap()
            .map
            .set(&[7, 0, 0, 0], &[9; 8], 0)
            .unwrap();
        World {
            engine,
            good,
            runs: 0,
            name: if interpreter { "interpreter" } else { "compiler" },
        }
    }

    fn load(&mut self, object: &Object) -> Loaded {
        let loaded = self.engine.load(object, &LoadOptions::default());
        loaded.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The good program still does what it did, and its maps hold what they held.
    fn assert_intact(&mut self) {
        self.runs += 1;
        assert_eq!(
            run(&self.good.programs[0], 0).unwrap(),
            self.runs,
            "{}",
            self.name
        );
        let kept = &self.engine.map(self.good.maps[1]).unwrap().map;
        assert_eq!(kept.get(&[7, 0, 0, 0], 0), Ok(vec![9; 8]));
        assert_eq!(kept.entries(), 1);
    }

    fn forget(&mut self, loaded: &Loaded) {
        for program in &loaded.programs {
            self.engine.unload(program.id);
        }
    }
}

fn run(program: &Program, shard: usize) -> Result<u32, Fault> {
    let mut octets: Vec<u8> = (0..100).collect();
    octets[12..14].copy_from_slice(&[8, 0]);
    let mut packet = Packet {
        metadata: Metadata {
            protocol: 0x0800,
            ..Metadata::default()
        },
        octets: &mut octets,
        environment: &mut NoEnvironment,
    };
    // SAFETY: each thread of these tests has a shard of its own.
    unsafe { program.run(shard, &mut packet) }
}

/// Has both engines run the first of some programs with maps, and looks at what came of it.
fn each(programs: &[ObjectProgram], maps: &[MapDefinition], mut look: impl FnMut(&str, Result<u32, Fault>)) {
    for interpreter in [true, false] {
        let mut world = World::new(interpreter);
        let loaded = world.load(&object(programs.to_vec(), maps.to_vec()));
        for _ in 0..2 {
            let result = run(&loaded.programs[0], 0);
            look(world.name, result);
            world.assert_intact();
        }
        world.forget(&loaded);
        world.assert_intact();
    }
}

/// Has one program run that must be stopped.
fn assert_stopped(
    what: &str,
    instructions: Vec<Instruction>,
    maps: &[MapDefinition],
    right: impl Fn(&FaultKind) -> bool,
) {
    each(
        &[program("bad", instructions)],
        maps,
        |engine, result| match result {
            Err(fault) if right(&fault.kind) => (),
            other => panic!("{what}, {engine}: {other:?}"),
        },
    );
}

fn is_access(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Access { .. })
}

fn is_argument(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Argument { .. })
}

/// The same engine runs many programs that must all be stopped by an access.
fn assert_all_fault(all: impl Fn() -> Vec<Vec<Instruction>>) {
    for interpreter in [true, false] {
        let mut world = World::new(interpreter);
        for instructions in all() {
            let loaded = world.load(&object(vec![program("bad", instructions.clone())], Vec::new()));
            let result = run(&loaded.programs[0], 0);
            let stopped = result.as_ref().is_err_and(|fault| is_access(&fault.kind));
            assert!(stopped, "{}: {instructions:?}: {result:?}", world.name);
            world.forget(&loaded);
        }
        world.assert_intact();
    }
}

#[test]
fn no_displacement_and_size_reach_out_of_a_window() {
    assert_all_fault(|| {
        let mut all = Vec::new();
        let bases = [
            0,
            0xffff_ffff,
            0xffff_8000,
            0x8000,
            0xffff_ffff_0000_0000,
            u64::MAX,
        ];
        for base in bases {
            for displacement in [i16::MIN, -32767, -9, -8, -7, -1, 0, 1, 7, 8, 32766, i16::MAX] {
                for size in SIZES {
                    for access in [
                        load(size, 0, 1, displacement),
                        store(size, 1, displacement, 0),
                        store_k(size, 1, displacement, -1),
                    ] {
                        let mut code = Vec::from(lddw(1, base));
                        code.extend([mov_k(0, 0), access, exit()]);
                        all.push(code);
                    }
                }
            }
        }
        all
    });
}

#[test]
fn addresses_of_the_process_lead_nowhere() {
    let local = 5u64;
    let addresses = [
        std::ptr::from_ref(&local) as u64,
        run as *const () as u64,
        Box::leak(Box::new(7u64)) as *const u64 as u64,
        0xffff_ffff_ff60_0000,
        0xffff_8880_0000_0000,
    ];
    // Of an address the low half counts, in the window; what is there, if anything, is the program's own.
    each(
        &[program(
            "bad",
            addresses
                .iter()
                .flat_map(|address| lddw(1, *address))
                .chain([mov_k(0, 1), exit()])
                .collect(),
        )],
        &[],
        |_, result| assert_eq!(result, Ok(1)),
    );
    for address in addresses {
        for interpreter in [true, false] {
            let mut world = World::new(interpreter);
            let mut code = Vec::from(lddw(1, address));
            code.extend([store_k(size::DW, 1, 0, 0), load(size::DW, 0, 1, 0), exit()]);
            let loaded = world.load(&object(vec![program("bad", code)], Vec::new()));
            let _ = run(&loaded.programs[0], 0);
            world.assert_intact();
        }
        assert_eq!(local, 5);
    }
}

#[test]
fn gaps_between_regions_are_not_accessible() {
    let edges = [
        layout::CONTEXT - 1,
        layout::CONTEXT + layout::CONTEXT_LEN,
        layout::STACK - 1,
        layout::STACK_TOP,
        layout::PACKET - 1,
        layout::PACKET + layout::PACKET_LEN,
        layout::READ_ONLY,
        layout::SHARED - 1,
        layout::SHARED + layout::SHARED_MAX - 1,
        layout::PER_SHARD - 1,
        layout::PER_SHARD + layout::PER_SHARD_MAX - 1,
    ];
    assert_all_fault(|| {
        let code = |edge: u32, access| {
            let mut code = Vec::from(lddw(1, edge.into()));
            code.extend([access, exit()]);
            code
        };
        let all = edges.into_iter();
        all.flat_map(|edge| {
            [
                code(edge, load(size::B, 0, 1, 0)),
                code(edge, store_k(size::B, 1, 0, 1)),
            ]
        })
        .collect()
    });
}

#[test]
fn what_cannot_run_to_an_end_is_refused() {
    for (what, instructions) in [
        ("nothing", vec![]),
        ("falls off", vec![mov_k(0, 0)]),
        (
            "falls off after a jump",
            vec![mov_k(0, 0), exit(), jump_k(W64, jump::JEQ, 0, 0, 0)],
        ),
        ("jumps behind the end", vec![ja(5), exit()]),
        ("jumps in front of the start", vec![ja(-5), exit()]),
        (
            "jumps into a wide instruction",
            code(&[&[ja(1)], &lddw(0, 0), &[exit()]]),
        ),
        ("half a wide instruction", vec![lddw(0, 0)[0]]),
        ("register 11", vec![mov_k(11, 0), exit()]),
        ("writes r10", vec![mov_k(10, 0), exit()]),
        ("no such helper", vec![helper(9999), exit()]),
        ("no such map", code(&[&load_map(1, 7), &[exit()]])),
        ("an unknown opcode", vec![raw(0xff, 0, 0, 0, 0), exit()]),
        ("calls into nothing", vec![call(77), exit()]),
    ] {
        for interpreter in [true, false] {
            let mut world = World::new(interpreter);
            let bad = object(vec![program("bad", instructions.clone())], Vec::new());
            let result = world.engine.load(&bad, &LoadOptions::default());
            assert!(result.is_err(), "{what}");
            world.assert_intact();
        }
    }
}

#[test]
fn endless_programs_run_out_of_fuel() {
    let is_fuel = |kind: &FaultKind| *kind == FaultKind::Fuel;
    assert_stopped("a loop", vec![mov_k(0, 0), add_k(0, 1), ja(-2)], &[], is_fuel);
    let endless = vec![mov_k(0, 0), jump_k(W64, jump::JNE, 0, 1, -1), exit()];
    assert_stopped("a loop of one", endless, &[], is_fuel);
    // The function calls nothing endlessly.
    let calls = with_functions("bad", vec![call(1), ja(-2), mov_k(0, 0), exit()], &[0, 2, 4]);
    each(&[calls], &[], |engine, result| {
        assert!(
            result.is_err_and(|fault| fault.kind == FaultKind::Fuel),
            "{engine}"
        );
    });
}

#[test]
fn recursion_is_refused() {
    let calls = with_functions("bad", vec![call(1), exit(), call(-1), exit()], &[0, 2, 4]);
    let body = |distance: i32| {
        code(&[
            &[mov_k(1, 2)],
            &load_function(2, distance),
            &[mov_k(3, 0), mov_k(4, 0), helper(181), mov_k(0, 0), exit()],
        ])
    };
    let call_backs = [body(6), body(-2)].concat();
    let call_backs = with_functions("bad", call_backs, &[0, 8, 16]);
    for recursive in [calls, call_backs] {
        for interpreter in [true, false] {
            let mut world = World::new(interpreter);
            let bad = object(vec![recursive.clone()], Vec::new());
            let error = world.engine.load(&bad, &LoadOptions::default()).unwrap_err();
            assert!(error.to_string().contains("too deep"), "{error}");
        }
    }
}

#[test]
fn recursion_through_made_up_call_backs_is_stopped() {
    // bpf_loop(2, f), where f does the same with a handle that nobody gave it.
    let body = |load: [Instruction; 2]| {
        code(&[
            &[mov_k(1, 2)],
            &load,
            &[mov_k(3, 0), mov_k(4, 0), helper(181), mov_k(0, 0), exit()],
        ])
    };
    let code = [body(load_function(2, 6)), body(lddw(2, 0x8001))].concat();
    each(
        &[with_functions("bad", code, &[0, 8, 16])],
        &[],
        |engine, result| {
            let fault = result.expect_err(engine);
            assert_eq!(fault.kind, FaultKind::CallDepth, "{engine}");
        },
    );
}

#[test]
fn call_backs_into_nothing_are_stopped() {
    for handle in [0, 1, 0x7fff, 0x8001, 0x8000_0000, u64::MAX, 0x10_8000] {
        let code = code(&[
            &[mov_k(1, 3)],
            &lddw(2, handle),
            &[mov_k(3, 0), mov_k(4, 0), helper(181), mov_k(0, 0), exit()],
        ]);
        assert_stopped("bpf_loop", code, &[], is_argument);
    }
    // A call back that faults.
    let body = code(&[
        &[mov_k(1, 3)],
        &load_function(2, 5),
        &[mov_k(3, 0), mov_k(4, 0), helper(181), exit()],
        &[mov_k(1, 0), load(size::W, 0, 1, 0), exit()],
    ]);
    let bad = with_functions("bad", body, &[0, 7, 10]);
    each(&[bad], &[], |engine, result| {
        let fault = result.expect_err(engine);
        assert_eq!(
            (fault.kind, fault.instruction),
            (FaultKind::Access { address: 0 }, 8),
            "{engine}"
        );
    });
}

#[test]
fn map_handles_are_no_addresses() {
    let maps = [array("runs", 1), hash("hash", 4)];
    for place in [0, 1] {
        let read = code(&[&load_map(1, place), &[load(size::DW, 0, 1, 0), exit()]]);
        assert_stopped("reads a handle", read, &maps, is_access);
        let write = code(&[&load_map(1, place), &[store_k(size::DW, 1, 16, 7), exit()]]);
        assert_stopped("writes a handle", write, &maps, is_access);
    }
    for helper_id in [1, 2, 3, 12, 87, 88, 89, 130, 131, 164] {
        for handle in [0, 3, 0x7fff, 0x8000, 0xffff, u64::MAX, u64::from(layout::STACK)] {
            let mut instructions = code(&[
                &[store_k(size::DW, 10, -8, 0), store_k(size::DW, 10, -16, 0)],
                &lddw(1, handle),
            ]);
            if helper_id == 12 {
                instructions.push(mov(2, 1));
            } else {
                instructions.extend([mov(2, 10), add_k(2, -8)]);
            }
            instructions.extend([mov(3, 10), add_k(3, -16), mov_k(4, 0), mov_k(5, 0)]);
            instructions.extend([helper(helper_id), mov_k(0, 5), exit()]);
            each(
                &[program("bad", instructions)],
                &maps,
                |engine, result| match result {
                    // A tail call that fails goes on, as any in the kernel.
                    Ok(5) if helper_id == 12 => (),
                    Err(fault) if is_argument(&fault.kind) => (),
                    other => panic!("helper {helper_id}, handle {handle:#x}, {engine}: {other:?}"),
                },
            );
        }
    }
}

#[test]
fn handles_of_other_domains_mean_nothing() {
    // The good program's maps have the first handles of its own domain, which are nobody's here.
    let code = code(&[&[
        store_k(size::DW, 10, -8, 7),
        mov_k(1, 2),
        mov(2, 10),
        add_k(2, -8),
        helper(3),
        exit(),
    ]]);
    assert_stopped("deletes from a map of somebody else", code, &[], is_argument);
}

#[test]
fn helpers_touch_nothing_outside_of_regions() {
    let edges = [
        (u64::from(layout::STACK_TOP) - 8, 16),
        (u64::from(layout::STACK) - 8, 16),
        (u64::from(layout::CONTEXT + layout::CONTEXT_LEN) - 1, 2),
        (u64::from(layout::PACKET + layout::PACKET_LEN) - 4, 8),
        (0, 8),
        (0xffff_fffc, 8),
        (u64::from(layout::STACK), 0x7fff_ffff),
        (u64::from(layout::STACK), 0xffff_ffff),
        (u64::MAX, 1),
        (u64::from(layout::READ_ONLY), 4),
    ];
    for (address, len) in edges {
        let load = code(&[
            &[mov_k(2, 0)],
            &lddw(3, address),
            &lddw(4, len),
            &[helper(26), mov_k(0, 0), exit()],
        ]);
        // A length that no frame has is an error of the frame, not of the program.
        each(&[program("bad", load)], &[], |engine, result| {
            let harmless = result.as_ref().is_ok() && len > 100;
            let stopped = result.as_ref().is_err_and(|fault| is_argument(&fault.kind));
            assert!(harmless || stopped, "{address:#x} {len:#x} {engine}: {result:?}");
        });
        let difference = code(&[
            &[mov_k(1, 0), mov_k(2, 0)],
            &lddw(3, address),
            &lddw(4, len & !3),
            &[mov_k(5, 0), helper(28), mov_k(0, 0), exit()],
        ]);
        if len >= 4 {
            assert_stopped("csum_diff", difference, &[], is_argument);
        }
    }
}

#[test]
fn constants_cannot_be_written() {
    let constants = MapDefinition {
        flags: 1 << 7,
        contents: Some(vec![7; 8]),
        ..array(".rodata", 1)
    };
    let maps = [constants];
    for access in [
        store_k(size::DW, 1, 0, 1),
        atomic(size::DW, atomics::ADD, 1, 0, 1),
    ] {
        let write = code(&[&load_value(1, 0, 0), &[access, exit()]]);
        assert_stopped("writes a constant", write, &maps, is_access);
    }
    let through_helper = code(&[
        &load_value(3, 0, 0),
        &[
            mov(6, 1),
            mov_k(2, 0),
            mov_k(4, 8),
            helper(26),
            mov_k(0, 0),
            exit(),
        ],
    ]);
    assert_stopped(
        "has a helper write a constant",
        through_helper,
        &maps,
        is_argument,
    );
    let read = code(&[&load_value(1, 0, 4), &[load(size::W, 0, 1, 0), exit()]]);
    each(&[program("reads", read)], &maps, |_, result| {
        assert_eq!(result, Ok(0x0707_0707))
    });
}

#[test]
fn rings_take_back_what_they_gave_only() {
    let maps = [ring("ring"), array("values", 1)];
    for id in [132, 133] {
        for address in [
            0,
            u64::from(layout::STACK),
            u64::from(layout::SHARED),
            u64::from(layout::SHARED) + 8,
            u64::MAX,
        ] {
            let foreign = code(&[&lddw(1, address), &[mov_k(2, 0), helper(id), mov_k(0, 0), exit()]]);
            assert_stopped("gives back what it never had", foreign, &maps, is_argument);
        }
        let reserve = code(&[
            &load_map(1, 0),
            &[
                mov_k(2, 16),
                mov_k(3, 0),
                helper(131),
                jump_k(W64, jump::JNE, 0, 0, 1),
                exit(),
            ],
        ]);
        let twice = code(&[
            &reserve,
            &[
                mov(6, 0),
                mov(1, 6),
                mov_k(2, 0),
                helper(132),
                mov(1, 6),
                mov_k(2, 0),
                helper(id),
                exit(),
            ],
        ]);
        assert_stopped("gives back twice", twice, &maps, is_argument);
        let inside = code(&[
            &reserve,
            &[mov(1, 0), add_k(1, 8), mov_k(2, 0), helper(id), exit()],
        ]);
        assert_stopped("gives back a part", inside, &maps, is_argument);
    }
}

#[test]
fn a_record_that_is_never_given_back_stops_nobody() {
    let reserve = code(&[
        &load_map(1, 0),
        &[
            mov_k(2, 1000),
            mov_k(3, 0),
            helper(131),
            jump_k(W64, jump::JEQ, 0, 0, 1),
            mov_k(0, 1),
            exit(),
        ],
    ]);
    for interpreter in [true, false] {
        let mut world = World::new(interpreter);
        let loaded = world.load(&object(
            vec![program("leaks", reserve.clone())],
            vec![ring("ring")],
        ));
        let map = world.engine.map(loaded.maps[0]).unwrap().map.clone();
        for _ in 0..100 {
            assert_eq!(run(&loaded.programs[0], 0), Ok(1));
            map.events(&mut |_| ());
        }
        world.assert_intact();
    }
}

#[test]
fn pointers_into_a_frame_that_moved_reach_the_packet_room_only() {
    // r6 points to the frame's last octet; then the frame is changed, and the old pointer written through.
    for change in [
        vec![mov_k(2, -10), mov_k(3, 0), mov_k(4, 0), helper(50)],
        vec![mov_k(2, 40), mov_k(3, 0), mov_k(4, 0), helper(50)],
        vec![mov_k(2, 20), mov_k(3, 0), helper(38)],
        vec![mov_k(2, 0), helper(39)],
        vec![mov_k(2, 100), mov_k(3, 0), helper(43)],
    ] {
        let stale = code(&[
            &[mov(7, 1), load(size::W, 6, 1, 80), add_k(6, -8)],
            &change,
            &[store_k(size::DW, 6, 0, -1), load(size::W, 0, 7, 0), exit()],
        ]);
        each(&[program("stale", stale)], &[], |engine, result| {
            assert!(result.is_ok(), "{engine}: {result:?}");
        });
    }
}

fn lock_maps() -> Vec<MapDefinition> {
    vec![MapDefinition {
        spin_lock_offset: Some(0),
        ..map("locked", 2, 4, 16, 1)
    }]
}

#[test]
fn locks_that_are_not_let_go_are_let_go() {
    let lock = |rest: &[Instruction]| code(&[&load_value(1, 0, 0), &[mov(6, 1), helper(93)], rest]);
    let maps = lock_maps();
    each(
        &[program("keeps", lock(&[mov_k(0, 1), exit()]))],
        &maps,
        |engine, result| {
            assert_eq!(result, Ok(1), "{engine}");
        },
    );
    let is_lock = |kind: &FaultKind| matches!(kind, FaultKind::SpinLock { .. });
    assert_stopped(
        "locks twice",
        lock(&[mov(1, 6), helper(93), exit()]),
        &maps,
        is_lock,
    );
    assert_stopped(
        "faults",
        lock(&[mov_k(1, 0), load(size::W, 0, 1, 0), exit()]),
        &maps,
        is_access,
    );
    // Somebody wrote "held" into it.
    let held = code(&[
        &load_value(1, 0, 0),
        &[store_k(size::W, 1, 0, 1), helper(93), mov_k(0, 1), exit()],
    ]);
    assert_stopped("waits for nobody", held, &maps, is_lock);
    let not_held = code(&[&load_value(1, 0, 0), &[helper(94), exit()]]);
    assert_stopped("lets go what it does not hold", not_held, &maps, is_argument);
    let odd = code(&[&load_value(1, 0, 1), &[helper(93), exit()]]);
    assert_stopped("an odd lock", odd, &maps, |kind| {
        matches!(kind, FaultKind::Misaligned { .. })
    });
}

#[test]
fn atomics_must_be_aligned() {
    for (size, at) in [(size::W, 1), (size::W, 2), (size::DW, 4), (size::DW, 7)] {
        for operation in atomics::ALL {
            let code = vec![
                store_k(size::DW, 10, -8, 0),
                store_k(size::DW, 10, -16, 0),
                mov_k(0, 0),
                mov_k(1, 1),
                atomic(size, operation, 10, -16 + at, 1),
                exit(),
            ];
            assert_stopped("an atomic", code, &[], |kind| {
                matches!(kind, FaultKind::Misaligned { .. })
            });
        }
    }
}

#[test]
fn divisions_never_trap() {
    use policy::alu;
    for (dividend, divisor) in [
        (1u64, 0u64),
        (u64::MAX, 0),
        (1 << 63, u64::MAX),
        (0x8000_0000, 0xffff_ffff),
    ] {
        for operation in [alu::DIV, alu::MOD] {
            for (width, signed) in [(W32, 0), (W32, 1), (W64, 0), (W64, 1)] {
                let code = code(&[
                    &lddw(1, dividend),
                    &lddw(2, divisor),
                    &[alu_x(width, operation, signed, 1, 2), mov_k(0, 1), exit()],
                ]);
                each(&[program("divides", code)], &[], |_, result| {
                    assert_eq!(result, Ok(1))
                });
            }
        }
    }
}

#[test]
fn tail_calls_end_after_33() {
    let mut table = prog_array("table", 1);
    table.values = vec![(0, "again".into())];
    let again = code(&[
        &[mov(6, 1)],
        &load_value(1, 1, 0),
        &[
            mov_k(2, 1),
            atomic(size::DW, atomics::ADD, 1, 0, 2),
            mov(7, 1),
            mov(1, 6),
        ],
        &load_map(2, 0),
        &[
            mov_k(3, 0),
            helper(12),
            load(size::W, 0, 7, 0),
            store_k(size::DW, 7, 0, 0),
            exit(),
        ],
    ]);
    each(
        &[program("again", again)],
        &[table, array("count", 1)],
        |engine, result| {
            assert_eq!(result, Ok(34), "{engine}");
        },
    );
}

#[test]
fn all_of_the_window_can_be_searched_and_nothing_is_found() {
    // What the host keeps lies outside: whatever page can be read is zero, or the program's own.
    let secret: u64 = 0x5ec2_e7c0_ffee_5ec2;
    let hidden = Box::new(secret);
    for interpreter in [true, false] {
        let mut world = World::new(interpreter);
        let map = array("values", 1);
        let read = code(&[
            &load_value(1, 0, 0),
            &[load(size::DW, 1, 1, 0), load(size::DW, 2, 1, 0)],
            &[mov(0, 2), exit()],
        ]);
        let loaded = world.load(&object(vec![program("reads", read)], vec![map]));
        let values = world.engine.map(loaded.maps[0]).unwrap().map.clone();
        let mut readable = 0;
        // Each page near the start of a region, and every 16 MiB.
        let starts = [
            0,
            layout::CONTEXT,
            layout::STACK,
            layout::PACKET,
            layout::READ_ONLY,
            layout::SHARED,
            layout::PER_SHARD,
        ];
        let near = starts
            .into_iter()
            .flat_map(|start| (0..32).map(move |page| u64::from(start) + page * 4096));
        let far = (0..256).map(|step| step << 24);
        for address in near.chain(far) {
            values.set(&[0; 4], &address.to_ne_bytes(), 0).unwrap();
            match run(&loaded.programs[0], 0) {
                Ok(found) => {
                    readable += 1;
                    assert_ne!(found, secret as u32, "{address:#x}");
                }
                Err(fault) => assert!(is_access(&fault.kind), "{fault}"),
            }
        }
        assert!((3..150).contains(&readable), "{readable}");
        world.assert_intact();
    }
    assert_eq!(*hidden, secret);
}

#[test]
fn two_threads_and_the_control_plane_race_over_the_same_maps() {
    let mut table = prog_array("table", 2);
    table.values = vec![(0, "leaf".into())];
    let inner = array("inner", 1);
    let mut outer = map("outer", 12, 4, 4, 1);
    outer.inner = Some(Box::new(inner.clone()));
    outer.values = vec![(0, "inner".into())];
    // Looks the inner map up, writes over its value and over that of a hash, then tail calls.
    let racer = code(&[
        &[mov(6, 1), store_k(size::DW, 10, -8, 0)],
        &load_map(1, 1),
        &[
            mov(2, 10),
            add_k(2, -8),
            helper(1),
            jump_k(W64, jump::JEQ, 0, 0, 6),
        ],
        &[
            mov(1, 0),
            mov(2, 10),
            add_k(2, -8),
            helper(1),
            jump_k(W64, jump::JEQ, 0, 0, 1),
            store_k(size::DW, 0, 0, -1),
        ],
        &[
            helper(7),
            alu_k(W64, policy::alu::AND, 0, 0, 7),
            store(size::W, 10, -4, 0),
        ],
        &load_map(1, 4),
        &[
            mov(2, 10),
            add_k(2, -4),
            mov(3, 10),
            add_k(3, -8),
            mov_k(4, 0),
            helper(2),
        ],
        &load_map(1, 4),
        &[
            mov(2, 10),
            add_k(2, -4),
            helper(1),
            jump_k(W64, jump::JEQ, 0, 0, 2),
        ],
        // The key lies in front of the value: it is written over, too.
        &[store_k(size::DW, 0, 0, 5), store_k(size::W, 0, -8, 77)],
        &load_map(1, 4),
        &[mov(2, 10), add_k(2, -4), helper(3), mov(1, 6)],
        &load_map(2, 0),
        &[mov_k(3, 0), helper(12), mov_k(0, 3), exit()],
    ]);
    let leaf = program("leaf", vec![mov_k(0, 4), exit()]);
    let other_leaf = program("other_leaf", vec![mov_k(0, 5), exit()]);
    let maps = vec![table, outer, inner.clone(), array("second", 1), hash("hash", 4)];
    for interpreter in [true, false] {
        let mut world = World::new(interpreter);
        let racer = program("racer", racer.clone());
        let loaded = world.load(&object(
            vec![racer, leaf.clone(), other_leaf.clone()],
            maps.clone(),
        ));
        let [table, outer, inner, second, hash] =
            [0, 1, 2, 3, 4].map(|place: usize| world.engine.map(loaded.maps[place]).unwrap().clone());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for shard in 0..2 {
                let (program, stop) = (&loaded.programs[0], &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match run(program, shard) {
                            Ok(3..=5) => (),
                            Err(fault) if is_access(&fault.kind) => (),
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
            for round in 0..300u32 {
                let leaf: Option<&Arc<Program>> = match round % 3 {
                    0 => None,
                    which => Some(&loaded.programs[which as usize]),
                };
                let _ = world.engine.set_program(&table, 0, leaf);
                let map = [&inner, &second][round as usize % 2];
                world.engine.set_inner(&outer, &[0; 4], Some(map), 0).unwrap();
                if round % 5 == 0 {
                    let _ = world.engine.set_inner(&outer, &[0; 4], None, 0);
                }
                let _ = hash.map.set(&(round % 8).to_ne_bytes(), &[1; 8], 0);
                let _ = hash.map.remove(&(round % 7).to_ne_bytes());
                let mut count = 0;
                let _ = hash.map.dump(&mut |_, _| {
                    count += 1;
                    std::ops::ControlFlow::Continue(())
                });
                assert!(count <= 4);
            }
            stop.store(true, Ordering::Relaxed);
        });
        world.assert_intact();
        world.forget(&loaded);
        world.assert_intact();
    }
}

/// Random instructions: mostly such as there are, with registers that there are.
fn noise(random: &mut Random) -> Vec<Instruction> {
    let len = 1 + random.below(24) as usize;
    let mut code: Vec<Instruction> = (0..len)
        .map(|_| {
            let mut octets = random.next().to_ne_bytes();
            if random.below(4) != 0 {
                octets[1] = random.below(11) as u8 | (random.below(11) as u8) << 4;
                octets[2..4].copy_from_slice(&(random.below(16) as i16 - 6).to_ne_bytes());
                let any = random.number() as i32;
                let imm = random.pick(&[0, 1, 8, 12, 26, 28, 131, 181, any]);
                octets[4..].copy_from_slice(&imm.to_ne_bytes());
            }
            if random.below(3) == 0 {
                octets[0] = random.pick(&[
                    0xbf, 0xb7, 0x07, 0x0f, 0x61, 0x79, 0x7b, 0x63, 0x7a, 0x85, 0x15, 0x55, 0xdb, 0x05, 0x18,
                ]);
            }
            Instruction::from_octets(octets)
        })
        .collect();
    code.extend([mov_k(0, 0), exit()]);
    code
}

#[test]
fn noise_does_the_same_in_both_engines_or_is_refused_by_both() {
    let maps = vec![
        array("values", 2),
        hash("hash", 4),
        ring("ring"),
        prog_array("table", 1),
    ];
    let mut worlds = [World::new(true), World::new(false)];
    let mut ran = 0;
    for seed in 0..40_000 {
        let mut random = Random(seed);
        let instructions = match random.below(4) {
            0 => generate::program(&mut random, 6, generate::STRAIGHT).instructions,
            _ => noise(&mut random),
        };
        let mut instructions = instructions;
        // Of what would be right, some becomes wrong.
        for _ in 0..random.below(4) {
            let index = random.below(instructions.len() as u64) as usize;
            let mut octets = instructions[index].to_octets();
            octets[random.below(8) as usize] ^= 1 << random.below(8);
            instructions[index] = Instruction::from_octets(octets);
        }
        // What differs from run to run: random numbers, times, and the like.
        let differs =
            |it: &Instruction| it.opcode == opcode::CALL && matches!(it.imm, 5 | 7 | 118 | 125 | 160 | 208);
        if instructions.iter().any(differs) {
            continue;
        }
        let object = object(vec![program("noise", instructions.clone())], maps.clone());
        let results = [0, 1].map(|index: usize| {
            let world = &mut worlds[index];
            let loaded = world.engine.load(&object, &LoadOptions::default()).ok()?;
            let result = run(&loaded.programs[0], 0).map_err(|fault| (fault.kind, fault.instruction));
            world.forget(&loaded);
            Some(result)
        });
        let [interpreted, compiled] = results;
        // Which instruction the fuel ends at is told by the payments, which are the same in both.
        assert_eq!(interpreted, compiled, "seed {seed}: {instructions:#?}");
        ran += u32::from(interpreted.is_some());
        if seed % 500 == 0 {
            worlds.iter_mut().for_each(World::assert_intact);
        }
    }
    assert!(ran > 2000, "{ran}");
}

#[test]
fn mutated_objects_never_harm() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut objects = 0;
    for (index, name) in [
        "allow_list",
        "anti_spoof",
        "firewall",
        "mirror",
        "rate_limit",
        "snat",
    ]
    .into_iter()
    .enumerate()
    {
        let octets = std::fs::read(directory.join(format!("{name}.o"))).unwrap();
        let mut worlds = [World::new(true), World::new(false)];
        for seed in 0..400 {
            let mut random = Random(seed ^ (index as u64) << 32);
            let mut octets = octets.clone();
            for _ in 0..1 + random.below(6) {
                let at = random.below(octets.len() as u64) as usize;
                octets[at] = match random.below(3) {
                    0 => octets[at] ^ 1 << random.below(8),
                    1 => random.next() as u8,
                    _ => random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                };
            }
            let Ok(object) = Object::parse(&octets) else {
                continue;
            };
            for world in &mut worlds {
                if let Ok(loaded) = world.engine.load(&object, &LoadOptions::default()) {
                    objects += 1;
                    for program in &loaded.programs {
                        let _ = run(program, 0);
                    }
                    world.forget(&loaded);
                }
            }
        }
        worlds.iter_mut().for_each(World::assert_intact);
    }
    match objects {
        0 => not_run("mutated_objects_never_harm", "no mutated object could be loaded"),
        _ => assert!(objects > 100, "{objects}"),
    }
}
