//! Everything that can keep a command from being carried out, and the exit code that says so.

use vmm_glue::ClientError;
use vmm_glue::vm::hot_plug::PlugError;
use vmm_glue::vm::{NotForGuests, cloud_hypervisor};

use crate::usage::UsageError;
use crate::{map, trace};

/// Exit codes are iproute2's: 255 for a command line that makes no sense, 1 for a device that is not there or
/// a daemon that cannot be reached, 2 for what the daemon or a VMM refuses.
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
    #[error("Error: cannot write to standard output: {0}")]
    Output(std::io::Error),
    #[error("Error: cannot read {path:?}: {source}")]
    CannotRead { path: String, source: std::io::Error },
    #[error("Error: cannot write {path:?}: {source}")]
    CannotWrite { path: String, source: std::io::Error },
    #[error(
        "Error: netkitd sent {0:?} where octets in hexadecimal belong; are nkctl and netkitd of one version?"
    )]
    NotHexadecimal(String),
    #[error("Error: netkitd sent what is no base64: {0}; are nkctl and netkitd of one version?")]
    NotBase64(#[from] base64::DecodeError),
    #[error("Error: the program was stopped: {0}")]
    Stopped(String),
    #[error("Error: {what}_out has {needed} bytes, more than {what}_size_out allows ({size})")]
    NoSpace {
        what: &'static str,
        size: u32,
        needed: usize,
    },
    #[error("Error: no map is pinned as {0:?}; \"nkctl map show\" lists those that are")]
    NotPinned(String),
    #[error("Error: {0}")]
    MapData(#[from] map::DataError),
    /// In bpftool's words.
    #[error("key:\n{0}\n\nNot found")]
    NoEntry(String),
    #[error("Error: empty map")]
    EmptyMap,
    #[error("Error: {0}")]
    Packet(#[from] trace::PacketError),
    #[error("Error: there is no such {0} in this domain.")]
    NoSuch(&'static str),
    #[error("Error: {address} cannot be passed to a guest: {}", .refusals.join("; "))]
    NotPassable { address: String, refusals: Vec<String> },
    #[error("Error: {0}")]
    Plug(#[from] PlugError),
    #[error("Error: {plug}. {address} was given back to the host.")]
    GivenBack { address: String, plug: PlugError },
    #[error(
        "Error: {plug}. {address} was to be given back to the host, but {client}; try \"nkctl nic return {address}\""
    )]
    NotGivenBack {
        address: String,
        plug: PlugError,
        client: Box<ClientError>,
    },
    #[error(
        "Error: {plug}. {address} is still with vfio-pci: if the guest has not got it, \"nkctl nic return {address}\" \
         gives it back to the host"
    )]
    StillPassed { address: String, plug: PlugError },
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(error) => error.exit_code(),
            // A bad command line, too, though only the map shows it.
            Error::MapData(_) => 255,
            Error::Client(ClientError::Refused(_)) | Error::Stopped(_) => 2,
            Error::Plug(plug)
            | Error::GivenBack { plug, .. }
            | Error::NotGivenBack { plug, .. }
            | Error::StillPassed { plug, .. }
                if plug.is_refusal() =>
            {
                2
            }
            Error::NotPassable { .. } => 2,
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

/// As [`changing`], where ENODEV can be about something else than the device: `look` asks for the device itself.
pub fn changing_found<T>(
    device: &str,
    look: impl FnOnce() -> Result<T, ClientError>,
) -> impl FnOnce(ClientError) -> Error {
    move |error| match error.is_no_such_device().then(look) {
        Some(Err(missing)) => changing(device)(missing),
        _ => error.into(),
    }
}
