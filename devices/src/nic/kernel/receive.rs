//! Bursts of frames from a packet socket, with one system call each.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::buffers::{Buffers, FRAME_MAX};
use crate::nic::arrival::BURST;
use crate::nic::{Arrivals, Receive};
use crate::packet::VlanTag;

/// How often errors are passed over in one burst: a netdev that went down and came back, a frame that the header cannot
/// express.
const TRIES: usize = 4;
// linux/if_packet.h
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// The receiving side of a packet socket.
#[derive(Debug)]
pub(in crate::nic) struct SocketReceive {
    socket: Arc<OwnedFd>,
    buffers: Buffers,
    messages: Messages,
    header_len: usize,
    /// Frames that lie in the buffers.
    used: usize,
}

/// What the kernel is told of the buffers, once, and tells of what it put into them.
struct Messages {
    list: Vec<libc::mmsghdr>,
    /// Three for each message; only pointed to.
    _parts: Vec<[libc::iovec; 3]>,
    controls: Vec<Control>,
}

/// A control message of type PACKET_AUXDATA.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    data: libc::tpacket_auxdata,
}

// SAFETY: the pointers lead to what belongs to the same `SocketReceive`.
unsafe impl Send for Messages {}

impl SocketReceive {
    /// Receives from `socket` frames with headers of this length.
    pub(in crate::nic) fn new(socket: Arc<OwnedFd>, header_len: usize) -> SocketReceive {
        let mut buffers = Buffers::new(BURST);
        SocketReceive {
            socket,
            messages: Messages::new(&mut buffers, header_len),
            buffers,
            header_len,
            used: 0,
        }
    }

    fn push(&self, index: usize, arrivals: &mut Arrivals) {
        let message = &self.messages.list[index];
        let len = (message.msg_len as usize).saturating_sub(self.header_len);
        if len == 0 || len > FRAME_MAX || message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return;
        }
        if let Some(arrival) = arrivals.add() {
            arrival.slices.extend(self.buffers.slices(index, len));
            arrival.header = self.buffers.header(index);
            arrival.vlan = self.messages.vlan(index);
        }
    }
}

impl Receive for SocketReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        let room = arrivals.room().min(BURST - self.used);
        let count = self.messages.receive(self.socket.as_raw_fd(), self.used, room);
        for index in self.used..self.used + count {
            self.push(index, arrivals);
        }
        self.used += count;
    }

    fn release(&mut self) {
        self.used = 0;
    }

    fn arm(&mut self) -> bool {
        !is_readable(self.socket.as_raw_fd())
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}

/// Whether a descriptor has something to be read at once.
pub(in crate::nic) fn is_readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure outlives the call, which does not wait.
    unsafe { libc::poll(&mut poll, 1, 0) > 0 && poll.revents & libc::POLLIN != 0 }
}

impl Messages {
    fn new(buffers: &mut Buffers, header_len: usize) -> Messages {
        let mut parts: Vec<_> = (0..BURST).map(|index| buffers.parts(index, header_len)).collect();
        // SAFETY: all-zero is a valid value of these.
        let (mut controls, mut list): (Vec<Control>, Vec<libc::mmsghdr>) =
            unsafe { (vec![mem::zeroed(); BURST], vec![mem::zeroed(); BURST]) };
        let parts_ptr: *mut [libc::iovec; 3] = parts.as_mut_ptr();
        let controls_ptr: *mut Control = controls.as_mut_ptr();
        for (index, message) in list.iter_mut().enumerate() {
            message.msg_hdr.msg_iov = parts_ptr.wrapping_add(index).cast();
            message.msg_hdr.msg_iovlen = 3;
            message.msg_hdr.msg_control = controls_ptr.wrapping_add(index).cast();
        }
        Messages {
            list,
            _parts: parts,
            controls,
        }
    }

    /// Receives up to `room` frames into the buffers from `first` on; how many have come.
    fn receive(&mut self, fd: RawFd, first: usize, room: usize) -> usize {
        if room == 0 {
            return 0;
        }
        let list = &mut self.list[first..first + room];
        for message in list.iter_mut() {
            message.msg_hdr.msg_controllen = size_of::<Control>();
        }
        for _ in 0..TRIES {
            // SAFETY: the messages point to buffers and control messages of the lengths that they say, which live as long.
            let count = unsafe {
                libc::recvmmsg(
                    fd,
                    list.as_mut_ptr(),
                    room as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(count) = usize::try_from(count) {
                return count;
            }
            if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                break;
            }
        }
        0
    }

    /// The tag that was taken out of the frame with this index.
    fn vlan(&self, index: usize) -> Option<VlanTag> {
        let header = &self.list[index].msg_hdr;
        // SAFETY: the kernel wrote to it, but any octets are a valid value.
        let control = unsafe { self.controls.as_ptr().add(index).read_volatile() };
        let is_auxiliary = header.msg_controllen >= size_of::<Control>()
            && control.header.cmsg_level == libc::SOL_PACKET
            && control.header.cmsg_type == libc::PACKET_AUXDATA;
        let data = control.data;
        (is_auxiliary && data.tp_status & TP_STATUS_VLAN_VALID != 0).then_some(VlanTag {
            protocol: match data.tp_status & TP_STATUS_VLAN_TPID_VALID {
                0 => ETHERTYPE_VLAN,
                _ => data.tp_vlan_tpid,
            },
            tci: data.tp_vlan_tci,
        })
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
