//! The model as it is written to disk, and back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use devices::packet::MacAddress;
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::device::{RTNL_QUEUES_MAX, validate_address, validate_mtu, validate_queues};
use crate::lease::Lease;
use crate::link::Link;
use crate::mprog::{Entry, ProgramList};
use crate::uplink::Uplink;
use crate::{
    AttachType, DEVICES_MAX, Device, Domain, Error, Ifindex, LinkId, Mode, Model, Pairing, Policy, Program,
    ProgramId, Routing, Scrub, mac_text, name,
};

/// All devices with all their settings, program lists and links, but without counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedModel {
    /// The ifindex that was last handed out; 0 if none was.
    pub last_ifindex: u32,
    /// The devices by ifindex.
    pub devices: Vec<SavedDevice>,
    /// The links by id.
    #[serde(default)]
    pub links: Vec<SavedLink>,
    /// The link id that was last handed out; 0 if none was.
    #[serde(default)]
    pub last_link: u32,
    /// The routes and neighbours, by domain.
    #[serde(default)]
    pub routing: BTreeMap<Domain, Routing>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLink {
    pub id: LinkId,
    pub attach_type: AttachType,
    /// The device on whose list it is; None for a defunct link.
    pub device: Option<Ifindex>,
    pub program: ProgramId,
}

/// A program in a device's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEntry {
    pub program: ProgramId,
    pub link: Option<LinkId>,
}

/// A device's settings; the fields are those of [`Device`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDevice {
    pub ifindex: Ifindex,
    pub name: String,
    #[serde(with = "mac_text")]
    pub address: MacAddress,
    pub mtu: u32,
    pub up: bool,
    pub domain: Domain,
    pub mode: Mode,
    pub policy: Policy,
    pub scrub: Scrub,
    pub pairing: Pairing,
    pub primary: bool,
    pub peer: Option<Ifindex>,
    pub headroom: u16,
    pub tailroom: u16,
    pub num_rx_queues: u32,
    pub num_tx_queues: u32,
    #[serde(default)]
    pub programs: Vec<SavedEntry>,
    #[serde(default)]
    pub revision: u64,
    /// The queues that it leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<SavedLease>,
    /// What it has beside all this if it is an uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<SavedUplink>,
}

/// The queues that a device leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLease {
    pub uplink: Ifindex,
    /// The queues' numbers at the uplink, in the order in which they were leased.
    pub queues: Vec<u32>,
}

/// What an uplink has beside what every device has. What its NIC is like is found out anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUplink {
    pub leasable: bool,
    #[serde(default)]
    pub ingress: Vec<SavedEntry>,
    #[serde(default)]
    pub ingress_revision: u64,
}

impl Model {
    /// What is to survive a restart.
    pub fn save(&self) -> SavedModel {
        SavedModel {
            last_ifindex: self.last_ifindex,
            devices: self.devices.values().map(save).collect(),
            links: self.links.save(),
            last_link: self.links.last_id(),
            routing: self
                .routing
                .iter()
                .filter_map(|(domain, routing)| Some((domain.clone(), routing.saved()?)))
                .collect(),
        }
    }

