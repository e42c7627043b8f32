//! Calls that a program might make, at random from a seed.

use super::super::id;
use super::{MEMORY, MEMORY_LEN, call_raw, write_context};
use crate::layout::CONTEXT;
use crate::machine::Machine;

/// A generator of numbers (splitmix64): the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Any number, but 0 as often as not.
    pub fn or_zero(&mut self) -> u64 {
        if self.one_in(2) { 0 } else { self.next() }
    }

    pub fn fill(&mut self, octets: &mut [u8]) {
        octets.fill_with(|| self.next() as u8);
    }
}

/// An argument of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Context,
    Value(u64),
    /// An offset into the program's memory.
    Memory(u32),
}

/// What a program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Call { helper: u32, arguments: [Argument; 5] },
    SetMark(u32),
    SetCb(u32, u32),
}

impl Step {
    /// Does it on a machine. Returns what a helper returned.
    pub fn run(&self, machine: &mut Machine) -> Option<u64> {
        match *self {
            Step::SetMark(mark) => write_context(machine, |context| context.mark = mark),
            Step::SetCb(index, value) => write_context(machine, |context| context.cb[index as usize] = value),
            Step::Call { helper, arguments } => {
                let arguments = arguments.map(|argument| match argument {
                    Argument::Context => u64::from(CONTEXT),
                    Argument::Value(value) => value,
                    Argument::Memory(offset) => MEMORY + u64::from(offset),
                });
                return Some(call_raw(machine, helper, arguments));
            }
        }
        None
    }

    pub fn helper(&self) -> Option<u32> {
        match self {
            Step::Call { helper, .. } => Some(*helper),
            _ => None,
        }
    }
}

const ROOM_FLAGS: [u64; 9] = [
    1 << 0,
    1 << 1,
    1 << 2,
    1 << 3,
    1 << 4,
    1 << 5,
    1 << 6,
    1 << 7,
    1 << 8,
];

/// A step on a frame of about this length.
pub fn step(random: &mut Random, len: u64) -> Step {
    if random.one_in(12) {
        return Step::SetMark(random.next() as u32);
    }
    if random.one_in(12) {
        return Step::SetCb(random.below(5) as u32, random.next() as u32);
    }
    let helper = match random.below(6) {
        0 => random.pick(&[id::SKB_ADJUST_ROOM, id::SKB_ADJUST_ROOM, id::SKB_CHANGE_PROTO]),
        _ => random.pick(super::HELPERS).id,
    };
    call(random, helper, len)
}

