//! Helpers that send frames elsewhere, and the one that asks for the way.

use super::{Answer, Call, helpers};
use crate::Errno;
use crate::packet::NextHop;

helpers! {
    13 => clone_redirect;
    23 => redirect;
    69 => fib_lookup;
    152 => redirect_neigh;
    155 => redirect_peer;
}

/// linux/pkt_cls.h
const TC_ACT_SHOT: u64 = 2;
/// linux/bpf.h
const BPF_F_INGRESS: u64 = 1;
/// Octets of `struct bpf_redir_neigh`: an address family and room for an address.
const REDIR_NEIGH_LEN: usize = 20;
/// Octets of `struct bpf_fib_lookup`.
const FIB_LOOKUP_LEN: usize = 64;
/// filter.c: `BPF_FIB_LOOKUP_MASK`
const FIB_LOOKUP_FLAGS: u32 = 0x3f;
const BPF_FIB_LKUP_RET_SUCCESS: u32 = 0;
const BPF_FIB_LKUP_RET_FRAG_NEEDED: u32 = 8;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// Octets of an Ethernet header and of a VLAN tag, which come on top of an MTU.
const LINK_HEADERS: u32 = 14 + 4;

// filter.c: bpf_redirect
fn redirect(call: &mut Call<'_>, [ifindex, flags, ..]: [u64; 5]) -> Answer {
    if flags & !BPF_F_INGRESS != 0 {
        return Ok(TC_ACT_SHOT);
    }
    Ok(call.machine.environment().redirect(ifindex as u32, flags) as u64)
}

// filter.c: bpf_redirect_peer
fn redirect_peer(call: &mut Call<'_>, [ifindex, flags, ..]: [u64; 5]) -> Answer {
    if flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    Ok(call.machine.environment().redirect_peer(ifindex as u32, flags) as u64)
}

// filter.c: bpf_redirect_neigh
fn redirect_neigh(call: &mut Call<'_>, [ifindex, parameters, len, flags, _]: [u64; 5]) -> Answer {
    let len = len as u32;
    if (len != 0 && (len as usize) < REDIR_NEIGH_LEN) || flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    let next_hop = if len == 0 {
        Some(NextHop::FromFrame)
    } else {
        call.read(2, parameters, u64::from(len))?;
        next_hop(&call.copy::<REDIR_NEIGH_LEN>(2, parameters)?)
    };
    let environment = call.machine.environment();
    let answer = match next_hop {
        Some(next_hop) => environment.redirect_neigh(ifindex as u32, next_hop, flags),
        // The kernel drops the frame when it comes to redirecting (bpf_out_neigh_v4): to device 0, which is none.
        None => environment.redirect(0, 0),
    };
    Ok(answer as u64)
}

fn next_hop(parameters: &[u8; REDIR_NEIGH_LEN]) -> Option<NextHop> {
    let [f0, f1, f2, f3, address @ ..] = parameters;
    match u32::from_ne_bytes([*f0, *f1, *f2, *f3]) {
        AF_INET => address.first_chunk().copied().map(NextHop::Ipv4),
        AF_INET6 => Some(NextHop::Ipv6(*address)),
        _ => None,
    }
}

// filter.c: bpf_clone_redirect
fn clone_redirect(call: &mut Call<'_>, [_, ifindex, flags, ..]: [u64; 5]) -> Answer {
    if flags & !BPF_F_INGRESS != 0 {
        return Err(Errno::EINVAL.into());
    }
    call.machine.clone_redirect(ifindex as u32, flags)?;
    Ok(0)
}

// filter.c: bpf_skb_fib_lookup
fn fib_lookup(call: &mut Call<'_>, [_, parameters, len, flags, _]: [u64; 5]) -> Answer {
    let (len, flags) = (len as u32, flags as u32);
    if (len as usize) < FIB_LOOKUP_LEN || flags & !FIB_LOOKUP_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    call.write(2, parameters, u64::from(len))?;
    let mut lookup = Lookup(call.copy(2, parameters)?);
    if !matches!(lookup.family(), AF_INET | AF_INET6) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let checks_frame = lookup.total_len() == 0;
    let found = call.machine.environment().fib_lookup(&mut lookup.0, flags);
    let code = match found {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) if checks_frame => fits(call, &mut lookup),
        Ok(code) => code,
        Err(_) => 0,
    };
    call.store(2, parameters, &lookup.0)?;
    found?;
    Ok(u64::from(code))
}

/// Whether the frame fits the MTU of the device that was found, which the program is told.
fn fits(call: &mut Call<'_>, lookup: &mut Lookup) -> u32 {
    let Some(mtu) = call.machine.environment().mtu(lookup.ifindex()) else {
        return BPF_FIB_LKUP_RET_SUCCESS;
    };
    lookup.set_mtu(mtu);
    // dev.c: __is_skb_forwardable
    let gso = call.machine.packet.metadata.offload.gso.is_some();
    if gso || call.machine.packet_len() <= mtu.saturating_add(LINK_HEADERS) {
        BPF_FIB_LKUP_RET_SUCCESS
    } else {
        BPF_FIB_LKUP_RET_FRAG_NEEDED
    }
}

/// `struct bpf_fib_lookup`
struct Lookup([u8; FIB_LOOKUP_LEN]);

impl Lookup {
    fn family(&self) -> u32 {
        u32::from(self.0[0])
    }

    fn total_len(&self) -> u16 {
        u16::from_ne_bytes([self.0[6], self.0[7]])
    }

    fn ifindex(&self) -> u32 {
        u32::from_ne_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// In the place of the length.
    fn set_mtu(&mut self, mtu: u32) {
        self.0[6..8].copy_from_slice(&(mtu as u16).to_ne_bytes());
    }
}
