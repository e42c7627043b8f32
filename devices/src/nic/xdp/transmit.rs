//! The transmitting side of a queue: frames are copied into memory of ours, or sent from a guest's.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::xdp_desc;

use super::in_place::{Piece, cut};
use super::ring::{Consumer, Producer};
use super::socket::{Socket, TxMetadata};
use super::umem::{Frames, TX_HEADROOM, TX_ROOM, Umem};
use crate::Refusal;
use crate::nic::Transmit;
use crate::packet::Frame;

/// The most parts of one frame: `MAX_SKB_FRAGS` of the kernel, which copy mode makes of them.
pub const MAX_PARTS: usize = 17;
/// System calls that may be made in a row without the kernel taking a frame.
const PATIENCE: u32 = 8;
/// Frames that one system call sends before Linux 6.17 (`TX_BATCH_SIZE`), which shows its progress only at the end.
const KERNEL_BATCH: u32 = 32;
const ETHERNET_HEADER: usize = 14;
/// How long the end of a burst waits for the kernel to read a guest's memory.
const LENDING: Duration = Duration::from_millis(10);

/// What can be sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest frame.
    pub frame_max: usize,
    /// The most parts of one.
    pub parts_max: usize,
    /// Checksums may be left to the kernel.
    pub metadata: bool,
}

/// The transmitting side.
#[derive(Debug)]
pub struct XdpTransmit {
    tx: Producer<xdp_desc>,
    completion: Consumer<u64>,
    frames: Frames,
    umem: Arc<Umem>,
    socket: Arc<Socket>,
    limits: Limits,
    state: State,
    /// Frames that the kernel took and dropped, since somebody asked.
    dropped: u64,
    /// Pieces of a guest's memory that the kernel may still read.
    lent: u32,
    pieces: Vec<Piece>,
}

/// What the kernel said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// The netdev is down. It may come up again.
    Down,
    /// The netdev is gone, and the socket is bound to nothing.
    Gone,
}

impl XdpTransmit {
    /// The transmitting side of a socket.
    pub fn new(
        socket: Arc<Socket>,
        umem: Arc<Umem>,
        tx: Producer<xdp_desc>,
        completion: Consumer<u64>,
        limits: Limits,
    ) -> XdpTransmit {
        XdpTransmit {
            tx,
            completion,
            frames: umem.to_send(),
            umem,
            socket,
            limits,
            state: State::Ready,
            dropped: 0,
            lent: 0,
            pieces: Vec::with_capacity(MAX_PARTS),
        }
    }

    /// How many frames are not on their way.
    #[cfg(test)]
    pub fn frames_here(&mut self) -> usize {
        self.reap();
        self.frames.len()
    }

    /// Makes sure that this many chunks and entries can be taken.
    fn reserve(&mut self, chunks: usize, entries: usize) -> Result<(), Refusal> {
        let has_room = self.has_room(chunks, entries)
            || {
                self.reap();
                self.has_room(chunks, entries)
            }
            || {
                self.flush();
                self.reap();
                self.has_room(chunks, entries)
            };
        match self.state {
            _ if has_room => Ok(()),
            State::Ready => Err(Refusal::Full),
            State::Down | State::Gone => Err(Refusal::NotReady),
        }
    }

    fn has_room(&mut self, chunks: usize, entries: usize) -> bool {
        self.frames.len() >= chunks && self.tx.has_room(entries as u32)
    }

    /// Takes the memory of frames back that have been sent.
    fn reap(&mut self) {
        let mut count = 0;
        while let Some(address) = self.completion.peek(count) {
            if !self.frames.give(address) {
                self.lent = self.lent.saturating_sub(1);
            }
            count += 1;
        }
        self.completion.advance(count);
        self.completion.publish();
    }

    /// Copies a frame and puts it into the ring.
    fn copy(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let parts = frame.len().div_ceil(TX_ROOM);
        if parts > self.limits.parts_max {
            return Err(Refusal::TooLong);
        }
        self.reserve(parts, parts)?;
        for part in 0..parts {
            let offset = part * TX_ROOM;
            let len = TX_ROOM.min(frame.len() - offset);
            self.push_copy(frame, offset, len)?;
        }
        Ok(())
    }

    /// Copies a frame's head and puts it into the ring, followed by the pieces of its tail, which stay where they are.
    fn lend(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let count = self.pieces.len();
        self.reserve(1, 1 + count)?;
        self.push_copy(frame, 0, frame.head().len())?;
        for (index, piece) in self.pieces.iter().enumerate() {
            self.tx.push(xdp_desc {
                addr: piece.address,
                len: piece.len,
                options: if index + 1 < count { libc::XDP_PKT_CONTD } else { 0 },
            });
        }
        self.lent += count as u32;
        Ok(())
    }

