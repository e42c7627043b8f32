//! Every form of every instruction, with results taken from RFC 9669.

mod common;

use common::assembler::*;
use common::{engines, evaluate, functions, one_function, program, run_on_octets};
use policy::layout::{PACKET, PACKET_DATA, PACKET_LEN, STACK, STACK_LEN, STACK_TOP};
use policy::{FaultKind, Instruction, alu, atomic as operation, jump, size};

fn expect(what: &str, instructions: &[Instruction], expected: u64) {
    evaluate(instructions, |engine, result| {
        assert_eq!(
            result.map_err(|fault| fault.kind),
            Ok(expected),
            "{what}, {engine}"
        );
    });
}

fn expect_fault(what: &str, instructions: &[Instruction], at: usize, expected: FaultKind) {
    evaluate(instructions, |engine, result| {
        let fault = result.expect_err(what);
        assert_eq!(
            (fault.kind, fault.instruction),
            (expected, at),
            "{what}, {engine}"
        );
    });
}

/// r1 and r2 get values, one instruction runs, and r1 is the result.
fn on_r1(a: u64, b: u64, instruction: Instruction) -> Vec<Instruction> {
    let mut code = Vec::from(lddw(1, a));
    code.extend(lddw(2, b));
    code.extend([instruction, mov(0, 1), exit()]);
    code
}

const ONES: u64 = u64::MAX;
const LEAST: u64 = 1 << 63;
const LEAST32: u64 = 1 << 31;

#[test]
fn arithmetic_of_64_and_32_bits_with_immediates_and_registers() {
    // Operation, offset, first operand, second operand, result of 64 bits, result of 32 bits.
    let table: &[(u8, i16, u64, i32, u64, u64)] = &[
        (alu::ADD, 0, 1, 2, 3, 3),
        (alu::ADD, 0, ONES, 1, 0, 0),
        (alu::ADD, 0, 0xffff_ffff, 1, 0x1_0000_0000, 0),
        (alu::ADD, 0, 5, -6, ONES, 0xffff_ffff),
        (alu::SUB, 0, 5, 3, 2, 2),
        (alu::SUB, 0, 0, 1, ONES, 0xffff_ffff),
        (alu::SUB, 0, 0x1_0000_0000, -1, 0x1_0000_0001, 1),
        (alu::MUL, 0, 0x1_0000_0001, 3, 0x3_0000_0003, 3),
        (alu::MUL, 0, 7, -1, (-7i64) as u64, 0xffff_fff9),
        (alu::MUL, 0, LEAST32, 2, 0x1_0000_0000, 0),
        (alu::DIV, 0, 7, 2, 3, 3),
        (alu::DIV, 0, 0x5_0000_0007, 2, 0x2_8000_0003, 3),
        // The immediate is extended by its sign, and is then a number without one.
        (alu::DIV, 0, ONES, -1, 1, 1),
        (alu::DIV, 0, 0x1_0000_0000, -1, 0, 0),
        (alu::DIV, 1, (-7i64) as u64, 2, (-3i64) as u64, 0xffff_fffd),
        (alu::DIV, 1, 7, -2, (-3i64) as u64, 0xffff_fffd),
        (alu::DIV, 1, LEAST, -1, LEAST, 0),
        (alu::DIV, 1, LEAST32, -1, (-(1i64 << 31)) as u64, LEAST32),
        (alu::MOD, 0, 7, 4, 3, 3),
        (alu::MOD, 0, 0x1_0000_0003, 4, 3, 3),
        (alu::MOD, 0, 5, -1, 5, 5),
        (alu::MOD, 1, (-7i64) as u64, 4, (-3i64) as u64, 0xffff_fffd),
        (alu::MOD, 1, 7, -4, 3, 3),
        (alu::MOD, 1, LEAST, -1, 0, 0),
        (alu::MOD, 1, LEAST32, -1, 0, 0),
        (alu::OR, 0, 0xf0_0000_0000, 0x0f, 0xf0_0000_000f, 0x0f),
        (alu::OR, 0, 0, -1, ONES, 0xffff_ffff),
        (alu::AND, 0, ONES, 0x7f, 0x7f, 0x7f),
        (alu::AND, 0, ONES, -2, ONES - 1, 0xffff_fffe),
        (alu::XOR, 0, 0xff, 0x0f, 0xf0, 0xf0),
        (alu::XOR, 0, 0, -1, ONES, 0xffff_ffff),
        (alu::LSH, 0, 1, 31, LEAST32, LEAST32),
        (alu::LSH, 0, 0xffff_ffff, 4, 0xf_ffff_fff0, 0xffff_fff0),
        (alu::RSH, 0, ONES, 4, 0x0fff_ffff_ffff_ffff, 0x0fff_ffff),
        (alu::RSH, 0, LEAST32, 31, 1, 1),
        (alu::ARSH, 0, LEAST, 4, 0xf800_0000_0000_0000, 0),
        (alu::ARSH, 0, LEAST32, 4, 0x0800_0000, 0xf800_0000),
        (alu::MOV, 0, 9, 7, 7, 7),
        (alu::MOV, 0, 0, -1, ONES, 0xffff_ffff),
    ];
    for (operation, offset, a, b, in64, in32) in table.iter().copied() {
        let what = format!("{operation:#x}/{offset} of {a:#x} and {b:#x}");
        let wide = b as i64 as u64;
        expect(&what, &on_r1(a, 0, alu_k(W64, operation, offset, 1, b)), in64);
        expect(&what, &on_r1(a, 0, alu_k(W32, operation, offset, 1, b)), in32);
        expect(&what, &on_r1(a, wide, alu_x(W64, operation, offset, 1, 2)), in64);
        expect(&what, &on_r1(a, wide, alu_x(W32, operation, offset, 1, 2)), in32);
    }
}

