//! The model: all devices and links, changed by one thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use devices::packet::MacAddress;

use crate::device::{validate_address, validate_mtu};
use crate::link::Links;
use crate::name::Names;
use crate::random::Random;
use crate::{Device, Domain, DropReason, Error, Followed, Ifindex, Mode, Routing, Statistics};

/// Most devices in a daemon.
pub const DEVICES_MAX: usize = 65535;

/// All devices, their program lists and the links.
#[derive(Debug)]
pub struct Model {
    pub(crate) devices: BTreeMap<Ifindex, Device>,
    pub(crate) names: Names,
    pub(crate) links: Links,
    /// Where programs send frames, by domain.
    pub(crate) routing: BTreeMap<Domain, Arc<Routing>>,
    pub(crate) random: Random,
    pub(crate) shards: usize,
    /// The ifindex that was last handed out.
    pub(crate) last_ifindex: u32,
}

/// What a creation made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The primary, or the single.
    pub primary: Ifindex,
    /// The peer of a pair.
    pub peer: Option<Ifindex>,
}

impl Model {
    /// A model without devices. `shards` is the number of threads that count frames, each of which
    /// has its own number below it; `seed` is for random Ethernet addresses.
    pub fn new(shards: usize, seed: u64) -> Model {
        Model {
            devices: BTreeMap::new(),
            names: Names::default(),
            links: Links::default(),
            routing: BTreeMap::new(),
            random: Random::new(seed),
            shards,
            last_ifindex: 0,
        }
    }

    /// The device of that name.
    pub fn find(&self, name: &str) -> Result<Ifindex, Error> {
        self.names.get(name).ok_or_else(|| Error::NoSuchDevice {
            what: format!("\"{name}\""),
        })
    }

    /// A device by number.
    pub fn device(&self, ifindex: Ifindex) -> Result<&Device, Error> {
        self.devices
            .get(&ifindex)
            .ok_or_else(|| Error::no_such_device(ifindex))
    }

    pub(crate) fn device_mut(&mut self, ifindex: Ifindex) -> Result<&mut Device, Error> {
        self.devices
            .get_mut(&ifindex)
            .ok_or_else(|| Error::no_such_device(ifindex))
    }

    /// All devices by ifindex.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// Sets a device up or down. The carriers of a pair follow: they are on while both ends are up. An uplink that is
    /// down passes nothing; its NIC stays as it is.
    pub fn set_up(&mut self, ifindex: Ifindex, up: bool) -> Result<(), Error> {
        self.device_mut(ifindex)?.up = up;
        Ok(())
    }

    /// Sets the MTU in octets, 68 to 65535, of this end alone.
    pub fn set_mtu(&mut self, ifindex: Ifindex, mtu: u32) -> Result<(), Error> {
        let device = self.device_mut(ifindex)?;
        refuse_uplink(device, "set the MTU of")?;
        validate_mtu(&device.name, mtu)?;
        device.mtu = mtu;
        Ok(())
    }

    /// Sets the Ethernet address, also while the device is up (netkit.c: `netkit_set_macaddr`).
    pub fn set_address(&mut self, ifindex: Ifindex, address: MacAddress) -> Result<(), Error> {
        let device = self.device_mut(ifindex)?;
        refuse_uplink(device, "set the address of")?;
        if device.mode != Mode::L2 {
            return Err(Error::AddressInL3 {
                device: device.name.clone(),
            });
        }
        validate_address(&device.name, address)?;
        device.address = address;
        Ok(())
    }

    /// Moves a device to a domain. It keeps its ifindex, its programs and, other than in the kernel,
    /// stays up: here a move loses no addresses that a new start would have to bring back. What leads to it on the host comes along.
    pub fn set_domain(&mut self, ifindex: Ifindex, domain: &str) -> Result<(), Error> {
        let device = self.device_mut(ifindex)?;
        let before = std::mem::replace(&mut device.domain, Domain::new(domain)?);
        match self.routing.get_mut(&before) {
            Some(routing) => {
                let followed = Arc::make_mut(routing).follow(ifindex, Followed::default());
                self.follow(ifindex, followed)
            }
            None => Ok(()),
        }
    }

