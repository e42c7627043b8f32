//! The NIC as the control thread sees it: its link, and what it receives.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::driver::{Adapter, MTU};
use super::filter::Filter;
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
    filter: Filter,
}

impl IgbControl {
    /// Of a NIC with that address, which it receives frames for.
    pub fn new(adapter: Arc<Adapter>, events: Events, address: MacAddress) -> IgbControl {
        let filter = Filter::of(address, adapter.queues);
        filter.apply(&adapter);
        IgbControl {
            adapter,
            events,
            address,
            filter,
        }
    }

    fn set(&mut self, filter: Filter) -> Result<(), NicError> {
        filter.apply(&self.adapter);
        self.filter = filter;
        self.status().map(|_| ())
    }

    /// The status register of a NIC that is still ours.
    fn status(&self) -> Result<u32, NicError> {
        let registers = &self.adapter.registers;
        let lost = |errno, hint: &str| NicError::new("talk to", self.adapter.device.name(), errno, hint);
        let status: u32 = registers.read(r::STATUS);
        if status == GONE {
            let hint = "its registers read as ones: it was unplugged, or its bus is down";
            return Err(lost(libc::ENODEV, hint));
        }
        if registers.read::<u32>(r::RCTL) & r::RCTL_EN == 0 {
            let hint = "somebody has reset it, so it has to be opened again";
            return Err(lost(libc::EIO, hint));
        }
        Ok(status)
    }
}

impl Control for IgbControl {
    fn driver(&self) -> String {
        "igb".to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.events.take(&self.adapter.device)?;
        let registers = &self.adapter.registers;
        interrupts::arm_link(registers, self.adapter.queues);
        let status = self.status()?;
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
        self.set(Filter {
            claim: claim.clone(),
            ..self.filter.clone()
        })
    }

    fn steers(&self) -> bool {
        self.adapter.model.pools && self.adapter.queues > 1
    }

    fn steer(&mut self, queue: u32, addresses: &[MacAddress]) -> Result<(), NicError> {
        if !self.steers() {
            return Err(NicError::cannot_steer(queue, addresses.len()));
        }
        let refuse = |errno, hint: &str| {
            let step = format!("have {} addresses arrive at queue {queue} of", addresses.len());
            NicError::new(step, self.adapter.device.name(), errno, hint)
        };
        let mut filter = self.filter.clone();
        match filter.leases.get_mut(queue as usize) {
            Some(lease) if queue > 0 => *lease = addresses.to_vec(),
            _ => {
                return Err(refuse(
                    libc::EINVAL,
                    "queue 0 keeps what is for nobody else; take a higher one",
                ));
            }
        }
        if filter.leased() > self.adapter.model.addresses {
            return Err(refuse(libc::ENOSPC, "the NIC does not know that many"));
        }
        self.set(filter)
    }
}
