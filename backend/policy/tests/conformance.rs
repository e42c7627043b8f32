//! The plugin speaks the protocol of the bpf_conformance suite.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn plugin(arguments: &[&str], program: &str) -> Output {
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_bpf-conformance-plugin"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = plugin.stdin.take().unwrap().write_all(program.as_bytes());
    plugin.wait_with_output().unwrap()
}

fn result(arguments: &[&str], program: &str) -> Result<String, String> {
    let output = plugin(arguments, program);
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        Some(1) => Err(String::from_utf8(output.stderr).unwrap().trim().to_owned()),
        other => panic!("ended with {other:?}"),
    }
}

/// `r0 = -1; exit`
const MINUS_ONE: &str = "b7 00 00 00 ff ff ff ff\n95 00 00 00 00 00 00 00\n";

#[test]
fn r0_is_printed_in_hexadecimal() {
    assert_eq!(result(&[], MINUS_ONE), Ok("ffffffffffffffff".to_owned()));
    assert_eq!(
        result(&["--interpreter"], MINUS_ONE),
        Ok("ffffffffffffffff".to_owned())
    );
    let program = MINUS_ONE.replace(['\n', ' '], "");
    assert_eq!(
        result(&["--program", &program], ""),
        Ok("ffffffffffffffff".to_owned())
    );
}

#[test]
fn memory_is_in_r1_and_its_length_in_r2() {
    // r0 = *(u16 *)(r1 + 1); r0 <<= 8; r0 |= r2; exit
    let program = "6910010000000000 6700000008000000 4f20000000000000 9500000000000000";
    assert_eq!(result(&["aabbcc"], program), Ok("ccbb03".to_owned()));
    assert_eq!(
        result(&["aa bb cc dd", "--interpreter"], program),
        Ok("ccbb04".to_owned())
    );
}

#[test]
fn functions_are_where_calls_lead() {
    // call +1; exit; r0 = 7; exit
    let program = "8510000001000000 9500000000000000 b700000007000000 9500000000000000";
    assert_eq!(result(&[], program), Ok("7".to_owned()));
}

#[test]
fn what_cannot_be_run_is_an_error() {
    for (arguments, program, message) in [
        (&[][..], "b7", "1 octets are no whole number of instructions"),
        (&[], "b", "octets have two hexadecimal digits"),
        (&[], "xy", "'x' is no hexadecimal digit"),
        (
            &["--elf"],
            MINUS_ONE,
            "object files are not taken here, only instructions",
        ),
        (
            &[],
            "b700000000000000",
            "function function_0, instruction 0: last insn is not an exit or jmp",
        ),
        // r0 = *(u32 *)(r0 + 0); exit
        (
            &[],
            "6100000000000000 9500000000000000",
            "program 1 (conformance), instruction 0: access to 0x0 in the null guard",
        ),
    ] {
        assert_eq!(result(arguments, program), Err(message.to_owned()));
    }
}
