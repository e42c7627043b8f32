//! Creating a pair or a single (rtnetlink.c: `rtnl_newlink`; netkit.c: `netkit_new_link`).

use std::sync::Arc;

use devices::packet::MacAddress;

use crate::counters::Counters;
use crate::device::{MTU_DEFAULT, validate_address, validate_mtu, validate_queues};
use crate::mprog::ProgramList;
use crate::{
    CreateRequest, Created, DEVICES_MAX, Device, Domain, Error, Ifindex, Mode, Model, Pairing, PeerRequest,
    Policy, Scrub, name,
};

/// The attributes of one end that any kind of device has.
#[derive(Debug, Clone, Copy)]
struct Link<'a> {
    name: Option<&'a str>,
    address: Option<MacAddress>,
    mtu: u32,
    num_rx_queues: u32,
    num_tx_queues: u32,
    ifindex: Option<Ifindex>,
}

impl Model {
    /// Creates a pair, or a single; either all of it or nothing. Both ends start down.
    ///
    /// The peer is registered first, so it gets the lower ifindex and, if both names are left to the
    /// model, the lower number.
    pub fn create(&mut self, request: &CreateRequest) -> Result<Created, Error> {
        let primary = Link::primary(request)?;
        let domain = request
            .domain
            .as_deref()
            .map_or_else(|| Ok(Domain::host()), Domain::new)?;
        let (peer, name) = if request.pairing == Some(Pairing::Single) {
            self.check_single(request, &primary)?;
            let name = self.primary_name(&primary, None)?;
            (None, name)
        } else {
            let peer = Link::peer(request)?;
            self.check_pair(request, &primary, &peer)?;
            let peer_name = self.peer_name(&peer, &primary)?;
            let name = self.primary_name(&primary, Some(&peer_name))?;
            (Some((peer, peer_name)), name)
        };
        let peer_domain = request
            .peer
            .as_ref()
            .and_then(|peer| peer.domain.as_deref())
            .map(Domain::new)
            .transpose()?;

        // Nothing fails from here on.
        let peer = peer.map(|(link, name)| {
            let ifindex = link.ifindex.unwrap_or_else(|| self.next_ifindex(primary.ifindex));
            let domain = peer_domain.unwrap_or_else(|| self.own_domain(ifindex));
            self.new_end(request, &link, ifindex, name, domain)
        });
        let ifindex = primary.ifindex.unwrap_or_else(|| self.next_ifindex(None));
        let mut device = self.new_end(request, &primary, ifindex, name, domain);
        device.peer = peer.as_ref().map(|peer| peer.ifindex);
        let created = Created {
            primary: ifindex,
            peer: device.peer,
        };
        if let Some(peer) = peer {
            self.insert(Device {
                policy: request.peer_policy.unwrap_or(Policy::Forward),
                scrub: request.peer_scrub.unwrap_or(Scrub::Default),
                primary: false,
                peer: Some(ifindex),
                ..peer
            });
        }
        self.insert(device);
        Ok(created)
    }

    fn check_single(&self, request: &CreateRequest, primary: &Link<'_>) -> Result<(), Error> {
        self.refuse_existing(primary)?;
        primary.validate_address()?;
        primary.validate_sizes()?;
        primary.refuse_address_in(request.mode)?;
        refuse_attributes_of_pairs(request)?;
        self.refuse_more_than(1)
    }

    fn check_pair(&self, request: &CreateRequest, primary: &Link<'_>, peer: &Link<'_>) -> Result<(), Error> {
        self.refuse_existing(primary)?;
        primary.validate_address()?;
        peer.validate_address()?;
        primary.validate_sizes()?;
        primary.refuse_address_in(request.mode)?;
        peer.refuse_address_in(request.mode)?;
        peer.validate_sizes()?;
        self.refuse_existing_peer(peer, primary)?;
        self.refuse_more_than(2)
    }

    pub(crate) fn refuse_more_than(&self, new: usize) -> Result<(), Error> {
        if self.devices.len() + new > DEVICES_MAX {
            return Err(Error::TooManyDevices { limit: DEVICES_MAX });
        }
        Ok(())
    }

    fn primary_name(&self, primary: &Link<'_>, peer_name: Option<&str>) -> Result<String, Error> {
        let wanted = primary.name.unwrap_or(name::DEFAULT);
        self.names.allocate(wanted, |name| peer_name == Some(name))
    }

