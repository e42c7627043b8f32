//! Why an object is refused.

/// Why an object is refused: where in it, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The file as a whole.
    #[error("this is no object that can be loaded: {0}")]
    File(String),
    /// A section.
    #[error("section `{section}`: {problem}")]
    Section {
        /// Its name.
        section: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// An instruction.
    #[error("section `{section}`, function `{function}`, instruction {instruction}: {problem}")]
    Instruction {
        /// The section's name.
        section: String,
        /// The function's name.
        function: String,
        /// The place in the function, from 0.
        instruction: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A program.
    #[error("section `{section}`, program `{program}`: {problem}")]
    Program {
        /// The section's name.
        section: String,
        /// The program's name.
        program: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A map.
    #[error("map `{map}`: {problem}")]
    Map {
        /// Its name.
        map: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A symbol that the object expects somebody else to have.
    #[error("extern `{symbol}`: {problem}")]
    Extern {
        /// Its name.
        symbol: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The type information.
    #[error("section `{section}`: {error}")]
    Types {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        error: super::btf::BtfError,
    },
}

impl ObjectError {
    /// Something about a section.
    pub(super) fn section(section: &str, problem: impl Into<String>) -> ObjectError {
        ObjectError::Section {
            section: section.into(),
            problem: problem.into(),
        }
    }

    /// Something about a map.
    pub(super) fn map(map: &str, problem: impl Into<String>) -> ObjectError {
        ObjectError::Map {
            map: map.into(),
            problem: problem.into(),
        }
    }

    /// Something about an extern.
    pub(super) fn external(symbol: &str, problem: impl Into<String>) -> ObjectError {
        ObjectError::Extern {
            symbol: symbol.into(),
            problem: problem.into(),
        }
    }
}
