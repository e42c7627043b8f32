//! Leases: receive queues of a NIC that a netkit device has for as long as it lives
//! (netdev-genl.c: `netdev_nl_queue_create_doit`).
//!
//! In the kernel a leased queue is reached by AF_XDP, which meets no program in either direction. Here what passes a
//! leased queue is a frame of the lessee like any other: what it sends runs its list and then the uplink's egress list,
//! and what arrives runs the uplink's ingress list and then, for a pair, the primary's. So policy holds on leased queues
//! too.

use crate::{
    Device, Domain, Error, Ifindex, LeaseError, Model, Pairing, QueueBusy, QueueInfo, QueueKind, QueueLease,
    QueueUse,
};

/// What is to be leased, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The device that gets the queue: a pair's peer, or a single.
    pub device: Ifindex,
    /// The caller's domain, outside of which it sees no device. None sees all.
    pub caller_domain: Option<Domain>,
    /// The uplink.
    pub uplink: Ifindex,
    /// Which of its receive queues.
    pub queue: u32,
    /// The kind of the new queue: only `rx` can be made.
    pub kind: QueueKind,
    /// The kind of the uplink's queue: only `rx` can be leased.
    pub queue_kind: QueueKind,
    /// The uplink's domain, if it is not to be looked for where the caller is.
    pub uplink_domain: Option<String>,
}

/// The queues that a device leases, all of one NIC, because what NICs can do differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The NIC.
    pub uplink: Ifindex,
    /// Its queues, at least one; the first is the device's queue 1, as queue 0 is never leased on its side.
    pub queues: Vec<u32>,
}

impl Model {
    /// Leases a queue to a device for as long as it lives, and returns the queue's number there. The checks come in the
    /// kernel's order.
    pub fn lease(&mut self, request: &LeaseRequest) -> Result<u32, Error> {
        let error = |source| Error::Lease {
            queue: request.queue,
            uplink: self.name_of(request.uplink),
            device: self.name_of(request.device),
            source,
        };
        if request.kind != QueueKind::Rx || request.queue_kind != QueueKind::Rx {
            return Err(error(LeaseError::NotRx));
        }
        let device = self.visible(request.device, request.caller_domain.as_ref())?;
        can_create_queue(device).map_err(error)?;
        let uplink = self.lessor(request)?;
        can_lease_queue(uplink).map_err(error)?;
        if request.queue >= uplink.num_rx_queues {
            let count = uplink.num_rx_queues;
            return Err(error(LeaseError::OutOfRange { count }));
        }
        if let Some(busy) = self.queue_busy(uplink, request.queue) {
            return Err(error(LeaseError::Busy(busy)));
        }
        if let Some(lease) = device
            .lease
            .as_ref()
            .filter(|lease| lease.uplink != uplink.ifindex)
        {
            let other = self.name_of(lease.uplink);
            return Err(error(LeaseError::OtherUplink { other }));
        }
        self.can_grow(device).map_err(error)?;

        let device = self.device_mut(request.device)?;
        let lease = device.lease.get_or_insert_with(|| Lease {
            uplink: request.uplink,
            queues: Vec::new(),
        });
        lease.queues.push(request.queue);
        Ok(lease.queues.len() as u32)
    }

    /// A receive queue. Who leases it is shown of an uplink's queues alone: a device is not to learn what is behind it
    /// (netdev-genl.c: `netdev_nl_queue_fill_lease`).
    pub fn queue(&self, ifindex: Ifindex, queue: u32) -> Result<QueueInfo, Error> {
        let device = self.device(ifindex)?;
        let lease = match device.uplink {
            Some(_) => self.lease_of(device, queue),
            None => None,
        };
        let count = self.rx_queues(device);
        if queue >= count && lease.is_none() {
            return Err(Error::NoSuchQueue {
                device: device.name.clone(),
                queue,
                count,
            });
        }
        let uses = device.uplink.as_ref().map(|uplink| &uplink.uses);
        Ok(QueueInfo {
            ifindex,
            queue,
            present: queue < count,
            used_by: uses
                .and_then(|uses| uses.get(&queue).copied())
                .unwrap_or(QueueUse::Free),
            lease,
        })
    }

    /// All receive queues of a device, and those that are leased though the NIC has them no more.
    pub fn queues(&self, ifindex: Ifindex) -> Result<Vec<QueueInfo>, Error> {
        let device = self.device(ifindex)?;
        let gone = self.leases_of(ifindex).map(|(_, _, queue)| queue);
        let mut queues: Vec<u32> = (0..self.rx_queues(device)).chain(gone).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
            .into_iter()
            .map(|queue| self.queue(ifindex, queue))
            .collect()
    }

    /// The devices that lease queues of an uplink, by ifindex.
    pub fn lessees(&self, uplink: Ifindex) -> Vec<Ifindex> {
        let leases = |device: &&Device| device.lease.as_ref().is_some_and(|lease| lease.uplink == uplink);
        self.devices
            .values()
            .filter(leases)
            .map(|device| device.ifindex)
            .collect()
    }

