//! The NIC as the control thread sees it: link, addresses.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::driver::{Adapter, MTU};
use super::interrupts;
use super::registers as r;
use crate::nic::vfio::Events;
use crate::nic::{Claim, Control, Link, NicError};
use crate::packet::MacAddress;

/// What a register of a device that is gone reads as.
const GONE: u32 = u32::MAX;

/// A NIC's control.
#[derive(Debug)]
pub struct IgbControl {
    adapter: Arc<Adapter>,
    events: Events,
    address: MacAddress,
    claim: Claim,
}

impl IgbControl {
    /// Of a NIC with that address.
    pub fn new(adapter: Arc<Adapter>, events: Events, address: MacAddress) -> IgbControl {
        IgbControl {
            adapter,
            events,
            address,
            claim: Claim::Addresses(vec![address]),
        }
    }

    /// Lets frames in for the first time.
    pub fn start(&mut self) -> Result<(), NicError> {
        self.filter();
        Ok(())
    }

    /// Sets what frames are received: all groups, and addresses as far as there is room for them.
    fn filter(&self) {
        let registers = &self.adapter.registers;
        let room = self.adapter.model.addresses;
        let addresses: &[MacAddress] = match &self.claim {
            Claim::Addresses(addresses) if addresses.len() <= room => addresses,
            _ => &[],
        };
        for index in 0..room {
            let (low, high) = r::address(index);
            let [a, b, c, d, e, f] = addresses.get(index).map_or([0; 6], |address| address.0);
            let valid = if index < addresses.len() { r::RAH_AV } else { 0 };
            // The address is not valid while it changes.
            registers.write(high, 0u32);
            registers.write(low, u32::from_le_bytes([a, b, c, d]));
            registers.write(high, u32::from_le_bytes([e, f, 0, 0]) | valid);
        }
        let everything = match &self.claim {
            Claim::Addresses(addresses) if addresses.len() <= room => 0,
            _ => r::RCTL_UPE,
        };
        registers.write(r::MRQC, r::MRQC_RSS | r::MRQC_FIELDS);
        let always = r::RCTL_EN | r::RCTL_MPE | r::RCTL_BAM | r::RCTL_LPE | r::RCTL_SECRC;
        registers.write(r::RCTL, always | everything);
    }

    fn gone(&self) -> NicError {
        let hint = "its registers read as ones: it was unplugged, or its bus is down";
        NicError::new("talk to", self.adapter.device.name(), libc::ENODEV, hint)
    }
}

impl Control for IgbControl {
    fn driver(&self) -> String {
        "igb".to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.events.take(&self.adapter.device)?;
        let registers = &self.adapter.registers;
        // Reading clears it, without which the next change would fire nothing (8.8.1).
        registers.read::<u32>(r::ICR);
        interrupts::arm(registers, self.adapter.queues);
        let status: u32 = registers.read(r::STATUS);
        if status == GONE {
            return Err(self.gone());
        }
        let running = status & r::STATUS_LU != 0;
        let speed = match status >> r::STATUS_SPEED_SHIFT & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        };
        Ok(Link {
            address: self.address,
            mtu: MTU,
            running,
            speed: running.then_some(speed),
            rx_queues: self.adapter.queues as u32,
        })
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.events.as_raw_fd())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), NicError> {
        self.claim = claim.clone();
        self.filter();
        match self.adapter.registers.read::<u32>(r::STATUS) {
            GONE => Err(self.gone()),
            _ => Ok(()),
        }
    }
}
