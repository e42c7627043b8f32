//! What compiled programs do to the process that they run in: nothing.

#![cfg(target_arch = "x86_64")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use policy::code::{Code, Function};
use policy::machine::Packet;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Domain, Fault, FaultKind, Instruction, Program, class, jit, mode, opcode, size};

fn instruction(opcode: u8, dst: u8, src: u8) -> Instruction {
    Instruction {
        opcode,
        dst,
        src,
        ..Instruction::default()
    }
}

/// Loads from the null guard.
fn stray(domain: &Arc<Domain>) -> Program {
    let instructions = [
        instruction(class::LDX | mode::MEM | size::DW, 0, 2),
        instruction(opcode::EXIT, 0, 0),
    ];
    let function = Function {
        name: "stray".into(),
        start: 0,
        end: 2,
    };
    let code = Code::new(instructions.into(), [function].into(), Box::default());
    let compiled = jit::compile(&code, &jit::NoMaps).unwrap();
    Program::anonymous(code, Some(compiled), domain.clone())
}

fn run(program: &Program, shard: usize) -> Result<u32, Fault> {
    let (mut frame, mut environment) = (vec![0; 64], NoEnvironment);
    let mut packet = Packet {
        metadata: Metadata::default(),
        octets: &mut frame,
        environment: &mut environment,
    };
    // SAFETY: each thread has a shard of its own.
    unsafe { program.run(shard, &mut packet) }
}

fn assert_faults(program: &Program, shard: usize) {
    let fault = run(program, shard).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Access { address: 0 });
}

/// Runs one of the `inner_` tests in a process of its own.
fn in_a_process(test: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--test-threads=1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn two_threads_fault_at_once() {
    let domain = Arc::new(Domain::new(2, None).unwrap());
    let program = stray(&domain);
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let program = &program;
            scope.spawn(move || (0..5_000).for_each(|_| assert_faults(program, shard)));
        }
    });
}

#[test]
fn a_fault_of_the_host_still_kills() {
    assert_eq!(in_a_process("inner_host_fault").signal(), Some(libc::SIGSEGV));
}

#[test]
#[ignore = "dies: run by a_fault_of_the_host_still_kills"]
fn inner_host_fault() {
    let domain = Arc::new(Domain::new(1, None).unwrap());
    assert_faults(&stray(&domain), 0);
    let null = std::hint::black_box(std::ptr::dangling::<u64>());
    // SAFETY: none; this is what is tested.
    unsafe { null.read_volatile() };
}

#[test]
fn a_signal_that_somebody_sends_still_kills() {
    assert_eq!(in_a_process("inner_sent_signal").signal(), Some(libc::SIGSEGV));
}

#[test]
#[ignore = "dies: run by a_signal_that_somebody_sends_still_kills"]
fn inner_sent_signal() {
    // Without the handler that Rust's runtime installs.
    // SAFETY: the default action is always there.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    let domain = Arc::new(Domain::new(1, None).unwrap());
    assert_faults(&stray(&domain), 0);
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(libc::SIGSEGV) };
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_handler_that_was_there_before_goes_on_working() {
    assert_eq!(in_a_process("inner_previous_handler").code(), Some(0));
}

#[test]
#[ignore = "changes the process: run by a_handler_that_was_there_before_goes_on_working"]
fn inner_previous_handler() {
    // SAFETY: the handler is async-signal-safe.
    unsafe { libc::signal(libc::SIGSEGV, count as *const () as usize) };
    let domain = Arc::new(Domain::new(1, None).unwrap());
    let program = stray(&domain);
    assert_faults(&program, 0);
    assert_eq!(HANDLED.load(Ordering::Relaxed), 0);
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(libc::SIGSEGV) };
    assert_eq!(HANDLED.load(Ordering::Relaxed), 1);
    assert_faults(&program, 0);
}

#[test]
fn a_fault_of_the_host_in_a_window_still_kills() {
    assert_eq!(
        in_a_process("inner_host_fault_in_a_window").signal(),
        Some(libc::SIGSEGV)
    );
}

#[test]
#[ignore = "dies: run by a_fault_of_the_host_in_a_window_still_kills"]
fn inner_host_fault_in_a_window() {
    let domain = Arc::new(Domain::new(1, None).unwrap());
    assert_faults(&stray(&domain), 0);
    let null = domain.memory().view(0).at(0);
    // SAFETY: none; this is what is tested.
    unsafe { null.read_volatile() };
}
