//! What to tell a virtual machine monitor so that a guest gets a netkit device.

pub mod cloud_hypervisor;
mod cloud_hypervisor_api;
pub mod hot_plug;
pub mod libvirt;
pub mod qemu;
mod qmp;
pub mod shell;

use netkit_api::{AttachmentKind, Device, SocketMode};

/// A device with a vhost-user attachment, as a VMM needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestNic {
    /// The device's name.
    pub name: String,
    /// Path of the vhost-user socket.
    pub socket: String,
    /// netkitd's side of the socket; the VMM takes the other one.
    pub daemon_side: SocketMode,
    /// Queue pairs.
    pub queues: u16,
    /// The Ethernet address that the guest should have; absent lets the VMM choose.
    pub address: Option<String>,
    /// In octets.
    pub mtu: u32,
}

impl GuestNic {
    /// Fails unless `device` is attached to a vhost-user socket.
    pub fn of(device: &Device) -> Result<GuestNic, NotForGuests> {
        let attachment = &device.attachment;
        let name = device.name.clone();
        match (attachment.kind, &attachment.path) {
            (AttachmentKind::VhostUser, Some(path)) => Ok(GuestNic {
                name,
                socket: path.clone(),
                daemon_side: attachment.mode.unwrap_or_default(),
                queues: attachment.queues,
                address: guest_address(device),
                mtu: device.mtu,
            }),
            (AttachmentKind::Tap, _) => Err(NotForGuests::Tap { name }),
            (AttachmentKind::Uplink, _) => Err(NotForGuests::Uplink { name }),
            _ => Err(NotForGuests::Unattached { name }),
        }
    }

    /// The MTU, unless it is what every guest assumes.
    pub fn unusual_mtu(&self) -> Option<u32> {
        (self.mtu != 1500).then_some(self.mtu)
    }

    /// Whether the VMM has to listen on the socket.
    pub fn vmm_listens(&self) -> bool {
        self.daemon_side == SocketMode::Client
    }
}

/// Why a device cannot be given to a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForGuests {
    /// It has no attachment.
    #[error(
        "device \"{name}\" is not attached to a vhost-user socket: attach it first, with \
         \"nkctl attach {name} vhost-user path SOCKET\""
    )]
    Unattached {
        /// The device.
        name: String,
    },
    /// It is attached to an uplink.
    #[error(
        "device \"{name}\" is attached to an uplink, not to a vhost-user socket: a guest goes behind its other end, or \
         \"nkctl detach {name}\", then \"nkctl attach {name} vhost-user path SOCKET\""
    )]
    Uplink {
        /// The device.
        name: String,
    },
    /// It is attached to a host netdev.
    #[error(
        "device \"{name}\" is attached to a tap, not to a vhost-user socket: \"nkctl detach {name}\", then \
         \"nkctl attach {name} vhost-user path SOCKET\""
    )]
    Tap {
        /// The device.
        name: String,
    },
}

/// A PCI NIC that a guest gets whole, as a VMM needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedNic {
    /// Its address on the host, such as `0000:03:00.0`.
    pub address: String,
    /// What the VMM shall call it.
    pub id: String,
    /// The bus of the guest that it goes to; QEMU chooses one if absent.
    pub bus: Option<String>,
}

/// In L3 mode the device's own address is all zero, which no guest can have.
fn guest_address(device: &Device) -> Option<String> {
    let own = (device.address != "00:00:00:00:00:00").then(|| device.address.clone());
    device.attachment.guest_address.clone().or(own)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn nic(daemon_side: SocketMode) -> GuestNic {
        GuestNic {
            name: "nk1".into(),
            socket: "/run/nk/a.sock".into(),
            daemon_side,
            queues: 2,
            address: Some("52:54:00:00:00:01".into()),
            mtu: 1500,
        }
    }

    pub(crate) fn passed(bus: Option<&str>) -> PassedNic {
        PassedNic {
            address: "0000:03:00.0".into(),
            id: "nic0".into(),
            bus: bus.map(String::from),
        }
    }
}
