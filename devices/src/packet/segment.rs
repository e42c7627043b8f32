//! Cuts a frame that is larger than a segment as its receiver, or the receiver's NIC, would have.

use super::adapt::{AdaptError, put_u16, store_checksum};
use super::checksum::{self, Checksum};
use super::headers::{Headers, IPV6_LEN, Network, Transport};
use super::tunnel::{Outer, Tunnel};
use super::{Frame, GsoType, Offload, Slice};

/// The segments of one frame, built one after the other in a second frame and lent from there.
#[derive(Debug)]
pub(super) struct Segmenter<'a> {
    frame: &'a Frame,
    /// Holds slices of `frame` while this lives.
    segment: &'a mut Frame,
    /// Of the packet that is cut.
    headers: Headers,
    /// What is around it, if a program put something there.
    outer: Option<Outer>,
    /// Whether the receiver computes checksums.
    receiver_csum: bool,
    /// Payload octets of each segment but the last.
    gso_size: usize,
    /// Segments in all.
    count: usize,
    /// Segments lent so far.
    index: usize,
    /// Payload octets lent so far.
    position: usize,
    /// Slice of the tail to take from next.
    slice: usize,
    /// Octets of that slice lent so far.
    slice_position: usize,
}

impl<'a> Segmenter<'a> {
    /// Checks that the headers of `frame` still are those that its offload was validated against.
    pub(super) fn new(
        frame: &'a mut Frame,
        scratch: &'a mut Frame,
        receiver_csum: bool,
    ) -> Result<Segmenter<'a>, AdaptError> {
        let offload = frame.offload;
        let (headers, outer) = match offload.encapsulation {
            None => (Headers::of(frame)?, None),
            Some(encapsulation) => {
                let tunnel = Tunnel::of(frame, encapsulation)?;
                (tunnel.inner, Some(tunnel.outer))
            }
        };
        let fits = offload.needs_csum
            && offload.gso_type != GsoType::None
            && offload.gso_size > 0
            && usize::from(offload.csum_start) == headers.l4
            && headers.transport.checksum_offset() == Some(offload.csum_offset.into())
            && headers.suit(offload.gso_type);
        if !fits {
            return Err(AdaptError::Mismatch(offload));
        }
        let l3_len = frame.len() - headers.l3;
        if l3_len > headers.network.max_len() {
            return Err(AdaptError::TooLong(l3_len));
        }
        let gso_size = usize::from(offload.gso_size);
        let payload_len = frame.len() - headers.payload;
        if let Some(outer) = &outer {
            outer.check_len(headers.payload + payload_len.min(gso_size))?;
        }
        let count = payload_len.div_ceil(gso_size).max(1);
        Ok(Segmenter {
            frame,
            segment: scratch,
            headers,
            outer,
            // An outer checksum covers the inner one, which must be complete by then.
            receiver_csum: receiver_csum && outer.is_none(),
            gso_size,
            count,
            index: 0,
            position: 0,
            slice: 0,
            slice_position: 0,
        })
    }

    /// The next segment: its headers are private, its payload is where that of the frame is.
    pub(super) fn next(&mut self) -> Option<&Frame> {
        if self.index == self.count {
            return None;
        }
        let headers = &self.frame.head()[..self.headers.payload];
        self.segment.clear();
        self.segment.meta = self.frame.meta;
        self.segment.extend_head(headers.len()).copy_from_slice(headers);
        self.push_payload();
        fix_network_header(self.segment, &self.headers, self.index as u16);
        self.fix_transport_header();
        self.fix_checksum();
        if let Some(outer) = &self.outer {
            outer.fix(self.segment, self.index as u16);
        }
        self.index += 1;
        Some(self.segment)
    }

    /// Appends the next part of the payload, which starts in the frame's head and goes on in its tail.
    fn push_payload(&mut self) {
        let private = &self.frame.head()[self.headers.payload..];
        let payload_len = private.len() + self.frame.tail_len();
        let end = payload_len.min(self.position + self.gso_size);
        if let Some(private) = private.get(self.position..end.min(private.len())) {
            self.segment.extend_head(private.len()).copy_from_slice(private);
            self.position += private.len();
        }
        while self.position < end {
            let slice = self.frame.tail()[self.slice];
            let len = (end - self.position).min(slice.len - self.slice_position);
            // SAFETY: a part of a slice that is mapped while `frame` holds it. The segment is lent only
            // while `frame` is borrowed, and cleared when that ends.
            unsafe {
                let ptr = slice.ptr.add(self.slice_position);
                self.segment.push_slice(Slice { ptr, len });
            }
            self.position += len;
            self.slice_position += len;
            if self.slice_position == slice.len {
                self.slice += 1;
                self.slice_position = 0;
            }
        }
    }

    fn fix_transport_header(&mut self) {
        const FIN_PSH: u8 = 0x01 | 0x08;
        const CWR: u8 = 0x80;

        let Headers { l4, transport, .. } = self.headers;
        let l4_len = self.segment.len() - l4;
        let (is_first, is_last) = (self.index == 0, self.index + 1 == self.count);
        let head = self.segment.head_mut();
        match transport {
            Transport::Tcp => {
                let sequence = get_u32(head, l4 + 4).wrapping_add((self.index * self.gso_size) as u32);
                head[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
                if !is_last {
                    head[l4 + 13] &= !FIN_PSH;
                }
                if !is_first {
                    // RFC 3168, 6.1.2: the window was reduced once.
                    head[l4 + 13] &= !CWR;
                }
            }
            Transport::Udp => put_u16(head, l4 + 4, l4_len as u16),
            Transport::Other(_) | Transport::None => {}
        }
    }

    /// Puts the segment's length in place of the frame's in the pseudo-header sum, or a whole checksum.
    fn fix_checksum(&mut self) {
        let offload = self.frame.offload;
        let start = usize::from(offload.csum_start);
        let field = start + usize::from(offload.csum_offset);
        let frame_len = (self.frame.len() - start) as u16;
        let segment_len = (self.segment.len() - start) as u16;
        let head = self.segment.head_mut();
        // The sum is not complemented as a checksum is; what else is in it, such as the final
        // destination of a routing header, stays.
        let pseudo = !checksum::update(!get_u16(head, field), frame_len, segment_len);
        put_u16(head, field, pseudo);
        if self.receiver_csum {
            self.segment.offload = Offload {
                needs_csum: true,
                csum_start: offload.csum_start,
                csum_offset: offload.csum_offset,
                ..Offload::default()
            };
        } else {
            store_checksum(self.segment, start, field);
        }
    }
}

impl Drop for Segmenter<'_> {
    fn drop(&mut self) {
        self.segment.clear();
    }
}

/// Makes the network header that of the segment with this index.
pub(super) fn fix_network_header(segment: &mut Frame, headers: &Headers, index: u16) {
    let Headers { l3, l4, network, .. } = *headers;
    let l3_len = segment.len() - l3;
    let head = segment.head_mut();
    match network {
        Network::Ipv4 => {
            put_u16(head, l3 + 2, l3_len as u16);
            // RFC 6864, 4.3: a source that does not say "atomic" counts; Linux counts always.
            let identification = get_u16(head, l3 + 4).wrapping_add(index);
            put_u16(head, l3 + 4, identification);
            put_u16(head, l3 + 10, 0);
            let mut sum = Checksum::new();
            sum.add(&head[l3..l4]);
            put_u16(head, l3 + 10, sum.finish());
        }
        Network::Ipv6 => put_u16(head, l3 + 4, (l3_len - IPV6_LEN) as u16),
        Network::Other => {}
    }
}

fn get_u16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn get_u32(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}
