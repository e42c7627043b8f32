//! Neighbours outside: what an uplink that L3 devices share asks for and hears (RFC 826, RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use devices::packet::{Frame, MacAddress};

use super::ip::checksum;
use super::{ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, REPLY_MAX, ether_type, group_address, write_header};

const ARP_LEN: usize = 28;
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const IPV6_HLEN: usize = 40;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const MESSAGE_LEN: usize = 24;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// What an ARP or neighbour discovery message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// A neighbour, and where it is.
    pub neighbour: Option<(IpAddr, MacAddress)>,
    /// Whom it asks for.
    pub wanted: Option<IpAddr>,
}

/// Reads a neighbour message; None if the frame is none, or one that makes no sense.
pub fn neighbour_message(frame: &mut Frame) -> Option<NeighbourMessage> {
    match ether_type(frame)? {
        ETH_P_ARP => arp_message(frame),
        ETH_P_IPV6 => nd_message(frame),
        _ => None,
    }
}

fn arp_message(frame: &mut Frame) -> Option<NeighbourMessage> {
    if !frame.pull(ETH_HLEN + ARP_LEN) {
        return None;
    }
    let message = &frame.head()[ETH_HLEN..ETH_HLEN + ARP_LEN];
    if message[..6] != ARP_KIND {
        return None;
    }
    let sender = MacAddress(*message[8..].first_chunk()?);
    let sender_ip = Ipv4Addr::from(*message[14..].first_chunk::<4>()?);
    let target_ip = Ipv4Addr::from(*message[24..].first_chunk::<4>()?);
    let is_request = message[6..8] == [0, 1];
    Some(NeighbourMessage {
        neighbour: (!sender_ip.is_unspecified()).then_some((sender_ip.into(), sender)),
        wanted: (is_request && sender_ip != target_ip).then_some(target_ip.into()),
    })
}

fn nd_message(frame: &mut Frame) -> Option<NeighbourMessage> {
    if !frame.pull(ETH_HLEN + IPV6_HLEN) || frame.head()[ETH_HLEN + 6] != ICMPV6 {
        return None;
    }
    let head = frame.head();
    let length = usize::from(u16::from_be_bytes([head[18], head[19]]));
    let end = ETH_HLEN + IPV6_HLEN + length;
    if length < MESSAGE_LEN || !frame.pull(end) {
        return None;
    }
    let sum_is_there = !frame.offload.needs_csum && !frame.offload.data_valid;
    let (header, message) = frame.head()[ETH_HLEN..end].split_at(IPV6_HLEN);
    let source = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
    let target = Ipv6Addr::from(*message[8..].first_chunk::<16>()?);
    let is_valid = header[7] == HOP_LIMIT
        && message[1] == 0
        && !target.is_multicast()
        && (!sum_is_there || checksum(source, destination, ICMPV6, message) == 0);
    if !is_valid {
        return None;
    }
    let at = |kind| option(&message[MESSAGE_LEN..], kind);
    match message[0] {
        SOLICITATION => Some(NeighbourMessage {
            neighbour: at(SOURCE_LINK_LAYER_ADDRESS)
                .filter(|_| !source.is_unspecified())
                .map(|address| (source.into(), address)),
            wanted: Some(target.into()),
        }),
        ADVERTISEMENT => Some(NeighbourMessage {
            neighbour: at(TARGET_LINK_LAYER_ADDRESS).map(|address| (target.into(), address)),
            wanted: None,
        }),
        _ => None,
    }
}

/// The link-layer address in an option of this kind.
fn option(mut options: &[u8], wanted: u8) -> Option<MacAddress> {
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted {
            return option[2..].first_chunk().map(|octets| MacAddress(*octets));
        }
        options = &options[length..];
    }
    None
}

/// Writes the question where `target` is, in the name of `source`, whose answers are to go to `sender`. Returns its length;
/// None if the two are of different families.
pub fn ask(
    source: IpAddr,
    target: IpAddr,
    sender: MacAddress,
    question: &mut [u8; REPLY_MAX],
) -> Option<usize> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => Some(arp_request(source, target, sender, question)),
        (IpAddr::V6(source), IpAddr::V6(target)) => Some(solicitation(source, target, sender, question)),
        _ => None,
    }
}

