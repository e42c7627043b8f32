//! Why a program was stopped in the middle of a run.

use std::fmt;

use crate::layout::{
    CONTEXT, CONTEXT_LEN, FIRST, PACKET, PACKET_LEN, PER_SHARD, READ_ONLY, READ_ONLY_MAX, SHARED, STACK,
    STACK_LEN,
};

/// What a program did that it must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It loaded from, or stored to, an address where nothing is, or stored where it may only read.
    Access {
        /// The window address of the first octet that it cannot access. An access starts at the low 32 bits of its
        /// register plus its displacement.
        address: i64,
    },
    /// An atomic operation at an address that is not a multiple of its size.
    Misaligned {
        /// The window address.
        address: i64,
    },
    /// It gave a helper an argument that cannot be.
    Argument {
        /// The helper's number.
        helper: u32,
        /// Which argument, from 1.
        argument: u8,
        /// What it was.
        value: u64,
        /// Octets that the helper would have accessed there; 0 if it is not an address.
        len: u64,
    },
    /// It worked longer than it may.
    Fuel,
    /// It called deeper than there are stack frames.
    CallDepth,
    /// A spin lock was held by somebody else for too long, or twice by this program.
    SpinLock {
        /// The lock's window address.
        address: u32,
    },
}

/// A program that was stopped, with where and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it did.
    pub kind: FaultKind,
    /// The program's id: after a tail call not the one that was started.
    pub program: u32,
    /// The program's name.
    pub name: String,
    /// The instruction.
    pub instruction: usize,
    /// The source line, if the object told.
    pub line: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "program {} ({}), instruction {}: {}",
            self.program, self.name, self.instruction, self.kind
        )?;
        match &self.line {
            Some(line) => write!(f, "; {line}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Access { address } => {
                write!(f, "access to {address:#x} in {}", region_name(*address))
            }
            FaultKind::Misaligned { address } => {
                write!(
                    f,
                    "atomic operation on {address:#x} in {}, which is not aligned",
                    region_name(*address)
                )
            }
            FaultKind::Argument {
                helper,
                argument,
                value,
                len: 0,
            } => {
                write!(
                    f,
                    "argument {argument} of {} cannot be {value:#x}",
                    crate::helper::name(*helper)
                )
            }
            FaultKind::Argument {
                helper,
                argument,
                value,
                len,
            } => write!(
                f,
                "argument {argument} of {} says {len} octets at {value:#x} in {}, which are not all accessible",
                crate::helper::name(*helper),
                region_name(i64::from(*value as u32))
            ),
            FaultKind::Fuel => f.write_str("it ran longer than it may"),
            FaultKind::CallDepth => write!(f, "calls nest deeper than {}", crate::layout::FRAMES_MAX),
            FaultKind::SpinLock { address } => write!(f, "the spin lock at {address:#x} is not to be had"),
        }
    }
}

/// What a person calls the place that a window address is in.
pub fn region_name(address: i64) -> &'static str {
    let within =
        |start: u32, len: u32| (i64::from(start)..i64::from(start) + i64::from(len)).contains(&address);
    match address {
        _ if address < 0 || address > i64::from(u32::MAX) => "the guard around the window",
        _ if address < i64::from(FIRST) => "the null guard",
        _ if within(CONTEXT, CONTEXT_LEN) => "the context",
        _ if within(STACK, STACK_LEN) => "the stack",
        _ if within(PACKET, PACKET_LEN) => "the packet",
        _ if within(READ_ONLY, READ_ONLY_MAX) => "read-only map memory",
        _ if address >= i64::from(PER_SHARD) => "per-CPU map memory",
        _ if address >= i64::from(SHARED) => "map memory",
        _ => "the gap between regions",
    }
}
