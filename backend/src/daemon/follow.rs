//! Follows the host's routes and neighbours on the netdevs that devices stand for.
//!
//! What the kernel notifies of is taken as a hint that something may have changed, and what is there now is then read
//! anew: not every change is notified of (an IPv4 route goes silently with its netdev or its address), and a lost
//! notification costs nothing but a reading.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::tap::Tap;
use netkit::{Followed, Ifindex, Neighbour, Route};

use super::uplinks::Uplink;
use super::{Daemon, Reactor};
use crate::rtnetlink::{self, Message, NeighbourMessage, Notifications, RouteMessage};

/// The least time between two readings: a busy host must not keep the daemon busy.
const PAUSE: Duration = Duration::from_millis(100);
/// Datagrams that are read before others have their turn.
const BURST: usize = 64;

/// What is followed.
#[derive(Debug, Default)]
pub struct Follower {
    netdevs: BTreeMap<Ifindex, Netdev>,
    /// Open while there are netdevs to follow.
    notifications: Option<Notifications>,
    last_reading: Option<Instant>,
    /// Whether it has been said that the host cannot be followed.
    complained: bool,
}

/// How a host netdev is known.
#[derive(Debug)]
pub enum HostNetdev {
    /// As a tap that we have open, wherever it is and whatever it is called now.
    Tap(Arc<Tap>),
    /// By its ifindex in our network namespace.
    Ifindex(u32),
}

/// A host netdev that a device stands for.
#[derive(Debug)]
struct Netdev {
    host: HostNetdev,
    /// Its ifindex on the host; `None` while it is in another network namespace.
    ifindex: Option<u32>,
    routes_stale: bool,
    neighbours_stale: bool,
    /// As it was last read.
    followed: Followed,
}

impl Daemon {
    /// Follows the host for a device from now on. The change is to be published.
    pub(super) fn follow(&mut self, device: Ifindex, host: HostNetdev, reactor: &mut Reactor) {
        let follower = &mut self.follower;
        if follower.notifications.is_none() {
            match Notifications::open() {
                Ok(notifications) => {
                    reactor.hear_host(notifications.as_raw_fd());
                    follower.notifications = Some(notifications);
                }
                Err(error) => follower.complain("hear of the host's routes", &error),
            }
        }
        follower.netdevs.insert(device, Netdev::new(host));
        self.read_host();
    }

    /// Follows the host for an uplink that is one of its netdevs.
    pub(super) fn follow_uplink(&mut self, uplink: Ifindex, reactor: &mut Reactor) {
        let netdev = self.uplinks.get(&uplink).and_then(Uplink::netdev);
        if let Some(netdev) = netdev {
            self.follow(uplink, HostNetdev::Ifindex(netdev), reactor);
        }
    }

    /// What the host has for a device, as it was last read.
    pub(super) fn followed_of(&self, device: Ifindex) -> Followed {
        let netdev = self.follower.netdevs.get(&device);
        netdev.map_or_else(Followed::default, |netdev| netdev.followed.clone())
    }

    /// Follows the host for a device no more. The change is to be published.
    pub(super) fn unfollow(&mut self, device: Ifindex, reactor: &mut Reactor) {
        if self.follower.netdevs.remove(&device).is_none() {
            return;
        }
        // A device that is gone has been forgotten with its routes.
        let _ = self.model.follow(device, Followed::default());
        if self.follower.netdevs.is_empty() {
            self.follower.hang_up(reactor);
        }
    }

    /// Takes the hints that the kernel has sent.
    pub(super) fn hear_host(&mut self, reactor: &mut Reactor) {
        if self.follower.hear(reactor) {
            self.check_netdevs(reactor);
        }
        self.follow_changes();
    }

    /// Reads what may have changed, if that is due, and publishes what did.
    pub(super) fn follow_changes(&mut self) {
        let is_due = self.follower.due().is_some_and(|at| at <= Instant::now());
        if is_due && self.read_host() {
            self.publish();
        }
    }

    /// When [`Self::follow_changes`] is to be called; `None` while nothing has changed.
    pub(super) fn follow_due(&self) -> Option<Instant> {
        self.follower.due()
    }

    /// Says whether anything has changed.
    fn read_host(&mut self) -> bool {
        let changes = self.follower.read();
        for (device, followed) in &changes {
            tracing::debug!(
                "ifindex {device}: the host has {} routes and {} neighbours through it",
                followed.routes.len(),
                followed.neighbours.len()
            );
            self.put_followed(*device, followed.clone());
        }
        !changes.is_empty()
    }
}

