//! The messages of rtnetlink(7), as far as routes and neighbours need them. What is malformed is no message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use devices::packet::MacAddress;

const HEADER_LEN: usize = 16;
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
// linux/netlink.h
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;
// linux/rtnetlink.h; not all are in the libc crate.
const RTAX_MTU: u16 = 2;
const RTNH_F_DEAD: u32 = 1;
// linux/neighbour.h
const NTF_PROXY: u8 = 1 << 3;
/// States in which an Ethernet address counts (neighbour.h: `NUD_VALID`).
const VALID: u16 = libc::NUD_PERMANENT
    | libc::NUD_NOARP
    | libc::NUD_REACHABLE
    | libc::NUD_PROBE
    | libc::NUD_STALE
    | libc::NUD_DELAY;

/// A message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

/// What a message says of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMessage {
    /// The network's address.
    pub destination: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
    /// Where it leads, if anywhere.
    pub hops: Vec<Hop>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// In octets.
    pub mtu: Option<u32>,
    /// The smallest wins.
    pub metric: u32,
    /// Whether it is in the main table, for unicast, for any source and any type of service.
    pub ordinary: bool,
}

/// One of the ways that a route leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hop {
    /// The netdev.
    pub ifindex: u32,
    /// The gateway; `None` for what is on the link.
    pub via: Option<IpAddr>,
    /// Whether packets are sent there as they are.
    pub usable: bool,
}

/// What a message says of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// The netdev.
    pub ifindex: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address; `None` while that is not known.
    pub lladdr: Option<MacAddress>,
}

/// The messages of a datagram.
pub fn messages(mut octets: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(field(octets, 0)?) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(field(octets, 4)?),
            flags: u16::from_ne_bytes(field(octets, 6)?),
            body: octets.get(HEADER_LEN..len)?,
        };
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

impl Message<'_> {
    /// The netdev that a link message is about (`struct ifinfomsg`).
    pub fn link(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(field(self.body, 4)?))
    }

    /// How a request ended: the errno of an `NLMSG_ERROR` or `NLMSG_DONE`, or 0.
    pub fn errno(&self) -> i32 {
        field(self.body, 0).map_or(0, |code| i32::from_ne_bytes(code).saturating_neg())
    }
}

impl RouteMessage {
    /// Reads `struct rtmsg` and its attributes.
    pub fn parse(body: &[u8]) -> Option<RouteMessage> {
        let [family, length, source_length, tos, table, _, _, kind] = field(body, 0)?;
        let flags = u32::from_ne_bytes(field(body, 8)?);
        let (destination, longest) = match family {
            AF_INET => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
            AF_INET6 => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
            _ => return None,
        };
        let mut route = RouteMessage {
            destination,
            length,
            hops: Vec::new(),
            source: None,
            mtu: None,
            metric: 0,
            ordinary: kind == libc::RTN_UNICAST
                && source_length == 0
                && tos == 0
                && flags & libc::RTM_F_CLONED == 0,
        };
        let mut table = u32::from(table);
        let mut hop = Hop::with_flags(flags);
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                libc::RTA_DST => route.destination = address(value)?,
                libc::RTA_PREFSRC => route.source = Some(address(value)?),
                libc::RTA_PRIORITY => route.metric = number(value)?,
                libc::RTA_TABLE => table = number(value)?,
                libc::RTA_METRICS => route.mtu = mtu(value)?,
                libc::RTA_MULTIPATH => route.hops.extend(hops(value)),
                _ => hop.take(kind, value)?,
            }
        }
        if hop.ifindex != 0 {
            route.hops.push(hop);
        }
        route.ordinary &= table == u32::from(libc::RT_TABLE_MAIN);
        (length <= longest && route.destination.is_ipv4() == destination.is_ipv4()).then_some(route)
    }

    /// Whether it leads through a netdev.
    pub fn leads_through(&self, ifindex: u32) -> bool {
        self.hops.iter().any(|hop| hop.ifindex == ifindex)
    }
}

