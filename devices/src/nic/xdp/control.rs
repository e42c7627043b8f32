//! The NIC as the control thread sees it: whose frames it gives us, and what its link is like.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::busy_poll::BusyPoll;
use super::program::{MAX_ADDRESSES, Program};
use crate::nic::kernel::filter::Filter;
use crate::nic::kernel::memberships::Memberships;
use crate::nic::netdev::{Netdev, Steering, TagsInFrames, errno_of};
use crate::nic::{Claim, Control, Link, NicError};
use crate::packet::MacAddress;

/// The controlling side. What it changed on the netdev is undone when it is dropped.
#[derive(Debug)]
pub struct XdpControl {
    /// The netdev.
    pub netdev: Netdev,
    /// The kernel shares the memory without copying, at all queues.
    pub zero_copy: bool,
    /// What tells our frames from the host's.
    pub program: Program,
    /// A packet socket that delivers frames for groups.
    pub group: Arc<OwnedFd>,
    /// What the NIC's own filter lets in for us.
    pub memberships: Memberships,
    /// Rules that have frames arrive at one queue.
    pub steering: Steering,
    /// How the NIC was told to leave polling to us, if it was.
    pub _busy_poll: Option<BusyPoll>,
    /// Tags stay where our sockets get them.
    pub _tags: TagsInFrames,
}

impl XdpControl {
    fn fail(&self, step: &str, error: &io::Error) -> NicError {
        let hint = match error.raw_os_error() {
            Some(libc::E2BIG) => format!("at most {MAX_ADDRESSES} addresses can be claimed"),
            Some(libc::EPERM | libc::EACCES) => {
                "netkitd needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW".to_owned()
            }
            Some(libc::ENODEV | libc::ENXIO) => {
                "it was deleted; it is opened again when it is back".to_owned()
            }
            _ => "see `dmesg`".to_owned(),
        };
        NicError::new(step, self.netdev.name(), errno_of(error), hint)
    }

    /// A frame for a group that the program takes is not seen by the packet socket, so each arrives once.
    fn set(&mut self, claim: &Claim) -> io::Result<()> {
        match claim {
            Claim::Everything => {
                Filter::nothing().attach(&self.group)?;
                self.program.claim_everything(true)
            }
            Claim::Addresses(addresses) => {
                let stations = addresses.iter().copied().filter(|address| address.is_unicast());
                self.program.claim(&stations.collect::<BTreeSet<MacAddress>>())?;
                self.program.claim_everything(false)?;
                Filter::of(&Claim::Addresses(Vec::new())).attach(&self.group)
            }
        }
    }
}

impl Control for XdpControl {
    fn driver(&self) -> String {
        match (self.zero_copy, self.program.is_generic()) {
            (true, _) => "af_xdp (zero-copy)",
            (false, false) => "af_xdp (copy)",
            // The kernel runs the program after it has made its own of the frame, which costs more.
            (false, true) => "af_xdp (copy, generic)",
        }
        .to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.netdev.link()
    }

    fn netdev(&self) -> Option<u32> {
        Some(self.netdev.ifindex())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), NicError> {
        let step = "have frames for other addresses arrive at";
        self.memberships
            .set(claim)
            .and_then(|()| self.set(claim))
            .map_err(|error| self.fail(step, &error))
    }

    fn steers(&self) -> bool {
        self.steering.is_possible()
    }

    fn steer(&mut self, queue: u32, addresses: &[MacAddress]) -> Result<(), NicError> {
        if !self.steers() {
            return Err(NicError::cannot_steer(queue, addresses.len()));
        }
        self.steering.steer(queue, addresses)
    }
}
