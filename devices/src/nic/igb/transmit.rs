//! A transmit queue: frames are copied one behind the other into memory that the NIC sees.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::driver::{Adapter, WIRE_FRAME};
use super::offload::{Context, Work};
use super::registers as r;
use crate::Refusal;
use crate::nic::Transmit;
use crate::nic::vfio::DmaMemory;
use crate::packet::{Frame, Slice};

/// Descriptors of a ring.
const RING: usize = 512;
/// Octets for frames that are on their way.
const POOL: usize = 512 << 10;
/// Memory that a queue takes.
pub const MEMORY: usize = RING * r::DESCRIPTOR + POOL;
/// No descriptor's octets reach over a page: what is one run to us is not one behind an IOMMU, and QEMU's model drops frames
/// that lie so.
const PAGE: usize = 4096;
/// Frames start at cache lines.
const ALIGNMENT: usize = 64;
/// Bursts that are waited for.
const BURSTS: usize = RING;

/// A transmit queue.
#[derive(Debug)]
pub struct IgbTransmit {
    adapter: Arc<Adapter>,
    queue: usize,
    ring: DmaMemory,
    pool: DmaMemory,
    /// Where the next frame goes, and what the NIC was given.
    at: Position,
    flushed: Position,
    /// What is free again.
    done: Position,
    /// Ends of the bursts that the NIC has, in order.
    bursts: VecDeque<Position>,
    /// The command of the last descriptor, which is to say when it is done.
    last_command: u32,
    /// What the NIC knows of headers from the last context descriptor.
    context: Context,
}

/// A place in the ring and one in the pool, counted from the beginning of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    descriptor: usize,
    octet: usize,
}

impl IgbTransmit {
    /// Sets a queue up.
    pub fn new(adapter: &Arc<Adapter>, queue: usize, memory: &mut DmaMemory) -> IgbTransmit {
        let transmit = IgbTransmit {
            adapter: Arc::clone(adapter),
            queue,
            ring: memory.take(RING * r::DESCRIPTOR),
            pool: memory.take(POOL),
            at: Position::default(),
            flushed: Position::default(),
            done: Position::default(),
            bursts: VecDeque::with_capacity(BURSTS),
            last_command: 0,
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

    /// Where a frame of this length starts: not over a page's end, if it fits into a page.
    fn start(&self, len: usize) -> usize {
        let start = self.at.octet.next_multiple_of(ALIGNMENT);
        match len.min(PAGE) <= PAGE - start % PAGE {
            true => start,
            false => start.next_multiple_of(PAGE),
        }
    }

    /// Whether there is room for a frame that ends there.
    fn fits(&self, end: Position) -> bool {
        end.descriptor - self.done.descriptor < RING && end.octet - self.done.octet <= POOL
    }

    /// Takes back what the NIC has sent.
    fn reclaim(&mut self) {
        while let Some(end) = self.bursts.front() {
            let last = (end.descriptor + RING - 1) % RING;
            if self.ring.read::<u32>(last * r::DESCRIPTOR + 12) & r::TX_DD == 0 {
                break;
            }
            self.done = *end;
            self.bursts.pop_front();
        }
    }

    fn write_context(&mut self, context: Context) {
        let [first, second] = context.descriptor();
        let at = (self.at.descriptor % RING) * r::DESCRIPTOR;
        self.ring.write(at, first);
        self.ring.write(at + 8, second);
        self.at.descriptor += 1;
        self.context = context;
    }

    fn write_data(&mut self, octet: usize, command: u32, options: u32) {
        let at = (self.at.descriptor % RING) * r::DESCRIPTOR;
        self.ring.write(at, self.pool.iova(octet % POOL));
        self.ring
            .write(at + 8, u64::from(command) | u64::from(options) << 32);
        self.at.descriptor += 1;
        self.last_command = command;
    }

    /// Copies a frame to `start`, where no page's end is inside of a piece.
    fn copy(&self, frame: &Frame, start: usize) {
        let mut at = start;
        let head = frame.head();
        let head = Slice {
            ptr: head.as_ptr(),
            len: head.len(),
        };
        for slice in std::iter::once(&head).chain(frame.tail()) {
            let mut slice = *slice;
            // The pool's end is a page's.
            while slice.len > 0 {
                let piece = Slice {
                    ptr: slice.ptr,
                    len: slice.len.min(POOL - at % POOL),
                };
                // SAFETY: a frame's slices are mapped while it holds them (`Frame::push_slice`).
                unsafe { self.pool.copy_in(at % POOL, piece) };
                // SAFETY: the slice has that many octets.
                slice.ptr = unsafe { slice.ptr.add(piece.len) };
                slice.len -= piece.len;
                at += piece.len;
            }
        }
    }
}

impl Transmit for IgbTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let len = frame.len();
        let work = Work::of(frame)?;
        if len == 0 || work.segments.is_none() && len > WIRE_FRAME {
            return Err(Refusal::TooLong);
        }
        let start = self.start(len);
        let end = Position {
            descriptor: self.at.descriptor + 1 + len.div_ceil(PAGE),
            octet: start + len,
        };
        if !self.fits(end) {
            self.flush();
            self.reclaim();
            if !self.fits(end) {
                return Err(Refusal::Full);
            }
        }
        self.copy(frame, start);
        work.patch(frame, |offset, value| {
            // Headers lie in the first page.
            self.pool.write(start % POOL + offset, value);
        });
        if let Some(context) = work.context.filter(|context| *context != self.context) {
            self.write_context(context);
        }
        let mut at = start;
        while at < end.octet {
            let piece = (end.octet - at).min(PAGE - at % PAGE);
            let last = if at + piece == end.octet { r::TX_EOP } else { 0 };
            self.write_data(at, work.command | last | piece as u32, work.options);
            at += piece;
        }
        self.at.octet = end.octet;
        Ok(())
    }

    fn flush(&mut self) {
        if self.at == self.flushed {
            return;
        }
        // Only the last descriptor of a burst says that it is done (7.2.2.3.4, RS).
        let last = (self.at.descriptor + RING - 1) % RING;
        self.ring
            .write(last * r::DESCRIPTOR + 8, self.last_command | r::TX_RS);
        self.bursts.push_back(self.at);
        self.flushed = self.at;
        fence(Ordering::Release);
        let tail = (self.at.descriptor % RING) as u32;
        self.adapter
            .registers
            .write(r::of_queue(r::TDT, self.queue), tail);
    }
}
