//! A netdev that the host's kernel drives, by packet sockets with virtio-net headers: frames keep their offloads both ways.
//!
//! The host's stack sees what arrives, too, and drops what is for nobody on it. What the host itself sends through the
//! netdev is not received here; nor is what others on this machine send to it, unless their netdev hands it back.

pub(crate) mod buffers;
pub(super) mod filter;
pub(super) mod memberships;
pub(super) mod receive;
pub(super) mod socket;
mod transmit;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::netdev::Netdev;
use super::{Capabilities, Claim, Control, Link, Nic, NicError, NicPort, Receive, Transmit};
use crate::packet::{OffloadFeatures, VirtioNetHeader};
use filter::Filter;
use memberships::Memberships;
use receive::SocketReceive;
use transmit::SocketTransmit;

/// The most sockets of one NIC.
pub const MAX_KERNEL_QUEUES: u16 = 16;

/// The control side.
#[derive(Debug)]
struct KernelControl {
    netdev: Netdev,
    sockets: Vec<Arc<OwnedFd>>,
    memberships: Memberships,
}

/// Opens a netdev of this network namespace with this many queues, over which frames are spread by flow. It receives
/// nothing before something is claimed.
///
/// # Errors
/// If there is no such netdev, or it may not be used; if it is down and more than one queue is wanted.
pub fn open(ifname: &str, queues: u16) -> Result<Nic, NicError> {
    let netdev = Netdev::open(ifname)?;
    if queues == 0 || queues > MAX_KERNEL_QUEUES {
        return Err(NicError::new(
            format!("open {queues} queues on"),
            ifname,
            libc::EINVAL,
            format!("1 to {MAX_KERNEL_QUEUES} are possible"),
        ));
    }
    let mut sockets = Vec::new();
    let mut header_len = VirtioNetHeader::LEN;
    for _ in 0..queues {
        let (socket, len) = socket::open(&netdev)?;
        sockets.push(Arc::new(socket));
        header_len = len;
    }
    if queues > 1 {
        spread_by_flow(&netdev, &sockets)?;
    }
    let pairs = sockets.iter().map(|socket| {
        let receive: Box<dyn Receive> = Box::new(SocketReceive::new(Arc::clone(socket), header_len));
        let transmit: Box<dyn Transmit> = Box::new(SocketTransmit::new(Arc::clone(socket), header_len));
        (receive, transmit)
    });
    Ok(Nic {
        port: NicPort::new(capabilities(header_len), pairs.collect()),
        control: Box::new(KernelControl {
            memberships: Memberships::new(Arc::clone(&sockets[0]), netdev.ifindex()),
            netdev,
            sockets,
        }),
    })
}

/// The kernel does what the netdev does not.
fn capabilities(header_len: usize) -> Capabilities {
    Capabilities {
        offloads: OffloadFeatures {
            // Linux learnt of USO in 6.2, and of the longer header in 6.4.
            uso: header_len == VirtioNetHeader::LEN,
            ..OffloadFeatures::ALL
        },
        receives_gso: true,
        pieces_max: transmit::PIECES_MAX,
        frame_max: buffers::FRAME_MAX,
    }
}

/// Joins the sockets in a fanout group: each flow arrives at one of them. Fragments go by their addresses, as putting
/// them together would change what a guest receives.
fn spread_by_flow(netdev: &Netdev, sockets: &[Arc<OwnedFd>]) -> Result<(), NicError> {
    if !netdev.is_up()? {
        let hint = "several queues can be opened on a netdev that is up only; `ip link set dev NAME up`";
        return Err(NicError::new(
            "spread frames of",
            netdev.name(),
            libc::ENETDOWN,
            hint,
        ));
    }
    let mut group = 0;
    for socket in sockets {
        group = socket::join_fanout(socket.as_raw_fd(), group)
            .map_err(|error| socket::failed("spread over several sockets the frames of", netdev, &error))?;
    }
    Ok(())
}

impl Control for KernelControl {
    fn driver(&self) -> String {
        match self.netdev.driver() {
            Some(driver) => format!("kernel ({driver})"),
            None => "kernel".to_owned(),
        }
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.netdev.link()
    }

    fn netdev(&self) -> Option<u32> {
        Some(self.netdev.ifindex())
    }

    /// What the netdev would filter out arrives, too; each socket has a filter so that the rest does not get further.
    fn claim(&mut self, claim: &Claim) -> Result<(), NicError> {
        let fail = |step| {
            let netdev = &self.netdev;
            move |error| socket::failed(step, netdev, &error)
        };
        self.memberships
            .set(claim)
            .map_err(fail("have frames for other addresses arrive at"))?;
        let filter = Filter::of(claim);
        for socket in &self.sockets {
            filter.attach(socket).map_err(fail("filter frames of"))?;
        }
        Ok(())
    }
}
