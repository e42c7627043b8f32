//! `bpf_skb_adjust_room`: room for headers behind the Ethernet header, and their removal.

use super::resize::{LEN_MAX, make_headers_linear};
use super::{ETH_P_IP, ETH_P_IPV6, ETHERNET_LEN, IPV4_LEN, IPV6_LEN, change, checksum, frame};
use crate::Errno;
use crate::machine::Machine;
use crate::packet::{Encapsulation, GsoKind};

const BPF_ADJ_ROOM_NET: u32 = 0;
const BPF_ADJ_ROOM_MAC: u32 = 1;

const FIXED_GSO: u64 = 1 << 0;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_GRE: u64 = 1 << 3;
const ENCAP_L4_UDP: u64 = 1 << 4;
const NO_CSUM_RESET: u64 = 1 << 5;
const ENCAP_L2_ETH: u64 = 1 << 6;
const DECAP_L3_IPV4: u64 = 1 << 7;
const DECAP_L3_IPV6: u64 = 1 << 8;
/// The length of an inner Ethernet header, in the upper octet.
const ENCAP_L2_SHIFT: u32 = 56;
const ENCAP_L2: u64 = 0xff << ENCAP_L2_SHIFT;

const ENCAP_L3: u64 = ENCAP_L3_IPV4 | ENCAP_L3_IPV6;
const ENCAP_L4: u64 = ENCAP_L4_GRE | ENCAP_L4_UDP;
const DECAP_L3: u64 = DECAP_L3_IPV4 | DECAP_L3_IPV6;
const KNOWN: u64 = FIXED_GSO | ENCAP_L3 | ENCAP_L4 | ENCAP_L2_ETH | ENCAP_L2 | DECAP_L3 | NO_CSUM_RESET;

/// filter.c: `bpf_skb_adjust_room(skb, len_diff, mode, flags)`.
pub extern "sysv64" fn skb_adjust_room(
    machine: &mut Machine,
    _context: u64,
    len_diff: u64,
    mode: u64,
    flags: u64,
    _: u64,
) -> u64 {
    change(machine, |machine| {
        adjust(machine, len_diff as i32, mode as u32, flags)?;
        if flags & NO_CSUM_RESET == 0 {
            checksum::reset_level(machine);
        }
        Ok(0)
    })
}

fn adjust(machine: &mut Machine, len_diff: i32, mode: u32, flags: u64) -> Result<(), Errno> {
    let len = len_diff.unsigned_abs();
    let shrink = len_diff < 0;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if len > 0xfff {
        return Err(Errno::EFAULT);
    }
    let header_len = match machine.packet.metadata.protocol {
        ETH_P_IP => IPV4_LEN,
        ETH_P_IPV6 => IPV6_LEN,
        _ => return Err(Errno::ENOTSUPP),
    };
    let network = machine.packet.metadata.layers.network;
    let offset = match mode {
        BPF_ADJ_ROOM_NET => network.saturating_add(header_len),
        BPF_ADJ_ROOM_MAC => network,
        _ => return Err(Errno::ENOTSUPP),
    };
    let min_len = match flags & DECAP_L3 {
        0 => header_len,
        _ if !shrink => return Err(Errno::EINVAL),
        DECAP_L3_IPV4 => IPV4_LEN,
        DECAP_L3_IPV6 => IPV6_LEN,
        _ => return Err(Errno::EINVAL),
    };
    let packet_len = machine.packet_len();
    if shrink {
        let rest = packet_len.saturating_sub(network).checked_sub(len);
        if rest.is_none_or(|rest| rest == 0 || rest < min_len) {
            return Err(Errno::ENOTSUPP);
        }
        remove_room(machine, offset, len, flags)
    } else {
        if packet_len.saturating_add(len) > LEN_MAX && !frame::is_gso(machine) {
            return Err(Errno::ENOTSUPP);
        }
        make_room(machine, offset, len, flags)
    }
}

