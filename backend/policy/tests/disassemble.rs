//! Instructions are printed as bpftool prints them.

mod common;

use common::assembler::*;
use policy::code::{Code, Function, function_handle};
use policy::disassemble::{Names, line};
use policy::{Instruction, alu, atomic as operation, jump, pseudo, size};

struct TwoMaps;

impl Names for TwoMaps {
    fn map(&self, handle: u32) -> Option<u32> {
        (handle == 1).then_some(4)
    }

    fn map_value(&self, address: u32) -> Option<(u32, u32)> {
        Some((5, address.checked_sub(0x2000_0000)?))
    }
}

fn text(instructions: &[Instruction], index: usize) -> String {
    let functions = vec![
        Function {
            name: "main".to_owned(),
            start: 0,
            end: 4,
        },
        Function {
            name: "other".to_owned(),
            start: 4,
            end: 5,
        },
    ];
    let code = Code::new(instructions.into(), functions.into(), Box::new([]));
    line(&code, index, &TwoMaps)
}

#[test]
fn instructions_are_printed_as_bpftool_does() {
    let big = Instruction {
        imm: 16,
        ..alu_x(W32, alu::END, 0, 3, 0)
    };
    let fetch_add = operation::ADD | operation::FETCH;
    let fetch_and = operation::AND | operation::FETCH;
    let table = [
        (add_k(1, -3), "(07) r1 += -3"),
        (alu_x(W32, alu::SUB, 0, 1, 2), "(1c) w1 -= w2"),
        (alu_x(W64, alu::DIV, 1, 1, 2), "(3f) r1 s/= r2"),
        (alu_k(W32, alu::MOD, 1, 1, 7), "(94) w1 s%= 7"),
        (alu_k(W64, alu::ARSH, 0, 1, 32), "(c7) r1 s>>= 32"),
        (alu_k(W64, alu::NEG, 0, 1, 0), "(87) r1 = -r1"),
        (mov(6, 1), "(bf) r6 = r1"),
        (alu_x(W64, alu::MOV, 32, 1, 2), "(bf) r1 = (s32)r2"),
        (alu_x(W32, alu::MOV, 8, 1, 2), "(bc) w1 = (s8)w2"),
        (big, "(dc) r3 = be16 r3"),
        (alu_k(W32, alu::END, 0, 3, 64), "(d4) r3 = le64 r3"),
        (alu_k(W64, alu::END, 0, 3, 32), "(d7) r3 = bswap32 r3"),
        (load(size::W, 2, 1, 80), "(61) r2 = *(u32 *)(r1 +80)"),
        (load_signed(size::H, 2, 1, -2), "(89) r2 = *(s16 *)(r1 -2)"),
        (store(size::DW, 10, -8, 1), "(7b) *(u64 *)(r10 -8) = r1"),
        (store_k(size::B, 1, 0, -1), "(72) *(u8 *)(r1 +0) = -1"),
        (
            atomic(size::DW, operation::ADD, 1, 0, 2),
            "(db) lock *(u64 *)(r1 +0) += r2",
        ),
        (
            atomic(size::W, fetch_add, 1, 4, 2),
            "(c3) r2 = atomic_fetch_add((u32 *)(r1 +4), r2)",
        ),
        (
            atomic(size::DW, fetch_and, 1, 0, 2),
            "(db) r2 = atomic64_fetch_and((u64 *)(r1 +0), r2)",
        ),
        (
            atomic(size::DW, operation::XCHG, 1, 0, 2),
            "(db) r2 = atomic64_xchg((u64 *)(r1 +0), r2)",
        ),
        (
            atomic(size::W, operation::CMPXCHG, 1, 0, 2),
            "(c3) r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)",
        ),
        (ja(-2), "(05) goto pc-2"),
        (gotol(70_000), "(06) gotol pc+70000"),
        (jump_k(W64, jump::JEQ, 1, 0, 3), "(15) if r1 == 0x0 goto pc+3"),
        (
            jump_k(W32, jump::JSLT, 1, -1, 3),
            "(c6) if w1 s< 0xffffffff goto pc+3",
        ),
        (jump_x(W64, jump::JSET, 1, 2, 3), "(4d) if r1 & r2 goto pc+3"),
        (jump_x(W32, jump::JNE, 1, 2, -3), "(5e) if w1 != w2 goto pc-3"),
        (load_absolute(size::H, 12), "(28) r0 = *(u16 *)skb[12]"),
        (load_indirect(size::B, 2, 3), "(50) r0 = *(u8 *)skb[r2 + 3]"),
        (exit(), "(95) exit"),
        (raw(0xe5, 0, 0, 0, 0), "(e5) BUG_e5"),
    ];
    for (instruction, expected) in table {
        assert_eq!(text(&[instruction], 0), expected);
    }
}

#[test]
fn maps_functions_and_calls_have_names() {
    let of = |src, value: u64| lddw(1, value).map(|half| Instruction { src, ..half });
    let [low, high] = lddw(1, 0x1_0000_0002);
    assert_eq!(text(&[low, high], 0), "(18) r1 = 0x100000002");
    assert_eq!(text(&[low, high], 1), "");
    assert_eq!(text(&of(pseudo::MAP, 1), 0), "(18) r1 = map[id:4]");
    assert_eq!(text(&of(pseudo::MAP, 2), 0), "(18) r1 = 0x2");
    assert_eq!(
        text(&of(pseudo::MAP_VALUE, 0x2000_0010), 0),
        "(18) r1 = map[id:5][0]+16"
    );
    let function = u64::from(function_handle(1));
    assert_eq!(text(&of(pseudo::FUNCTION, function), 0), "(18) r1 = subprog[+3]");
    assert_eq!(text(&[call(3)], 0), "(85) call pc+3#other");
    assert_eq!(text(&[call(7)], 0), "(85) call pc+7");
    let name = policy::helper::name(1);
    assert_eq!(text(&[helper(1)], 0), format!("(85) call {name}#1"));
    assert_eq!(text(&[], 0), "");
}