impl Hop {
    fn with_flags(flags: u32) -> Hop {
        Hop {
            usable: flags & RTNH_F_DEAD == 0,
            ..Hop::default()
        }
    }

    fn take(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        match kind {
            libc::RTA_OIF => self.ifindex = number(value)?,
            libc::RTA_GATEWAY => self.via = Some(address(value)?),
            // A gateway of the other family: `struct rtvia`.
            libc::RTA_VIA => self.via = Some(address(value.get(2..)?)?),
            libc::RTA_ENCAP => self.usable = false,
            _ => {}
        }
        Some(())
    }
}

/// The hops of a multipath route: each a `struct rtnexthop` with its attributes.
fn hops(mut octets: &[u8]) -> impl Iterator<Item = Hop> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(field(octets, 0)?));
        let [flags, _] = field(octets, 2)?;
        let mut hop = Hop::with_flags(u32::from(flags));
        hop.ifindex = number(octets.get(4..8)?)?;
        for (kind, value) in attributes(octets.get(8..len)?) {
            hop.take(kind, value)?;
        }
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(hop)
    })
}

impl NeighbourMessage {
    /// Reads `struct ndmsg` and its attributes.
    pub fn parse(body: &[u8]) -> Option<NeighbourMessage> {
        let [family] = field(body, 0)?;
        let ifindex = u32::from_ne_bytes(field(body, 4)?);
        let state = u16::from_ne_bytes(field(body, 8)?);
        let [flags] = field(body, 10)?;
        // The bridge's table of Ethernet addresses is not about neighbours of ours, and what is answered for others neither.
        if !matches!(family, AF_INET | AF_INET6) || flags & NTF_PROXY != 0 {
            return None;
        }
        let (mut found, mut lladdr) = (None, None);
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                libc::NDA_DST => found = Some(address(value)?),
                libc::NDA_LLADDR => lladdr = <[u8; 6]>::try_from(value).ok().map(MacAddress),
                _ => {}
            }
        }
        Some(NeighbourMessage {
            ifindex,
            address: found?,
            lladdr: lladdr.filter(|_| state & VALID != 0),
        })
    }
}

/// Asks for the routes of the main table that lead through a netdev.
pub fn routes_request(family: u8, ifindex: u32) -> Vec<u8> {
    let mut body = [0; 12];
    (body[0], body[4]) = (family, libc::RT_TABLE_MAIN);
    dump_request(libc::RTM_GETROUTE, body, libc::RTA_OIF, ifindex)
}

/// Asks for the neighbours on a netdev.
pub fn neighbours_request(ifindex: u32) -> Vec<u8> {
    dump_request(libc::RTM_GETNEIGH, [0; 12], libc::NDA_IFINDEX, ifindex)
}

fn dump_request(kind: u16, body: [u8; 12], attribute: u16, value: u32) -> Vec<u8> {
    let len = (HEADER_LEN + body.len() + 8) as u32;
    let mut octets = Vec::from(len.to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend((REQUEST | DUMP).to_ne_bytes());
    // The sequence number and the port: a socket asks only once.
    octets.extend([0; 8]);
    octets.extend(body);
    octets.extend(8u16.to_ne_bytes());
    octets.extend(attribute.to_ne_bytes());
    octets.extend(value.to_ne_bytes());
    octets
}

/// The attributes in what follows a message's structure.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(field(octets, 0)?));
        let kind = u16::from_ne_bytes(field(octets, 2)?);
        let value = octets.get(4..len)?;
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    })
}

fn mtu(metrics: &[u8]) -> Option<Option<u32>> {
    let found = attributes(metrics).find(|(kind, _)| *kind == RTAX_MTU);
    // 0 is the netdev's own.
    Some(match found {
        Some((_, value)) => Some(number(value)?).filter(|mtu| *mtu != 0),
        None => None,
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(field::<4>(value, 0)?)),
        16 => Some(IpAddr::from(field::<16>(value, 0)?)),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

fn field<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