    /// Copies octets of a frame and puts them into the ring.
    fn push_copy(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<(), Refusal> {
        let chunk = self.frames.take().ok_or(Refusal::Full)?;
        let address = chunk + TX_HEADROOM as u64;
        let octets = self.umem.octets(address, len).ok_or(Refusal::Failed)?;
        // SAFETY: the octets are mapped, and nobody uses the chunk before it is in the ring.
        let octets = unsafe { std::slice::from_raw_parts_mut(octets.as_ptr(), len) };
        copy(frame, offset, octets);
        let mut options = 0;
        if offset == 0 && frame.offload.needs_csum {
            self.ask_for_checksum(address, frame);
            options |= libc::XDP_TX_METADATA;
        }
        if offset + len < frame.len() {
            options |= libc::XDP_PKT_CONTD;
        }
        self.tx.push(xdp_desc {
            addr: address,
            len: len as u32,
            options,
        });
        Ok(())
    }

    fn ask_for_checksum(&self, address: u64, frame: &Frame) {
        let place = address - size_of::<TxMetadata>() as u64;
        let metadata = TxMetadata {
            flags: u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM),
            csum_start: frame.offload.csum_start,
            csum_offset: frame.offload.csum_offset,
            ..TxMetadata::default()
        };
        if let Some(octets) = self.umem.octets(place, size_of::<TxMetadata>()) {
            // SAFETY: the octets are mapped, and nobody uses the chunk before it is in the ring.
            unsafe { octets.cast::<TxMetadata>().write_unaligned(metadata) };
        }
    }

    /// Has the kernel send until it has taken all, or takes no more.
    fn wake(&mut self) {
        let mut pending = self.tx.pending();
        if pending == 0 && self.state == State::Down {
            // Who waits for frames has the kernel send, too.
            self.state = State::Ready;
        }
        let mut patience = PATIENCE + pending / KERNEL_BATCH;
        while pending > 0 && patience > 0 {
            let result = self.socket.wake_to_send();
            self.state = state_after(&result);
            if self.state != State::Ready || result.is_ok() && self.socket.zero_copy {
                return;
            }
            // EBUSY: a frame was dropped on its way out, such as one that is too long for the other end of a virtual link.
            // EAGAIN, ENOBUFS: the kernel stopped half-way. Whatever it says, what it took is taken.
            if is(&result, libc::EBUSY) && !self.socket.zero_copy {
                self.dropped += 1;
            }
            match self.tx.pending() {
                now if now < pending => pending = now,
                _ => patience -= 1,
            }
        }
    }

    /// Whether the kernel has read what was lent to it: in copy mode that is when it takes an entry.
    fn is_read(&mut self) -> bool {
        self.lent == 0 || !self.socket.zero_copy && self.tx.pending() == 0
    }

    /// Waits until a guest may have its memory back. What a netdev had not taken when it went down goes out with what lies
    /// there when it is up again.
    fn settle(&mut self) {
        let end = Instant::now() + LENDING;
        while !self.is_read() && self.state == State::Ready && Instant::now() < end {
            self.wake();
            self.reap();
        }
    }
}

impl Transmit for XdpTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let len = frame.len();
        // What waits says whether the netdev is up again, so that no more than one burst waits for that.
        if self.state == State::Down {
            self.wake();
        }
        if self.state != State::Ready {
            return Err(Refusal::NotReady);
        }
        if len > self.limits.frame_max {
            return Err(Refusal::TooLong);
        }
        // The kernel's transmit stops for good at a frame without an Ethernet header.
        if len < ETHERNET_HEADER {
            return Err(Refusal::Failed);
        }
        if frame.offload.needs_csum && !self.limits.metadata {
            return Err(Refusal::BadOffload);
        }
        let head = frame.head().len();
        let in_place = self.umem.has_guest() && (ETHERNET_HEADER..=TX_ROOM).contains(&head);
        match in_place && cut(&self.umem, frame, self.limits.parts_max, &mut self.pieces) {
            true => self.lend(frame),
            false => self.copy(frame),
        }
    }

    fn flush(&mut self) {
        self.tx.publish();
        if self.tx.needs_wakeup() {
            self.wake();
        }
        // What was sent last is sent from first: its memory is still in the processor's cache.
        self.reap();
        if self.lent > 0 {
            self.settle();
        }
    }

    fn refused(&mut self) -> Option<(Refusal, u64)> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then_some((Refusal::Failed, dropped))
    }
}

fn is(result: &io::Result<()>, errno: i32) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(errno))
}

fn state_after(result: &io::Result<()>) -> State {
    match result.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::ENETDOWN)) => State::Down,
        Err(Some(libc::ENXIO | libc::ENODEV | libc::EBADF)) => State::Gone,
        _ => State::Ready,
    }
}

/// Copies octets of a frame from `offset` on.
fn copy(frame: &Frame, offset: usize, to: &mut [u8]) {
    let head = frame.head();
    let from_head = head.len().saturating_sub(offset).min(to.len());
    let (first, rest) = to.split_at_mut(from_head);
    first.copy_from_slice(&head[offset.min(head.len())..][..from_head]);
    frame.read_tail((offset + from_head).saturating_sub(head.len()), rest);
}
