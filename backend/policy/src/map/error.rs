//! Why a map cannot be made.

use crate::Errno;
use crate::memory::MemoryError;

/// Why a map cannot be made or found again.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// We do not have maps of this kind.
    #[error("map {map}: maps of kind {kind} are not supported")]
    Kind { map: String, kind: String },
    /// The definition is not one that the kernel would accept.
    #[error("map {map}: {what} ({errno})")]
    Definition {
        map: String,
        what: &'static str,
        errno: Errno,
    },
    /// There is no room.
    #[error("map {map}: {source}")]
    Memory { map: String, source: MemoryError },
    /// There is no room for what the host must know about it.
    #[error("map {map}: cannot get memory for its index: {source}")]
    Index { map: String, source: std::io::Error },
    /// What was left of a former life does not fit.
    #[error(
        "map {map}: what a former process left of it cannot be used: {what}; remove it and create it again"
    )]
    Former { map: String, what: &'static str },
}

impl MapError {
    /// As `bpf(BPF_MAP_CREATE)` would answer.
    pub fn errno(&self) -> Errno {
        match self {
            MapError::Kind { .. } => Errno::EINVAL,
            MapError::Definition { errno, .. } => *errno,
            MapError::Memory { .. } | MapError::Index { .. } => Errno::ENOMEM,
            MapError::Former { .. } => Errno::ESTALE,
        }
    }
}
