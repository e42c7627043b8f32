//! What the API does to maps, and to the routes and neighbours that programs look up.

use std::net::IpAddr;
use std::sync::Arc;

use netkit::{Domain, Ifindex, Neighbour, Origin, Route};
use netkit_api as api;
use policy::Errno;
use policy::engine::EngineMap;
use policy::map::{Map, MapKind};

use super::{Daemon, DaemonError, convert};

impl Daemon {
    /// All maps by id.
    pub fn maps(&self) -> Vec<api::Map> {
        self.engine.maps().map(|entry| self.shown_map(entry)).collect()
    }

    /// One map.
    pub fn show_map(&self, wanted: &str) -> Result<api::Map, DaemonError> {
        Ok(self.shown_map(self.find_map(wanted)?))
    }

    /// A map to look into. Its contents need no daemon.
    pub fn open_map(&self, wanted: &str) -> Result<Arc<Map>, DaemonError> {
        Ok(self.find_map(wanted)?.map.clone())
    }

    /// Takes the name from a map.
    pub fn unpin_map(&mut self, wanted: &str) -> Result<(), DaemonError> {
        let (id, name) = {
            let entry = self.find_map(wanted)?;
            (entry.map.id(), entry.map.definition().name.clone())
        };
        if !self.engine.unpin(id) {
            return Err(DaemonError::NotPinned { map: name });
        }
        self.save()
    }

    /// Puts a program or a map into a map that holds such, or takes it out.
    pub fn set_reference(
        &mut self,
        wanted: &str,
        key: &[u8],
        value: Option<&str>,
        flags: u64,
    ) -> Result<(), DaemonError> {
        let entry = self.find_map(wanted)?.clone();
        let name = entry.map.definition().name.clone();
        let result = if entry.map.kind() == MapKind::ProgArray {
            let program = value
                .map(|wanted| self.find_program(wanted))
                .transpose()?
                .cloned();
            let index = <[u8; 4]>::try_from(key).map(u32::from_ne_bytes);
            match index {
                Ok(index) => self.engine.set_program(&entry, index, program.as_ref()),
                Err(_) => Err(Errno::EINVAL),
            }
        } else {
            let inner = value.map(|wanted| self.find_map(wanted)).transpose()?.cloned();
            self.engine.set_inner(&entry, key, inner.as_ref(), flags)
        };
        result.map_err(|errno| DaemonError::MapOperation {
            operation: if value.is_some() { "update" } else { "delete" }.to_owned(),
            map: name,
            errno,
        })?;
        self.save()
    }

    /// The routes of a domain.
    pub fn routes(&self, domain: &str) -> Result<Vec<api::Route>, DaemonError> {
        let routing = self.model.routing(&Domain::new(domain)?);
        Ok(routing
            .routes()
            .into_iter()
            .map(|(origin, route)| self.shown_route(origin, route))
            .collect())
    }

    /// The neighbours of a domain.
    pub fn neighbours(&self, domain: &str) -> Result<Vec<api::Neighbour>, DaemonError> {
        let routing = self.model.routing(&Domain::new(domain)?);
        let shown = |(origin, neighbour): (Origin, &Neighbour)| api::Neighbour {
            address: neighbour.address.to_string(),
            device: self.device_name(neighbour.device),
            lladdr: neighbour.lladdr.to_string(),
            origin: Some(convert::origin(origin)),
        };
        Ok(routing.neighbours().map(shown).collect())
    }

    /// Makes or changes a route.
    pub fn set_route(&mut self, domain: &str, request: &api::Route) -> Result<(), DaemonError> {
        let domain = Domain::new(domain)?;
        let route = self.route(&domain, request)?;
        self.model
            .change_routing(&domain, |routing| routing.set_route(route));
        self.commit()
    }

    /// Removes a route.
    pub fn delete_route(&mut self, domain: &str, request: &api::Route) -> Result<(), DaemonError> {
        let domain = Domain::new(domain)?;
        let route = self.route(&domain, request)?;
        let what = || format!("route to {} through {}", request.destination, request.device);
        if request.origin == Some(api::Origin::Host) {
            return Err(DaemonError::OfHost { what: what() });
        }
        let removed = self.model.change_routing(&domain, |routing| {
            routing.remove_route(route.destination, route.length, route.device)
        });
        if !removed {
            return Err(DaemonError::NoSuchRoute {
                what: what(),
                domain: domain.to_string(),
            });
        }
        self.commit()
    }

    /// Makes or changes a neighbour.
    pub fn set_neighbour(&mut self, domain: &str, request: &api::Neighbour) -> Result<(), DaemonError> {
        let domain = Domain::new(domain)?;
        let neighbour = Neighbour {
            address: ip_address(&request.address)?,
            device: self.device_in(&domain, &request.device)?,
            lladdr: convert::address(&request.lladdr)?,
        };
        self.model
            .change_routing(&domain, |routing| routing.set_neighbour(neighbour));
        self.commit()
    }

