//! From a frame to a guest's receive queue.

use super::features::Negotiated;
use super::{Queue, QueueGuard, QueueState};
use crate::Refusal;
use crate::packet::{Frame, GsoType, LINEAR_LEN, Slice, VirtioNetHeader, adapt, header_for};
use crate::ring::{Buffer, Chain, Ring, RingError};
use crate::short_copy::short_copy;

/// A locked receive queue that frames are written to, made visible all together when it is dropped.
#[derive(Debug)]
pub struct ReceiveBurst<'a> {
    queue: QueueGuard<'a>,
}

impl<'a> ReceiveBurst<'a> {
    /// Starts a burst of about `expected` frames to a receive queue, waiting for whoever has it.
    pub fn open(queue: &'a Queue, expected: usize) -> ReceiveBurst<'a> {
        ReceiveBurst::begin(queue.lock_for_burst(), expected)
    }

    /// Starts a burst to a receive queue unless somebody has it: for a thread that writes to another one already.
    pub fn try_open(queue: &'a Queue, expected: usize) -> Option<ReceiveBurst<'a>> {
        let queue = queue.try_lock_for_burst()?;
        Some(ReceiveBurst::begin(queue, expected))
    }

    /// Whether the guest uses the queue. A VMM may enable pairs that the guest's driver never fills.
    pub fn is_used(&self) -> bool {
        self.queue.enabled && self.queue.ring.as_ref().is_some_and(Ring::ever_filled)
    }

    fn begin(mut queue: QueueGuard<'a>, expected: usize) -> ReceiveBurst<'a> {
        queue.prepare(expected);
        ReceiveBurst { queue }
    }

    /// Writes a frame, after doing in software what its receiver did not offer to do. All of it is written or nothing.
    pub fn write(&mut self, frame: &mut Frame, scratch: &mut Frame) -> Result<(), Refusal> {
        let queue = &mut *self.queue;
        if !queue.is_running() {
            return Err(Refusal::NotReady);
        }
        let Negotiated {
            header_len, receives, ..
        } = *queue.negotiated();
        queue.prepare(1);
        if receives.understands(&frame.offload) && write_run(queue, frame, header_len, receives.csum) {
            return Ok(());
        }
        let Some(start) = queue.ring.as_ref().map(Ring::mark) else {
            return Err(Refusal::NotReady);
        };
        let written = adapt(frame, receives, scratch, |part| write_part(queue, part));
        if written.is_err()
            && let Some(ring) = &mut self.queue.ring
        {
            ring.rewind(start);
        }
        written
    }
}

impl Drop for ReceiveBurst<'_> {
    fn drop(&mut self) {
        self.queue.publish();
    }
}

/// Writes a frame that needs nothing done into the next chain, if that is one buffer in one piece in which it fits: what
/// most frames and chains are. False, with nothing done, if it is otherwise.
#[inline]
fn write_run(queue: &mut QueueState, frame: &Frame, header_len: usize, csum: bool) -> bool {
    let len = header_len + frame.len();
    let is_short = frame.offload.gso_type == GsoType::None;
    let Some(ring) = &mut queue.ring else { return false };
    let Some(run) = ring.peek_run() else { return false };
    let Buffer {
        ptr,
        len: room,
        guest,
    } = run.buffer;
    // virtio 1.3, 5.1.6.4.1: no frame longer than the MTU allows, unless the driver is to segment it.
    let too_long = is_short && queue.max_frame.is_some_and(|max| frame.len() > max);
    if !run.writable || room < len || room < VirtioNetHeader::LEN || too_long {
        return false;
    }
    ring.take_run();
    // While this frame is copied, the room for the next one is on its way, which is likely as long.
    if let Some(next) = ring.peek_run() {
        next.fetch(len);
    }
    let mut header = header_for(&frame.offload, 1);
    // virtio 1.3, 5.1.6.4.1: no flag is set without GUEST_CSUM.
    if !csum {
        header.flags = 0;
    }
    // SAFETY: the buffer lies in the mapping that the locked ring keeps and has room for all of it; a header of ten octets
    // is overwritten in its last two by the frame. The tail may lie in the same guest's memory and overlap.
    unsafe {
        ptr.cast::<[u8; VirtioNetHeader::LEN]>()
            .write_unaligned(header.emit());
        let mut to = ptr.add(header_len);
        let head = frame.head();
        short_copy(head.as_ptr(), to, head.len());
        to = to.add(head.len());
        for slice in frame.tail() {
            copy_slice(slice, to);
            to = to.add(slice.len);
        }
    }
    if let Some(log) = ring.log() {
        log.mark(guest, len as u64);
    }
    ring.complete(run.id, len as u32);
    true
}

/// # Safety
/// The slice must be readable and as many octets writable at `to`; they may overlap.
#[inline]
unsafe fn copy_slice(slice: &Slice, to: *mut u8) {
    // SAFETY: by the caller's promise.
    unsafe {
        if slice.len <= LINEAR_LEN {
            short_copy(slice.ptr, to, slice.len);
        } else {
            std::ptr::copy(slice.ptr, to, slice.len);
        }
    }
}

/// Writes one frame that needs nothing more done.
fn write_part(queue: &mut QueueState, frame: &Frame) -> Result<(), Refusal> {
    // virtio 1.3, 5.1.6.4.1: no frame longer than the MTU allows, unless the driver is to segment it.
    if frame.offload.gso_type == GsoType::None && queue.max_frame.is_some_and(|max| frame.len() > max) {
        return Err(Refusal::TooLong);
    }
    let mut chains = std::mem::take(&mut queue.chains);
    let written = write_chains(queue, frame, &mut chains);
    queue.chains = chains;
    written
}

fn write_chains(queue: &mut QueueState, frame: &Frame, chains: &mut Vec<Chain>) -> Result<(), Refusal> {
    let Some(ring) = &mut queue.ring else {
        return Err(Refusal::NotReady);
    };
    let header_len = queue.features.header_len();
    let wanted = (header_len + frame.len()) as u64;
    let start = ring.mark();
    let count = match take_room(ring, chains, wanted, queue.features.mergeable()) {
        Ok(count) => count,
        Err(NoRoom::Refused(refusal)) => {
            ring.rewind(start);
            return Err(refusal);
        }
        Err(NoRoom::Broken(error)) => {
            queue.fail(error);
            return Err(Refusal::Malformed);
        }
    };
    // virtio 1.3, 5.1.6.4.1: num_buffers is 1 without MRG_RXBUF.
    let header = header_for(&frame.offload, count as u16).emit();
    let mut writer = Writer::new(ring, chains);
    writer.write(&header[..header_len]);
    writer.write(frame.head());
    for slice in frame.tail() {
        writer.write_slice(*slice);
    }
    writer.finish();
    Ok(())
}

enum NoRoom {
    Refused(Refusal),
    Broken(RingError),
}

impl From<RingError> for NoRoom {
    fn from(error: RingError) -> NoRoom {
        NoRoom::Broken(error)
    }
}

/// Takes as many chains as `wanted` octets need, and says how many.
fn take_room(
    ring: &mut Ring,
    chains: &mut Vec<Chain>,
    wanted: u64,
    mergeable: bool,
) -> Result<usize, NoRoom> {
    let (mut room, mut count) = (0, 0);
    while room < wanted {
        // virtio 1.3, 5.1.6.4.1: one chain a frame without MRG_RXBUF; the chain stays for a frame that fits.
        if count == 1 && !mergeable {
            return Err(NoRoom::Refused(Refusal::TooLong));
        }
        if count == chains.len() {
            chains.push(Chain::default());
        }
        if !ring.take(&mut chains[count])? {
            return Err(NoRoom::Refused(Refusal::Full));
        }
        if !chains[count].readable().is_empty() || chains[count].writable_len() == 0 {
            return Err(NoRoom::Broken(RingError::WrongDirection));
        }
        room += chains[count].writable_len();
        count += 1;
    }
    Ok(count)
}

/// Fills the writable buffers of chains one after the other, each to its end, and completes them.
struct Writer<'a> {
    ring: &'a mut Ring,
    chains: &'a [Chain],
    chain: usize,
    buffer: usize,
    offset: usize,
    in_chain: u32,
}

impl<'a> Writer<'a> {
    fn new(ring: &'a mut Ring, chains: &'a [Chain]) -> Writer<'a> {
        Writer {
            ring,
            chains,
            chain: 0,
            buffer: 0,
            offset: 0,
            in_chain: 0,
        }
    }

