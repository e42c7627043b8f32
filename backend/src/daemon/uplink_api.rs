//! What the API does to uplinks and leases.

use devices::nic::Capabilities;
use devices::packet::MacAddress;
use netkit::{DeviceKind, Ifindex, LeaseRequest, UplinkRequest};
use netkit_api as api;

use super::attachment::{Attachment, UplinkAttachment};
use super::convert;
use super::uplinks::Uplink;
use super::{Daemon, DaemonError, Reactor};
use super::{nic, nics};
use crate::dataplane::{Prefix, SharedBy};

impl Daemon {
    /// All uplinks by ifindex.
    pub fn uplinks(&mut self) -> Result<Vec<api::Uplink>, DaemonError> {
        let ifindexes: Vec<Ifindex> = self.uplinks.keys().copied().collect();
        ifindexes
            .into_iter()
            .map(|ifindex| self.shown_uplink(ifindex))
            .collect()
    }

    /// One uplink.
    pub fn uplink(&mut self, name: &str) -> Result<api::Uplink, DaemonError> {
        self.shown_uplink(self.find_uplink(name)?)
    }

    /// Opens a NIC. If that fails nothing is left of it.
    pub fn create_uplink(
        &mut self,
        request: &api::UplinkCreate,
        reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        let taken = |(ifindex, uplink): (&Ifindex, &Uplink)| {
            (nic::name(&uplink.spec) == nic::name(&request.nic)).then_some(*ifindex)
        };
        if let Some(other) = self.uplinks.iter().find_map(taken) {
            return Err(DaemonError::NicTaken {
                nic: nic::name(&request.nic).to_owned(),
                uplink: self.model.device(other)?.name.clone(),
            });
        }
        let wanted = UplinkRequest {
            name: request.name.clone(),
            ifindex: request.ifindex,
            domain: request.domain.clone(),
            address: MacAddress([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            rx_queues: 1,
            leasable: nic::is_leasable(&request.nic),
        };
        let ifindex = self.model.create_uplink(&wanted)?;
        self.insert_uplink(ifindex, request.nic.clone());
        if let Err(error) = self.open_nic(ifindex, &request.nic, reactor) {
            self.forget_uplink(ifindex);
            self.model.remove_uplink(ifindex)?;
            if let Err(unsaved) = self.save() {
                tracing::warn!("{unsaved}");
            }
            return Err(error);
        }
        self.save()
    }

    /// Forgets an uplink whose NIC is closed, and gives a PCI device back to the driver that it was taken from.
    fn forget_uplink(&mut self, ifindex: Ifindex) {
        if let Some(uplink) = self.uplinks.remove(&ifindex)
            && let Some(binding) = &uplink.binding
        {
            nics::give_back(binding);
        }
    }

    /// Sets an uplink up or down, or says how many queues its NIC is to have.
    pub fn set_uplink(
        &mut self,
        name: &str,
        request: &api::UplinkSet,
        _reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        let ifindex = self.find_uplink(name)?;
        if let Some(up) = request.up {
            self.model.set_up(ifindex, up)?;
        }
        let result = match request.rx_queues {
            Some(queues) => self.set_channels(ifindex, queues),
            None => Ok(()),
        };
        self.commit()?;
        self.poke_nic(ifindex);
        result
    }

    fn set_channels(&mut self, ifindex: Ifindex, queues: u32) -> Result<(), DaemonError> {
        let missing = DaemonError::NicMissing {
            uplink: self.model.device(ifindex)?.name.clone(),
        };
        let Some(Ok(open)) = self.uplinks.get_mut(&ifindex).map(|uplink| &mut uplink.nic) else {
            return Err(missing);
        };
        self.model.set_channels(ifindex, queues)?;
        let result = open.control.set_rx_queues(queues).map_err(DaemonError::from);
        self.note_link(ifindex);
        result
    }

    /// Gives a NIC back, and deletes the devices that lease its queues: for them it is unplugged.
    pub fn delete_uplink(&mut self, name: &str, reactor: &mut Reactor) -> Result<(), DaemonError> {
        let ifindex = self.find_uplink(name)?;
        // A NIC that is not open here may be open elsewhere.
        if let Some(uplink) = self.uplinks.get(&ifindex)
            && let (Err(_), Some(binding)) = (&uplink.nic, &uplink.binding)
        {
            self.check_closed(&binding.address)?;
        }
        self.waiting.retain(|_, waiting| !waiting.is_for_uplink(name));
        let shared = |attachment: &Attachment| match attachment {
            Attachment::Uplink(it) => it.uplink == ifindex,
            _ => false,
        };
        let attached: Vec<Ifindex> = self
            .attachments
            .iter()
            .filter(|(_, attachment)| shared(attachment))
            .map(|(device, _)| *device)
            .collect();
        for device in attached {
            self.remove_attachment(device, reactor);
        }
        self.uninstall(ifindex, String::new(), reactor);
        for device in self.model.lessees(ifindex) {
            self.remove_attachment(device, reactor);
        }
        self.forget_uplink(ifindex);
        for device in self.model.remove_uplink(ifindex)? {
            self.remove_attachment(device, reactor);
        }
        self.commit()
    }

    /// Leases a queue of an uplink to a device for good.
    pub fn lease(
        &mut self,
        device: &str,
        request: &api::LeaseCreate,
        _reactor: &mut Reactor,
    ) -> Result<api::LeaseCreated, DaemonError> {
        let ifindex = self.model.find(device)?;
        let uplink = self.model.find(&request.uplink)?;
        let queue = self.model.lease(&LeaseRequest {
            device: ifindex,
            caller_domain: None,
            uplink,
            queue: request.queue,
            kind: netkit::QueueKind::Rx,
            queue_kind: match request.kind {
                api::QueueKind::Rx => netkit::QueueKind::Rx,
                api::QueueKind::Tx => netkit::QueueKind::Tx,
            },
            uplink_domain: request.domain.clone(),
        })?;
        self.commit()?;
        let steered = self.is_steered(uplink, request.queue);
        Ok(api::LeaseCreated {
            queue,
            steered,
            reason: (!steered).then(|| {
                format!(
                    "{} has no flow rules of its own, so frames for {device} are told by their address on every queue of it",
                    request.uplink
                )
            }),
        })
    }

    /// Whether a NIC keeps a queue for a device's frames.
    fn is_steered(&self, uplink: Ifindex, queue: u32) -> bool {
        let uplink = self.uplinks.get(&uplink);
        uplink.is_some_and(|it| it.nic.as_ref().is_ok_and(|nic| nic.steered.contains_key(&queue)))
    }

    /// An uplink by name.
    pub(super) fn find_uplink(&self, name: &str) -> Result<Ifindex, DaemonError> {
        let ifindex = self.model.find(name)?;
        match self.model.device(ifindex)?.kind() {
            DeviceKind::Uplink => Ok(ifindex),
            DeviceKind::Netkit => Err(DaemonError::NotUplink {
                device: name.to_owned(),
            }),
        }
    }

    /// Reads what is wanted of an uplink behind a device, and whether that can be.
    pub(super) fn share_uplink(
        &self,
        device: Ifindex,
        spec: &api::UplinkSpec,
    ) -> Result<UplinkAttachment, DaemonError> {
        let uplink = self.find_uplink(&spec.uplink)?;
        let by = shared_by(spec)?;
        let wanted = self.shared_by(device, &by);
        let device = self.model.device(device)?;
        if device.kind() == DeviceKind::Uplink {
            return Err(DaemonError::IsUplink {
                uplink: device.name.clone(),
            });
        }
        let is_l3 = device.mode == netkit::Mode::L3;
        if is_l3 != matches!(by, SharedBy::Prefixes(_)) {
            return Err(DaemonError::ShareMode {
                device: device.name.clone(),
                uplink: spec.uplink.clone(),
                mode: device.mode,
            });
        }
        for (other, attachment) in &self.attachments {
            let Attachment::Uplink(it) = attachment else {
                continue;
            };
            if it.uplink != uplink {
                continue;
            }
            if by == SharedBy::Nothing || it.by == SharedBy::Nothing {
                return Err(DaemonError::UplinkTaken {
                    uplink: spec.uplink.clone(),
                    device: self.model.device(*other)?.name.clone(),
                });
            }
            if let Some(address) = common(&wanted, &self.shared_by(*other, &it.by)) {
                return Err(DaemonError::AddressTaken {
                    address,
                    device: self.model.device(*other)?.name.clone(),
                });
            }
        }
        Ok(UplinkAttachment {
            spec: spec.clone(),
            uplink,
            by,
        })
    }

    fn shown_uplink(&mut self, ifindex: Ifindex) -> Result<api::Uplink, DaemonError> {
        let queues = self.shown_queues(ifindex)?;
        let devices = self.shown_shares(ifindex)?;
        let device = self.model.device(ifindex)?;
        let Some(uplink) = self.uplinks.get(&ifindex) else {
            return Err(DaemonError::NotUplink {
                device: device.name.clone(),
            });
        };
        let open = uplink.nic.as_ref().ok();
        let (state, reason) = match &uplink.nic {
            Err(missing) => (api::UplinkState::Missing, Some(missing.why.clone())),
            Ok(_) if !device.up => (api::UplinkState::Down, Some("it was set down".to_owned())),
            Ok(nic) if !nic.link.running => (
                api::UplinkState::NoCarrier,
                Some("the NIC is down or has no carrier".to_owned()),
            ),
            Ok(_) => (api::UplinkState::Up, None),
        };
        Ok(api::Uplink {
            ifindex: ifindex.0,
            name: device.name.clone(),
            nic: uplink.spec.clone(),
            state,
            reason,
            driver: open.map(|nic| nic.control.driver()),
            capabilities: open.map_or_else(Vec::new, |nic| words(&nic.port.capabilities)),
            address: device.address.to_string(),
            mtu: device.mtu,
            speed: open.and_then(|nic| nic.link.speed),
            domain: device.domain.as_str().to_owned(),
            queues,
            devices,
            statistics: convert::statistics(self.model.statistics(ifindex)?),
            drops: self
                .model
                .drops(ifindex)?
                .into_iter()
                .map(convert::drop_reason)
                .collect(),
        })
    }

    fn shown_queues(&self, ifindex: Ifindex) -> Result<Vec<api::UplinkQueue>, DaemonError> {
        let device = self.model.device(ifindex)?;
        let first = self
            .uplinks
            .get(&ifindex)
            .map_or(0, |uplink| nic::first_queue(&uplink.spec));
        let ours = first..first + self.queues_of(ifindex) as u32;
        let shown = |queue: u32| {
            let lease = self.model.queue(ifindex, queue)?.lease;
            Ok(api::UplinkQueue {
                queue,
                used: ours.contains(&queue),
                lease: lease
                    .map(|lease| {
                        Ok::<_, DaemonError>(api::QueueLease {
                            device: self.model.device(lease.ifindex)?.name.clone(),
                            ifindex: lease.ifindex.0,
                            queue: lease.queue,
                            domain: lease.domain.map(|domain| domain.as_str().to_owned()),
                        })
                    })
                    .transpose()?,
            })
        };
        (0..device.num_rx_queues).map(shown).collect()
    }

    fn shown_shares(&self, uplink: Ifindex) -> Result<Vec<api::UplinkShare>, DaemonError> {
        let mut shares = Vec::new();
        for (ifindex, attachment) in &self.attachments {
            let Attachment::Uplink(it) = attachment else {
                continue;
            };
            if it.uplink == uplink {
                let addresses = match self.shared_by(*ifindex, &it.by) {
                    SharedBy::Nothing => Vec::new(),
                    SharedBy::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
                    SharedBy::Prefixes(prefixes) => prefixes.iter().map(ToString::to_string).collect(),
                };
                shares.push(api::UplinkShare {
                    device: self.model.device(*ifindex)?.name.clone(),
                    share: it.spec.share,
                    addresses,
                });
            }
        }
        Ok(shares)
    }
}

fn shared_by(spec: &api::UplinkSpec) -> Result<SharedBy, DaemonError> {
    match spec.share {
        api::Share::None if spec.addresses.is_empty() => Ok(SharedBy::Nothing),
        api::Share::None => Err(DaemonError::BadValue {
            what: "the addresses of a device that does not share its uplink",
            value: spec.addresses.join(", "),
            allowed: "share mac or share ip with them",
        }),
        api::Share::Mac => {
            let addresses = spec.addresses.iter().map(|text| convert::unicast_address(text));
            Ok(SharedBy::Addresses(addresses.collect::<Result<_, _>>()?))
        }
        api::Share::Ip if spec.addresses.is_empty() => Err(DaemonError::BadValue {
            what: "the IP addresses of a device that shares by them",
            value: "none".to_owned(),
            allowed: "one prefix at least, such as 10.0.0.5/32",
        }),
        api::Share::Ip => {
            let prefix = |text: &String| {
                text.parse::<Prefix>().map_err(|()| DaemonError::BadValue {
                    what: "an IP prefix",
                    value: format!("\"{text}\""),
                    allowed: "an address such as 10.0.0.5 or a prefix such as fd00:1::/64",
                })
            };
            Ok(SharedBy::Prefixes(
                spec.addresses.iter().map(prefix).collect::<Result<_, _>>()?,
            ))
        }
    }
}

/// An address that both want.
fn common(one: &SharedBy, other: &SharedBy) -> Option<String> {
    match (one, other) {
        (SharedBy::Addresses(one), SharedBy::Addresses(other)) => {
            one.iter().find(|it| other.contains(it)).map(ToString::to_string)
        }
        (SharedBy::Prefixes(one), SharedBy::Prefixes(other)) => {
            one.iter().find(|it| other.contains(it)).map(ToString::to_string)
        }
        _ => None,
    }
}

fn words(capabilities: &Capabilities) -> Vec<String> {
    let offloads = capabilities.offloads;
    [
        ("csum", offloads.csum),
        ("tso4", offloads.tso4),
        ("tso6", offloads.tso6),
        ("uso", offloads.uso),
        ("rx-gso", capabilities.receives_gso),
        ("sg", capabilities.pieces_max > 1),
    ]
    .into_iter()
    .filter(|(_, has)| *has)
    .map(|(word, _)| word.to_owned())
    .collect()
}