#[test]
fn zero_as_divisor_gives_zero_and_as_modulus_the_dividend() {
    for offset in [0, 1] {
        let a = 0xffff_fff0_ffff_fff7;
        expect("/", &on_r1(a, 0, alu_x(W64, alu::DIV, offset, 1, 2)), 0);
        expect("w/", &on_r1(a, 1 << 32, alu_x(W32, alu::DIV, offset, 1, 2)), 0);
        expect("%", &on_r1(a, 0, alu_x(W64, alu::MOD, offset, 1, 2)), a);
        // RFC 9669, 4.1: the upper half is cleared all the same.
        expect(
            "w%",
            &on_r1(a, 1 << 32, alu_x(W32, alu::MOD, offset, 1, 2)),
            0xffff_fff7,
        );
    }
}

#[test]
fn shifts_by_registers_take_the_low_bits() {
    expect("<<", &on_r1(1, 65, alu_x(W64, alu::LSH, 0, 1, 2)), 2);
    expect("w<<", &on_r1(1, 33, alu_x(W32, alu::LSH, 0, 1, 2)), 2);
    expect(">>", &on_r1(8, 66, alu_x(W64, alu::RSH, 0, 1, 2)), 2);
    expect("w>>", &on_r1(8, 34, alu_x(W32, alu::RSH, 0, 1, 2)), 2);
    expect(
        "s>>",
        &on_r1(ONES - 7, 65, alu_x(W64, alu::ARSH, 0, 1, 2)),
        ONES - 3,
    );
    expect(
        "ws>>",
        &on_r1(0xffff_fff8, 33, alu_x(W32, alu::ARSH, 0, 1, 2)),
        0xffff_fffc,
    );
}

#[test]
fn negation() {
    expect("-1", &on_r1(1, 0, alu_k(W64, alu::NEG, 0, 1, 0)), ONES);
    expect("-least", &on_r1(LEAST, 0, alu_k(W64, alu::NEG, 0, 1, 0)), LEAST);
    expect("w -1", &on_r1(1, 0, alu_k(W32, alu::NEG, 0, 1, 0)), 0xffff_ffff);
    expect(
        "w -least",
        &on_r1(LEAST32, 0, alu_k(W32, alu::NEG, 0, 1, 0)),
        LEAST32,
    );
}

