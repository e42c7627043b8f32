//! Calls: of helpers, of the program's own functions, and of what stands behind legacy packet loads.

use super::compiler::{Compiler, FRAME, INSTRUCTION, SCRATCH, STOPPED, Stop, native};
use super::encoder::{Arithmetic, Condition, Memory, Register, Size};
use super::flow::{Registers, callee, writes};
use super::{ArrayLayout, CompileError, entry};
use crate::helper::TAIL_CALL;
use crate::layout::{FRAME_LEN, STACK, WINDOW_LEN};
use crate::{Instruction, class, mode, pseudo, size};

use Register::{R10, Rax, Rbp, Rdi, Rdx, Rsi};

/// The number of `bpf_map_lookup_elem`.
const MAP_LOOKUP_ELEM: u32 = 1;

impl Compiler<'_> {
    pub fn compile_call(&mut self, at: usize, instruction: Instruction) -> Result<(), CompileError> {
        match (instruction.src, instruction.imm as u32) {
            (pseudo::CALL, _) => self.call_function(at)?,
            (0, TAIL_CALL) => {
                self.call_engine(at, entry::tail_call as *const () as u64, true);
                self.leave_if_told();
                return Ok(());
            }
            (0, id) => match (id == MAP_LOOKUP_ELEM).then(|| self.known_array(at)).flatten() {
                Some(array) => self.look_up(array),
                None => {
                    let helper = (self.target.helpers)(id).ok_or(CompileError::Helper {
                        instruction: at,
                        helper: id,
                    })?;
                    self.call_engine(at, helper.function as *const () as u64, helper.calls_back);
                }
            },
            _ => return Err(CompileError::Call { instruction: at }),
        }
        let end = self.code.functions[self.function].end;
        self.forget_arguments(self.flow.read_after_call(self.code, at, end));
        Ok(())
    }

    /// The legacy packet loads.
    pub fn compile_packet_load(&mut self, at: usize, instruction: Instruction) -> bool {
        let len = size::octets(instruction.opcode);
        if len == 8 {
            return false;
        }
        match instruction.opcode & 0xe0 {
            mode::IND => {
                self.assembler.mov(Size::Dword, Rsi, native(instruction.src));
                self.assembler
                    .arithmetic_immediate(Arithmetic::Add, Size::Dword, Rsi, instruction.imm);
            }
            _ => self
                .assembler
                .mov_immediate(Rsi, u64::from(instruction.imm as u32)),
        }
        self.assembler.mov_immediate(Rdx, len.into());
        self.call_engine(at, entry::load_packet as *const () as u64, false);
        self.leave_if_told();
        true
    }

    /// Calls a function of the engine with the machine and r1 to r5.
    fn call_engine(&mut self, at: usize, address: u64, frame: bool) {
        self.assembler
            .store_immediate(Size::Dword, Memory::Machine(INSTRUCTION), at as i32);
        if frame {
            self.assembler.mov(Size::Dword, Memory::Machine(FRAME), Rbp);
        }
        self.assembler.mov_address(Rax, address);
        self.assembler.call_rax();
        self.assembler.load(Size::Qword, Rdi, Memory::Top);
        self.assembler
            .arithmetic_immediate(Arithmetic::Cmp, Size::Dword, Memory::Machine(STOPPED), 0);
        self.assembler.jump_if(Condition::NotEqual, self.abort);
        self.output.callees.push(address);
        self.held = None;
    }

    /// Returns from the function if what was called says so.
    fn leave_if_told(&mut self) {
        self.forget_arguments(Registers::CALL);
        let stay = self.assembler.label();
        self.assembler
            .arithmetic_immediate(Arithmetic::Cmp, Size::Dword, Memory::Machine(SCRATCH), 0);
        self.assembler.jump_if(Condition::Equal, stay);
        self.leave();
        self.assembler.bind(stay);
    }

    /// Calls a function of the program with the next stack frame.
    fn call_function(&mut self, at: usize) -> Result<(), CompileError> {
        let callee = callee(self.code, at).ok_or(CompileError::Call { instruction: at })?;
        let deep = self.stop(Stop::CallDepth, at);
        self.assembler
            .arithmetic_immediate(Arithmetic::Sub, Size::Dword, Rbp, FRAME_LEN as i32);
        self.assembler
            .arithmetic_immediate(Arithmetic::Cmp, Size::Dword, Rbp, STACK as i32);
        self.assembler.jump_if(Condition::BelowOrEqual, deep);
        self.assembler.call(self.entries[callee]);
        self.assembler
            .arithmetic_immediate(Arithmetic::Add, Size::Dword, Rbp, FRAME_LEN as i32);
        self.held = None;
        Ok(())
    }

    /// Zeroes r1 to r5, as far as anybody looks.
    fn forget_arguments(&mut self, read: Registers) {
        for register in (1..=5).filter(|register| read.contains(*register)) {
            self.write_immediate(register, 0);
        }
    }

    /// The array that r1 is at a call, if the instructions right before say so.
    fn known_array(&self, call: usize) -> Option<ArrayLayout> {
        let start = self.code.functions[self.function].start;
        let mut at = call;
        while at > start && !self.flow.steps[at].target {
            at -= if self.flow.steps[at - 1].second_half { 2 } else { 1 };
            let instruction = *self.code.instructions.get(at)?;
            if instruction.is_wide() && instruction.dst == 1 {
                return (instruction.src == pseudo::MAP)
                    .then(|| self.target.maps.array_layout(u64::from(instruction.imm as u32)))
                    .flatten()
                    .filter(in_window);
            }
            let calls = matches!(instruction.class(), class::JMP | class::JMP32);
            let packet = instruction.class() == class::LD && !instruction.is_wide();
            if calls || packet || writes(instruction).contains(1) {
                return None;
            }
        }
        None
    }

    /// Looks an element of an array up: nothing but its index is in memory.
    fn look_up(&mut self, array: ArrayLayout) {
        let done = self.assembler.label();
        let key = self.window(Rdx, 0);
        self.assembler.load(Size::Dword, R10, key);
        self.assembler.mov_immediate(Rax, 0);
        self.assembler
            .arithmetic_immediate(Arithmetic::Cmp, Size::Dword, R10, array.len as i32);
        self.assembler.jump_if(Condition::AboveOrEqual, done);
        self.assembler
            .multiply_immediate(Size::Dword, Rax, R10, array.stride as i32);
        self.assembler
            .arithmetic_immediate(Arithmetic::Add, Size::Dword, Rax, array.start as i32);
        self.assembler.bind(done);
        self.held = None;
    }
}

/// Whether all of an array lies in a window.
fn in_window(array: &ArrayLayout) -> bool {
    u64::from(array.start) + u64::from(array.stride) * u64::from(array.len) <= WINDOW_LEN as u64
}
