//! Whether what was on the wire is a large frame cut into segments, as a NIC or a stack has to cut it.

use crate::driver::Header;
use crate::driver::header::{GSO_TCPV4, GSO_UDP_L4};
use crate::driver::packet::carried;

/// Asserts that `segments` are those of a large frame (with the header that left its segmentation to others): all of its
/// payload in order, each segment but the last full, sequence numbers and IPv4 identifications counting up, PSH on the
/// last only, every length and checksum right.
///
/// # Panics
/// If they are not.
pub fn assert_segments(header: &Header, large: &[u8], segments: &[Vec<u8>]) {
    let whole = carried(header, large);
    let size = usize::from(header.gso_size);
    assert_eq!(
        segments.len(),
        whole.payload.len().div_ceil(size),
        "the number of segments"
    );
    let mut payload = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let part = carried(&Header::default(), segment);
        let is_last = index + 1 == segments.len();
        assert!(
            part.payload.len() == size || is_last,
            "segment {index} has {} octets",
            part.payload.len()
        );
        if header.gso_type != GSO_UDP_L4 {
            let expected = whole.sequence.wrapping_add(payload.len() as u32);
            assert_eq!(part.sequence, expected, "the sequence number of segment {index}");
            assert_eq!(part.push, is_last && whole.push, "PSH of segment {index}");
        }
        if header.gso_type == GSO_TCPV4 {
            let expected = whole.ident.wrapping_add(index as u16);
            assert_eq!(part.ident, expected, "the identification of segment {index}");
        }
        payload.extend(part.payload);
    }
    assert!(payload == whole.payload, "the payload was changed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::packet::{Host, leave_segmentation, tcp};
    use smoltcp::wire::{Ipv4Packet, TcpPacket};
    use std::net::Ipv4Addr;
    use std::panic::catch_unwind;

    const SIZE: usize = 1000;

    fn host(last: u8) -> Host {
        Host {
            mac: [2, 0, 0, 0, 0, last],
            ip: Ipv4Addr::new(10, 0, 0, last).into(),
            port: 1000,
        }
    }

    /// What a segment in a test is to be like.
    #[derive(Clone, Copy)]
    struct Segment {
        begin: usize,
        end: usize,
        ident: u16,
        push: bool,
    }

    fn segment(payload: &[u8], it: Segment) -> Vec<u8> {
        let mut frame = tcp(host(1), host(2), 7 + it.begin as u32, &payload[it.begin..it.end]);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_ident(it.ident);
        packet.fill_checksum();
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        let mut transport = TcpPacket::new_unchecked(packet.payload_mut());
        transport.set_psh(it.push);
        transport.fill_checksum(&source, &destination);
        frame
    }

    fn are_accepted(change: impl Fn(usize, &mut Segment)) -> bool {
        let payload: Vec<u8> = (0..3500_u32).map(|it| (it % 251) as u8).collect();
        let mut large = tcp(host(1), host(2), 7, &payload);
        let header = leave_segmentation(&mut large, SIZE as u16);
        let segments: Vec<Vec<u8>> = (0..4)
            .map(|index| {
                let mut it = Segment {
                    begin: index * SIZE,
                    end: payload.len().min((index + 1) * SIZE),
                    ident: index as u16,
                    push: index == 3,
                };
                change(index, &mut it);
                segment(&payload, it)
            })
            .collect();
        catch_unwind(|| assert_segments(&header, &large, &segments)).is_ok()
    }

    #[test]
    fn right_segments_are_accepted() {
        assert!(are_accepted(|_, _| ()));
    }

    #[test]
    fn wrong_segments_are_not() {
        assert!(!are_accepted(|index, it| it.push = index == 2));
        assert!(!are_accepted(|_, it| it.push = false));
        assert!(!are_accepted(|_, it| it.ident = 0));
        assert!(!are_accepted(|index, it| it.end -= usize::from(index == 1)));
        assert!(!are_accepted(|index, it| it.end -= usize::from(index == 3)));
        assert!(!are_accepted(|index, it| it.begin += usize::from(index == 2)));
    }
}