#[test]
fn moves_that_extend_signs() {
    let value = 0x1234_5678_8182_8384;
    let table = [
        (W64, 0, value),
        (W64, 8, 0xffff_ffff_ffff_ff84),
        (W64, 16, 0xffff_ffff_ffff_8384),
        (W64, 32, 0xffff_ffff_8182_8384),
        (W32, 0, 0x8182_8384),
        (W32, 8, 0xffff_ff84),
        (W32, 16, 0xffff_8384),
    ];
    for (width, from, expected) in table {
        let what = format!("{width:?} from {from}");
        expect(
            &what,
            &on_r1(7, value, alu_x(width, alu::MOV, from, 1, 2)),
            expected,
        );
    }
    expect(
        "positive",
        &on_r1(ONES, 0x7f, alu_x(W64, alu::MOV, 8, 1, 2)),
        0x7f,
    );
}

#[test]
fn conversions_of_octet_order() {
    let value = 0x0102_0304_0506_0708;
    // Width, as little endian, as big endian; bswap is the latter.
    let table = [
        (16, 0x0708, 0x0807),
        (32, 0x0506_0708, 0x0807_0605),
        (64, value, 0x0807_0605_0403_0201),
    ];
    for (width, little, big) in table {
        let to_big = Instruction {
            imm: width,
            ..alu_x(W32, alu::END, 0, 1, 0)
        };
        expect("le", &on_r1(value, 0, alu_k(W32, alu::END, 0, 1, width)), little);
        expect("be", &on_r1(value, 0, to_big), big);
        expect("bswap", &on_r1(value, 0, alu_k(W64, alu::END, 0, 1, width)), big);
    }
}

#[test]
fn wide_constants_are_loaded_whole() {
    let [low, high] = lddw(0, 0x1122_3344_8899_aabb);
    expect("lddw", &[low, high, exit()], 0x1122_3344_8899_aabb);
}

#[test]
fn conditions_of_64_and_32_bits_with_immediates_and_registers() {
    // Operation, first operand, second operand, whether it jumps in 64 bits, in 32 bits.
    let table: &[(u8, u64, i32, bool, bool)] = &[
        (jump::JEQ, 5, 5, true, true),
        (jump::JEQ, 5, 6, false, false),
        (jump::JEQ, ONES, -1, true, true),
        (jump::JEQ, 0xffff_ffff, -1, false, true),
        (jump::JNE, 5, 5, false, false),
        (jump::JNE, 0x1_0000_0005, 5, true, false),
        (jump::JGT, 6, 5, true, true),
        (jump::JGT, 5, 5, false, false),
        (jump::JGT, 5, -1, false, false),
        (jump::JGE, 5, 5, true, true),
        (jump::JGE, 4, 5, false, false),
        (jump::JGE, 0x1_0000_0000, 5, true, false),
        (jump::JLT, 4, 5, true, true),
        (jump::JLT, 5, 5, false, false),
        (jump::JLT, 5, -1, true, true),
        (jump::JLE, 5, 5, true, true),
        (jump::JLE, 6, 5, false, false),
        (jump::JSET, 6, 2, true, true),
        (jump::JSET, 6, 1, false, false),
        (jump::JSET, 1 << 40, -1, true, false),
        (jump::JSGT, 0, -1, true, true),
        (jump::JSGT, ONES, -1, false, false),
        (jump::JSGT, LEAST32, 0, true, false),
        (jump::JSGE, ONES, -1, true, true),
        (jump::JSGE, ONES, 0, false, false),
        (jump::JSLT, ONES, 0, true, true),
        (jump::JSLT, 0, 0, false, false),
        (jump::JSLT, LEAST32, 0, false, true),
        (jump::JSLE, ONES, -1, true, true),
        (jump::JSLE, 1, -1, false, false),
    ];
    let taken = |a: u64, b: u64, jump: Instruction| {
        let mut code = Vec::from(lddw(1, a));
        code.extend(lddw(2, b));
        code.extend([mov_k(0, 1), jump, mov_k(0, 0), exit()]);
        code
    };
    for (operation, a, b, in64, in32) in table.iter().copied() {
        let what = format!("{operation:#x} of {a:#x} and {b:#x}");
        let wide = b as i64 as u64;
        for (width, jumps) in [(W64, in64), (W32, in32)] {
            let jumps = u64::from(jumps);
            expect(&what, &taken(a, 0, jump_k(width, operation, 1, b, 1)), jumps);
            expect(&what, &taken(a, wide, jump_x(width, operation, 1, 2, 1)), jumps);
        }
    }
}

