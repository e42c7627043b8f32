//! What compiled code promises, on the processor that runs the tests.

use super::compiler::{Output, Target, translate};
use super::{ArrayLayout, CompileError, Compiled, INSTRUCTIONS_MAX, Maps, NoMaps, proof};
use crate::code::{Code, Function};
use crate::fault::FaultKind;
use crate::helper::{Helper, HelperFunction};
use crate::layout::{STACK, STACK_TOP};
use crate::machine::Machine;
use crate::packet::{Metadata, NoEnvironment};
use crate::{
    Domain, Fault, Instruction, Program, alu, atomic, class, jump, mode, opcode, pseudo, size, source,
};
use std::sync::Arc;

mod access;
mod arithmetic;
mod control;
mod proofs;
mod random;

/// An instruction.
fn op(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Instruction {
    Instruction {
        opcode,
        dst,
        src,
        offset,
        imm,
    }
}

fn exit() -> Instruction {
    op(opcode::EXIT, 0, 0, 0, 0)
}

fn mov(dst: u8, imm: i32) -> Instruction {
    op(class::ALU64 | alu::MOV, dst, 0, 0, imm)
}

fn copy(dst: u8, src: u8) -> Instruction {
    op(opcode::MOV64_X, dst, src, 0, 0)
}

fn wide(dst: u8, src: u8, value: u64) -> [Instruction; 2] {
    [
        op(opcode::LDDW, dst, src, 0, value as i32),
        op(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

fn load(size: u8, dst: u8, src: u8, offset: i16) -> Instruction {
    op(class::LDX | mode::MEM | size, dst, src, offset, 0)
}

fn store(size: u8, dst: u8, offset: i16, src: u8) -> Instruction {
    op(class::STX | mode::MEM | size, dst, src, offset, 0)
}

fn helper(id: i32) -> Instruction {
    op(opcode::CALL, 0, 0, 0, id)
}

fn local(distance: i32) -> Instruction {
    op(opcode::CALL, 0, pseudo::CALL, 0, distance)
}

fn code(functions: &[&[Instruction]]) -> Code {
    let mut start = 0;
    let functions_at = functions
        .iter()
        .enumerate()
        .map(|(index, instructions)| {
            let function = Function {
                name: format!("f{index}"),
                start,
                end: start + instructions.len(),
            };
            start = function.end;
            function
        })
        .collect();
    Code::new(functions.concat().into(), functions_at, Box::default())
}

const SUM: i32 = 6;
const CALL_BACK: i32 = 7;
const STOP: i32 = 8;
const DIRTY: i32 = 9;

extern "sysv64" fn sum(_: &mut Machine, a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
    [a, b, c, d, e]
        .iter()
        .fold(0_u64, |sum, n| n.wrapping_add(sum.wrapping_mul(10)))
}

extern "sysv64" fn call_back(machine: &mut Machine, function: u64, a: u64, b: u64, _: u64, _: u64) -> u64 {
    let result = machine.call_back(function, [a, b, 0, 0, 0]).unwrap_or(77);
    // After a stop, too, the machine must be whole.
    assert!(machine.shards() == 1);
    result
}

extern "sysv64" fn stop(machine: &mut Machine, value: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    machine.stop(FaultKind::Argument {
        helper: 8,
        argument: 1,
        value,
        len: 0,
    });
    0
}

/// Leaves something in each register that a function need not preserve.
macro_rules! dirty {
    ($name:ident, $pattern:literal) => {
        #[unsafe(naked)]
        extern "sysv64" fn $name(_: &mut Machine, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
            std::arch::naked_asm!(
                concat!("mov rax, ", $pattern),
                "mov rcx, rax",
                "mov rdx, rax",
                "mov rsi, rax",
                "mov rdi, rax",
                "mov r8, rax",
                "mov r9, rax",
                "mov r10, rax",
                "mov r11, rax",
                "mov eax, 5",
                "ret"
            )
        }
    };
}

dirty!(dirty, "-1");
dirty!(otherwise_dirty, "0x5a5a5a5a");

fn helpers(id: u32) -> Option<&'static Helper> {
    const fn entry(id: i32, function: HelperFunction) -> Helper {
        Helper {
            id: id as u32,
            function,
            calls_back: id == CALL_BACK,
        }
    }
    static HELPERS: [Helper; 4] = [
        entry(SUM, sum),
        entry(CALL_BACK, call_back),
        entry(STOP, stop),
        entry(DIRTY, dirty),
    ];
    HELPERS.iter().find(|helper| helper.id == id)
}

const BMI2: [bool; 2] = [false, true];

fn targets() -> impl Iterator<Item = Target<'static>> {
    let has_bmi2 = std::arch::is_x86_feature_detected!("bmi2");
    BMI2.into_iter()
        .filter(move |bmi2| !bmi2 || has_bmi2)
        .map(|bmi2| Target {
            maps: &NoMaps,
            helpers,
            bmi2,
            isolated: true,
        })
}

fn target() -> Target<'static> {
    targets().last().unwrap()
}

fn compile(code: &Code) -> Compiled {
    Compiled::for_target(code, target()).unwrap()
}

/// A machine to run on.
struct Place(Domain);

impl Place {
    fn new() -> Place {
        Place(Domain::new(1, None).unwrap())
    }

    /// Works with the machine, which has fuel.
    fn with<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        // SAFETY: tests have a place each, and do not nest.
        unsafe {
            self.0.enter(0, |machine| {
                machine.words.fuel = 100_000;
                machine.words.stopped = 0;
                machine.fault = None;
                work(machine)
            })
        }
    }

    fn call(&self, compiled: &Compiled, arguments: [u64; 5]) -> Result<u64, FaultKind> {
        self.with(|machine| {
            compiled
                .call(machine, 0, arguments, STACK_TOP)
                .map_err(|_| machine.fault.expect("a stop has a reason"))
        })
    }

    fn run(&self, code: &Code, arguments: [u64; 5]) -> Result<u64, FaultKind> {
        self.call(&compile(code), arguments)
    }
}

/// A program that runs as a whole.
fn program(code: Code) -> Program {
    let compiled = Compiled::for_target(&code, target()).unwrap();
    Program {
        fuel: 100_000,
        ..Program::anonymous(code, Some(compiled), Arc::new(Domain::new(1, None).unwrap()))
    }
}

fn run(program: &Program, mut frame: Vec<u8>) -> Result<u32, Fault> {
    let mut environment = NoEnvironment;
    let mut packet = crate::machine::Packet {
        metadata: Metadata::default(),
        octets: &mut frame,
        environment: &mut environment,
    };
    // SAFETY: the test has the domain for itself.
    unsafe { program.run(0, &mut packet) }
}
