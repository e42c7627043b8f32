//! What running programs costs, beside what it costs the kernel and what it would cost without isolation.
//!
//! Everything is measured in turns, round by round, on one processor, so that what disturbs the machine disturbs all.
//! A measurement counts only if its thread had the processor nearly all the time.

#[path = "engine/kernel.rs"]
mod kernel;
#[path = "engine/measure.rs"]
mod measure;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use policy::engine::{Config, DEFAULT_FUEL, Engine, LoadOptions};
use policy::interpreter::Tracer;
use policy::machine::Packet;
use policy::object::Object;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Program, QuarantineRule};

use kernel::Kernel;
use measure::{Figure, Row};

/// The flow that the frame belongs to is in a table of this many.
const FLOWS: u32 = 8192;
/// Frames that take turns: none comes again while what was stored in it is still under way to the cache.
const FRAMES: usize = 16;

fn main() {
    // Not when all targets are run as tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let octets = compile().expect("clang makes an object of engine.bpf.c");
    let object = Object::parse(&octets).expect("it can be parsed");
    let ours = Ours::new(&object);
    let kernel = Kernel::new(&object, &flows());
    if let Err(error) = &kernel {
        println!("the kernel is not measured: {error}");
    }
    measure::pin();
    let kernel = kernel.as_ref().ok();
    let mut rows = Vec::new();
    for name in ["empty", "parse", "filter", "octets"] {
        rows.push(ours.row(name, How::Compiled));
        if cfg!(feature = "bench-raw") && name != "empty" {
            rows.push(ours.row(name, How::Unisolated));
        }
        rows.extend(kernel.map(|kernel| kernel.row(name, &frame(name))));
    }
    rows.push(ours.row("octets", How::Interpreter));
    rows.push(ours.row("stray", How::Compiled));
    rows.push(load_row(&octets));
    // As with other benches: only what has one of these words in its name.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    rows.retain(|row| words.is_empty() || words.iter().any(|word| row.name.contains(word)));
    let figures = measure::rounds(&mut rows);
    report(&object, &ours, &figures);
}

/// Prints all figures, and the ratios that matter.
fn report(object: &Object, ours: &Ours, figures: &[Figure]) {
    println!(
        "{}, at {:.2} GHz now\n",
        measure::processor(),
        measure::gigahertz()
    );
    for program in &object.programs {
        println!(
            "{:10} {:5} instructions",
            program.name,
            program.instructions.len()
        );
    }
    println!(
        "\n{:32} {:>10} {:>10} {:>10} {:>6} {:>6}",
        "nanoseconds", "median", "least", "most", "rounds", "CPU"
    );
    for figure in figures {
        println!("{figure}");
    }
    println!();
    let of = |name: &str| {
        let figure = figures.iter().find(|figure| figure.name == name);
        figure.map_or(f64::NAN, Figure::median)
    };
    let instructions = ours.instructions("octets") as f64;
    let kernel = of("filter, kernel") - of("empty, kernel");
    let alone = of("filter, compiled") - of("empty, compiled");
    let isolation = |name: &str| of(&format!("{name}, compiled")) / of(&format!("{name}, without isolation"));
    for (what, value) in [
        ("the kernel's filter less its empty program, ns", kernel),
        (
            "... divided by our filter with all around it",
            kernel / of("filter, compiled"),
        ),
        ("... divided by our filter less our empty program", kernel / alone),
        ("parse, isolated divided by not isolated", isolation("parse")),
        ("filter, isolated divided by not isolated", isolation("filter")),
        ("octets, isolated divided by not isolated", isolation("octets")),
        (
            "the interpreter, ns per instruction",
            of("octets, interpreted") / instructions,
        ),
        (
            "compiled code, ns per instruction of the same",
            of("octets, compiled") / instructions,
        ),
    ] {
        if !value.is_nan() {
            println!("{what:50} {value:8.2}");
        }
    }
}

/// The object of engine.bpf.c.
fn compile() -> std::io::Result<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/engine.bpf.c");
    let directory = tempfile::tempdir()?;
    let object = directory.path().join("engine.o");
    let status = Command::new("clang")
        .args([
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-mcpu=v3",
            "-I/usr/include/x86_64-linux-gnu",
            "-c",
        ])
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status()?;
    if !status.success() {
        return Err(std::io::Error::other("clang fails"));
    }
    std::fs::read(object)
}

/// A TCP segment of 64 octets; for the loop over octets, one of 1514.
fn frame(program: &str) -> Vec<u8> {
    let mut frame = vec![0; if program == "octets" { 1514 } else { 64 }];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[23] = 6;
    frame[26..38].copy_from_slice(&flow(FLOWS / 2)[..12]);
    frame
}

/// Source, destination, ports, protocol: `struct flow`.
fn flow(number: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&(0x0a00_0000 + number).to_be_bytes());
    key[4..8].copy_from_slice(&[10, 255, 0, 1]);
    key[8..10].copy_from_slice(&(1024 + (number % 60_000) as u16).to_be_bytes());
    key[10..12].copy_from_slice(&443_u16.to_be_bytes());
    key[12] = 6;
    key
}