    /// rtnetlink.c: `rtnl_newlink` looks for the device by ifindex, then by name.
    fn refuse_existing(&self, primary: &Link<'_>) -> Result<(), Error> {
        if let Some(ifindex) = primary
            .ifindex
            .filter(|ifindex| self.devices.contains_key(ifindex))
        {
            return Err(Error::IfindexTaken { ifindex });
        }
        match primary.name.filter(|name| self.names.contains(name)) {
            Some(name) => Err(Error::NameTaken {
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// dev.c: `dev_index_reserve`.
    fn refuse_existing_peer(&self, peer: &Link<'_>, primary: &Link<'_>) -> Result<(), Error> {
        match peer
            .ifindex
            .filter(|ifindex| self.devices.contains_key(ifindex) || primary.ifindex == Some(*ifindex))
        {
            Some(ifindex) => Err(Error::PeerIfindexTaken { ifindex }),
            None => Ok(()),
        }
    }

    /// The peer's name. A number that the model chooses stays clear of the name asked for the primary.
    fn peer_name(&self, peer: &Link<'_>, primary: &Link<'_>) -> Result<String, Error> {
        let wanted = peer.name.unwrap_or(name::DEFAULT);
        self.names
            .allocate(wanted, |name| name != wanted && primary.name == Some(name))
    }

    /// The next ifindex in turn that is neither in use nor `reserved` (dev.c: `dev_index_reserve`).
    pub(crate) fn next_ifindex(&mut self, reserved: Option<Ifindex>) -> Ifindex {
        // There are far more numbers than devices, so this ends.
        loop {
            self.last_ifindex = if self.last_ifindex >= Ifindex::MAX.0 {
                1
            } else {
                self.last_ifindex + 1
            };
            let ifindex = Ifindex(self.last_ifindex);
            if !self.devices.contains_key(&ifindex) && reserved != Some(ifindex) {
                return ifindex;
            }
        }
    }

    /// A domain that no device is in yet, named after the device it is for.
    fn own_domain(&self, ifindex: Ifindex) -> Domain {
        let mut name = format!("if{ifindex}");
        while self.devices.values().any(|device| device.domain.as_str() == name) {
            name.push('+');
        }
        Domain::own(&name)
    }

    fn random_address(&mut self) -> MacAddress {
        loop {
            let address = self.random.address();
            if self.devices.values().all(|device| device.address != address) {
                return address;
            }
        }
    }

    /// An end of what was asked for, with the primary's settings.
    fn new_end(
        &mut self,
        request: &CreateRequest,
        link: &Link<'_>,
        ifindex: Ifindex,
        name: String,
        domain: Domain,
    ) -> Device {
        let mode = request.mode.unwrap_or(Mode::L3);
        Device {
            ifindex,
            name,
            address: match mode {
                Mode::L2 => link.address.unwrap_or_else(|| self.random_address()),
                Mode::L3 => MacAddress::ZERO,
            },
            mtu: link.mtu,
            up: false,
            domain,
            mode,
            policy: request.policy.unwrap_or(Policy::Forward),
            scrub: request.scrub.unwrap_or(Scrub::Default),
            pairing: request.pairing.unwrap_or(Pairing::Pair),
            primary: true,
            peer: None,
            headroom: request.headroom.unwrap_or(0),
            tailroom: request.tailroom.unwrap_or(0),
            num_rx_queues: link.num_rx_queues,
            num_tx_queues: link.num_tx_queues,
            list: ProgramList::new(),
            lease: None,
            uplink: None,
            counters: Arc::new(Counters::new(self.shards)),
        }
    }

    pub(crate) fn insert(&mut self, device: Device) {
        self.names.insert(device.name.clone(), device.ifindex);
        self.devices.insert(device.ifindex, device);
    }
}

impl<'a> Link<'a> {
    fn primary(request: &'a CreateRequest) -> Result<Link<'a>, Error> {
        Ok(Link {
            name: request.name.as_deref(),
            address: request.address,
            mtu: request.mtu.unwrap_or(MTU_DEFAULT),
            num_rx_queues: request.num_rx_queues.unwrap_or(1),
            num_tx_queues: request.num_tx_queues.unwrap_or(1),
            ifindex: request.ifindex.map(Ifindex::new).transpose()?,
        })
    }

    /// Without `PEER_INFO` the peer is made from the primary's attributes, of which netkit then
    /// replaces the address and ignores name and ifindex (netkit.c: `netkit_new_link`).
    fn peer(request: &'a CreateRequest) -> Result<Link<'a>, Error> {
        let Some(peer) = &request.peer else {
            return Ok(Link {
                name: None,
                address: None,
                ifindex: None,
                ..Link::primary(request)?
            });
        };
        let PeerRequest {
            name,
            address,
            mtu,
            domain: _,
            num_rx_queues,
            num_tx_queues,
            ifindex,
        } = peer;
        Ok(Link {
            name: name.as_deref(),
            address: *address,
            mtu: mtu.unwrap_or(MTU_DEFAULT),
            num_rx_queues: num_rx_queues.unwrap_or(1),
            num_tx_queues: num_tx_queues.unwrap_or(1),
            ifindex: ifindex
                .map(Ifindex::new)
                .transpose()?
                .filter(|_| request.ifindex.is_some()),
        })
    }

    fn label(&self) -> &str {
        self.name.unwrap_or(name::DEFAULT)
    }

    /// netkit.c: `netkit_validate`.
    fn validate_address(&self) -> Result<(), Error> {
        self.address
            .map_or(Ok(()), |address| validate_address(self.label(), address))
    }

    /// netkit.c: `netkit_new_link`.
    fn refuse_address_in(&self, mode: Option<Mode>) -> Result<(), Error> {
        if self.address.is_some() && mode != Some(Mode::L2) {
            return Err(Error::AddressInL3 {
                device: self.label().to_owned(),
            });
        }
        Ok(())
    }

    /// rtnetlink.c: `rtnl_create_link`.
    fn validate_sizes(&self) -> Result<(), Error> {
        validate_queues(self.label(), self.num_tx_queues, self.num_rx_queues)?;
        validate_mtu(self.label(), self.mtu)
    }
}

/// netkit.c: `netkit_new_link`, for `NETKIT_DEVICE_SINGLE`.
fn refuse_attributes_of_pairs(request: &CreateRequest) -> Result<(), Error> {
    let attribute = if request.peer.is_some() {
        "a peer"
    } else if request.peer_scrub.is_some() {
        "a peer scrub"
    } else if request.peer_policy.is_some() {
        "a peer policy"
    } else if request.scrub.is_some() {
        "a scrub"
    } else if request.policy.is_some_and(|policy| policy != Policy::Forward) {
        "a policy other than forward"
    } else {
        return Ok(());
    };
    Err(Error::SingleUnsupported { attribute })
}
