//! One message of the protocol, and how its payload is read.

use std::fs::File;

use devices::memory::{MemoryError, RegionSpec};
use devices::ring::RingError;
use vhost::vhost_user::message::FrontendReq;

/// Octets of a message header.
pub const HEADER_LEN: usize = 12;
/// The longest payload that is accepted.
pub const MAX_PAYLOAD: usize = 4096;
/// The most descriptors that one message may carry.
pub const MAX_FDS: usize = 32;

const INFLIGHT_LEN: usize = 20;
const INFLIGHT_PADDED_LEN: usize = 24;
const VERSION_MASK: u32 = 0x3;
const VERSION: u32 = 0x1;
const REPLY: u32 = 0x4;
const NEED_REPLY: u32 = 0x8;

/// A request of the front end's.
#[derive(Debug)]
pub struct Message {
    /// What is asked.
    pub request: FrontendReq,
    /// Whether the front end wants an answer to a request that has none of its own (REPLY_ACK).
    pub need_reply: bool,
    /// Payload as sent.
    pub payload: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<File>,
}

/// What is sent back.
#[derive(Debug)]
pub struct Reply {
    /// The whole message.
    pub octets: Vec<u8>,
    /// The descriptor that goes with it.
    pub fd: Option<File>,
}

/// What a front end did that it may not do, or that could not be done for it.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// Not version 1, or a reply.
    #[error("message with flags {0:#x}, which is not a version 1 request")]
    BadFlags(u32),
    /// A request that this back end does not know, or did not offer.
    #[error("unsupported request {0}")]
    Unsupported(u32),
    /// Longer than [`MAX_PAYLOAD`].
    #[error("a payload of {0} octets")]
    TooLong(u32),
    /// Payload of the wrong length for the request.
    #[error("{request:?} with a payload of {len} octets")]
    BadLength {
        /// The request.
        request: FrontendReq,
        /// The payload's length.
        len: usize,
    },
    /// Too few or too many descriptors.
    #[error("{request:?} with {count} file descriptors")]
    BadFds {
        /// The request.
        request: FrontendReq,
        /// How many came.
        count: usize,
    },
    /// A ring that the device does not have.
    #[error("{request:?} for ring {index}, but the device has {rings}; attach it with more queues")]
    BadRing {
        /// The request.
        request: FrontendReq,
        /// The ring asked for.
        index: u32,
        /// Rings of the device.
        rings: usize,
    },
    /// A value out of its range.
    #[error("{request:?} with the value {value:#x}, which is out of range")]
    BadValue {
        /// The request.
        request: FrontendReq,
        /// The value.
        value: u64,
    },
    /// Features that were not offered.
    #[error("{request:?} takes the features {extra:#x}, which were not offered")]
    NotOffered {
        /// The request.
        request: FrontendReq,
        /// The surplus bits.
        extra: u64,
    },
    /// The format of rings that run would change.
    #[error("SET_FEATURES changes VIRTIO_F_RING_PACKED while rings run; stop them first")]
    FormatChange,
    /// The guest's memory cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A ring cannot be used.
    #[error("ring {index}: {error}")]
    Ring {
        /// Which ring.
        index: usize,
        /// What is wrong with it.
        error: RingError,
    },
    /// A descriptor cannot be used.
    #[error("{request:?}: {error}")]
    Descriptor {
        /// The request.
        request: FrontendReq,
        /// What is wrong with it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Violation {
    /// Whether the stream can still be trusted, so that a refusal may be answered instead of hanging up.
    pub fn is_answerable(&self) -> bool {
        !matches!(
            self,
            Violation::BadFlags(_)
                | Violation::Unsupported(_)
                | Violation::TooLong(_)
                | Violation::BadLength { .. }
        )
    }
}