/// filter.c: `bpf_skb_net_grow`.
fn make_room(machine: &mut Machine, offset: u32, len: u32, flags: u64) -> Result<(), Errno> {
    check_datagrams(machine, flags)?;
    let encapsulate = flags & ENCAP_L3 != 0;
    if encapsulate {
        check_encapsulation(machine, len, flags)?;
    }
    make_headers_linear(machine, offset)?;
    frame::insert(machine, offset, len)?;
    if encapsulate {
        note_encapsulation(machine, len, flags);
    }
    if let Some(gso) = &mut machine.packet.metadata.offload.gso {
        gso.segments = 0;
    }
    if flags & FIXED_GSO == 0 {
        // Each segment has the new header: it has less room for payload.
        resize_segments(machine, |size| size.wrapping_sub(len as u16));
    }
    Ok(())
}

/// filter.c: `bpf_skb_net_shrink`.
fn remove_room(machine: &mut Machine, offset: u32, len: u32, flags: u64) -> Result<(), Errno> {
    if flags & !(FIXED_GSO | DECAP_L3 | NO_CSUM_RESET) != 0 {
        return Err(Errno::EINVAL);
    }
    check_datagrams(machine, flags)?;
    frame::remove(machine, offset, len)?;
    let metadata = &mut *machine.packet.metadata;
    match flags & DECAP_L3 {
        DECAP_L3_IPV4 => metadata.protocol = ETH_P_IP,
        DECAP_L3_IPV6 => metadata.protocol = ETH_P_IPV6,
        _ => {}
    }
    if let Some(gso) = &mut metadata.offload.gso {
        gso.segments = 0;
    }
    if flags & FIXED_GSO == 0 {
        resize_segments(machine, |size| size.wrapping_add(len as u16));
    }
    Ok(())
}

/// The segment size of UDP is where datagrams end: it must stay as it is.
fn check_datagrams(machine: &Machine, flags: u64) -> Result<(), Errno> {
    let udp = |gso: &crate::packet::Gso| gso.kind == GsoKind::Udp;
    if machine.packet.metadata.offload.gso.as_ref().is_some_and(udp) && flags & FIXED_GSO == 0 {
        return Err(Errno::ENOTSUPP);
    }
    Ok(())
}

fn check_encapsulation(machine: &Machine, len: u32, flags: u64) -> Result<(), Errno> {
    let inner_mac_len = (flags >> ENCAP_L2_SHIFT) as u32;
    if flags & ENCAP_L3 == ENCAP_L3
        || flags & ENCAP_L4 == ENCAP_L4
        || (flags & ENCAP_L2_ETH != 0 && inner_mac_len < ETHERNET_LEN)
    {
        return Err(Errno::EINVAL);
    }
    if machine.packet.metadata.layers.encapsulated {
        return Err(Errno::EALREADY);
    }
    if inner_mac_len > len {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Remembers the outer header that the program is going to write.
fn note_encapsulation(machine: &mut Machine, len: u32, flags: u64) {
    let metadata = &mut *machine.packet.metadata;
    let layers = &mut metadata.layers;
    let (protocol, header_len) = match flags & ENCAP_L3 {
        ENCAP_L3_IPV6 => (ETH_P_IPV6, IPV6_LEN),
        _ => (ETH_P_IP, IPV4_LEN),
    };
    metadata.protocol = protocol;
    layers.encapsulated = true;
    if flags & ENCAP_L4 != 0 {
        layers.transport = Some(layers.network.saturating_add(header_len));
    }
    if let (Some(gso), Ok(inner)) = (
        &mut metadata.offload.gso,
        u16::try_from(layers.network.saturating_add(len)),
    ) {
        let udp = flags & ENCAP_L4_UDP != 0;
        gso.encapsulation = Some(Encapsulation { inner, udp });
    }
}

/// skbuff.h: `skb_decrease_gso_size`, `skb_increase_gso_size`, which wrap. A size of 0 means that nothing is to be cut.
fn resize_segments(machine: &mut Machine, resize: impl FnOnce(u16) -> u16) {
    let offload = &mut machine.packet.metadata.offload;
    offload.gso = offload.gso.and_then(|mut gso| {
        gso.size = resize(gso.size);
        (gso.size != 0).then_some(gso)
    });
}
