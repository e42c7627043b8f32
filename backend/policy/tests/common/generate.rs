//! Random programs that the kernel accepts, and that leave behind all that they computed.
//!
//! Registers: r6 is the context, r7 the frame's first octet; r0 to r5 and r9 hold numbers; r8 is the end of the frame.
//! The stack has [`SLOTS`] numbers of eight octets below r10. Programs jump forward only, between units: what a unit
//! does is done as a whole.

use policy::{Instruction, alu, atomic, jump, size};

use super::assembler::*;

/// Numbers on the stack.
pub const SLOTS: i16 = 8;
/// Octets of the frame that programs use; on shorter frames they return [`TOO_SHORT`].
pub const FRAME_LEN: usize = 128;
/// What programs return on frames that are shorter.
pub const TOO_SHORT: u32 = 77;
/// Registers that hold numbers.
pub const NUMBERS: [u8; 7] = [0, 1, 2, 3, 4, 5, 9];

/// A random number generator that needs no state but its seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number of the kind that finds mistakes.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 14] = [
            0,
            1,
            2,
            7,
            31,
            32,
            63,
            64,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.pick(&EDGES),
            1 => self.below(256),
            2 => self.next() as u32 as u64,
            _ => self.next(),
        }
    }
}

/// A program and its functions' starts, with the program's end behind them.
#[derive(Debug)]
pub struct Generated {
    pub instructions: Vec<Instruction>,
    pub starts: Vec<usize>,
}

/// A piece of a program.
#[derive(Debug, Clone)]
pub enum Unit {
    /// Instructions that control passes through, none of which jumps out.
    Plain(Vec<Instruction>),
    /// A jump, its last instruction, over the next few units.
    Jump(Vec<Instruction>, usize),
    /// A call of the program's other function, with what makes r1 to r5 numbers again.
    Call(Vec<Instruction>),
}

/// Makes a unit, of a helper call for example. After it the registers and the stack are as this module says.
pub type MakeUnit = fn(&mut Random) -> Unit;

/// The units of instructions alone.
pub const INSTRUCTIONS: &[MakeUnit] = &[
    arithmetic,
    arithmetic,
    arithmetic,
    arithmetic,
    conditional,
    constant,
    stack,
    atomically,
    packet,
    context,
    call_function,
    load_packet,
];

/// The units that control passes straight through.
pub const STRAIGHT: &[MakeUnit] = &[
    arithmetic,
    arithmetic,
    constant,
    stack,
    atomically,
    packet,
    context,
    load_packet,
];

/// A program of `len` units, made by any of `makers`.
pub fn program(random: &mut Random, len: usize, makers: &[MakeUnit]) -> Generated {
    let units: Vec<Unit> = (0..len).map(|_| random.pick(makers)(random)).collect();
    let mut code = prologue(random);
    let mut starts = Vec::new();
    let mut at = code.len();
    for unit in &units {
        starts.push(at);
        at += match unit {
            Unit::Plain(code) | Unit::Jump(code, _) | Unit::Call(code) => code.len(),
        };
    }
    starts.push(at);
    let epilogue = epilogue();
    let function_start = at + epilogue.len();
    let mut calls = false;
    for (index, unit) in units.into_iter().enumerate() {
        match unit {
            Unit::Plain(unit) => code.extend(unit),
            Unit::Jump(mut unit, over) => {
                let target = starts[(index + 1 + over).min(len)];
                let last = unit.len() - 1;
                let distance = target - (starts[index] + last) - 1;
                match unit[last].opcode {
                    policy::opcode::JA32 => unit[last].imm = distance as i32,
                    _ => unit[last].offset = distance as i16,
                }
                code.extend(unit);
            }
            Unit::Call(mut unit) => {
                unit[0].imm = (function_start - starts[index] - 1) as i32;
                calls = true;
                code.extend(unit);
            }
        }
    }
    code.extend(epilogue);
    let mut starts = vec![0];
    if calls {
        starts.push(code.len());
        code.extend(function(random));
    }
    starts.push(code.len());
    Generated {
        instructions: code,
        starts,
    }
}

/// Random octets with an Ethernet header.
pub fn frame(random: &mut Random) -> Vec<u8> {
    let len = 64 + random.below(200) as usize;
    let mut frame: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let ether_type: u16 = random.pick(&[0x0800, 0x86dd, 0x88b5]);
    frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
    frame
}