/// All flows with `struct verdict`: the action is TCX_NEXT.
fn flows() -> Vec<([u8; 16], [u8; 24])> {
    let mut verdict = [0; 24];
    verdict[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
    (0..FLOWS).map(|number| (flow(number), verdict)).collect()
}

/// How one of our programs is run.
#[derive(Clone, Copy)]
enum How {
    Compiled,
    Unisolated,
    Interpreter,
}

/// Our engine with the object's programs.
struct Ours {
    programs: Vec<Arc<Program>>,
    _engine: Engine,
}

fn engine() -> Engine {
    Engine::new(Config {
        shards: 2,
        fuel: DEFAULT_FUEL,
        directory: None,
        quarantine: QuarantineRule::default(),
        interpreter_only: false,
    })
}

impl Ours {
    fn new(object: &Object) -> Ours {
        let mut engine = engine();
        let loaded = engine
            .load(object, &LoadOptions::default())
            .expect("the object can be loaded");
        let table = engine.map(loaded.maps[0]).expect("its map is there");
        for (key, value) in flows() {
            table.map.set(&key, &value, 0).expect("there is room");
        }
        assert!(loaded.programs.iter().all(|program| program.compiled.is_some()));
        Ours {
            programs: loaded.programs,
            _engine: engine,
        }
    }

    fn program(&self, name: &str) -> &Arc<Program> {
        let found = self.programs.iter().find(|program| program.name == name);
        found.expect("the object has it")
    }

    /// Runs a program on its frame, with everything that stands around a run.
    fn row(&self, name: &'static str, how: How) -> Row<'static> {
        let (word, program) = match how {
            How::Compiled => ("compiled", self.program(name).clone()),
            How::Unisolated => ("without isolation", Arc::new(unisolated(self.program(name)))),
            How::Interpreter => ("interpreted", Arc::new(again(self.program(name), None))),
        };
        let mut frames = [(); FRAMES].map(|()| (frame(name), NoEnvironment));
        let runs = match (how, name) {
            (_, "stray") => 500,
            (How::Interpreter, _) => 50,
            (_, "octets") => 1_000,
            _ => 20_000,
        };
        Row::new(format!("{name}, {word}"), runs, move |runs| {
            let packets = frames.iter_mut().map(|(octets, environment)| Packet {
                metadata: metadata(),
                octets,
                environment,
            });
            let mut packets: Vec<Packet<'_>> = packets.collect();
            for run in 0..runs as usize {
                let packet = &mut packets[run % FRAMES];
                // SAFETY: only this thread runs programs.
                let result = unsafe { program.run(0, packet) };
                match result {
                    Ok(verdict) => assert_ne!(std::hint::black_box(verdict), 2, "the frame is let through"),
                    Err(_) => assert_eq!(program.name, "stray"),
                }
            }
        })
    }

    /// How many instructions a run of a program takes.
    fn instructions(&self, name: &str) -> u64 {
        struct Count(u64);
        impl Tracer for Count {
            fn step(&mut self, _program: &Program, _instruction: usize, _registers: &[u64; 11]) {
                self.0 += 1;
            }
        }
        let mut octets = frame(name);
        let mut packet = Packet {
            metadata: metadata(),
            octets: &mut octets,
            environment: &mut NoEnvironment,
        };
        let mut count = Count(0);
        // SAFETY: only this thread runs programs.
        unsafe { self.program(name).run_traced(0, &mut packet, &mut count) }.expect("it is not stopped");
        count.0
    }
}

fn metadata() -> Metadata {
    Metadata {
        protocol: 0x0800,
        ifindex: 2,
        ..Metadata::default()
    }
}

/// A program over again, with other machine code or none.
fn again(program: &Arc<Program>, compiled: Option<policy::jit::Compiled>) -> Program {
    let mut again = Program::anonymous(program.code.clone(), compiled, program.domain.clone());
    again.name.clone_from(&program.name);
    again
}

#[cfg(feature = "bench-raw")]
fn unisolated(program: &Arc<Program>) -> Program {
    // SAFETY: the programs of engine.bpf.c that are run so access nothing but their window.
    let compiled = unsafe { policy::jit::compile_unisolated(&program.code, &policy::jit::NoMaps) };
    again(program, Some(compiled.expect("it was compiled before")))
}

#[cfg(not(feature = "bench-raw"))]
fn unisolated(_program: &Arc<Program>) -> Program {
    unreachable!("not without the feature bench-raw")
}

/// From the octets of a file with one long program to where it could be run.
fn load_row(octets: &[u8]) -> Row<'static> {
    let octets = octets.to_vec();
    Row::new("straight, file to runnable".to_owned(), 1, move |runs| {
        for _ in 0..runs {
            let mut object = Object::parse(&octets).expect("it can be parsed");
            object.programs.retain(|program| program.name == "straight");
            let loaded = engine()
                .load(&object, &LoadOptions::default())
                .expect("it can be loaded");
            std::hint::black_box(loaded);
        }
    })
}