    /// Puts programs back into the lists and links, as they were saved; `find` knows the programs.
    pub fn restore_lists(
        &mut self,
        saved: &SavedModel,
        find: impl Fn(ProgramId) -> Option<Arc<dyn Program>>,
    ) -> Result<(), Error> {
        let program =
            |id: ProgramId| find(id).ok_or_else(|| Error::SavedState(format!("program {id} is not there")));
        for link in &saved.links {
            let link_of = Link {
                program: program(link.program)?,
                attach_type: link.attach_type,
                device: link.device,
            };
            self.links.restore(link.id, link_of);
        }
        self.links.restore_last_id(saved.last_link);
        for device in &saved.devices {
            let own = match (&device.uplink, device.primary) {
                (Some(_), _) => AttachType::TcxEgress,
                (None, true) => AttachType::Primary,
                (None, false) => AttachType::Peer,
            };
            let uplink = device.uplink.as_ref();
            let ingress = uplink.map(|it| (AttachType::TcxIngress, &it.ingress, it.ingress_revision));
            let lists = std::iter::once((own, &device.programs, device.revision)).chain(ingress);
            for (attach_type, entries, revision) in lists.filter(|(_, _, revision)| *revision > 0) {
                let entry = |entry: &SavedEntry| {
                    let held = |link: &LinkId| {
                        self.links.get(*link).is_ok_and(|it| {
                            it.device == Some(device.ifindex) && it.attach_type == attach_type
                        })
                    };
                    if !entry.link.iter().all(held) {
                        let name = &device.name;
                        return Err(Error::SavedState(format!(
                            "a link in the {attach_type} list of \"{name}\" is not there"
                        )));
                    }
                    Ok(Entry {
                        program: program(entry.program)?,
                        link: entry.link,
                    })
                };
                let entries = entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
                *self.device_mut(device.ifindex)?.list_mut(attach_type) =
                    ProgramList::restore(entries, revision);
            }
        }
        Ok(())
    }

    /// The model as it was saved, with counters at 0. What was saved is checked as if a stranger had
    /// written it.
    pub fn restore(saved: &SavedModel, shards: usize, seed: u64) -> Result<Model, Error> {
        if saved.devices.len() > DEVICES_MAX {
            return Err(Error::SavedState(format!(
                "it has more than {DEVICES_MAX} devices"
            )));
        }
        if saved.last_ifindex > Ifindex::MAX.0 {
            return Err(Error::SavedState(format!(
                "{} cannot be an ifindex",
                saved.last_ifindex
            )));
        }
        let mut model = Model::new(shards, seed);
        model.last_ifindex = saved.last_ifindex;
        model.routing = saved
            .routing
            .iter()
            .map(|(domain, routing)| (domain.clone(), Arc::new(routing.clone().indexed())))
            .collect();
        for device in &saved.devices {
            check_device(device).map_err(|error| Error::SavedState(error.to_string()))?;
            if model.devices.contains_key(&device.ifindex) || model.names.contains(&device.name) {
                let name = &device.name;
                return Err(Error::SavedState(format!(
                    "two devices have the ifindex or the name of \"{name}\""
                )));
            }
            model.insert(restore(device, shards));
        }
        model
            .devices
            .values()
            .try_for_each(|device| check_pairing(&model, device))?;
        check_leases(&model)?;
        Ok(model)
    }
}

fn save(device: &Device) -> SavedDevice {
    SavedDevice {
        ifindex: device.ifindex,
        name: device.name.clone(),
        address: device.address,
        mtu: device.mtu,
        up: device.up,
        domain: device.domain.clone(),
        mode: device.mode,
        policy: device.policy,
        scrub: device.scrub,
        pairing: device.pairing,
        primary: device.primary,
        peer: device.peer,
        headroom: device.headroom,
        tailroom: device.tailroom,
        num_rx_queues: device.num_rx_queues,
        num_tx_queues: device.num_tx_queues,
        programs: device.list.entries().iter().map(saved_entry).collect(),
        revision: device.list.revision(),
        lease: device.lease.as_ref().map(|lease| SavedLease {
            uplink: lease.uplink,
            queues: lease.queues.clone(),
        }),
        uplink: device.uplink.as_ref().map(|uplink| SavedUplink {
            leasable: uplink.leasable,
            ingress: uplink.ingress.entries().iter().map(saved_entry).collect(),
            ingress_revision: uplink.ingress.revision(),
        }),
    }
}

fn saved_entry(entry: &Entry) -> SavedEntry {
    SavedEntry {
        program: entry.program.id(),
        link: entry.link,
    }
}

