//! An immutable picture of the model, which workers read without locks.

use std::fmt;
use std::sync::Arc;

use devices::packet::MacAddress;

use crate::counters::Counters;
use crate::{Domain, DropReason, Ifindex, Mode, Model, Policy, Program, Routing, Scrub};

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
    /// The other end; None for a single.
    pub peer: Option<Slot>,
    /// Whether the other end is in another domain.
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
    pub(crate) counters: Arc<Counters>,
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
    /// Whether it was redirected with `BPF_F_INGRESS`. The sender has then counted it already, and
    /// the receiver does not count it.
    pub ingress: bool,
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
            crosses_domains: device
                .peer
                .and_then(|peer| self.devices.get(&peer))
                .is_some_and(|peer| peer.domain != device.domain),
            headroom: device.headroom,
            tailroom: device.tailroom,
            domain: device.domain.clone(),
            routing: self.routing.get(&device.domain).cloned().unwrap_or_default(),
            programs: device.list.programs(),
            counters: device.counters.clone(),
        });
        Arc::new(View {
            devices: devices.collect(),
        })
    }
}

impl View {
    /// The same devices with other programs and with counters of their own, to try out what a frame would meet. Shard 0
    /// is the only one that may transmit on it.
    pub fn apart(&self, program: impl Fn(&Arc<dyn Program>) -> Arc<dyn Program>) -> View {
        let device = |device: &DeviceView| DeviceView {
            programs: device.programs.iter().map(&program).collect(),
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
    #[inline]
    pub fn delivered(&self, delivery: &Delivery, frames: u64, shard: usize) {
        if !delivery.ingress {
            let octets = delivery.bytes;
            self.device(delivery.sender)
                .counters
                .count_tx(frames, octets, shard);
            self.device(delivery.receiver)
                .counters
                .count_rx(frames, octets, shard);
        }
    }

    /// Counts a frame that its receiver did not take: the sender is charged, unless it has counted
    /// the frame as transmitted already.
    pub fn refused(&self, delivery: &Delivery, reason: DropReason, shard: usize) {
        let counters = &self.device(delivery.sender).counters;
        if delivery.ingress {
            counters.count_silent_drop(reason, shard);
        } else {
            counters.count_tx_dropped(reason, shard);
        }
    }

    /// Counts a frame of a sender that was dropped before [`xmit`](crate::xmit()) saw it.
    pub fn count_drop(&self, sender: Slot, reason: DropReason, shard: usize) {
        self.device(sender).counters.count_tx_dropped(reason, shard);
    }
}
