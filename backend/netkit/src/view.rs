//! An immutable picture of the model, which workers read without locks.

use std::fmt;
use std::sync::Arc;

use devices::packet::{Frame, MacAddress, flow_hash};

use crate::counters::Counters;
use crate::{Device, DeviceKind, Domain, DropReason, Ifindex, Mode, Model, Policy, Program, Routing, Scrub};

/// The devices as they were when the view was made. Counters are shared with the model and with all
/// other views of it.
#[derive(Debug)]
pub struct View {
    devices: Box<[DeviceView]>,
}

/// The place of a device in one view; means nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(usize);

impl Slot {
    /// The place, from 0, in the order of the ifindexes.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a worker knows of a device.
pub struct DeviceView {
    /// Its number.
    pub ifindex: Ifindex,
    /// Its Ethernet address; zero in L3 mode.
    pub address: MacAddress,
    /// Its MTU in octets, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is the primary of its pair, or a single.
    pub primary: bool,
    /// What its frames carry.
    pub mode: Mode,
    /// What happens to frames it transmits while its list is empty.
    pub policy: Policy,
    /// Whether frames it transmits into another domain lose mark and priority.
    pub scrub: Scrub,
    /// The other end; None for a single and an uplink.
    pub peer: Option<Slot>,
    /// The queues that it leases, through which its frames leave.
    pub lease: Option<LeaseView>,
    /// What it has beside all this if it is an uplink.
    pub uplink: Option<Box<UplinkView>>,
    /// Whether the other end, or a single's uplink, is in another domain.
    pub crosses_domains: bool,
    /// Octets that programs may prepend to frames.
    pub headroom: u16,
    /// Octets that programs may append to frames.
    pub tailroom: u16,
    /// Its domain.
    pub domain: Domain,
    /// The routes and neighbours of its domain.
    pub routing: Arc<Routing>,
    /// The programs that run on what it transmits, in order.
    pub programs: Arc<[Arc<dyn Program>]>,
    /// Where all its frames go, if that does not depend on them.
    pub(crate) straight: Option<Slot>,
    pub(crate) counters: Arc<Counters>,
}

/// What a worker knows of the queues that a device leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// The uplink.
    pub uplink: Slot,
    /// Its queues, those left out that it has no more.
    pub queues: Box<[u32]>,
}

/// What a worker knows of an uplink beside what it knows of every device.
#[derive(Debug, Clone)]
pub struct UplinkView {
    /// Whether the NIC is there and has a carrier.
    pub running: bool,
    /// The programs that run on what it receives, in order; those on what it transmits are the device's.
    pub ingress: Arc<[Arc<dyn Program>]>,
}

impl LeaseView {
    /// The queue for a frame: frames of a flow take the same.
    pub(crate) fn queue(&self, frame: &Frame) -> Option<u16> {
        let queue = match &*self.queues {
            [] => None,
            [queue] => Some(*queue),
            queues => queues.get(flow_hash(frame) as usize % queues.len()).copied(),
        };
        queue.and_then(|queue| queue.try_into().ok())
    }
}

impl DeviceView {
    /// What it is.
    pub fn kind(&self) -> DeviceKind {
        match self.uplink {
            Some(_) => DeviceKind::Uplink,
            None => DeviceKind::Netkit,
        }
    }
}

impl fmt::Debug for DeviceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceView")
            .field("ifindex", &self.ifindex)
            .field("up", &self.up)
            .field("mode", &self.mode)
            .field("peer", &self.peer)
            .field("domain", &self.domain)
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

/// A frame that is to be given to a receiver. It counts as transmitted only when
/// [`View::delivered`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the frame is counted by View::delivered or View::refused"]
pub struct Delivery {
    /// Who gets the frame.
    pub receiver: Slot,
    /// Who sent it: the last device that transmitted it, if it was redirected.
    pub sender: Slot,
    /// What the frame counts as, in octets: its length before the sender's programs ran.
    pub bytes: u64,
    /// How it gets there.
    pub way: Way,
    /// The queue of the NIC, if it is the sender's by a lease. It may be any other that the NIC has.
    pub queue: Option<u16>,
}

/// How a frame gets to its receiver, which says who counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From one end of a pair to the other. Both count.
    Pair,
    /// Out of an uplink, which is both sender and receiver: the frame is for the NIC. The uplink counts it once.
    Wire,
    /// From an uplink to a device without passing another: by `bpf_redirect_peer`, or to a single that leases the queue.
    /// The uplink has counted it already, so the receiver alone counts.
    Inbound,
    /// By a redirect with `BPF_F_INGRESS`. The sender has counted it already, and the receiver does not count it.
    Ingress,
}