/// A call of a helper on a frame of about this length.
pub fn call(random: &mut Random, helper: u32, len: u64) -> Step {
    use Argument::{Memory, Value};
    let zero = Value(0);
    let flags = if random.one_in(16) { random.next() } else { 0 };
    let offset = match random.below(16) {
        0 => random.next(),
        1 => random.pick(&[0x7fff_ffff, 0x8000_0000, 0xffff, 0x10000, 0xffff_fffe]),
        2 => len.saturating_sub(random.below(8)) + random.below(4),
        3..=6 => random.below(80),
        _ => random.below(len + 4),
    };
    let memory_len = 1 + random.below(u64::from(MEMORY_LEN));
    let memory = Memory(random.below(u64::from(MEMORY_LEN) - memory_len + 1) as u32);
    let arguments = match helper {
        id::SKB_LOAD_BYTES => [Value(offset), memory, Value(memory_len), zero],
        id::SKB_LOAD_BYTES_RELATIVE => [Value(offset), memory, Value(memory_len), Value(random.below(3))],
        id::SKB_STORE_BYTES => {
            let flags = if flags == 0 { random.below(4) } else { flags };
            [Value(offset), memory, Value(memory_len), Value(flags)]
        }
        id::L3_CSUM_REPLACE | id::L4_CSUM_REPLACE => {
            let offset = random.pick(&[offset, offset & !1, 24, 36, 40, 50, 60]);
            let size = random.pick(&[0, 0, 2, 2, 4, 4, 3, 8]);
            let from = if size == 0 && !random.one_in(8) {
                0
            } else {
                random.next()
            };
            let more = if helper == id::L4_CSUM_REPLACE {
                random.below(16) << 4
            } else {
                0
            };
            [
                Value(offset),
                Value(from),
                Value(random.next()),
                Value(size | more | flags),
            ]
        }
        id::CSUM_DIFF => {
            let mut part = || {
                let len = random.pick(&[0, 4, 8, 16, 20, 40, 64, 128]);
                match len {
                    0 => (zero, zero),
                    len => (
                        Memory(random.below(u64::from(MEMORY_LEN) - len + 1) as u32),
                        Value(len),
                    ),
                }
            };
            let ((from, from_size), (to, to_size)) = (part(), part());
            let arguments = [from, from_size, to, to_size, Value(random.next())];
            return Step::Call { helper, arguments };
        }
        id::CSUM_UPDATE => [Value(random.next()), zero, zero, zero],
        id::CSUM_LEVEL => [Value(random.below(5)), zero, zero, zero],
        id::SKB_PULL_DATA => [Value(random.pick(&[0, offset, len])), zero, zero, zero],
        id::SKB_CHANGE_PROTO => {
            let to = random.pick(&[0x0008, 0xdd86, 0x0081]);
            [Value(to), Value(flags), zero, zero]
        }
        id::SKB_CHANGE_TYPE => [Value(random.below(6)), zero, zero, zero],
        id::SKB_CHANGE_TAIL => {
            let to = match random.below(8) {
                0 => random.pick(&[16064, 16065, 13, 14, 0xffff_ffff]),
                1 => random.below(40),
                _ => random.below(1600),
            };
            [Value(to), Value(flags), zero, zero]
        }
        id::SKB_CHANGE_HEAD => {
            let more = match random.below(8) {
                0 => random.pick(&[20000, 16065 - len.min(16065), 16064 - len.min(16064), 0xffff_ffff]),
                _ => random.below(100),
            };
            [Value(more), Value(flags), zero, zero]
        }
        id::SKB_ADJUST_ROOM => adjust_room(random, flags),
        id::SKB_VLAN_PUSH => {
            let odd = random.next();
            let protocol = random.pick(&[0x0081, 0xa888, odd]);
            [Value(protocol), Value(random.next()), zero, zero]
        }
        id::SET_HASH => [Value(random.next() | 1), zero, zero, zero],
        id::CHECK_MTU => {
            let memory = Memory(random.below(u64::from(MEMORY_LEN) / 4) as u32 * 4);
            let difference = match random.below(4) {
                0 => 0,
                1 => random.next(),
                _ => random.below(200).wrapping_sub(100),
            };
            let flags = random.pick(&[0, 1, flags]);
            let ifindex = random.pick(&[0, 1, 0, 77_777]);
            [Value(ifindex), memory, Value(difference), Value(flags)]
        }
        id::SKB_SET_TSTAMP => [Value(random.or_zero()), Value(random.below(4)), zero, zero],
        _ => [zero; 4],
    };
    let [a, b, c, d] = arguments;
    Step::Call {
        helper,
        arguments: [Argument::Context, a, b, c, d],
    }
}

fn adjust_room(random: &mut Random, odd_flags: u64) -> [Argument; 4] {
    const ENCAPSULATIONS: [u64; 8] = [
        0,
        1 << 1,
        1 << 2,
        1 << 1 | 1 << 4,
        1 << 2 | 1 << 3,
        1 << 1 | 1 << 4 | 1 << 6 | 14 << 56,
        1 << 2 | 1 << 4 | 1 << 6 | 15 << 56,
        1 << 1 | 51 << 56,
    ];
    let len = match random.below(8) {
        0 => random.pick(&[4095, 4096, 0x7fff_ffff, 0x8000_0000]),
        1 => random.below(1500),
        _ => random.pick(&[0, 4, 8, 14, 20, 28, 36, 40, 48, 50, 54, 60, 70]),
    };
    let shrink = random.one_in(2);
    let flags = match random.below(3) {
        0 => (0..random.below(4)).fold(odd_flags, |flags, _| flags | random.pick(&ROOM_FLAGS)),
        1 if shrink => random.pick(&[0, 1 << 7, 1 << 8]),
        1 => random.pick(&ENCAPSULATIONS),
        _ => random.pick(&[0, 1, 1 << 5]),
    };
    let mode = if random.one_in(16) {
        random.next()
    } else {
        random.below(2)
    };
    [
        Argument::Value(if shrink { len.wrapping_neg() } else { len }),
        Argument::Value(mode),
        Argument::Value(flags),
        Argument::Value(0),
    ]
}
