//! From the daemon's state to what the workers and the guests see of it.

use devices::packet::MacAddress;
use netkit::{Device, Ifindex};

use super::attachment::{Attachment, VhostUserAttachment};
use super::store::{SavedAttachment, SavedState};
use super::{Daemon, DaemonError};
use crate::dataplane::{Plan, Port};
use crate::vhost_user::Identity;

impl Daemon {
    /// Puts the present state in force and on disk. When this returns no worker sees the state before.
    pub(super) fn commit(&mut self) -> Result<(), DaemonError> {
        self.publish();
        self.save()
    }

    /// Puts the present state on disk.
    pub(super) fn save(&self) -> Result<(), DaemonError> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut attachments: Vec<SavedAttachment> =
            self.waiting.values().map(|it| it.saved.clone()).collect();
        attachments.extend(
            self.attachments
                .iter()
                .filter_map(|(ifindex, it)| it.saved(*ifindex)),
        );
        attachments.sort_by_key(|attachment| attachment.ifindex);
        Ok(store.save(SavedState {
            schema: 0,
            model: self.model.save(),
            attachments,
            programs: self.saved_engine(),
        })?)
    }

    /// Puts the present state in force.
    pub(super) fn publish(&mut self) {
        let view = self.model.view();
        let port = |ifindex: Ifindex| match self.attachments.get(&ifindex) {
            Some(attachment) => attachment.port(gateway_address(ifindex)),
            None => Port::None,
        };
        let ports = view.iter().map(|(_, device)| port(device.ifindex)).collect();
        self.workers.publish(Plan { view, ports });
        self.tell_guests();
    }

    /// Tells every connected guest what its device is now.
    fn tell_guests(&mut self) {
        for (ifindex, attachment) in &mut self.attachments {
            let Attachment::VhostUser(vhost_user) = attachment else {
                continue;
            };
            let Ok(device) = self.model.device(*ifindex) else {
                continue;
            };
            let peer = device.peer.and_then(|peer| self.model.device(peer).ok());
            let identity = identity(vhost_user, device, peer);
            if let Some((_, session)) = &mut vhost_user.link {
                session.set_identity(identity);
            }
        }
    }

    /// What a device is to its guest.
    pub(super) fn identity_of(&self, ifindex: Ifindex) -> Option<Identity> {
        let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get(&ifindex) else {
            return None;
        };
        let device = self.model.device(ifindex).ok()?;
        let peer = device.peer.and_then(|peer| self.model.device(peer).ok());
        Some(identity(vhost_user, device, peer))
    }
}

fn identity(vhost_user: &VhostUserAttachment, device: &Device, peer: Option<&Device>) -> Identity {
    Identity {
        features: vhost_user.features,
        address: vhost_user.guest_address(device),
        mtu: u16::try_from(device.mtu).unwrap_or(u16::MAX),
        link_up: device.up && peer.is_none_or(|peer| peer.up),
    }
}

/// The address that the other end has towards a guest in L3 mode.
fn gateway_address(ifindex: Ifindex) -> MacAddress {
    let [a, b, c, d] = ifindex.0.to_be_bytes();
    MacAddress([0x02, 0x6e, a, b, c, d])
}
