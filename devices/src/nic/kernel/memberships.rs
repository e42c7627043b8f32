//! What a netdev is to receive beside frames for itself: as long as a socket says so, and it lives.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::socket::set_option;
use crate::nic::Claim;
use crate::packet::MacAddress;

/// What a packet socket asks its netdev for.
#[derive(Debug)]
pub(in crate::nic) struct Memberships {
    socket: Arc<OwnedFd>,
    ifindex: u32,
    held: Vec<Membership>,
}

/// One thing that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// All frames.
    Promiscuous,
    /// Those for all groups: which ones guests listen to is not known here.
    AllGroups,
    /// Those for one address.
    Address(MacAddress),
}

impl Memberships {
    /// None yet.
    pub(in crate::nic) fn new(socket: Arc<OwnedFd>, ifindex: u32) -> Memberships {
        Memberships {
            socket,
            ifindex,
            held: Vec::new(),
        }
    }

    /// Asks for what is claimed, then no longer for what was.
    pub(in crate::nic) fn set(&mut self, claim: &Claim) -> io::Result<()> {
        let wanted: Vec<Membership> = match claim {
            Claim::Everything => vec![Membership::Promiscuous],
            Claim::Addresses(addresses) => {
                let addresses = addresses.iter().map(|address| Membership::Address(*address));
                addresses.chain([Membership::AllGroups]).collect()
            }
        };
        for membership in &wanted {
            if !self.held.contains(membership) {
                self.change(*membership, libc::PACKET_ADD_MEMBERSHIP)?;
                self.held.push(*membership);
            }
        }
        let (kept, dropped) = self
            .held
            .iter()
            .partition(|membership| wanted.contains(membership));
        self.held = kept;
        let dropped: Vec<Membership> = dropped;
        for membership in dropped {
            self.change(membership, libc::PACKET_DROP_MEMBERSHIP)?;
        }
        Ok(())
    }

    /// Asks for nothing any more. To be called before a netdev is deleted: the kernel forgets what one on top of another
    /// had asked of that.
    pub(in crate::nic) fn leave(&mut self) {
        for membership in std::mem::take(&mut self.held) {
            let _ = self.change(membership, libc::PACKET_DROP_MEMBERSHIP);
        }
    }

    fn change(&self, membership: Membership, option: libc::c_int) -> io::Result<()> {
        let (kind, address) = match membership {
            Membership::Promiscuous => (libc::PACKET_MR_PROMISC, MacAddress::ZERO),
            Membership::AllGroups => (libc::PACKET_MR_ALLMULTI, MacAddress::ZERO),
            Membership::Address(address) => (libc::PACKET_MR_UNICAST, address),
        };
        let mut request = libc::packet_mreq {
            mr_ifindex: self.ifindex as libc::c_int,
            mr_type: kind as u16,
            mr_alen: address.0.len() as u16,
            mr_address: [0; 8],
        };
        request.mr_address[..6].copy_from_slice(&address.0);
        set_option(self.socket.as_raw_fd(), libc::SOL_PACKET, option, &request)
    }
}
