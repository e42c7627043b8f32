//! The receiving side of a queue: frames out of the receive ring, their memory back into the fill ring.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use libc::xdp_desc;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::ring::{Consumer, Producer};
use super::socket::Socket;
use super::umem::Umem;
use crate::nic::kernel::receive::SocketReceive;
use crate::nic::{Arrivals, Receive};
use crate::packet::Slice;

/// More parts than any frame has: the kernel gives at most 18.
const MAX_PARTS: usize = 20;
/// A busy ring does not keep frames for groups waiting for longer than this many bursts.
const GROUP_INTERVAL: u32 = 32;

/// The receiving side.
#[derive(Debug)]
pub struct XdpReceive {
    rx: Consumer<xdp_desc>,
    fill: Producer<u64>,
    umem: Arc<Umem>,
    /// Addresses of what was given away and not released yet.
    held: Vec<u64>,
    group: Option<SocketReceive>,
    bursts: u32,
    busy_poll: bool,
    socket: Arc<Socket>,
    waker: Waker,
}

/// What says that frames are there: an epoll instance, which can itself be waited on.
#[derive(Debug)]
struct Waker {
    epoll: Epoll,
    /// Whether the socket is in it. The kernel wakes who waits for a socket at every single frame, so it is there only
    /// while somebody sleeps.
    armed: bool,
}

impl XdpReceive {
    /// The receiving side of a socket, with all frames in the fill ring.
    pub fn new(
        socket: Arc<Socket>,
        umem: Arc<Umem>,
        rx: Consumer<xdp_desc>,
        mut fill: Producer<u64>,
        busy_poll: bool,
    ) -> io::Result<XdpReceive> {
        let mut frames = umem.to_receive();
        let held = Vec::with_capacity(frames.len());
        while let Some(frame) = frames.take()
            && fill.has_room(1)
        {
            fill.push(frame);
        }
        fill.publish();
        Ok(XdpReceive {
            rx,
            fill,
            umem,
            held,
            group: None,
            bursts: 0,
            busy_poll,
            socket,
            waker: Waker::new()?,
        })
    }

    /// Has this queue deliver frames for groups as well.
    pub fn add_group(&mut self, socket: Arc<OwnedFd>, header_len: usize) -> io::Result<()> {
        self.waker.add(socket.as_raw_fd())?;
        self.group = Some(SocketReceive::new(socket, header_len));
        Ok(())
    }

    /// How many frames the kernel can receive into.
    #[cfg(test)]
    pub fn frames_with_kernel(&mut self) -> u32 {
        self.fill.pending()
    }

    fn receive_from_ring(&mut self, arrivals: &mut Arrivals) -> bool {
        let before = arrivals.room();
        while arrivals.room() > 0
            && let Some(parts) = self.next_frame()
        {
            self.take(parts, arrivals);
        }
        self.rx.publish();
        arrivals.room() < before
    }

    /// How many entries the next frame takes up. None if it has not arrived whole.
    fn next_frame(&mut self) -> Option<u32> {
        let mut ahead = 0;
        while self.rx.peek(ahead)?.options & libc::XDP_PKT_CONTD != 0 {
            ahead += 1;
        }
        Some(ahead + 1)
    }

    /// Adds the frame of these entries, unless it makes no sense.
    fn take(&mut self, parts: u32, arrivals: &mut Arrivals) {
        let Some(arrival) = arrivals.add() else { return };
        let mut is_sound = parts as usize <= MAX_PARTS;
        for part in 0..parts {
            let Some(entry) = self.rx.peek(part) else { break };
            let (base, address) = place_of(entry.addr);
            self.held.push(base);
            let len = entry.len as usize;
            match self.umem.octets(address, len) {
                Some(octets) if is_sound && len > 0 => arrival.slices.push(Slice {
                    ptr: octets.as_ptr(),
                    len,
                }),
                Some(_) => {}
                None => is_sound = false,
            }
        }
        self.rx.advance(parts);
        if !is_sound || arrival.slices.is_empty() {
            arrivals.remove_last();
        }
    }
}

impl Receive for XdpReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        self.waker.disarm(&self.socket);
        let mut found = self.receive_from_ring(arrivals);
        if !found && self.busy_poll {
            self.socket.wake_to_receive();
            found = self.receive_from_ring(arrivals);
        }
        let Some(group) = &mut self.group else { return };
        self.bursts = self.bursts.wrapping_add(1);
        if !found || self.bursts.is_multiple_of(GROUP_INTERVAL) {
            group.receive(arrivals);
        }
    }

    fn release(&mut self) {
        for address in self.held.drain(..) {
            // There is room for all that the kernel ever got.
            if self.fill.has_room(1) {
                self.fill.push(address);
            }
        }
        self.fill.publish();
        if let Some(group) = &mut self.group {
            group.release();
        }
    }

    fn arm(&mut self) -> bool {
        if self.next_frame().is_some() {
            return false;
        }
        if self.fill.needs_wakeup() {
            self.socket.wake_to_receive();
        }
        // Without that somebody has to look.
        if self.waker.arm(&self.socket).is_err() {
            return false;
        }
        let is_quiet = self.next_frame().is_none();
        is_quiet && self.group.as_mut().is_none_or(SocketReceive::arm)
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.waker.epoll.as_raw_fd())
    }
}

impl Waker {
    fn new() -> io::Result<Waker> {
        Ok(Waker {
            epoll: Epoll::new()?,
            armed: false,
        })
    }

    fn arm(&mut self, socket: &Socket) -> io::Result<()> {
        if !self.armed {
            self.add(socket.as_raw_fd())?;
            self.armed = true;
        }
        Ok(())
    }

    #[inline]
    fn disarm(&mut self, socket: &Socket) {
        if self.armed {
            self.armed = self.change(ControlOperation::Delete, socket.as_raw_fd()).is_err();
        }
    }

    fn add(&self, fd: RawFd) -> io::Result<()> {
        self.change(ControlOperation::Add, fd)
    }

    fn change(&self, operation: ControlOperation, fd: RawFd) -> io::Result<()> {
        self.epoll.ctl(operation, fd, EpollEvent::new(EventSet::IN, 0))
    }
}

/// What is given back for an entry, and where its octets are. If chunks may lie anywhere, an entry has the chunk's address
/// and, in the upper bits, how far behind it the octets start (linux/if_xdp.h: `XSK_UNALIGNED_BUF_OFFSET_SHIFT`); else
/// those are zero, and the kernel finds the chunk that an address lies in.
fn place_of(address: u64) -> (u64, u64) {
    const SHIFT: u32 = 48;
    let base = address & ((1 << SHIFT) - 1);
    (base, base + (address >> SHIFT))
}
