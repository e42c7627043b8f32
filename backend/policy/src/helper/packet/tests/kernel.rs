//! The kernel that the tests run on, as an oracle: it runs a program on a frame (BPF_PROG_TEST_RUN).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::context::SkBuff;
use crate::{Instruction, alu, class, mode, opcode, source};

/// The kernel's BPF, with a map for results.
#[derive(Debug)]
pub struct Kernel {
    /// An array of one value.
    pub map: OwnedFd,
    value_len: usize,
}

/// `union bpf_attr`, as the words of its parts.
type Attributes = [u64; 18];

impl Kernel {
    const MAP_CREATE: i32 = 0;
    const MAP_LOOKUP_ELEM: i32 = 1;
    const PROG_LOAD: i32 = 5;
    const PROG_TEST_RUN: i32 = 10;
    const MAP_TYPE_ARRAY: u64 = 2;
    const PROG_TYPE_SCHED_CLS: u64 = 3;

    /// With values of that many octets.
    pub fn new(value_len: usize) -> io::Result<Kernel> {
        let mut attributes = Attributes::default();
        attributes[0] = Kernel::MAP_TYPE_ARRAY | 4 << 32;
        attributes[1] = value_len as u64 | 1 << 32;
        Ok(Kernel {
            map: descriptor(bpf(Kernel::MAP_CREATE, &mut attributes)?),
            value_len,
        })
    }

    /// A program that was checked, and may call what only GPL programs may.
    pub fn load(&self, program: &[Instruction]) -> Result<OwnedFd, String> {
        let octets: Vec<u8> = program
            .iter()
            .flat_map(|instruction| instruction.to_octets())
            .collect();
        let mut log = vec![0_u8; 1 << 16];
        let mut attributes = Attributes::default();
        attributes[0] = Kernel::PROG_TYPE_SCHED_CLS | (program.len() as u64) << 32;
        attributes[1] = octets.as_ptr() as u64;
        attributes[2] = c"GPL".as_ptr() as u64;
        if let Ok(fd) = bpf(Kernel::PROG_LOAD, &mut attributes) {
            return Ok(descriptor(fd));
        }
        attributes[3] = 1 | (log.len() as u64) << 32;
        attributes[4] = log.as_mut_ptr() as u64;
        match bpf(Kernel::PROG_LOAD, &mut attributes) {
            Ok(fd) => Ok(descriptor(fd)),
            Err(error) => Err(format!(
                "BPF_PROG_LOAD: {error}\n{}",
                String::from_utf8_lossy(&log)
            )),
        }
    }

    /// Runs a program on a frame, and returns what that has become.
    pub fn test_run(&self, program: &OwnedFd, frame: &[u8], context: &SkBuff) -> io::Result<Vec<u8>> {
        let mut out = vec![0_u8; 1 << 17];
        let mut attributes = Attributes::default();
        attributes[0] = program.as_raw_fd() as u64;
        attributes[1] = frame.len() as u64 | (out.len() as u64) << 32;
        attributes[2] = frame.as_ptr() as u64;
        attributes[3] = out.as_mut_ptr() as u64;
        attributes[4] = 1;
        attributes[5] = size_of::<SkBuff>() as u64;
        attributes[6] = std::ptr::from_ref(context) as u64;
        bpf(Kernel::PROG_TEST_RUN, &mut attributes)?;
        out.truncate((attributes[1] >> 32) as usize);
        Ok(out)
    }

    /// The map's value.
    pub fn value(&self) -> io::Result<Vec<u8>> {
        let (key, mut value) = (0_u32, vec![0_u8; self.value_len]);
        let mut attributes = Attributes::default();
        attributes[0] = self.map.as_raw_fd() as u64;
        attributes[1] = std::ptr::from_ref(&key) as u64;
        attributes[2] = value.as_mut_ptr() as u64;
        bpf(Kernel::MAP_LOOKUP_ELEM, &mut attributes)?;
        Ok(value)
    }
}

fn bpf(command: i32, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the callers put pointers into the attributes to memory that lives as long as the call, with its length.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

fn descriptor(fd: i32) -> OwnedFd {
    // SAFETY: a descriptor that the kernel just made for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Says that a test could not be run, also in the file that `NETKIT_NOT_RUN` names.
pub fn not_run(name: &str, why: &str) {
    let line = format!("NOT RUN: {name}: {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

pub fn copy(dst: u8, src: u8) -> Instruction {
    Instruction {
        opcode: opcode::MOV64_X,
        dst,
        src,
        ..Instruction::default()
    }
}

pub fn add(dst: u8, imm: i32) -> Instruction {
    Instruction {
        opcode: class::ALU64 | alu::ADD | source::K,
        dst,
        imm,
        ..Instruction::default()
    }
}

pub fn wide(dst: u8, src: u8, value: u64) -> [Instruction; 2] {
    let first = Instruction {
        opcode: opcode::LDDW,
        dst,
        src,
        imm: value as i32,
        ..Instruction::default()
    };
    let second = Instruction {
        imm: (value >> 32) as i32,
        ..Instruction::default()
    };
    [first, second]
}

pub fn load(width: u8, dst: u8, src: u8, offset: i16) -> Instruction {
    Instruction {
        opcode: class::LDX | mode::MEM | width,
        dst,
        src,
        offset,
        imm: 0,
    }
}

pub fn store(width: u8, dst: u8, offset: i16, src: u8) -> Instruction {
    Instruction {
        opcode: class::STX | mode::MEM | width,
        dst,
        src,
        offset,
        imm: 0,
    }
}
