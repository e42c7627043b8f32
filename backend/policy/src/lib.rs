//! The BPF engine: loads, checks, compiles and runs unmodified tc and netkit programs.
//!
//! It knows nothing of netkit or virtio. A program is isolated by construction rather than by proof: everything that
//! it can address lies in a [window](layout), a reservation of 4 GiB with guards around it.

pub mod check;
pub mod code;
pub mod context;
pub mod disassemble;
mod domain;
pub mod engine;
mod errno;
pub mod fault;
pub mod helper;
mod instruction;
pub mod interpreter;
pub mod jit;
pub mod layout;
pub mod machine;
pub mod map;
pub mod memory;
pub mod object;
pub mod packet;
mod program;
mod quarantine;
mod statistics;
pub mod test_run;
pub mod trace_log;

pub use domain::{Domain, Handles};
pub use errno::Errno;
pub use fault::{Fault, FaultKind};
pub use instruction::{Instruction, alu, atomic, class, jump, mode, opcode, pseudo, size, source};
pub use program::Program;
pub use quarantine::{Quarantine, QuarantineRule};
pub use statistics::Statistics;
