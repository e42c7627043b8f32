//! What can go wrong with a NIC: what was tried, on which, what the system said, and what to do.

use std::io;

/// A NIC could not be opened, or used as was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {nic}: {source}; {hint}")]
pub struct NicError {
    /// What was tried.
    pub step: String,
    /// On which NIC: a netdev's name, or a PCI address.
    pub nic: String,
    /// What the system said, or would have.
    pub source: io::Error,
    /// What to do.
    pub hint: String,
}

impl NicError {
    /// An error with an errno.
    pub fn new(
        step: impl Into<String>,
        nic: impl Into<String>,
        errno: i32,
        hint: impl Into<String>,
    ) -> NicError {
        NicError {
            step: step.into(),
            nic: nic.into(),
            source: io::Error::from_raw_os_error(errno),
            hint: hint.into(),
        }
    }

    /// The last system call's error.
    pub fn last(step: impl Into<String>, nic: impl Into<String>, hint: impl Into<String>) -> NicError {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        NicError::new(step, nic, errno, hint)
    }

    /// A NIC that has no means to choose a queue.
    pub fn cannot_steer(queue: u32, addresses: usize) -> NicError {
        NicError::new(
            format!("have {addresses} addresses arrive at queue {queue} of"),
            "this NIC",
            libc::EOPNOTSUPP,
            "its driver has no flow rules; share the uplink by address instead",
        )
    }

    /// A NIC whose number of queues is fixed while it is open.
    pub fn cannot_resize(queues: u32) -> NicError {
        NicError::new(
            format!("have {queues} receive queues on"),
            "this NIC",
            libc::EOPNOTSUPP,
            "delete the uplink, and add it with as many queues as you need",
        )
    }

    /// The errno of the refusal.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}
