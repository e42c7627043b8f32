//! Why a program list refuses a change, in the terms of bpf(2).

use thiserror::Error;

use crate::{Errno, LinkId, PROGRAMS_MAX, ProgramId};

/// Why a list refused a change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListError {
    #[error("the list is at revision {current}, not {expected}; query it and decide again")]
    Stale { expected: u64, current: u64 },
    #[error("program {program} is in the list already; detach it first")]
    AlreadyListed { program: ProgramId },
    #[error("the relative link {link} does not exist")]
    NoSuchLink { link: LinkId },
    #[error("program {program} is of another type than the programs of the list")]
    KindDiffers { program: ProgramId },
    #[error("program {program} is not in the list; query it to see what is")]
    NotListed { program: ProgramId },
    #[error("program {program} is held by a link; update or detach that link")]
    HeldByLink { program: ProgramId },
    #[error("a new link cannot replace a program; update the link that holds it")]
    LinkCannotReplace,
    #[error("the list is full with {PROGRAMS_MAX} programs; detach one first")]
    Full,
    #[error("the relative program {program} is not in the list; query it to see what is")]
    RelativeNotListed { program: ProgramId },
    #[error("before, after and replace mean different places; ask for one place")]
    PlacesDiffer,
    #[error("a relative object is of no use without before or after; say which")]
    RelativeAlone,
    #[error("replace is for attaching only")]
    ReplaceOnDetach,
    #[error("the list is empty")]
    Empty,
}

impl ListError {
    /// The errno that bpf(2) would answer with.
    pub fn errno(&self) -> Errno {
        match self {
            ListError::Stale { .. } => Errno::ESTALE,
            ListError::AlreadyListed { .. } => Errno::EEXIST,
            ListError::HeldByLink { .. } => Errno::EBUSY,
            ListError::Full | ListError::PlacesDiffer => Errno::ERANGE,
            ListError::KindDiffers { .. } | ListError::RelativeAlone | ListError::ReplaceOnDetach => {
                Errno::EINVAL
            }
            ListError::NoSuchLink { .. }
            | ListError::NotListed { .. }
            | ListError::LinkCannotReplace
            | ListError::RelativeNotListed { .. }
            | ListError::Empty => Errno::ENOENT,
        }
    }
}
