//! From the daemon's state to what the workers and the guests see of it.

use devices::packet::MacAddress;
use netkit::{Device, DeviceView, Ifindex, View};

use super::attachment::Attachment;
use super::store::{SavedAttachment, SavedState, SavedUplink};
use super::uplinks::Uplink;
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
            uplinks: self.uplinks.iter().map(saved_uplink).collect(),
            bindings: self.saved_bindings(),
            attachments,
            programs: self.saved_engine(),
        })?)
    }

    /// Puts the present state in force.
    pub(super) fn publish(&mut self) {
        let view = self.model.view();
        // What the NICs can do says how frames are told apart.
        self.claim(&view);
        let ports = view.iter().map(|(_, device)| self.port(device, &view)).collect();
        self.workers.publish(Plan { view, ports });
        self.tell_guests();
    }

    /// What stands behind a device, as workers see it.
    fn port(&self, device: &DeviceView, view: &View) -> Port {
        let ifindex = device.ifindex;
        if let Some(uplink) = self.uplinks.get(&ifindex) {
            return Port::Uplink(uplink.port(self.shares(ifindex, view), device.up));
        }
        match self.attachments.get(&ifindex) {
            Some(attachment) => attachment.port(gateway_address(ifindex), view),
            None => Port::None,
        }
    }

    /// Whether what is behind a device, if it is an uplink, has a carrier.
    fn has_carrier(&self, device: &Device) -> bool {
        match self.attachments.get(&device.ifindex) {
            Some(Attachment::Uplink(it)) => {
                let is_up = self.model.device(it.uplink).is_ok_and(|uplink| uplink.up);
                is_up && self.uplinks.get(&it.uplink).is_some_and(Uplink::is_running)
            }
            _ => true,
        }
    }

    /// Tells every connected guest what its device is now.
    fn tell_guests(&mut self) {
        let guests: Vec<Ifindex> = self
            .attachments
            .iter()
            .filter(|(_, attachment)| attachment.is_connected_guest())
            .map(|(ifindex, _)| *ifindex)
            .collect();
        for ifindex in guests {
            let Some(identity) = self.identity_of(ifindex) else {
                continue;
            };
            if let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get_mut(&ifindex)
                && let Some((_, session)) = &mut vhost_user.link
            {
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
        Some(Identity {
            features: vhost_user.features,
            address: vhost_user.guest_address(device),
            mtu: u16::try_from(device.mtu).unwrap_or(u16::MAX),
            link_up: device.up && peer.is_none_or(|peer| peer.up && self.has_carrier(peer)),
        })
    }
}

fn saved_uplink((ifindex, uplink): (&Ifindex, &Uplink)) -> SavedUplink {
    SavedUplink {
        ifindex: *ifindex,
        nic: uplink.spec.clone(),
    }
}

/// The address that the other end has towards a guest in L3 mode.
fn gateway_address(ifindex: Ifindex) -> MacAddress {
    let [a, b, c, d] = ifindex.0.to_be_bytes();
    MacAddress([0x02, 0x6e, a, b, c, d])
}
