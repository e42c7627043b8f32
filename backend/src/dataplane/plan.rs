//! What the workers see of the daemon: the model's view, and what stands behind each device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::guest::GuestPort;
use devices::packet::MacAddress;
use devices::tap::Tap;
use netkit::{Slot, View};

use super::uplink::UplinkPort;

/// An immutable picture of the daemon.
#[derive(Debug)]
pub struct Plan {
    /// The devices.
    pub view: Arc<View>,
    /// What stands behind each device, by its slot in the view.
    pub ports: Vec<Port>,
}

/// What stands behind a device.
#[derive(Debug, Clone, Default)]
pub enum Port {
    /// Nothing.
    #[default]
    None,
    /// A guest.
    Guest {
        /// Its queues.
        port: Arc<GuestPort>,
        /// Its Ethernet address.
        address: Arc<GuestAddress>,
        /// The address that the other end has towards it in L3 mode.
        gateway: MacAddress,
    },
    /// A host netdev.
    Tap {
        /// Its queues.
        tap: Arc<Tap>,
        /// Its Ethernet address.
        address: Arc<GuestAddress>,
        /// The address that the other end has towards it in L3 mode.
        gateway: MacAddress,
    },
    /// An uplink, perhaps with other devices.
    Shared {
        /// None if there is no such uplink.
        uplink: Option<Slot>,
    },
    /// A NIC; the device is an uplink.
    Uplink(UplinkPort),
}

impl Plan {
    /// A plan of nothing.
    pub fn empty(view: Arc<View>) -> Plan {
        Plan {
            view,
            ports: Vec::new(),
        }
    }

    /// What stands behind a device.
    pub fn port(&self, slot: Slot) -> &Port {
        self.ports.get(slot.index()).unwrap_or(&Port::None)
    }
}

/// An Ethernet address that workers learn while they forward.
#[derive(Debug, Default)]
pub struct GuestAddress(AtomicU64);

impl GuestAddress {
    /// Starts with an address.
    pub fn new(address: MacAddress) -> GuestAddress {
        let this = GuestAddress::default();
        this.learn(address);
        this
    }

    /// The address now.
    pub fn get(&self) -> MacAddress {
        let octets = self.0.load(Ordering::Relaxed).to_be_bytes();
        MacAddress(std::array::from_fn(|index| octets[index + 2]))
    }

    /// Takes note of the address that a guest sends from. Stores only what is new, to keep the line shared.
    #[inline]
    pub fn learn(&self, address: MacAddress) {
        let [a, b, c, d, e, f] = address.0;
        let value = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        if address.is_unicast() && self.0.load(Ordering::Relaxed) != value {
            self.0.store(value, Ordering::Relaxed);
        }
    }
}