fn arp_request(
    source: Ipv4Addr,
    target: Ipv4Addr,
    sender: MacAddress,
    question: &mut [u8; REPLY_MAX],
) -> usize {
    write_header(question, MacAddress::BROADCAST, sender, ETH_P_ARP);
    let message = &mut question[ETH_HLEN..ETH_HLEN + ARP_LEN];
    message[..6].copy_from_slice(&ARP_KIND);
    message[6..8].copy_from_slice(&[0, 1]);
    message[8..14].copy_from_slice(&sender.0);
    message[14..18].copy_from_slice(&source.octets());
    message[18..24].fill(0);
    message[24..28].copy_from_slice(&target.octets());
    ETH_HLEN + ARP_LEN
}

fn solicitation(
    source: Ipv6Addr,
    target: Ipv6Addr,
    sender: MacAddress,
    question: &mut [u8; REPLY_MAX],
) -> usize {
    let [.., x, y, z] = target.octets();
    // RFC 4291, 2.7.1: the solicited-node address.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    write_header(
        question,
        MacAddress([0x33, 0x33, 0xff, x, y, z]),
        sender,
        ETH_P_IPV6,
    );
    let length = MESSAGE_LEN + 8;
    let (header, message) = question[ETH_HLEN..ETH_HLEN + IPV6_HLEN + length].split_at_mut(IPV6_HLEN);
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, length as u8, ICMPV6, HOP_LIMIT]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&group.octets());
    message[..8].copy_from_slice(&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[SOURCE_LINK_LAYER_ADDRESS, 1]);
    message[26..32].copy_from_slice(&sender.0);
    let sum = checksum(source, group, ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ETH_HLEN + IPV6_HLEN + length
}

/// Source and destination of an IP packet; None if the frame holds none.
pub fn addresses(frame: &mut Frame) -> Option<(IpAddr, IpAddr)> {
    let ether_type = ether_type(frame)?;
    let length = if ether_type == ETH_P_IP { 20 } else { IPV6_HLEN };
    if !frame.pull(ETH_HLEN + length) {
        return None;
    }
    let packet = &frame.head()[ETH_HLEN..];
    match ether_type {
        ETH_P_IP => Some((
            IpAddr::from(*packet[12..].first_chunk::<4>()?),
            IpAddr::from(*packet[16..].first_chunk::<4>()?),
        )),
        ETH_P_IPV6 => Some((
            IpAddr::from(*packet[8..].first_chunk::<16>()?),
            IpAddr::from(*packet[24..].first_chunk::<16>()?),
        )),
        _ => None,
    }
}

/// The Ethernet address of the group that a packet is sent to, if it is.
pub fn group(frame: &mut Frame) -> Option<MacAddress> {
    let ether_type = ether_type(frame)?;
    group_address(frame, ether_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

    fn question(source: &str, target: &str) -> Frame {
        let mut octets = [0; REPLY_MAX];
        let length = ask(
            source.parse().unwrap(),
            target.parse().unwrap(),
            SENDER,
            &mut octets,
        );
        Frame::from_octets(&octets[..length.unwrap()])
    }

    #[test]
    fn a_question_says_who_asks_and_for_whom() {
        for (source, target) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::a:b2")] {
            let message = neighbour_message(&mut question(source, target)).unwrap();
            assert_eq!(message.neighbour, Some((source.parse().unwrap(), SENDER)));
            assert_eq!(message.wanted, Some(target.parse().unwrap()));
        }
        let mut octets = [0; REPLY_MAX];
        assert_eq!(
            ask(
                "10.0.0.1".parse().unwrap(),
                "::1".parse().unwrap(),
                SENDER,
                &mut octets
            ),
            None
        );
    }

    #[test]
    fn the_answer_to_a_question_says_where_the_neighbour_is() {
        for (source, target) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let mut reply = [0; REPLY_MAX];
            let there = MacAddress([2, 0, 0, 0, 0, 9]);
            let super::super::L3Input::Reply(length) =
                super::super::from_guest(&mut question(source, target), there, &mut reply)
            else {
                panic!("{target} is not answered for");
            };
            let message = neighbour_message(&mut Frame::from_octets(&reply[..length])).unwrap();
            assert_eq!(message.neighbour, Some((target.parse().unwrap(), there)));
            assert_eq!(message.wanted, None);
        }
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let mut damaged = question("fd00::1", "fd00::2");
        damaged.head_mut()[70] ^= 1;
        assert_eq!(neighbour_message(&mut damaged), None);
        for length in 0..60 {
            let whole = question("10.0.0.1", "10.0.0.2");
            let mut cut = Frame::from_octets(&whole.head()[..length.min(whole.len())]);
            let message = neighbour_message(&mut cut);
            assert_eq!(message.is_some(), length >= whole.len());
        }
    }
}