    /// Who has a queue (netdev_queues.c: `netdev_queue_busy`).
    pub(crate) fn queue_busy(&self, uplink: &Device, queue: u32) -> Option<QueueBusy> {
        let used_by = uplink.uplink.as_ref().and_then(|uplink| uplink.uses.get(&queue));
        if used_by == Some(&QueueUse::AfXdp) {
            return Some(QueueBusy::AfXdp);
        }
        if let Some(lease) = self.lease_of(uplink, queue) {
            let lessee = self.name_of(lease.ifindex);
            return Some(QueueBusy::Leased { lessee });
        }
        (used_by == Some(&QueueUse::MemoryProvider)).then_some(QueueBusy::MemoryProvider)
    }

    /// Receive queues that there are now: of a netkit device one, and those that it leases (netkit.c: `netkit_alloc`).
    fn rx_queues(&self, device: &Device) -> u32 {
        match (&device.uplink, &device.lease) {
            (Some(_), _) => device.num_rx_queues,
            (None, Some(lease)) => 1 + lease.queues.len() as u32,
            (None, None) => 1,
        }
    }

    /// All leases of an uplink: the lessee, the number of the queue there, the number at the uplink.
    fn leases_of(&self, uplink: Ifindex) -> impl Iterator<Item = (&Device, u32, u32)> {
        self.devices.values().flat_map(move |device| {
            let lease = device.lease.as_ref().filter(|lease| lease.uplink == uplink);
            let queues = lease.map_or(&[][..], |lease| &lease.queues);
            (1..).zip(queues).map(move |(id, queue)| (device, id, *queue))
        })
    }

    fn lease_of(&self, uplink: &Device, queue: u32) -> Option<QueueLease> {
        let (lessee, id, _) = self
            .leases_of(uplink.ifindex)
            .find(|(_, _, leased)| *leased == queue)?;
        Some(QueueLease {
            ifindex: lessee.ifindex,
            queue: id,
            domain: (lessee.domain != uplink.domain).then(|| lessee.domain.clone()),
        })
    }

    /// A device that a caller sees.
    fn visible(&self, ifindex: Ifindex, caller: Option<&Domain>) -> Result<&Device, Error> {
        let device = self.device(ifindex)?;
        match caller {
            Some(domain) if device.domain != *domain => Err(Error::no_such_device(ifindex)),
            _ => Ok(device),
        }
    }

    /// The uplink of a request: in the domain that it names, or else where the caller is.
    fn lessor(&self, request: &LeaseRequest) -> Result<&Device, Error> {
        let Some(name) = &request.uplink_domain else {
            return self.visible(request.uplink, request.caller_domain.as_ref());
        };
        let domain = Domain::new(name).ok().filter(|domain| self.has_domain(domain));
        let domain = domain.ok_or_else(|| Error::NoSuchDomain { name: name.clone() })?;
        self.visible(request.uplink, Some(&domain))
    }

    /// netkit.c: `netkit_queue_create`.
    fn can_grow(&self, device: &Device) -> Result<(), LeaseError> {
        if device.pairing == Pairing::Pair && device.primary {
            let peer = device.peer.map_or(String::new(), |peer| self.name_of(peer));
            return Err(LeaseError::OfPrimary { peer });
        }
        if self.rx_queues(device) >= device.num_rx_queues {
            let limit = device.num_rx_queues;
            return Err(LeaseError::LimitReached { limit });
        }
        Ok(())
    }

    /// Whether a domain is known: the daemon's own, and those that devices are in.
    fn has_domain(&self, domain: &Domain) -> bool {
        *domain == Domain::host() || self.devices.values().any(|device| device.domain == *domain)
    }

    /// A device's name for a message.
    fn name_of(&self, ifindex: Ifindex) -> String {
        self.devices
            .get(&ifindex)
            .map_or_else(|| format!("ifindex {ifindex}"), |device| device.name.clone())
    }
}

/// netdev_queues.c: `netdev_can_create_queue`. What is no NIC with a bus behind it is virtual, but makes no queues.
fn can_create_queue(device: &Device) -> Result<(), LeaseError> {
    match &device.uplink {
        Some(uplink) if uplink.leasable => Err(LeaseError::ToPhysical),
        Some(_) => Err(LeaseError::NoQueueCreation),
        None => Ok(()),
    }
}

/// netdev_queues.c: `netdev_can_lease_queue`.
fn can_lease_queue(device: &Device) -> Result<(), LeaseError> {
    match &device.uplink {
        None => Err(LeaseError::FromVirtual),
        Some(uplink) if !uplink.present => Err(LeaseError::Removed),
        Some(uplink) if !uplink.leasable => Err(LeaseError::NoQueueManagement),
        Some(_) => Ok(()),
    }
}
