//! Takes the frames of one direction, and checks them.

use super::error::LoadError;
use super::frame::{HEADER, TAG, TCP_CHECKSUM, Tag, Template};
use super::options::Verify;
use super::queue::{BURST, Queue};
use super::ring::{DriverRing, Used};

/// Where the total length is in a frame's IP header.
const IP_LENGTH: usize = 16;
/// Octets of a frame before what that length counts.
const ETHERNET: usize = 14;
/// Where a header says how many buffers a frame takes.
const NUM_BUFFERS: usize = 10;

/// What came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Frames.
    pub frames: u64,
    /// Their octets, without virtio-net headers.
    pub octets: u64,
    /// Frames that came after a later one of their flow.
    pub reordered: u64,
    /// Frames that are not what was sent.
    pub corrupt: u64,
}

/// The receiving end of one direction.
#[derive(Debug)]
pub struct Sink {
    /// What came so far.
    pub arrivals: Arrivals,
    /// What the first corrupt frame was.
    pub complaint: Option<String>,
    templates: Vec<Template>,
    shapes: usize,
    first_flow: u16,
    /// The next sequence number of each flow.
    expected: Vec<u64>,
    verify: Verify,
    mergeable: bool,
    unchecked: u64,
    received: Vec<u8>,
    frame: Vec<u8>,
}

impl Sink {
    /// Expects the flows from `first_flow` on, for each the templates of all shapes.
    pub fn new(
        templates: Vec<Template>,
        shapes: usize,
        first_flow: u16,
        verify: Verify,
        mergeable: bool,
    ) -> Sink {
        Sink {
            arrivals: Arrivals::default(),
            complaint: None,
            expected: vec![0; templates.len() / shapes],
            templates,
            shapes,
            first_flow,
            verify,
            mergeable,
            unchecked: verify.unchecked(),
            received: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// Takes one burst of a queue, and gives back the buffers of those before; `seen` gets the flow, counted from the first, and the
    /// sequence number of each frame. Gives how many buffers were taken.
    #[inline]
    pub fn turn<R: DriverRing>(
        &mut self,
        queue: &mut Queue<R>,
        mut seen: impl FnMut(usize, u64),
    ) -> Result<usize, LoadError> {
        let held = queue.held;
        let taken = queue.ring.take(&mut queue.taken[held..])?;
        if taken == 0 && held > 0 {
            return Err(LoadError::Torn);
        }
        let count = held + taken;
        if self.verify != Verify::None || self.mergeable {
            for used in &queue.taken[held..count] {
                queue.buffers.area.prefetch(queue.buffers.at(used.id));
            }
        }
        // Work to do while those lines come.
        queue.held = count;
        queue.refill()?;
        let mut at = 0;
        while at < count {
            let buffers = self.buffers(queue, queue.taken[at]);
            if buffers > count - at {
                if buffers > BURST {
                    return Err(LoadError::Buffers(buffers));
                }
                break;
            }
            self.frame(queue, at, buffers, &mut seen);
            at += buffers;
        }
        queue.taken.copy_within(at..count, 0);
        queue.held = count - at;
        Ok(taken)
    }

    /// Of how many buffers a frame is.
    #[inline]
    fn buffers<R>(&self, queue: &Queue<R>, first: Used) -> usize {
        if !self.mergeable {
            return 1;
        }
        let at = queue.buffers.at(first.id) + NUM_BUFFERS;
        // Zero is no number of buffers; what the frame is like is looked at below.
        usize::from(u16::from_le_bytes(queue.buffers.area.read(at))).max(1)
    }

    #[inline]
    fn frame<R>(&mut self, queue: &Queue<R>, at: usize, buffers: usize, seen: &mut impl FnMut(usize, u64)) {
        let used = &queue.taken[at..at + buffers];
        let len: usize = used.iter().map(|used| used.len as usize).sum();
        let len = len.saturating_sub(HEADER);
        self.arrivals.frames += 1;
        self.arrivals.octets += len as u64;
        if self.verify == Verify::None {
            return;
        }
        let start = queue.buffers.at(used[0].id);
        let area = &queue.buffers.area;
        let tag_at = self.templates[0].shape.tag_at();
        let tag = Tag(u64::from_ne_bytes(area.read(start + HEADER + tag_at)));
        let ip_len = usize::from(u16::from_be_bytes(area.read(start + HEADER + IP_LENGTH)));
        let flow = usize::from(tag.flow().wrapping_sub(self.first_flow));
        if flow >= self.expected.len() || len != ETHERNET + ip_len || len < tag_at + TAG {
            self.complain(|| format!("{len} octets in {buffers} buffers, IP length {ip_len}, {tag:x?}"));
            return;
        }
        let (sequence, expected) = (tag.sequence(), self.expected[flow]);
        if sequence < expected {
            self.arrivals.reordered += 1;
        } else {
            self.expected[flow] = sequence + 1;
        }
        if sequence & self.unchecked == 0 {
            self.check(queue, at, buffers, (flow, tag, len));
        }
        seen(flow, sequence);
    }

    /// Compares a whole frame with what was sent.
    #[cold]
    fn check<R>(
        &mut self,
        queue: &Queue<R>,
        at: usize,
        buffers: usize,
        (flow, tag, len): (usize, Tag, usize),
    ) {
        let used = &queue.taken[at..at + buffers];
        self.received.resize(HEADER + len, 0);
        let mut filled = 0;
        for used in used {
            let part = (used.len as usize).min(queue.buffers.len);
            let end = self.received.len().min(filled + part);
            let into = &mut self.received[filled..end];
            queue.buffers.area.read_into(queue.buffers.at(used.id), into);
            filled = end;
        }
        let of_flow = &self.templates[self.shapes * flow..][..self.shapes];
        let Some(template) = of_flow.iter().find(|it| it.shape.len == len) else {
            return self.complain(|| format!("{len} octets: nothing like that was sent ({tag:x?})"));
        };
        template.whole(tag, &mut self.frame);
        let (header, frame) = self.received.split_at(HEADER);
        if let Some(checksum) = frame.get(TCP_CHECKSUM..TCP_CHECKSUM + 2) {
            let checksum = [checksum[0], checksum[1]];
            template.adapt_checksum(header[0], checksum, &mut self.frame);
        }
        if filled != self.received.len() || !template.may_come_with(header) || frame != self.frame {
            let first = frame.iter().zip(&self.frame).position(|(a, b)| a != b);
            let text = format!("{tag:x?} of {len} octets: header {header:02x?}, first difference {first:?}");
            self.complain(|| text);
        }
    }

    fn complain(&mut self, complaint: impl FnOnce() -> String) {
        self.arrivals.corrupt += 1;
        self.complaint.get_or_insert_with(complaint);
    }
}

#[cfg(test)]
mod tests;
