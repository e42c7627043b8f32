//! The device as the control thread sees it: its link, and what it receives.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use virtio_bindings::virtio_net as net;

use super::command::Commands;
use super::driver::Adapter;
use super::transport::{DRIVER_OK, GONE, NEEDS_RESET};
use crate::nic::vfio::Events;
use crate::nic::{Claim, Control, Link, NicError};
use crate::packet::MacAddress;

/// A device's control.
#[derive(Debug)]
pub struct VirtioControl {
    adapter: Arc<Adapter>,
    events: Events,
    commands: Option<Commands>,
    address: MacAddress,
}

impl VirtioControl {
    /// Of a device that runs.
    pub fn new(adapter: Arc<Adapter>, events: Events, commands: Option<Commands>) -> VirtioControl {
        // A device without an address of its own leaves that to us (5.1.5).
        let address = match adapter.has(net::VIRTIO_NET_F_MAC) {
            true => MacAddress(adapter.transport.config(|config| config.mac())),
            false => MacAddress::ZERO,
        };
        VirtioControl {
            adapter,
            events,
            commands,
            address,
        }
    }

    fn check(&self) -> Result<(), NicError> {
        let nic = self.adapter.device.name();
        match self.adapter.transport.status() {
            GONE => {
                let hint = "its registers read as ones: it was unplugged, or its bus is down";
                Err(NicError::new("talk to", nic, libc::ENODEV, hint))
            }
            status if status & NEEDS_RESET != 0 => {
                let hint = "it says that it needs a reset (DEVICE_NEEDS_RESET)";
                Err(NicError::new("go on with", nic, libc::EIO, hint))
            }
            status if status & DRIVER_OK == 0 => {
                let hint = "somebody has reset it, so it has to be opened again";
                Err(NicError::new("talk to", nic, libc::EIO, hint))
            }
            _ => Ok(()),
        }
    }
}

impl Control for VirtioControl {
    fn driver(&self) -> String {
        "virtio-net".to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.events.take(&self.adapter.device)?;
        self.check()?;
        let has_status = self.adapter.has(net::VIRTIO_NET_F_STATUS);
        Ok(Link {
            address: self.address,
            mtu: u32::from(self.adapter.mtu()),
            running: !has_status || self.adapter.transport.config(|config| config.is_up()),
            speed: None,
            rx_queues: u32::from(self.adapter.pairs),
        })
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.events.as_raw_fd())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), NicError> {
        self.check()?;
        // A device without CTRL_RX passes on all that it gets (5.1.6.5.1).
        if !self.adapter.has(net::VIRTIO_NET_F_CTRL_RX) {
            return Ok(());
        }
        let addresses = match claim {
            Claim::Everything => None,
            Claim::Addresses(addresses) => Some(addresses.as_slice()),
        };
        let done = self
            .commands
            .as_mut()
            .is_some_and(|commands| commands.set_filter(addresses));
        match done {
            true => Ok(()),
            false => {
                let step = "set the addresses of";
                let hint = "it refuses the command, or does not answer";
                Err(NicError::new(step, self.adapter.device.name(), libc::EIO, hint))
            }
        }
    }
}
