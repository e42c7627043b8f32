//! Following a crafted frame through the devices, without counting or delivering it.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use devices::packet::{Frame, HEAD_ROOM, VirtioNetHeader, accept};
use netkit::{
    Clones, Context, DeviceView, Outcome, ProgramId, ProgramKind, Received, Slot, View, receive, verdict,
    xmit, xmit_clone,
};
use netkit_api::{TraceRequest, TraceStep, Traced};
use policy::disassemble;
use policy::interpreter::Tracer;

use super::{Daemon, DaemonError};
use crate::programs::LoadedProgram;

/// Instructions that are shown unless the caller says otherwise.
const INSTRUCTIONS: u32 = 10_000;
/// The most instructions that are shown, whatever the caller says.
const INSTRUCTIONS_MAX: u32 = 100_000;

/// Everything that a trace needs. It is run without the daemon, which goes on meanwhile.
#[derive(Debug)]
pub struct Trace {
    view: View,
    sender: Slot,
    names: Vec<String>,
    record: Arc<Mutex<Record>>,
    turn: Arc<Mutex<()>>,
}

/// What was recorded so far.
#[derive(Debug)]
struct Record {
    steps: Vec<TraceStep>,
    brief: bool,
    left: u32,
}

/// A program that says what it does.
#[derive(Debug)]
struct TracedProgram {
    program: Arc<policy::Program>,
    shard: usize,
    record: Arc<Mutex<Record>>,
}

impl Daemon {
    /// Prepares to follow a frame that a device transmits.
    pub fn trace(&self, device: &str, request: &TraceRequest) -> Result<Trace, DaemonError> {
        let ifindex = self.model.find(device)?;
        let plan = self.workers.plan();
        let view = &plan.view;
        let name = |view: &DeviceView| {
            let device = self.model.device(view.ifindex);
            device.map_or_else(|_| view.ifindex.to_string(), |device| device.name.clone())
        };
        let names: Vec<String> = view.iter().map(|(_, device)| name(device)).collect();
        let record = Arc::new(Mutex::new(Record {
            steps: Vec::new(),
            brief: request.brief,
            left: if request.limit == 0 {
                INSTRUCTIONS
            } else {
                request.limit.min(INSTRUCTIONS_MAX)
            },
        }));
        let shard = self.engine.test_shard();
        let traced = |program: &Arc<dyn netkit::Program>| -> Arc<dyn netkit::Program> {
            match self.engine.program(program.id().0) {
                Some(program) => Arc::new(TracedProgram {
                    program: program.clone(),
                    shard,
                    record: record.clone(),
                }),
                None => program.clone(),
            }
        };
        let sender = view.slot(ifindex).ok_or_else(|| DaemonError::BadValue {
            what: "a device",
            value: device.to_owned(),
            allowed: "one that is in force",
        })?;
        Ok(Trace {
            view: view.apart(traced),
            sender,
            names,
            record,
            turn: self.test_run.clone(),
        })
    }
}

impl Trace {
    /// Follows the frame.
    pub fn run(self, octets: &[u8], request: &TraceRequest) -> Result<Traced, DaemonError> {
        let mut frame = traced_frame(octets, request)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clones = Clones::default();
        self.device_step(self.sender);
        let outcome = self.take_step(&mut frame, &mut clones);
        let mut copy = Frame::new();
        while let Some(outcome) = xmit_clone(&self.view, &mut copy, &mut clones, 0) {
            let (text, ..) = self.describe(&outcome);
            self.lock().steps.push(TraceStep::Note {
                text: format!("the copy: {text}"),
            });
        }
        let (outcome, receiver, drop) = match &outcome {
            Some(outcome) => self.describe(outcome),
            None => ("the uplink's programs pass the frame".to_owned(), None, None),
        };
        use base64::Engine as _;
        Ok(Traced {
            steps: std::mem::take(&mut self.lock().steps),
            outcome,
            receiver,
            drop,
            frame: base64::engine::general_purpose::STANDARD.encode(frame.to_vec()),
        })
    }

    /// A netkit device transmits the frame, an uplink receives it.
    fn take_step(&self, frame: &mut Frame, clones: &mut Clones) -> Option<Outcome> {
        match self.view.device(self.sender).uplink {
            None => Some(xmit(&self.view, self.sender, frame, clones, 0)),
            Some(_) => match receive(&self.view, self.sender, frame, clones, 0) {
                Received::Passed => None,
                Received::Outcome(outcome) => Some(outcome),
            },
        }
    }

    fn device_step(&self, slot: Slot) {
        let device = self.view.device(slot);
        let peer = device.peer.map_or("nobody", |peer| self.name(peer));
        let text = match (device.up, device.programs.len()) {
            (true, _) if device.uplink.is_some() => "receives the frame".to_owned(),
            (false, _) => "it is down".to_owned(),
            (true, 0) => format!(
                "transmits to {peer}; no program is attached, the policy is {}",
                device.policy
            ),
            (true, 1) => format!("transmits to {peer}; 1 program"),
            (true, count) => format!("transmits to {peer}; {count} programs"),
        };
        let device = self.name(slot).to_owned();
        self.lock().steps.push(TraceStep::Device { device, text });
    }

    fn describe(&self, outcome: &Outcome) -> (String, Option<String>, Option<String>) {
        match outcome {
            Outcome::Deliver(delivery) => {
                let receiver = self.name(delivery.receiver).to_owned();
                (format!("{receiver} receives the frame"), Some(receiver), None)
            }
            Outcome::Dropped(reason) => (reason.describe().to_owned(), None, Some(reason.name().to_owned())),
        }
    }

