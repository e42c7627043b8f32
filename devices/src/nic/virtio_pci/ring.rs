//! A split virtqueue from the driver's side (virtio 1.3, 2.7). What the device writes is checked before it is believed.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::driver::Adapter;
use crate::nic::NicError;
use crate::nic::vfio::DmaMemory;
use crate::ring::Descriptor;

/// Flags of rings (2.7.6, 2.7.8).
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// Entries of a ring, at most.
pub const SIZE_MAX: u16 = 256;
/// Memory that a ring takes: descriptors, available ring, used ring, each on pages of its own.
pub const MEMORY: usize = 3 * 4096;

/// Where the device finds the parts of a ring.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub avail: u64,
    /// The used ring.
    pub used: u64,
}

/// A ring that the driver fills.
#[derive(Debug)]
pub struct DriverRing {
    adapter: Arc<Adapter>,
    queue: u16,
    notify_at: usize,
    size: u16,
    descriptors: DmaMemory,
    avail: DmaMemory,
    used: DmaMemory,
    /// What is published, and what will be; the used index up to which entries were taken.
    published: u16,
    next_avail: u16,
    next_used: u16,
    /// Flags of the available ring as they were last written.
    quiet: bool,
}

impl DriverRing {
    /// Makes a ring and starts the queue, whose interrupts fire a vector, if they are asked for at all.
    pub fn start(
        adapter: &Arc<Adapter>,
        queue: u16,
        vector: u16,
        memory: &mut DmaMemory,
    ) -> Result<DriverRing, NicError> {
        let transport = &adapter.transport;
        let size = power_of_two(transport.queue_size(queue).min(SIZE_MAX));
        if size == 0 {
            let hint = "it has fewer queues than it says";
            return Err(NicError::new(
                format!("start queue {queue} of"),
                transport.name(),
                libc::ENXIO,
                hint,
            ));
        }
        let mut ring = DriverRing::new(adapter, queue, size, memory);
        ring.silence();
        let addresses = Addresses {
            descriptors: ring.descriptors.iova(0),
            avail: ring.avail.iova(0),
            used: ring.used.iova(0),
        };
        ring.notify_at = transport.start_queue(queue, size, &addresses, vector)?;
        Ok(ring)
    }

    /// A ring that no device knows of.
    pub fn new(adapter: &Arc<Adapter>, queue: u16, size: u16, memory: &mut DmaMemory) -> DriverRing {
        DriverRing {
            adapter: Arc::clone(adapter),
            queue,
            notify_at: 0,
            size,
            descriptors: memory.take(4096),
            avail: memory.take(4096),
            used: memory.take(4096),
            published: 0,
            next_avail: 0,
            next_used: 0,
            quiet: false,
        }
    }

    /// How many entries it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Writes a descriptor.
    pub fn describe(&self, index: u16, descriptor: &Descriptor) {
        let at = usize::from(index % self.size) * 16;
        let Descriptor {
            address,
            len,
            flags,
            next,
        } = *descriptor;
        self.descriptors.write(at, address.to_le());
        let rest = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.descriptors.write(at + 8, rest.to_le());
    }

    /// Makes a chain available with the next [`DriverRing::publish`].
    pub fn offer(&mut self, head: u16) {
        let slot = usize::from(self.next_avail % self.size);
        self.avail.write(4 + 2 * slot, head.to_le());
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Shows the device all chains that were offered, and wakes it if it wants that (2.7.13).
    pub fn publish(&mut self) {
        if self.next_avail == self.published {
            return;
        }
        self.published = self.next_avail;
        fence(Ordering::Release);
        self.avail.write(2, self.next_avail.to_le());
        // The index is seen before the flags are read: else the device could go to sleep in between.
        fence(Ordering::SeqCst);
        if u16::from_le(self.used.read::<u16>(0)) & USED_NO_NOTIFY == 0 {
            self.adapter.transport.notify(self.notify_at, self.queue);
        }
    }

    /// How many entries of the used ring were not taken.
    pub fn pending(&self) -> u16 {
        let used = u16::from_le(self.used.read(2));
        fence(Ordering::Acquire);
        // More than the ring has, a device cannot have used.
        used.wrapping_sub(self.next_used).min(self.size)
    }

    /// An entry of the used ring, counted from the first one that was not taken: a head, below the ring's size, and a length.
    pub fn peek(&self, index: u16) -> (u16, u32) {
        let slot = usize::from(self.next_used.wrapping_add(index) % self.size);
        let head = u32::from_le(self.used.read(4 + 8 * slot));
        let len = u32::from_le(self.used.read(8 + 8 * slot));
        ((head as u16) % self.size, len)
    }

    /// Takes entries of the used ring.
    pub fn take(&mut self, count: u16) {
        self.next_used = self.next_used.wrapping_add(count);
    }

    /// Asks for no interrupts.
    pub fn silence(&mut self) {
        if !self.quiet {
            self.avail.write(0, AVAIL_NO_INTERRUPT.to_le());
            self.quiet = true;
        }
    }

    /// Asks for an interrupt. Look at what is pending once more afterwards: that fires none.
    pub fn arm(&mut self) {
        if self.quiet {
            self.avail.write(0, 0u16);
            self.quiet = false;
        }
        // The flags are seen before the index is read: else an entry in between would be for nobody (2.7.7.1).
        fence(Ordering::SeqCst);
    }
}

/// The largest power of two up to a number; 0 of 0.
fn power_of_two(number: u16) -> u16 {
    match number {
        0 => 0,
        _ => 1 << number.ilog2(),
    }
}
