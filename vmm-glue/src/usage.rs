//! What can be wrong with a command line, in iproute2's words.

use crate::help;

/// A command line that cannot be carried out as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Not a mistake: the words ask for this text instead of an action, from wherever they stand.
    #[error("{0}")]
    Information(&'static str),
    #[error("{}", help::GENERAL)]
    NoCommand,
    #[error("Command line is not complete. Try option \"help\"")]
    Incomplete,
    #[error("Object \"{0}\" is unknown, try \"nkctl help\".")]
    UnknownObject(String),
    #[error("Command \"{word}\" is unknown, try \"nkctl {object} help\".")]
    UnknownCommand { word: String, object: &'static str },
    #[error("Option \"{0}\" is unknown, try \"nkctl -help\".")]
    UnknownOption(String),
    #[error("Error: argument \"{word}\" is wrong: {why}")]
    Invalid { word: String, why: String },
    #[error("Error: duplicate \"{key}\": \"{word}\" is the second value.")]
    Duplicate { key: String, word: String },
    #[error("Error: either \"{key}\" is duplicate, or \"{word}\" is a garbage.")]
    DuplicateOrGarbage { key: &'static str, word: String },
    #[error("Garbage instead of arguments \"{word} ...\". Try \"nkctl {help}\".")]
    Garbage { word: String, help: &'static str },
    #[error("Not enough information: \"{0}\" argument is required.")]
    Missing(&'static str),
    #[error("\"{0}\" is invalid lladdr.")]
    Address(String),
    #[error("Invalid address length {0} - must be 6 bytes")]
    AddressLength(usize),
    #[error("both \"name\" and \"dev\" cannot be used when creating devices.")]
    NameAndDev,
    #[error("{0} can be used only when creating devices.")]
    OnlyWhenCreating(&'static str),
    #[error("Error: argument of \"mode\" must be either \"l3\" or \"l2\"")]
    Mode,
    #[error("Error: scrub must be either \"none\" or \"default\"")]
    Scrub,
    #[error("netkit: unknown option \"{0}\"?\n{usage}", usage = help::NETKIT)]
    NetkitOption(String),
    #[error("Error: Unknown device type.")]
    UnknownKind,
    #[error("Error: \"{word}\" is not supported: {instead}")]
    NotSupported { word: String, instead: &'static str },
    #[error("Error: argument {0:?} is not UTF-8.")]
    NotUnicode(std::ffi::OsString),
}

impl UsageError {
    pub fn invalid(word: &str, why: impl Into<String>) -> UsageError {
        UsageError::Invalid {
            word: word.into(),
            why: why.into(),
        }
    }

    pub fn invalid_value(word: &str, name: &str) -> UsageError {
        UsageError::invalid(word, format!("Invalid \"{name}\" value"))
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            UsageError::Information(_) => 0,
            UsageError::UnknownObject(_) => 1,
            // With `ip` it is the kernel that refuses the type.
            UsageError::UnknownKind => 2,
            _ => 255,
        }
    }
}