    fn name(&self, slot: Slot) -> &str {
        self.names.get(slot.index()).map_or("", String::as_str)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frame as a guest's driver would have given it.
fn traced_frame(octets: &[u8], request: &TraceRequest) -> Result<Frame, DaemonError> {
    let bad = |value: String, allowed| DaemonError::BadValue {
        what: "the frame",
        value,
        allowed,
    };
    if octets.len() > HEAD_ROOM / 2 {
        return Err(bad(
            format!("{} octets long", octets.len()),
            "at most 65536 octets",
        ));
    }
    let mut frame = Frame::from_octets(octets);
    (frame.meta.mark, frame.meta.priority) = (request.mark, request.priority);
    if request.gso_size > 0 {
        let header = gso_header(octets, request.gso_size);
        let header = header.ok_or_else(|| bad("to be cut".to_owned(), "TCP or UDP over IPv4 or IPv6"))?;
        accept(&mut frame, &header, devices::packet::OffloadFeatures::ALL)
            .map_err(|error| bad(error.to_string(), "a frame that a guest could send so"))?;
    }
    Ok(frame)
}

/// The header with which a guest would leave the segmentation of a plain TCP or UDP packet to the device.
fn gso_header(octets: &[u8], gso_size: u16) -> Option<VirtioNetHeader> {
    const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
    let (ipv4, protocol, start) = match octets.get(12..14)? {
        [0x08, 0x00] => (true, *octets.get(23)?, 14 + u16::from(octets.get(14)? & 0x0f) * 4),
        [0x86, 0xdd] => (false, *octets.get(20)?, 54),
        _ => return None,
    };
    let (gso_type, csum_offset) = match (protocol, ipv4) {
        (6, true) => (1, 16),
        (6, false) => (4, 16),
        (17, _) => (5, 6),
        _ => return None,
    };
    Some(VirtioNetHeader {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
        gso_type,
        gso_size,
        csum_start: start,
        csum_offset,
        ..VirtioNetHeader::default()
    })
}

impl netkit::Program for TracedProgram {
    fn id(&self) -> ProgramId {
        ProgramId(self.program.id)
    }

    fn name(&self) -> &str {
        &self.program.name
    }

    fn kind(&self) -> ProgramKind {
        ProgramKind::SchedCls
    }

    fn run(&self, context: &mut Context<'_>) -> i32 {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.steps.push(TraceStep::Program {
            id: self.program.id,
            name: self.program.name.clone(),
        });
        let mut steps = Steps {
            record: &mut record,
            before: None,
            program: self.program.id,
            line: None,
        };
        let program = LoadedProgram(self.program.clone());
        let (code, fault) = program.run_traced(context, self.shard, &mut steps);
        steps.flush_registers(None);
        let text = match fault {
            Some(fault) => format!("stopped: {fault}"),
            None => verdict_name(code).to_owned(),
        };
        record.steps.push(TraceStep::Verdict { code, text });
        code
    }
}

fn verdict_name(code: i32) -> &'static str {
    match code {
        verdict::NEXT => "NEXT: the next program of the list, or pass",
        verdict::PASS => "PASS",
        verdict::DROP => "DROP",
        verdict::REDIRECT => "REDIRECT",
        _ => "unknown to netkit: the frame is dropped",
    }
}

/// Writes down what a program does.
struct Steps<'r> {
    record: &'r mut Record,
    /// Registers before the last instruction that was written down.
    before: Option<[u64; 11]>,
    program: u32,
    line: Option<(u32, String)>,
}

impl Steps<'_> {
    /// Adds what the last instruction changed to its step.
    fn flush_registers(&mut self, now: Option<&[u64; 11]>) {
        let (Some(before), Some(now)) = (self.before.take(), now) else {
            return;
        };
        let Some(TraceStep::Instruction { registers, .. }) = self
            .record
            .steps
            .iter_mut()
            .rev()
            .find(|step| matches!(step, TraceStep::Instruction { .. }))
        else {
            return;
        };
        for (number, (old, new)) in before.iter().zip(now).enumerate() {
            if old != new {
                let _ = write!(
                    registers,
                    "{}r{number}={new:#x}",
                    if registers.is_empty() { "" } else { " " }
                );
            }
        }
    }
}

impl Tracer for Steps<'_> {
    fn step(&mut self, program: &policy::Program, instruction: usize, registers: &[u64; 11]) {
        if self.record.brief {
            return;
        }
        self.flush_registers(Some(registers));
        if self.record.left == 0 {
            return;
        }
        self.record.left -= 1;
        if self.record.left == 0 {
            self.record.steps.push(TraceStep::Note {
                text: "more instructions follow; ask for more with limit".to_owned(),
            });
            return;
        }
        let line = program
            .code
            .line(instruction)
            .map(|line| (line.line, line.file.clone()));
        let source = program.code.line(instruction).filter(|_| line != self.line);
        let source = source.map(|line| format!("{}:{}: {}", line.file, line.line, line.text.trim()));
        self.line = line;
        self.record.steps.push(TraceStep::Instruction {
            at: instruction as u32,
            text: disassemble::line(&program.code, instruction, &disassemble::NoNames),
            registers: String::new(),
            source,
        });
        self.before = Some(*registers);
    }

    fn helper(&mut self, id: u32, arguments: [u64; 5], result: u64) {
        let [a, b, c, d, e] = arguments;
        self.record.steps.push(TraceStep::Helper {
            text: format!(
                "{}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}) = {}",
                policy::helper::name(id),
                result as i64
            ),
        });
    }

    fn tail_call(&mut self, to: &policy::Program) {
        self.record.steps.push(TraceStep::Note {
            text: format!(
                "tail call from program {} to {} ({})",
                self.program, to.id, to.name
            ),
        });
        self.program = to.id;
    }
}
