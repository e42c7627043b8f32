//! A receive queue: each descriptor is a buffer of its own for good, and a frame may take up several (5.1.6.3.2, MRG_RXBUF).

use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::eventfd::EventFd;

use super::ring::{DriverRing, SIZE_MAX};
use crate::nic::vfio::DmaMemory;
use crate::nic::{Arrival, Arrivals, Receive};
use crate::packet::VirtioNetHeader;
use crate::ring::{DESC_F_WRITE, Descriptor};

/// Octets of a buffer: a page, so that it is one run behind an IOMMU as well.
pub const BUFFER: usize = 4096;
/// Memory of a queue's buffers.
pub const MEMORY: usize = SIZE_MAX as usize * BUFFER;
/// The most buffers that a frame of 64 KiB takes up, with its header.
const PIECES: u16 = 18;

/// A receive queue.
#[derive(Debug)]
pub struct VirtioReceive {
    ring: DriverRing,
    buffers: DmaMemory,
    /// Buffers that were taken and not offered again.
    taken: Vec<u16>,
    /// Whether a frame may take up several buffers.
    mergeable: bool,
    wake: EventFd,
}

impl VirtioReceive {
    /// Fills the ring with buffers, which the device sees at the first release.
    pub fn new(
        mut ring: DriverRing,
        memory: &mut DmaMemory,
        mergeable: bool,
        wake: EventFd,
    ) -> VirtioReceive {
        let buffers = memory.take(MEMORY);
        for index in 0..ring.size() {
            ring.describe(
                index,
                &Descriptor {
                    address: buffers.iova(usize::from(index) * BUFFER),
                    len: BUFFER as u32,
                    flags: DESC_F_WRITE,
                    next: 0,
                },
            );
            ring.offer(index);
        }
        VirtioReceive {
            taken: Vec::with_capacity(usize::from(ring.size())),
            ring,
            buffers,
            mergeable,
            wake,
        }
    }

    /// Shows the device its first buffers, once it runs.
    pub fn start(&mut self) {
        self.ring.publish();
    }

    fn header(&self, buffer: u16) -> VirtioNetHeader {
        let at = usize::from(buffer) * BUFFER;
        let words: [u32; 3] = std::array::from_fn(|word| self.buffers.read(at + 4 * word));
        VirtioNetHeader::parse(&std::array::from_fn(|octet| {
            words[octet / 4].to_ne_bytes()[octet % 4]
        }))
    }

    /// How many buffers the next frame takes up, and its header; None if it has not arrived as a whole.
    fn next_frame(&self, pending: u16) -> Option<(u16, VirtioNetHeader)> {
        if pending == 0 {
            return None;
        }
        let header = self.header(self.ring.peek(0).0);
        let count = match self.mergeable {
            // More than the ring has will never be there, so there is nothing to wait for.
            true if header.num_buffers <= self.ring.size() => header.num_buffers.max(1),
            _ => 1,
        };
        (count <= pending).then_some((count, header))
    }

    /// Puts the next frame's buffers into `arrival`. False if that is no frame of use.
    fn collect(&self, arrival: &mut Arrival, count: u16, header: VirtioNetHeader) -> bool {
        if count > PIECES || self.mergeable && header.num_buffers > count {
            return false;
        }
        arrival.header = header;
        for index in 0..count {
            let (buffer, len) = self.ring.peek(index);
            let header = if index == 0 { VirtioNetHeader::LEN } else { 0 };
            let len = (len as usize).min(BUFFER);
            if len > header {
                let at = usize::from(buffer) * BUFFER;
                arrival.slices.push(self.buffers.slice(at + header, len - header));
            }
        }
        !arrival.slices.is_empty()
    }
}

impl Receive for VirtioReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        let mut pending = self.ring.pending();
        if pending > 0 {
            self.ring.silence();
        }
        while let Some(arrival) = arrivals.add() {
            let Some((count, header)) = self.next_frame(pending) else {
                arrivals.remove_last();
                return;
            };
            if !self.collect(arrival, count, header) {
                arrivals.remove_last();
            }
            for index in 0..count {
                let (buffer, _) = self.ring.peek(index);
                // A device that uses buffers that it does not have gets none back for that.
                if self.taken.len() < self.taken.capacity() {
                    self.taken.push(buffer);
                }
            }
            self.ring.take(count);
            pending -= count;
        }
    }

    fn release(&mut self) {
        for buffer in &self.taken {
            self.ring.offer(*buffer);
        }
        self.taken.clear();
        self.ring.publish();
    }

    fn arm(&mut self) -> bool {
        self.ring.arm();
        self.next_frame(self.ring.pending()).is_none()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.wake.as_raw_fd())
    }
}