    fn write(&mut self, octets: &[u8]) {
        self.write_slice(Slice {
            ptr: octets.as_ptr(),
            len: octets.len(),
        });
    }

    /// The caller has taken room for all that is written.
    fn write_slice(&mut self, slice: Slice) {
        let (mut ptr, mut len) = (slice.ptr, slice.len);
        while len > 0 {
            let target = self.target();
            let take = len.min(target.len);
            // SAFETY: the source is mapped (`Frame::push_slice`) or private; the target is the rest of a buffer in the
            // mapping that the locked ring keeps. Both may be one guest's memory and overlap, hence `copy`.
            unsafe { std::ptr::copy(ptr, target.ptr, take) };
            if let Some(log) = self.ring.log() {
                log.mark(target.guest, take as u64);
            }
            self.offset += take;
            self.in_chain += take as u32;
            ptr = ptr.wrapping_add(take);
            len -= take;
        }
    }

    /// The room that is left in the current buffer, going on to the next buffer or chain if there is none.
    fn target(&mut self) -> Buffer {
        loop {
            match self.chains[self.chain].writable().get(self.buffer) {
                Some(buffer) if self.offset < buffer.len => {
                    return Buffer {
                        ptr: buffer.ptr.wrapping_add(self.offset),
                        len: buffer.len - self.offset,
                        guest: buffer.guest + self.offset as u64,
                    };
                }
                Some(_) => {
                    self.buffer += 1;
                    self.offset = 0;
                }
                None => self.next_chain(),
            }
        }
    }

    fn next_chain(&mut self) {
        self.ring.complete(self.chains[self.chain].id, self.in_chain);
        self.chain += 1;
        self.buffer = 0;
        self.offset = 0;
        self.in_chain = 0;
    }

    fn finish(self) {
        self.ring.complete(self.chains[self.chain].id, self.in_chain);
    }
}