#[test]
fn jumps_go_forward_and_back() {
    expect("ja", &[ja(1), exit(), mov_k(0, 3), ja(-3)], 3);
    expect("gotol", &[gotol(1), exit(), mov_k(0, 3), gotol(-3)], 3);
    // 1 + 2 + … + 10
    let sum = [
        mov_k(1, 10),
        alu_x(W64, alu::ADD, 0, 0, 1),
        add_k(1, -1),
        jump_k(W64, jump::JNE, 1, 0, -3),
        exit(),
    ];
    expect("loop", &sum, 55);
}

#[test]
fn loads_extend_by_zeros_or_signs_at_any_alignment() {
    for slot in [-16, -15, -13] {
        let code = |load: Instruction| {
            let mut code = Vec::from(lddw(1, 0x8182_8384_8586_8788));
            code.extend([store(size::DW, 10, slot, 1), load, exit()]);
            code
        };
        let table = [
            (load(size::B, 0, 10, slot), 0x88),
            (load(size::H, 0, 10, slot), 0x8788),
            (load(size::W, 0, 10, slot), 0x8586_8788),
            (load(size::DW, 0, 10, slot), 0x8182_8384_8586_8788),
            (load_signed(size::B, 0, 10, slot), 0xffff_ffff_ffff_ff88),
            (load_signed(size::H, 0, 10, slot), 0xffff_ffff_ffff_8788),
            (load_signed(size::W, 0, 10, slot), 0xffff_ffff_8586_8788),
        ];
        for (load, expected) in table {
            expect("load", &code(load), expected);
        }
    }
}

#[test]
fn stores_write_their_size_and_no_more() {
    let code = |store: Instruction| {
        let mut code = vec![store_k(size::DW, 10, -8, 0)];
        code.extend(lddw(1, 0x8182_8384_8586_8788));
        code.extend([store, load(size::DW, 0, 10, -8), exit()]);
        code
    };
    let table = [
        (store(size::B, 10, -7, 1), 0x8800),
        (store(size::H, 10, -7, 1), 0x87_8800),
        (store(size::W, 10, -7, 1), 0x85_8687_8800),
        (store(size::DW, 10, -8, 1), 0x8182_8384_8586_8788),
        (store_k(size::B, 10, -8, -1), 0xff),
        (store_k(size::H, 10, -8, -1), 0xffff),
        (store_k(size::W, 10, -8, -1), 0xffff_ffff),
        // The immediate is extended by its sign.
        (store_k(size::DW, 10, -8, -2), ONES - 1),
    ];
    for (store, expected) in table {
        expect("store", &code(store), expected);
    }
}

/// The octets at r10 - 8 after an atomic operation with `b` on `a`, and r2 and r0 after it, which was `expected`.
fn atomically(size: u8, operation: i32, a: u64, b: u64, expected: u64) -> [Vec<Instruction>; 3] {
    [load(size::DW, 0, 10, -8), mov(0, 2), mov(0, 0)].map(|look| {
        let mut code = Vec::from(lddw(1, a));
        code.extend(lddw(2, b));
        code.extend(lddw(0, expected));
        code.extend([
            store(size::DW, 10, -8, 1),
            atomic(size, operation, 10, -8, 2),
            look,
            exit(),
        ]);
        code
    })
}

