//! Helpers that set a frame's packet type, its time stamp and its mark of congestion.

use super::sum::add16;
use super::{ETH_P_IP, ETH_P_IPV6, IPV4_LEN, IPV6_LEN, change, frame, is_vlan};
use crate::Errno;
use crate::machine::Machine;

/// linux/if_packet.h: `PACKET_OTHERHOST`, the highest type that programs may see or set.
const PACKET_OTHERHOST: u32 = 3;
/// linux/if_vlan.h: `VLAN_MAX_DEPTH`.
const VLAN_MAX_DEPTH: usize = 8;
const VLAN_LEN: u32 = 4;

const BPF_SKB_CLOCK_REALTIME: u32 = 0;
const BPF_SKB_CLOCK_TAI: u32 = 2;

/// net/inet_ecn.h.
const INET_ECN_MASK: u8 = 3;
const INET_ECN_CE: u8 = 3;

/// filter.c: `bpf_skb_change_type(skb, type)`.
pub extern "sysv64" fn skb_change_type(
    machine: &mut Machine,
    _context: u64,
    packet_type: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    let packet_type = packet_type as u32;
    change(machine, |machine| {
        let current = &mut machine.packet.metadata.packet_type;
        if *current > PACKET_OTHERHOST || packet_type > PACKET_OTHERHOST {
            return Err(Errno::EINVAL);
        }
        *current = packet_type;
        Ok(0)
    })
}

/// filter.c: `bpf_skb_set_tstamp(skb, tstamp, tstamp_type)`.
pub extern "sysv64" fn skb_set_tstamp(
    machine: &mut Machine,
    _context: u64,
    tstamp: u64,
    tstamp_type: u64,
    _: u64,
    _: u64,
) -> u64 {
    let tstamp_type = tstamp_type as u32;
    change(machine, |machine| {
        let metadata = &mut machine.packet.metadata;
        if !matches!(metadata.protocol, ETH_P_IP | ETH_P_IPV6) {
            return Err(Errno::EOPNOTSUPP);
        }
        // Only a stamp of the real-time clock may be unset.
        if tstamp_type > BPF_SKB_CLOCK_TAI || (tstamp == 0 && tstamp_type != BPF_SKB_CLOCK_REALTIME) {
            return Err(Errno::EINVAL);
        }
        metadata.tstamp = tstamp;
        metadata.tstamp_type = tstamp_type as u8;
        Ok(0)
    })
}

/// filter.c: `bpf_skb_ecn_set_ce(skb)`. Returns 1 if the frame is marked now.
pub extern "sysv64" fn skb_ecn_set_ce(
    machine: &mut Machine,
    _context: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    let network = machine.packet.metadata.layers.network;
    // The kernel looks at the linear part only.
    let room = machine.linear_len().saturating_sub(network);
    let header = frame::at(machine, network);
    let marked = match innermost_protocol(machine) {
        // SAFETY: the header is in the linear part.
        ETH_P_IP if room >= IPV4_LEN => unsafe { mark_ipv4(header) },
        // SAFETY: as above.
        ETH_P_IPV6 if room >= IPV6_LEN => unsafe { mark_ipv6(header) },
        _ => false,
    };
    u64::from(marked)
}

/// The EtherType behind all VLAN tags in the octets (linux/if_vlan.h: `__vlan_get_protocol_offset`); 0 if they do not
/// end.
fn innermost_protocol(machine: &Machine) -> u16 {
    let metadata = &machine.packet.metadata;
    let mut protocol = metadata.protocol;
    let mut offset = metadata.layers.network;
    for _ in 0..VLAN_MAX_DEPTH {
        if !is_vlan(protocol) {
            return protocol;
        }
        let Some([_, _, high, low]) = frame::read(machine, offset) else {
            return 0;
        };
        protocol = u16::from_be_bytes([high, low]);
        offset += VLAN_LEN;
    }
    0
}

/// net/inet_ecn.h: `IP_ECN_set_ce`.
///
/// # Safety
/// There are 20 octets, which only this thread uses.
unsafe fn mark_ipv4(header: *mut u8) -> bool {
    // SAFETY: the caller guarantees it.
    unsafe {
        let service = header.add(1);
        let ecn = (*service).wrapping_add(1) & INET_ECN_MASK;
        if ecn & 2 == 0 {
            return ecn == 0;
        }
        let check = header.add(10).cast::<[u8; 2]>();
        let difference = 0xfffb + u16::from(ecn);
        *check = add16(u16::from_be_bytes(*check), difference).to_be_bytes();
        *service |= INET_ECN_CE;
    }
    true
}

/// net/inet_ecn.h: `IP6_ECN_set_ce`.
///
/// # Safety
/// There are 40 octets, which only this thread uses.
unsafe fn mark_ipv6(header: *mut u8) -> bool {
    // SAFETY: the caller guarantees it.
    unsafe {
        let field = header.add(1);
        if (*field >> 4) & INET_ECN_MASK == 0 {
            return false;
        }
        *field |= INET_ECN_CE << 4;
    }
    true
}
