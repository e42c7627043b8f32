//! Which flow a frame belongs to, as a number: frames of one flow go to one queue, so that they stay in order.

use super::Frame;

const ETHERNET: usize = 14;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];
const IPV6_HEADER: usize = 40;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_SCTP: u8 = 132;

/// A number that all frames of a flow share: of the addresses, the protocol and, unless the packet is a fragment, the
/// ports of what is in the frame's head. What is no IP packet goes by its Ethernet addresses.
pub fn flow_hash(frame: &Frame) -> u32 {
    let head = frame.head();
    let (mut at, mut protocol) = (ETHERNET, word(head, ETHERNET - 2));
    while TYPE_VLAN.contains(&protocol) && at < ETHERNET + 8 {
        protocol = word(head, at + 2);
        at += 4;
    }
    let packet = head.get(at..).unwrap_or_default();
    let hash = match protocol {
        TYPE_IPV4 => hash_ipv4(packet),
        TYPE_IPV6 => hash_ipv6(packet),
        _ => None,
    };
    let hash = hash.unwrap_or_else(|| mix(0, head.get(..12).unwrap_or_default()));
    (hash >> 32) as u32
}

fn hash_ipv4(packet: &[u8]) -> Option<u64> {
    let header_len = usize::from(packet.first()? & 0xf) * 4;
    let is_fragment = word(packet, 6) & 0x3fff != 0;
    let protocol = *packet.get(9)?;
    let hash = mix(u64::from(protocol), packet.get(12..20)?);
    Some(mix(hash, ports(packet, header_len, protocol, is_fragment)))
}

fn hash_ipv6(packet: &[u8]) -> Option<u64> {
    let protocol = *packet.get(6)?;
    let hash = mix(u64::from(protocol), packet.get(8..IPV6_HEADER)?);
    Some(mix(hash, ports(packet, IPV6_HEADER, protocol, false)))
}

fn ports(packet: &[u8], at: usize, protocol: u8, is_fragment: bool) -> &[u8] {
    let has_ports = matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP);
    match packet.get(at..at + 4) {
        Some(ports) if has_ports && !is_fragment => ports,
        _ => &[],
    }
}

/// Multiplies and folds (the 64-bit golden ratio): few instructions, and every octet reaches the upper half.
fn mix(mut hash: u64, octets: &[u8]) -> u64 {
    for piece in octets.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn word(octets: &[u8], at: usize) -> u16 {
    match octets.get(at..at + 2) {
        Some(word) => u16::from_be_bytes([word[0], word[1]]),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: [u8; 4], port: u16, fragment: u16, tagged: bool) -> Frame {
        let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if tagged {
            octets.extend([0x81, 0, 0, 7]);
        }
        octets.extend([8, 0, 0x45, 0, 0, 28, 0, 0]);
        octets.extend(fragment.to_be_bytes());
        octets.extend([64, PROTOCOL_UDP, 0, 0]);
        octets.extend(source);
        octets.extend([10, 0, 0, 2]);
        octets.extend(port.to_be_bytes());
        octets.extend([0, 53, 0, 8, 0, 0]);
        Frame::from_octets(&octets)
    }

    #[test]
    fn a_flow_has_one_hash_and_others_spread_over_all_queues() {
        let hash = |port| flow_hash(&udp([10, 0, 0, 1], port, 0, false));
        assert_eq!(hash(1000), hash(1000));
        for queues in [2u32, 3, 4, 8] {
            let mut counts = vec![0u32; queues as usize];
            (0..1000).for_each(|port| counts[(hash(port) % queues) as usize] += 1);
            let fair = 1000 / queues;
            assert!(
                counts.iter().all(|count| *count > fair / 2 && *count < fair * 2),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn addresses_and_tags_count_and_fragments_stay_together() {
        let hash = |source, port, fragment| flow_hash(&udp(source, port, fragment, false));
        assert_ne!(hash([10, 0, 0, 1], 9, 0), hash([10, 0, 0, 3], 9, 0));
        // More fragments, then a later one, which has no ports: what stands there is payload.
        assert_eq!(hash([10, 0, 0, 1], 9, 0x2000), hash([10, 0, 0, 1], 7777, 0x0010));
        let tagged = flow_hash(&udp([10, 0, 0, 1], 9, 0, true));
        assert_eq!(tagged, hash([10, 0, 0, 1], 9, 0));
    }

    #[test]
    fn anything_has_a_hash() {
        for len in 0..64 {
            for kind in [[8, 0], [0x86, 0xdd], [0x81, 0], [0, 0]] {
                let mut octets = vec![0xff; len];
                if let Some(place) = octets.get_mut(12..14) {
                    place.copy_from_slice(&kind);
                }
                flow_hash(&Frame::from_octets(&octets));
            }
        }
    }
}
