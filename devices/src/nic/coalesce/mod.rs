//! Receive coalescing in software: segments of a TCP flow that came in one burst become one frame, as a sender would have
//! left it to its NIC to cut (Linux: `tcp_gro_receive`).

mod packet;
#[cfg(test)]
mod tests;

use super::arrival::{Arrival, Arrivals, BURST};
use crate::packet::{Frame, HeaderError};
use packet::{Packet, Summary};

/// Flows that are put together at the same time; with more, the oldest frame goes out (Linux: `MAX_GRO_SKBS`).
const FLOWS: usize = 8;
/// Pieces that a frame has room for without an allocation.
const PIECES_MAX: usize = 64;

/// Lends the frames of bursts, one after the other, coalesced if it is to.
///
/// Frames of one flow keep their order, and the segments that a coalesced frame stands for are those that came, octet for
/// octet. What cannot be coalesced is lent as it came, at once. Nothing is kept beyond a burst.
#[derive(Debug)]
pub struct Coalescer {
    enabled: bool,
    /// The arrival that is looked at next.
    index: usize,
    /// By their age.
    chains: Vec<Chain>,
    /// The arrival behind each in its chain.
    following: [u8; BURST],
    malformed: u64,
}

/// Segments that follow each other.
#[derive(Debug, Clone, Copy)]
struct Chain {
    first: usize,
    last: usize,
    pieces: usize,
    /// Whether the first one's checksum is known to be right.
    verified: bool,
    summary: Summary,
}

/// What is to be done with an arrival.
enum Place {
    /// It goes alone.
    Alone,
    /// It waits for others, in a chain.
    Kept,
    /// It waits until this chain has gone.
    Behind(usize),
    /// It is the last one of this chain, which goes.
    Last(usize),
}

impl Coalescer {
    /// One that coalesces, or one that lends each frame as it came.
    pub fn new(enabled: bool) -> Coalescer {
        Coalescer {
            enabled,
            index: 0,
            chains: Vec::with_capacity(FLOWS),
            following: [0; BURST],
            malformed: 0,
        }
    }

    /// Makes `frame` the next one of a burst; false if there is none. The frame lies where the arrivals lie, so it must be
    /// gone before these are released. To be called with the same burst until there is none.
    pub fn next(&mut self, arrivals: &Arrivals, frame: &mut Frame) -> bool {
        let arrivals = arrivals.frames();
        while let Some(arrival) = arrivals.get(self.index) {
            let chain = match self.place(arrivals, arrival) {
                Place::Alone => {
                    self.index += 1;
                    if self.lend_alone(arrival, frame) {
                        return true;
                    }
                    continue;
                }
                Place::Kept => {
                    self.index += 1;
                    continue;
                }
                Place::Behind(chain) => chain,
                Place::Last(chain) => {
                    self.index += 1;
                    chain
                }
            };
            if self.lend(chain, arrivals, frame) {
                return true;
            }
        }
        while !self.chains.is_empty() {
            if self.lend(0, arrivals, frame) {
                return true;
            }
        }
        self.index = 0;
        false
    }

    /// Frames left out since this was asked before, because what the NIC said of them made no sense.
    pub fn malformed(&mut self) -> u64 {
        std::mem::take(&mut self.malformed)
    }

    fn place(&mut self, arrivals: &[Arrival], arrival: &Arrival) -> Place {
        if !self.enabled {
            return Place::Alone;
        }
        let packet = match Packet::of(arrival) {
            Ok(Some(packet)) => packet,
            // Its flow is not known, so it passes none.
            Err(HeaderError::NeedMore(_)) if !self.chains.is_empty() => return Place::Behind(0),
            Ok(None) | Err(_) => return Place::Alone,
        };
        let found = self.chains.iter_mut().enumerate().find_map(|(position, chain)| {
            let first = Packet::first_of(arrivals.get(chain.first)?, &chain.summary)?;
            packet.is_of_flow(&first).then_some((position, chain, first))
        });
        if let Some((position, chain, first)) = found {
            return match chain.append(self.index, &packet, &first, &mut self.following) {
                false => Place::Behind(position),
                true if chain.summary.is_complete() => Place::Last(position),
                true => Place::Kept,
            };
        }
        let Some(summary) = packet.begin() else {
            return Place::Alone;
        };
        if self.chains.len() == FLOWS {
            return Place::Behind(0);
        }
        self.chains.push(Chain {
            first: self.index,
            last: self.index,
            pieces: arrival.slices.len(),
            verified: false,
            summary,
        });
        Place::Kept
    }

    fn lend_alone(&mut self, arrival: &Arrival, frame: &mut Frame) -> bool {
        let filled = arrival.fill(frame);
        self.malformed += u64::from(!filled);
        filled
    }

    fn lend(&mut self, position: usize, arrivals: &[Arrival], frame: &mut Frame) -> bool {
        let chain = self.chains.remove(position);
        let Some(first) = arrivals.get(chain.first) else {
            return false;
        };
        if !self.lend_alone(first, frame) || frame.head().len() < chain.summary.header_len() {
            return false;
        }
        if chain.first == chain.last {
            return true;
        }
        let mut index = chain.first;
        while index != chain.last {
            index = usize::from(self.following[index]);
            if let Some(arrival) = arrivals.get(index) {
                push_payload(frame, arrival, chain.summary.header_len());
            }
        }
        chain.summary.describe(frame);
        true
    }
}

impl Chain {
    /// Adds the arrival with this index if it follows. The checksums of two are looked at only when they are to be joined.
    fn append(&mut self, index: usize, packet: &Packet, first: &Packet, following: &mut [u8; BURST]) -> bool {
        let Some(summary) = self.summary.with(packet, first) else {
            return false;
        };
        let pieces = self.pieces + packet.pieces();
        if pieces > PIECES_MAX || !(self.verified || first.is_verified()) {
            return false;
        }
        self.verified = true;
        if !packet.is_verified() {
            return false;
        }
        following[self.last] = index as u8;
        (self.last, self.pieces, self.summary) = (index, pieces, summary);
        true
    }
}

/// Appends what is behind the headers.
fn push_payload(frame: &mut Frame, arrival: &Arrival, mut header_len: usize) {
    for slice in &arrival.slices {
        let skipped = header_len.min(slice.len);
        header_len -= skipped;
        let mut rest = *slice;
        rest.ptr = rest.ptr.wrapping_add(skipped);
        rest.len -= skipped;
        // SAFETY: the piece stays mapped until the queue is released, which the caller does after the frame is gone.
        unsafe { frame.push_slice(rest) };
    }
}
