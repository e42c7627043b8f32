//! Uplinks: NICs as devices of the model, which share names, ifindexes and domains with the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use devices::packet::MacAddress;

use crate::counters::Counters;
use crate::device::{RTNL_QUEUES_MAX, validate_address};
use crate::mprog::ProgramList;
use crate::{
    ChannelsError, Device, Domain, Error, Ifindex, Mode, Model, Pairing, Policy, QueueUse, QueueUseError,
    Scrub,
};

/// What a new uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkRequest {
    /// Its name, at most 15 octets; one `%d` becomes a free number.
    pub name: String,
    /// Its ifindex. Default the next free one.
    pub ifindex: Option<u32>,
    /// Its domain. Default `host`.
    pub domain: Option<String>,
    /// The NIC's Ethernet address.
    pub address: MacAddress,
    /// The NIC's MTU in octets.
    pub mtu: u32,
    /// The NIC's receive queues, whoever uses them.
    pub rx_queues: u32,
    /// Whether the NIC can give queues away (`netdev_queue_mgmt_ops`).
    pub leasable: bool,
}

/// What a NIC is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicState {
    /// Its Ethernet address.
    pub address: MacAddress,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Its receive queues, whoever uses them.
    pub rx_queues: u32,
    /// Whether it is up on its side and has a carrier.
    pub running: bool,
    /// Whether it is there at all.
    pub present: bool,
}

/// What an uplink has beside what every device has.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// Whether its queues can be leased.
    pub leasable: bool,
    /// Whether the NIC is up and has a carrier.
    pub running: bool,
    /// Whether the NIC is there.
    pub present: bool,
    /// The programs that run on what the NIC receives.
    pub ingress: ProgramList,
    /// The receive queues that others than lessees use. Not saved: who uses them says so again.
    pub uses: BTreeMap<u32, QueueUse>,
}

impl Uplink {
    pub(crate) fn new(leasable: bool) -> Uplink {
        Uplink {
            leasable,
            running: true,
            present: true,
            ingress: ProgramList::new(),
            uses: BTreeMap::new(),
        }
    }

    /// Whether frames can pass the NIC.
    pub fn is_running(&self) -> bool {
        self.running && self.present
    }
}

impl Model {
    /// Creates an uplink, which starts up and with its NIC running.
    pub fn create_uplink(&mut self, request: &UplinkRequest) -> Result<Ifindex, Error> {
        let ifindex = request.ifindex.map(Ifindex::new).transpose()?;
        if let Some(ifindex) = ifindex.filter(|ifindex| self.devices.contains_key(ifindex)) {
            return Err(Error::IfindexTaken { ifindex });
        }
        validate_address(&request.name, request.address)?;
        self.refuse_more_than(1)?;
        let domain = request
            .domain
            .as_deref()
            .map_or_else(|| Ok(Domain::host()), Domain::new)?;
        let name = self.names.allocate(&request.name, |_| false)?;
        let ifindex = ifindex.unwrap_or_else(|| self.next_ifindex(None));
        self.insert(Device {
            ifindex,
            name,
            address: request.address,
            mtu: request.mtu,
            up: true,
            domain,
            mode: Mode::L2,
            policy: Policy::Forward,
            scrub: Scrub::Default,
            pairing: Pairing::Single,
            primary: true,
            peer: None,
            headroom: 0,
            tailroom: 0,
            num_rx_queues: request.rx_queues.min(RTNL_QUEUES_MAX),
            num_tx_queues: 1,
            list: ProgramList::new(),
            lease: None,
            uplink: Some(Box::new(Uplink::new(request.leasable))),
            counters: Arc::new(Counters::new(self.shards)),
        });
        Ok(ifindex)
    }

    /// Takes over what the NIC is like now. If it has fewer queues than before, that is its own doing: leases of those
    /// that are gone stay, and are shown as such.
    pub fn set_nic(&mut self, ifindex: Ifindex, nic: NicState) -> Result<(), Error> {
        let device = self.device_mut(ifindex)?;
        let Some(uplink) = &mut device.uplink else {
            return Err(not_an_uplink(device, "take over what the NIC is like for"));
        };
        (uplink.running, uplink.present) = (nic.running, nic.present);
        (device.address, device.mtu) = (nic.address, nic.mtu);
        device.num_rx_queues = nic.rx_queues.min(RTNL_QUEUES_MAX);
        Ok(())
    }

    /// Sets how many receive queues a NIC has, of which none that would go may be in use
    /// (ethtool/channels.c: `ethnl_set_channels`).
    pub fn set_channels(&mut self, ifindex: Ifindex, rx_queues: u32) -> Result<(), Error> {
        let device = self.device(ifindex)?;
        let error = |source| Error::Channels {
            device: device.name.clone(),
            count: rx_queues,
            source,
        };
        if device.uplink.is_none() {
            return Err(error(ChannelsError::NotSupported));
        }
        if !(1..=RTNL_QUEUES_MAX).contains(&rx_queues) {
            return Err(error(ChannelsError::OutOfRange));
        }
        for queue in rx_queues..device.num_rx_queues {
            if let Some(busy) = self.queue_busy(device, queue) {
                return Err(error(ChannelsError::Busy { queue, busy }));
            }
        }
        self.device_mut(ifindex)?.num_rx_queues = rx_queues;
        Ok(())
    }

    /// Says who uses a receive queue of a NIC by other means than a lease.
    pub fn set_queue_use(&mut self, ifindex: Ifindex, queue: u32, to: QueueUse) -> Result<(), Error> {
        let device = self.device(ifindex)?;
        let Some(uplink) = &device.uplink else {
            return Err(not_an_uplink(device, "use the queues of"));
        };
        let now = uplink.uses.get(&queue).copied().unwrap_or(QueueUse::Free);
        if to != QueueUse::Free && to != now {
            let error = |source| Error::QueueUse {
                device: device.name.clone(),
                queue,
                source,
            };
            if queue >= device.num_rx_queues {
                return Err(error(QueueUseError::OutOfRange));
            }
            if let Some(busy) = self.queue_busy(device, queue) {
                return Err(error(QueueUseError::Busy { to, busy }));
            }
        }
        if let Some(uplink) = &mut self.device_mut(ifindex)?.uplink {
            match to {
                QueueUse::Free => uplink.uses.remove(&queue),
                to => uplink.uses.insert(queue, to),
            };
        }
        Ok(())
    }

    /// Removes an uplink, as when its NIC is unregistered: every device that leases one of its queues goes with it, and
    /// that device's other end. Returns those (netkit.c: `netkit_check_lease_unregister`).
    pub fn remove_uplink(&mut self, ifindex: Ifindex) -> Result<Vec<Ifindex>, Error> {
        let device = self.device(ifindex)?;
        if device.uplink.is_none() {
            return Err(not_an_uplink(device, "remove"));
        }
        let mut deleted = Vec::new();
        for lessee in self.lessees(ifindex) {
            deleted.extend(self.delete(lessee)?);
        }
        self.forget(ifindex);
        Ok(deleted)
    }
}

fn not_an_uplink(device: &Device, operation: &'static str) -> Error {
    Error::NotUplink {
        operation,
        device: device.name.clone(),
    }
}
