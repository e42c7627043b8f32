//! Formats as the kernel prints them.

use super::super::format::Prepared;
use super::super::output::Output;
use crate::Errno;

/// Room that the kernel was given.
const ROOM: usize = 64;

/// A letter's place in memory, and what is there.
fn memory(letter: &str) -> Option<(u64, Vec<u8>)> {
    let octets = match letter {
        "T" => b"text\0behind\0".to_vec(),
        "C" => b"abc\0".to_vec(),
        "L" => [vec![b'x'; 699], vec![0]].concat(),
        "I" => b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x2a".to_vec(),
        "Q" => vec![1, 2, 3, 4],
        _ => return None,
    };
    Some((0x10_0000 + u64::from(letter.as_bytes()[0]), octets))
}

fn read(address: u64, to: &mut [u8]) -> usize {
    let found = ["T", "C", "L", "I", "Q"]
        .into_iter()
        .filter_map(memory)
        .find(|(at, _)| *at == address);
    let octets = found.map(|(_, octets)| octets).unwrap_or_default();
    let len = octets.len().min(to.len());
    to[..len].copy_from_slice(&octets[..len]);
    len
}

/// Octets of a text in which some are written as `\xNN`.
fn unescape(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        octets.push(u8::from_str_radix(digits, 16).unwrap());
        octets.extend_from_slice(rest.as_bytes());
    }
    octets
}

/// What `bpf_snprintf` returns, and the text up to its first NUL.
fn print(format: &[u8], arguments: &[u64]) -> (i64, Vec<u8>) {
    let prepared = match Prepared::new(format, arguments, &read) {
        Ok(prepared) => prepared,
        Err(Errno(errno)) => return (i64::from(-errno), Vec::new()),
    };
    let mut text = [0; ROOM];
    // SAFETY: the text outlives the output.
    let mut output = unsafe { Output::new(text.as_mut_ptr(), ROOM) };
    let len = prepared.print(&mut output);
    let end = text.iter().position(|octet| *octet == 0).unwrap();
    (len as i64 + 1, text[..end].to_vec())
}

#[test]
fn formats_print_what_the_kernel_prints() {
    let lines = include_str!("formats.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let [format, arguments, returned, text] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let arguments: Vec<u64> = arguments
            .split(',')
            .filter(|argument| !argument.is_empty())
            .map(|argument| {
                memory(argument).map_or_else(|| argument.parse().unwrap(), |(address, _)| address)
            })
            .collect();
        let (expected, text) = (returned.parse::<i64>().unwrap(), unescape(text));
        assert_eq!(print(&unescape(format), &arguments), (expected, text), "{line}");
        count += 1;
    }
    assert_eq!(count, 360);
}
