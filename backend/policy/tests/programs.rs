//! Programs in C, from source to verdict: the compiler, the interpreter and the host's kernel run them alike.

mod common;

use common::compile::compile;
use common::frames::*;
use common::sides::{Ours, Player, Story, play};
use policy::context::SkBuff;
use policy::test_run::TestError;
use policy::{Fault, FaultKind};

/// Compiles a program and has a scenario played by all. None, said aloud, where there is no compiler.
fn tell(test: &str, name: &str, scenario: impl Fn(&mut Player<'_>)) -> Option<Story> {
    let object = compile(test, &format!("programs/{name}.c"))?;
    Some(play(test, &object, scenario))
}

fn plain(len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 14).map(|index| (index * 7 + 3) as u8).collect();
    ethernet(GUEST_MAC, HOST_MAC, 0x88b5, &payload)
}

fn ends() -> Ends<'static> {
    Ends::new(&GUEST, 5000, &REMOTE, 53)
}

fn ends6() -> Ends<'static> {
    Ends::new(&GUEST6, 5000, &REMOTE6, 53)
}

/// One of each sort.
fn all_frames() -> Vec<Vec<u8>> {
    vec![
        udp_frame(ends(), b"some payload"),
        udp_frame(ends6(), b"some payload"),
        tcp_frame(ends(), SYN),
        tcp_frame(ends6(), ACK),
        frame_of(ends(), ICMP, &icmp(8, 77)),
        arp(GUEST_MAC, GUEST, REMOTE),
        plain(64),
        plain(1514),
    ]
}

fn errno(number: i32) -> u64 {
    i64::from(-number) as u64
}

#[test]
fn maps_hold_what_programs_put_into_them() {
    let story = tell("maps_hold_what_programs_put_into_them", "maps", |player| {
        for len in [60, 61, 62, 63, 60, 99, 1514] {
            player.run("count_frames", &plain(len));
        }
    });
    let Some(story) = story else { return };
    for map in ["hash", "percpu_hash", "lru", "percpu_lru"] {
        assert_eq!(story.value(map, 4, 0), 2, "{map}");
        assert_eq!(story.value(map, 4, 1), 120, "{map}");
        assert_eq!(story.contents[map].len(), 6 - usize::from(map == "none"), "{map}");
    }
}

#[test]
fn map_operations_answer_as_the_kernels_do() {
    let story = tell("map_operations_answer_as_the_kernels_do", "maps", |player| {
        player.run("results", &plain(64));
        player.run("overfill", &plain(64));
    });
    let Some(story) = story else { return };
    // The hash has room for 8.
    let results: Vec<u64> = (0..10).map(|index| story.word(".bss", index)).collect();
    assert_eq!(results[..8], [0; 8]);
    assert_eq!(results[8..], [errno(libc::E2BIG); 2]);
}

#[test]
fn the_longest_prefix_is_found() {
    let story = tell("the_longest_prefix_is_found", "maps", |player| {
        player.run("longest_prefixes", &plain(64));
    });
    let Some(story) = story else { return };
    let found: Vec<i64> = (0..18).map(|index| story.word(".bss", index) as i64).collect();
    assert_eq!(found[4..11], [-22, 32, 24, 16, 8, -1, 24]);
    assert_eq!(found[11..18], [0, -2, 16, 0, 100, 0, 108]);
}

#[test]
fn queues_stacks_and_bloom_filters_work() {
    tell("queues_stacks_and_bloom_filters_work", "maps", |player| {
        player.run("queues", &plain(64));
    });
}

#[test]
fn global_data_is_what_the_source_says() {
    let story = tell("global_data_is_what_the_source_says", "data", |player| {
        for len in [60, 70, 99, 100, 101] {
            player.run("data", &plain(len));
        }
    });
    let Some(story) = story else { return };
    assert_eq!(story.word(".bss", 0), 42 + 43 + 44 + 45 + 46);
    assert_eq!(story.word(".bss", 2), 3);
}