impl Follower {
    /// Takes the hints that there are, and says whether a netdev may have changed.
    fn hear(&mut self, reactor: &mut Reactor) -> bool {
        let Some(mut notifications) = self.notifications.take() else {
            return false;
        };
        let mut links = false;
        for _ in 0..BURST {
            match notifications.receive() {
                Ok(datagram) => rtnetlink::messages(datagram).for_each(|message| {
                    links |= matches!(message.kind, libc::RTM_NEWLINK | libc::RTM_DELLINK);
                    self.take_hint(&message);
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::debug!("the host's routes change faster than they are read; reading them all");
                    self.netdevs.values_mut().for_each(Netdev::doubt);
                    links = true;
                }
                Err(error) => {
                    self.complain("hear of the host's routes", &error);
                    reactor.forget(notifications.as_raw_fd());
                    return true;
                }
            }
        }
        self.notifications = Some(notifications);
        links
    }

    fn take_hint(&mut self, message: &Message) {
        match message.kind {
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                let replaces = message.flags & libc::NLM_F_REPLACE as u16 != 0;
                let Some(route) = RouteMessage::parse(message.body) else {
                    return;
                };
                for netdev in self.netdevs.values_mut() {
                    netdev.routes_stale |= netdev.ifindex.is_some_and(|ifindex| route.leads_through(ifindex))
                        || replaces && netdev.has_route_to(&route);
                }
            }
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
                let Some(neighbour) = NeighbourMessage::parse(message.body) else {
                    return;
                };
                for netdev in self.netdevs.values_mut() {
                    netdev.neighbours_stale |= netdev.ifindex == Some(neighbour.ifindex);
                }
            }
            libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                // One that was away may have come back.
                let concerned =
                    |netdev: &&mut Netdev| netdev.ifindex.is_none() || netdev.ifindex == message.link();
                self.netdevs
                    .values_mut()
                    .filter(concerned)
                    .for_each(Netdev::doubt);
            }
            // The routes that prefer an address go with it, and routes follow the next hops that they share.
            libc::RTM_DELADDR | rtnetlink::RTM_NEWNEXTHOP | rtnetlink::RTM_DELNEXTHOP => {
                for netdev in self.netdevs.values_mut() {
                    netdev.routes_stale = true;
                }
            }
            _ => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let stale = |netdev: &Netdev| netdev.routes_stale || netdev.neighbours_stale;
        let is_stale = self.netdevs.values().any(stale);
        is_stale.then(|| self.last_reading.map_or_else(Instant::now, |last| last + PAUSE))
    }

    /// Reads what may have changed. Returns what has changed.
    fn read(&mut self) -> Vec<(Ifindex, Followed)> {
        let (mut changes, mut failure) = (Vec::new(), None);
        for (device, netdev) in &mut self.netdevs {
            match netdev.read(*device) {
                Ok(true) => changes.push((*device, netdev.followed.clone())),
                Ok(false) => {}
                // It changed while it was read, and is stale still.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failure = Some(error),
            }
        }
        self.last_reading = Some(Instant::now());
        if let Some(error) = failure {
            self.complain("read the host's routes", &error);
        }
        changes
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("cannot {what}: {error}; programs find only those that are set over the API");
        }
    }

    fn hang_up(&mut self, reactor: &mut Reactor) {
        if let Some(notifications) = self.notifications.take() {
            reactor.forget(notifications.as_raw_fd());
        }
    }
}

impl Netdev {
    fn new(host: HostNetdev) -> Netdev {
        Netdev {
            host,
            ifindex: None,
            routes_stale: true,
            neighbours_stale: true,
            followed: Followed::default(),
        }
    }

    fn doubt(&mut self) {
        (self.routes_stale, self.neighbours_stale) = (true, true);
    }

    fn has_route_to(&self, route: &RouteMessage) -> bool {
        let same = |one: &Route| (one.destination, one.length) == (route.destination, route.length);
        self.followed.routes.iter().any(same)
    }

    /// Reads what may have changed, and says whether it has. After an error other than Interrupted it waits for the next
    /// hint.
    fn read(&mut self, device: Ifindex) -> io::Result<bool> {
        if !self.routes_stale && !self.neighbours_stale {
            return Ok(false);
        }
        let result = self.read_stale(device);
        let interrupted = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
        if !result.as_ref().is_err_and(interrupted) {
            (self.routes_stale, self.neighbours_stale) = (false, false);
        }
        result
    }

    fn read_stale(&mut self, device: Ifindex) -> io::Result<bool> {
        self.ifindex = match &self.host {
            HostNetdev::Tap(tap) => tap.host_ifindex(),
            HostNetdev::Ifindex(ifindex) => Some(*ifindex),
        };
        let mut now = self.followed.clone();
        if self.routes_stale {
            now.routes = match self.ifindex {
                Some(ifindex) => routes(device, ifindex)?,
                None => Vec::new(),
            };
        }
        if self.neighbours_stale {
            now.neighbours = match self.ifindex {
                Some(ifindex) => neighbours(device, ifindex)?,
                None => Vec::new(),
            };
        }
        let changed = now != self.followed;
        self.followed = now;
        Ok(changed)
    }
}

/// The routes through a host netdev as routes through a device.
fn routes(device: Ifindex, ifindex: u32) -> io::Result<Vec<Route>> {
    let through = |route: RouteMessage| {
        let mut hops = route.hops.iter();
        // Of several ways through the same netdev the first is taken.
        let hop = hops.find(|hop| hop.usable && hop.ifindex == ifindex)?;
        Some(Route {
            destination: route.destination,
            length: route.length,
            via: hop.via,
            device,
            source: route.source,
            mtu: route.mtu,
            metric: route.metric,
        })
    };
    Ok(rtnetlink::routes_through(ifindex)?
        .into_iter()
        .filter_map(through)
        .collect())
}

/// The neighbours on a host netdev as neighbours on a device.
fn neighbours(device: Ifindex, ifindex: u32) -> io::Result<Vec<Neighbour>> {
    let mut neighbours: Vec<Neighbour> = rtnetlink::neighbours_on(ifindex)?
        .into_iter()
        .filter_map(|neighbour| {
            Some(Neighbour {
                address: neighbour.address,
                device,
                lladdr: neighbour.lladdr?,
            })
        })
        .collect();
    // The kernel tells them in the order of its hash table, which is no change.
    neighbours.sort_by_key(|neighbour| neighbour.address);
    Ok(neighbours)
}
