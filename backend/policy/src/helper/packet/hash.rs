//! Helpers for the frame's flow hash.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use super::{ETH_P_IP, ETH_P_IPV6, ETHERNET_LEN, change, frame, is_vlan};
use crate::machine::Machine;

/// A secret, so that no guest can choose frames that all meet in one place.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// VLAN tags and extension headers that are looked behind.
const DEPTH_MAX: usize = 8;

/// filter.c: `bpf_get_hash_recalc(skb)`.
pub extern "sysv64" fn get_hash_recalc(
    machine: &mut Machine,
    _context: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    match machine.packet.metadata.hash {
        0 => change(machine, |machine| {
            let hash = flow_hash(machine);
            machine.packet.metadata.hash = hash;
            Ok(u64::from(hash))
        }),
        hash => u64::from(hash),
    }
}

/// filter.c: `bpf_set_hash_invalid(skb)`.
pub extern "sysv64" fn set_hash_invalid(
    machine: &mut Machine,
    _context: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    set(machine, 0)
}

/// filter.c: `bpf_set_hash(skb, hash)`. A hash of 0 is none here, whereas the kernel remembers that it was set.
pub extern "sysv64" fn set_hash(
    machine: &mut Machine,
    _context: u64,
    hash: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    set(machine, hash as u32)
}

fn set(machine: &mut Machine, hash: u32) -> u64 {
    change(machine, |machine| {
        machine.packet.metadata.hash = hash;
        Ok(0)
    })
}

/// What the frames of a flow have in common, in both directions.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Flow {
    network: u16,
    transport: u8,
    ends: [End; 2],
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct End {
    address: [u8; 16],
    port: u16,
}

/// A hash of the flow that a frame belongs to; never 0.
fn flow_hash(machine: &Machine) -> u32 {
    let mut flow = dissect(machine);
    flow.ends.sort();
    match KEYS.hash_one(&flow) as u32 {
        0 => 1,
        hash => hash,
    }
}

fn dissect(machine: &Machine) -> Flow {
    let metadata = &machine.packet.metadata;
    let mut network = metadata.protocol;
    let mut offset = metadata.layers.network.max(ETHERNET_LEN);
    for _ in 0..DEPTH_MAX {
        match frame::read::<4>(machine, offset) {
            Some([_, _, high, low]) if is_vlan(network) => {
                network = u16::from_be_bytes([high, low]);
                offset += 4;
            }
            _ => break,
        }
    }
    let found = match network {
        ETH_P_IP => dissect_ipv4(machine, offset),
        ETH_P_IPV6 => dissect_ipv6(machine, offset),
        _ => None,
    };
    Flow {
        network,
        ..found.unwrap_or_default()
    }
}

fn dissect_ipv4(machine: &Machine, offset: u32) -> Option<Flow> {
    let header: [u8; 20] = frame::read(machine, offset)?;
    let end = |at: usize| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&header[at..at + 4]);
        End { address, port: 0 }
    };
    let mut flow = Flow {
        network: ETH_P_IP,
        transport: header[9],
        ends: [end(12), end(16)],
    };
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if !fragment {
        add_ports(machine, offset + u32::from(header[0] & 0x0f) * 4, &mut flow);
    }
    Some(flow)
}

fn dissect_ipv6(machine: &Machine, offset: u32) -> Option<Flow> {
    const EXTENSIONS: [u8; 3] = [0, 43, 60];
    let header: [u8; 40] = frame::read(machine, offset)?;
    let end = |at: usize| {
        let mut address = [0; 16];
        address.copy_from_slice(&header[at..at + 16]);
        End { address, port: 0 }
    };
    let mut flow = Flow {
        network: ETH_P_IPV6,
        transport: header[6],
        ends: [end(8), end(24)],
    };
    let mut offset = offset + 40;
    for _ in 0..DEPTH_MAX {
        match frame::read::<2>(machine, offset) {
            Some([next, len]) if EXTENSIONS.contains(&flow.transport) => {
                flow.transport = next;
                offset += (u32::from(len) + 1) * 8;
            }
            _ => break,
        }
    }
    add_ports(machine, offset, &mut flow);
    Some(flow)
}

/// Adds the ports of TCP, UDP, DCCP, SCTP and UDP-Lite.
fn add_ports(machine: &Machine, offset: u32, flow: &mut Flow) {
    if !matches!(flow.transport, 6 | 17 | 33 | 132 | 136) {
        return;
    }
    if let Some([a, b, c, d]) = frame::read(machine, offset) {
        flow.ends[0].port = u16::from_be_bytes([a, b]);
        flow.ends[1].port = u16::from_be_bytes([c, d]);
    }
}