#[test]
fn functions_call_each_other() {
    tell("functions_call_each_other", "calls", |player| {
        for frame in all_frames() {
            player.run("calls", &frame);
            player.run("in_the_frame", &frame);
        }
    });
}

#[test]
fn tail_calls_go_through_tables() {
    let test = "tail_calls_go_through_tables";
    let story = tell(test, "tail_calls", |player| {
        assert_eq!(player.run("chain", &plain(64)).result, 134);
        let ran = player.run("start", &plain(64));
        assert_eq!((ran.result, ran.context.mark, ran.frame[20]), (11, 42, 0xaa));
        assert_eq!(player.run("to_none", &plain(64)).result, 13);
        // Nothing is in the other table yet.
        assert_eq!(player.run("to_any", &plain(64)).result, 14);
        player.set_program("changing", 0, "mark");
        player.set_program("changing", 1, "again");
        player.set_program("changing", 2, "end");
        player.set_program("changing", 3, "end_via_function");
        for len in 64..68 {
            player.run("to_any", &plain(len));
        }
        for mark in 0..5 {
            let context = SkBuff {
                mark,
                ..SkBuff::default()
            };
            player.run_with("again", &plain(64), &context);
        }
        player.run("from_function", &plain(64));
        player.set_program("changing", 2, "again");
        player.run("from_function", &plain(64));
    });
    let Some(story) = story else { return };
    // Once itself, and 33 times called.
    assert_eq!(story.word(".bss", 0), 34);
}

#[test]
fn a_tail_call_may_lead_from_one_engine_into_the_other() {
    let test = "a_tail_call_may_lead_from_one_engine_into_the_other";
    let Some(octets) = compile(test, "programs/tail_calls.c") else {
        return;
    };
    // Code that the compiler refuses is interpreted; here every other program is.
    for interpreted in [["start", "mark"], ["write", "write"], ["chain", "again"]] {
        let mut ours = Ours::new(&octets, false);
        let programs = std::mem::take(&mut ours.loaded.programs);
        ours.loaded.programs = programs
            .into_iter()
            .map(|program| match interpreted.contains(&program.name.as_str()) {
                false => program,
                true => interpret(&program),
            })
            .collect();
        for index in 0..4 {
            let name = ["chain", "mark", "mark", "write"][index as usize];
            let program = ours.loaded.programs.iter().find(|program| program.name == name);
            if index != 2 {
                ours.engine
                    .set_program(ours.map("fixed"), index, program)
                    .unwrap();
            }
        }
        let run = |name: &str| unchecked_run(&ours, name);
        assert_eq!(run("start"), 11);
        assert_eq!(run("chain"), 134);
        assert_eq!(run("to_none"), 13);
    }
}

/// A program as it is where there is no compiler for the machine.
fn interpret(program: &std::sync::Arc<policy::Program>) -> std::sync::Arc<policy::Program> {
    let statistics = policy::Statistics::new(2);
    let quarantine = policy::Quarantine::new(policy::QuarantineRule::default());
    std::sync::Arc::new(policy::Program {
        id: program.id,
        name: program.name.clone(),
        function: program.function.clone(),
        section: program.section.clone(),
        origin: program.origin.clone(),
        license: program.license.clone(),
        tag: program.tag,
        loaded_at: program.loaded_at,
        code: program.code.clone(),
        compiled: None,
        maps: program.maps.clone(),
        object_maps: program.object_maps.clone(),
        domain: program.domain.clone(),
        fuel: program.fuel,
        statistics,
        quarantine,
    })
}

fn unchecked_run(ours: &Ours, name: &str) -> u32 {
    let run = policy::test_run::TestRun {
        data: plain(64),
        ..Default::default()
    };
    // SAFETY: nobody else uses this engine.
    let result = unsafe { ours.program(name).test_run(0, &run) };
    result.unwrap_or_else(|error| panic!("{name}: {error}")).retval
}

