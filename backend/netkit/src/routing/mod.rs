//! The routes and neighbours of a domain, which programs look up (`bpf_fib_lookup`, `bpf_redirect_neigh`).

mod table;

use std::cmp::Reverse;
use std::net::IpAddr;

use devices::packet::{Frame, MacAddress};
use serde::{Deserialize, Serialize};

use crate::{Ifindex, mac_text};

use table::Table;

/// Where programs send frames of a domain. Immutable while workers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// What the API has set; only this is saved.
    #[serde(flatten)]
    api: Table,
    /// What the host has set for the netdevs that devices stand for.
    #[serde(skip)]
    host: Table,
}

/// Who has set a route or a neighbour. Of two for the same destination the first of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The API.
    Api,
    /// The host, for the netdev that the device stands for.
    Host,
}

/// What leads to a device on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// All have this device.
    pub routes: Vec<Route>,
    /// All have this device.
    pub neighbours: Vec<Neighbour>,
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
    /// Of routes to one destination the one with the smallest metric counts.
    #[serde(default)]
    pub metric: u32,
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
    /// All routes in the order in which they are looked at: the longest prefixes first, then those of the API.
    pub fn routes(&self) -> Vec<(Origin, &Route)> {
        let mut routes: Vec<_> = tagged(&self.api.routes, &self.host.routes).collect();
        routes
            .sort_by_key(|(origin, route)| (Reverse(route.length), route.destination, *origin, route.metric));
        routes
    }

    /// All neighbours, those of the API first.
    pub fn neighbours(&self) -> impl Iterator<Item = (Origin, &Neighbour)> {
        tagged(&self.api.neighbours, &self.host.neighbours)
    }

    /// Adds a route, or puts it in place of the API's to the same destination through the same device.
    pub fn set_route(&mut self, route: Route) {
        self.api.set_route(route);
    }

    /// Removes a route of the API's, and says whether there was one.
    pub fn remove_route(&mut self, destination: IpAddr, length: u8, device: Ifindex) -> bool {
        self.api.remove_route(destination, length, device)
    }

    /// Adds a neighbour, or changes the address of the API's.
    pub fn set_neighbour(&mut self, neighbour: Neighbour) {
        self.api.set_neighbour(neighbour);
    }

    /// Removes a neighbour of the API's, and says whether there was one.
    pub fn remove_neighbour(&mut self, address: IpAddr, device: Ifindex) -> bool {
        self.api.remove_neighbour(address, device)
    }

    /// Forgets what leads to a device that is gone.
    pub fn remove_device(&mut self, device: Ifindex) {
        self.api.take_device(device);
        self.host.take_device(device);
    }

    /// Puts what leads to a device on the host in place of what did before, which is returned.
    pub fn follow(&mut self, device: Ifindex, mut followed: Followed) -> Followed {
        followed.routes.retain(|route| route.device == device);
        followed.neighbours.retain(|neighbour| neighbour.device == device);
        let before = self.host.take_device(device);
        self.host.add(followed);
        before
    }

    /// The route to an address: the longest prefix, then the API's, then the smallest metric.
    pub fn route(&self, to: IpAddr) -> Option<&Route> {
        self.best(to, |_| true)
    }

    /// The route to an address through a device.
    pub fn route_on(&self, to: IpAddr, device: Ifindex) -> Option<&Route> {
        self.best(to, |route| route.device == device)
    }

    fn best(&self, to: IpAddr, will_do: impl Fn(&Route) -> bool) -> Option<&Route> {
        match (self.api.route(to, &will_do), self.host.route(to, &will_do)) {
            (Some(api), Some(host)) if host.length > api.length => Some(host),
            (api, host) => api.or(host),
        }
    }

    /// The Ethernet address of a neighbour: as the API has it, then as the host has it.
    pub fn neighbour(&self, device: Ifindex, address: IpAddr) -> Option<MacAddress> {
        let host = || self.host.neighbour(device, address);
        self.api.neighbour(device, address).or_else(host)
    }

    /// What is to survive a restart; `None` if nothing is.
    pub(crate) fn saved(&self) -> Option<Routing> {
        let is_empty = self.api.routes.is_empty() && self.api.neighbours.is_empty();
        (!is_empty).then(|| Routing {
            api: self.api.clone(),
            host: Table::default(),
        })
    }

    /// As it was saved, with its index.
    pub(crate) fn indexed(mut self) -> Routing {
        self.api.index();
        self
    }
}