    /// Removes a neighbour.
    pub fn delete_neighbour(&mut self, domain: &str, request: &api::Neighbour) -> Result<(), DaemonError> {
        let domain = Domain::new(domain)?;
        let (address, device) = (
            ip_address(&request.address)?,
            self.device_in(&domain, &request.device)?,
        );
        let what = || format!("neighbour {} on {}", request.address, request.device);
        if request.origin == Some(api::Origin::Host) {
            return Err(DaemonError::OfHost { what: what() });
        }
        if !self
            .model
            .change_routing(&domain, |routing| routing.remove_neighbour(address, device))
        {
            return Err(DaemonError::NoSuchRoute {
                what: what(),
                domain: domain.to_string(),
            });
        }
        self.commit()
    }

    fn route(&self, domain: &Domain, request: &api::Route) -> Result<Route, DaemonError> {
        let via = request.via.as_deref().map(ip_address).transpose()?;
        let (destination, length) = match request.destination.as_str() {
            "default" if via.is_some_and(|via| via.is_ipv6()) => (IpAddr::from([0u8; 16]), 0),
            "default" => (IpAddr::from([0u8; 4]), 0),
            text => prefix(text)?,
        };
        Ok(Route {
            destination,
            length,
            via,
            device: self.device_in(domain, &request.device)?,
            source: request.source.as_deref().map(ip_address).transpose()?,
            mtu: request.mtu,
            metric: request.metric.unwrap_or(0),
        })
    }

    fn device_in(&self, domain: &Domain, name: &str) -> Result<Ifindex, DaemonError> {
        let ifindex = self.model.find(name)?;
        if self.model.device(ifindex)?.domain != *domain {
            return Err(DaemonError::OutsideDomain {
                device: name.to_owned(),
                domain: domain.to_string(),
            });
        }
        Ok(ifindex)
    }

    fn device_name(&self, ifindex: Ifindex) -> String {
        let device = self.model.device(ifindex);
        device.map_or_else(|_| ifindex.to_string(), |device| device.name.clone())
    }

    fn shown_route(&self, origin: Origin, route: &Route) -> api::Route {
        api::Route {
            destination: format!("{}/{}", route.destination, route.length),
            via: route.via.map(|via| via.to_string()),
            device: self.device_name(route.device),
            source: route.source.map(|source| source.to_string()),
            mtu: route.mtu,
            metric: Some(route.metric).filter(|metric| *metric != 0),
            origin: Some(convert::origin(origin)),
        }
    }

    /// The map of an id, of a pin, or of a name that only one map has.
    fn find_map(&self, wanted: &str) -> Result<&EngineMap, DaemonError> {
        let by_id = || wanted.parse().ok().and_then(|id| self.engine.map(id));
        let by_pin = || {
            self.engine
                .maps()
                .find(|entry| entry.pinned.as_deref() == Some(wanted))
        };
        if let Some(entry) = by_id().or_else(by_pin) {
            return Ok(entry);
        }
        let mut found = self
            .engine
            .maps()
            .filter(|entry| entry.map.definition().name == wanted);
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry),
            (None, _) => Err(DaemonError::NoSuchMap {
                wanted: wanted.to_owned(),
            }),
            (Some(first), Some(second)) => Err(DaemonError::Ambiguous {
                what: "map",
                wanted: wanted.to_owned(),
                ids: (first.map.id(), second.map.id()),
            }),
        }
    }

    fn shown_map(&self, entry: &EngineMap) -> api::Map {
        let map = &entry.map;
        let definition = map.definition();
        let per_shard = matches!(
            map.kind(),
            MapKind::PercpuArray | MapKind::PercpuHash | MapKind::LruPercpuHash
        );
        api::Map {
            id: map.id(),
            kind: map.kind().name().to_owned(),
            name: definition.name.clone(),
            flags: definition.flags,
            bytes_key: definition.key_size,
            bytes_value: definition.value_size,
            max_entries: definition.max_entries,
            bytes_memlock: map.memory_len(),
            frozen: map.is_frozen(),
            pinned: entry.pinned.clone(),
            program_ids: self.engine.users(map.id()).collect(),
            shards: per_shard.then_some(self.engine.test_shard() as u32 + 1),
        }
    }
}

fn ip_address(text: &str) -> Result<IpAddr, DaemonError> {
    text.parse().map_err(|_| DaemonError::BadValue {
        what: "an IP address",
        value: format!("\"{text}\""),
        allowed: "one such as 10.0.0.1 or 2001:db8::1",
    })
}

fn prefix(text: &str) -> Result<(IpAddr, u8), DaemonError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (ip_address(address)?, length.parse().ok()),
        None => {
            let address = ip_address(text)?;
            (address, Some(if address.is_ipv4() { 32 } else { 128 }))
        }
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match length {
        Some(length) if length <= longest => Ok((address, length)),
        _ => Err(DaemonError::BadValue {
            what: "a destination",
            value: format!("\"{text}\""),
            allowed: "an address and a prefix length such as 10.0.0.0/8",
        }),
    }
}