#[test]
fn maps_may_be_in_maps() {
    let story = tell("maps_may_be_in_maps", "nested", |player| {
        let lens = [64, 65, 66, 67, 68, 69];
        lens.iter()
            .for_each(|len| drop(player.run("count", &plain(*len))));
        player.set_inner("hashes", &0u32.to_ne_bytes(), "counters");
        player.set_inner("hashes", &1u32.to_ne_bytes(), "more_counters");
        lens.iter()
            .for_each(|len| drop(player.run("count", &plain(*len))));
        player.set_inner("arrays", &1u32.to_ne_bytes(), "first");
        player.set_inner("hashes", &1u32.to_ne_bytes(), "counters");
        lens.iter()
            .for_each(|len| drop(player.run("count", &plain(*len))));
    });
    let Some(story) = story else { return };
    assert_eq!(story.value("second", 0, 0), 3 * 66);
}

#[test]
fn helpers_call_functions_of_the_program() {
    let story = tell("helpers_call_functions_of_the_program", "callbacks", |player| {
        for key in 0..5u32 {
            player.set("array", &key.to_ne_bytes(), &u64::from(key * 11).to_ne_bytes());
        }
        for program in ["loops", "broken_loops", "elements", "some_elements"] {
            player.run(program, &plain(64));
        }
    });
    let Some(story) = story else { return };
    let found: Vec<i64> = (0..19).map(|index| story.word(".bss", index) as i64).collect();
    assert_eq!(found[..7], [10, 45, 0, 3, 3, -7, -22]);
    assert_eq!((found[10], found[12], found[14], found[15]), (5, 5, -22, 2));
}

#[test]
fn ring_buffers_carry_records() {
    let test = "ring_buffers_carry_records";
    let story = tell(test, "ring", |player| {
        player.run("tell", &plain(64));
        player.run("tell", &plain(100));
        player.run("fill", &plain(100));
    });
    let Some(_) = story else { return };
    let octets = compile(test, "programs/ring.c").unwrap();
    for interpreter in [true, false] {
        let ours = Ours::new(&octets, interpreter);
        ours.run("tell", &plain(64), &SkBuff::default()).unwrap();
        let mut records = Vec::new();
        ours.map("ring").map.events(&mut |event| records.push(event.data));
        // One was discarded, one could not be written because of its flags.
        let mut first = 64u32.to_ne_bytes().to_vec();
        first.extend(&plain(64)[..12]);
        let mut second = 7u32.to_ne_bytes().to_vec();
        second.extend([0; 12]);
        assert_eq!(records, [first, second]);
    }
}

#[test]
fn locks_atomics_and_divisions_do_what_they_do_in_the_kernel() {
    let test = "locks_atomics_and_divisions_do_what_they_do_in_the_kernel";
    tell(test, "locks", |player| {
        player.run("lock", &plain(64));
        player.run("lock", &plain(99));
        player.run("atomics", &plain(64));
        player.run("atomics", &plain(77));
        let numbers = [
            0,
            1,
            3,
            u64::MAX,
            1 << 63,
            0xffff_ffff,
            0x1_0000_0000,
            0x1234_5678_9abc_def0,
        ];
        for first in 0..numbers.len() {
            let operands = (0..4).map(|index| numbers[(first + index * 3) % numbers.len()]);
            let payload: Vec<u8> = operands.flat_map(u64::to_ne_bytes).collect();
            player.run("division", &ethernet(GUEST_MAC, HOST_MAC, 0x88b5, &payload));
        }
    });
}

