//! Arithmetic against RFC 9669, in all registers, with all others left alone.

use super::*;

const VALUES: [u64; 14] = [
    0,
    1,
    2,
    7,
    31,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1234_5678_9abc_def0,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// RFC 9669, 4.1, once more in other words.
fn expected(instruction: Instruction, dst: u64, src: u64) -> u64 {
    let wide = instruction.class() == class::ALU64;
    let other = match instruction.opcode & source::X {
        source::X => src,
        _ => i64::from(instruction.imm) as u64,
    };
    let (a, b) = match wide {
        true => (dst, other),
        false => (dst & 0xffff_ffff, other & 0xffff_ffff),
    };
    let (signed_a, signed_b) = match wide {
        true => (a as i64, b as i64),
        false => (i64::from(a as i32), i64::from(b as i32)),
    };
    let count = (b & if wide { 63 } else { 31 }) as u32;
    let signed = instruction.offset == 1;
    let result = match instruction.opcode & 0xf0 {
        alu::ADD => a.wrapping_add(b),
        alu::SUB => a.wrapping_sub(b),
        alu::MUL => a.wrapping_mul(b),
        alu::DIV if b == 0 => 0,
        alu::DIV if signed => signed_a.wrapping_div(signed_b) as u64,
        alu::DIV => a / b,
        alu::MOD if b == 0 => a,
        alu::MOD if signed => signed_a.wrapping_rem(signed_b) as u64,
        alu::MOD => a % b,
        alu::OR => a | b,
        alu::AND => a & b,
        alu::XOR => a ^ b,
        alu::LSH => a << count,
        alu::RSH => a >> count,
        alu::ARSH => (signed_a >> count) as u64,
        alu::NEG => a.wrapping_neg(),
        alu::MOV => match instruction.offset {
            0 => b,
            8 => i64::from(b as i8) as u64,
            16 => i64::from(b as i16) as u64,
            _ => i64::from(b as i32) as u64,
        },
        _ => byte_swap(instruction, dst),
    };
    // All 64 bits of a swap are the result, whatever its class.
    match wide || instruction.opcode & 0xf0 == alu::END {
        true => result,
        false => result & 0xffff_ffff,
    }
}

fn byte_swap(instruction: Instruction, value: u64) -> u64 {
    let swap = instruction.class() == class::ALU64 || instruction.opcode & source::X != 0;
    match (instruction.imm, swap) {
        (16, true) => u64::from((value as u16).swap_bytes()),
        (16, false) => u64::from(value as u16),
        (32, true) => u64::from((value as u32).swap_bytes()),
        (32, false) => u64::from(value as u32),
        (_, true) => value.swap_bytes(),
        (_, false) => value,
    }
}

/// Loads r0 to r9 from the stack, runs an instruction, and stores them again.
fn around(instruction: Instruction) -> Code {
    let slot = |register: u8| -8 * (i16::from(register) + 1);
    let mut instructions: Vec<Instruction> = (0..10).map(|r| load(size::DW, r, 10, slot(r))).collect();
    instructions.push(instruction);
    instructions.extend((0..10).map(|r| store(size::DW, 10, slot(r), r)));
    instructions.push(exit());
    code(&[&instructions])
}

fn check(place: &Place, instruction: Instruction) {
    for target in targets() {
        let compiled = Compiled::for_target(&around(instruction), target).unwrap();
        for (a, b) in VALUES.iter().flat_map(|a| VALUES.map(|b| (*a, b))) {
            let mut registers: [u64; 10] = std::array::from_fn(|r| 0x1111_1111_1111_1111 * r as u64 + 0xabc);
            registers[instruction.src as usize % 10] = b;
            registers[instruction.dst as usize] = a;
            let source = match instruction.src {
                10 => STACK_TOP.into(),
                src => registers[src as usize],
            };
            let after = place.with(|machine| {
                for (r, value) in registers.iter().enumerate() {
                    let slot = machine.view().at(STACK_TOP - 8 * (r as u32 + 1)).cast::<u64>();
                    // SAFETY: the stack is mapped, and this test's.
                    unsafe { slot.write(*value) };
                }
                compiled
                    .call(machine, 0, [0; 5], STACK_TOP)
                    .expect("arithmetic does not stop");
                std::array::from_fn::<u64, 10, _>(|r| {
                    let slot = machine.view().at(STACK_TOP - 8 * (r as u32 + 1)).cast::<u64>();
                    // SAFETY: as above.
                    unsafe { slot.read() }
                })
            });
            registers[instruction.dst as usize] = expected(instruction, a, source);
            assert_eq!(after, registers, "{instruction:?} of {a:#x} and {source:#x}");
        }
    }
}

const BINARY: [u8; 12] = [
    alu::ADD,
    alu::SUB,
    alu::MUL,
    alu::DIV,
    alu::OR,
    alu::AND,
    alu::LSH,
    alu::RSH,
    alu::MOD,
    alu::XOR,
    alu::MOV,
    alu::ARSH,
];

#[test]
fn operations_on_two_registers() {
    let place = Place::new();
    for (class, operation) in [class::ALU, class::ALU64]
        .iter()
        .flat_map(|class| BINARY.map(|operation| (*class, operation)))
    {
        for (dst, src) in (0..10).flat_map(|dst| (0..11).map(move |src| (dst, src))) {
            check(&place, op(class | source::X | operation, dst, src, 0, 0));
            if matches!(operation, alu::DIV | alu::MOD) {
                check(&place, op(class | source::X | operation, dst, src, 1, 0));
            }
        }
    }
}

#[test]
fn operations_with_an_immediate() {
    let place = Place::new();
    let immediates = [
        0,
        1,
        -1,
        3,
        8,
        31,
        32,
        63,
        64,
        0x7f,
        -128,
        128,
        i32::MAX,
        i32::MIN,
    ];
    for (class, operation) in [class::ALU, class::ALU64]
        .iter()
        .flat_map(|class| BINARY.map(|operation| (*class, operation)))
    {
        for (dst, imm) in [0, 1, 2, 3, 9]
            .iter()
            .flat_map(|dst| immediates.map(|imm| (*dst, imm)))
        {
            check(&place, op(class | operation, dst, 0, 0, imm));
            if matches!(operation, alu::DIV | alu::MOD) {
                check(&place, op(class | operation, dst, 0, 1, imm));
            }
        }
    }
}

#[test]
fn operations_on_one_register() {
    let place = Place::new();
    for dst in 0..10 {
        for width in [16, 32, 64] {
            check(&place, op(class::ALU | alu::END, dst, 0, 0, width));
            check(&place, op(class::ALU | alu::END | source::X, dst, 0, 0, width));
            check(&place, op(class::ALU64 | alu::END, dst, 0, 0, width));
        }
        check(&place, op(class::ALU | alu::NEG, dst, 0, 0, 0));
        check(&place, op(class::ALU64 | alu::NEG, dst, 0, 0, 0));
        for (src, offset) in [0, 1, 4, 9, 10]
            .iter()
            .flat_map(|src| [8, 16, 32].map(|o| (*src, o)))
        {
            check(
                &place,
                op(class::ALU64 | alu::MOV | source::X, dst, src, offset, 0),
            );
            if offset != 32 {
                check(&place, op(class::ALU | alu::MOV | source::X, dst, src, offset, 0));
            }
        }
    }
}

#[test]
fn wide_immediates() {
    let place = Place::new();
    for value in VALUES {
        let program = [wide(0, 0, value).as_slice(), &[exit()]].concat();
        assert_eq!(place.run(&code(&[&program]), [0; 5]), Ok(value));
    }
}

#[test]
fn jumps_compare_as_they_say() {
    type Compare = fn(i128, i128) -> bool;
    let place = Place::new();
    let jumps: [(u8, bool, Compare); 11] = [
        (jump::JEQ, false, |a, b| a == b),
        (jump::JNE, false, |a, b| a != b),
        (jump::JGT, false, |a, b| a > b),
        (jump::JGE, false, |a, b| a >= b),
        (jump::JLT, false, |a, b| a < b),
        (jump::JLE, false, |a, b| a <= b),
        (jump::JSET, false, |a, b| a & b != 0),
        (jump::JSGT, true, |a, b| a > b),
        (jump::JSGE, true, |a, b| a >= b),
        (jump::JSLT, true, |a, b| a < b),
        (jump::JSLE, true, |a, b| a <= b),
    ];
    let number = |value: u64, signed: bool, class: u8| match (signed, class) {
        (true, class::JMP) => i128::from(value as i64),
        (true, _) => i128::from(value as i32),
        (false, class::JMP) => i128::from(value),
        (false, _) => i128::from(value as u32),
    };
    for (operation, signed, compare) in jumps {
        for class in [class::JMP, class::JMP32] {
            let body = |jump: Instruction| code(&[&[jump, mov(0, 1), exit(), mov(0, 2), exit()]]);
            let taken = |yes: bool| Ok(if yes { 2 } else { 1 });
            let by_register = compile(&body(op(class | operation | source::X, 1, 2, 2, 0)));
            for (a, b) in VALUES.iter().flat_map(|a| VALUES.map(|b| (*a, b))) {
                let yes = compare(number(a, signed, class), number(b, signed, class));
                assert_eq!(place.call(&by_register, [a, b, 0, 0, 0]), taken(yes));
            }
            for imm in [0, 1, -1, 127, 128, i32::MAX, i32::MIN] {
                let by_immediate = compile(&body(op(class | operation, 1, 0, 2, imm)));
                for a in VALUES {
                    let b = i64::from(imm) as u64;
                    let yes = compare(number(a, signed, class), number(b, signed, class));
                    assert_eq!(place.call(&by_immediate, [a, 0, 0, 0, 0]), taken(yes));
                }
            }
        }
    }
}
