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

/// Answers a request for any address but the guest's own. Probes (from 0.0.0.0) and announcements
/// ask whether somebody else has the address, and nobody has.
pub(super) fn answer(frame: &mut Frame, gateway: MacAddress, reply: &mut [u8; REPLY_MAX]) -> L3Input {
    if !frame.pull(ETH_HLEN + ARP_LEN) {
        return MALFORMED;
    }
    let request = &frame.head()[ETH_HLEN..ETH_HLEN + ARP_LEN];
    let (kind, operation) = (&request[..6], &request[6..8]);
    let sender = MacAddress([
        request[8],
        request[9],
        request[10],
        request[11],
        request[12],
        request[13],
    ]);
    let sender_ip = Ipv4Addr::new(request[14], request[15], request[16], request[17]);
    let target_ip = Ipv4Addr::new(request[24], request[25], request[26], request[27]);
    if kind != KIND || !sender.is_unicast() {
        return MALFORMED;
    }
    if operation != REQUEST || sender_ip.is_unspecified() || sender_ip == target_ip || !is_host(target_ip) {
        return L3Input::Consumed;
    }
    write_header(reply, sender, gateway, ETH_P_ARP);
    let message = &mut reply[ETH_HLEN..ETH_HLEN + ARP_LEN];
    message[..6].copy_from_slice(&KIND);
    message[6..8].copy_from_slice(&REPLY);
    message[8..14].copy_from_slice(&gateway.0);
    message[14..18].copy_from_slice(&target_ip.octets());
    message[18..24].copy_from_slice(&sender.0);
    message[24..28].copy_from_slice(&sender_ip.octets());
    L3Input::Reply(ETH_HLEN + ARP_LEN)
}

/// Whether a host on a network can have the address.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}