#[test]
fn address_translation_keeps_checksums_right() {
    tell("address_translation_keeps_checksums_right", "nat", |player| {
        for (program, frame) in [
            ("replace", udp_frame(ends(), b"question")),
            ("replace", tcp_frame(ends(), SYN)),
            ("differences", udp_frame(ends(), b"odd")),
        ] {
            assert!(has_right_checksums(&frame));
            let ran = player.run(program, &frame);
            assert_eq!(ran.result, 0, "{program}");
            assert_eq!(ran.frame[26..30], [203, 0, 113, 7], "{program}");
            assert!(has_right_checksums(&ran.frame), "{program}");
        }
        let mut without = udp_frame(ends(), b"question");
        without[40..42].copy_from_slice(&[0, 0]);
        let ran = player.run("replace", &without);
        assert_eq!(ran.frame[40..42], [0, 0]);
        for frame in all_frames() {
            player.run("replace", &frame);
            player.run("sums", &frame);
        }
    });
}

#[test]
fn frames_are_read_written_and_resized() {
    tell("frames_are_read_written_and_resized", "bytes", |player| {
        for frame in all_frames().into_iter().chain([plain(57), plain(300)]) {
            for program in ["copies", "lengths", "again"] {
                player.run(program, &frame);
            }
        }
    });
}

#[test]
fn frames_are_put_into_tunnels_and_taken_out_again() {
    tell(
        "frames_are_put_into_tunnels_and_taken_out_again",
        "tunnel",
        |player| {
            for frame in all_frames() {
                let packet = player.run("encapsulate_ipip", &frame);
                if frame[12..14] == [8, 0] {
                    assert_eq!(packet.result, 0);
                    assert_eq!(packet.frame.len(), frame.len() + 20);
                    let out = player.run("decapsulate_ipip", &packet.frame);
                    assert_eq!(out.frame, frame);
                }
                player.run("encapsulate_gre", &frame);
                player.run("encapsulate_vxlan", &frame);
                player.run("options", &frame);
            }
        },
    );
}

#[test]
fn packets_are_translated_between_the_protocols() {
    tell(
        "packets_are_translated_between_the_protocols",
        "translate",
        |player| {
            for frame in all_frames() {
                let translated = player.run("to_ipv6", &frame);
                if frame[12..14] == [8, 0] {
                    assert_eq!(translated.result, 0);
                    let back = player.run("to_ipv4", &translated.frame);
                    assert_eq!(back.frame[34..], frame[34..]);
                }
                player.run("to_ipv4", &frame);
                player.run("refused", &frame);
            }
        },
    );
}

#[test]
fn vlan_tags_are_pushed_and_popped() {
    tell("vlan_tags_are_pushed_and_popped", "vlan", |player| {
        for mut frame in all_frames() {
            for program in ["push", "pop", "both"] {
                player.run(program, &frame);
            }
            frame.splice(12..12, [0x81, 0, 0, 5]);
            for program in ["push", "pop", "both"] {
                player.run(program, &frame);
            }
            frame.splice(12..12, [0x88, 0xa8, 0, 6]);
            for program in ["push", "pop", "both"] {
                player.run(program, &frame);
            }
        }
    });
}

#[test]
fn every_field_of_the_context_is_what_it_is_in_the_kernel() {
    let test = "every_field_of_the_context_is_what_it_is_in_the_kernel";
    tell(test, "context", |player| {
        let contexts = [
            SkBuff::default(),
            SkBuff {
                mark: 0x8765_4321,
                priority: 7,
                ifindex: 1,
                cb: [1, 2, 0xffff_ffff, 0x8000_0000, 5],
                tstamp: 99,
                gso_segs: 3,
                gso_size: 1000,
                ..SkBuff::default()
            },
        ];
        for context in contexts {
            for mut frame in all_frames() {
                for program in ["read", "read_parts", "write", "hashes"] {
                    player.run_with(program, &frame, &context);
                }
                if context.gso_size == 0 {
                    player.run_with("read_wire_len", &frame, &context);
                }
                frame[..6].copy_from_slice(&[0xff; 6]);
                player.run_with("read", &frame, &context);
                frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
                player.run_with("read", &frame, &context);
                frame[..6].copy_from_slice(&[0; 6]);
                player.run_with("read", &frame, &context);
            }
        }
    });
}

