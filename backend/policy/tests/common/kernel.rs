//! The host's kernel as an engine: BPF_PROG_LOAD and BPF_PROG_TEST_RUN.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use policy::Instruction;
use policy::context::SkBuff;

const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
const PROG_TYPE_SCHED_CLS: u32 = 3;

/// The part of `union bpf_attr` that loading uses (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    rest: [u64; 4],
}

/// The part of `union bpf_attr` that a test run uses.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Outcome {
    pub result: u32,
    pub octets: Vec<u8>,
    pub context: SkBuff,
}

/// A program in the kernel.
pub struct Loaded(pub(super) File);

/// Why the kernel did not take a program.
pub struct Refused {
    pub error: io::Error,
    pub log: String,
}

pub(super) fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
    let pointer = std::ptr::from_mut(attributes);
    // SAFETY: the attributes are those of the command, and what they point to lives as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Why the kernel would run no program for us; None if it does.
pub fn unavailable() -> Option<String> {
    let program = [super::assembler::mov_k(0, 0), super::assembler::exit()];
    let refused = Loaded::new(&program).err()?;
    Some(format!(
        "the kernel takes no BPF program from us: {}",
        refused.error
    ))
}

impl Loaded {
    /// Loads a tc program.
    pub fn new(instructions: &[Instruction]) -> Result<Loaded, Refused> {
        match load(instructions, &mut []) {
            Ok(loaded) => Ok(loaded),
            Err(error) => {
                let mut log = vec![0; 1 << 20];
                let _ = load(instructions, &mut log);
                let end = log.iter().position(|octet| *octet == 0).unwrap_or(0);
                let log = String::from_utf8_lossy(&log[..end]).into_owned();
                Err(Refused { error, log })
            }
        }
    }

    /// As [`Loaded::new`], where why not does not matter.
    pub fn new_quietly(instructions: &[Instruction]) -> io::Result<Loaded> {
        load(instructions, &mut [])
    }

    /// Runs it once on a frame. Of the context, the fields that a test run takes in may be other than 0.
    pub fn run(&self, octets: &[u8], context: &SkBuff) -> io::Result<Outcome> {
        let mut out = vec![0; octets.len() + 4096];
        let mut context_out = SkBuff::default();
        let mut attributes = TestRun {
            prog_fd: self.0.as_raw_fd() as u32,
            data_size_in: octets.len() as u32,
            data_size_out: out.len() as u32,
            data_in: octets.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat: 1,
            ctx_size_in: size_of::<SkBuff>() as u32,
            ctx_size_out: size_of::<SkBuff>() as u32,
            ctx_in: std::ptr::from_ref(context) as u64,
            ctx_out: std::ptr::from_mut(&mut context_out) as u64,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        out.truncate(attributes.data_size_out as usize);
        Ok(Outcome {
            result: attributes.retval,
            octets: out,
            context: context_out,
        })
    }
}

fn load(instructions: &[Instruction], log: &mut [u8]) -> io::Result<Loaded> {
    let octets: Vec<[u8; 8]> = instructions
        .iter()
        .map(|instruction| instruction.to_octets())
        .collect();
    let mut attributes = Load {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: instructions.len() as u32,
        insns: octets.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &mut attributes)?;
    // SAFETY: a new descriptor of ours.
    Ok(Loaded(unsafe { File::from_raw_fd(fd as i32) }))
}
