//! A transmit queue: frames are copied behind their headers to memory that the device sees (5.1.6.2).

use std::collections::VecDeque;

use super::driver::FRAME_MAX;
use super::ring::{DriverRing, SIZE_MAX};
use crate::Refusal;
use crate::nic::Transmit;
use crate::nic::vfio::{DmaMemory, FramePool, pieces_max};
use crate::packet::virtio_header::F_NEEDS_CSUM;
use crate::packet::{Frame, VirtioNetHeader, header_for};
use crate::ring::{DESC_F_NEXT, Descriptor};

/// Octets for frames that are on their way.
const POOL: usize = 512 << 10;
/// Memory of a queue's frames.
pub const MEMORY: usize = POOL;

/// A transmit queue. Descriptors are used in turn, like the pool, so both are given back in the order of sending.
#[derive(Debug)]
pub struct VirtioTransmit {
    ring: DriverRing,
    pool: FramePool,
    /// Counts descriptors: the next one, and the first one that is in use.
    next: usize,
    used: usize,
    /// Frames that the device has, in order.
    sent: VecDeque<Sent>,
    /// Chains that the device has used, by head: it need not do so in order.
    done: [bool; SIZE_MAX as usize],
    /// The longest frame that is not cut.
    wire_max: usize,
}

/// A frame that the device has.
#[derive(Debug, Clone, Copy)]
struct Sent {
    head: u16,
    /// The descriptor behind its last one, and its end in the pool.
    next: usize,
    end: usize,
}

impl VirtioTransmit {
    /// Sets a queue up.
    pub fn new(ring: DriverRing, memory: &mut DmaMemory, wire_max: usize) -> VirtioTransmit {
        VirtioTransmit {
            sent: VecDeque::with_capacity(usize::from(ring.size())),
            ring,
            pool: FramePool::new(memory.take(POOL)),
            next: 0,
            used: 0,
            done: [false; SIZE_MAX as usize],
            wire_max,
        }
    }

    fn has_descriptors(&self, len: usize) -> bool {
        self.next + pieces_max(len) - self.used <= usize::from(self.ring.size())
    }

    /// Takes back what the device has sent.
    fn reclaim(&mut self) {
        for _ in 0..self.ring.pending() {
            let (head, _) = self.ring.peek(0);
            self.done[usize::from(head)] = true;
            self.ring.take(1);
        }
        while let Some(Sent { head, next, end }) = self.sent.front().copied() {
            if !std::mem::take(&mut self.done[usize::from(head)]) {
                break;
            }
            self.used = next;
            self.pool.give_back(end);
            self.sent.pop_front();
        }
    }
}

impl Transmit for VirtioTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let mut header = header_for(&frame.offload, 0);
        // DATA_VALID is the device's word (5.1.6.2.1).
        header.flags &= F_NEEDS_CSUM;
        if frame.is_empty() || frame.len() > FRAME_MAX || header.gso_type == 0 && frame.len() > self.wire_max
        {
            return Err(Refusal::TooLong);
        }
        let len = VirtioNetHeader::LEN + frame.len();
        if !self.has_descriptors(len) || self.pool.find(len).is_none() {
            self.flush();
            self.reclaim();
        }
        let place = match self.pool.find(len) {
            Some(place) if self.has_descriptors(len) => place,
            _ => return Err(Refusal::Full),
        };
        self.pool.take(place);
        self.pool.copy(place, &header.emit(), frame);
        let size = usize::from(self.ring.size());
        let head = (self.next % size) as u16;
        let (mut left, mut next) = (len, self.next);
        for (address, piece) in self.pool.pieces(place) {
            left -= piece;
            let descriptor = Descriptor {
                address,
                len: piece as u32,
                flags: if left > 0 { DESC_F_NEXT } else { 0 },
                next: ((next + 1) % size) as u16,
            };
            self.ring.describe((next % size) as u16, &descriptor);
            next += 1;
        }
        self.next = next;
        self.sent.push_back(Sent {
            head,
            next,
            end: place.end,
        });
        self.ring.offer(head);
        Ok(())
    }

    fn flush(&mut self) {
        self.ring.publish();
    }
}
