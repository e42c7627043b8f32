//! Neighbour discovery of an L3 guest: every address is at the gateway (RFC 4861).

use std::net::Ipv6Addr;

use devices::packet::{Frame, MacAddress};

use super::ip::checksum;
use super::{ETH_HLEN, ETH_P_IPV6, L3Input, MALFORMED, REPLY_MAX, write_header};

pub(super) const IPV6_HLEN: usize = 40;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// Octets of a solicitation or advertisement without options.
const MESSAGE_LEN: usize = 24;
pub(super) const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
pub(super) const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Router, because the guest must keep routes through it; solicited; override.
const FLAGS: u8 = 0x80 | 0x40 | 0x20;

/// Whether a frame with the EtherType of IPv6 is a solicitation or an advertisement. Router
/// discovery and the rest of ICMPv6 concern the other end and pass as IP.
pub(super) fn is_neighbour_message(frame: &mut Frame) -> bool {
    const TYPE: usize = ETH_HLEN + IPV6_HLEN;
    frame.pull(TYPE + 1)
        && frame.head()[ETH_HLEN + 6] == ICMPV6
        && matches!(frame.head()[TYPE], SOLICITATION | ADVERTISEMENT)
}

/// Answers a solicitation for any address but the guest's own. One from the unspecified address
/// asks whether somebody else has the address (RFC 4862, 5.4), and nobody has.
pub(super) fn answer(frame: &mut Frame, gateway: MacAddress, reply: &mut [u8; REPLY_MAX]) -> L3Input {
    let Some(solicitation) = Solicitation::parse(frame) else {
        return MALFORMED;
    };
    let Solicitation {
        source,
        target,
        asker,
    } = solicitation;
    let needs_answer = frame.head()[ETH_HLEN + IPV6_HLEN] == SOLICITATION
        && !(source.is_unspecified() || source == target || target.is_unspecified() || target.is_loopback());
    if !needs_answer {
        return L3Input::Consumed;
    }
    let answer = Message {
        kind: ADVERTISEMENT,
        source: target,
        destination: source,
        target,
    };
    let option = (TARGET_LINK_LAYER_ADDRESS, gateway);
    L3Input::Reply(answer.emit(FLAGS, option, asker, reply))
}

/// What a solicitation or advertisement says, apart from its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub target: Ipv6Addr,
}

impl Message {
    /// Reads and validates a message (RFC 4861, 7.1.1, 7.1.2) and gives its options.
    pub fn parse(frame: &mut Frame) -> Option<(Message, &[u8])> {
        if !is_neighbour_message(frame) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([frame.head()[18], frame.head()[19]]));
        let end = ETH_HLEN + IPV6_HLEN + length;
        if length < MESSAGE_LEN || !frame.pull(end) {
            return None;
        }
        // A sum that the sender left to be computed, or vouches for, is not there to be checked.
        let sum_is_there = !frame.offload.needs_csum && !frame.offload.data_valid;
        let (header, octets) = frame.head()[ETH_HLEN..end].split_at(IPV6_HLEN);
        let message = Message {
            kind: octets[0],
            source: address(header, 8)?,
            destination: address(header, 24)?,
            target: address(octets, 8)?,
        };
        let is_valid = header[0] >> 4 == 6
            && header[7] == HOP_LIMIT
            && octets[1] == 0
            && !message.source.is_multicast()
            && !message.target.is_multicast()
            && (!sum_is_there || checksum(message.source, message.destination, ICMPV6, octets) == 0);
        is_valid.then_some((message, &octets[MESSAGE_LEN..]))
    }

    /// Writes it as a frame with one option, the link-layer address that the frame is sent from, and returns the length.
    pub fn emit(
        &self,
        flags: u8,
        (option, lladdr): (u8, MacAddress),
        to: MacAddress,
        frame: &mut [u8; REPLY_MAX],
    ) -> usize {
        write_header(frame, to, lladdr, ETH_P_IPV6);
        let length = MESSAGE_LEN + 8;
        let (header, message) = frame[ETH_HLEN..ETH_HLEN + IPV6_HLEN + length].split_at_mut(IPV6_HLEN);
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, length as u8, ICMPV6, HOP_LIMIT]);
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..40].copy_from_slice(&self.destination.octets());
        message[..8].copy_from_slice(&[self.kind, 0, 0, 0, flags, 0, 0, 0]);
        message[8..24].copy_from_slice(&self.target.octets());
        message[24..26].copy_from_slice(&[option, 1]);
        message[26..32].copy_from_slice(&lladdr.0);
        let sum = checksum(self.source, self.destination, ICMPV6, message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        ETH_HLEN + IPV6_HLEN + length
    }
}

/// What matters of a neighbour message.
struct Solicitation {
    source: Ipv6Addr,
    target: Ipv6Addr,
    /// The Ethernet address to answer to.
    asker: MacAddress,
}

impl Solicitation {
    /// Reads and validates a solicitation (RFC 4861, 7.1.1); an advertisement of a guest, which
    /// nobody else is to see, passes the same checks.
    fn parse(frame: &mut Frame) -> Option<Solicitation> {
        let asker = frame.source()?;
        let (message, options) = Message::parse(frame)?;
        let Message {
            source,
            destination,
            target,
            ..
        } = message;
        let option = link_layer_address(options, SOURCE_LINK_LAYER_ADDRESS)?;
        let probe = source.is_unspecified() && message.kind == SOLICITATION;
        if probe && (option.is_some() || !is_solicited_node(destination)) {
            return None;
        }
        let asker = option.unwrap_or(asker);
        asker.is_unicast().then_some(Solicitation {
            source,
            target,
            asker,
        })
    }
}

fn address(octets: &[u8], start: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*octets.get(start..)?.first_chunk::<16>()?))
}

/// RFC 4291, 2.7.1.
fn is_solicited_node(address: Ipv6Addr) -> bool {
    address
        .octets()
        .starts_with(&[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff])
}

/// The link-layer address in the option of this kind, if there is one; None if options are malformed (RFC 4861, 4.6).
pub(super) fn link_layer_address(mut options: &[u8], wanted: u8) -> Option<Option<MacAddress>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted {
            found = option[2..].first_chunk::<6>().map(|octets| MacAddress(*octets));
        }
        options = &options[length..];
    }
    options.is_empty().then_some(found)
}
