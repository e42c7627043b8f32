//! Helpers that print, and those on text.

use std::sync::Arc;

use super::super::testing::{World, assert_refused, call, octets_at, on_stack};
use crate::Errno;
use crate::layout::STACK_TOP;
use crate::trace_log::{Line, trace_log};

const EINVAL: u64 = -22i64 as u64;

/// What was printed since, by whatever test.
fn lines_since(mut sequence: u64) -> Vec<Arc<Line>> {
    let mut lines = Vec::new();
    loop {
        let batch = trace_log().read_from(sequence);
        if batch.lines.is_empty() {
            return lines;
        }
        lines.extend(batch.lines);
        sequence = batch.next;
    }
}

#[test]
fn a_program_prints_into_the_trace_log() {
    let world = World::new(&[]);
    let start = trace_log().end();
    world.run(|machine| {
        let format = on_stack(machine, 0, b"port %d of %s\n\0");
        let name = on_stack(machine, 32, b"eth0\0");
        assert_eq!(call(machine, 6, [format, 16, 80, name, 0]), 16);
        let arguments: Vec<u8> = [443, name].into_iter().flat_map(u64::to_ne_bytes).collect();
        let data = on_stack(machine, 64, &arguments);
        assert_eq!(call(machine, 177, [format, 16, data, 16, 0]), 17);
        assert_eq!(call(machine, 177, [format, 16, data, 8, 0]), EINVAL);
        assert_eq!(call(machine, 177, [format, 16, data, 12, 0]), EINVAL);
        assert_eq!(call(machine, 177, [format, 16, data, 104, 0]), EINVAL);
        assert_eq!(call(machine, 177, [format, 16, 0, 16, 0]), EINVAL);
        assert_eq!(
            call(machine, 6, [format, 14, 0, 0, 0]),
            EINVAL,
            "no NUL in the format"
        );
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 6, [format, 1 << 20, 0, 0, 0], 1);
        assert_refused(machine, 177, [format, 16, 8, 16, 0], 3);
    });
    let lines: Vec<String> = lines_since(start).iter().map(|line| line.to_string()).collect();
    for text in ["port 80 of eth0", "port 443 of eth0"] {
        let line = lines.iter().find(|line| line.ends_with(text)).unwrap();
        assert!(line.contains("[000] ....."), "{line}");
    }
}

#[test]
fn a_long_line_is_cut_but_its_length_is_told() {
    let world = World::new(&[]);
    let start = trace_log().end();
    world.run(|machine| {
        let format = on_stack(machine, 0, b"%2000dcut\0");
        assert_eq!(call(machine, 6, [format, 10, 1, 0, 0]), 2003);
    });
    let lines = lines_since(start);
    assert!(
        lines
            .iter()
            .any(|line| line.text.len() == 1023 && line.program == 7)
    );
}

#[test]
fn snprintf_fills_what_the_program_gives_it() {
    let world = World::new(&[]);
    world.run(|machine| {
        let format = on_stack(machine, 0, b"%d-%s\0");
        let text = on_stack(machine, 16, b"................");
        let name = on_stack(machine, 48, b"name\0");
        let arguments: Vec<u8> = [5, name].into_iter().flat_map(u64::to_ne_bytes).collect();
        let data = on_stack(machine, 64, &arguments);
        assert_eq!(call(machine, 165, [text, 16, format, data, 16]), 7);
        assert_eq!(octets_at(machine, text, 8), b"5-name\0.");
        assert_eq!(
            call(machine, 165, [text, 4, format, data, 16]),
            7,
            "the length of the whole"
        );
        assert_eq!(octets_at(machine, text, 5), b"5-n\0m");
        assert_eq!(call(machine, 165, [0, 0, format, data, 16]), 7);
        assert_eq!(call(machine, 165, [text, 16, format, data, 8]), EINVAL);
        assert_refused(machine, 165, [text, 1 << 20, format, data, 16], 1);
        assert_refused(machine, 165, [text, 16, u64::from(STACK_TOP), data, 16], 3);
    });
}

#[test]
fn numbers_are_read_from_text() {
    let world = World::new(&[]);
    world.run(|machine| {
        let text = on_stack(machine, 0, b" \t-42 rest");
        let result = on_stack(machine, 64, &[0xff; 8]);
        assert_eq!(call(machine, 105, [text, 10, 0, result, 0]), 5);
        assert_eq!(octets_at(machine, result, 8), (-42i64).to_ne_bytes());
        assert_eq!(call(machine, 106, [text, 10, 0, result, 0]), EINVAL);
        assert_eq!(
            octets_at(machine, result, 8),
            [0; 8],
            "the result is cleared first"
        );
        assert_eq!(call(machine, 106, [text + 3, 7, 10, result, 0]), 2);
        assert_eq!(octets_at(machine, result, 8), 42u64.to_ne_bytes());
        assert_eq!(
            call(machine, 105, [text, 10, 7, result, 0]),
            EINVAL,
            "no such base"
        );
        assert_eq!(
            call(machine, 105, [text, 10, 32, result, 0]),
            EINVAL,
            "no such flag"
        );
        assert_eq!(call(machine, 105, [text, 0, 0, result, 0]), EINVAL);
        assert_eq!(
            call(machine, 105, [text, 2, 0, result, 0]),
            EINVAL,
            "nothing but spaces"
        );
        let edges = [
            ("-9223372036854775808", 20, i64::MIN),
            ("9223372036854775807", 19, i64::MAX),
        ];
        for (edge, len, value) in edges {
            let text = on_stack(machine, 0, edge.as_bytes());
            assert_eq!(call(machine, 105, [text, len, 10, result, 0]), len);
            assert_eq!(octets_at(machine, result, 8), value.to_ne_bytes());
        }
        for beyond in ["-9223372036854775809", "9223372036854775808"] {
            let text = on_stack(machine, 0, beyond.as_bytes());
            let len = beyond.len() as u64;
            assert_eq!(
                call(machine, 105, [text, len, 10, result, 0]),
                Errno::ERANGE.to_register()
            );
        }
        assert_refused(machine, 105, [text, 10, 0, 0, 0], 4);
        assert_refused(machine, 105, [8, 10, 0, result, 0], 1);
    });
}

#[test]
fn strings_are_compared() {
    let world = World::new(&[]);
    world.run(|machine| {
        let first = on_stack(machine, 0, b"abcd");
        let same = on_stack(machine, 16, b"abce\0");
        let less = on_stack(machine, 32, b"abc\0");
        assert_eq!(call(machine, 182, [first, 3, same, 0, 0]), 0);
        assert_eq!(call(machine, 182, [first, 4, same, 0, 0]), -1i64 as u64);
        assert_eq!(call(machine, 182, [first, 4, less, 0, 0]), 1);
        assert_eq!(
            call(machine, 182, [less, 8, less, 0, 0]),
            0,
            "it ends with the NUL"
        );
        // A string that ends where its memory does, before the length.
        let last = on_stack(machine, 4096 - 2, b"a\0");
        assert_eq!(call(machine, 182, [first, 4, last, 0, 0]), 1);
        assert_eq!(machine.words.stopped, 0);
        let endless = on_stack(machine, 4096 - 2, b"ab");
        assert_refused(machine, 182, [first, 4, endless, 0, 0], 3);
        assert_refused(machine, 182, [0, 4, first, 0, 0], 1);
    });
}