fn prologue(random: &mut Random) -> Vec<Instruction> {
    let mut code = vec![
        mov(6, 1),
        load(size::W, 7, 6, 76),
        load(size::W, 8, 6, 80),
        mov(0, 7),
        add_k(0, FRAME_LEN as i32),
        jump_x(W64, jump::JLE, 0, 8, 2),
        mov_k(0, TOO_SHORT as i32),
        exit(),
    ];
    for register in NUMBERS {
        code.extend(lddw(register, random.number()));
    }
    for slot in 1..=SLOTS {
        code.push(store_k(size::DW, 10, -8 * slot, random.number() as i32));
    }
    code
}

/// Puts all numbers into the frame and returns r0.
fn epilogue() -> Vec<Instruction> {
    let mut code: Vec<Instruction> = NUMBERS
        .into_iter()
        .enumerate()
        .map(|(index, register)| store(size::DW, 7, 8 * index as i16, register))
        .collect();
    for slot in 1..=SLOTS {
        code.push(load(size::DW, 1, 10, -8 * slot));
        code.push(store(size::DW, 7, 48 + 8 * slot, 1));
    }
    code.push(exit());
    code
}

/// The function that programs call: arithmetic on its five arguments.
fn function(random: &mut Random) -> Vec<Instruction> {
    let mut code = vec![mov_k(0, random.number() as i32)];
    for _ in 0..1 + random.below(8) {
        code.extend(operation(random, &[0, 1, 2, 3, 4, 5]));
    }
    code.push(exit());
    code
}

fn width(random: &mut Random) -> Width {
    random.pick(&[W32, W64])
}

/// One arithmetic instruction on registers of the list.
pub fn operation(random: &mut Random, registers: &[u8]) -> Vec<Instruction> {
    let width = width(random);
    let bits = if width == W64 { 64 } else { 32 };
    let dst = random.pick(registers);
    let src = random.pick(registers);
    let one = match random.below(16) {
        0 => alu_k(width, alu::NEG, 0, dst, 0),
        1 => alu_k(W64, alu::END, 0, dst, random.pick(&[16, 32, 64])),
        2 => alu_k(W32, alu::END, 0, dst, random.pick(&[16, 32, 64])),
        3 => {
            let swap = alu_x(W32, alu::END, 0, dst, 0);
            Instruction {
                imm: random.pick(&[16, 32, 64]),
                ..swap
            }
        }
        4 | 5 => {
            let from: &[i16] = if width == W64 {
                &[0, 8, 16, 32]
            } else {
                &[0, 8, 16]
            };
            alu_x(width, alu::MOV, random.pick(from), dst, src)
        }
        6 => {
            let shift = random.pick(&[alu::LSH, alu::RSH, alu::ARSH]);
            alu_k(width, shift, 0, dst, random.below(bits) as i32)
        }
        // A shift by a register is masked by the processor, and so by RFC 9669.
        7 => alu_x(width, random.pick(&[alu::LSH, alu::RSH, alu::ARSH]), 0, dst, src),
        8..=10 => {
            let divide = random.pick(&[alu::DIV, alu::MOD]);
            let signed = random.below(2) as i16;
            match random.below(2) {
                0 => alu_x(width, divide, signed, dst, src),
                _ => alu_k(width, divide, signed, dst, random.number() as i32 | 1),
            }
        }
        _ => {
            let operation = random.pick(&[alu::ADD, alu::SUB, alu::MUL, alu::OR, alu::AND, alu::XOR]);
            match random.below(2) {
                0 => alu_x(width, operation, 0, dst, src),
                _ => alu_k(width, operation, 0, dst, random.number() as i32),
            }
        }
    };
    vec![one]
}

pub fn arithmetic(random: &mut Random) -> Unit {
    Unit::Plain(operation(random, &NUMBERS))
}

pub fn constant(random: &mut Random) -> Unit {
    let register = random.pick(&NUMBERS);
    Unit::Plain(lddw(register, random.number()).into())
}

pub fn conditional(random: &mut Random) -> Unit {
    let width = width(random);
    let condition = random.pick(&[
        jump::JEQ,
        jump::JGT,
        jump::JGE,
        jump::JSET,
        jump::JNE,
        jump::JSGT,
        jump::JSGE,
        jump::JLT,
        jump::JLE,
        jump::JSLT,
        jump::JSLE,
    ]);
    let dst = random.pick(&NUMBERS);
    let over = random.below(6) as usize;
    let compare = |random: &mut Random, offset| match random.below(2) {
        0 => jump_x(width, condition, dst, random.pick(&NUMBERS), offset),
        _ => jump_k(width, condition, dst, random.number() as i32, offset),
    };
    match random.below(4) {
        // The way around an unconditional jump keeps what is behind it reachable.
        0 => Unit::Jump(vec![compare(random, 1), ja(0)], over),
        1 => Unit::Jump(vec![compare(random, 1), gotol(0)], over),
        _ => Unit::Jump(vec![compare(random, 0)], over),
    }
}

