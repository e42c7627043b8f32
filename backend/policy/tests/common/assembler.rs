//! Instructions by name.

use policy::{Instruction, alu, class, jump, mode, opcode, pseudo, source};

/// The two widths of arithmetic and of jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    W32,
    W64,
}

pub use Width::{W32, W64};

impl Width {
    fn arithmetic(self) -> u8 {
        match self {
            W32 => class::ALU,
            W64 => class::ALU64,
        }
    }

    fn jump(self) -> u8 {
        match self {
            W32 => class::JMP32,
            W64 => class::JMP,
        }
    }
}

pub fn raw(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Instruction {
    Instruction {
        opcode,
        dst,
        src,
        offset,
        imm,
    }
}

/// Arithmetic with an immediate.
pub fn alu_k(width: Width, operation: u8, offset: i16, dst: u8, imm: i32) -> Instruction {
    raw(width.arithmetic() | operation | source::K, dst, 0, offset, imm)
}

/// Arithmetic with a register.
pub fn alu_x(width: Width, operation: u8, offset: i16, dst: u8, src: u8) -> Instruction {
    raw(width.arithmetic() | operation | source::X, dst, src, offset, 0)
}

pub fn mov(dst: u8, src: u8) -> Instruction {
    alu_x(W64, alu::MOV, 0, dst, src)
}

pub fn mov_k(dst: u8, imm: i32) -> Instruction {
    alu_k(W64, alu::MOV, 0, dst, imm)
}

pub fn add_k(dst: u8, imm: i32) -> Instruction {
    alu_k(W64, alu::ADD, 0, dst, imm)
}

pub fn lddw(dst: u8, value: u64) -> [Instruction; 2] {
    [
        raw(opcode::LDDW, dst, 0, 0, value as i32),
        raw(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

pub fn jump_k(width: Width, operation: u8, dst: u8, imm: i32, offset: i16) -> Instruction {
    raw(width.jump() | operation | source::K, dst, 0, offset, imm)
}

pub fn jump_x(width: Width, operation: u8, dst: u8, src: u8, offset: i16) -> Instruction {
    raw(width.jump() | operation | source::X, dst, src, offset, 0)
}

pub fn ja(offset: i16) -> Instruction {
    jump_k(W64, jump::JA, 0, 0, offset)
}

pub fn gotol(distance: i32) -> Instruction {
    raw(opcode::JA32, 0, 0, 0, distance)
}

pub fn load(size: u8, dst: u8, src: u8, offset: i16) -> Instruction {
    raw(class::LDX | mode::MEM | size, dst, src, offset, 0)
}

pub fn load_signed(size: u8, dst: u8, src: u8, offset: i16) -> Instruction {
    raw(class::LDX | mode::MEMSX | size, dst, src, offset, 0)
}

pub fn store(size: u8, dst: u8, offset: i16, src: u8) -> Instruction {
    raw(class::STX | mode::MEM | size, dst, src, offset, 0)
}

pub fn store_k(size: u8, dst: u8, offset: i16, imm: i32) -> Instruction {
    raw(class::ST | mode::MEM | size, dst, 0, offset, imm)
}

pub fn atomic(size: u8, operation: i32, dst: u8, offset: i16, src: u8) -> Instruction {
    raw(class::STX | mode::ATOMIC | size, dst, src, offset, operation)
}

pub fn load_absolute(size: u8, imm: i32) -> Instruction {
    raw(class::LD | mode::ABS | size, 0, 0, 0, imm)
}

pub fn load_indirect(size: u8, src: u8, imm: i32) -> Instruction {
    raw(class::LD | mode::IND | size, 0, src, 0, imm)
}

pub fn call(distance: i32) -> Instruction {
    raw(opcode::CALL, 0, pseudo::CALL, 0, distance)
}

pub fn helper(id: i32) -> Instruction {
    raw(opcode::CALL, 0, 0, 0, id)
}

pub fn exit() -> Instruction {
    raw(opcode::EXIT, 0, 0, 0, 0)
}
