//! An assembler for the few x86-64 instructions that the compiler uses (Intel SDM, volume 2).

pub(super) use super::operand::{Arithmetic, Condition, Memory, Operand, Register, Shift, Size, Unary};

/// A place in the code that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(u32);

const LOCK: u8 = 0xf0;
const OPERAND_SIZE: u8 = 0x66;
const UNBOUND: u32 = u32::MAX;

/// Machine code in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u8>,
    /// Where labels are.
    labels: Vec<u32>,
    /// Where a 32-bit distance to a label is to be stored.
    distances: Vec<(u32, Label)>,
}

impl Assembler {
    /// The next instruction's offset.
    pub fn offset(&self) -> u32 {
        self.code.len() as u32
    }

    /// A new label, which is nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = self.offset();
    }

    /// The code with all distances filled in. None if a label is nowhere.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        for (at, label) in &self.distances {
            let target = *self.labels.get(label.0 as usize)?;
            if target == UNBOUND {
                return None;
            }
            let distance = target.wrapping_sub(at + 4);
            self.code[*at as usize..][..4].copy_from_slice(&distance.to_le_bytes());
        }
        Some(self.code)
    }

    pub fn arithmetic(&mut self, operation: Arithmetic, size: Size, to: impl Into<Operand>, from: Register) {
        self.sized(None, size, operation as u8 * 8, from, to.into());
    }

    pub fn arithmetic_locked(&mut self, operation: Arithmetic, size: Size, to: Memory, from: Register) {
        self.sized(Some(LOCK), size, operation as u8 * 8, from, to.into());
    }

    pub fn arithmetic_load(&mut self, operation: Arithmetic, size: Size, to: Register, from: Memory) {
        self.sized(None, size, operation as u8 * 8 + 2, to, from.into());
    }

    pub fn arithmetic_immediate(
        &mut self,
        operation: Arithmetic,
        size: Size,
        to: impl Into<Operand>,
        immediate: i32,
    ) {
        let wide = size == Size::Qword;
        match i8::try_from(immediate) {
            Ok(short) => {
                self.form(None, wide, false, &[0x83], operation as u8, to.into());
                self.code.push(short as u8);
            }
            Err(_) => {
                self.form(None, wide, false, &[0x81], operation as u8, to.into());
                self.immediate(immediate);
            }
        }
    }

    pub fn test(&mut self, size: Size, a: Register, b: Register) {
        self.sized(None, size, 0x84, b, a.into());
    }

    pub fn test_immediate(&mut self, size: Size, register: Register, immediate: i32) {
        self.form(None, size == Size::Qword, false, &[0xf7], 0, register.into());
        self.immediate(immediate);
    }

    /// Moves a register to a register or to memory.
    pub fn mov(&mut self, size: Size, to: impl Into<Operand>, from: Register) {
        self.sized(None, size, 0x88, from, to.into());
    }

    /// Loads a whole register, or zero-extends 32 bits into it.
    pub fn load(&mut self, size: Size, to: Register, from: Memory) {
        match size {
            Size::Byte | Size::Word => self.zero_extend(size, to, from),
            Size::Dword | Size::Qword => self.sized(None, size, 0x8a, to, from.into()),
        }
    }

    /// Moves a value to a register in the shortest form.
    pub fn mov_immediate(&mut self, to: Register, value: u64) {
        if value == 0 {
            self.arithmetic(Arithmetic::Xor, Size::Dword, to, to);
        } else if let Ok(value) = u32::try_from(value) {
            self.prefixes(None, false, false, 0, to.into());
            self.code.push(0xb8 | to as u8 & 7);
            self.code.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.form(None, true, false, &[0xc7], 0, to.into());
            self.immediate(value);
        } else {
            self.mov_address(to, value);
        }
    }

    /// Moves a value to a register in the form that has all 64 bits.
    pub fn mov_address(&mut self, to: Register, value: u64) {
        self.prefixes(None, true, false, 0, to.into());
        self.code.push(0xb8 | to as u8 & 7);
        self.code.extend(value.to_le_bytes());
    }

    /// Stores an immediate, sign-extended where it is shorter.
    pub fn store_immediate(&mut self, size: Size, to: Memory, immediate: i32) {
        let prefix = (size == Size::Word).then_some(OPERAND_SIZE);
        let opcode = if size == Size::Byte { 0xc6 } else { 0xc7 };
        self.form(prefix, size == Size::Qword, false, &[opcode], 0, to.into());
        let len = match size {
            Size::Byte => 1,
            Size::Word => 2,
            Size::Dword | Size::Qword => 4,
        };
        self.code.extend(&immediate.to_le_bytes()[..len]);
    }

    /// Zero-extends 8, 16 or 32 bits to 64.
    pub fn zero_extend(&mut self, from_size: Size, to: Register, from: impl Into<Operand>) {
        match from_size {
            Size::Byte => self.form(None, false, true, &[0x0f, 0xb6], to as u8, from.into()),
            Size::Word => self.form(None, false, false, &[0x0f, 0xb7], to as u8, from.into()),
            Size::Dword | Size::Qword => self.form(None, false, false, &[0x8b], to as u8, from.into()),
        }
    }

    /// Sign-extends 8, 16 or 32 bits to 64, or 8 or 16 bits to 32.
    pub fn sign_extend(&mut self, from_size: Size, to_size: Size, to: Register, from: impl Into<Operand>) {
        let wide = to_size == Size::Qword;
        match from_size {
            Size::Byte => self.form(None, wide, true, &[0x0f, 0xbe], to as u8, from.into()),
            Size::Word => self.form(None, wide, false, &[0x0f, 0xbf], to as u8, from.into()),
            Size::Dword | Size::Qword => self.form(None, wide, false, &[0x63], to as u8, from.into()),
        }
    }

    pub fn unary(&mut self, operation: Unary, size: Size, register: Register) {
        self.form(
            None,
            size == Size::Qword,
            false,
            &[0xf7],
            operation as u8,
            register.into(),
        );
    }

    pub fn multiply(&mut self, size: Size, to: Register, from: Register) {
        self.form(
            None,
            size == Size::Qword,
            false,
            &[0x0f, 0xaf],
            to as u8,
            from.into(),
        );
    }

    pub fn multiply_immediate(&mut self, size: Size, to: Register, from: Register, factor: i32) {
        self.form(None, size == Size::Qword, false, &[0x69], to as u8, from.into());
        self.immediate(factor);
    }

    pub fn shift_immediate(&mut self, operation: Shift, size: Size, register: Register, count: u8) {
        let prefix = (size == Size::Word).then_some(OPERAND_SIZE);
        self.form(
            prefix,
            size == Size::Qword,
            false,
            &[0xc1],
            operation as u8,
            register.into(),
        );
        self.code.push(count);
    }

    /// Shifts by `cl`.
    pub fn shift_by_cl(&mut self, operation: Shift, size: Size, register: Register) {
        self.form(
            None,
            size == Size::Qword,
            false,
            &[0xd3],
            operation as u8,
            register.into(),
        );
    }

    /// Shifts by any register (BMI2: `shlx`, `shrx`, `sarx`).
    pub fn shift_by(&mut self, operation: Shift, size: Size, register: Register, count: Register) {
        let prefix = match operation {
            Shift::Sar => 2,
            Shift::Shr => 3,
            Shift::Shl | Shift::Rol => 1,
        };
        let number = register as u8;
        // VEX.LZ.0F38 F7 /r, with the register as source and target.
        let inverted = (!number >> 3 & 1) << 7 | 0x40 | (!number >> 3 & 1) << 5;
        let wide = u8::from(size == Size::Qword) << 7;
        self.code.extend([
            0xc4,
            inverted | 2,
            wide | (!(count as u8) & 15) << 3 | prefix,
            0xf7,
            0xc0 | (number & 7) << 3 | number & 7,
        ]);
    }

    /// Sign-extends the accumulator into rdx (`cdq`, `cqo`).
    pub fn sign_extend_accumulator(&mut self, size: Size) {
        if size == Size::Qword {
            self.code.push(0x48);
        }
        self.code.push(0x99);
    }

    pub fn swap_octets(&mut self, size: Size, register: Register) {
        self.prefixes(None, size == Size::Qword, false, 0, register.into());
        self.code.extend([0x0f, 0xc8 | register as u8 & 7]);
    }

    /// `r10 = base + displacement`, in 64 bits. The base is not rsp or r12, which would need another form.
    pub fn add_address(&mut self, base: Register, displacement: i16) {
        let to = Register::R10 as u8;
        self.prefixes(None, true, false, to, base.into());
        self.code.extend([0x8d, 0x80 | (to & 7) << 3 | base as u8 & 7]);
        self.immediate(displacement.into());
    }

    /// Exchanges two operands; with memory, atomically.
    pub fn exchange(&mut self, size: Size, with: impl Into<Operand>, register: Register) {
        self.sized(None, size, 0x86, register, with.into());
    }

    /// `lock xadd`
    pub fn exchange_add(&mut self, size: Size, to: Memory, register: Register) {
        self.form(
            Some(LOCK),
            size == Size::Qword,
            false,
            &[0x0f, 0xc1],
            register as u8,
            to.into(),
        );
    }

    /// `lock cmpxchg`, with rax as what is compared.
    pub fn compare_exchange(&mut self, size: Size, to: Memory, register: Register) {
        self.form(
            Some(LOCK),
            size == Size::Qword,
            false,
            &[0x0f, 0xb1],
            register as u8,
            to.into(),
        );
    }

    pub fn push(&mut self, register: Register) {
        self.prefixes(None, false, false, 0, register.into());
        self.code.push(0x50 | register as u8 & 7);
    }

    pub fn pop(&mut self, register: Register) {
        self.prefixes(None, false, false, 0, register.into());
        self.code.push(0x58 | register as u8 & 7);
    }

    pub fn ret(&mut self) {
        self.code.push(0xc3);
    }

    pub fn call(&mut self, label: Label) {
        self.code.push(0xe8);
        self.distance(label);
    }

    /// `call rax`
    pub fn call_rax(&mut self) {
        self.code.extend([0xff, 0xd0]);
    }

    pub fn jump(&mut self, label: Label) {
        self.code.push(0xe9);
        self.distance(label);
    }

    pub fn jump_if(&mut self, condition: Condition, label: Label) {
        self.code.extend([0x0f, 0x80 | condition as u8]);
        self.distance(label);
    }

    fn distance(&mut self, label: Label) {
        self.distances.push((self.offset(), label));
        self.code.extend([0; 4]);
    }

    fn immediate(&mut self, immediate: i32) {
        self.code.extend(immediate.to_le_bytes());
    }

    /// An instruction whose opcode is even for octets and odd for the rest.
    fn sized(&mut self, prefix: Option<u8>, size: Size, opcode: u8, register: Register, operand: Operand) {
        let prefix = prefix.or((size == Size::Word).then_some(OPERAND_SIZE));
        let (wide, byte) = (size == Size::Qword, size == Size::Byte);
        self.form(
            prefix,
            wide,
            byte,
            &[opcode | u8::from(!byte)],
            register as u8,
            operand,
        );
    }

    /// An instruction with a ModR/M octet; `register` is a register or what extends the opcode.
    fn form(
        &mut self,
        prefix: Option<u8>,
        wide: bool,
        byte: bool,
        opcode: &[u8],
        register: u8,
        operand: Operand,
    ) {
        self.prefixes(prefix, wide, byte, register, operand);
        self.code.extend(opcode);
        let register = (register & 7) << 3;
        match operand {
            Operand::Register(direct) => self.code.push(0xc0 | register | direct as u8 & 7),
            Operand::Memory(Memory::Window { index, displacement }) => {
                // Base r12 is 4 in the SIB octet, with REX.B.
                let sib = (index as u8 & 7) << 3 | 4;
                match i8::try_from(displacement) {
                    Ok(0) => self.code.extend([register | 4, sib]),
                    Ok(short) => self.code.extend([0x40 | register | 4, sib, short as u8]),
                    Err(_) => {
                        self.code.extend([0x80 | register | 4, sib]);
                        self.immediate(displacement.into());
                    }
                }
            }
            Operand::Memory(Memory::Machine(offset)) => {
                debug_assert!(offset < 128, "a displacement of one octet");
                self.code.extend([0x40 | register | 7, offset & 0x7f]);
            }
            Operand::Memory(Memory::Top) => self.code.extend([register | 4, 0x24]),
        }
    }

    /// Legacy prefix and REX. Octet registers need a REX to be spl, bpl, sil and dil rather than ah to bh.
    fn prefixes(&mut self, prefix: Option<u8>, wide: bool, byte: bool, register: u8, operand: Operand) {
        self.code.extend(prefix);
        let (index, base) = match operand {
            Operand::Register(direct) => (0, direct as u8),
            Operand::Memory(Memory::Window { index, .. }) => (index as u8, Register::R12 as u8),
            Operand::Memory(Memory::Machine(_) | Memory::Top) => (0, 0),
        };
        let rex = u8::from(wide) << 3 | (register >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0 || byte {
            self.code.push(0x40 | rex);
        }
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