/// A size and an offset, aligned, in `len` octets.
fn place(random: &mut Random, len: i16) -> (u8, i16) {
    let size = random.pick(&[size::B, size::H, size::W, size::DW]);
    let octets = i16::from(size::octets(size));
    (size, random.below((len / octets) as u64) as i16 * octets)
}

/// A load or store at an address.
fn access(random: &mut Random, base: u8, size: u8, offset: i16) -> Unit {
    let register = random.pick(&NUMBERS);
    Unit::Plain(vec![match random.below(4) {
        0 => load(size, register, base, offset),
        1 if size != size::DW => load_signed(size, register, base, offset),
        2 => store_k(size, base, offset, random.number() as i32),
        _ => store(size, base, offset, register),
    }])
}

pub fn stack(random: &mut Random) -> Unit {
    let (size, offset) = place(random, 8 * SLOTS);
    access(random, 10, size, offset - 8 * SLOTS)
}

pub fn packet(random: &mut Random) -> Unit {
    let size = random.pick(&[size::B, size::H, size::W, size::DW]);
    let last = FRAME_LEN as u64 - u64::from(size::octets(size));
    let offset = random.below(last + 1) as i16;
    access(random, 7, size, offset)
}

pub fn atomically(random: &mut Random) -> Unit {
    let size = random.pick(&[size::W, size::DW]);
    let octets = i16::from(size::octets(size));
    let offset = random.below((8 * SLOTS / octets) as u64) as i16 * octets - 8 * SLOTS;
    let operation = random.pick(&atomic::ALL);
    let register = random.pick(&NUMBERS);
    let mut code = vec![atomic(size, operation, 10, offset, register)];
    if operation == atomic::CMPXCHG && size == size::W {
        // Linux 6.18 on x86 sometimes leaves the upper half of r0 when it should be zero (RFC 9669, 5.3).
        code.push(alu_x(W32, alu::MOV, 0, 0, 0));
    }
    Unit::Plain(code)
}

/// Accesses to fields of the context that a test run can set or look at, and that hold no pointers.
fn context(random: &mut Random) -> Unit {
    let register = random.pick(&NUMBERS);
    let cb = |random: &mut Random| {
        let size = random.pick(&[size::B, size::H, size::W]);
        let octets = i16::from(size::octets(size));
        (size, 48 + random.below((20 / octets) as u64) as i16 * octets)
    };
    Unit::Plain(vec![match random.below(6) {
        // len, mark, protocol, vlan_*, priority, ifindex, wire_len, gso_segs, gso_size
        0 => {
            let field = random.pick(&[0, 8, 16, 20, 24, 28, 32, 40, 160, 164, 176]);
            let size = random.pick(&[size::B, size::H, size::W]);
            let octets = i16::from(size::octets(size));
            // Behind the fields that have 16 bits in `struct sk_buff` the kernel reads those bits again, or others.
            let whole = matches!(field, 0 | 8 | 32 | 40 | 160);
            let parts = if whole { 4 / octets } else { 1 };
            let within = random.below(parts as u64) as i16 * octets;
            load(size, register, 6, field + within)
        }
        1 => {
            let (size, offset) = cb(random);
            load(size, register, 6, offset)
        }
        2 => {
            let (size, offset) = cb(random);
            store(size, 6, offset, register)
        }
        3 => load(size::DW, register, 6, 152),
        4 => store(size::DW, 6, random.pick(&[48, 56]), register),
        _ => store(size::W, 6, random.pick(&[8, 32]), register),
    }])
}

/// What r1 to r5 are after something that leaves nothing in them.
pub fn numbers_again(random: &mut Random) -> Vec<Instruction> {
    (1..=5)
        .map(|register| mov_k(register, random.number() as i32))
        .collect()
}

pub fn call_function(random: &mut Random) -> Unit {
    let mut code = vec![call(0)];
    code.extend(numbers_again(random));
    Unit::Call(code)
}

pub fn load_packet(random: &mut Random) -> Unit {
    let size = random.pick(&[size::B, size::H, size::W]);
    // Some are behind the frame, some relative to its headers.
    let base = random.pick(&[0, 0, 0, 0, 0, 0, 150, -0x10_0000, -0x20_0000]);
    let imm = base + random.below(100) as i32;
    let mut code = match random.below(2) {
        0 => vec![load_absolute(size, imm)],
        _ => vec![mov_k(2, random.below(20) as i32), load_indirect(size, 2, imm)],
    };
    code.extend(numbers_again(random));
    Unit::Plain(code)
}
