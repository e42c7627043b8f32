//! L3 mode for virtual machines: the guest speaks Ethernet, the pair carries IP.
//!
//! A container's L3 device has no neighbours to resolve. A guest has: so its ARP and neighbour
//! discovery are answered on the spot, with one gateway address for everybody, and never enter the
//! pair. Programs see the zero addresses that netkit's L3 mode has.

mod arp;
mod ip;
mod nd;
mod outside;

use devices::packet::{Frame, MacAddress};

use crate::DropReason;

pub use outside::{NeighbourMessage, addresses, ask, group, neighbour_message};

/// Room for the longest reply, in octets.
pub const REPLY_MAX: usize = 128;

const ETH_HLEN: usize = 14;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// What to do with a frame that an L3 guest sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a reply has to be delivered, and a drop to be counted"]
pub enum L3Input {
    /// Transmit it: its addresses are zero now.
    Forward,
    /// It asked for a neighbour: give the guest the first so many octets of the reply buffer.
    Reply(usize),
    /// It was neighbour traffic that wants no answer.
    Consumed,
    /// It cannot be read.
    Dropped(DropReason),
}

/// Takes in a frame that an L3 guest sent. `gateway` is the address that the guest is to send
/// everything to; a reply is written to `reply`.
pub fn from_guest(frame: &mut Frame, gateway: MacAddress, reply: &mut [u8; REPLY_MAX]) -> L3Input {
    match ether_type(frame) {
        // Not even a header: xmit drops and counts it.
        None => L3Input::Forward,
        Some(ETH_P_ARP) => arp::answer(frame, gateway, reply),
        Some(ETH_P_IPV6) if nd::is_neighbour_message(frame) => nd::answer(frame, gateway, reply),
        Some(_) => {
            frame.head_mut()[..12].fill(0);
            L3Input::Forward
        }
    }
}

/// Gives a frame that is on its way to an L3 guest the addresses that Ethernet would have: from the
/// gateway, to the group if it is multicast or broadcast at the IP layer, otherwise to the guest.
pub fn to_guest(frame: &mut Frame, guest: MacAddress, gateway: MacAddress) {
    let Some(ether_type) = ether_type(frame) else {
        return;
    };
    let destination = group_address(frame, ether_type).unwrap_or(guest);
    frame.head_mut()[..6].copy_from_slice(&destination.0);
    frame.head_mut()[6..12].copy_from_slice(&gateway.0);
}

fn ether_type(frame: &mut Frame) -> Option<u16> {
    if !frame.pull(ETH_HLEN) {
        return None;
    }
    Some(u16::from_be_bytes([frame.head()[12], frame.head()[13]]))
}

/// The Ethernet group that an IP group is mapped to (RFC 1112, 6.4; RFC 2464, 7).
fn group_address(frame: &mut Frame, ether_type: u16) -> Option<MacAddress> {
    match ether_type {
        ETH_P_IP if frame.pull(ETH_HLEN + 20) => match frame.head()[30..34] {
            [255, 255, 255, 255] => Some(MacAddress::BROADCAST),
            [224..=239, b, c, d] => Some(MacAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d])),
            _ => None,
        },
        ETH_P_IPV6 if frame.pull(ETH_HLEN + 40) => match frame.head()[38..54] {
            [0xff, .., a, b, c, d] => Some(MacAddress([0x33, 0x33, a, b, c, d])),
            _ => None,
        },
        _ => None,
    }
}

/// Starts a reply with its Ethernet header.
fn write_header(reply: &mut [u8], destination: MacAddress, gateway: MacAddress, ether_type: u16) {
    reply[..6].copy_from_slice(&destination.0);
    reply[6..12].copy_from_slice(&gateway.0);
    reply[12..14].copy_from_slice(&ether_type.to_be_bytes());
}

/// A neighbour message that cannot be read.
const MALFORMED: L3Input = L3Input::Dropped(DropReason::NeighbourMalformed);
