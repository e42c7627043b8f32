//! Why an object was not loaded.

use crate::check::CheckError;
use crate::map::MapError;
use crate::memory::MemoryError;
use crate::object::ObjectError;

/// A refusal: what was tried, on which program or map, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not an object that can be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A program does what no program may.
    #[error("program {program}: {source}")]
    Check {
        /// Its name.
        program: String,
        /// What it does.
        source: CheckError,
    },
    /// A map cannot be made.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: String,
        /// Why not.
        source: MapError,
    },
    /// There is no memory for the maps.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// There is no such program in the object.
    #[error("the object has no program {wanted}; it has {present}")]
    NoSuchProgram {
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// There is no map of that name to share.
    #[error("there is no map {0} to use; list the maps to see which there are")]
    NoSuchMap(String),
    /// The pinned map is another kind of map than the object's.
    #[error(
        "map {map} is pinned already and is another one: {difference}; unpin it, or give the object's map another name"
    )]
    PinnedDiffers {
        /// Its name.
        map: String,
        /// How they differ.
        difference: String,
    },
    /// The maps to be shared lie in different domains.
    #[error(
        "maps {first} and {second} were made by objects that share nothing, so no program can use both; load an object that pins both first"
    )]
    DomainsDiffer {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// A domain has no number left for another map.
    #[error("map {0} would be one too many: programs that share maps can have 4095 of them")]
    TooManyMaps(String),
    /// What a map should hold from the start cannot be put into it.
    #[error("map {map}: cannot put {what} into it: {errno}")]
    InitialValue {
        /// The map.
        map: String,
        /// What.
        what: String,
        /// Why not.
        errno: crate::Errno,
    },
    /// What was saved does not fit together.
    #[error("the saved programs cannot be restored: {0}")]
    Saved(String),
}

impl LoadError {
    /// The errno that bpf(2) or libbpf would answer with.
    pub fn errno(&self) -> crate::Errno {
        use crate::Errno;
        match self {
            LoadError::Object(_) | LoadError::PinnedDiffers { .. } | LoadError::DomainsDiffer { .. } => {
                Errno::EINVAL
            }
            LoadError::Check { .. } => Errno::EACCES,
            LoadError::Map { source, .. } => source.errno(),
            LoadError::Memory(_) => Errno::ENOMEM,
            LoadError::NoSuchProgram { .. } | LoadError::NoSuchMap(_) => Errno::ENOENT,
            LoadError::TooManyMaps(_) => Errno::ENOSPC,
            LoadError::InitialValue { errno, .. } => *errno,
            LoadError::Saved(_) => Errno::EIO,
        }
    }
}
