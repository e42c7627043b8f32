//! `bpf_fib_lookup` on the routes and neighbours of a domain (filter.c: `bpf_ipv4_fib_lookup`, `bpf_ipv6_fib_lookup`).

use std::net::IpAddr;

use netkit::{DeviceView, Mode, Surroundings};
use policy::Errno;

/// linux/bpf.h: `BPF_FIB_LOOKUP_*`.
const OUTPUT: u32 = 1 << 1;
const SKIP_NEIGHBOUR: u32 = 1 << 2;
const SOURCE: u32 = 1 << 4;

/// linux/bpf.h: `BPF_FIB_LKUP_RET_*`.
const SUCCESS: u32 = 0;
const NOT_FORWARDED: u32 = 4;
const NO_NEIGHBOUR: u32 = 7;
const FRAGMENTATION_NEEDED: u32 = 8;
const NO_SOURCE_ADDRESS: u32 = 9;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct bpf_fib_lookup`: where its fields are.
mod at {
    use std::ops::Range;

    pub const FAMILY: usize = 0;
    pub const TOTAL_LEN: Range<usize> = 6..8;
    pub const IFINDEX: Range<usize> = 8..12;
    pub const METRIC: Range<usize> = 12..16;
    pub const SOURCE: usize = 16;
    pub const DESTINATION: usize = 32;
    pub const VLAN: Range<usize> = 48..52;
    pub const SOURCE_MAC: Range<usize> = 52..58;
    pub const DESTINATION_MAC: Range<usize> = 58..64;
}

/// Looks a route up and fills the structure in.
pub fn lookup(surroundings: &Surroundings<'_>, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno> {
    let ifindex = u32::from_ne_bytes([parameters[8], parameters[9], parameters[10], parameters[11]]);
    let from = surroundings.device_by_ifindex(ifindex).ok_or(Errno::ENODEV)?;
    let destination = read_address(parameters, at::DESTINATION)?;
    let route = match flags & OUTPUT {
        0 => from.routing.route(destination),
        _ => from.routing.route_on(destination, from.ifindex),
    };
    let Some(route) = route else {
        return Ok(NOT_FORWARDED);
    };
    let Some(device) = surroundings.device_by_ifindex(route.device.0) else {
        return Ok(NOT_FORWARDED);
    };
    let total_len = u16::from_ne_bytes([parameters[6], parameters[7]]);
    let mtu = route.mtu.unwrap_or(device.mtu).min(device.mtu);
    let mtu_result = u16::try_from(mtu).unwrap_or(u16::MAX);
    if total_len != 0 && u32::from(total_len) > mtu {
        parameters[at::TOTAL_LEN].copy_from_slice(&mtu_result.to_ne_bytes());
        return Ok(FRAGMENTATION_NEEDED);
    }
    parameters[at::METRIC].copy_from_slice(&route.metric.to_ne_bytes());
    parameters[at::IFINDEX].copy_from_slice(&device.ifindex.0.to_ne_bytes());
    if flags & SOURCE != 0 {
        let Some(source) = route.source else {
            return Ok(NO_SOURCE_ADDRESS);
        };
        write_address(parameters, at::SOURCE, source);
    }
    let next_hop = route.via.unwrap_or(destination);
    if route.via.is_some() {
        parameters[at::FAMILY] = if next_hop.is_ipv4() { AF_INET } else { AF_INET6 };
        write_address(parameters, at::DESTINATION, next_hop);
    }
    if flags & SKIP_NEIGHBOUR == 0 && !write_macs(device, next_hop, parameters) {
        return Ok(NO_NEIGHBOUR);
    }
    parameters[at::VLAN].fill(0);
    if total_len != 0 {
        parameters[at::TOTAL_LEN].copy_from_slice(&mtu_result.to_ne_bytes());
    }
    Ok(SUCCESS)
}

fn write_macs(device: &DeviceView, next_hop: IpAddr, parameters: &mut [u8; 64]) -> bool {
    let neighbour = match device.mode {
        Mode::L2 => device.routing.neighbour(device.ifindex, next_hop),
        // No addresses, no neighbour discovery: every neighbour is valid (neighbour.c: `neigh_connect` of NOARP).
        Mode::L3 => Some(device.address),
    };
    let Some(neighbour) = neighbour else { return false };
    parameters[at::DESTINATION_MAC].copy_from_slice(&neighbour.0);
    parameters[at::SOURCE_MAC].copy_from_slice(&device.address.0);
    true
}

fn read_address(parameters: &[u8; 64], at: usize) -> Result<IpAddr, Errno> {
    match parameters[at::FAMILY] {
        AF_INET => Ok(IpAddr::from([
            parameters[at],
            parameters[at + 1],
            parameters[at + 2],
            parameters[at + 3],
        ])),
        AF_INET6 => Ok(IpAddr::from(
            <[u8; 16]>::try_from(&parameters[at..at + 16]).unwrap_or_default(),
        )),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn write_address(parameters: &mut [u8; 64], at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(address) => parameters[at..at + 4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => parameters[at..at + 16].copy_from_slice(&address.octets()),
    }
}
