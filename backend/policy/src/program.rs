//! A program that is ready to run.

use std::sync::Arc;

use crate::code::Code;
use crate::domain::Domain;
use crate::fault::{Fault, FaultKind};
use crate::layout::STACK_TOP;
use crate::machine::{Executor, Machine, Packet, Stopped};
use crate::{interpreter, jit};

/// A program with the domain that its maps are in.
#[derive(Debug)]
pub struct Program {
    /// Its number in the daemon, not 0.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its section in the object.
    pub section: String,
    /// What it was checked to be.
    pub code: Code,
    /// As native code, where there is a compiler for it.
    pub compiled: Option<jit::Compiled>,
    /// Where its maps are.
    pub domain: Arc<Domain>,
    /// Instructions that a run may take at loop heads and calls.
    pub fuel: i64,
}

impl Program {
    /// Runs the program on a frame, and returns r0's low 32 bits.
    ///
    /// # Safety
    /// No other thread runs a program of this domain with the same shard, nor does the environment.
    #[inline]
    pub unsafe fn run(&self, shard: usize, packet: &mut Packet<'_>) -> Result<u32, Fault> {
        let executor = match self.compiled {
            Some(_) => Executor::Compiled,
            None => Executor::Interpreter,
        };
        // SAFETY: the caller guarantees what `enter` needs.
        unsafe {
            self.domain
                .enter(shard, |machine| self.run_on(machine, executor, packet))
        }
    }

    /// Runs the program on a machine, with the engine of the caller's choice.
    pub(crate) fn run_on(
        &self,
        machine: &mut Machine,
        executor: Executor,
        packet: &mut Packet<'_>,
    ) -> Result<u32, Fault> {
        machine.program = self;
        machine.executor = executor;
        machine.words.fuel = self.fuel;
        machine.begin(packet);
        let result = self.call(
            machine,
            0,
            [u64::from(crate::layout::CONTEXT), 0, 0, 0, 0],
            STACK_TOP,
        );
        if let Some(lock) = machine.lock.take() {
            crate::helper::release(machine, lock);
        }
        let result = result.map_err(|Stopped| machine.take_fault());
        machine.end(packet);
        machine.program = std::ptr::null();
        result.map(|r0| r0 as u32)
    }

    /// Runs a function with the machine's engine; `frame` is its r10.
    pub(crate) fn call(
        &self,
        machine: &mut Machine,
        function: usize,
        arguments: [u64; 5],
        frame: u32,
    ) -> Result<u64, Stopped> {
        match (machine.executor, &self.compiled) {
            (Executor::Compiled, Some(compiled)) => compiled.call(machine, function, arguments, frame),
            _ => interpreter::call(
                machine,
                self,
                function,
                arguments,
                frame,
                &mut interpreter::NoTracer,
            ),
        }
    }
}

impl Machine {
    /// Calls a function of the program back, by the handle that the program gave for it.
    ///
    /// The helper that calls this was called with `words.frame` set, which `Helper::calls_back` sees to.
    pub fn call_back(&mut self, handle: u64, arguments: [u64; 5]) -> Result<u64, Stopped> {
        let program: *const Program = self.program();
        // SAFETY: programs outlive the run (`Machine::program`).
        let program = unsafe { &*program };
        let Some(function) = program.code.function_of_handle(handle) else {
            return Err(self.stop(FaultKind::Argument {
                helper: 0,
                argument: 0,
                value: handle,
                len: 0,
            }));
        };
        let caller = self.words.frame;
        let frame = caller - crate::layout::FRAME_LEN;
        if frame <= crate::layout::STACK {
            return Err(self.stop(FaultKind::CallDepth));
        }
        let result = program.call(self, function, arguments, frame);
        self.words.frame = caller;
        // A tail call in the function has ended with it.
        self.program = program;
        result
    }

    /// The program that a tail call leads to; None if it fails and the caller goes on.
    pub fn tail_call(&mut self, map: u64, index: u64) -> Option<&'static Program> {
        // SAFETY: the handles are used within a run.
        let target = unsafe { self.map(map) }?.program(index as u32)?;
        if self.words.tail_calls == 0 {
            return None;
        }
        self.words.tail_calls -= 1;
        self.program = target;
        // SAFETY: what a prog_array holds stays until the run has ended (`Domain::wait`).
        Some(unsafe { &*target })
    }

    /// Why the run was stopped, with where.
    #[cold]
    fn take_fault(&mut self) -> Fault {
        let program = self.program();
        let instruction = self.words.instruction as usize;
        let line = program.code.line(instruction);
        Fault {
            kind: self.fault.unwrap_or(FaultKind::Fuel),
            program: program.id,
            name: program.name.clone(),
            instruction,
            line: line.map(|line| format!("{}:{}: {}", line.file, line.line, line.text.trim())),
        }
    }
}
