//! Who is behind an uplink: for whom a frame is that came from it, or that another device behind it sends.

use std::cmp::Reverse;
use std::net::IpAddr;

use devices::packet::MacAddress;
use netkit::Slot;

/// The devices behind an uplink, and by what their frames are known. What was added is found after [`Shares::sorted`].
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
    /// Devices by shorter prefix, the longest first, and those of a length by their address.
    networks: Vec<(Prefix, Slot)>,
    /// Devices that lease queues, by Ethernet address, in order.
    lessees: Vec<(MacAddress, Slot)>,
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
                    self.addresses.push((*address, device));
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
            self.hosts.push((prefix.address, device));
        } else {
            self.networks.push((prefix, device));
        }
    }

    /// A device leases queues, and has this address. What is for it is told by that, not by the queue that it comes by: a
    /// NIC without flow rules gives others' frames there, too, and one with them does while its rules change.
    pub fn lease(&mut self, device: Slot, address: MacAddress) {
        if address.is_unicast() {
            self.lessees.push((address, device));
        }
    }

    /// Puts in order what was added. Of two devices with the same address the one that was added last has it.
    pub fn sorted(mut self) -> Shares {
        sort(&mut self.addresses, |address| *address);
        sort(&mut self.hosts, |address| *address);
        sort(&mut self.networks, Prefix::place);
        sort(&mut self.lessees, |address| *address);
        self
    }

    /// Whether frames of L3 devices go through it.
    pub fn routes(&self) -> bool {
        !self.hosts.is_empty() || !self.networks.is_empty()
    }

    /// The lessee with an address.
    #[inline]
    pub fn lessee(&self, address: MacAddress) -> Option<Slot> {
        find(&self.lessees, &address)
    }

    /// Every lessee.
    pub fn lessees(&self) -> impl Iterator<Item = Slot> {
        self.lessees.iter().map(|(_, device)| *device)
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
        find(&self.hosts, &address).or_else(|| self.network(address))
    }

    /// The device with the longest prefix that an IP address has: looked for once for each length that there is.
    fn network(&self, address: IpAddr) -> Option<Slot> {
        let mut networks = self.networks.as_slice();
        while let Some((Prefix { length, .. }, _)) = networks.first() {
            let count = networks.partition_point(|(prefix, _)| prefix.length == *length);
            let (of_length, shorter) = networks.split_at(count);
            let wanted = Prefix::new(address, *length);
            let place =
                wanted.and_then(|wanted| of_length.binary_search_by(|(prefix, _)| prefix.cmp(&wanted)).ok());
            if let Some(place) = place {
                return Some(of_length[place].1);
            }
            networks = shorter;
        }
        None
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

    /// Where it stands among others: longer ones come first.
    fn place(&self) -> (Reverse<u8>, IpAddr) {
        (Reverse(self.length), self.address)
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

/// Sorts entries; of those with the same key the last one stays.
fn sort<K: Copy, P: Ord>(entries: &mut Vec<(K, Slot)>, place: impl Fn(&K) -> P) {
    entries.sort_by_key(|(key, _)| place(key));
    entries.dedup_by(|later, kept| {
        let is_same = place(&later.0) == place(&kept.0);
        if is_same {
            *kept = *later;
        }
        is_same
    });
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
        let shares = shares.sorted();
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
            &SharedBy::Prefixes(prefixes(&["10.1.2.3", "10.1.0.9/16", "fd00:2::/48"])),
        );
        shares.add(
            slots[2],
            &SharedBy::Prefixes(prefixes(&["10.2.0.0/16", "fd00:2:0:1::/64", "12.0.0.0/7"])),
        );
        let shares = shares.sorted();
        let host = |address: &str| shares.host(address.parse().unwrap());
        assert_eq!(host("10.9.9.9"), Some(slots[0]));
        assert_eq!(host("10.1.9.9"), Some(slots[1]));
        assert_eq!(host("10.1.2.3"), Some(slots[1]));
        assert_eq!(host("10.2.9.9"), Some(slots[2]));
        assert_eq!(host("13.0.0.1"), Some(slots[2]));
        assert_eq!(host("fd00:2:0:1::5"), Some(slots[2]));
        assert_eq!(host("fd00:2:0:2::5"), Some(slots[1]));
        assert_eq!(host("fd00::1"), Some(slots[0]));
        assert_eq!((host("11.0.0.1"), host("fd00::2")), (None, None));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err() && "x".parse::<Prefix>().is_err());
        assert_eq!("::/0".parse::<Prefix>().unwrap().length, 0);
    }

    #[test]
    fn an_address_that_two_have_is_the_last_one_s() {
        let slots = slots();
        let mut shares = Shares::default();
        for slot in [slots[1], slots[0], slots[2]] {
            shares.add(slot, &SharedBy::Addresses(vec![mac(1)]));
            shares.add(slot, &SharedBy::Prefixes(vec!["10.0.0.0/8".parse().unwrap()]));
        }
        let shares = shares.sorted();
        assert_eq!(shares.destination(mac(1)), Destination::Device(slots[2]));
        assert_eq!(shares.host("10.0.0.1".parse().unwrap()), Some(slots[2]));
    }

    #[test]
    fn a_lessee_has_its_address_and_is_there_once() {
        let slots = slots();
        let mut shares = Shares::default();
        for _ in 0..2 {
            shares.lease(slots[1], mac(4));
        }
        shares.lease(slots[2], MacAddress::ZERO);
        let shares = shares.sorted();
        assert_eq!(
            (shares.lessee(mac(4)), shares.lessee(mac(5))),
            (Some(slots[1]), None)
        );
        assert_eq!(shares.lessees().collect::<Vec<_>>(), [slots[1]]);
    }
}
