//! Neighbours outside: what an uplink that L3 devices share asks for and hears (RFC 826, RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use devices::packet::{Frame, MacAddress};

use super::nd::{
    ADVERTISEMENT, IPV6_HLEN, SOLICITATION, SOURCE_LINK_LAYER_ADDRESS, TARGET_LINK_LAYER_ADDRESS,
    link_layer_address,
};
use super::{ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, REPLY_MAX, arp, ether_type, group_address, nd};

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
    let message = arp::Message::parse(frame)?;
    let (sender_ip, target_ip) = (message.sender_ip, message.target_ip);
    Some(NeighbourMessage {
        neighbour: (!sender_ip.is_unspecified()).then_some((sender_ip.into(), message.sender)),
        wanted: (message.is_request && sender_ip != target_ip).then_some(target_ip.into()),
    })
}

fn nd_message(frame: &mut Frame) -> Option<NeighbourMessage> {
    let (message, options) = nd::Message::parse(frame)?;
    let at = |kind| link_layer_address(options, kind);
    match message.kind {
        SOLICITATION => Some(NeighbourMessage {
            neighbour: at(SOURCE_LINK_LAYER_ADDRESS)?
                .filter(|_| !message.source.is_unspecified())
                .map(|address| (message.source.into(), address)),
            wanted: Some(message.target.into()),
        }),
        ADVERTISEMENT => Some(NeighbourMessage {
            neighbour: at(TARGET_LINK_LAYER_ADDRESS)?.map(|address| (message.target.into(), address)),
            wanted: None,
        }),
        _ => None,
    }
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
        (IpAddr::V4(sender_ip), IpAddr::V4(target_ip)) => {
            let request = arp::Message {
                is_request: true,
                sender,
                sender_ip,
                target: MacAddress::ZERO,
                target_ip,
            };
            Some(request.emit(MacAddress::BROADCAST, question))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let [.., x, y, z] = target.octets();
            // RFC 4291, 2.7.1: the solicited-node address.
            let destination = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
            let solicitation = nd::Message {
                kind: SOLICITATION,
                source,
                destination,
                target,
            };
            let option = (SOURCE_LINK_LAYER_ADDRESS, sender);
            let group = MacAddress([0x33, 0x33, 0xff, x, y, z]);
            Some(solicitation.emit(0, option, group, question))
        }
        _ => None,
    }
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
