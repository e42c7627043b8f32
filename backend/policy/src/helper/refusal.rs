//! Why a program that calls a certain helper is not loaded.

use super::{TAIL_CALL, find, name, names};

/// A helper that programs cannot call here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No helper has this number.
    #[error("there is no helper {0}: Linux 6.12 has 1 to {max}", max = names::NAMES.len() - 1)]
    Unknown(u32),
    /// The kernel would have it, in a tc program, too.
    #[error("{name} (helper {0}) is not supported: {reason}", name = name(*.0), reason = .1)]
    Unsupported(u32, &'static str),
    /// The kernel would not have it in a tc program, either.
    #[error("{name} (helper {0}) is not for tc and netkit programs, in Linux neither", name = name(*.0))]
    OtherProgramType(u32),
}

/// Why a program must not call a helper; None if it may.
pub fn refusal(id: u32) -> Option<Refusal> {
    if id == TAIL_CALL || find(id).is_some() {
        return None;
    }
    if id == 0 || id as usize >= names::NAMES.len() {
        return Some(Refusal::Unknown(id));
    }
    Some(match reason(id) {
        Some(reason) => Refusal::Unsupported(id, reason),
        None => Refusal::OtherProgramType(id),
    })
}

/// What stands against a helper that the kernel has for tc programs, or for tracing, from where it is often copied.
fn reason(id: u32) -> Option<&'static str> {
    Some(match id {
        4 | 45 | 112..=115 => {
            "it reads memory by address, and a program here has no address of the kernel or of a process"
        }
        36 | 148 | 191 => "it accesses the memory of a process, and no process is behind a frame here",
        14..=16 | 35 | 37 | 80 | 109 | 117 | 120 | 123 | 158 | 175 | 180 => {
            "it asks for the current task, and frames here are no task's"
        }
        22 | 55 | 56 => "there are no performance counters here",
        27 | 67 | 141 => "there is no kernel stack to record",
        66 => "IPsec (xfrm) is not done here",
        81 | 145 | 146 | 156 | 157 | 210 | 211 => {
            "there is no task, inode or control group that could hold storage"
        }
        149 | 150 | 167 | 179 => "there is no kernel whose types and symbols could be asked for",
        153 | 154 => "there are no per-CPU variables of the kernel; use a per-CPU map",
        166 | 168 => "only syscall programs make system calls",
        169..=172 => "timers are not implemented",
        194 => "kernel objects in maps (kptr) are not implemented",
        197..=203 | 209 => "dynamic pointers (dynptr) are not implemented; use the helpers without them",
        _ => return None,
    })
}
