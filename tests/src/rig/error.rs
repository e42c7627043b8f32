//! What can go wrong with a guest, told with what it said last.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, result};

/// The result of everything the rig does.
pub type Result<T> = result::Result<T, Error>;

/// Why the rig could not do what a test asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no guest image: {0} is missing; run `make setup`, or name the image's directory in NETKIT_GUEST_DIR"
    )]
    NoImage(PathBuf),

    #[error("could not {action} {object}: {source}")]
    Io {
        action: &'static str,
        object: String,
        source: io::Error,
    },

    #[error("{program} is missing or does not run: {reason}; run `make setup`")]
    Program { program: String, reason: String },

    #[error(
        "guest {guest}: QEMU is gone ({status}); its messages:\n{messages}\nthe guest's last words:\n{console}"
    )]
    QemuGone {
        guest: String,
        status: String,
        messages: String,
        console: String,
    },

    #[error("guest {guest}: the kernel panicked:\n{console}")]
    Panic { guest: String, console: String },

    #[error(
        "guest {guest} was not ready after {waited:?} (slow machine? raise NETKIT_TIMEOUT_SCALE); its last words:\n{console}"
    )]
    BootTimeout {
        guest: String,
        waited: Duration,
        console: String,
    },

    #[error("guest {guest}: `{command}` had not ended after {waited:?}; its output so far:\n{output}")]
    CommandTimeout {
        guest: String,
        command: String,
        waited: Duration,
        output: String,
    },

    #[error("guest {guest}: `{command}` ended with status {status}:\n{output}")]
    CommandFailed {
        guest: String,
        command: String,
        status: i32,
        output: String,
    },

    #[error("guest {guest}: could not make sense of the output of `{command}` ({reason}):\n{output}")]
    Unintelligible {
        guest: String,
        command: String,
        reason: String,
        output: String,
    },

    #[error("QEMU refused {command}: {reason}")]
    Qmp { command: String, reason: String },

    #[error("QEMU did not send {awaited} within {waited:?}")]
    QmpTimeout { awaited: String, waited: Duration },
}

impl Error {
    /// Wraps an I/O error with what was being done to which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let object = path.display().to_string();
        move |source| Error::Io {
            action,
            object,
            source,
        }
    }
}
