//! The announcement of a guest that has just arrived.

use devices::packet::MacAddress;

/// A reverse ARP request from an address to everybody (RFC 903): switches on the way learn where it now is.
pub fn announcement(address: MacAddress) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&MacAddress::BROADCAST.0);
    frame[6..12].copy_from_slice(&address.0);
    frame[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&address.0);
    frame[32..38].copy_from_slice(&address.0);
    frame
}
