//! A receive queue: each descriptor has a buffer of its own for good.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vmm_sys_util::eventfd::EventFd;

use super::driver::Adapter;
use super::interrupts;
use super::registers as r;
use crate::nic::vfio::DmaMemory;
use crate::nic::{Arrival, Arrivals, Receive};
use crate::packet::virtio_header::F_DATA_VALID;

/// Descriptors of a ring.
pub const RING: usize = 512;
/// Octets of a buffer; a longer frame takes up several.
const BUFFER: usize = 2048;
/// Memory that a queue takes.
pub const MEMORY: usize = RING * (r::DESCRIPTOR + BUFFER);
/// The most buffers that a frame takes up.
const PIECES: usize = super::driver::WIRE_FRAME.div_ceil(BUFFER);

/// A receive queue.
#[derive(Debug)]
pub struct IgbReceive {
    adapter: Arc<Adapter>,
    queue: usize,
    ring: DmaMemory,
    buffers: DmaMemory,
    /// Counts descriptors: the next one that the NIC writes back, and the first one that it has not been given again.
    next: usize,
    released: usize,
    wake: EventFd,
}

/// A descriptor that the NIC wrote back (82576 datasheet, 7.1.5.2).
#[derive(Clone, Copy)]
struct WrittenBack(u64);

impl WrittenBack {
    fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Octets in its buffer, however many the NIC claims.
    fn len(self) -> usize {
        ((self.0 >> 32) as u16 as usize).min(BUFFER)
    }
}

impl IgbReceive {
    /// Sets a queue up. It gets its descriptors when it is enabled.
    pub fn new(adapter: &Arc<Adapter>, queue: usize, memory: &mut DmaMemory, wake: EventFd) -> IgbReceive {
        let receive = IgbReceive {
            adapter: Arc::clone(adapter),
            queue,
            ring: memory.take(RING * r::DESCRIPTOR),
            buffers: memory.take(RING * BUFFER),
            next: 0,
            released: 0,
            wake,
        };
        for index in 0..RING {
            receive.give(index);
        }
        let iova = receive.ring.iova(0);
        let set = |register, value: u32| adapter.registers.write(r::of_queue(register, queue), value);
        set(r::RDBAL, iova as u32);
        set(r::RDBAH, (iova >> 32) as u32);
        set(r::RDLEN, (RING * r::DESCRIPTOR) as u32);
        // One queue that is not emptied must not hold up the others (8.10.2).
        let buffers = (BUFFER >> 10) as u32;
        set(
            r::SRRCTL,
            buffers | r::SRRCTL_ADVANCED_ONE_BUFFER | r::SRRCTL_DROP_EN,
        );
        set(r::RDH, 0);
        set(r::RDT, 0);
        // Fetch eight descriptors at a time when eight are there; write back at once (8.10.10).
        set(r::RXDCTL, r::QUEUE_ENABLE | 1 << 16 | 8 << 8 | 8);
        receive
    }

    /// Writes a descriptor for the NIC.
    fn give(&self, index: usize) {
        self.ring
            .write(index * r::DESCRIPTOR, self.buffers.iova(index * BUFFER));
        self.ring.write(index * r::DESCRIPTOR + 8, 0u64);
    }

    /// A descriptor that the NIC has written back. Not one that it does not have: its old octets are still there.
    fn written_back(&self, count: usize) -> Option<WrittenBack> {
        if count - self.released >= RING - 1 {
            return None;
        }
        let descriptor = WrittenBack(self.ring.read((count % RING) * r::DESCRIPTOR + 8));
        descriptor.has(r::RX_DD).then_some(descriptor)
    }

    /// Puts the buffers of the next frame into `arrival`. Says how many there are and whether the frame is of use; None if
    /// it has not arrived as a whole.
    fn collect(&self, arrival: &mut Arrival) -> Option<(usize, bool)> {
        let mut is_whole = true;
        for count in 0.. {
            let descriptor = self.written_back(self.next + count)?;
            if count == 0 {
                // What the NIC wrote before it wrote the descriptor is seen from here on.
                fence(Ordering::Acquire);
            }
            let len = descriptor.len();
            if len > 0 && count < PIECES {
                let buffer = (self.next + count) % RING;
                arrival.slices.push(self.buffers.slice(buffer * BUFFER, len));
            }
            is_whole &= count < PIECES;
            if descriptor.has(r::RX_EOP) {
                let valid = descriptor.has(r::RX_L4I) && !descriptor.has(r::RX_L4E | r::RX_IPE);
                arrival.header.flags = if valid { F_DATA_VALID } else { 0 };
                let is_good = is_whole && !descriptor.has(r::RX_RXE) && !arrival.slices.is_empty();
                return Some((count + 1, is_good));
            }
        }
        None
    }
}

impl Receive for IgbReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        while let Some(arrival) = arrivals.next() {
            let collected = self.collect(arrival);
            if !matches!(collected, Some((_, true))) {
                arrivals.cancel();
            }
            match collected {
                Some((descriptors, _)) => self.next += descriptors,
                None => return,
            }
        }
    }

    fn release(&mut self) {
        if self.released == self.next {
            return;
        }
        for count in self.released..self.next {
            self.give(count % RING);
        }
        self.released = self.next;
        // One stays empty: a full ring would look like an empty one (7.1.8).
        fence(Ordering::Release);
        let tail = (self.next + RING - 1) % RING;
        self.adapter
            .registers
            .write(r::of_queue(r::RDT, self.queue), tail as u32);
    }

    fn arm(&mut self) -> bool {
        // The cause is not cleared before: that could cross a frame that arrives now, and nobody would be woken for it. A
        // wake for what was already taken is the price.
        interrupts::arm(&self.adapter.registers, self.queue);
        self.written_back(self.next).is_none()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.wake.as_raw_fd())
    }
}
