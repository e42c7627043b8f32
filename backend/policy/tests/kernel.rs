//! Random programs do in our engines what they do in the host's kernel.

mod common;

use common::generate::{self, Random};
use common::kernel::{self, Loaded};
use common::{engines, functions, not_run};
use policy::context::SkBuff;
use policy::packet::Metadata;

/// How many programs are tried; `CASES` asks for more, and `FIRST` to start with another seed.
const CASES: u64 = 2_000;

#[test]
fn random_programs_do_what_they_do_in_the_kernel() {
    if let Some(why) = kernel::unavailable() {
        return not_run("random_programs_do_what_they_do_in_the_kernel", &why);
    }
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok());
    let first = std::env::var("FIRST").ok().and_then(|first| first.parse().ok());
    let first = first.unwrap_or(0);
    for seed in first..first + cases.unwrap_or(CASES) {
        compare(seed);
    }
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
