//! From a guest's transmit queue to a frame.

use super::QueueState;
use super::features::Negotiated;
use crate::packet::{BadOffload, Frame, OffloadFeatures, Slice, VirtioNetHeader, accept};
use crate::ring::{Buffer, Chain, ChainId, RingError};
use crate::short_copy::short_copy;

/// The longest frame that is taken from a guest: the largest IP packet behind an Ethernet header with two VLAN tags.
pub const MAX_FRAME_LEN: usize = 65535 + 14 + 8;

/// What became of one turn of [`transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmitted {
    /// The ring is empty.
    Nothing,
    /// `frame` holds a frame; complete the chain with this id once it is delivered or dropped.
    Frame(ChainId),
    /// The chain held a frame whose offload request cannot be honoured; complete the id.
    BadOffload(ChainId, BadOffload),
    /// The frame was longer than any may be; complete the id.
    TooLong(ChainId),
    /// The driver broke the ring's rules; the queue has been stopped.
    Broken(RingError),
}

/// Takes the next frame that the guest sent. Its tail points into the guest's memory, so `frame` must be cleared or
/// replaced before `queue` is unlocked. Its head gets `linear_len` octets if there are as many, of which
/// [`LINEAR_LEN`](crate::packet::LINEAR_LEN) is the most, and more if an offload's headers take more.
#[inline]
pub fn transmit(queue: &mut QueueState, frame: &mut Frame, linear_len: usize) -> Transmitted {
    frame.clear();
    let Negotiated {
        header_len, sends, ..
    } = *queue.negotiated();
    let Some(ring) = &mut queue.ring else {
        return Transmitted::Nothing;
    };
    if let Some(run) = ring.peek_run()
        && !run.writable
        && run.buffer.len >= VirtioNetHeader::LEN
    {
        ring.take_run();
        if let Some(next) = ring.peek_run() {
            next.fetch(next.buffer.len);
        }
        let header = gather_run(&run.buffer, header_len, frame, linear_len);
        return judge(run.id, frame, &header, sends);
    }
    transmit_chain(queue, frame, linear_len)
}

/// As [`transmit`], of any chain.
fn transmit_chain(queue: &mut QueueState, frame: &mut Frame, linear_len: usize) -> Transmitted {
    let Negotiated {
        header_len, sends, ..
    } = *queue.negotiated();
    let Some(ring) = &mut queue.ring else {
        return Transmitted::Nothing;
    };
    if queue.chains.is_empty() {
        queue.chains.push(Chain::default());
    }
    let chain = &mut queue.chains[0];
    let taken = match ring.take(chain) {
        Ok(false) => return Transmitted::Nothing,
        Ok(true) => gather(chain, header_len, frame, linear_len),
        Err(error) => Err(error),
    };
    match taken {
        Ok(header) => judge(chain.id, frame, &header, sends),
        Err(error) => {
            frame.clear();
            queue.fail(error);
            Transmitted::Broken(error)
        }
    }
}

/// As [`gather`], from a single buffer that holds a header at least.
#[inline]
fn gather_run(buffer: &Buffer, header_len: usize, frame: &mut Frame, linear_len: usize) -> VirtioNetHeader {
    // SAFETY: the buffer is as long as a header at least, in the mapping that the locked ring keeps.
    let mut header = unsafe { buffer.ptr.cast::<[u8; VirtioNetHeader::LEN]>().read_unaligned() };
    if header_len == VirtioNetHeader::LEGACY_LEN {
        header[VirtioNetHeader::LEGACY_LEN..].copy_from_slice(&[0; 2]);
    }
    let len = buffer.len - header_len;
    let head_len = len.min(linear_len);
    let start = buffer.ptr.wrapping_add(header_len);
    let head = frame.extend_head(head_len);
    // SAFETY: as above, `head_len` octets follow the header; the head is private and that long.
    unsafe { short_copy(start, head.as_mut_ptr(), head_len) };
    if len > head_len {
        let rest = Slice {
            ptr: start.wrapping_add(head_len),
            len: len - head_len,
        };
        // SAFETY: as in `gather`.
        unsafe { frame.push_slice(rest) };
    }
    VirtioNetHeader::parse(&header)
}

#[inline]
fn judge(id: ChainId, frame: &mut Frame, header: &VirtioNetHeader, sends: OffloadFeatures) -> Transmitted {
    if frame.len() > MAX_FRAME_LEN {
        return Transmitted::TooLong(id);
    }
    if header.asks_for_nothing() {
        return Transmitted::Frame(id);
    }
    match accept(frame, header, sends) {
        Ok(()) => Transmitted::Frame(id),
        Err(reason) => Transmitted::BadOffload(id, reason),
    }
}

/// Copies the header and the frame's first octets out of the guest's memory, once, and notes where the rest is. The
/// header may share a descriptor with the frame or be spread over several (virtio 1.3, 2.7.4.1).
fn gather(
    chain: &Chain,
    header_len: usize,
    frame: &mut Frame,
    linear_len: usize,
) -> Result<VirtioNetHeader, RingError> {
    if !chain.writable().is_empty() || chain.readable_len() < header_len as u64 {
        return Err(RingError::WrongDirection);
    }
    let mut header = [0u8; 12];
    let mut header_left = header_len;
    let mut head_left = linear_len.min(chain.readable_len() as usize - header_len);
    for buffer in chain.readable() {
        let mut offset = 0;
        let take = header_left.min(buffer.len);
        copy_out(
            buffer,
            &mut offset,
            &mut header[header_len - header_left..][..take],
        );
        header_left -= take;
        let take = head_left.min(buffer.len - offset);
        if take > 0 {
            copy_out(buffer, &mut offset, frame.extend_head(take));
            head_left -= take;
        }
        let rest = Slice {
            ptr: buffer.ptr.wrapping_add(offset),
            len: buffer.len - offset,
        };
        // SAFETY: the octets lie in the mapping that the locked ring keeps; `transmit` requires the frame to be gone
        // before the lock is.
        unsafe { frame.push_slice(rest) };
    }
    Ok(VirtioNetHeader::parse(&header))
}

/// Copies the octets of `buffer` from `offset` on, of which there must be enough, and moves the offset behind them.
fn copy_out(buffer: &Buffer, offset: &mut usize, target: &mut [u8]) {
    debug_assert!(target.len() <= buffer.len - *offset);
    // SAFETY: the octets lie in the mapping that the locked ring keeps; the target is private.
    unsafe { std::ptr::copy_nonoverlapping(buffer.ptr.add(*offset), target.as_mut_ptr(), target.len()) };
    *offset += target.len();
}
