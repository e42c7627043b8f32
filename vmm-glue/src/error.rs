//! Everything that can keep a command from being carried out, and the exit code that says so.

use vmm_glue::ClientError;
use vmm_glue::vm::{NotForGuests, cloud_hypervisor};

use crate::usage::UsageError;

/// Exit codes are iproute2's: 255 for a command line that makes no sense, 1 for a device that is not there or
/// a daemon that cannot be reached, 2 for what the daemon refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// Where something was to be changed.
    #[error("Cannot find device \"{0}\"")]
    CannotFind(String),
    /// Where something was to be shown.
    #[error("Device \"{0}\" does not exist.")]
    DoesNotExist(String),
    #[error("Error: {0}")]
    Client(#[from] ClientError),
    #[error("Error: {0}")]
    NotForGuests(#[from] NotForGuests),
    #[error("Error: {0}")]
    CloudHypervisor(#[from] cloud_hypervisor::Unwritable),
    #[error("Error: cannot make {path:?} absolute: {source}; give the socket's full path")]
    RelativePath { path: String, source: std::io::Error },
    #[error("Error: cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(error) => error.exit_code(),
            Error::Client(ClientError::Refused(_)) => 2,
            _ => 1,
        }
    }
}

/// Turns the daemon's ENODEV into the words with which `ip` fails to change a device.
pub fn changing(device: &str) -> impl Fn(ClientError) -> Error {
    move |error| match error.is_no_such_device() {
        true => Error::CannotFind(device.into()),
        false => error.into(),
    }
}

/// Turns the daemon's ENODEV into the words with which `ip` fails to show a device.
pub fn showing(device: &str) -> impl Fn(ClientError) -> Error {
    move |error| match error.is_no_such_device() {
        true => Error::DoesNotExist(device.into()),
        false => error.into(),
    }
}
