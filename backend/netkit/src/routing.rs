//! The routes and neighbours of a domain, which programs look up (`bpf_fib_lookup`, `bpf_redirect_neigh`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use devices::packet::{Frame, MacAddress};
use serde::{Deserialize, Serialize};

use crate::{Ifindex, mac_text};

/// Where programs send frames of a domain. Immutable while workers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The longest prefixes first.
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    #[serde(skip)]
    by_address: BTreeMap<(Ifindex, IpAddr), MacAddress>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network's address, with zeros behind its prefix.
    pub destination: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
    /// The gateway; None for what is on the link.
    pub via: Option<IpAddr>,
    /// The device that it leads to.
    pub device: Ifindex,
    /// The address that frames of ours would come from.
    pub source: Option<IpAddr>,
    /// In octets.
    pub mtu: Option<u32>,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its IP address.
    pub address: IpAddr,
    /// The device that it is reached through.
    pub device: Ifindex,
    /// Its Ethernet address.
    #[serde(with = "mac_text")]
    pub lladdr: MacAddress,
}

/// Where `bpf_redirect_neigh` finds the Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// By routing the frame.
    FromFrame,
    /// By this neighbour.
    Address(IpAddr),
}

impl Routing {
    /// All routes, the longest prefixes first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// All neighbours.
    pub fn neighbours(&self) -> &[Neighbour] {
        &self.neighbours
    }

    /// Adds a route, or puts it in place of the one to the same destination through the same device.
    pub fn set_route(&mut self, mut route: Route) {
        route.destination = masked(route.destination, route.length);
        self.remove_route(route.destination, route.length, route.device);
        let behind = self.routes.partition_point(|other| other.length >= route.length);
        self.routes.insert(behind, route);
    }

    /// Removes a route, and says whether there was one.
    pub fn remove_route(&mut self, destination: IpAddr, length: u8, device: Ifindex) -> bool {
        let before = self.routes.len();
        let destination = masked(destination, length);
        self.routes
            .retain(|route| (route.destination, route.length, route.device) != (destination, length, device));
        self.routes.len() < before
    }

    /// Adds a neighbour, or changes its address.
    pub fn set_neighbour(&mut self, neighbour: Neighbour) {
        self.remove_neighbour(neighbour.address, neighbour.device);
        self.by_address
            .insert((neighbour.device, neighbour.address), neighbour.lladdr);
        self.neighbours.push(neighbour);
    }

    /// Removes a neighbour, and says whether there was one.
    pub fn remove_neighbour(&mut self, address: IpAddr, device: Ifindex) -> bool {
        self.neighbours
            .retain(|neighbour| (neighbour.address, neighbour.device) != (address, device));
        self.by_address.remove(&(device, address)).is_some()
    }

    /// Forgets what leads to a device that is gone.
    pub fn remove_device(&mut self, device: Ifindex) {
        self.routes.retain(|route| route.device != device);
        self.neighbours.retain(|neighbour| neighbour.device != device);
        self.by_address.retain(|(other, _), _| *other != device);
    }

    /// The route to an address: the longest prefix.
    pub fn route(&self, to: IpAddr) -> Option<&Route> {
        self.routes.iter().find(|route| route.covers(to))
    }

    /// The route to an address through a device.
    pub fn route_on(&self, to: IpAddr, device: Ifindex) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.device == device && route.covers(to))
    }

    /// The Ethernet address of a neighbour.
    pub fn neighbour(&self, device: Ifindex, address: IpAddr) -> Option<MacAddress> {
        self.by_address.get(&(device, address)).copied()
    }

    /// As it was saved, with its index.
    pub(crate) fn indexed(mut self) -> Routing {
        self.by_address = self
            .neighbours
            .iter()
            .map(|neighbour| ((neighbour.device, neighbour.address), neighbour.lladdr))
            .collect();
        self
    }
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.destination.is_ipv4() && masked(address, self.length) == self.destination
    }
}

/// An address with zeros behind its prefix.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// Where the IP packet in a frame goes.
pub(crate) fn destination(frame: &mut Frame) -> Option<IpAddr> {
    const IPV6_END: usize = 14 + 40;
    frame.pull(IPV6_END.min(frame.len()));
    let packet = frame.head().get(14..)?;
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, length: u8, device: u32) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            length,
            via: None,
            device: Ifindex(device),
            source: None,
            mtu: None,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_families_do_not_mix() {
        let mut routing = Routing::default();
        for (destination, length, device) in [
            ("0.0.0.0", 0, 1),
            ("10.1.2.3", 8, 2),
            ("10.1.0.0", 16, 3),
            ("10.1.2.3", 32, 4),
            ("2001:db8::", 32, 5),
        ] {
            routing.set_route(route(destination, length, device));
        }
        let device = |to: &str| routing.route(to.parse().unwrap()).map(|route| route.device.0);
        assert_eq!(device("192.0.2.1"), Some(1));
        assert_eq!(device("10.255.0.1"), Some(2));
        assert_eq!(device("10.1.255.1"), Some(3));
        assert_eq!(device("10.1.2.3"), Some(4));
        assert_eq!(device("2001:db8::1"), Some(5));
        assert_eq!(device("2001:db9::1"), None);
        let to = "10.1.2.3".parse().unwrap();
        assert_eq!(
            routing.route_on(to, Ifindex(2)).map(|route| route.length),
            Some(8)
        );
        assert!(routing.remove_route(to, 32, Ifindex(4)));
        assert!(!routing.remove_route(to, 32, Ifindex(4)));
        routing.remove_device(Ifindex(3));
        assert_eq!(routing.route(to).map(|route| route.device.0), Some(2));
    }
}
