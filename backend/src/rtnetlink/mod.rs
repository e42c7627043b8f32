//! What the host's kernel says of its routes and neighbours, over rtnetlink(7).

mod message;

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use message::{neighbours_request, routes_request};

pub use message::{Message, NeighbourMessage, RouteMessage, messages};

/// linux/rtnetlink.h: messages about next hops that routes share.
pub const RTM_NEWNEXTHOP: u16 = 104;
/// As above.
pub const RTM_DELNEXTHOP: u16 = 105;

/// More than the kernel puts into a datagram (netlink(7): 32 KiB).
const DATAGRAM_MAX: usize = 64 << 10;

/// Hears what changes.
pub struct Notifications {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Hears of changes from now on.
    pub fn open() -> io::Result<Notifications> {
        let socket = open()?;
        let groups = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ];
        for group in groups {
            socket.add_membership(group)?;
        }
        // Kernels before 5.3 have no next hops of their own.
        let _ = socket.add_membership(libc::RTNLGRP_NEXTHOP);
        Ok(Notifications {
            socket,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// The next messages; ENOBUFS if some were lost.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        receive(&self.socket, &mut self.buffer)
    }
}

impl AsRawFd for Notifications {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Notifications").field(&self.as_raw_fd()).finish()
    }
}

/// The ordinary routes that lead through a netdev. Interrupted if they changed in between.
pub fn routes_through(ifindex: u32) -> io::Result<Vec<RouteMessage>> {
    let mut routes = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(&routes_request(family as u8, ifindex), |message| {
            // A kernel that does not know the family answers for all that it knows, and one before 4.20 does not choose.
            let route = RouteMessage::parse(message.body).filter(|_| message.kind == libc::RTM_NEWROUTE);
            let wanted = |route: &RouteMessage| {
                let of_family = route.destination.is_ipv4() == (family == libc::AF_INET);
                of_family && route.ordinary && route.leads_through(ifindex)
            };
            routes.extend(route.filter(wanted));
        })?;
    }
    Ok(routes)
}

/// The neighbours on a netdev. Interrupted if they changed in between.
pub fn neighbours_on(ifindex: u32) -> io::Result<Vec<NeighbourMessage>> {
    let mut neighbours = Vec::new();
    ask(&neighbours_request(ifindex), |message| {
        let neighbour = NeighbourMessage::parse(message.body).filter(|_| message.kind == libc::RTM_NEWNEIGH);
        neighbours.extend(neighbour.filter(|neighbour| neighbour.ifindex == ifindex));
    })?;
    Ok(neighbours)
}

/// Asks for a dump, and takes its messages. The kernel makes the answer while it is read, so this never waits.
fn ask(request: &[u8], mut take: impl FnMut(Message)) -> io::Result<()> {
    let socket = open()?;
    // Kernels before 4.20 send everything, which is sorted out here.
    let _ = socket.set_netlink_get_strict_chk(true);
    socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut interrupted = false;
    loop {
        for message in messages(receive(&socket, &mut buffer)?) {
            interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            if !matches!(i32::from(message.kind), libc::NLMSG_DONE | libc::NLMSG_ERROR) {
                take(message);
                continue;
            }
            return match message.errno() {
                0 if interrupted => Err(io::ErrorKind::Interrupted.into()),
                // No such netdev, or nothing in the table: then there is nothing to tell.
                0 | libc::ENODEV | libc::ENOENT => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            };
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The next datagram; empty if it is not the kernel's.
fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (len, from) = socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC)?;
    match buffer.get(..len) {
        Some(datagram) if from.port_number() == 0 => Ok(datagram),
        Some(_) => Ok(&[]),
        None => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_answers_for_every_netdev_and_for_none() {
        for ifindex in [1, 2, 0x7fff_fff0] {
            routes_through(ifindex).unwrap();
            let neighbours = neighbours_on(ifindex).unwrap();
            assert!(neighbours.iter().all(|neighbour| neighbour.ifindex == ifindex));
        }
    }

    #[test]
    fn the_running_kernel_notifies_without_making_us_wait() {
        let mut notifications = Notifications::open().unwrap();
        loop {
            match notifications.receive() {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }
}
