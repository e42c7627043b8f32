//! Frames that a guest sends through a NIC, known on both sides of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::driver::packet::{Host, ethernet, leave_checksum, leave_segmentation, tcp, udp};
use crate::driver::{Header, Random};

/// The port that samples come from, and no one else.
pub const PORT: u16 = 6789;
/// Of tagged samples: VLAN 7, priority 3.
pub const TAG: [u8; 4] = [0x81, 0x00, 0x60, 0x07];

/// Where the flags of a TCP header are.
const TCP_FLAGS: usize = 13;
const TCP_PUSH: u8 = 8;
const SIZE: u16 = 1440;
const LARGE: usize = 20_000;

/// A large segment whose segmentation is left to the NIC. Without PSH, which a card leaves to the last segment, and
/// QEMU 10's to none (`net_tx_pkt_tcp_fragment_init`).
pub fn large(version: u8, from: [u8; 6], to: [u8; 6]) -> (Header, Vec<u8>) {
    let [from, to] = hosts(version, from, to);
    let payload = Random::new(u64::from(version)).octets(LARGE);
    let mut frame = tcp(from, to, 0xffff_f000, &payload);
    let header = leave_segmentation(&mut frame, SIZE);
    frame[usize::from(header.csum_start) + TCP_FLAGS] &= !TCP_PUSH;
    (header, frame)
}

/// A datagram whose checksum is left to the NIC.
pub fn datagram(version: u8, from: [u8; 6], to: [u8; 6]) -> (Header, Vec<u8>) {
    let [from, to] = hosts(version, from, to);
    let mut frame = udp(from, to, b"a datagram without a checksum");
    let header = leave_checksum(&mut frame);
    (header, frame)
}

/// A frame with a tag.
pub fn tagged(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let frame = ethernet(from, to, b"a frame with a tag");
    [&frame[..12], &TAG, &frame[12..]].concat()
}

fn hosts(version: u8, from: [u8; 6], to: [u8; 6]) -> [Host; 2] {
    [(from, 1), (to, 2)].map(|(mac, last)| {
        let ip = match version {
            4 => IpAddr::from(Ipv4Addr::new(192, 0, 2, last)),
            _ => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())),
        };
        Host { mac, ip, port: PORT }
    })
}
