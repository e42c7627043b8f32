//! One eBPF instruction, and the numbers that RFC 9669 gives its parts.

/// An instruction of eight octets (RFC 9669, 3). The wide instruction `lddw` takes two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What is done: class, size or source, mode or operation.
    pub opcode: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register, or what kind of operand an immediate is (`pseudo`).
    pub src: u8,
    /// Signed offset of a jump or an address.
    pub offset: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Instruction {
    /// Octets of an instruction.
    pub const LEN: usize = 8;

    /// Reads an instruction as a little-endian object file has it.
    pub fn from_octets(octets: [u8; 8]) -> Instruction {
        let [opcode, registers, o0, o1, i0, i1, i2, i3] = octets;
        Instruction {
            opcode,
            dst: registers & 0x0f,
            src: registers >> 4,
            offset: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// The instruction as a little-endian object file has it.
    pub fn to_octets(self) -> [u8; 8] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [
            self.opcode,
            self.src << 4 | self.dst & 0x0f,
            o0,
            o1,
            i0,
            i1,
            i2,
            i3,
        ]
    }

    /// Reads a program. None if the length is not a multiple of eight.
    pub fn decode_all(octets: &[u8]) -> Option<Vec<Instruction>> {
        let (chunks, rest) = octets.as_chunks::<8>();
        rest.is_empty().then(|| {
            chunks
                .iter()
                .map(|chunk| Instruction::from_octets(*chunk))
                .collect()
        })
    }

    /// The instruction's class.
    pub fn class(self) -> u8 {
        self.opcode & 0x07
    }

    /// Whether this is the first half of `lddw`.
    pub fn is_wide(self) -> bool {
        self.opcode == opcode::LDDW
    }

    /// Whether this calls a function of the program itself.
    pub fn is_local_call(self) -> bool {
        self.opcode == opcode::CALL && self.src == pseudo::CALL
    }

    /// Where this jumps to if it does, as the instruction at `index`; None if it is no jump, or if that is in front of
    /// the program. Calls and exits are no jumps.
    pub fn jump_target(self, index: usize) -> Option<usize> {
        let jumps = matches!(self.class(), class::JMP | class::JMP32)
            && !matches!(self.opcode & 0xf0, jump::CALL | jump::EXIT);
        let distance = match self.opcode {
            opcode::JA32 => self.imm as isize,
            _ => isize::from(self.offset),
        };
        if jumps {
            (index + 1).checked_add_signed(distance)
        } else {
            None
        }
    }

    /// Where the function starts that this calls, or names if it is `lddw` with source register FUNCTION; None if it
    /// does neither, or if that is in front of the program.
    pub fn function_target(self, index: usize) -> Option<usize> {
        let names = self.is_local_call() || (self.is_wide() && self.src == pseudo::FUNCTION);
        if names {
            (index + 1).checked_add_signed(self.imm as isize)
        } else {
            None
        }
    }

    /// Whether this calls a helper by number.
    pub fn is_helper_call(self) -> bool {
        self.opcode == opcode::CALL && self.src == 0
    }
}

/// Instruction classes (RFC 9669, 3.1).
pub mod class {
    pub const LD: u8 = 0;
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
    pub const ALU64: u8 = 7;
}

/// Bit 3 of arithmetic and jumps: where the second operand comes from.
pub mod source {
    pub const K: u8 = 0x00;
    pub const X: u8 = 0x08;
}

/// Operations of arithmetic, in the upper four bits (RFC 9669, 4.1).
pub mod alu {
    pub const ADD: u8 = 0x00;
    pub const SUB: u8 = 0x10;
    pub const MUL: u8 = 0x20;
    pub const DIV: u8 = 0x30;
    pub const OR: u8 = 0x40;
    pub const AND: u8 = 0x50;
    pub const LSH: u8 = 0x60;
    pub const RSH: u8 = 0x70;
    pub const NEG: u8 = 0x80;
    pub const MOD: u8 = 0x90;
    pub const XOR: u8 = 0xa0;
    pub const MOV: u8 = 0xb0;
    pub const ARSH: u8 = 0xc0;
    pub const END: u8 = 0xd0;
}

/// Operations of jumps, in the upper four bits (RFC 9669, 4.3).
pub mod jump {
    pub const JA: u8 = 0x00;
    pub const JEQ: u8 = 0x10;
    pub const JGT: u8 = 0x20;
    pub const JGE: u8 = 0x30;
    pub const JSET: u8 = 0x40;
    pub const JNE: u8 = 0x50;
    pub const JSGT: u8 = 0x60;
    pub const JSGE: u8 = 0x70;
    pub const CALL: u8 = 0x80;
    pub const EXIT: u8 = 0x90;
    pub const JLT: u8 = 0xa0;
    pub const JLE: u8 = 0xb0;
    pub const JSLT: u8 = 0xc0;
    pub const JSLE: u8 = 0xd0;
}

/// Sizes of loads and stores, in bits 3 and 4 (RFC 9669, 5).
pub mod size {
    pub const W: u8 = 0x00;
    pub const H: u8 = 0x08;
    pub const B: u8 = 0x10;
    pub const DW: u8 = 0x18;

    /// Octets that a size means.
    pub fn octets(opcode: u8) -> u8 {
        match opcode & 0x18 {
            W => 4,
            H => 2,
            B => 1,
            _ => 8,
        }
    }
}

/// Modes of loads and stores, in the upper three bits (RFC 9669, 5).
pub mod mode {
    pub const IMM: u8 = 0x00;
    pub const ABS: u8 = 0x20;
    pub const IND: u8 = 0x40;
    pub const MEM: u8 = 0x60;
    pub const MEMSX: u8 = 0x80;
    pub const ATOMIC: u8 = 0xc0;
}

/// Atomic operations, in the immediate (RFC 9669, 5.3).
pub mod atomic {
    pub const ADD: i32 = 0x00;
    pub const OR: i32 = 0x40;
    pub const AND: i32 = 0x50;
    pub const XOR: i32 = 0xa0;
    pub const FETCH: i32 = 0x01;
    pub const XCHG: i32 = 0xe1;
    pub const CMPXCHG: i32 = 0xf1;

    /// Every operation there is.
    pub const ALL: [i32; 10] = [
        ADD,
        OR,
        AND,
        XOR,
        ADD | FETCH,
        OR | FETCH,
        AND | FETCH,
        XOR | FETCH,
        XCHG,
        CMPXCHG,
    ];
}

/// Whole opcodes that are asked for by name.
pub mod opcode {
    pub const LDDW: u8 = 0x18;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    /// Jump by the 16-bit offset.
    pub const JA: u8 = 0x05;
    /// Jump by the 32-bit immediate (`gotol`).
    pub const JA32: u8 = 0x06;
    /// `MOV dst, src` of 64 bits.
    pub const MOV64_X: u8 = 0xbf;
}

/// What the source register of `lddw` and `call` means (linux/bpf.h: `BPF_PSEUDO_*`).
pub mod pseudo {
    /// `lddw`: the immediate is a map.
    pub const MAP: u8 = 1;
    /// `lddw`: the immediate is a map, the next one an offset into its only value.
    pub const MAP_VALUE: u8 = 2;
    /// `lddw`: the immediate is the distance to a function of the program.
    pub const FUNCTION: u8 = 4;
    /// `call`: of a function of the program.
    pub const CALL: u8 = 1;
    /// `call`: of a kernel function.
    pub const KFUNC: u8 = 2;
}