#[test]
fn atomic_operations() {
    const FETCH: i32 = operation::FETCH;
    let a = 0x1111_1111_8000_0001;
    let b = 0x0101_0101_8000_0003;
    // Operation, memory after it in 64 bits, memory after it in 32 bits.
    let table = [
        (operation::ADD, 0x1212_1213_0000_0004, 0x1111_1111_0000_0004),
        (operation::OR, 0x1111_1111_8000_0003, 0x1111_1111_8000_0003),
        (operation::AND, 0x0101_0101_8000_0001, 0x1111_1111_8000_0001),
        (operation::XOR, 0x1010_1010_0000_0002, 0x1111_1111_0000_0002),
    ];
    for (operation, in64, in32) in table {
        for (size, memory, fetched) in [(size::DW, in64, a), (size::W, in32, 0x8000_0001)] {
            let what = format!("{operation:#x} {size:#x}");
            let [octets, r2, r0] = atomically(size, operation, a, b, 7);
            expect(&what, &octets, memory);
            expect(&what, &r2, b);
            expect(&what, &r0, 7);
            let [octets, r2, r0] = atomically(size, operation | FETCH, a, b, 7);
            expect(&what, &octets, memory);
            expect(&what, &r2, fetched);
            expect(&what, &r0, 7);
        }
    }
}

#[test]
fn atomic_exchanges() {
    let a = 0x1111_1111_8000_0001;
    let b = 0x0101_0101_8000_0003;
    let in32 = 0x1111_1111_8000_0003;
    for (size, memory, fetched) in [(size::DW, b, a), (size::W, in32, 0x8000_0001)] {
        let [octets, r2, r0] = atomically(size, operation::XCHG, a, b, 7);
        expect("xchg", &octets, memory);
        expect("xchg", &r2, fetched);
        expect("xchg", &r0, 7);
        let [octets, r2, r0] = atomically(size, operation::CMPXCHG, a, b, a);
        expect("cmpxchg", &octets, memory);
        expect("cmpxchg", &r2, b);
        expect("cmpxchg", &r0, fetched);
        let [octets, r2, r0] = atomically(size, operation::CMPXCHG, a, b, a + 1);
        expect("failing cmpxchg", &octets, a);
        expect("failing cmpxchg", &r2, b);
        expect("failing cmpxchg", &r0, fetched);
    }
    // Half a register is compared, and all of r0 is written (RFC 9669, 5.3).
    let [octets, _, r0] = atomically(size::W, operation::CMPXCHG, a, b, 0xffff_ffff_8000_0001);
    expect("cmpxchg of half", &octets, in32);
    expect("cmpxchg of half", &r0, 0x8000_0001);
}

#[test]
fn atomic_operations_must_be_aligned_wherever_they_are() {
    for (size, offset) in [(size::W, -6), (size::W, -7), (size::DW, -12), (size::DW, -1)] {
        let code = [atomic(size, operation::ADD, 10, offset, 1), exit()];
        let address = i64::from(STACK_TOP) + i64::from(offset);
        expect_fault("on the stack", &code, 0, FaultKind::Misaligned { address });
        let code = [atomic(size, operation::ADD, 0, offset, 1), exit()];
        let address = i64::from(offset);
        expect_fault("nowhere", &code, 0, FaultKind::Misaligned { address });
    }
    let code = [atomic(size::DW, operation::ADD, 0, 8, 1), exit()];
    expect_fault("nowhere", &code, 0, FaultKind::Access { address: 8 });
}

#[test]
fn addresses_are_the_low_half_of_a_register_plus_the_displacement() {
    let code = |base: u64, displacement| {
        let mut code = Vec::from(lddw(1, base));
        code.extend([load(size::B, 0, 1, displacement), exit()]);
        code
    };
    let data = u64::from(PACKET_DATA);
    expect("upper bits", &code(0xffff_ffff_0000_0000 | data, 0), 0);
    for (base, displacement, address) in [
        (0, 0, 0),
        (0, -32768, -32768),
        (0xffff_ffff, 32767, 0x1_0000_7ffe),
        (0xffff_ffff, 1, 0x1_0000_0000),
        (ONES, -1, 0xffff_fffe),
    ] {
        expect_fault(
            "outside",
            &code(base, displacement),
            2,
            FaultKind::Access { address },
        );
    }
}

