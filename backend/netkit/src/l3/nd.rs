//! Neighbour discovery of an L3 guest: every address is at the gateway (RFC 4861).

use std::net::Ipv6Addr;

use devices::packet::{Frame, MacAddress};

use super::ip::checksum;
use super::{ETH_HLEN, ETH_P_IPV6, L3Input, MALFORMED, REPLY_MAX, write_header};

const IPV6_HLEN: usize = 40;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Octets of a solicitation or advertisement without options.
const MESSAGE_LEN: usize = 24;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
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
    write_header(reply, asker, gateway, ETH_P_IPV6);
    let length = MESSAGE_LEN + 8;
    let (header, message) = reply[ETH_HLEN..ETH_HLEN + IPV6_HLEN + length].split_at_mut(IPV6_HLEN);
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, length as u8, ICMPV6, HOP_LIMIT]);
    header[8..24].copy_from_slice(&target.octets());
    header[24..40].copy_from_slice(&source.octets());
    message[..8].copy_from_slice(&[ADVERTISEMENT, 0, 0, 0, FLAGS, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    message[26..32].copy_from_slice(&gateway.0);
    let sum = checksum(target, source, ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    L3Input::Reply(ETH_HLEN + IPV6_HLEN + length)
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
        let length = usize::from(u16::from_be_bytes([frame.head()[18], frame.head()[19]]));
        let end = ETH_HLEN + IPV6_HLEN + length;
        if length < MESSAGE_LEN || !frame.pull(end) {
            return None;
        }
        // A sum that the guest left to be computed, or vouches for, is not there to be checked.
        let sum_is_there = !frame.offload.needs_csum && !frame.offload.data_valid;
        let asker = frame.source()?;
        let (header, message) = frame.head()[ETH_HLEN..end].split_at(IPV6_HLEN);
        let source = address(header, 8)?;
        let destination = address(header, 24)?;
        let target = address(message, 8)?;
        let valid = header[0] >> 4 == 6
            && header[7] == HOP_LIMIT
            && message[1] == 0
            && !source.is_multicast()
            && !target.is_multicast()
            && (!sum_is_there || checksum(source, destination, ICMPV6, message) == 0);
        let option = source_option(&message[MESSAGE_LEN..])?;
        let probe = source.is_unspecified() && message[0] == SOLICITATION;
        if !valid || (probe && (option.is_some() || !is_solicited_node(destination))) {
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

/// The source link-layer address among the options; None if they are malformed (RFC 4861, 4.6).
fn source_option(mut options: &[u8]) -> Option<Option<MacAddress>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == SOURCE_LINK_LAYER_ADDRESS {
            found = option[2..].first_chunk::<6>().map(|octets| MacAddress(*octets));
        }
        options = &options[length..];
    }
    options.is_empty().then_some(found)
}
