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
    /// Whether a frame that was too long goes on.
    skipping: bool,
    /// Whether the vector may fire.
    armed: bool,
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
            skipping: false,
            armed: false,
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

    /// How many descriptors the next frame takes up, and the last of them; None if it has not arrived as a whole. A frame
    /// that is too long has no end here.
    fn next_frame(&self) -> Option<(usize, WrittenBack)> {
        let most = if self.skipping { 1 } else { PIECES };
        for count in 1..=most {
            let descriptor = self.written_back(self.next + count - 1)?;
            if descriptor.has(r::RX_EOP) || count == most {
                // What the NIC wrote before it wrote the descriptors is seen from here on.
                fence(Ordering::Acquire);
                return Some((count, descriptor));
            }
        }
        None
    }

    /// Puts the next descriptors' buffers into `arrival`. False if that is no frame of use.
    fn collect(&self, arrival: &mut Arrival, descriptors: usize, last: WrittenBack) -> bool {
        if self.skipping || !last.has(r::RX_EOP) || last.has(r::RX_RXE) {
            return false;
        }
        for count in self.next..self.next + descriptors {
            let len = self.written_back(count).map_or(0, WrittenBack::len);
            if len > 0 {
                arrival
                    .slices
                    .push(self.buffers.slice(count % RING * BUFFER, len));
            }
        }
        let is_valid = last.has(r::RX_L4I) && !last.has(r::RX_L4E | r::RX_IPE);
        arrival.header.flags = if is_valid { F_DATA_VALID } else { 0 };
        !arrival.slices.is_empty()
    }
}

impl Receive for IgbReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        if self.armed {
            self.armed = false;
            interrupts::disarm(&self.adapter.registers, self.queue);
        }
        while let Some(arrival) = arrivals.add() {
            let Some((descriptors, last)) = self.next_frame() else {
                arrivals.remove_last();
                return;
            };
            if !self.collect(arrival, descriptors, last) {
                arrivals.remove_last();
            }
            self.next += descriptors;
            self.skipping = !last.has(r::RX_EOP);
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
        interrupts::arm(&self.adapter.registers, self.queue);
        self.armed = true;
        self.next_frame().is_none()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.wake.as_raw_fd())
    }
}
