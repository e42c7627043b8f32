//! A transmit queue: frames are copied to memory that the NIC sees, and described in its ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::driver::{Adapter, WIRE_FRAME};
use super::offload::{Context, Work};
use super::registers as r;
use crate::Refusal;
use crate::nic::Transmit;
use crate::nic::vfio::{DmaMemory, FramePool, pieces_max};
use crate::packet::Frame;

/// Descriptors of a ring.
const RING: usize = 512;
/// Octets for frames that are on their way.
const POOL: usize = 512 << 10;
/// Memory that a queue takes.
pub const MEMORY: usize = RING * r::DESCRIPTOR + POOL;

/// A transmit queue.
#[derive(Debug)]
pub struct IgbTransmit {
    adapter: Arc<Adapter>,
    queue: usize,
    ring: DmaMemory,
    pool: FramePool,
    /// Counts descriptors: the next one, the first one that the NIC was not told of, and the first one that is in use.
    next: usize,
    told: usize,
    used: usize,
    /// What the NIC was told to send, in order.
    bursts: VecDeque<Burst>,
    /// Where the last frame ends, and the command of its last descriptor.
    last: (usize, u32),
    /// What the NIC knows of headers from the last context descriptor.
    context: Context,
}

/// Frames that the NIC was told of at once.
#[derive(Debug, Clone, Copy)]
struct Burst {
    /// The descriptor behind its last one.
    next: usize,
    /// Where its last frame ends in the pool.
    end: usize,
}

impl IgbTransmit {
    /// Sets a queue up.
    pub fn new(adapter: &Arc<Adapter>, queue: usize, memory: &mut DmaMemory) -> IgbTransmit {
        let transmit = IgbTransmit {
            adapter: Arc::clone(adapter),
            queue,
            ring: memory.take(RING * r::DESCRIPTOR),
            pool: FramePool::new(memory.take(POOL)),
            next: 0,
            told: 0,
            used: 0,
            bursts: VecDeque::with_capacity(RING),
            last: (0, 0),
            context: Context::default(),
        };
        let iova = transmit.ring.iova(0);
        let set = |register, value: u32| adapter.registers.write(r::of_queue(register, queue), value);
        set(r::TDBAL, iova as u32);
        set(r::TDBAH, (iova >> 32) as u32);
        set(r::TDLEN, (RING * r::DESCRIPTOR) as u32);
        set(r::TDH, 0);
        set(r::TDT, 0);
        // Fetch eight descriptors at a time; write back at once (8.12.13).
        set(r::TXDCTL, r::QUEUE_ENABLE | 1 << 16 | 1 << 8 | 8);
        transmit
    }

    /// Whether there are descriptors for a frame and its context. One stays empty: a full ring would look like an empty one.
    fn has_descriptors(&self, len: usize) -> bool {
        self.next + 1 + pieces_max(len) - self.used < RING
    }

    /// Takes back what the NIC has sent.
    fn reclaim(&mut self) {
        while let Some(Burst { next, end }) = self.bursts.front().copied() {
            let last = (next + RING - 1) % RING;
            if self.ring.read::<u32>(last * r::DESCRIPTOR + 12) & r::TX_DD == 0 {
                break;
            }
            self.used = next;
            self.pool.give_back(end);
            self.bursts.pop_front();
        }
    }

    /// Writes the two halves of a descriptor.
    fn write(&self, index: usize, first: u64, second: u64) {
        let at = (index % RING) * r::DESCRIPTOR;
        self.ring.write(at, first);
        self.ring.write(at + 8, second);
    }
}

impl Transmit for IgbTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let len = frame.len();
        let work = Work::of(frame)?;
        if len == 0 || work.segments.is_none() && len > WIRE_FRAME {
            return Err(Refusal::TooLong);
        }
        if !self.has_descriptors(len) || self.pool.find(len).is_none() {
            self.flush();
            self.reclaim();
        }
        let place = match self.pool.find(len) {
            Some(place) if self.has_descriptors(len) => place,
            _ => return Err(Refusal::Full),
        };
        self.pool.take(place);
        self.pool.copy(place, &[], frame);
        work.patch(frame, |offset, octets| {
            for (offset, octet) in (offset..).zip(octets) {
                self.pool.write(place, offset, octet);
            }
        });
        if let Some(context) = work.context.filter(|context| *context != self.context) {
            let [first, second] = context.descriptor();
            self.write(self.next, first, second);
            self.next += 1;
            self.context = context;
        }
        let (mut left, mut next, mut command) = (len, self.next, 0);
        for (address, piece) in self.pool.pieces(place) {
            left -= piece;
            command = work.command | piece as u32 | if left == 0 { r::TX_EOP } else { 0 };
            self.write(next, address, u64::from(command) | u64::from(work.options) << 32);
            next += 1;
        }
        (self.next, self.last) = (next, (place.end, command));
        Ok(())
    }

    fn flush(&mut self) {
        if self.next == self.told {
            return;
        }
        // Only the last descriptor of a burst says when it is done (7.2.2.3.4, RS).
        let (end, command) = self.last;
        let last = (self.next + RING - 1) % RING;
        self.ring.write(last * r::DESCRIPTOR + 8, command | r::TX_RS);
        self.bursts.push_back(Burst { next: self.next, end });
        self.told = self.next;
        fence(Ordering::Release);
        let tail = (self.next % RING) as u32;
        self.adapter
            .registers
            .write(r::of_queue(r::TDT, self.queue), tail);
    }
}
