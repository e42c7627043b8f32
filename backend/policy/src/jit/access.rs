//! Loads, stores and atomic operations (RFC 9669, 5).

use super::compiler::{Compiler, SCRATCH, Stop, native};
use super::encoder::{Arithmetic, Condition, Memory, Register, Size};
use crate::{Instruction, atomic, class, mode, size};

use Register::{R10, R11, Rax, Rbp};

impl Compiler<'_> {
    /// Where a program's access goes: the only function that makes an operand for one.
    ///
    /// The window is 4 GiB with guards that are longer than a displacement reaches, so an index of 32 bits cannot lead
    /// out of it. r11 gets one by a move of 32 bits; rbp has no other.
    pub fn window(&mut self, base: Register, displacement: i16) -> Memory {
        let index = match base {
            Rbp => Rbp,
            _ if !self.target.isolated => base,
            _ => {
                if self.held != Some(base) {
                    self.assembler.mov(Size::Dword, R11, base);
                    self.held = Some(base);
                }
                R11
            }
        };
        Memory::Window { index, displacement }
    }

    /// Compiles a load, a store or an atomic operation. False if there is none of that opcode.
    pub fn compile_access(&mut self, at: usize, instruction: Instruction) -> bool {
        let size = match instruction.opcode & 0x18 {
            size::B => Size::Byte,
            size::H => Size::Word,
            size::W => Size::Dword,
            _ => Size::Qword,
        };
        let (dst, src) = (native(instruction.dst), native(instruction.src));
        match (instruction.class(), instruction.opcode & 0xe0) {
            (class::LDX, mode::MEM) => {
                let from = self.window(src, instruction.offset);
                self.assembler.load(size, dst, from);
                self.written(dst);
            }
            (class::LDX, mode::MEMSX) if size != Size::Qword => {
                let from = self.window(src, instruction.offset);
                self.assembler.sign_extend(size, Size::Qword, dst, from);
                self.written(dst);
            }
            (class::ST, mode::MEM) => {
                let to = self.window(dst, instruction.offset);
                self.assembler.store_immediate(size, to, instruction.imm);
            }
            (class::STX, mode::MEM) => {
                let to = self.window(dst, instruction.offset);
                self.assembler.mov(size, to, src);
            }
            (class::STX, mode::ATOMIC) if matches!(size, Size::Dword | Size::Qword) => {
                return self.compile_atomic(at, size, instruction);
            }
            _ => return false,
        }
        true
    }

    /// Atomic operations (RFC 9669, 5.3). One on octets of two cache lines would hold up all processors, so what is not
    /// aligned is refused.
    fn compile_atomic(&mut self, at: usize, size: Size, instruction: Instruction) -> bool {
        let operation = match instruction.imm & !atomic::FETCH {
            atomic::ADD => Some(Arithmetic::Add),
            atomic::OR => Some(Arithmetic::Or),
            atomic::AND => Some(Arithmetic::And),
            atomic::XOR => Some(Arithmetic::Xor),
            _ => None,
        };
        let known = operation.is_some() || matches!(instruction.imm, atomic::XCHG | atomic::CMPXCHG);
        if !known {
            return false;
        }
        let src = native(instruction.src);
        let to = self.window(native(instruction.dst), instruction.offset);
        if let Memory::Window { index, displacement } = to {
            let stop = self.stop(Stop::Misaligned, at);
            self.assembler.add_address(index, displacement);
            let low_bits = if size == Size::Qword { 7 } else { 3 };
            self.assembler.test_immediate(Size::Dword, R10, low_bits);
            self.assembler.jump_if(Condition::NotEqual, stop);
        }
        let fetch = instruction.imm & atomic::FETCH != 0;
        match (instruction.imm, operation) {
            (atomic::XCHG, _) => self.assembler.exchange(size, to, src),
            (atomic::CMPXCHG, _) => {
                self.assembler.compare_exchange(size, to, src);
                if size == Size::Dword {
                    // Where it succeeds, it leaves the upper half alone.
                    self.assembler.mov(Size::Dword, Rax, Rax);
                }
                self.written(Rax);
            }
            (_, Some(Arithmetic::Add)) if fetch => self.assembler.exchange_add(size, to, src),
            (_, Some(operation)) if fetch => self.fetch(operation, size, to, src),
            (_, Some(operation)) => self.assembler.arithmetic_locked(operation, size, to, src),
            _ => return false,
        }
        if fetch {
            self.written(src);
        }
        true
    }

    /// Operations that the processor cannot fetch with: tried until nobody else came in between.
    fn fetch(&mut self, operation: Arithmetic, size: Size, to: Memory, src: Register) {
        let again = self.assembler.label();
        let scratch = Memory::Machine(SCRATCH);
        self.assembler.mov(Size::Qword, scratch, Rax);
        self.assembler.load(size, Rax, to);
        self.assembler.bind(again);
        if matches!(to, Memory::Window { index: R11, .. }) {
            // For the proof, which forgets at labels what it knew.
            self.assembler.mov(Size::Dword, R11, R11);
        }
        self.assembler.mov(Size::Qword, R10, Rax);
        match src {
            Rax => self.assembler.arithmetic_load(operation, size, R10, scratch),
            _ => self.assembler.arithmetic(operation, size, R10, src),
        }
        self.assembler.compare_exchange(size, to, R10);
        self.assembler.jump_if(Condition::NotEqual, again);
        // In 32 bits, so that the upper half is zero.
        self.assembler.mov(size, src, Rax);
        if src != Rax {
            self.assembler.load(Size::Qword, Rax, scratch);
        }
        self.held = None;
    }
}
