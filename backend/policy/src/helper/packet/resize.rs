//! Helpers that make a frame longer or shorter at its ends, or of another protocol.

use super::{ETH_P_IP, ETH_P_IPV6, IPV4_LEN, IPV6_LEN, change, frame};
use crate::Errno;
use crate::machine::Machine;
use crate::packet::GsoKind;

/// The longest that a frame which is not to be cut may become (skbuff.h: `SKB_MAX_ALLOC`, with pages of 4 KiB).
pub const LEN_MAX: u32 = 4 * 4096 - 320;

/// filter.c: `bpf_skb_change_tail(skb, len, flags)`.
pub extern "sysv64" fn skb_change_tail(
    machine: &mut Machine,
    _context: u64,
    len: u64,
    flags: u64,
    _: u64,
    _: u64,
) -> u64 {
    let len = len as u32;
    change(machine, |machine| {
        if flags != 0 || len > LEN_MAX || len < min_len(machine) {
            return Err(Errno::EINVAL);
        }
        if machine.packet.metadata.layers.encapsulated {
            return Err(Errno::ENOTSUPP);
        }
        frame::pull(machine, machine.packet_len())?;
        frame::set_len(machine, len)?;
        let offload = &mut machine.packet.metadata.offload;
        // filter.c: bpf_skb_trim_rcsum; a checksum whose place is gone is not computed.
        offload.partial = offload
            .partial
            .filter(|partial| len >= u32::from(partial.start) + u32::from(partial.offset) + 2);
        offload.gso = None;
        Ok(0)
    })
}

/// filter.c: `__bpf_skb_min_len`.
fn min_len(machine: &Machine) -> u32 {
    let metadata = &machine.packet.metadata;
    let partial = metadata.offload.partial.map(|partial| u32::from(partial.start));
    match metadata.layers.transport.or(partial) {
        Some(transport) if transport > 0 => transport,
        _ => metadata.layers.network,
    }
}

/// filter.c: `bpf_skb_change_head(skb, len, flags)`.
pub extern "sysv64" fn skb_change_head(
    machine: &mut Machine,
    _context: u64,
    len: u64,
    flags: u64,
    _: u64,
    _: u64,
) -> u64 {
    let len = len as u32;
    change(machine, |machine| {
        let new_len = machine.packet_len().checked_add(len).ok_or(Errno::EINVAL)?;
        if flags != 0 || (new_len > LEN_MAX && !frame::is_gso(machine)) {
            return Err(Errno::EINVAL);
        }
        frame::insert(machine, 0, len)?;
        // What is in front of the network header is an Ethernet header now.
        machine.packet.metadata.layers.network += len;
        Ok(0)
    })
}

/// filter.c: `bpf_skb_change_proto(skb, proto, flags)`.
pub extern "sysv64" fn skb_change_proto(
    machine: &mut Machine,
    _context: u64,
    protocol: u64,
    flags: u64,
    _: u64,
    _: u64,
) -> u64 {
    let to = u16::from_be(protocol as u16);
    change(machine, |machine| {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let network = machine.packet.metadata.layers.network;
        let difference = IPV6_LEN - IPV4_LEN;
        match (machine.packet.metadata.protocol, to) {
            (ETH_P_IP, ETH_P_IPV6) => {
                make_headers_linear(machine, network)?;
                frame::insert(machine, network, difference)?;
                change_gso_kind(machine, GsoKind::TcpV4, GsoKind::TcpV6);
            }
            (ETH_P_IPV6, ETH_P_IP) => {
                frame::remove(machine, network, difference)?;
                change_gso_kind(machine, GsoKind::TcpV6, GsoKind::TcpV4);
            }
            _ => return Err(Errno::ENOTSUPP),
        }
        machine.packet.metadata.protocol = to;
        machine.packet.metadata.hash = 0;
        Ok(0)
    })
}

/// Makes the headers in front of a gap linear, as far as they are there. The kernel relies on that they are.
pub fn make_headers_linear(machine: &mut Machine, len: u32) -> Result<(), Errno> {
    frame::pull(machine, len.min(machine.packet_len()))
}

fn change_gso_kind(machine: &mut Machine, from: GsoKind, to: GsoKind) {
    if let Some(gso) = &mut machine.packet.metadata.offload.gso
        && gso.kind == from
    {
        gso.kind = to;
    }
}
