//! Arithmetic (RFC 9669, 4.1 and 4.2).

use super::compiler::{Compiler, native};
use super::encoder::{Arithmetic, Condition, Register, Shift, Size, Unary};
use crate::{Instruction, alu, class, source};

use Register::{R10, R11, Rax, Rcx, Rdx};

impl Compiler<'_> {
    /// Compiles an arithmetic instruction. False if there is none of that opcode.
    pub fn compile_arithmetic(&mut self, instruction: Instruction) -> bool {
        let size = match instruction.class() {
            class::ALU64 => Size::Qword,
            _ => Size::Dword,
        };
        let immediate = instruction.opcode & source::X == source::K;
        let (dst, src) = (native(instruction.dst), native(instruction.src));
        let operation = instruction.opcode & 0xf0;
        let simple = match operation {
            alu::ADD => Some(Arithmetic::Add),
            alu::SUB => Some(Arithmetic::Sub),
            alu::OR => Some(Arithmetic::Or),
            alu::AND => Some(Arithmetic::And),
            alu::XOR => Some(Arithmetic::Xor),
            _ => None,
        };
        let shift = match operation {
            alu::LSH => Some(Shift::Shl),
            alu::RSH => Some(Shift::Shr),
            alu::ARSH => Some(Shift::Sar),
            _ => None,
        };
        match (operation, simple, shift) {
            (_, Some(simple), _) if immediate => {
                self.assembler
                    .arithmetic_immediate(simple, size, dst, instruction.imm)
            }
            (_, Some(simple), _) => self.assembler.arithmetic(simple, size, dst, src),
            (_, _, Some(shift)) if immediate => {
                let count = instruction.imm as u8 & if size == Size::Qword { 63 } else { 31 };
                self.assembler.shift_immediate(shift, size, dst, count);
            }
            (_, _, Some(shift)) => self.shift(shift, size, dst, src),
            (alu::MUL, ..) if immediate => self.assembler.multiply_immediate(size, dst, dst, instruction.imm),
            (alu::MUL, ..) => self.assembler.multiply(size, dst, src),
            (alu::DIV | alu::MOD, ..) => {
                let division = Division {
                    size,
                    modulo: operation == alu::MOD,
                    signed: match instruction.offset {
                        0 => false,
                        1 => true,
                        _ => return false,
                    },
                    dst,
                };
                self.held = None;
                match immediate {
                    true => self.divide_by_immediate(division, instruction.imm),
                    false => self.divide(division, src),
                }
            }
            (alu::NEG, ..) if immediate => self.assembler.unary(Unary::Neg, size, dst),
            (alu::MOV, ..) => return self.compile_mov(size, instruction),
            (alu::END, ..) => return self.compile_byte_swap(instruction),
            _ => return false,
        }
        self.written(dst);
        true
    }

    fn compile_mov(&mut self, size: Size, instruction: Instruction) -> bool {
        let (dst, src) = (native(instruction.dst), native(instruction.src));
        let immediate = instruction.opcode & source::X == source::K;
        match (immediate, instruction.offset) {
            (true, 0) => {
                let value = match size {
                    Size::Qword => i64::from(instruction.imm) as u64,
                    _ => u64::from(instruction.imm as u32),
                };
                self.assembler.mov_immediate(dst, value);
            }
            (false, 0) => self.assembler.mov(size, dst, src),
            (false, 8) => self.assembler.sign_extend(Size::Byte, size, dst, src),
            (false, 16) => self.assembler.sign_extend(Size::Word, size, dst, src),
            (false, 32) if size == Size::Qword => {
                self.assembler.sign_extend(Size::Dword, size, dst, src);
            }
            _ => return false,
        }
        self.written(dst);
        true
    }

    /// Byte swaps (RFC 9669, 4.2). The host is little-endian.
    fn compile_byte_swap(&mut self, instruction: Instruction) -> bool {
        let dst = native(instruction.dst);
        let swap = match (instruction.class(), instruction.opcode & source::X) {
            (class::ALU, source::K) => false,
            (class::ALU, _) | (_, source::K) => true,
            _ => return false,
        };
        match (instruction.imm, swap) {
            (16, false) => self.assembler.zero_extend(Size::Word, dst, dst),
            (16, true) => {
                self.assembler.shift_immediate(Shift::Rol, Size::Word, dst, 8);
                self.assembler.zero_extend(Size::Word, dst, dst);
            }
            (32, false) => self.assembler.mov(Size::Dword, dst, dst),
            (32, true) => self.assembler.swap_octets(Size::Dword, dst),
            (64, false) => {}
            (64, true) => self.assembler.swap_octets(Size::Qword, dst),
            _ => return false,
        }
        self.written(dst);
        true
    }

    /// Shifts by a register. The processor masks the count as the RFC wants it.
    fn shift(&mut self, shift: Shift, size: Size, dst: Register, src: Register) {
        if self.target.bmi2 {
            self.assembler.shift_by(shift, size, dst, src);
            return;
        }
        match (dst, src) {
            (Rcx, _) => {
                self.assembler.mov(Size::Qword, R10, Rcx);
                self.assembler.mov(Size::Dword, Rcx, src);
                self.assembler.shift_by_cl(shift, size, R10);
                self.assembler.mov(Size::Qword, Rcx, R10);
            }
            (_, Rcx) => self.assembler.shift_by_cl(shift, size, dst),
            _ => {
                self.assembler.mov(Size::Qword, R10, Rcx);
                self.assembler.mov(Size::Dword, Rcx, src);
                self.assembler.shift_by_cl(shift, size, dst);
                self.assembler.mov(Size::Qword, Rcx, R10);
            }
        }
    }

    fn divide_by_immediate(&mut self, division: Division, divisor: i32) {
        match divisor {
            0 => self.divide_by_zero(division),
            -1 if division.signed => self.divide_by_minus_one(division),
            _ => {
                let divisor = match division.size {
                    Size::Qword => i64::from(divisor) as u64,
                    _ => u64::from(divisor as u32),
                };
                self.assembler.mov_immediate(R11, divisor);
                self.divide_by_r11(division);
            }
        }
    }

    /// Divides by a register. The processor must not see the divisors that it raises an exception for.
    fn divide(&mut self, division: Division, src: Register) {
        let [zero, minus_one, done] = [(); 3].map(|()| self.assembler.label());
        let size = division.size;
        self.assembler.mov(size, R11, src);
        self.assembler.test(size, R11, R11);
        self.assembler.jump_if(Condition::Equal, zero);
        if division.signed {
            self.assembler
                .arithmetic_immediate(Arithmetic::Cmp, size, R11, -1);
            self.assembler.jump_if(Condition::Equal, minus_one);
        }
        self.divide_by_r11(division);
        self.assembler.jump(done);
        self.assembler.bind(zero);
        self.divide_by_zero(division);
        if division.signed {
            self.assembler.jump(done);
            self.assembler.bind(minus_one);
            self.divide_by_minus_one(division);
        }
        self.assembler.bind(done);
    }

    /// The quotient is 0, the remainder the dividend (RFC 9669, 4.1).
    fn divide_by_zero(
        &mut self,
        Division {
            size, modulo, dst, ..
        }: Division,
    ) {
        match (modulo, size) {
            (false, _) => self.assembler.mov_immediate(dst, 0),
            (true, Size::Qword) => {}
            (true, _) => self.assembler.mov(Size::Dword, dst, dst),
        }
    }

    /// The most negative number stays what it is (RFC 9669, 4.1).
    fn divide_by_minus_one(
        &mut self,
        Division {
            size, modulo, dst, ..
        }: Division,
    ) {
        match modulo {
            true => self.assembler.mov_immediate(dst, 0),
            false => self.assembler.unary(Unary::Neg, size, dst),
        }
    }

    /// `dst = dst / r11`, or the remainder. The processor wants the dividend in rax and leaves quotient and remainder
    /// in rax and rdx; what else they held is put back.
    fn divide_by_r11(&mut self, division: Division) {
        let Division {
            size,
            modulo,
            signed,
            dst,
        } = division;
        if dst == Rdx {
            self.assembler.mov(Size::Qword, R10, Rax);
            self.assembler.mov(size, Rax, Rdx);
        } else {
            self.assembler.mov(Size::Qword, R10, Rdx);
            if dst != Rax {
                self.assembler.exchange(Size::Qword, dst, Rax);
            }
        }
        match signed {
            true => {
                self.assembler.sign_extend_accumulator(size);
                self.assembler.unary(Unary::Idiv, size, R11);
            }
            false => {
                self.assembler.mov_immediate(Rdx, 0);
                self.assembler.unary(Unary::Div, size, R11);
            }
        }
        if dst == Rdx {
            if !modulo {
                self.assembler.mov(size, Rdx, Rax);
            }
            self.assembler.mov(Size::Qword, Rax, R10);
        } else {
            if modulo {
                self.assembler.mov(size, Rax, Rdx);
            }
            if dst != Rax {
                self.assembler.exchange(Size::Qword, dst, Rax);
            }
            self.assembler.mov(Size::Qword, Rdx, R10);
        }
    }
}

/// A division, without the divisor.
#[derive(Debug, Clone, Copy)]
struct Division {
    size: Size,
    modulo: bool,
    signed: bool,
    dst: Register,
}