fn restore(saved: &SavedDevice, shards: usize) -> Device {
    Device {
        ifindex: saved.ifindex,
        name: saved.name.clone(),
        address: saved.address,
        mtu: saved.mtu,
        up: saved.up,
        domain: saved.domain.clone(),
        mode: saved.mode,
        policy: saved.policy,
        scrub: saved.scrub,
        pairing: saved.pairing,
        primary: saved.primary,
        peer: saved.peer,
        headroom: saved.headroom,
        tailroom: saved.tailroom,
        num_rx_queues: saved.num_rx_queues,
        num_tx_queues: saved.num_tx_queues,
        list: ProgramList::new(),
        lease: saved.lease.as_ref().map(|lease| Lease {
            uplink: lease.uplink,
            queues: lease.queues.clone(),
        }),
        uplink: saved.uplink.as_ref().map(|uplink| {
            Box::new(Uplink {
                running: false,
                present: false,
                ..Uplink::new(uplink.leasable)
            })
        }),
        counters: Arc::new(Counters::new(shards)),
    }
}

/// Checks what can be seen of a device alone.
fn check_device(device: &SavedDevice) -> Result<(), Error> {
    Ifindex::new(device.ifindex.0)?;
    name::validate(&device.name)?;
    if device.uplink.is_some() {
        // Whatever its NIC says of itself is taken, but for queues without number.
        return match device.num_rx_queues <= RTNL_QUEUES_MAX {
            true => Ok(()),
            false => validate_queues(&device.name, 1, device.num_rx_queues),
        };
    }
    validate_mtu(&device.name, device.mtu)?;
    validate_queues(&device.name, device.num_tx_queues, device.num_rx_queues)?;
    match device.mode {
        Mode::L2 => validate_address(&device.name, device.address),
        Mode::L3 if device.address.is_zero() => Ok(()),
        Mode::L3 => Err(Error::AddressInL3 {
            device: device.name.clone(),
        }),
    }
}

/// Checks that a pair has two ends that agree, and a single one.
fn check_pairing(model: &Model, device: &Device) -> Result<(), Error> {
    let name = &device.name;
    let consistent = match (device.pairing, device.peer) {
        (Pairing::Single, None) => {
            device.primary
                && device.policy == Policy::Forward
                && device.scrub == Scrub::Default
                && (device.uplink.is_none() || device.mode == Mode::L2)
        }
        (Pairing::Pair, Some(peer)) => model.devices.get(&peer).is_some_and(|other| {
            other.peer == Some(device.ifindex)
                && other.primary != device.primary
                && other.mode == device.mode
                && other.headroom == device.headroom
                && other.tailroom == device.tailroom
        }),
        (Pairing::Single, Some(_)) | (Pairing::Pair, None) => false,
    };
    if consistent {
        Ok(())
    } else {
        Err(Error::SavedState(format!(
            "\"{name}\" and its peer do not fit together"
        )))
    }
}

/// Checks that who leases may, that an uplink that can give queues away is behind each lease, and that no queue has two
/// lessees.
fn check_leases(model: &Model) -> Result<(), Error> {
    let mut taken = HashSet::new();
    for device in model.devices.values() {
        let Some(lease) = &device.lease else {
            continue;
        };
        let may = device.uplink.is_none() && (device.pairing == Pairing::Single || !device.primary);
        let uplink = model
            .devices
            .get(&lease.uplink)
            .and_then(|lessor| lessor.uplink.as_ref());
        let fits = (1..device.num_rx_queues as usize).contains(&lease.queues.len());
        let leasable = uplink.is_some_and(|uplink| uplink.leasable);
        let free = |queue: &u32| *queue < RTNL_QUEUES_MAX && taken.insert((lease.uplink, *queue));
        if !(may && fits && leasable && lease.queues.iter().all(free)) {
            let name = &device.name;
            return Err(Error::SavedState(format!(
                "\"{name}\" cannot have the leases that it has"
            )));
        }
    }
    Ok(())
}
