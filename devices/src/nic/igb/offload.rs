//! What is left to the NIC to do on a frame that it sends, in its terms (82576 datasheet, 7.2.2 and 7.2.4).

use super::driver::WIRE_FRAME;
use super::registers as r;
use crate::Refusal;
use crate::packet::{Checksum, Frame, GsoType, Headers, Network, Transport};

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
        let command = r::TX_DTYP_DATA | r::TX_DEXT | r::TX_IFCS;
        if !frame.offload.needs_csum {
            return Ok(Work {
                context: None,
                segments: None,
                command,
                options: (frame.len() as u32) << r::TX_PAYLEN_SHIFT,
            });
        }
        let headers = Headers::parse(frame.head(), frame.len()).map_err(|_| Refusal::BadOffload)?;
        let mut context = context(frame, &headers)?;
        if frame.offload.gso_type == GsoType::None {
            return Ok(Work {
                context: Some(context),
                segments: None,
                command,
                options: (frame.len() as u32) << r::TX_PAYLEN_SHIFT | r::TX_TXSM,
            });
        }
        context.segments = segments(frame, &headers)?;
        let payload = (frame.len() - headers.payload) as u32;
        let ip_checksum = match headers.network {
            Network::Ipv4 => r::TX_IXSM,
            _ => 0,
        };
        Ok(Work {
            context: Some(context),
            segments: Some(headers),
            command: command | r::TX_TSE,
            options: payload << r::TX_PAYLEN_SHIFT | r::TX_TXSM | ip_checksum,
        })
    }

    /// Sets in the copy of a frame that is to be cut what the NIC wants there (7.2.4.2.1 and .2): no IP length, no IP
    /// checksum, and a pseudo-header sum without a length. Each value is as it lies in memory.
    pub fn patch(&self, frame: &Frame, mut write: impl FnMut(usize, u16)) {
        let Some(headers) = self.segments else {
            return;
        };
        let l3 = headers.l3;
        let sum = match headers.network {
            Network::Ipv4 => {
                write(l3 + 2, 0);
                write(l3 + 10, 0);
                let (source, destination) = addresses::<4>(frame, l3 + 12);
                Checksum::pseudo_header_v4(source, destination, TCP, 0)
            }
            _ => {
                write(l3 + 4, 0);
                let (source, destination) = addresses::<16>(frame, l3 + 8);
                Checksum::pseudo_header_v6(source, destination, TCP, 0)
            }
        };
        write(headers.l4 + TCP_CHECKSUM, sum.fold().to_be());
    }
}

const TCP: u8 = 6;
const TCP_CHECKSUM: usize = 16;

/// Source and destination of a packet; they are inside of the head, for its headers were parsed.
fn addresses<const N: usize>(frame: &Frame, at: usize) -> ([u8; N], [u8; N]) {
    let address = |at: usize| {
        let octets = frame.head().get(at..).and_then(|rest| rest.first_chunk::<N>());
        octets.copied().unwrap_or([0; N])
    };
    (address(at), address(at + N))
}

/// Where a checksum goes. Only that of the frame's own transport header: QEMU's model looks for no other.
fn context(frame: &Frame, headers: &Headers) -> Result<Context, Refusal> {
    let is_own = usize::from(frame.offload.csum_start) == headers.l4;
    let (l2, l3) = (headers.l3, headers.l4 - headers.l3);
    if !is_own || headers.is_fragment || l2 > 127 || l3 > 511 {
        return Err(Refusal::BadOffload);
    }
    let transport = match headers.transport {
        Transport::Tcp => r::TX_CONTEXT_TCP,
        Transport::Udp => 0,
        _ => return Err(Refusal::BadOffload),
    };
    let network = match headers.network {
        Network::Ipv4 => r::TX_CONTEXT_IPV4,
        _ => 0,
    };
    Ok(Context {
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
