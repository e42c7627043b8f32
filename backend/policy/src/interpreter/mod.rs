//! The interpreter: the engine on processors without a compiler, and the reference for the one with.

mod access;
mod steps;

use crate::atomic;
use crate::fault::FaultKind;
use crate::layout::{CONTEXT, FRAME_LEN, FRAMES_MAX, STACK};
use crate::machine::{Machine, Stopped};
use crate::{Errno, Program};

use access::{atomic32, atomic64, effective, load, store};
use steps::{Operand, Operation::*};

pub(crate) use steps::Steps;

/// Watches a run.
pub trait Tracer {
    /// Whether it does at all.
    const WATCHES: bool = true;

    /// An instruction is about to run.
    fn step(&mut self, _program: &Program, _instruction: usize, _registers: &[u64; 11]) {}

    /// A helper has returned.
    fn helper(&mut self, _id: u32, _arguments: [u64; 5], _result: u64) {}

    /// The run goes on in another program.
    fn tail_call(&mut self, _to: &Program) {}
}

/// Watches nothing.
#[derive(Debug)]
pub struct NoTracer;

impl Tracer for NoTracer {
    const WATCHES: bool = false;
}

/// Registers r0 to r10, and behind them the immediate of the current step.
type Registers = [u64; Operand::COUNT];

/// Where a function goes on when the one that it called has returned.
struct Caller<'p> {
    program: &'p Program,
    step: usize,
    /// r6 to r10.
    saved: [u64; 5],
}

/// Runs a function; `frame` is its r10. See [`Machine`] for what stands around a run.
pub(crate) fn call<T: Tracer>(
    machine: &mut Machine,
    program: &Program,
    function: usize,
    arguments: [u64; 5],
    frame: u32,
    tracer: &mut T,
) -> Result<u64, Stopped> {
    let mut registers: Registers = [0; Operand::COUNT];
    registers[1..6].copy_from_slice(&arguments);
    registers[10] = u64::from(frame);
    let entry = program.code.steps.entry(function);
    run(machine, program, entry, &mut registers, tracer)
}

