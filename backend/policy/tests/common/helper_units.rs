//! Units of random programs that call helpers; see [`super::generate`].
//!
//! Programs use two maps: [`ARRAY`] with keys of 4 octets and [`HASH`] with keys of 8, whose values have
//! [`VALUE_LEN`] octets. Keys lie on the stack below the numbers.

use policy::object::MapDefinition;
use policy::{Instruction, alu, atomic, jump, opcode, pseudo, size};

use super::assembler::*;
use super::generate::{self, FRAME_LEN, MakeUnit, NUMBERS, Random, SLOTS, TOO_SHORT, Unit, numbers_again};

/// The places of the maps.
pub const ARRAY: i32 = 0;
pub const HASH: i32 = 1;
pub const VALUE_LEN: i16 = 16;
/// Where keys lie, from r10.
const KEY: i16 = -8 * SLOTS - 8;

/// The units of instructions and of helper calls.
pub const HELPERS: &[MakeUnit] = &[
    generate::arithmetic,
    generate::arithmetic,
    generate::conditional,
    generate::stack,
    generate::atomically,
    generate::packet,
    generate::call_function,
    generate::load_packet,
    context,
    load_bytes,
    load_relative,
    store_bytes,
    replace_checksum,
    difference,
    hash,
    marks,
    redirect,
    change_tail,
    change_head,
    pull_data,
    push_vlan,
    pop_vlan,
    adjust_room,
    change_protocol,
    look_up,
    look_up,
    update,
    update,
    delete,
];

pub fn maps() -> Vec<MapDefinition> {
    let map = |name: &str, kind, key_size, max_entries| MapDefinition {
        name: name.into(),
        kind,
        key_size,
        value_size: VALUE_LEN as u32,
        max_entries,
        flags: 0,
        extra: 0,
        pinned: false,
        inner: None,
        values: Vec::new(),
        contents: None,
        types: None,
        spin_lock_offset: None,
    };
    vec![map("array", 2, 4, 4), map("hash", 1, 8, 6)]
}

/// Random octets behind an Ethernet header, and often an IP header that is not all nonsense.
pub fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = generate::frame(random);
    frame.resize(FRAME_LEN + random.below(500) as usize, random.next() as u8);
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 if random.below(4) != 0 => frame[14] = 0x45,
        0x86dd if random.below(4) != 0 => frame[14] = 0x60,
        _ => (),
    }
    if random.below(8) == 0 {
        frame[12..14].copy_from_slice(&[0x81, 0]);
        frame[16..18].copy_from_slice(&[8, 0]);
    }
    frame
}

/// A call on the context with r2 to r5; what the helper returned stays in r0.
fn call_on_context(random: &mut Random, arguments: &[Argument], id: i32) -> Vec<Instruction> {
    // From the registers first, as the others are overwritten.
    let mut code = Vec::new();
    for (register, argument) in (2u8..).zip(arguments) {
        if let Number = argument {
            code.push(mov(register, random.pick(&[0, 9])));
        }
    }
    for (register, argument) in (2u8..).zip(arguments) {
        match argument {
            Number => (),
            Constant(value) => code.push(mov_k(register, *value)),
            Stack(offset) => {
                code.push(mov(register, 10));
                code.push(add_k(register, i32::from(*offset)));
            }
        }
    }
    code.push(mov(1, 6));
    code.push(helper(id));
    code
}

enum Argument {
    /// Whatever number there is.
    Number,
    Constant(i32),
    /// An address, from r10.
    Stack(i16),
}

use Argument::{Constant, Number, Stack};

fn plain(random: &mut Random, mut code: Vec<Instruction>) -> Unit {
    code.extend(numbers_again(random));
    Unit::Plain(code)
}

/// Finds the frame again after it may have moved, and ends the program if it got too short.
fn moved(random: &mut Random, mut code: Vec<Instruction>) -> Unit {
    code.extend([
        load(size::W, 7, 6, 76),
        load(size::W, 8, 6, 80),
        mov(1, 7),
        add_k(1, FRAME_LEN as i32),
        jump_x(W64, jump::JLE, 1, 8, 2),
        mov_k(0, TOO_SHORT as i32),
        exit(),
    ]);
    plain(random, code)
}

/// Octets on the stack, among the numbers, and how many.
fn room(random: &mut Random) -> (i16, i32) {
    let slots = 1 + random.below(4) as i16;
    let start = -8 * (slots + random.below((SLOTS - slots) as u64 + 1) as i16);
    (start, 1 + random.below(8 * slots as u64) as i32)
}

