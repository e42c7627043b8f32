//! What is left to the NIC to do on a frame that it sends, in its terms (82576 datasheet, 7.2.2 and 7.2.4).

use super::driver::WIRE_FRAME;
use super::registers as r;
use crate::Refusal;
use crate::packet::{Frame, GsoType, Headers, Network, Transport, checksum, checksum_from};

/// The least payload of a segment; less would be smaller than a frame.
const SEGMENT_MIN: usize = 64;

/// Where the headers are that the NIC is to change: a context descriptor's contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    lengths: u32,
    kind: u32,
    segments: u32,
}

/// What descriptors say of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What the NIC has to know before.
    pub context: Option<Context>,
    /// How it is cut.
    pub segments: Option<Headers>,
    /// A checksum that the NIC does not find, and where it goes.
    checksum: Option<(usize, u16)>,
    /// The third word of data descriptors, but for the length.
    pub command: u32,
    /// The fourth word.
    pub options: u32,
}

impl Context {
    /// The descriptor's two halves.
    pub fn descriptor(self) -> [u64; 2] {
        [
            u64::from(self.lengths),
            u64::from(self.kind) | u64::from(self.segments) << 32,
        ]
    }
}

impl Work {
    /// What is to be done on a frame that keeps to the NIC's capabilities.
    pub fn of(frame: &Frame) -> Result<Work, Refusal> {
        let len = frame.len();
        let whole = Work {
            context: None,
            segments: None,
            checksum: None,
            command: r::TX_DTYP_DATA | r::TX_DEXT | r::TX_IFCS,
            options: (len as u32) << r::TX_PAYLEN_SHIFT,
        };
        if !frame.offload.needs_csum {
            return Ok(whole);
        }
        let headers = Headers::parse(frame.head(), len).map_err(|_| Refusal::BadOffload)?;
        let context = context(frame, &headers);
        if frame.offload.gso_type == GsoType::None {
            return Ok(match context {
                Some(context) => Work {
                    context: Some(context),
                    options: whole.options | r::TX_TXSM,
                    ..whole
                },
                None => Work {
                    checksum: Some(own_checksum(frame)?),
                    ..whole
                },
            });
        }
        let mut context = context.ok_or(Refusal::BadOffload)?;
        context.segments = segments(frame, &headers)?;
        let payload = (len - headers.payload) as u32;
        let ip_checksum = match headers.network {
            Network::Ipv4 => r::TX_IXSM,
            _ => 0,
        };
        Ok(Work {
            context: Some(context),
            segments: Some(headers),
            command: whole.command | r::TX_TSE,
            options: payload << r::TX_PAYLEN_SHIFT | r::TX_TXSM | ip_checksum,
            ..whole
        })
    }

    /// Sets in the copy of a frame a checksum that is not left to the NIC, or if it is to be cut what the NIC wants there
    /// (7.2.4.2.1 and .2): no IP length, no IP checksum, and a pseudo-header sum without a length.
    pub fn patch(&self, frame: &Frame, mut write: impl FnMut(usize, [u8; 2])) {
        if let Some((field, checksum)) = self.checksum {
            write(field, checksum.to_be_bytes());
        }
        let Some(Headers { l3, l4, network, .. }) = self.segments else {
            return;
        };
        if network == Network::Ipv4 {
            write(l3 + 2, [0; 2]);
            write(l3 + 10, [0; 2]);
        } else {
            write(l3 + 4, [0; 2]);
        }
        let field = l4 + TCP_CHECKSUM;
        if let Some(sum) = frame.head().get(field..).and_then(|rest| rest.first_chunk()) {
            // What else is in it, such as the final destination of a routing header, stays.
            let len = (frame.len() - l4) as u16;
            let without = !checksum::update(!u16::from_be_bytes(*sum), len, 0);
            write(field, without.to_be_bytes());
        }
    }
}

const TCP_CHECKSUM: usize = 16;

/// A checksum in a tunnel, say, and where it goes.
fn own_checksum(frame: &Frame) -> Result<(usize, u16), Refusal> {
    let start = usize::from(frame.offload.csum_start);
    let field = start + usize::from(frame.offload.csum_offset);
    match field + 2 <= frame.head().len() {
        true => Ok((field, checksum_from(frame, start))),
        false => Err(Refusal::BadOffload),
    }
}

/// Where a checksum goes. Only that of the frame's own transport header: QEMU's model looks for no other.
fn context(frame: &Frame, headers: &Headers) -> Option<Context> {
    let is_own = usize::from(frame.offload.csum_start) == headers.l4;
    let (l2, l3) = (headers.l3, headers.l4 - headers.l3);
    if !is_own || headers.is_fragment || l2 > 127 || l3 > 511 {
        return None;
    }
    let transport = match headers.transport {
        Transport::Tcp => r::TX_CONTEXT_TCP,
        Transport::Udp => 0,
        _ => return None,
    };
    let network = match headers.network {
        Network::Ipv4 => r::TX_CONTEXT_IPV4,
        _ => 0,
    };
    Some(Context {
        lengths: (l2 as u32) << 9 | l3 as u32,
        kind: r::TX_DTYP_CONTEXT | r::TX_DEXT | network | transport,
        segments: 0,
    })
}

/// How long segments and their TCP headers are.
fn segments(frame: &Frame, headers: &Headers) -> Result<u32, Refusal> {
    let size = usize::from(frame.offload.gso_size);
    let is_tcp = matches!(frame.offload.gso_type, GsoType::TcpV4 | GsoType::TcpV6);
    let l4 = headers.payload - headers.l4;
    if !is_tcp || !headers.suit(frame.offload.gso_type) || size < SEGMENT_MIN || l4 > 255 {
        return Err(Refusal::BadOffload);
    }
    if headers.payload + size > WIRE_FRAME {
        return Err(Refusal::TooLong);
    }
    Ok((size as u32) << 16 | (l4 as u32) << 8)
}