fn run<'p, T: Tracer>(
    machine: &mut Machine,
    program: &'p Program,
    entry: usize,
    r: &mut Registers,
    tracer: &mut T,
) -> Result<u64, Stopped> {
    let mut program = program;
    let mut callers: [Option<Caller<'p>>; FRAMES_MAX as usize] = [const { None }; FRAMES_MAX as usize];
    let mut depth = 0;
    let mut steps = program.code.steps.as_ptr();
    let mut next = entry;
    loop {
        // SAFETY: `next` is an entry, a target, or behind a step that is not the last: an index (`Steps`).
        let step = unsafe { *steps.add(next) };
        next += 1;
        let dst = step.dst as usize;
        r[Operand::Immediate as usize] = step.immediate;

        /// Where the current step's instruction is.
        macro_rules! here {
            () => {
                program.code.steps.instruction(next - 1)
            };
        }
        /// Stops the run at the current instruction.
        macro_rules! stop {
            ($kind:expr) => {{
                machine.words.instruction = here!();
                return Err(machine.stop($kind));
            }};
        }
        /// The value, or stops the run.
        macro_rules! access {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(kind) => stop!(kind),
                }
            };
        }
        macro_rules! alu64 {
            (|$a:pat_param, $b:pat_param| $result:expr) => {{
                let ($a, $b) = (r[dst], r[step.src as usize]);
                r[dst] = $result;
            }};
        }
        // RFC 9669, 4.1: operations of 32 bits clear the upper half.
        macro_rules! alu32 {
            (|$a:pat_param, $b:pat_param| $result:expr) => {{
                let ($a, $b) = (r[dst] as u32, r[step.src as usize] as u32);
                let result: u32 = $result;
                r[dst] = u64::from(result);
            }};
        }
        macro_rules! jump {
            ($type:ty, |$a:ident, $b:ident| $condition:expr) => {{
                let ($a, $b) = (r[dst] as $type, r[step.src as usize] as $type);
                if $condition {
                    next = step.offset as usize;
                }
            }};
        }
        macro_rules! load {
            ($type:ty, $signed:ty) => {{
                let address = effective(r[step.src as usize], step.offset);
                r[dst] = access!(load::<$type>(machine, address)) as $signed as u64;
            }};
        }
        macro_rules! store {
            ($type:ty) => {{
                let address = effective(r[dst], step.offset);
                access!(store(machine, address, r[step.src as usize] as $type));
            }};
        }
        /// Returns to the caller, or from the run.
        macro_rules! leave {
            () => {
                match depth.checked_sub(1).and_then(|depth| callers[depth].take()) {
                    None => return Ok(r[0]),
                    Some(caller) => {
                        depth -= 1;
                        (program, next) = caller.resume(machine, r);
                        steps = program.code.steps.as_ptr();
                    }
                }
            };
        }
        macro_rules! atomic {
            ($function:ident, $type:ty) => {{
                let address = effective(r[dst], step.offset);
                let operation = step.immediate as i32;
                let operand = r[step.src as usize] as $type;
                let before = access!($function(
                    machine,
                    address,
                    operation,
                    operand,
                    r[0] as $type
                ));
                match before {
                    Some(before) if operation == atomic::CMPXCHG => r[0] = u64::from(before),
                    Some(before) => r[step.src as usize] = u64::from(before),
                    None => (),
                }
            }};
        }

        if T::WATCHES && !matches!(step.operation, Charge) {
            let registers = r.first_chunk().unwrap_or(&[0; 11]);
            tracer.step(program, here!() as usize, registers);
        }

        match step.operation {
            Add64 => alu64!(|a, b| a.wrapping_add(b)),
            Sub64 => alu64!(|a, b| a.wrapping_sub(b)),
            Mul64 => alu64!(|a, b| a.wrapping_mul(b)),
            // RFC 9669, 4.1: division by zero gives zero, modulo by zero the dividend.
            Div64 => alu64!(|a, b| a.checked_div(b).unwrap_or(0)),
            Or64 => alu64!(|a, b| a | b),
            And64 => alu64!(|a, b| a & b),
            Lsh64 => alu64!(|a, b| a.wrapping_shl(b as u32)),
            Rsh64 => alu64!(|a, b| a.wrapping_shr(b as u32)),
            Mod64 => alu64!(|a, b| a.checked_rem(b).unwrap_or(a)),
            Xor64 => alu64!(|a, b| a ^ b),
            Mov64 => alu64!(|_, b| b),
            Arsh64 => alu64!(|a, b| (a as i64).wrapping_shr(b as u32) as u64),
            // RFC 9669, 4.1: the least number divided by -1 is itself, modulo -1 it is zero.
            Sdiv64 => alu64!(|a, b| if b == 0 {
                0
            } else {
                (a as i64).wrapping_div(b as i64) as u64
            }),
            Smod64 => alu64!(|a, b| if b == 0 {
                a
            } else {
                (a as i64).wrapping_rem(b as i64) as u64
            }),
            Neg64 => alu64!(|a, _| a.wrapping_neg()),
            Add32 => alu32!(|a, b| a.wrapping_add(b)),
            Sub32 => alu32!(|a, b| a.wrapping_sub(b)),
            Mul32 => alu32!(|a, b| a.wrapping_mul(b)),
            Div32 => alu32!(|a, b| a.checked_div(b).unwrap_or(0)),
            Or32 => alu32!(|a, b| a | b),
            And32 => alu32!(|a, b| a & b),
            Lsh32 => alu32!(|a, b| a.wrapping_shl(b)),
            Rsh32 => alu32!(|a, b| a.wrapping_shr(b)),
            Mod32 => alu32!(|a, b| a.checked_rem(b).unwrap_or(a)),
            Xor32 => alu32!(|a, b| a ^ b),
            Mov32 => alu32!(|_, b| b),
            Arsh32 => alu32!(|a, b| (a as i32).wrapping_shr(b) as u32),
            Sdiv32 => alu32!(|a, b| if b == 0 {
                0
            } else {
                (a as i32).wrapping_div(b as i32) as u32
            }),
            Smod32 => alu32!(|a, b| if b == 0 {
                a
            } else {
                (a as i32).wrapping_rem(b as i32) as u32
            }),
            Neg32 => alu32!(|a, _| a.wrapping_neg()),
            Mov64From8 => alu64!(|_, b| b as i8 as u64),
            Mov64From16 => alu64!(|_, b| b as i16 as u64),
            Mov64From32 => alu64!(|_, b| b as i32 as u64),
            Mov32From8 => alu32!(|_, b| b as i8 as u32),
            Mov32From16 => alu32!(|_, b| b as i16 as u32),
            Low16 => alu64!(|a, _| u64::from(a as u16)),
            Swap16 => alu64!(|a, _| u64::from((a as u16).swap_bytes())),
            Swap32 => alu64!(|a, _| u64::from((a as u32).swap_bytes())),
            Swap64 => alu64!(|a, _| a.swap_bytes()),

            Jump => next = step.offset as usize,
            Jeq64 => jump!(u64, |a, b| a == b),
            Jgt64 => jump!(u64, |a, b| a > b),
            Jge64 => jump!(u64, |a, b| a >= b),
            Jset64 => jump!(u64, |a, b| a & b != 0),
            Jne64 => jump!(u64, |a, b| a != b),
            Jsgt64 => jump!(i64, |a, b| a > b),
            Jsge64 => jump!(i64, |a, b| a >= b),
            Jlt64 => jump!(u64, |a, b| a < b),
            Jle64 => jump!(u64, |a, b| a <= b),
            Jslt64 => jump!(i64, |a, b| a < b),
            Jsle64 => jump!(i64, |a, b| a <= b),
            Jeq32 => jump!(u32, |a, b| a == b),
            Jgt32 => jump!(u32, |a, b| a > b),
            Jge32 => jump!(u32, |a, b| a >= b),
            Jset32 => jump!(u32, |a, b| a & b != 0),
            Jne32 => jump!(u32, |a, b| a != b),
            Jsgt32 => jump!(i32, |a, b| a > b),
            Jsge32 => jump!(i32, |a, b| a >= b),
            Jlt32 => jump!(u32, |a, b| a < b),
            Jle32 => jump!(u32, |a, b| a <= b),
            Jslt32 => jump!(i32, |a, b| a < b),
            Jsle32 => jump!(i32, |a, b| a <= b),

            Load8 => load!(u8, u8),
            Load16 => load!(u16, u16),
            Load32 => load!(u32, u32),
            Load64 => load!(u64, u64),
            LoadSigned8 => load!(u8, i8),
            LoadSigned16 => load!(u16, i16),
            LoadSigned32 => load!(u32, i32),
            Store8 => store!(u8),
            Store16 => store!(u16),
            Store32 => store!(u32),
            Store64 => store!(u64),
            Atomic32 => atomic!(atomic32, u32),
            Atomic64 => atomic!(atomic64, u64),

            Charge => {
                machine.words.fuel = machine.words.fuel.saturating_sub_unsigned(step.immediate);
                if machine.words.fuel < 0 {
                    stop!(FaultKind::Fuel);
                }
            }
            CallHelper => {
                let Some(helper) = program.code.steps.helper(step.immediate) else {
                    stop!(UNCHECKED);
                };
                machine.words.instruction = here!();
                if helper.calls_back {
                    machine.words.frame = r[10] as u32;
                }
                let [_, r1, r2, r3, r4, r5, ..] = *r;
                r[0] = (helper.function)(machine, r1, r2, r3, r4, r5);
                if machine.words.stopped != 0 {
                    return Err(Stopped);
                }
                tracer.helper(helper.id, [r1, r2, r3, r4, r5], r[0]);
                r[1..6].fill(0);
            }
            TailCall => {
                machine.words.instruction = here!();
                match machine.tail_call(r[2], r[3]) {
                    Some(target) => {
                        tracer.tail_call(target);
                        program = target;
                        steps = program.code.steps.as_ptr();
                        next = program.code.steps.entry(0);
                        r[..10].fill(0);
                        r[1] = u64::from(CONTEXT);
                    }
                    None => {
                        r[0] = Errno::ENOENT.to_register();
                        r[1..6].fill(0);
                    }
                }
            }
            Call => {
                let frame = (r[10] as u32).saturating_sub(FRAME_LEN);
                let caller = callers.get_mut(depth).filter(|_| frame > STACK);
                let Some(caller) = caller else {
                    stop!(FaultKind::CallDepth);
                };
                let [.., r6, r7, r8, r9, r10, _] = *r;
                *caller = Some(Caller {
                    program,
                    step: next,
                    saved: [r6, r7, r8, r9, r10],
                });
                depth += 1;
                r[10] = u64::from(frame);
                next = step.offset as usize;
            }
            LoadAbsolute | LoadIndirect => {
                let indirect = matches!(step.operation, LoadIndirect);
                let start = if indirect { r[step.src as usize] } else { 0 };
                let offset = (start as i32).wrapping_add(step.immediate as i32);
                let loaded = load_packet(machine, offset, step.size);
                r[0] = loaded.unwrap_or(0);
                r[1..6].fill(0);
                if loaded.is_none() {
                    // RFC 9669, 5.6 leaves it open; filter.c: bpf_gen_ld_abs returns 0 from the function.
                    leave!();
                }
            }
            Exit => leave!(),
            Invalid => stop!(UNCHECKED),
        }
    }
}

/// Out of line, or what it reads would be read in front of each step.
#[inline(never)]
fn load_packet(machine: &Machine, offset: i32, len: u8) -> Option<u64> {
    machine.load_packet(offset, len)
}

/// What happens to code that nobody checked.
const UNCHECKED: FaultKind = FaultKind::Access { address: 0 };

impl<'p> Caller<'p> {
    /// Restores what the callee may have changed, and says where to go on.
    fn resume(self, machine: &mut Machine, r: &mut Registers) -> (&'p Program, usize) {
        r[1..6].fill(0);
        r[6..11].copy_from_slice(&self.saved);
        // The callee may have ended in a program that it tail called.
        machine.program = self.program;
        (self.program, self.step)
    }
}
