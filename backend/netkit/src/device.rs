//! A device: one end of a pair, a single, or an uplink.

use std::sync::Arc;

use devices::packet::MacAddress;

use crate::counters::Counters;
use crate::lease::Lease;
use crate::mprog::ProgramList;
use crate::uplink::Uplink;
use crate::{AttachType, DeviceKind, Domain, Error, Ifindex, Mode, Pairing, Policy, Scrub};

/// The smallest MTU in octets (`ETH_MIN_MTU`).
pub const MTU_MIN: u32 = 68;
/// The largest MTU in octets (`ETH_MAX_MTU`).
pub const MTU_MAX: u32 = 65535;
/// The MTU of a new device in octets (`ETH_DATA_LEN`).
pub(crate) const MTU_DEFAULT: u32 = 1500;
/// Most receive queues (netkit.c: `NETKIT_NUM_RX_QUEUES_MAX`).
pub const RX_QUEUES_MAX: u32 = 1024;
/// Most transmit queues (netkit.c: `NETKIT_NUM_TX_QUEUES_MAX`).
pub const TX_QUEUES_MAX: u32 = 1;

/// Most queues of any device (rtnetlink.c: `rtnl_create_link`).
pub(crate) const RTNL_QUEUES_MAX: u32 = 4096;

/// One end of a pair, a single, or an uplink: a device in L2 mode without another end.
#[derive(Debug)]
pub struct Device {
    /// Its number.
    pub ifindex: Ifindex,
    /// Its name, unique in the daemon.
    pub name: String,
    /// Its Ethernet address; zero in L3 mode.
    pub address: MacAddress,
    /// Its MTU in octets, without the Ethernet header. The other end may have another.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Where redirects of programs that see frames towards it resolve.
    pub domain: Domain,
    /// What its frames carry.
    pub mode: Mode,
    /// What happens to frames it transmits while its list is empty.
    pub policy: Policy,
    /// Whether frames it transmits into another domain lose mark and priority.
    pub scrub: Scrub,
    /// Whether it has another end.
    pub pairing: Pairing,
    /// Whether it is the end that settings and programs are managed through.
    pub primary: bool,
    /// The other end; None for a single.
    pub peer: Option<Ifindex>,
    /// Octets that programs may prepend to frames.
    pub headroom: u16,
    /// Octets that programs may append to frames.
    pub tailroom: u16,
    /// Receive queues it was created with; of an uplink, those that the NIC has now.
    pub num_rx_queues: u32,
    /// Transmit queues it was created with.
    pub num_tx_queues: u32,
    /// The programs that run on what it transmits.
    pub(crate) list: ProgramList,
    /// The queues that it leases.
    pub(crate) lease: Option<Lease>,
    /// What it has beside all this if it is an uplink.
    pub(crate) uplink: Option<Box<Uplink>>,
    pub(crate) counters: Arc<Counters>,
}

impl Device {
    /// What it is.
    pub fn kind(&self) -> DeviceKind {
        match self.uplink {
            Some(_) => DeviceKind::Uplink,
            None => DeviceKind::Netkit,
        }
    }

    /// One of its lists: what an uplink receives has one of its own.
    pub(crate) fn list(&self, attach_type: AttachType) -> &ProgramList {
        match &self.uplink {
            Some(uplink) if attach_type == AttachType::TcxIngress => &uplink.ingress,
            _ => &self.list,
        }
    }

    pub(crate) fn list_mut(&mut self, attach_type: AttachType) -> &mut ProgramList {
        match &mut self.uplink {
            Some(uplink) if attach_type == AttachType::TcxIngress => &mut uplink.ingress,
            _ => &mut self.list,
        }
    }
}

/// dev.c: `dev_validate_mtu`.
pub(crate) fn validate_mtu(device: &str, mtu: u32) -> Result<(), Error> {
    if mtu < MTU_MIN {
        return Err(Error::MtuTooSmall {
            device: device.to_owned(),
            mtu,
        });
    }
    if mtu > MTU_MAX {
        return Err(Error::MtuTooLarge {
            device: device.to_owned(),
            mtu,
        });
    }
    Ok(())
}

/// etherdevice.h: `is_valid_ether_addr`.
pub(crate) fn validate_address(device: &str, address: MacAddress) -> Result<(), Error> {
    if !address.is_unicast() {
        return Err(Error::AddressInvalid {
            device: device.to_owned(),
            address,
        });
    }
    Ok(())
}

/// rtnetlink.c: `rtnl_create_link` for what no device can have, then netkit.c: `netkit_alloc` for
/// what netkit cannot.
pub(crate) fn validate_queues(device: &str, tx: u32, rx: u32) -> Result<(), Error> {
    let queues = [("transmit", tx, TX_QUEUES_MAX), ("receive", rx, RX_QUEUES_MAX)];
    let device = || device.to_owned();
    if let Some((direction, count, _)) = queues
        .into_iter()
        .find(|(_, count, _)| !(1..=RTNL_QUEUES_MAX).contains(count))
    {
        return Err(Error::QueuesInvalid {
            device: device(),
            direction,
            count,
        });
    }
    if let Some((direction, count, limit)) = queues.into_iter().find(|(_, count, limit)| count > limit) {
        return Err(Error::QueuesUnsupported {
            device: device(),
            direction,
            count,
            limit,
        });
    }
    Ok(())
}
