//! A plugin of the bpf_conformance suite: runs the program on standard input and prints what r0 is in the end.
//!
//! Usage: `bpf-conformance-plugin [MEMORY] [--interpreter] [--program HEX] [--elf]`. The program is hexadecimal text;
//! so is the memory, whose address is in r1 and whose length in r2. `--elf` is refused: the suite then sends plain
//! instructions.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use policy::check::{self, Rules};
use policy::code::{Code, Function};
use policy::machine::Packet;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Domain, Instruction, Program, jit, opcode};

/// Instructions that a test may take.
const FUEL: i64 = 1 << 30;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(result) => {
            println!("{result:x}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The rules of programs that get octets, and call none but their own functions.
struct OnOctets;

impl Rules for OnOctets {
    fn helper(&self, id: u32) -> Result<(), String> {
        Err(format!("helper {id} is not available to conformance tests"))
    }

    fn maps(&self) -> usize {
        0
    }

    fn takes_context(&self) -> bool {
        false
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Options {
    memory: Vec<u8>,
    interpreter: bool,
    program: Option<String>,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--interpreter" => options.interpreter = true,
            "--program" => options.program = Some(arguments.next().ok_or("--program needs a program")?),
            "--elf" => return Err("object files are not taken here, only instructions".to_owned()),
            _ => options.memory = from_hexadecimal(&argument)?,
        }
    }
    Ok(options)
}

fn run(arguments: impl Iterator<Item = String>) -> Result<u64, String> {
    let mut options = parse(arguments)?;
    let text = match options.program.take() {
        Some(text) => text,
        None => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| format!("cannot read the program: {error}"))?;
            text
        }
    };
    let octets = from_hexadecimal(&text)?;
    let instructions = Instruction::decode_all(&octets)
        .ok_or_else(|| format!("{} octets are no whole number of instructions", octets.len()))?;
    let functions = functions(&instructions);
    check::check(&instructions, &functions, &OnOctets).map_err(|error| error.to_string())?;
    let code = Code::new(instructions.into(), functions.into(), Box::new([]));
    let domain = Domain::new(1, None).map_err(|error| error.to_string())?;
    let compiled = compile(&code, options.interpreter);
    let program = Program {
        name: "conformance".to_owned(),
        fuel: FUEL,
        ..Program::anonymous(code, compiled, Arc::new(domain))
    };
    let mut packet = Packet {
        metadata: Metadata::default(),
        octets: &mut options.memory,
        environment: &mut NoEnvironment,
    };
    // SAFETY: nobody else knows the domain.
    unsafe { program.run_on_octets(0, &mut packet) }.map_err(|fault| fault.to_string())
}

/// Native code unless the interpreter is asked for, or is all there is.
fn compile(code: &Code, interpreter: bool) -> Option<jit::Compiled> {
    match interpreter {
        true => None,
        false => jit::compile(code, &jit::NoMaps).ok(),
    }
}

/// The functions of a program that has no symbols: they start where calls lead to.
fn functions(instructions: &[Instruction]) -> Vec<Function> {
    let target = |(index, instruction): (usize, &Instruction)| match instruction.opcode {
        opcode::CALL => instruction.function_target(index),
        _ => None,
    };
    let inside = |target: &usize| *target < instructions.len();
    let mut starts: Vec<usize> = instructions
        .iter()
        .enumerate()
        .filter_map(target)
        .filter(inside)
        .collect();
    starts.extend([0, instructions.len()]);
    starts.sort_unstable();
    starts.dedup();
    let function = |ends: &[usize]| Function {
        name: format!("function_{}", ends[0]),
        start: ends[0],
        end: ends[1],
    };
    starts.windows(2).map(function).collect()
}

/// Octets written as two digits each; white space does not count.
fn from_hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let digits: Result<Vec<u8>, String> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| match character.to_digit(16) {
            Some(digit) => Ok(digit as u8),
            None => Err(format!("{character:?} is no hexadecimal digit")),
        })
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("octets have two hexadecimal digits".to_owned());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
