//! The helpers that look at a frame or change it.
//!
//! They answer as Linux 6.12 does (net/core/filter.c), with the checks in its order. What the kernel's verifier knows
//! about their arguments is checked here, at each call.

mod adjust_room;
mod bytes;
mod checksum;
mod frame;
mod hash;
mod marks;
mod mtu;
mod resize;
mod sum;
mod vlan;

#[cfg(test)]
mod tests;

use super::{Helper, HelperFunction};
use crate::Errno;
use crate::fault::FaultKind;
use crate::machine::{Machine, Stopped};

/// All helpers of this module.
pub const HELPERS: &[Helper] = &[
    helper(id::SKB_STORE_BYTES, bytes::skb_store_bytes),
    helper(id::L3_CSUM_REPLACE, checksum::l3_csum_replace),
    helper(id::L4_CSUM_REPLACE, checksum::l4_csum_replace),
    helper(id::SKB_VLAN_PUSH, vlan::skb_vlan_push),
    helper(id::SKB_VLAN_POP, vlan::skb_vlan_pop),
    helper(id::SKB_LOAD_BYTES, bytes::skb_load_bytes),
    helper(id::CSUM_DIFF, checksum::csum_diff),
    helper(id::SKB_CHANGE_PROTO, resize::skb_change_proto),
    helper(id::SKB_CHANGE_TYPE, marks::skb_change_type),
    helper(id::GET_HASH_RECALC, hash::get_hash_recalc),
    helper(id::SKB_CHANGE_TAIL, resize::skb_change_tail),
    helper(id::SKB_PULL_DATA, bytes::skb_pull_data),
    helper(id::CSUM_UPDATE, checksum::csum_update),
    helper(id::SET_HASH_INVALID, hash::set_hash_invalid),
    helper(id::SKB_CHANGE_HEAD, resize::skb_change_head),
    helper(id::SET_HASH, hash::set_hash),
    helper(id::SKB_ADJUST_ROOM, adjust_room::skb_adjust_room),
    helper(id::SKB_LOAD_BYTES_RELATIVE, bytes::skb_load_bytes_relative),
    helper(id::SKB_ECN_SET_CE, marks::skb_ecn_set_ce),
    helper(id::CSUM_LEVEL, checksum::csum_level),
    helper(id::CHECK_MTU, mtu::check_mtu),
    helper(id::SKB_SET_TSTAMP, marks::skb_set_tstamp),
];

/// Helper numbers (linux/bpf.h: `enum bpf_func_id`).
mod id {
    pub const SKB_STORE_BYTES: u32 = 9;
    pub const L3_CSUM_REPLACE: u32 = 10;
    pub const L4_CSUM_REPLACE: u32 = 11;
    pub const SKB_VLAN_PUSH: u32 = 18;
    pub const SKB_VLAN_POP: u32 = 19;
    pub const SKB_LOAD_BYTES: u32 = 26;
    pub const CSUM_DIFF: u32 = 28;
    pub const SKB_CHANGE_PROTO: u32 = 31;
    pub const SKB_CHANGE_TYPE: u32 = 32;
    pub const GET_HASH_RECALC: u32 = 34;
    pub const SKB_CHANGE_TAIL: u32 = 38;
    pub const SKB_PULL_DATA: u32 = 39;
    pub const CSUM_UPDATE: u32 = 40;
    pub const SET_HASH_INVALID: u32 = 41;
    pub const SKB_CHANGE_HEAD: u32 = 43;
    pub const SET_HASH: u32 = 48;
    pub const SKB_ADJUST_ROOM: u32 = 50;
    pub const SKB_LOAD_BYTES_RELATIVE: u32 = 68;
    pub const SKB_ECN_SET_CE: u32 = 97;
    pub const CSUM_LEVEL: u32 = 135;
    pub const CHECK_MTU: u32 = 163;
    pub const SKB_SET_TSTAMP: u32 = 192;
}

/// Octets of an Ethernet header (linux/if_ether.h: `ETH_HLEN`).
const ETHERNET_LEN: u32 = 14;
/// EtherTypes (linux/if_ether.h).
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
/// Octets of the network headers without options.
const IPV4_LEN: u32 = 20;
const IPV6_LEN: u32 = 40;

const fn helper(id: u32, function: HelperFunction) -> Helper {
    Helper {
        id,
        function,
        calls_back: false,
    }
}

/// What a helper returns: a number that is not an error, or a negative errno.
fn answer(result: Result<u64, Errno>) -> u64 {
    result.unwrap_or_else(Errno::to_register)
}

/// Does work that changes what the context shows: takes in what the program wrote, and shows what has become of it.
fn change(machine: &mut Machine, work: impl FnOnce(&mut Machine) -> Result<u64, Errno>) -> u64 {
    machine.import_context();
    let result = work(machine);
    machine.export_context();
    answer(result)
}

/// Memory that the program gave with its length, which must not be 0 (`ARG_CONST_SIZE`). `argument` is the number of
/// the pointer; the length follows it.
fn memory(
    machine: &mut Machine,
    helper: u32,
    argument: u8,
    address: u64,
    len: u64,
    write: bool,
) -> Result<(*mut u8, u32), Stopped> {
    if len == 0 {
        return Err(machine.stop(FaultKind::Argument {
            helper,
            argument: argument + 1,
            value: 0,
            len: 0,
        }));
    }
    let pointer = machine.argument(helper, argument, address, len, write)?;
    Ok((pointer, len as u32))
}

/// Whether an EtherType is that of a VLAN tag (linux/if_vlan.h: `eth_type_vlan`).
fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, ETH_P_8021Q | ETH_P_8021AD)
}
