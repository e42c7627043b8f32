//! What the control thread is told of a device: link changes, errors, and that the host wants it back.

use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Device, Interrupt};
use crate::nic::NicError;

/// Event descriptors behind one that the control thread waits on.
#[derive(Debug)]
pub struct Events {
    epoll: Epoll,
    /// The driver's: its state may have changed.
    pub changed: EventFd,
    error: EventFd,
    request: EventFd,
    /// What the host said last; it does not take it back.
    gone: Option<i32>,
}

impl Events {
    /// Asks to be told of errors and requests. The driver has `changed` written to.
    pub fn new(device: &Device) -> Result<Events, NicError> {
        let failed = |_| NicError::last("make event descriptors for", device.name(), "close some files");
        let event = || new_event(device.name());
        let events = Events {
            epoll: Epoll::new().map_err(failed)?,
            changed: event()?,
            error: event()?,
            request: event()?,
            gone: None,
        };
        for (index, event) in [&events.changed, &events.error, &events.request]
            .iter()
            .enumerate()
        {
            let interest = EpollEvent::new(EventSet::IN, index as u64);
            events
                .epoll
                .ctl(ControlOperation::Add, event.as_raw_fd(), interest)
                .map_err(failed)?;
        }
        events.set(device)?;
        Ok(events)
    }

    /// Sets the interrupts, again after a reset.
    pub fn set(&self, device: &Device) -> Result<(), NicError> {
        for (kind, event) in [
            (Interrupt::Error, &self.error),
            (Interrupt::Request, &self.request),
        ] {
            // Kernels and buses differ in which of them there are.
            if device.interrupts(kind) > 0 {
                device.set_interrupts(kind, &[event.as_raw_fd()])?;
            }
        }
        Ok(())
    }

    /// Takes what was told. An error says that the device must be let go of.
    pub fn take(&mut self, device: &Device) -> Result<(), NicError> {
        let _ = self.changed.read();
        if self.error.read().is_ok() {
            self.gone = Some(libc::EIO);
        }
        if self.request.read().is_ok() {
            self.gone = Some(libc::EBUSY);
        }
        let hint = match self.gone {
            None => return Ok(()),
            Some(libc::EBUSY) => "the host wants it back: it is being unbound or unplugged",
            Some(_) => "the device or the bus to it failed; see the kernel's log",
        };
        Err(NicError::new(
            "go on with",
            device.name(),
            self.gone.unwrap_or(libc::EIO),
            hint,
        ))
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// A descriptor that an interrupt writes to.
pub fn new_event(nic: &str) -> Result<EventFd, NicError> {
    EventFd::new(EFD_NONBLOCK | libc::O_CLOEXEC)
        .map_err(|_| NicError::last("make event descriptors for", nic, "close some files"))
}
