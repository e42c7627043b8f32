//! Who is behind an uplink: for whom a frame is that came from it, or that another device behind it sends.

use std::net::IpAddr;

use devices::packet::MacAddress;
use netkit::Slot;

/// The devices behind an uplink, and by what their frames are known.
#[derive(Debug, Default)]
pub struct Shares {
    /// It gets everything that is for no other.
    only: Option<Slot>,
    /// Devices by Ethernet address, in order.
    addresses: Vec<(MacAddress, Slot)>,
    /// Those that have an Ethernet address there: they get what is for groups.
    members: Vec<Slot>,
    /// Devices by IP address, in order.
    hosts: Vec<(IpAddr, Slot)>,
    /// Devices by shorter prefix, the longest first.
    networks: Vec<(Prefix, Slot)>,
    /// Whom a queue is leased to, by its number, if only that device's frames come by it.
    lessees: Vec<Option<Slot>>,
    /// Lessees by Ethernet address, in order, for frames that come by other queues.
    lessee_addresses: Vec<(MacAddress, Slot)>,
}

/// An IP address and how much of it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address; what does not count is zero.
    pub address: IpAddr,
    /// How many bits count.
    pub length: u8,
}

/// By what frames for a device are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedBy {
    /// All are for it.
    Nothing,
    /// These Ethernet addresses.
    Addresses(Vec<MacAddress>),
    /// These IP addresses.
    Prefixes(Vec<Prefix>),
}

/// For whom a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// One device.
    Device(Slot),
    /// All that have an Ethernet address.
    Group,
    /// None behind this uplink.
    Elsewhere,
}

impl Shares {
    /// Adds a device.
    pub fn add(&mut self, device: Slot, by: &SharedBy) {
        match by {
            SharedBy::Nothing => self.only = Some(device),
            SharedBy::Addresses(addresses) => {
                self.members.push(device);
                for address in addresses {
                    insert(&mut self.addresses, *address, device);
                }
            }
            SharedBy::Prefixes(prefixes) => {
                for prefix in prefixes {
                    self.add_prefix(*prefix, device);
                }
            }
        }
    }

    fn add_prefix(&mut self, prefix: Prefix, device: Slot) {
        if prefix.length == prefix.full_length() {
            insert(&mut self.hosts, prefix.address, device);
        } else {
            self.networks.push((prefix, device));
            self.networks
                .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length));
        }
    }

    /// A queue is leased to a device, which has this address. Unless the NIC keeps the queue for that address, others'
    /// frames may come by it, too.
    pub fn lease(&mut self, queue: usize, is_kept: bool, device: Slot, address: MacAddress) {
        if self.lessees.len() <= queue {
            self.lessees.resize(queue + 1, None);
        }
        self.lessees[queue] = is_kept.then_some(device);
        if address.is_unicast() {
            insert(&mut self.lessee_addresses, address, device);
        }
    }

    /// Whether frames of L3 devices go through it.
    pub fn routes(&self) -> bool {
        !self.hosts.is_empty() || !self.networks.is_empty()
    }

    /// To whom a queue is leased, if only that device's frames come by it.
    #[inline]
    pub fn lessee(&self, queue: usize) -> Option<Slot> {
        self.lessees.get(queue).copied().flatten()
    }

    /// The lessee with an address.
    #[inline]
    pub fn lessee_at(&self, address: MacAddress) -> Option<Slot> {
        find(&self.lessee_addresses, &address)
    }

    /// Every lessee, as often as it has addresses.
    pub fn lessees(&self) -> impl Iterator<Item = Slot> {
        self.lessee_addresses.iter().map(|(_, device)| *device)
    }

    /// Devices that get what is for groups.
    pub fn members(&self) -> &[Slot] {
        &self.members
    }

    /// For whom a frame to this Ethernet address is.
    #[inline]
    pub fn destination(&self, address: MacAddress) -> Destination {
        if let Some(device) = self.only {
            return Destination::Device(device);
        }
        match find(&self.addresses, &address) {
            Some(device) => Destination::Device(device),
            None if address.is_multicast() => Destination::Group,
            None => Destination::Elsewhere,
        }
    }

    /// The device with this Ethernet address, as another one behind the uplink finds it.
    #[inline]
    pub fn neighbour(&self, address: MacAddress) -> Destination {
        match self.only {
            Some(_) => Destination::Elsewhere,
            None => self.destination(address),
        }
    }

    /// The device with this IP address.
    pub fn host(&self, address: IpAddr) -> Option<Slot> {
        let network = || {
            let covers = |(prefix, _): &&(Prefix, Slot)| prefix.covers(address);
            self.networks.iter().find(covers).map(|(_, device)| *device)
        };
        find(&self.hosts, &address).or_else(network)
    }
}