#[test]
fn accesses_stop_where_the_window_is_not_mapped() {
    let ends = [
        (u64::from(STACK), u64::from(STACK + STACK_LEN)),
        (u64::from(PACKET), u64::from(PACKET + PACKET_LEN)),
        (0x1_0000, 0x1_1000),
    ];
    for (start, end) in ends {
        for (size, len) in [(size::B, 1), (size::H, 2), (size::W, 4), (size::DW, 8)] {
            let at = |address: u64, access: Instruction| {
                let mut code = Vec::from(lddw(1, address));
                code.extend([access, mov_k(0, 1), exit()]);
                code
            };
            for access in [load(size, 2, 1, 0), store(size, 1, 0, 2), store_k(size, 1, 0, 0)] {
                expect("first", &at(start, access), 1);
                expect("last", &at(end - len, access), 1);
                // The fault is at the first octet that is not mapped.
                for (address, octet) in [(start - 1, start - 1), (end - len + 1, end)] {
                    let fault = FaultKind::Access {
                        address: octet as i64,
                    };
                    expect_fault("across", &at(address, access), 2, fault);
                }
            }
        }
    }
}

#[test]
fn a_program_starts_with_nothing_but_its_arguments_in_registers() {
    for register in [0, 3, 4, 5, 6, 7, 8, 9] {
        expect("register", &[mov(0, register), exit()], 0);
    }
    expect("r1", &[mov(0, 1), exit()], u64::from(PACKET_DATA));
    expect("r2", &[mov(0, 2), exit()], 64);
    expect("r10", &[mov(0, 10), exit()], u64::from(STACK_TOP));
}

/// Runs two functions, the second of which starts at `start`.
fn expect_of_two(what: &str, code: &[Instruction], start: usize, expected: Result<u64, FaultKind>) {
    for engine in engines() {
        let program = program(engine, code, &functions(&[0, start, code.len()]));
        let result = run_on_octets(&program, &mut vec![1; 64]).map_err(|fault| fault.kind);
        assert_eq!(result, expected, "{what}, {}", engine.name);
    }
}

#[test]
fn calls_keep_r6_to_r10_and_clear_r1_to_r5() {
    for register in 1..=10 {
        let mut code: Vec<_> = (1..=9)
            .map(|register| mov_k(register, 100 + i32::from(register)))
            .collect();
        code.extend([call(2), mov(0, register), exit()]);
        let start = code.len();
        code.extend((0..=9).map(|register| mov_k(register, 7)));
        code.push(exit());
        let expected = match register {
            1..=5 => 0,
            10 => u64::from(STACK_TOP),
            _ => 100 + u64::from(register),
        };
        expect_of_two(&format!("r{register}"), &code, start, Ok(expected));
    }
}

#[test]
fn a_function_starts_with_its_arguments_and_a_frame_of_its_own() {
    for register in 1..=10 {
        let mut code: Vec<_> = (1..=9)
            .map(|register| mov_k(register, 100 + i32::from(register)))
            .collect();
        code.extend([call(1), exit()]);
        let start = code.len();
        code.extend([mov(0, register), exit()]);
        let expected = match register {
            1..=5 => 100 + u64::from(register),
            10 => u64::from(STACK_TOP - 512),
            // Its caller's: the kernel does not let a program read them.
            _ => 100 + u64::from(register),
        };
        expect_of_two(&format!("r{register}"), &code, start, Ok(expected));
    }
}

