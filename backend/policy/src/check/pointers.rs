//! Finds accesses to the context, and has those reported that the kernel would refuse.
//!
//! A light data-flow pass follows the pointer that programs get in r1 through moves, additions of constants, spills and
//! calls. What it loses sight of is not checked: this is for those who write programs, not for safety. The context lies
//! in the window, where no access can do harm.

use std::collections::HashMap;

use crate::{Instruction, alu, class, mode, opcode, pseudo, size, source};

use super::flow::falls_through;
use super::{Found, Problem, context};

/// What is known of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Value {
    /// Anything but a pointer to the stack.
    #[default]
    Unknown,
    /// Perhaps a pointer to somewhere on the stack.
    Stack,
    /// The context's address plus an offset.
    Context(i16),
    /// r10 plus an offset.
    Frame(i16),
}

use Value::*;

impl Value {
    fn join(self, other: Value) -> Value {
        match (self, other) {
            _ if self == other => self,
            (Stack | Frame(_), _) | (_, Stack | Frame(_)) => Stack,
            _ => Unknown,
        }
    }

    fn add(self, distance: i64) -> Value {
        let sum = |offset: i16| i16::try_from(i64::from(offset) + distance).ok();
        match self {
            Context(offset) => sum(offset).map_or(Unknown, Context),
            Frame(offset) => sum(offset).map_or(Stack, Frame),
            other => other,
        }
    }

    /// What is left of it after arithmetic that is not followed.
    fn blur(self) -> Value {
        match self {
            Stack | Frame(_) => Stack,
            Unknown | Context(_) => Unknown,
        }
    }
}

/// A context pointer in the function's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spill {
    /// Where, from r10.
    slot: i16,
    /// The pointer's offset in the context.
    offset: i16,
}

/// What is known in front of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    registers: [Value; 11],
    /// The first few spilled context pointers; others are not followed.
    spills: [Option<Spill>; 4],
}

impl State {
    /// At the start of a function.
    fn entry(arguments: [Value; 5]) -> State {
        let mut registers = [Unknown; 11];
        registers[1..6].copy_from_slice(&arguments);
        registers[10] = Frame(0);
        State {
            registers,
            spills: [None; 4],
        }
    }

    /// Knows nothing any more.
    fn forget_all(&mut self) {
        self.registers[..10].fill(Stack);
        self.spills = [None; 4];
    }

    fn get(&self, register: u8) -> Value {
        self.registers
            .get(usize::from(register))
            .copied()
            .unwrap_or(Stack)
    }

    fn set(&mut self, register: u8, value: Value) {
        if let Some(known) = self.registers[..10].get_mut(usize::from(register)) {
            *known = value;
        }
    }

    fn join(&mut self, other: &State) {
        for (value, other) in self.registers.iter_mut().zip(other.registers) {
            *value = value.join(other);
        }
        for spill in &mut self.spills {
            *spill = spill.filter(|spill| other.spills.contains(&Some(*spill)));
        }
    }

    /// Octets of the frame from `start` on have been written.
    fn overwrite(&mut self, start: i64, len: i64) {
        for spill in &mut self.spills {
            *spill = spill.filter(|spill| {
                let slot = i64::from(spill.slot);
                slot + 8 <= start || start.saturating_add(len) <= slot
            });
        }
    }

    fn arguments(&self) -> [Value; 5] {
        let [_, r1, r2, r3, r4, r5, ..] = self.registers;
        [r1, r2, r3, r4, r5]
    }

    /// Runs an instruction that goes on to the next one.
    fn apply(&mut self, instruction: Instruction, calls_back: bool) {
        let Instruction { dst, src, .. } = instruction;
        match instruction.class() {
            class::ALU64 => self.arithmetic(instruction),
            class::ALU => self.set(dst, self.get(dst).join(self.get(src)).blur()),
            class::LDX => {
                let loaded = self.loaded(instruction);
                self.set(dst, loaded);
            }
            class::ST => self.store(instruction, Unknown),
            class::STX if instruction.opcode & 0xe0 == mode::ATOMIC => {
                self.store(instruction, Unknown);
                let fetched = if self.get(dst) == Unknown { Unknown } else { Stack };
                self.set(src, fetched);
                self.set(0, fetched);
            }
            class::STX => self.store(instruction, self.get(src)),
            class::LD if instruction.is_wide() => self.set(dst, Unknown),
            class::LD => self.registers[..6].fill(Unknown),
            _ if instruction.opcode == opcode::CALL => self.call(instruction, calls_back),
            _ => (),
        }
    }

    fn arithmetic(&mut self, instruction: Instruction) {
        let Instruction {
            dst,
            src,
            offset,
            imm,
            ..
        } = instruction;
        let register = instruction.opcode & source::X != 0;
        let result = match instruction.opcode & 0xf0 {
            alu::MOV if !register => Unknown,
            alu::MOV if offset == 0 => self.get(src),
            alu::ADD if !register => self.get(dst).add(i64::from(imm)),
            alu::SUB if !register => self.get(dst).add(-i64::from(imm)),
            _ if register => self.get(dst).join(self.get(src)).blur(),
            _ => self.get(dst).blur(),
        };
        self.set(dst, result);
    }

    fn loaded(&self, instruction: Instruction) -> Value {
        match self.get(instruction.src) {
            Frame(base) => {
                let slot = i64::from(base) + i64::from(instruction.offset);
                let whole = instruction.opcode & size::DW == size::DW;
                let mut spills = self.spills.iter().flatten();
                let spill = spills.find(|spill| whole && i64::from(spill.slot) == slot);
                spill.map_or(Stack, |spill| Context(spill.offset))
            }
            // A pointer to the stack may have been spilled there.
            Stack => Stack,
            _ => Unknown,
        }
    }

