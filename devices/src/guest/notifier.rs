//! An event descriptor of the front end's: how the driver is interrupted, or told of an error.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::alarm::interruptible;

/// Writes to a front end's eventfd, and waits for it once at most.
#[derive(Debug)]
pub struct Notifier {
    file: File,
    // The front end made a write wait, so it gets no other.
    waits: AtomicBool,
}

/// The descriptor is not usable.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// Anything but an eventfd could block the writer, or be somebody's data.
    #[error("the descriptor is \"{0}\", not an eventfd")]
    NotEventfd(String),
    /// It could not be examined or made non-blocking.
    #[error("cannot set up the eventfd: {0}")]
    Io(#[from] io::Error),
}

impl Notifier {
    /// Takes an eventfd.
    pub fn new(fd: OwnedFd) -> Result<Notifier, NotifierError> {
        check_eventfd(fd.as_fd())?;
        // SAFETY: plain fcntl calls on a descriptor that we own.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        // SAFETY: as above.
        if flags < 0 || unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Notifier {
            file: File::from(fd),
            waits: AtomicBool::new(false),
        })
    }

    /// Notifies. A counter that is full needs no further notification, and a broken descriptor is its owner's loss.
    pub fn notify(&self) {
        if self.waits.load(Ordering::Relaxed) {
            return;
        }
        let written = interruptible(|| (&self.file).write(&1u64.to_ne_bytes()));
        if written.is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            self.waits.store(true, Ordering::Relaxed);
        }
    }
}

/// Refuses a descriptor that is no eventfd.
pub fn check_eventfd(fd: BorrowedFd<'_>) -> Result<(), NotifierError> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let name = link.to_string_lossy();
    if name.contains("[eventfd]") {
        Ok(())
    } else {
        Err(NotifierError::NotEventfd(name.into_owned()))
    }
}
