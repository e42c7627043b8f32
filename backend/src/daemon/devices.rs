//! What the API does to devices.

use netkit::{DeviceKind, Ifindex};
use netkit_api as api;

use super::attachment::{Attachment, no_attachment};
use super::convert;
use super::{Daemon, DaemonError, Reactor};

impl Daemon {
    /// All devices by ifindex.
    pub fn devices(&self) -> Result<Vec<api::Device>, DaemonError> {
        self.model
            .devices()
            .filter(|device| device.kind() == DeviceKind::Netkit)
            .map(|device| self.shown(device.ifindex))
            .collect()
    }

    /// One device.
    pub fn device(&self, name: &str) -> Result<api::Device, DaemonError> {
        self.shown(self.model.find(name)?)
    }

    /// Makes a pair or a single.
    pub fn create(&mut self, request: &api::DeviceCreate) -> Result<api::DeviceCreated, DaemonError> {
        let created = self.model.create(&convert::create_request(request)?)?;
        self.commit()?;
        let name = |ifindex| self.model.device(ifindex).map(|device| device.name.clone());
        Ok(api::DeviceCreated {
            primary: name(created.primary)?,
            peer: created.peer.map(name).transpose()?,
        })
    }

    /// Does what `ip link set` does. As there, settings before the one that is refused stay in force.
    pub fn set(&mut self, name: &str, request: &api::DeviceSet) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        let result = self.apply(ifindex, request);
        self.commit()?;
        self.poke_nic(ifindex);
        result
    }

    fn apply(&mut self, ifindex: Ifindex, request: &api::DeviceSet) -> Result<(), DaemonError> {
        if let Some(domain) = &request.domain {
            self.model.set_domain(ifindex, domain)?;
        }
        if let Some(address) = &request.address {
            self.model.set_address(ifindex, convert::address(address)?)?;
        }
        if let Some(mtu) = request.mtu {
            self.model.set_mtu(ifindex, mtu)?;
        }
        if let Some(name) = &request.name {
            self.rename(ifindex, name)?;
        }
        if let Some(up) = request.up {
            self.model.set_up(ifindex, up)?;
        }
        Ok(())
    }

    /// Renames a device. What is attached to an uplink knows it by its name.
    fn rename(&mut self, ifindex: Ifindex, wanted: &str) -> Result<(), DaemonError> {
        let before = self.model.device(ifindex)?.name.clone();
        self.model.set_name(ifindex, wanted)?;
        let name = self.model.device(ifindex)?.name.clone();
        let attached = self.attachments.values_mut().filter_map(|it| match it {
            Attachment::Uplink(it) => Some(&mut it.spec),
            _ => None,
        });
        let waiting = self
            .waiting
            .values_mut()
            .filter_map(|it| match &mut it.saved.spec {
                api::AttachmentSpec::Uplink(spec) => Some(spec),
                _ => None,
            });
        for spec in attached.chain(waiting).filter(|spec| spec.uplink == before) {
            spec.uplink.clone_from(&name);
        }
        Ok(())
    }

    /// Does what `ip link change type netkit` does.
    pub fn change(&mut self, name: &str, request: &api::NetkitChange) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        let result = self.model.change(ifindex, &convert::change_request(request));
        // The kernel applies the policies one after the other, so one may have changed.
        self.commit()?;
        Ok(result?)
    }

    /// Removes a pair or a single, with what stands behind it.
    pub fn delete(&mut self, name: &str, reactor: &mut Reactor) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        let peer = self.model.device(ifindex)?.peer;
        for end in std::iter::once(ifindex).chain(peer) {
            self.remove_attachment(end, reactor);
        }
        self.model.delete(ifindex)?;
        self.commit()
    }

    /// Why frames were dropped, of one device or of all.
    pub fn drops(&self, name: Option<&str>) -> Result<Vec<api::DeviceDrops>, DaemonError> {
        let wanted = name.map(|name| self.model.find(name)).transpose()?;
        let devices = self
            .model
            .devices()
            .filter(|device| wanted.is_none_or(|it| it == device.ifindex));
        let of = |device: &netkit::Device| -> Result<api::DeviceDrops, DaemonError> {
            let drops = self
                .model
                .drops(device.ifindex)?
                .into_iter()
                .filter(|(_, frames)| *frames > 0);
            Ok(api::DeviceDrops {
                device: device.name.clone(),
                drops: drops.map(convert::drop_reason).collect(),
            })
        };
        devices.map(of).collect()
    }

    /// The daemon itself.
    pub fn about(&self) -> api::Daemon {
        api::Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            workers: self.workers.count() as u32,
        }
    }

    fn shown(&self, ifindex: Ifindex) -> Result<api::Device, DaemonError> {
        let device = self.model.device(ifindex)?;
        if device.kind() == DeviceKind::Uplink {
            return Err(DaemonError::IsUplink {
                uplink: device.name.clone(),
            });
        }
        let attachment = match (self.attachments.get(&ifindex), self.waiting.get(&ifindex)) {
            (Some(attachment), _) => {
                let uplink = match attachment {
                    Attachment::Uplink(it) => self.uplinks.get(&it.uplink),
                    _ => None,
                };
                attachment.shown(device, uplink)
            }
            (None, Some(waiting)) => convert::waiting_attachment(&waiting.saved),
            (None, None) => no_attachment(),
        };
        let statistics = self.model.statistics(ifindex)?;
        Ok(convert::device(self.model.info(ifindex)?, statistics, attachment))
    }
}