    fn store(&mut self, instruction: Instruction, value: Value) {
        match self.get(instruction.dst) {
            Stack => self.spills = [None; 4],
            Frame(base) => {
                let start = i64::from(base) + i64::from(instruction.offset);
                self.overwrite(start, i64::from(size::octets(instruction.opcode)));
                let whole = instruction.opcode & size::DW == size::DW;
                let vacant = self.spills.iter_mut().find(|spill| spill.is_none());
                if let (Context(offset), true, Some(vacant), Ok(slot)) =
                    (value, whole, vacant, i16::try_from(start))
                {
                    *vacant = Some(Spill { slot, offset });
                }
            }
            _ => (),
        }
    }

    fn call(&mut self, instruction: Instruction, calls_back: bool) {
        let arguments = self.arguments();
        // A function of the program may write anywhere on the stack that it can reach.
        let anywhere = instruction.is_local_call() || calls_back;
        for argument in arguments {
            match argument {
                Frame(base) if !anywhere => self.overwrite(i64::from(base), i64::MAX),
                Stack | Frame(_) => self.spills = [None; 4],
                _ => (),
            }
        }
        self.registers[..6].fill(Unknown);
    }
}

/// How often an instruction is looked at before all that is known there is given up, which bounds the work.
const VISITS_MAX: u8 = 16;

/// A place where control comes together, with what is known there.
#[derive(Debug)]
struct Place {
    state: State,
    visits: u8,
}

struct Pass<'c> {
    instructions: &'c [Instruction],
    /// Whether helpers may call functions of the program.
    calls_back: bool,
    /// Where jumps and calls lead.
    is_target: Vec<bool>,
    places: HashMap<usize, Place>,
    pending: Vec<usize>,
}

/// Checks the context accesses of a program that is sound otherwise.
pub(super) fn check(instructions: &[Instruction]) -> Result<(), Found> {
    let mut is_target = vec![false; instructions.len()];
    for (index, instruction) in instructions.iter().enumerate() {
        let targets = [instruction.jump_target(index), instruction.function_target(index)];
        for target in targets.into_iter().flatten() {
            if let Some(is_target) = is_target.get_mut(target) {
                *is_target = true;
            }
        }
    }
    let names_function =
        |instruction: &Instruction| instruction.is_wide() && instruction.src == pseudo::FUNCTION;
    let mut pass = Pass {
        instructions,
        calls_back: instructions.iter().any(names_function),
        is_target,
        places: HashMap::new(),
        pending: Vec::new(),
    };
    let start = State::entry([Context(0), Unknown, Unknown, Unknown, Unknown]);
    pass.arrive(0, &start);
    while let Some(index) = pass.pending.pop() {
        pass.walk(index);
    }
    pass.report()
}

impl Pass<'_> {
    /// Control gets to a place with what is known.
    fn arrive(&mut self, index: usize, state: &State) {
        let Some(place) = self.places.get_mut(&index) else {
            let state = state.clone();
            self.places.insert(index, Place { state, visits: 1 });
            self.pending.push(index);
            return;
        };
        let mut joined = place.state.clone();
        joined.join(state);
        if joined == place.state {
            return;
        }
        place.visits = place.visits.saturating_add(1);
        if place.visits >= VISITS_MAX {
            joined.forget_all();
        }
        place.state = joined;
        self.pending.push(index);
    }

    /// Follows control from a place to where it comes together with other control.
    fn walk(&mut self, start: usize) {
        let Some(place) = self.places.get(&start) else {
            return;
        };
        let mut state = place.state.clone();
        let mut index = start;
        while let Some(instruction) = self.instructions.get(index).copied() {
            if let Some(target) = instruction.jump_target(index) {
                self.arrive(target, &state);
            }
            if let Some(target) = instruction.function_target(index) {
                let arguments = match instruction.is_local_call() {
                    // A frame of the caller is not the callee's.
                    true => state.arguments().map(|value| match value {
                        Frame(_) => Stack,
                        value => value,
                    }),
                    false => [Stack; 5],
                };
                self.arrive(target, &State::entry(arguments));
            }
            if !falls_through(instruction) {
                return;
            }
            state.apply(instruction, self.calls_back);
            index += if instruction.is_wide() { 2 } else { 1 };
            if self.is_target.get(index) == Some(&true) {
                self.arrive(index, &state);
                return;
            }
        }
    }

    /// Checks each access with what is known of it in the end.
    fn report(&self) -> Result<(), Found> {
        let mut known: Option<State> = None;
        for (index, instruction) in self.instructions.iter().enumerate() {
            if let Some(place) = self.places.get(&index) {
                known = Some(place.state.clone());
            }
            let Some(state) = &mut known else { continue };
            let base = match instruction.class() {
                class::LDX => state.get(instruction.src),
                class::ST | class::STX => state.get(instruction.dst),
                _ => Unknown,
            };
            if let Context(base) = base {
                let offset = i32::from(base) + i32::from(instruction.offset);
                context::check(*instruction, offset).map_err(|denied| (index, Problem::Context(denied)))?;
            }
            if falls_through(*instruction) {
                state.apply(*instruction, self.calls_back);
            } else {
                known = None;
            }
        }
        Ok(())
    }
}
