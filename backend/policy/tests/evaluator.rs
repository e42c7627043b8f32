//! Engines compute what a second, slow and obvious reading of RFC 9669 computes.

mod common;

use common::assembler::*;
use common::generate::{self, NUMBERS, Random};
use common::{engines, one_function, program, run_on_octets};
use policy::{Instruction, alu, class, jump, source};
use proptest::prelude::*;

/// Runs arithmetic and forward jumps on registers, until the instruction behind the last.
fn evaluate(code: &[Instruction], mut r: [u64; 11]) -> [u64; 11] {
    let mut index = 0;
    while index < code.len() {
        let instruction = code[index];
        let dst = usize::from(instruction.dst);
        let operand = match instruction.opcode & source::X {
            0 => instruction.imm as i64 as u64,
            _ => r[usize::from(instruction.src)],
        };
        let wide = matches!(instruction.class(), class::ALU64 | class::JMP);
        let (a, b) = match wide {
            true => (r[dst], operand),
            false => (r[dst] & 0xffff_ffff, operand & 0xffff_ffff),
        };
        index += 1;
        if matches!(instruction.class(), class::JMP | class::JMP32) {
            if holds(instruction, signed(a, wide), signed(b, wide), a, b) {
                index += instruction.offset as usize;
            }
            continue;
        }
        let result = arithmetic(instruction, a, b, wide);
        r[dst] = if wide {
            result as u64
        } else {
            result as u64 & 0xffff_ffff
        };
    }
    r
}

fn signed(value: u64, wide: bool) -> i128 {
    let bits = if wide { 64 } else { 32 };
    let value = i128::from(value);
    if value >= 1 << (bits - 1) {
        value - (1 << bits)
    } else {
        value
    }
}

fn holds(instruction: Instruction, sa: i128, sb: i128, a: u64, b: u64) -> bool {
    match instruction.opcode & 0xf0 {
        jump::JEQ => a == b,
        jump::JNE => a != b,
        jump::JGT => a > b,
        jump::JGE => a >= b,
        jump::JLT => a < b,
        jump::JLE => a <= b,
        jump::JSET => a & b != 0,
        jump::JSGT => sa > sb,
        jump::JSGE => sa >= sb,
        jump::JSLT => sa < sb,
        jump::JSLE => sa <= sb,
        other => panic!("no condition {other:#x}"),
    }
}

fn arithmetic(instruction: Instruction, a: u64, b: u64, wide: bool) -> i128 {
    let bits: i128 = if wide { 64 } else { 32 };
    let (sa, sb) = (signed(a, wide), signed(b, wide));
    let (ua, ub) = (i128::from(a), i128::from(b));
    let shift = ub % bits;
    match (instruction.opcode & 0xf0, instruction.offset) {
        (alu::ADD, _) => ua + ub,
        (alu::SUB, _) => ua - ub,
        (alu::MUL, _) => sa * sb,
        (alu::DIV, _) if b == 0 => 0,
        (alu::DIV, 0) => ua / ub,
        (alu::DIV, _) => sa / sb,
        (alu::MOD, _) if b == 0 => ua,
        (alu::MOD, 0) => ua % ub,
        (alu::MOD, _) => sa % sb,
        (alu::OR, _) => ua | ub,
        (alu::AND, _) => ua & ub,
        (alu::XOR, _) => ua ^ ub,
        (alu::NEG, _) => -ua,
        (alu::LSH, _) => ua << shift,
        (alu::RSH, _) => ua >> shift,
        (alu::ARSH, _) => sa >> shift,
        (alu::MOV, 0) => ub,
        (alu::MOV, from) => {
            let low = ub % (1 << from);
            if low >= 1 << (from - 1) {
                low - (1 << from)
            } else {
                low
            }
        }
        (alu::END, _) => octet_order(instruction, a, wide),
        other => panic!("no operation {other:?}"),
    }
}

fn octet_order(instruction: Instruction, a: u64, wide: bool) -> i128 {
    let octets = a.to_le_bytes();
    let octets = &octets[..instruction.imm as usize / 8];
    let fold = |value: i128, octet: &u8| value << 8 | i128::from(*octet);
    if wide || instruction.opcode & source::X != 0 {
        octets.iter().fold(0, fold)
    } else {
        octets.iter().rev().fold(0, fold)
    }
}

/// Arithmetic, and jumps over what is behind them. Conversions of octet order come with their own way of 64 bits.
fn body(random: &mut Random) -> Vec<Instruction> {
    let len = 1 + random.below(40) as usize;
    let mut code: Vec<Instruction> = (0..len)
        .flat_map(|_| generate::operation(random, &NUMBERS))
        .collect();
    code.retain(|instruction| !(instruction.class() == class::ALU && instruction.opcode & 0xf0 == alu::END));
    for index in 0..code.len() {
        if random.below(4) == 0 {
            let over = random.below((code.len() - index) as u64) as i16;
            let condition = (1 + random.below(13) as u8) << 4;
            if matches!(condition, jump::CALL | jump::EXIT) {
                continue;
            }
            let (dst, src) = (random.pick(&NUMBERS), random.pick(&NUMBERS));
            code[index] = match random.below(4) {
                0 => jump_x(W64, condition, dst, src, over),
                1 => jump_x(W32, condition, dst, src, over),
                2 => jump_k(W64, condition, dst, random.number() as i32, over),
                _ => jump_k(W32, condition, dst, random.number() as i32, over),
            };
        }
    }
    code
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn arithmetic_and_jumps(seed: u64) {
        let mut random = Random(seed);
        let body = body(&mut random);
        let mut registers = [0; 11];
        let mut code = Vec::new();
        for register in NUMBERS {
            let value = random.number();
            registers[usize::from(register)] = value;
            code.extend(lddw(register, value));
        }
        code.extend(&body);
        let expected = evaluate(&body, registers);
        let end = code.len();
        for register in NUMBERS {
            code.truncate(end);
            code.extend([mov(0, register), exit()]);
            for engine in engines() {
                let program = program(engine, &code, &one_function(&code));
                let result = run_on_octets(&program, &mut Vec::new());
                prop_assert_eq!(
                    result, Ok(expected[usize::from(register)]),
                    "r{} of\n{}", register, common::listing(&program)
                );
            }
        }
    }
}