impl Prefix {
    /// A prefix; None if the address has not that many bits. What does not count is made zero.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32_u32.checked_sub(length.into())?)
                    .unwrap_or(0);
                IpAddr::from((u32::from(address) & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128_u32.checked_sub(length.into())?)
                    .unwrap_or(0);
                IpAddr::from((u128::from(address) & mask).to_be_bytes())
            }
        };
        Some(Prefix { address, length })
    }

    fn full_length(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn covers(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Prefix::new(address, self.length) == Some(*self)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl std::str::FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Prefix, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let length = match length {
            Some(length) => length.parse().map_err(drop)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Prefix::new(address, length).ok_or(())
    }
}

/// Puts an entry where it belongs; one with the same key is replaced.
fn insert<K: Ord>(entries: &mut Vec<(K, Slot)>, key: K, device: Slot) {
    match entries.binary_search_by(|(other, _)| other.cmp(&key)) {
        Ok(place) => entries[place].1 = device,
        Err(place) => entries.insert(place, (key, device)),
    }
}

#[inline]
fn find<K: Ord>(entries: &[(K, Slot)], key: &K) -> Option<Slot> {
    let place = entries.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
    Some(entries[place].1)
}

#[cfg(test)]
mod tests {
    use netkit::{CreateRequest, Mode, Model};

    use super::*;

    fn slots() -> Vec<Slot> {
        let mut model = Model::new(1, 1);
        for _ in 0..2 {
            let request = CreateRequest {
                mode: Some(Mode::L2),
                ..CreateRequest::default()
            };
            model.create(&request).unwrap();
        }
        model.view().iter().map(|(slot, _)| slot).collect()
    }

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn frames_are_told_apart_by_their_ethernet_address() {
        let slots = slots();
        let mut shares = Shares::default();
        shares.add(slots[0], &SharedBy::Addresses(vec![mac(9), mac(1)]));
        shares.add(slots[1], &SharedBy::Addresses(vec![mac(5)]));
        assert_eq!(shares.destination(mac(1)), Destination::Device(slots[0]));
        assert_eq!(shares.destination(mac(9)), Destination::Device(slots[0]));
        assert_eq!(shares.destination(mac(5)), Destination::Device(slots[1]));
        assert_eq!(shares.destination(mac(7)), Destination::Elsewhere);
        assert_eq!(shares.destination(MacAddress::BROADCAST), Destination::Group);
        assert_eq!(shares.members(), [slots[0], slots[1]]);
    }

    #[test]
    fn one_device_that_is_wired_gets_everything_and_has_no_neighbours() {
        let slots = slots();
        let mut shares = Shares::default();
        shares.add(slots[2], &SharedBy::Nothing);
        for address in [mac(1), MacAddress::BROADCAST] {
            assert_eq!(shares.destination(address), Destination::Device(slots[2]));
            assert_eq!(shares.neighbour(address), Destination::Elsewhere);
        }
    }

    #[test]
    fn the_longest_prefix_says_whose_an_ip_address_is() {
        let slots = slots();
        let mut shares = Shares::default();
        let prefixes = |list: &[&str]| list.iter().map(|it| it.parse().unwrap()).collect();
        shares.add(
            slots[0],
            &SharedBy::Prefixes(prefixes(&["10.0.0.0/8", "fd00::1"])),
        );
        shares.add(
            slots[1],
            &SharedBy::Prefixes(prefixes(&["10.1.2.3", "10.1.0.9/16"])),
        );
        let host = |address: &str| shares.host(address.parse().unwrap());
        assert_eq!(host("10.9.9.9"), Some(slots[0]));
        assert_eq!(host("10.1.9.9"), Some(slots[1]));
        assert_eq!(host("10.1.2.3"), Some(slots[1]));
        assert_eq!(host("fd00::1"), Some(slots[0]));
        assert_eq!((host("11.0.0.1"), host("fd00::2")), (None, None));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err() && "x".parse::<Prefix>().is_err());
        assert_eq!("::/0".parse::<Prefix>().unwrap().length, 0);
    }

    #[test]
    fn a_leased_queue_and_its_lessee_s_address_lead_to_the_lessee() {
        let slots = slots();
        let mut shares = Shares::default();
        shares.lease(3, true, slots[1], mac(4));
        shares.lease(5, false, slots[1], mac(4));
        assert_eq!((shares.lessee(3), shares.lessee(2)), (Some(slots[1]), None));
        assert_eq!(shares.lessee(5), None, "others' frames come by it, too");
        assert_eq!(shares.lessee(99), None);
        assert_eq!(shares.lessee_at(mac(4)), Some(slots[1]));
    }
}
