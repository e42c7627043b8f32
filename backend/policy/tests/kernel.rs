//! Random programs do in our engines what they do in the host's kernel.

mod common;

use common::generate::{self, Random};
use common::helper_units;
use common::kernel::{self, Loaded};
use common::sides::Ours;
use common::{engines, functions, host, not_run};
use policy::context::SkBuff;
use policy::engine::LoadOptions;
use policy::object::{Object, ObjectProgram};
use policy::packet::Metadata;
use policy::{Instruction, pseudo};

/// How many programs are tried; `CASES` asks for more, and `FIRST` to start with another seed.
const CASES: u64 = 2_000;

#[test]
fn random_programs_do_what_they_do_in_the_kernel() {
    if let Some(why) = kernel::unavailable() {
        return not_run("random_programs_do_what_they_do_in_the_kernel", &why);
    }
    seeds().for_each(compare);
}

fn seeds() -> std::ops::Range<u64> {
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok());
    let first = std::env::var("FIRST").ok().and_then(|first| first.parse().ok());
    let first = first.unwrap_or(0);
    first..first + cases.unwrap_or(CASES)
}

fn compare(seed: u64) {
    let mut random = Random(seed);
    let len = 1 + random.below(40) as usize;
    let generated = generate::program(&mut random, len, generate::INSTRUCTIONS);
    let frame = generate::frame(&mut random);
    let context = SkBuff {
        mark: random.next() as u32,
        priority: random.next() as u32,
        cb: std::array::from_fn(|_| random.next() as u32),
        tstamp: random.next() >> 1,
        ..SkBuff::default()
    };
    let loaded = Loaded::new(&generated.instructions).unwrap_or_else(|refused| {
        panic!(
            "seed {seed}: the kernel takes the program: {}\n{}",
            refused.error, refused.log
        )
    });
    let expected = loaded.run(&frame, &context).unwrap();
    for engine in engines() {
        let program = common::program(engine, &generated.instructions, &functions(&generated.starts));
        let mut octets = frame.clone();
        let mut metadata = Metadata {
            mark: context.mark,
            priority: context.priority,
            cb: context.cb,
            tstamp: context.tstamp,
            // The loopback device, which test runs run on.
            ifindex: 1,
            protocol: u16::from_be_bytes([frame[12], frame[13]]),
            ..Metadata::default()
        };
        let result = common::run(&program, &mut octets, &mut metadata);
        let at = || format!("seed {seed}, {}\n{}", engine.name, common::listing(&program));
        assert_eq!(result, Ok(expected.result), "{}", at());
        assert_eq!(octets, expected.octets, "{}", at());
        assert_eq!(metadata.mark, expected.context.mark, "{}", at());
        assert_eq!(metadata.priority, expected.context.priority, "{}", at());
        assert_eq!(metadata.cb, expected.context.cb, "{}", at());
        assert_eq!(metadata.tstamp, expected.context.tstamp, "{}", at());
    }
}

#[test]
fn random_programs_with_helpers_and_maps_do_what_they_do_in_the_kernel() {
    if let Some(why) = kernel::unavailable() {
        return not_run(
            "random_programs_with_helpers_and_maps_do_what_they_do_in_the_kernel",
            &why,
        );
    }
    let empty = Object {
        license: "GPL".into(),
        programs: Vec::new(),
        maps: Vec::new(),
        skipped: Vec::new(),
    };
    let mut ours = [true, false].map(|interpreter| Ours::of(empty.clone(), interpreter));
    seeds().for_each(|seed| compare_with_helpers(seed, &mut ours));
}

/// As [`compare`], and the maps are alike at the end, too.
fn compare_with_helpers(seed: u64, ours: &mut [Ours; 2]) {
    let mut random = Random(seed ^ 0x6865_6c70);
    let len = 1 + random.below(30) as usize;
    let generated = generate::program(&mut random, len, helper_units::HELPERS);
    let frame = helper_units::frame(&mut random);
    let context = SkBuff {
        mark: random.next() as u32,
        priority: random.next() as u32,
        cb: std::array::from_fn(|_| random.next() as u32),
        ..SkBuff::default()
    };
    let object = Object {
        license: "GPL".into(),
        programs: vec![ObjectProgram {
            name: "test".into(),
            section: "tc".into(),
            instructions: generated.instructions.clone(),
            functions: functions(&generated.starts),
            lines: Vec::new(),
        }],
        maps: helper_units::maps(),
        skipped: Vec::new(),
    };
    let files: Vec<_> = object.maps.iter().map(|map| host::create(map).unwrap()).collect();
    let loaded = Loaded::new(&with_maps(&generated.instructions, &files)).unwrap_or_else(|refused| {
        let log: Vec<&str> = refused.log.lines().collect();
        let end = log[log.len().saturating_sub(20)..].join("\n");
        panic!(
            "seed {seed}: the kernel takes the program: {}\n{end}",
            refused.error
        )
    });
    let expected = loaded.run(&frame, &context).unwrap();
    for ours in ours {
        ours.object = object.clone();
        ours.loaded = ours
            .engine
            .load(&object, &LoadOptions::default())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let program = &ours.loaded.programs[0];
        let at = || {
            let name = if program.compiled.is_some() {
                "compiler"
            } else {
                "interpreter"
            };
            format!("seed {seed}, {name}\n{}", common::listing(program))
        };
        let ran = ours
            .run("test", &frame, &context)
            .unwrap_or_else(|error| panic!("{error}: {}", at()));
        let fields = |mark, priority, cb: [u32; 5]| (mark, priority, cb);
        assert_eq!(ran.result, expected.result, "{}", at());
        assert_eq!(ran.frame, expected.octets, "{}", at());
        assert_eq!(
            fields(ran.context.mark, ran.context.priority, ran.context.cb),
            fields(
                expected.context.mark,
                expected.context.priority,
                expected.context.cb
            ),
            "{}",
            at()
        );
        for (map, file) in object.maps.iter().zip(&files) {
            let mut expected = host::entries(file, map.key_size as usize, map.value_size as usize).unwrap();
            let mut entries = ours.contents(&map.name);
            expected.sort();
            entries.sort();
            assert_eq!(entries, expected, "map {}, {}", map.name, at());
        }
        let id = program.id;
        ours.engine.unload(id);
        assert_eq!(ours.engine.maps().count(), 0);
    }
}

/// The instructions with the descriptors of maps in place of their numbers.
fn with_maps(instructions: &[Instruction], files: &[std::fs::File]) -> Vec<Instruction> {
    use std::os::fd::AsRawFd;
    let patch = |instruction: &Instruction| match instruction {
        it if it.is_wide() && it.src == pseudo::MAP => Instruction {
            imm: files[it.imm as usize].as_raw_fd(),
            ..*it
        },
        it => *it,
    };
    instructions.iter().map(patch).collect()
}
