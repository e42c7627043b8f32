//! Frames from files: their octets, or a packet of a capture in the format of pcap.

/// What a capture of Ethernet frames says of its link type.
const LINKTYPE_ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// How the numbers of a capture are written.
#[derive(Debug, Clone, Copy)]
enum Order {
    Little,
    Big,
}

/// The frame; `number` counts the packets of a capture from 1, and makes sense for no other file.
pub fn packet(octets: Vec<u8>, number: Option<u32>) -> Result<Vec<u8>, Unusable> {
    let order = match octets.first_chunk() {
        // Microseconds or nanoseconds, which are the same to us.
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => Order::Little,
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => Order::Big,
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => return Err(Unusable::NextGeneration),
        _ => {
            return match number {
                None => Ok(octets),
                Some(_) => Err(Unusable::NoCapture),
            };
        }
    };
    let link_type = order.number(&octets, 20).ok_or(Unusable::Broken)? & 0xffff;
    if link_type != LINKTYPE_ETHERNET {
        return Err(Unusable::NotEthernet(link_type));
    }
    let wanted = number.unwrap_or(1);
    let mut rest = octets.get(FILE_HEADER..).unwrap_or_default();
    let mut packets = 0;
    while !rest.is_empty() {
        let length = order.number(rest, 8).ok_or(Unusable::Broken)? as usize;
        let body = rest.get(PACKET_HEADER..).ok_or(Unusable::Broken)?;
        let (frame, behind) = body.split_at_checked(length).ok_or(Unusable::Broken)?;
        packets += 1;
        if packets == wanted {
            return Ok(frame.to_vec());
        }
        rest = behind;
    }
    Err(Unusable::TooFew { wanted, packets })
}

impl Order {
    fn number(self, octets: &[u8], at: usize) -> Option<u32> {
        let field = *octets.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(field),
            Order::Big => u32::from_be_bytes(field),
        })
    }
}

/// Why a file has no frame for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error(
        "it is a pcapng file; make a pcap of it with \"tcpdump -r FILE -w FILE.pcap\" or \"editcap -F pcap\""
    )]
    NextGeneration,
    #[error("it is no pcap file, so that its packets have no numbers")]
    NoCapture,
    #[error("its packets are of link type {0}, not Ethernet frames")]
    NotEthernet(u32),
    #[error("there is no packet {wanted}, only {packets}")]
    TooFew { wanted: u32, packets: u32 },
    #[error("the capture ends within a packet")]
    Broken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(order: Order, link_type: u32, packets: &[&[u8]]) -> Vec<u8> {
        let number = |value: u32| match order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        };
        let mut octets = number(0xa1b2_c3d4).to_vec();
        for field in [0x0004_0002, 0, 0, 65535, link_type] {
            octets.extend(number(field));
        }
        for packet in packets {
            let length = packet.len() as u32;
            for field in [1, 2, length, length] {
                octets.extend(number(field));
            }
            octets.extend(*packet);
        }
        octets
    }

    #[test]
    fn octets_are_the_frame() {
        assert_eq!(packet(vec![1, 2], None), Ok(vec![1, 2]));
        assert_eq!(packet(vec![], None), Ok(vec![]));
        assert_eq!(packet(vec![1, 2], Some(1)), Err(Unusable::NoCapture));
    }

    #[test]
    fn packets_of_a_capture_have_numbers() {
        for order in [Order::Little, Order::Big] {
            let octets = capture(order, 1, &[b"first", b"second"]);
            assert_eq!(packet(octets.clone(), None), Ok(b"first".to_vec()));
            assert_eq!(packet(octets.clone(), Some(1)), Ok(b"first".to_vec()));
            assert_eq!(packet(octets.clone(), Some(2)), Ok(b"second".to_vec()));
            let few = Unusable::TooFew {
                wanted: 3,
                packets: 2,
            };
            assert_eq!(packet(octets, Some(3)), Err(few));
        }
    }

    #[test]
    fn other_files_are_refused() {
        let raw = capture(Order::Little, 101, &[b"x"]);
        assert_eq!(packet(raw, None), Err(Unusable::NotEthernet(101)));
        let next = vec![0x0a, 0x0d, 0x0d, 0x0a, 0];
        assert_eq!(packet(next, None), Err(Unusable::NextGeneration));
        let whole = capture(Order::Little, 1, &[b"first"]);
        for length in 4..whole.len() {
            let cut = packet(whole[..length].to_vec(), None);
            let none = Unusable::TooFew {
                wanted: 1,
                packets: 0,
            };
            let expected = if length == FILE_HEADER {
                none
            } else {
                Unusable::Broken
            };
            assert_eq!(cut, Err(expected), "{length}");
        }
        let mut huge = whole;
        huge[32..36].fill(0xff);
        assert_eq!(packet(huge, None), Err(Unusable::Broken));
    }
}
