//! ARP of an L3 guest: every address is at the gateway (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use devices::packet::{Frame, MacAddress};

use super::{ETH_HLEN, ETH_P_ARP, L3Input, MALFORMED, REPLY_MAX, write_header};

/// Octets of an ARP message for IPv4 over Ethernet.
const ARP_LEN: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// What an ARP message for IPv4 over Ethernet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// It asks; else it may answer.
    pub is_request: bool,
    pub sender: MacAddress,
    pub sender_ip: Ipv4Addr,
    /// Zero in a request.
    pub target: MacAddress,
    pub target_ip: Ipv4Addr,
}

impl Message {
    /// Reads a message; None if it is cut, or of another kind.
    pub fn parse(frame: &mut Frame) -> Option<Message> {
        if !frame.pull(ETH_HLEN + ARP_LEN) {
            return None;
        }
        let message = &frame.head()[ETH_HLEN..ETH_HLEN + ARP_LEN];
        (message[..6] == KIND).then_some(Message {
            is_request: message[6..8] == REQUEST,
            sender: MacAddress(*message[8..].first_chunk()?),
            sender_ip: Ipv4Addr::from(*message[14..].first_chunk::<4>()?),
            target: MacAddress(*message[18..].first_chunk()?),
            target_ip: Ipv4Addr::from(*message[24..].first_chunk::<4>()?),
        })
    }

    /// Writes it as a frame from its sender, and returns the length.
    pub fn emit(&self, to: MacAddress, frame: &mut [u8; REPLY_MAX]) -> usize {
        write_header(frame, to, self.sender, ETH_P_ARP);
        let message = &mut frame[ETH_HLEN..ETH_HLEN + ARP_LEN];
        message[..6].copy_from_slice(&KIND);
        message[6..8].copy_from_slice(if self.is_request { &REQUEST } else { &REPLY });
        message[8..14].copy_from_slice(&self.sender.0);
        message[14..18].copy_from_slice(&self.sender_ip.octets());
        message[18..24].copy_from_slice(&self.target.0);
        message[24..28].copy_from_slice(&self.target_ip.octets());
        ETH_HLEN + ARP_LEN
    }
}

/// Answers a request for any address but the guest's own. Probes (from 0.0.0.0) and announcements
/// ask whether somebody else has the address, and nobody has.
pub(super) fn answer(frame: &mut Frame, gateway: MacAddress, reply: &mut [u8; REPLY_MAX]) -> L3Input {
    let Some(request) = Message::parse(frame).filter(|message| message.sender.is_unicast()) else {
        return MALFORMED;
    };
    let Message {
        sender_ip, target_ip, ..
    } = request;
    if !request.is_request || sender_ip.is_unspecified() || sender_ip == target_ip || !is_host(target_ip) {
        return L3Input::Consumed;
    }
    let answer = Message {
        is_request: false,
        sender: gateway,
        sender_ip: target_ip,
        target: request.sender,
        target_ip: sender_ip,
    };
    L3Input::Reply(answer.emit(request.sender, reply))
}

fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}
