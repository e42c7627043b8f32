//! A program that is ready to run.

use std::sync::Arc;

use crate::code::Code;
use crate::domain::Domain;
use crate::fault::{Fault, FaultKind};
use crate::layout::{CONTEXT, STACK_TOP};
use crate::machine::{Executor, Machine, Packet, Stopped};
use crate::map::Map;
use crate::quarantine::{Quarantine, QuarantineRule};
use crate::statistics::Statistics;
use crate::{interpreter, jit};

/// The arguments of a program.
const ON_CONTEXT: [u64; 5] = [CONTEXT as u64, 0, 0, 0, 0];

/// A program with the domain that its maps are in.
#[derive(Debug)]
pub struct Program {
    /// Its number in the daemon, not 0.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its function in the object.
    pub function: String,
    /// Its section in the object.
    pub section: String,
    /// What the object is known by to whoever keeps it.
    pub origin: String,
    /// The object's licence.
    pub license: String,
    /// Names the instructions.
    pub tag: [u8; 8],
    /// When it was loaded, in seconds since 1970.
    pub loaded_at: u64,
    /// What it was checked to be.
    pub code: Code,
    /// As native code, where there is a compiler for it.
    pub compiled: Option<jit::Compiled>,
    /// The maps that its instructions refer to.
    pub maps: Vec<Arc<Map>>,
    /// The ids of all maps of its object, by their places there.
    pub object_maps: Vec<u32>,
    /// Where its maps are.
    pub domain: Arc<Domain>,
    /// Instructions that a run may take at loop heads and calls.
    pub fuel: i64,
    /// How often and how long it ran.
    pub statistics: Statistics,
    /// How often it was stopped.
    pub quarantine: Quarantine,
}

impl Program {
    /// A program that comes from no object, and uses no map.
    pub fn anonymous(code: Code, compiled: Option<jit::Compiled>, domain: Arc<Domain>) -> Program {
        Program {
            id: 1,
            name: "anonymous".to_owned(),
            function: String::new(),
            section: "tc".to_owned(),
            origin: String::new(),
            license: String::new(),
            tag: [0; 8],
            loaded_at: 0,
            code,
            compiled,
            maps: Vec::new(),
            object_maps: Vec::new(),
            fuel: crate::engine::DEFAULT_FUEL,
            statistics: Statistics::new(domain.memory().shards()),
            quarantine: Quarantine::new(QuarantineRule::default()),
            domain,
        }
    }

    /// Runs the program on a frame, and returns r0's low 32 bits.
    ///
    /// # Safety
    /// No other thread runs a program of this domain with the same shard, nor does the environment.
    #[inline]
    pub unsafe fn run(&self, shard: usize, packet: &mut Packet<'_>) -> Result<u32, Fault> {
        let timed = self.statistics.count(shard);
        // SAFETY: the caller guarantees what `enter` needs.
        let result = unsafe {
            self.domain
                .enter(shard, |machine| self.run_on(machine, self.executor(), packet))
        };
        if let Some(since) = timed {
            self.statistics.add(shard, since);
        }
        unboxed(result)
    }

    /// Runs the program in the interpreter, watched, and returns r0's low 32 bits. What the program tail calls is
    /// watched, what helpers call back is not.
    ///
    /// # Safety
    /// As [`Program::run`].
    pub unsafe fn run_traced(
        &self,
        shard: usize,
        packet: &mut Packet<'_>,
        tracer: &mut impl interpreter::Tracer,
    ) -> Result<u32, Fault> {
        let run = |machine: &mut Machine| interpreter::call(machine, self, 0, ON_CONTEXT, STACK_TOP, tracer);
        // SAFETY: the caller guarantees what `enter` needs.
        let result = unsafe {
            self.domain.enter(shard, |machine| {
                self.run_with(machine, Executor::Interpreter, packet, run)
            })
        };
        unboxed(result.map(|r0| r0 as u32))
    }

    /// Runs the program on octets: r1 is the address of the frame's first one, r2 their number. Returns all of r0. This
    /// is how conformance suites call programs.
    ///
    /// # Safety
    /// As [`Program::run`].
    pub unsafe fn run_on_octets(&self, shard: usize, packet: &mut Packet<'_>) -> Result<u64, Fault> {
        let run = |machine: &mut Machine| {
            let (data, len) = (u64::from(machine.packet.data), u64::from(machine.linear_len()));
            self.call(machine, 0, [data, len, 0, 0, 0], STACK_TOP)
        };
        // SAFETY: the caller guarantees what `enter` needs.
        unboxed(unsafe {
            self.domain.enter(shard, |machine| {
                self.run_with(machine, self.executor(), packet, run)
            })
        })
    }

    /// The engine that runs the program unless somebody asks for the other one.
    fn executor(&self) -> Executor {
        match self.compiled {
            Some(_) => Executor::Compiled,
            None => Executor::Interpreter,
        }
    }

    /// Runs the program on a machine, with the engine of the caller's choice.
    #[inline]
    pub(crate) fn run_on(
        &self,
        machine: &mut Machine,
        executor: Executor,
        packet: &mut Packet<'_>,
    ) -> Result<u32, Box<Fault>> {
        let run = |machine: &mut Machine| self.call(machine, 0, ON_CONTEXT, STACK_TOP);
        self.run_with(machine, executor, packet, run).map(|r0| r0 as u32)
    }

    /// What stands around each run. The fault is behind a pointer, so that the result fits in registers.
    #[inline]
    fn run_with(
        &self,
        machine: &mut Machine,
        executor: Executor,
        packet: &mut Packet<'_>,
        run: impl FnOnce(&mut Machine) -> Result<u64, Stopped>,
    ) -> Result<u64, Box<Fault>> {
        machine.program = self;
        machine.executor = executor;
        machine.words.fuel = self.fuel;
        machine.begin(packet);
        let result = run(machine);
        crate::helper::finish(machine);
        let result = result.map_err(|Stopped| machine.take_fault());
        machine.end(packet);
        machine.program = std::ptr::null();
        result
    }

    /// Runs a function with the machine's engine; `frame` is its r10.
    #[inline]
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
        if result.is_ok() {
            // A tail call in the function has ended with it; one that was stopped is to blame.
            self.program = program;
        }
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
    fn take_fault(&mut self) -> Box<Fault> {
        let program = self.program();
        let instruction = self.words.instruction as usize;
        let line = program.code.line(instruction);
        Box::new(Fault {
            kind: self.fault.unwrap_or(FaultKind::Fuel),
            program: program.id,
            name: program.name.clone(),
            instruction,
            line: line.map(|line| format!("{}:{}: {}", line.file, line.line, line.text.trim())),
        })
    }
}

/// The result as callers get it.
#[inline(always)]
fn unboxed<T>(result: Result<T, Box<Fault>>) -> Result<T, Fault> {
    match result {
        Ok(value) => Ok(value),
        Err(fault) => Err(*fault),
    }
}
