//! What programs reach of the devices around them.

use std::net::IpAddr;

use devices::packet::HEAD_ROOM;
use netkit::Surroundings;
use policy::Errno;
use policy::packet::{Environment, Metadata, NextHop, Octets};

use super::fib;
use super::frame::{import_metadata, still_fits};

/// netkit's surroundings as the engine's environment.
pub struct Surrounded<'s, 'a>(pub &'s mut Surroundings<'a>);

impl Environment for Surrounded<'_, '_> {
    fn redirect(&mut self, ifindex: u32, flags: u64) -> i64 {
        self.0.redirect(ifindex, flags).into()
    }

    fn redirect_peer(&mut self, ifindex: u32, flags: u64) -> i64 {
        self.0.redirect_peer(ifindex, flags).into()
    }

    fn redirect_neigh(&mut self, ifindex: u32, next_hop: NextHop, flags: u64) -> i64 {
        let next_hop = match next_hop {
            NextHop::FromFrame => netkit::NextHop::FromFrame,
            NextHop::Ipv4(address) => netkit::NextHop::Address(IpAddr::from(address)),
            NextHop::Ipv6(address) => netkit::NextHop::Address(IpAddr::from(address)),
        };
        self.0.redirect_neighbour(ifindex, next_hop, flags).into()
    }

    fn clone_redirect(
        &mut self,
        linear: &[u8],
        octets: &dyn Octets,
        metadata: &Metadata,
        ifindex: u32,
        flags: u64,
    ) -> Result<(), Errno> {
        let fragments = octets.fragments_len();
        if linear.len() + fragments > HEAD_ROOM {
            return Err(Errno::ENOMEM);
        }
        let copied = self.0.clone_redirect(ifindex, flags, |copy| {
            copy.extend_head(linear.len()).copy_from_slice(linear);
            octets.read_fragments(0, copy.extend_head(fragments));
            import_metadata(copy, metadata);
            if still_fits(copy) {
                Ok(())
            } else {
                Err(netkit::Errno::EINVAL)
            }
        });
        copied.map_err(|errno| Errno(errno.number()))
    }

    fn fib_lookup(&mut self, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno> {
        fib::lookup(self.0, parameters, flags)
    }

    fn mtu(&self, ifindex: u32) -> Option<u32> {
        match ifindex {
            0 => Some(self.0.device().mtu),
            _ => self.0.device_by_ifindex(ifindex).map(|device| device.mtu),
        }
    }
}