    /// Renames a device, also while it is up; one `%d` becomes a free number
    /// (dev.c: `dev_change_name`).
    pub fn set_name(&mut self, ifindex: Ifindex, wanted: &str) -> Result<(), Error> {
        let old = self.device(ifindex)?.name.clone();
        if old == wanted {
            return Ok(());
        }
        let name = self.names.allocate(wanted, |_| false)?;
        self.names.remove(&old);
        self.names.insert(name.clone(), ifindex);
        self.device_mut(ifindex)?.name = name;
        Ok(())
    }

    /// Deletes a device and its other end. Their links become defunct. Returns what was deleted,
    /// the named device first (netkit.c: `netkit_del_link`).
    pub fn delete(&mut self, ifindex: Ifindex) -> Result<Vec<Ifindex>, Error> {
        let device = self.device(ifindex)?;
        if device.uplink.is_some() {
            return Err(Error::IsUplink {
                operation: "delete",
                device: device.name.clone(),
                hint: "use nkctl uplink del",
            });
        }
        let deleted: Vec<Ifindex> = std::iter::once(ifindex).chain(device.peer).collect();
        for end in &deleted {
            self.forget(*end);
        }
        Ok(deleted)
    }

    /// Deletes a domain: netkit devices in it go, with their other ends, and NICs return to the host's. The host's own
    /// stays. Returns what was deleted (dev.c: `default_device_exit_batch`).
    pub fn delete_domain(&mut self, domain: &Domain) -> Result<Vec<Ifindex>, Error> {
        let mut deleted = Vec::new();
        if *domain == Domain::host() {
            return Ok(deleted);
        }
        let inside = self.devices.values().filter(|device| device.domain == *domain);
        let inside: Vec<Ifindex> = inside.map(|device| device.ifindex).collect();
        for ifindex in inside {
            match self.devices.get(&ifindex) {
                Some(device) if device.uplink.is_some() => {
                    self.set_domain(ifindex, Domain::host().as_str())?;
                }
                Some(_) => deleted.extend(self.delete(ifindex)?),
                // It was the other end of one that is deleted already.
                None => {}
            }
        }
        self.routing.remove(domain);
        Ok(deleted)
    }

    /// Takes a device out of everything that knows it. The queues that it leased are free.
    pub(crate) fn forget(&mut self, ifindex: Ifindex) {
        if let Some(device) = self.devices.remove(&ifindex) {
            self.names.remove(&device.name);
        }
        self.links.release_all(ifindex);
        for routing in self.routing.values_mut() {
            Arc::make_mut(routing).remove_device(ifindex);
        }
    }

    /// The routes and neighbours of a domain.
    pub fn routing(&self, domain: &Domain) -> Arc<Routing> {
        self.routing.get(domain).cloned().unwrap_or_default()
    }

    /// Changes the routes and neighbours of a domain; views see it once they are made anew.
    pub fn change_routing<T>(&mut self, domain: &Domain, change: impl FnOnce(&mut Routing) -> T) -> T {
        change(Arc::make_mut(self.routing.entry(domain.clone()).or_default()))
    }

    /// Puts what leads to a device on the host in place of what did before. It is seen in the device's domain.
    pub fn follow(&mut self, ifindex: Ifindex, followed: Followed) -> Result<(), Error> {
        let domain = self.device(ifindex)?.domain.clone();
        if followed != Followed::default() || self.routing.contains_key(&domain) {
            self.change_routing(&domain, |routing| routing.follow(ifindex, followed));
        }
        Ok(())
    }

    /// A device's counters, summed over all threads.
    pub fn statistics(&self, ifindex: Ifindex) -> Result<Statistics, Error> {
        Ok(self.device(ifindex)?.counters.statistics())
    }

    /// Why frames that the device sent were dropped: the reasons that occurred, with their counts.
    /// Drops after a redirect appear only here, since netkit counts them as transmitted.
    pub fn drops(&self, ifindex: Ifindex) -> Result<Vec<(DropReason, u64)>, Error> {
        Ok(self.device(ifindex)?.counters.drops())
    }
}

/// What the kernel lets anybody set of a NIC, and the daemon does not: the host's tools do that, and it follows.
fn refuse_uplink(device: &Device, operation: &'static str) -> Result<(), Error> {
    match device.uplink {
        Some(_) => Err(Error::IsUplink {
            operation,
            device: device.name.clone(),
            hint: "set it at the NIC, which is followed",
        }),
        None => Ok(()),
    }
}