/// An offset into the frame, sometimes behind it.
fn offset(random: &mut Random) -> i32 {
    match random.below(16) {
        0 => random.number() as i32,
        1 => random.below(1000) as i32,
        _ => random.below(FRAME_LEN as u64) as i32,
    }
}

/// Fields that only helpers change, too. The length on the wire is left out: of frames that were resized the kernel
/// does not know it.
fn context(random: &mut Random) -> Unit {
    let register = random.pick(&NUMBERS);
    Unit::Plain(vec![match random.below(4) {
        0..3 => load(
            size::W,
            register,
            6,
            random.pick(&[0, 4, 8, 16, 20, 24, 28, 32, 40, 48, 52]),
        ),
        _ => store(size::W, 6, random.pick(&[8, 32, 48, 64]), register),
    }])
}

fn load_bytes(random: &mut Random) -> Unit {
    let (to, len) = room(random);
    let arguments = [Constant(offset(random)), Stack(to), Constant(len)];
    let code = call_on_context(random, &arguments, 26);
    plain(random, code)
}

fn load_relative(random: &mut Random) -> Unit {
    let (to, len) = room(random);
    let start = random.below(3) as i32;
    let arguments = [
        Constant(offset(random)),
        Stack(to),
        Constant(len),
        Constant(start),
    ];
    let code = call_on_context(random, &arguments, 68);
    plain(random, code)
}

fn store_bytes(random: &mut Random) -> Unit {
    let (from, len) = room(random);
    let flags = random.pick(&[0, 0, 1, 2, 3, 4, -1]);
    let arguments = [
        Constant(offset(random)),
        Stack(from),
        Constant(len),
        Constant(flags),
    ];
    let code = call_on_context(random, &arguments, 9);
    moved(random, code)
}

fn replace_checksum(random: &mut Random) -> Unit {
    let (id, flags) = match random.below(2) {
        0 => (10, random.pick(&[0, 2, 2, 4, 4, 1, 0x10])),
        _ => (
            11,
            random.pick(&[0, 2, 4, 0x10, 0x12, 0x14, 0x22, 0x24, 0x34, 0x62, 0x74, 3, 0x100]),
        ),
    };
    let (from, to) = match random.below(2) {
        0 => (Number, Number),
        _ => (Constant(0), Number),
    };
    let at = offset(random) & if random.below(8) == 0 { -1 } else { -2 };
    let code = call_on_context(random, &[Constant(at), from, to, Constant(flags)], id);
    moved(random, code)
}

fn difference(random: &mut Random) -> Unit {
    let len = |random: &mut Random| 4 * random.below(9) as i32;
    let (from_len, to_len) = (len(random), len(random));
    let mut code = vec![mov(5, random.pick(&[0, 9]))];
    for (register, offset, len) in [(1, -64, from_len), (3, -32, to_len)] {
        match len {
            0 => code.push(mov_k(register, 0)),
            _ => code.extend([mov(register, 10), add_k(register, offset)]),
        }
        code.push(mov_k(register + 1, len));
    }
    code.push(helper(28));
    plain(random, code)
}

/// The hash of the kernel's own making is another one after each boot, so one is set first. It is not 0, which to us is
/// no hash, whoever set it.
fn hash(random: &mut Random) -> Unit {
    let mut code = vec![alu_k(W64, alu::OR, 0, 9, 1)];
    code.extend([mov(2, 9), mov(1, 6), helper(48)]);
    code.extend(call_on_context(random, &[], 34));
    plain(random, code)
}

fn marks(random: &mut Random) -> Unit {
    let code = match random.below(3) {
        0 => {
            let kind = Constant(random.below(9) as i32);
            call_on_context(random, &[kind], 32)
        }
        1 => call_on_context(random, &[Number], 40),
        _ => {
            // Not with a tag in the octets: where the kernel looks for it then depends on what came before (`mac_len`).
            let code = vec![
                load(size::W, 1, 6, 16),
                mov_k(0, 0),
                jump_k(W64, jump::JEQ, 1, i32::from(0x8100u16.to_be()), 3),
                jump_k(W64, jump::JEQ, 1, i32::from(0x88a8u16.to_be()), 2),
                mov(1, 6),
                helper(97),
            ];
            return moved(random, code);
        }
    };
    plain(random, code)
}

fn redirect(random: &mut Random) -> Unit {
    let code = vec![
        mov_k(1, random.below(3) as i32),
        mov_k(2, random.pick(&[0, 0, 1, 2, -1])),
        helper(23),
    ];
    plain(random, code)
}

