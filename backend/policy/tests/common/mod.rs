//! What the engine's tests share: both engines behind one function, an assembler, a generator, and the host's kernel.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod assembler;
pub mod compile;
pub mod frames;
pub mod generate;
pub mod helper_units;
pub mod host;
pub mod kernel;
pub mod objects;
pub mod sides;

use std::sync::Arc;

use policy::check::{self, CheckError, Rules};
use policy::code::{Code, Function};
use policy::disassemble::{self, NoNames};
use policy::machine::Packet;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Domain, Fault, Instruction, Program, jit};

/// An engine that runs programs.
#[derive(Clone, Copy)]
pub struct Engine {
    pub name: &'static str,
    compile: fn(&Code) -> Option<jit::Compiled>,
}

/// Every engine that there is on this machine.
pub fn engines() -> Vec<Engine> {
    let interpreter = Engine {
        name: "interpreter",
        compile: |_| None,
    };
    let compiler = Engine {
        name: "compiler",
        compile: |code| Some(jit::compile(code, &jit::NoMaps).expect("checked code can be compiled")),
    };
    match cfg!(target_arch = "x86_64") {
        true => vec![interpreter, compiler],
        false => vec![interpreter],
    }
}

/// Allows every helper and map.
pub struct Everything;

impl Rules for Everything {
    fn helper(&self, _id: u32) -> Result<(), String> {
        Ok(())
    }

    fn maps(&self) -> usize {
        usize::MAX
    }
}

/// One function of all the instructions.
pub fn one_function(instructions: &[Instruction]) -> Vec<Function> {
    functions(&[0, instructions.len()])
}

/// Functions that start at all the places but the last, where the program ends.
pub fn functions(starts: &[usize]) -> Vec<Function> {
    let function = |(number, ends): (usize, &[usize])| Function {
        name: format!("f{number}"),
        start: ends[0],
        end: ends[1],
    };
    starts.windows(2).enumerate().map(function).collect()
}

pub fn check_all(instructions: &[Instruction], functions: &[Function]) -> Result<(), CheckError> {
    check::check(instructions, functions, &Everything)
}

/// A domain for programs of this thread, made once.
pub fn domain() -> Arc<Domain> {
    thread_local! {
        static DOMAIN: Arc<Domain> = Arc::new(Domain::new(1, None).expect("there is memory for a window"));
    }
    DOMAIN.with(Arc::clone)
}

/// A program that has been checked, for an engine.
pub fn program(engine: Engine, instructions: &[Instruction], functions: &[Function]) -> Program {
    if let Err(error) = check_all(instructions, functions) {
        panic!("{error}");
    }
    unchecked_program(engine, instructions, functions)
}

pub fn unchecked_program(engine: Engine, instructions: &[Instruction], functions: &[Function]) -> Program {
    let code = Code::new(instructions.into(), functions.into(), Box::new([]));
    let compiled = (engine.compile)(&code);
    Program {
        name: "test".to_owned(),
        ..Program::anonymous(code, compiled, domain())
    }
}

/// The program as text, for messages.
pub fn listing(program: &Program) -> String {
    let lines = (0..program.code.instructions.len()).map(|index| {
        format!(
            "{index:4}: {}\n",
            disassemble::line(&program.code, index, &NoNames)
        )
    });
    lines.collect()
}

/// Runs a program on octets: r1 is their address, r2 their number.
pub fn run_on_octets(program: &Program, octets: &mut Vec<u8>) -> Result<u64, Fault> {
    let mut packet = Packet {
        metadata: Metadata::default(),
        octets,
        environment: &mut NoEnvironment,
    };
    // SAFETY: the domain is this thread's.
    unsafe { program.run_on_octets(0, &mut packet) }
}

/// Runs a program on a frame.
pub fn run(program: &Program, octets: &mut Vec<u8>, metadata: &mut Metadata) -> Result<u32, Fault> {
    let mut packet = Packet {
        metadata: *metadata,
        octets,
        environment: &mut NoEnvironment,
    };
    // SAFETY: the domain is this thread's.
    let result = unsafe { program.run(0, &mut packet) };
    *metadata = packet.metadata;
    result
}

/// Runs instructions without memory in each engine and has the results looked at.
pub fn evaluate(instructions: &[Instruction], mut look: impl FnMut(&str, Result<u64, Fault>)) {
    for engine in engines() {
        let program = program(engine, instructions, &one_function(instructions));
        look(engine.name, run_on_octets(&program, &mut vec![0; 64]));
    }
}

/// Says that a test could not be run here, also to the file that `NETKIT_NOT_RUN` names.
pub fn not_run(name: &str, why: &str) {
    use std::io::Write;
    let line = format!("NOT RUN: {name}: {why}\n");
    // Not with eprintln, whose output cargo shows of failed tests only.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file of NETKIT_NOT_RUN can be written");
    }
}
