//! Frames that tests of NICs send.

use devices::packet::{
    Checksum, Frame, MacAddress, OffloadFeatures, Slice, VirtioNetHeader, accept, virtio_header,
};

pub const THERE: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 9, 1]);
pub const SENDER: MacAddress = MacAddress([2, 0, 0, 0, 5, 5]);
pub const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 9, 2]);

/// A frame of a protocol that the host's stack does not know.
pub fn plain(to: MacAddress, len: usize, number: u8) -> Frame {
    let mut octets = [to.0, SENDER.0].concat();
    octets.extend([0x88, 0xb5]);
    octets.resize(len, number);
    Frame::from_octets(&octets)
}

/// Ethernet, IPv4 and a TCP header without its checksum, or UDP from this port, in front of `payload` octets.
pub fn packet(tag: &[u8], protocol: u8, port: u16, payload: usize) -> Vec<u8> {
    let l4: &[u8] = match protocol {
        6 => &[0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0],
        _ => &[0, 53],
    };
    let l4_len = (if protocol == 6 { 20 } else { 8 }) + payload;
    let mut octets = [THERE.0.as_slice(), &SENDER.0, tag, &[8, 0, 0x45, 0]].concat();
    octets.extend((20 + l4_len as u16).to_be_bytes());
    octets.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    let l3 = 14 + tag.len();
    let mut sum = Checksum::new();
    sum.add(&octets[l3..]);
    let sum = sum.finish();
    octets[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    octets.extend(port.to_be_bytes());
    octets.extend(l4);
    if protocol == 17 {
        octets.extend((l4_len as u16).to_be_bytes());
        octets.extend([0, 0]);
    } else {
        let pseudo = Checksum::pseudo_header_v4([10, 9, 0, 1], [10, 9, 0, 2], 6, l4_len as u16).fold();
        octets[l3 + 36..l3 + 38].copy_from_slice(&pseudo.to_be_bytes());
    }
    octets.extend((0..payload).map(|index| (index * 7) as u8));
    octets
}

/// A TCP frame that lies in `octets`, with its checksum undone, to be cut in segments of this size if it is not 0.
pub fn tcp(octets: &[u8], tag_len: usize, gso_size: u16) -> Frame {
    let mut frame = Frame::new();
    for part in octets.chunks(10_000) {
        // SAFETY: the octets outlive the frame in every test.
        unsafe {
            frame.push_slice(Slice {
                ptr: part.as_ptr(),
                len: part.len(),
            })
        };
    }
    let header = VirtioNetHeader {
        flags: virtio_header::F_NEEDS_CSUM,
        gso_type: if gso_size > 0 { virtio_header::GSO_TCPV4 } else { 0 },
        gso_size,
        csum_start: 34 + tag_len as u16,
        csum_offset: 16,
        ..VirtioNetHeader::default()
    };
    accept(&mut frame, &header, OffloadFeatures::ALL).unwrap();
    frame
}