impl Message {
    /// Reads a header: the request, whether it wants a reply, and the payload's length. // U1
    pub fn parse_header(header: &[u8; HEADER_LEN]) -> Result<(FrontendReq, bool, usize), Violation> {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (code, flags, len) = (word(0), word(4), word(8));
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(Violation::BadFlags(flags));
        }
        let request = FrontendReq::try_from(code).map_err(|_| Violation::Unsupported(code))?;
        if len as usize > MAX_PAYLOAD {
            return Err(Violation::TooLong(len));
        }
        Ok((request, flags & NEED_REPLY != 0, len as usize))
    }

    /// Whether an acknowledgement would be taken for the answer that was asked for: such a request cannot be refused.
    pub fn has_own_answer(&self) -> bool {
        matches!(
            self.request,
            FrontendReq::GET_VRING_BASE
                | FrontendReq::GET_CONFIG
                | FrontendReq::SET_LOG_BASE
                | FrontendReq::GET_INFLIGHT_FD
        )
    }

    /// A reply to this message. DPDK's front end insists on these very flags.
    pub fn reply(&self, payload: &[u8]) -> Reply {
        Reply {
            octets: frame(self.request as u32, VERSION | REPLY, payload),
            fd: None,
        }
    }

    /// The payload as one u64.
    pub fn u64(&self) -> Result<u64, Violation> {
        self.exact::<8>().map(|octets| u64::from_ne_bytes(*octets))
    }

    /// The payload as a ring index and a number (vhost-user: vring state description).
    pub fn vring_state(&self) -> Result<(u32, u32), Violation> {
        let octets = self.exact::<8>()?;
        Ok((word(octets, 0), word(octets, 4)))
    }

    /// The payload as a ring's addresses: index, flags, descriptor table, used ring, available ring, log.
    pub fn vring_addr(&self) -> Result<VringAddr, Violation> {
        let octets = self.exact::<40>()?;
        Ok(VringAddr {
            index: word(octets, 0),
            log: word(octets, 4) & 1 != 0,
            desc: long(octets, 8),
            used: long(octets, 16),
            avail: long(octets, 24),
            log_guest: long(octets, 32),
        })
    }

    /// The payload as a memory table.
    pub fn regions(&self) -> Result<Vec<RegionSpec>, Violation> {
        let bad = Violation::BadLength {
            request: self.request,
            len: self.payload.len(),
        };
        let Some((header, rest)) = self.payload.split_first_chunk::<8>() else {
            return Err(bad);
        };
        let count = word(header, 0) as usize;
        if rest.len() != count.saturating_mul(32) {
            return Err(bad);
        }
        Ok(rest
            .as_chunks::<32>()
            .0
            .iter()
            .map(|octets| region(octets))
            .collect())
    }

    /// The payload as a single memory region.
    pub fn single_region(&self) -> Result<RegionSpec, Violation> {
        let octets = self.exact::<40>()?;
        Ok(region(&octets[8..]))
    }

    /// The payload as a log's length and offset.
    pub fn log(&self) -> Result<(u64, u64), Violation> {
        let octets = self.exact::<16>()?;
        Ok((long(octets, 0), long(octets, 8)))
    }

    /// The payload as the description of an inflight buffer. Who writes C sends the structure with the padding at its
    /// end.
    pub fn inflight(&self) -> Result<InflightSpec, Violation> {
        match (self.payload.first_chunk::<INFLIGHT_LEN>(), self.payload.len()) {
            (Some(octets), INFLIGHT_LEN | INFLIGHT_PADDED_LEN) => Ok(InflightSpec {
                size: long(octets, 0),
                offset: long(octets, 8),
                queues: word(octets, 16) as u16,
                queue_size: (word(octets, 16) >> 16) as u16,
            }),
            _ => Err(Violation::BadLength {
                request: self.request,
                len: self.payload.len(),
            }),
        }
    }

    /// The payload as an access to the configuration space: offset, flags, octets.
    pub fn config(&self) -> Result<(u32, u32, &[u8]), Violation> {
        let bad = Violation::BadLength {
            request: self.request,
            len: self.payload.len(),
        };
        let Some((header, rest)) = self.payload.split_first_chunk::<12>() else {
            return Err(bad);
        };
        if word(header, 4) as usize != rest.len() {
            return Err(bad);
        }
        Ok((word(header, 0), word(header, 8), rest))
    }

    /// The only descriptor.
    pub fn one_fd(&mut self) -> Result<File, Violation> {
        let count = self.fds.len();
        let fd = self.fds.pop().filter(|_| count == 1);
        fd.ok_or(Violation::BadFds {
            request: self.request,
            count,
        })
    }

    fn exact<const N: usize>(&self) -> Result<&[u8; N], Violation> {
        let bad = Violation::BadLength {
            request: self.request,
            len: self.payload.len(),
        };
        self.payload.as_slice().try_into().map_err(|_| bad)
    }
}

/// A ring's addresses in the front end's process.
#[derive(Debug, Clone, Copy, Default)]
pub struct VringAddr {
    /// Which ring.
    pub index: u32,
    /// Whether writes to the used ring are logged.
    pub log: bool,
    /// Descriptor table.
    pub desc: u64,
    /// Used ring.
    pub used: u64,
    /// Available ring.
    pub avail: u64,
    /// Guest address of the used ring.
    pub log_guest: u64,
}

/// An inflight buffer (vhost-user: inflight description).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InflightSpec {
    /// Octets of the buffer.
    pub size: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Number of queues.
    pub queues: u16,
    /// Number of descriptors of the largest.
    pub queue_size: u16,
}

impl InflightSpec {
    /// As it is sent, filled up to `len` octets.
    pub fn payload(&self, len: usize) -> Vec<u8> {
        let mut octets = [self.size.to_ne_bytes(), self.offset.to_ne_bytes()].concat();
        octets.extend_from_slice(&self.queues.to_ne_bytes());
        octets.extend_from_slice(&self.queue_size.to_ne_bytes());
        octets.resize(len, 0);
        octets
    }
}

/// A request of the back end's, without payload.
pub fn backend_request(code: u32) -> Vec<u8> {
    frame(code, VERSION, &[])
}

fn frame(code: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(HEADER_LEN + payload.len());
    for word in [code, flags, payload.len() as u32] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(payload);
    octets
}

fn region(octets: &[u8]) -> RegionSpec {
    RegionSpec {
        guest: long(octets, 0),
        size: long(octets, 8),
        user: long(octets, 16),
        file_offset: long(octets, 24),
    }
}

/// The caller has checked the length.
fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

fn long(octets: &[u8], at: usize) -> u64 {
    u64::from(word(octets, at)) | u64::from(word(octets, at + 4)) << 32
}
