//! Why something could not be measured.

use std::io;

/// A measurement, or a peer, that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not there, or not what is expected.
    #[error("cannot start {program}: {source}; install it with `tests/setup/bench-packages.sh`")]
    Start { program: String, source: io::Error },
    /// A program did not come up.
    #[error("{program} was not ready after {seconds} s; it said: {said}")]
    NotReady {
        program: String,
        seconds: u64,
        said: String,
    },
    /// A program ended with an error.
    #[error("{program} failed: {said}")]
    Failed { program: String, said: String },
    /// A program printed something else than was agreed.
    #[error("{program} printed no {wanted}: {printed}")]
    Unreadable {
        program: String,
        wanted: &'static str,
        printed: String,
    },
    /// Something of the system could not be had.
    #[error("cannot {action} {object}: {source}")]
    Io {
        action: &'static str,
        object: String,
        source: io::Error,
    },
    /// A guest did not do what it was to do.
    #[error(transparent)]
    Guest(#[from] crate::rig::Error),
    /// The machine lacks what it takes.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// For `map_err`.
    pub fn io(action: &'static str, object: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let object = object.into();
        move |source| Error::Io {
            action,
            object,
            source,
        }
    }

    /// What went wrong, without the paths in it: they are of this machine, and reports are read elsewhere.
    pub fn without_paths(&self) -> String {
        without_paths(&self.to_string())
    }

    /// The last lines of what a program said, on one line.
    pub fn tail(said: &str) -> String {
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(4)..].join("; ")
    }
}

fn without_paths(text: &str) -> String {
    let is_path = |word: &str| word.trim_start_matches(['"', '\'', '(']).starts_with('/');
    let words = text.split_whitespace();
    let words = words.map(|word| if is_path(word) { "(path)" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_machine_do_not_get_into_reports() {
        let text = "the back end at \"/run/a/nk0.sock\" has 2 Gbit/s";
        assert_eq!(without_paths(text), "the back end at (path) has 2 Gbit/s");
    }

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        assert_eq!(Error::tail("1\n2\n\n 3\n4\n5\n"), "2; 3; 4; 5");
    }
}
