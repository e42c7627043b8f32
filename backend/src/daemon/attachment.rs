//! What stands behind a device, as the control thread holds it.

use std::sync::Arc;

use devices::guest::GuestPort;
use devices::packet::MacAddress;
use devices::tap::Tap;
use netkit::{Device, Ifindex, Mode, View};
use netkit_api::{AttachmentKind, AttachmentSpec, TapSpec, UplinkSpec, VhostUserSpec};

use super::store::SavedAttachment;
use super::uplinks::Uplink;
use crate::dataplane::{GuestAddress, Port, SharedBy};
use crate::vhost_user::{Connection, Endpoint, Session};

/// What stands behind a device.
#[derive(Debug)]
pub enum Attachment {
    /// A guest.
    VhostUser(Box<VhostUserAttachment>),
    /// A host netdev.
    Tap(TapAttachment),
    /// A NIC, perhaps with other devices.
    Uplink(UplinkAttachment),
}

/// An uplink, behind a device.
#[derive(Debug)]
pub struct UplinkAttachment {
    pub spec: UplinkSpec,
    pub uplink: Ifindex,
    /// By what frames for the device are known. No addresses: by the one of its other end.
    pub by: SharedBy,
}

/// A guest, connected or not.
#[derive(Debug)]
pub struct VhostUserAttachment {
    pub spec: VhostUserSpec,
    /// The address that the guest is told to have.
    pub assigned: MacAddress,
    /// The address that it uses.
    pub address: Arc<GuestAddress>,
    pub features: u64,
    pub port: Arc<GuestPort>,
    pub endpoint: Endpoint,
    pub link: Option<(Connection, Session)>,
    /// A front end could not be accepted; its socket is not listened to until the next try.
    pub paused: bool,
}

/// An open tap.
#[derive(Debug)]
pub struct TapAttachment {
    pub tap: Arc<Tap>,
    pub address: Arc<GuestAddress>,
}

impl VhostUserAttachment {
    /// A guest that is not connected yet.
    pub fn new(
        spec: VhostUserSpec,
        assigned: MacAddress,
        features: u64,
        endpoint: Endpoint,
    ) -> VhostUserAttachment {
        VhostUserAttachment {
            assigned,
            address: Arc::new(GuestAddress::new(assigned)),
            features,
            port: Arc::new(GuestPort::new(spec.queues)),
            endpoint,
            link: None,
            paused: false,
            spec,
        }
    }
}

impl VhostUserAttachment {
    /// The address that the guest should have: the device's own, or in L3 mode, where that is zero, one of the daemon's.
    pub fn guest_address(&self, device: &Device) -> MacAddress {
        match device.mode {
            Mode::L2 => device.address,
            Mode::L3 => self.assigned,
        }
    }
}

impl Attachment {
    /// Whether it is a guest with a front end.
    pub fn is_connected_guest(&self) -> bool {
        matches!(self, Attachment::VhostUser(this) if this.link.is_some())
    }

    /// As workers see it.
    pub fn port(&self, gateway: MacAddress, view: &View) -> Port {
        match self {
            Attachment::VhostUser(this) => Port::Guest {
                port: this.port.clone(),
                address: this.address.clone(),
                gateway,
            },
            Attachment::Tap(this) => Port::Tap {
                tap: this.tap.clone(),
                address: this.address.clone(),
                gateway,
            },
            Attachment::Uplink(this) => Port::Shared {
                uplink: view.slot(this.uplink),
            },
        }
    }

    /// As it is saved. `None` for what only the daemon's starter can give again.
    pub fn saved(&self, ifindex: Ifindex) -> Option<SavedAttachment> {
        let (spec, address, features) = match self {
            Attachment::VhostUser(this) if this.spec.path.is_empty() => return None,
            Attachment::VhostUser(this) => (
                AttachmentSpec::VhostUser(this.spec.clone()),
                this.assigned,
                this.features,
            ),
            Attachment::Tap(this) => {
                let queues = Some(this.tap.queues.len() as u16);
                let spec = TapSpec {
                    ifname: Some(this.tap.name.clone()),
                    queues,
                    fd: None,
                };
                (AttachmentSpec::Tap(spec), this.address.get(), 0)
            }
            Attachment::Uplink(this) => (AttachmentSpec::Uplink(this.spec.clone()), MacAddress::ZERO, 0),
        };
        Some(SavedAttachment {
            ifindex,
            spec,
            guest_address: address.to_string(),
            features,
        })
    }

    /// As the API shows it.
    pub fn shown(&self, device: &Device, uplink: Option<&Uplink>) -> netkit_api::Attachment {
        match self {
            Attachment::VhostUser(this) => netkit_api::Attachment {
                kind: AttachmentKind::VhostUser,
                path: Some(this.spec.path.clone()).filter(|path| !path.is_empty()),
                mode: Some(this.spec.mode),
                queues: this.spec.queues,
                ifname: None,
                uplink: None,
                connected: this.link.is_some(),
                running: this
                    .link
                    .as_ref()
                    .is_some_and(|(_, session)| session.is_running()),
                guest_address: Some(this.guest_address(device).to_string()),
                features: this.link.as_ref().and_then(|(_, session)| session.features()),
            },
            Attachment::Tap(this) => netkit_api::Attachment {
                kind: AttachmentKind::Tap,
                queues: this.tap.queues.len() as u16,
                ifname: Some(this.tap.name.clone()),
                connected: true,
                running: true,
                ..no_attachment()
            },
            Attachment::Uplink(this) => netkit_api::Attachment {
                kind: AttachmentKind::Uplink,
                uplink: Some(this.spec.clone()),
                connected: uplink.is_some_and(|it| it.nic.is_ok()),
                running: uplink.is_some_and(Uplink::is_running),
                ..no_attachment()
            },
        }
    }
}

/// How the API shows that nothing stands behind a device.
pub fn no_attachment() -> netkit_api::Attachment {
    netkit_api::Attachment {
        kind: AttachmentKind::None,
        path: None,
        mode: None,
        queues: 0,
        ifname: None,
        uplink: None,
        connected: false,
        running: false,
        guest_address: None,
        features: None,
    }
}