/// Not shorter than the headers can be: where they end the kernel forgets when the frame outgrows its room in front
/// (skbuff.c: `skb_headers_offset_update` makes a transport header that was not set one that is).
fn change_tail(random: &mut Random) -> Unit {
    let len = match random.below(8) {
        0 => random.number() as u32,
        _ => random.below(600) as u32,
    };
    let len = len.max(400) as i32;
    let flags = random.pick(&[0, 0, 0, 0, 1]);
    let code = call_on_context(random, &[Constant(len), Constant(flags)], 38);
    moved(random, code)
}

fn change_head(random: &mut Random) -> Unit {
    let len = random.below(30) as i32;
    let flags = random.pick(&[0, 0, 0, 0, 1]);
    let code = call_on_context(random, &[Constant(len), Constant(flags)], 43);
    moved(random, code)
}

fn pull_data(random: &mut Random) -> Unit {
    let len = random.below(700) as i32;
    let code = call_on_context(random, &[Constant(len)], 39);
    moved(random, code)
}

fn push_vlan(random: &mut Random) -> Unit {
    let protocol = random.pick(&[0x8100u16, 0x8100, 0x88a8, 0x88a8, 0x0800, 0]);
    let protocol = Constant(i32::from(protocol.to_be()));
    let tag = Constant(random.next() as u16 as i32);
    let code = call_on_context(random, &[protocol, tag], 18);
    moved(random, code)
}

fn pop_vlan(random: &mut Random) -> Unit {
    let code = call_on_context(random, &[], 19);
    moved(random, code)
}

fn adjust_room(random: &mut Random) -> Unit {
    let len = match random.below(8) {
        0 => random.number() as i32,
        _ => random.below(80) as i32 - 40,
    };
    let mode = random.pick(&[0, 0, 1, 1, 2]);
    // linux/bpf.h: BPF_F_ADJ_ROOM_*
    let flags = random.pick(&[
        0,
        1,
        2,
        4,
        3,
        5,
        2 + 8,
        2 + 16,
        4 + 8,
        1 << 5,
        6,
        8,
        64,
        128,
        256,
        2 + 128,
        128 + 256,
    ]);
    let code = call_on_context(random, &[Constant(len), Constant(mode), Constant(flags)], 50);
    moved(random, code)
}

fn change_protocol(random: &mut Random) -> Unit {
    let protocol = random.pick(&[0x0800u16, 0x86dd, 0x86dd, 0x0806]);
    let flags = random.pick(&[0, 0, 0, 0, 1]);
    let arguments = [Constant(i32::from(protocol.to_be())), Constant(flags)];
    let code = call_on_context(random, &arguments, 31);
    moved(random, code)
}

/// r1 is a map, r2 the address of a key.
fn map_and_key(random: &mut Random) -> Vec<Instruction> {
    let map = random.pick(&[ARRAY, HASH]);
    let key = random.below(if map == ARRAY { 6 } else { 9 }) as i32;
    let low = Instruction {
        src: pseudo::MAP,
        ..raw(opcode::LDDW, 1, 0, 0, map)
    };
    vec![
        store_k(size::DW, 10, KEY, key),
        low,
        raw(0, 0, 0, 0, 0),
        mov(2, 10),
        add_k(2, i32::from(KEY)),
    ]
}

/// Looks an entry up and reads it, writes it or adds to it.
fn look_up(random: &mut Random) -> Unit {
    let mut code = map_and_key(random);
    let octets = random.pick(&[size::B, size::H, size::W, size::DW]);
    let len = i16::from(size::octets(octets));
    let at = len * random.below((VALUE_LEN / len) as u64) as i16;
    let access = match random.below(4) {
        0 => load(octets, 9, 0, at),
        1 => store(octets, 0, at, 9),
        2 => store_k(octets, 0, at, random.number() as i32),
        _ if len >= 4 => atomic(octets, random.pick(&[atomic::ADD, atomic::XCHG]), 0, at, 9),
        _ => load(octets, 9, 0, at),
    };
    code.extend([helper(1), jump_k(W64, jump::JEQ, 0, 0, 2), access, mov_k(0, 1)]);
    plain(random, code)
}

fn update(random: &mut Random) -> Unit {
    let mut code = map_and_key(random);
    let slot = 2 + random.below(SLOTS as u64 - 1) as i32;
    code.extend([
        mov(3, 10),
        add_k(3, -8 * slot),
        mov_k(4, random.pick(&[0, 0, 0, 1, 2, 3, 4, -1])),
        helper(2),
    ]);
    plain(random, code)
}

fn delete(random: &mut Random) -> Unit {
    let mut code = map_and_key(random);
    code.push(helper(3));
    plain(random, code)
}
