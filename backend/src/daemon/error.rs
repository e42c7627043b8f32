//! Why the daemon refused something, and the errno that says so.

use devices::tap::TapError;

use super::store::StoreError;
use crate::vhost_user::SocketError;

/// A refusal: what was tried, on which object, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] netkit::Error),
    /// A socket could not be set up.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A tap could not be opened.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The change is in force, but will be gone after a restart.
    #[error("the change is in force but was not saved, so a restart will undo it: {0}")]
    NotSaved(#[from] StoreError),
    /// Something stands behind the device already.
    #[error("{device} is attached already; detach it first")]
    Attached {
        /// The device.
        device: String,
    },
    /// Nothing stands behind the device.
    #[error("nothing is attached to {device}, so there is nothing to detach")]
    NotAttached {
        /// The device.
        device: String,
    },
    /// A socket is in use by another device of this daemon.
    #[error("the socket \"{path}\" belongs to {device}; choose another path")]
    SocketTaken {
        /// The path.
        path: String,
        /// Whose it is.
        device: String,
    },
    /// A value out of its range.
    #[error("{what} cannot be {value}; use {allowed}")]
    BadValue {
        /// Which setting.
        what: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The control thread has ended.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

impl DaemonError {
    /// The errno of the refusal.
    pub fn errno(&self) -> i32 {
        match self {
            DaemonError::Model(error) => error.errno().number(),
            DaemonError::Socket(error) => error.errno(),
            DaemonError::Tap(TapError::Io { source, .. }) => source.raw_os_error().unwrap_or(libc::EIO),
            DaemonError::Tap(TapError::BadName(_) | TapError::BadQueues(_))
            | DaemonError::BadValue { .. } => libc::EINVAL,
            DaemonError::NotSaved(error) => error.errno(),
            DaemonError::Attached { .. } => libc::EBUSY,
            DaemonError::NotAttached { .. } => libc::ENOENT,
            DaemonError::SocketTaken { .. } => libc::EADDRINUSE,
            DaemonError::ShuttingDown => libc::ESHUTDOWN,
        }
    }
}