#[test]
fn eight_functions_may_be_active_and_no_more() {
    // Each function calls the next one; the last returns r10.
    let chain = |functions_: usize| {
        let mut code: Vec<_> = (1..functions_).flat_map(|_| [call(1), exit()]).collect();
        code.extend([mov(0, 10), exit()]);
        let starts: Vec<_> = (0..functions_)
            .map(|function| 2 * function)
            .chain([code.len()])
            .collect();
        (code, functions(&starts))
    };
    let (code, functions) = chain(8);
    for engine in engines() {
        let program = program(engine, &code, &functions);
        assert_eq!(
            run_on_octets(&program, &mut vec![]).unwrap(),
            u64::from(STACK + 512)
        );
    }
    // The check refuses more, so this is what stands behind it: callbacks and tail calls are not counted there.
    let (code, functions) = chain(9);
    for engine in engines() {
        let program = common::unchecked_program(engine, &code, &functions);
        let fault = run_on_octets(&program, &mut vec![]).unwrap_err();
        assert_eq!(
            (fault.kind, fault.instruction),
            (FaultKind::CallDepth, 14),
            "{}",
            engine.name
        );
    }
}

#[test]
fn packet_loads_are_in_network_order_and_end_the_function_behind_the_frame() {
    let octets: Vec<u8> = (0x80..0xc0).collect();
    let table: &[(Vec<Instruction>, u64)] = &[
        (vec![load_absolute(size::B, 3)], 0x83),
        (vec![load_absolute(size::H, 3)], 0x8384),
        (vec![load_absolute(size::W, 60)], 0xbcbd_bebf),
        (vec![mov_k(4, 5), load_indirect(size::W, 4, -2)], 0x8384_8586),
        // The second operand is added in 32 bits.
        (vec![mov_k(4, -1), load_indirect(size::B, 4, 2)], 0x81),
        // Relative to the link's and to the network's header.
        (vec![load_absolute(size::H, -0x20_0000 + 2)], 0x8283),
        (vec![load_absolute(size::H, -0x10_0000 + 2)], 0x9091),
    ];
    for engine in engines() {
        for (code, expected) in table {
            let mut code = code.clone();
            code.push(exit());
            let loaded = program(engine, &code, &one_function(&code));
            assert_eq!(
                run_on_octets(&loaded, &mut octets.clone()).unwrap(),
                *expected,
                "{}",
                engine.name
            );
        }
        for load in [
            load_absolute(size::W, 61),
            load_absolute(size::B, 64),
            load_absolute(size::B, -1),
            load_absolute(size::B, i32::MIN),
        ] {
            let code = [mov_k(0, 5), load, mov_k(0, 6), exit()];
            let ended = program(engine, &code, &one_function(&code));
            assert_eq!(
                run_on_octets(&ended, &mut octets.clone()).unwrap(),
                0,
                "{}",
                engine.name
            );
            let code = [call(2), add_k(0, 8), exit(), load, exit()];
            let ended = program(engine, &code, &functions(&[0, 3, 5]));
            assert_eq!(
                run_on_octets(&ended, &mut octets.clone()).unwrap(),
                8,
                "{}",
                engine.name
            );
        }
        for register in 1..=5 {
            let code = [
                mov_k(register, 5),
                load_absolute(size::B, 0),
                mov(0, register),
                exit(),
            ];
            let cleared = program(engine, &code, &one_function(&code));
            assert_eq!(
                run_on_octets(&cleared, &mut octets.clone()).unwrap(),
                0,
                "{}",
                engine.name
            );
        }
    }
}

#[test]
fn a_loop_ends_with_its_fuel_and_not_before() {
    let code = [add_k(0, 1), jump_k(W64, jump::JLT, 0, 10, -2), exit()];
    for engine in engines() {
        let mut program = program(engine, &code, &one_function(&code));
        // Each of the ten times that the loop's head runs, the loop's length is paid for.
        program.fuel = 20;
        assert_eq!(
            run_on_octets(&program, &mut vec![]).unwrap(),
            10,
            "{}",
            engine.name
        );
        program.fuel = 19;
        let fault = run_on_octets(&program, &mut vec![]).unwrap_err();
        assert_eq!(
            (fault.kind, fault.instruction),
            (FaultKind::Fuel, 0),
            "{}",
            engine.name
        );
    }
}
