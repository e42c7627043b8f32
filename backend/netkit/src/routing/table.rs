//! Routes and neighbours with one origin, and how they are looked up.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use devices::packet::MacAddress;
use serde::{Deserialize, Serialize};

use super::{Followed, Neighbour, Route};
use crate::Ifindex;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// In the order of [`rank`].
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    #[serde(skip)]
    by_address: BTreeMap<(Ifindex, IpAddr), MacAddress>,
}

impl Table {
    /// Adds a route, or puts it in place of the one to the same destination through the same device.
    pub fn set_route(&mut self, mut route: Route) {
        route.destination = masked(route.destination, route.length);
        self.remove_route(route.destination, route.length, route.device);
        let behind = self.routes.partition_point(|other| rank(other) <= rank(&route));
        self.routes.insert(behind, route);
    }

    pub fn remove_route(&mut self, destination: IpAddr, length: u8, device: Ifindex) -> bool {
        let before = self.routes.len();
        let destination = masked(destination, length);
        self.routes
            .retain(|route| (route.destination, route.length, route.device) != (destination, length, device));
        self.routes.len() < before
    }

    pub fn set_neighbour(&mut self, neighbour: Neighbour) {
        self.remove_neighbour(neighbour.address, neighbour.device);
        self.by_address
            .insert((neighbour.device, neighbour.address), neighbour.lladdr);
        self.neighbours.push(neighbour);
    }

    pub fn remove_neighbour(&mut self, address: IpAddr, device: Ifindex) -> bool {
        self.neighbours
            .retain(|neighbour| (neighbour.address, neighbour.device) != (address, device));
        self.by_address.remove(&(device, address)).is_some()
    }

    /// Adds what leads to a device, of which nothing may be here. Unlike [`Self::set_route`] it keeps routes that differ
    /// in their metric alone.
    pub fn add(&mut self, followed: Followed) {
        self.routes.extend(followed.routes);
        self.neighbours.extend(followed.neighbours);
        self.index();
    }

    /// Takes out what leads to a device.
    pub fn take_device(&mut self, device: Ifindex) -> Followed {
        self.by_address.retain(|(other, _), _| *other != device);
        Followed {
            routes: self
                .routes
                .extract_if(.., |route| route.device == device)
                .collect(),
            neighbours: self
                .neighbours
                .extract_if(.., |neighbour| neighbour.device == device)
                .collect(),
        }
    }

    /// The best of the routes to an address that will do: the longest prefix, then the smallest metric.
    pub fn route(&self, to: IpAddr, will_do: impl Fn(&Route) -> bool) -> Option<&Route> {
        let mut rest = &self.routes[..];
        while let Some(Route { length, .. }) = rest.first() {
            let (same, shorter) = rest.split_at(rest.partition_point(|route| route.length == *length));
            let wanted = masked(to, *length);
            let start = same.partition_point(|route| route.destination < wanted);
            let mut covering = same[start..]
                .iter()
                .take_while(|route| route.destination == wanted);
            if let Some(found) = covering.find(|route| will_do(route)) {
                return Some(found);
            }
            rest = shorter;
        }
        None
    }

    pub fn neighbour(&self, device: Ifindex, address: IpAddr) -> Option<MacAddress> {
        self.by_address.get(&(device, address)).copied()
    }

    /// Puts in order what was put here in any order.
    pub fn index(&mut self) {
        for route in &mut self.routes {
            route.destination = masked(route.destination, route.length);
        }
        self.routes.sort_by_key(rank);
        self.by_address = self
            .neighbours
            .iter()
            .map(|neighbour| ((neighbour.device, neighbour.address), neighbour.lladdr))
            .collect();
    }
}

/// The longest prefixes first; those of a destination side by side, the smallest metric first.
fn rank(route: &Route) -> (Reverse<u8>, IpAddr, u32) {
    (Reverse(route.length), route.destination, route.metric)
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