impl Model {
    /// The devices as they are now.
    pub fn view(&self) -> Arc<View> {
        let order: Vec<Ifindex> = self.devices.keys().copied().collect();
        let slot_of = |ifindex: Ifindex| order.binary_search(&ifindex).ok().map(Slot);
        let devices = self.devices.values().map(|device| DeviceView {
            ifindex: device.ifindex,
            address: device.address,
            mtu: device.mtu,
            up: device.up,
            primary: device.primary,
            mode: device.mode,
            policy: device.policy,
            scrub: device.scrub,
            peer: device.peer.and_then(slot_of),
            lease: self.lease_view(device, slot_of),
            uplink: device.uplink.as_ref().map(|uplink| {
                Box::new(UplinkView {
                    running: uplink.is_running(),
                    ingress: uplink.ingress.programs(),
                })
            }),
            crosses_domains: device
                .peer
                .or(device.lease.as_ref().map(|lease| lease.uplink))
                .and_then(|other| self.devices.get(&other))
                .is_some_and(|other| other.domain != device.domain),
            headroom: device.headroom,
            tailroom: device.tailroom,
            domain: device.domain.clone(),
            routing: self.routing.get(&device.domain).cloned().unwrap_or_default(),
            programs: device.list.programs(),
            straight: self.straight(device).and_then(slot_of),
            counters: device.counters.clone(),
        });
        Arc::new(View {
            devices: devices.collect(),
        })
    }

    /// The other end of a device whose frames all go there: both are up, no program looks, and no lease leads elsewhere.
    fn straight(&self, device: &Device) -> Option<Ifindex> {
        let peer = self.devices.get(&device.peer?)?;
        let passes = device.list.entries().is_empty() && device.policy == Policy::Forward;
        (passes && device.lease.is_none() && device.up && peer.up).then_some(peer.ifindex)
    }

    fn lease_view(&self, device: &Device, slot_of: impl Fn(Ifindex) -> Option<Slot>) -> Option<LeaseView> {
        let lease = device.lease.as_ref()?;
        let uplink = self.devices.get(&lease.uplink)?;
        let queues = lease.queues.iter().copied();
        Some(LeaseView {
            uplink: slot_of(lease.uplink)?,
            queues: queues.filter(|queue| *queue < uplink.num_rx_queues).collect(),
        })
    }
}

impl View {
    /// The same devices with other programs and with counters of their own, to try out what a frame would meet. Shard 0
    /// is the only one that may transmit on it.
    pub fn apart(&self, program: impl Fn(&Arc<dyn Program>) -> Arc<dyn Program>) -> View {
        let device = |device: &DeviceView| DeviceView {
            programs: device.programs.iter().map(&program).collect(),
            lease: device.lease.clone(),
            uplink: device.uplink.as_ref().map(|uplink| {
                Box::new(UplinkView {
                    running: uplink.running,
                    ingress: uplink.ingress.iter().map(&program).collect(),
                })
            }),
            counters: Arc::new(Counters::new(1)),
            domain: device.domain.clone(),
            routing: device.routing.clone(),
            ..*device
        };
        View {
            devices: self.devices.iter().map(device).collect(),
        }
    }

    /// Where a device is, if the view has it.
    pub fn slot(&self, ifindex: Ifindex) -> Option<Slot> {
        self.devices
            .binary_search_by_key(&ifindex, |device| device.ifindex)
            .ok()
            .map(Slot)
    }

    /// A device.
    ///
    /// # Panics
    /// If the slot is of another, larger view.
    #[inline]
    pub fn device(&self, slot: Slot) -> &DeviceView {
        &self.devices[slot.0]
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether there is no device.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// All devices with their slots, by ifindex.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &DeviceView)> {
        self.devices
            .iter()
            .enumerate()
            .map(|(index, device)| (Slot(index), device))
    }

    /// Counts frames that their receiver took: `frames` of them, all on the way of `delivery`, which has the octets of
    /// all. `shard` is the calling thread's own number.
    // A call would have the delivery copied, out of the processor's store buffer.
    #[inline(always)]
    pub fn delivered(&self, delivery: &Delivery, frames: u64, shard: usize) {
        let octets = delivery.bytes;
        if matches!(delivery.way, Way::Pair | Way::Wire) {
            self.device(delivery.sender)
                .counters
                .count_tx(frames, octets, shard);
        }
        if matches!(delivery.way, Way::Pair | Way::Inbound) {
            self.device(delivery.receiver)
                .counters
                .count_rx(frames, octets, shard);
        }
    }

    /// Counts a frame that its receiver did not take: the sender is charged, and its `tx_dropped` unless it has counted
    /// the frame already.
    pub fn refused(&self, delivery: &Delivery, reason: DropReason, shard: usize) {
        let counters = &self.device(delivery.sender).counters;
        match delivery.way {
            Way::Pair | Way::Wire => counters.count_tx_dropped(reason, shard),
            Way::Inbound | Way::Ingress => counters.count_silent_drop(reason, shard),
        }
    }

    /// Counts a frame that arrived on an uplink and got no further than [`receive`](crate::receive()).
    pub fn count_unclaimed(&self, uplink: Slot, shard: usize) {
        self.device(uplink)
            .counters
            .count_silent_drop(DropReason::NotClaimed, shard);
    }

    /// Counts frames that are lost at the NIC behind an uplink: it took them and could not send them after all, or gave
    /// them and they make no sense, or they waited for a next hop that has not answered.
    pub fn count_lost(&self, uplink: Slot, reason: DropReason, frames: u64, shard: usize) {
        let counters = &self.device(uplink).counters;
        (0..frames).for_each(|_| counters.count_silent_drop(reason, shard));
    }

    /// Counts a frame of a sender that was dropped before [`xmit`](crate::xmit()) saw it.
    pub fn count_drop(&self, sender: Slot, reason: DropReason, shard: usize) {
        self.device(sender).counters.count_tx_dropped(reason, shard);
    }
}