fn tagged<'a, T>(api: &'a [T], host: &'a [T]) -> impl Iterator<Item = (Origin, &'a T)> {
    let host = host.iter().map(|it| (Origin::Host, it));
    api.iter().map(|it| (Origin::Api, it)).chain(host)
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
            metric: 0,
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

    fn neighbour(address: &str, device: u32, last: u8) -> Neighbour {
        Neighbour {
            address: address.parse().unwrap(),
            device: Ifindex(device),
            lladdr: MacAddress([2, 0, 0, 0, 0, last]),
        }
    }

    fn via(gateway: &str, metric: u32, mut route: Route) -> Route {
        route.via = Some(gateway.parse().unwrap());
        route.metric = metric;
        route
    }

    #[test]
    fn the_longest_prefix_wins_then_the_api_then_the_metric() {
        let mut routing = Routing::default();
        let of_host = || Followed {
            routes: vec![
                via("10.0.0.3", 20, route("10.0.0.0", 8, 1)),
                via("10.0.0.2", 10, route("10.0.0.0", 8, 1)),
                via("10.0.0.4", 99, route("10.1.0.0", 16, 1)),
            ],
            neighbours: Vec::new(),
        };
        routing.follow(Ifindex(1), of_host());
        let gateway = |routing: &Routing, to: &str| {
            let found = routing.route(to.parse().unwrap()).and_then(|route| route.via);
            found.map(|via| via.to_string())
        };
        assert_eq!(gateway(&routing, "10.9.0.1").as_deref(), Some("10.0.0.2"));
        routing.set_route(via("10.0.0.1", 50, route("10.0.0.0", 8, 1)));
        assert_eq!(gateway(&routing, "10.9.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(gateway(&routing, "10.1.0.1").as_deref(), Some("10.0.0.4"));
        routing.set_route(via("10.0.0.9", 0, route("10.0.0.0", 8, 2)));
        assert_eq!(gateway(&routing, "10.9.0.1").as_deref(), Some("10.0.0.9"));
        let shown: Vec<_> = routing
            .routes()
            .iter()
            .map(|(origin, route)| (*origin, route.length, route.metric))
            .collect();
        let (api, host) = (Origin::Api, Origin::Host);
        assert_eq!(
            shown,
            [
                (host, 16, 99),
                (api, 8, 0),
                (api, 8, 50),
                (host, 8, 10),
                (host, 8, 20)
            ]
        );
    }

    #[test]
    fn what_the_host_has_comes_and_goes_and_leaves_what_the_api_has() {
        let mut routing = Routing::default();
        let (address, device) = ("10.0.0.7".parse().unwrap(), Ifindex(1));
        let of_host = Followed {
            routes: vec![route("10.0.0.0", 24, 1), route("10.2.0.0", 24, 9)],
            neighbours: vec![neighbour("10.0.0.7", 1, 7), neighbour("10.0.0.8", 1, 8)],
        };
        routing.follow(device, of_host);
        assert_eq!(routing.routes().len(), 1, "a route of another device was taken");
        assert_eq!(
            routing.neighbour(device, address),
            Some(MacAddress([2, 0, 0, 0, 0, 7]))
        );
        assert!(!routing.remove_route("10.0.0.0".parse().unwrap(), 24, device));
        assert!(!routing.remove_neighbour(address, device));

        routing.set_neighbour(neighbour("10.0.0.7", 1, 1));
        routing.set_route(route("10.0.0.0", 24, 1));
        assert_eq!(
            routing.neighbour(device, address),
            Some(MacAddress([2, 0, 0, 0, 0, 1]))
        );
        let before = routing.follow(device, Followed::default());
        assert_eq!((before.routes.len(), before.neighbours.len()), (1, 2));
        assert!(routing.routes().iter().all(|(origin, _)| *origin == Origin::Api));
        assert_eq!(routing.neighbour(device, "10.0.0.8".parse().unwrap()), None);
        assert!(routing.route(address).is_some());

        routing.follow(device, before);
        assert!(routing.remove_neighbour(address, device));
        assert_eq!(
            routing.neighbour(device, address),
            Some(MacAddress([2, 0, 0, 0, 0, 7]))
        );
        routing.remove_device(device);
        assert_eq!(routing, Routing::default());
    }

    #[test]
    fn only_what_the_api_has_is_saved() {
        let mut routing = Routing::default();
        let of_host = Followed {
            routes: vec![route("10.0.0.0", 24, 1)],
            neighbours: vec![neighbour("10.0.0.7", 1, 7)],
        };
        routing.follow(Ifindex(1), of_host);
        assert_eq!(routing.saved(), None);
        routing.set_route(route("10.9.0.0", 16, 1));
        let text = serde_json::to_string(&routing.saved()).unwrap();
        let restored: Routing = serde_json::from_str(&text).unwrap();
        let restored = restored.indexed();
        assert_eq!(restored.routes(), [(Origin::Api, &route("10.9.0.0", 16, 1))]);
        assert_eq!(restored.neighbours().count(), 0);
    }
}