#[test]
fn loops_walk_through_headers_and_options() {
    let story = tell("loops_walk_through_headers_and_options", "headers", |player| {
        let mut frames = all_frames();
        let mut tagged = udp_frame(ends(), b"x");
        tagged.splice(12..12, [0x88, 0xa8, 0x20, 5, 0x81, 0, 0, 7]);
        frames.push(tagged);
        let options = [1, 7, 3, 0, 148, 4, 0, 0];
        let with_options = ipv4_options(GUEST, REMOTE, UDP, 0, &options, &udp(ends(), b"x"));
        frames.push(ethernet(GUEST_MAC, HOST_MAC, 0x0800, &with_options));
        let mut extended = vec![60, 0, 0, 0, 0, 0, 0, 0, TCP, 1];
        extended.extend([0; 14]);
        let mut segment = tcp(ends6(), SYN, &[2, 4, 5, 0xb4, 1, 3, 3, 7, b'd', b'a']);
        segment[12] = 0x70;
        extended.extend(segment);
        let extended = ipv6(GUEST6, REMOTE6, 0, &extended);
        frames.push(ethernet(GUEST_MAC, HOST_MAC, 0x86dd, &extended));
        for frame in &frames {
            player.run("headers", frame);
            // The kernel has no test runs on frames without a whole IP header.
            for len in [54, 56, 60] {
                player.run("headers", &frame[..len.min(frame.len())]);
            }
        }
    });
    let Some(story) = story else { return };
    assert!(
        story.contents["flows"].len() >= 5,
        "{:?}",
        story.contents["flows"]
    );
    assert!(story.word(".bss", 3) >= 2);
}

#[test]
fn large_programs_are_compiled_and_run() {
    tell("large_programs_are_compiled_and_run", "large", |player| {
        for frame in all_frames()
            .into_iter()
            .chain([plain(127), plain(128), plain(999)])
        {
            player.run("large", &frame);
        }
    });
}

#[test]
fn verdicts_and_lookups_return_what_the_kernels_do() {
    tell(
        "verdicts_and_lookups_return_what_the_kernels_do",
        "redirect",
        |player| {
            for frame in [udp_frame(ends(), b"x"), plain(64)] {
                assert_eq!(player.run("redirects", &frame).result, 7);
                player.run("routes", &frame);
                player.run("sizes", &frame);
            }
        },
    );
}

#[test]
fn text_is_made_and_compared() {
    tell("text_is_made_and_compared", "text", |player| {
        player.run("text", &plain(64));
        player.run("text", &plain(1000));
    });
}

#[test]
fn faults_name_the_line_of_the_source() {
    let test = "faults_name_the_line_of_the_source";
    let Some(octets) = compile(test, "programs/lines.c") else {
        return;
    };
    for interpreter in [true, false] {
        let ours = Ours::new(&octets, interpreter);
        let fault_of = |program: &str| -> Fault {
            match ours.run(program, &plain(64), &SkBuff::default()) {
                Err(TestError::Fault(fault)) => fault,
                other => panic!("{program}: {other:?}"),
            }
        };
        for (program, text, kind) in [
            ("null", "here", Some(FaultKind::Access { address: 0 })),
            ("in_function", "deep", None),
            ("endless", "round", Some(FaultKind::Fuel)),
            ("write_constant", "constant", None),
        ] {
            let fault = fault_of(program);
            let line = fault.line.clone().unwrap_or_else(|| panic!("{program}: {fault}"));
            assert!(line.contains("lines.c:"), "{line}");
            assert!(
                line.contains(&format!("/* {text} */")) || program == "endless",
                "{line}"
            );
            assert_eq!(fault.name, program);
            assert!(kind.is_none_or(|kind| kind == fault.kind), "{fault}");
            assert!(fault.to_string().contains(&line));
        }
    }
}
