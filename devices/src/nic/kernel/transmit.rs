//! Frames to a packet socket: small ones in bursts, large ones straight from where they lie.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::Refusal;
use crate::nic::Transmit;
use crate::nic::arrival::BURST;
use crate::packet::{Frame, VirtioNetHeader, header_for};

/// The most pieces of a frame: its head, and those of its tail.
pub(super) const PIECES_MAX: usize = 255;
/// Up to this length a copy costs less than a system call (`benches/nic_kernel.rs`).
const COPY_MAX: usize = 2048;
const SLOT_LEN: usize = VirtioNetHeader::LEN + COPY_MAX;

/// The transmitting side of a packet socket.
///
/// PACKET_QDISC_BYPASS is left off: past the queueing discipline the kernel refuses what the netdev cannot cut itself
/// (net/core/dev.c: `__dev_direct_xmit`), and it saves nothing that could be measured.
#[derive(Debug)]
pub(super) struct SocketTransmit {
    socket: Arc<OwnedFd>,
    header_len: usize,
    batch: Batch,
    /// Of a frame that goes straight.
    pieces: Pieces,
    refused: Option<(Refusal, u64)>,
}

/// Small frames that wait for the end of the burst, in memory of their own.
struct Batch {
    octets: Vec<u8>,
    /// One for each slot; only pointed to.
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    count: usize,
}

/// A list of pieces that is filled in for each frame.
struct Pieces(Vec<libc::iovec>);

// SAFETY: the pointers lead to what belongs to the same batch.
unsafe impl Send for Batch {}
// SAFETY: what is in the list is used within the call that puts it there.
unsafe impl Send for Pieces {}

impl SocketTransmit {
    /// Sends to `socket` frames with headers of this length.
    pub(super) fn new(socket: Arc<OwnedFd>, header_len: usize) -> SocketTransmit {
        SocketTransmit {
            socket,
            header_len,
            batch: Batch::new(),
            pieces: Pieces(Vec::with_capacity(1 + PIECES_MAX)),
            refused: None,
        }
    }

    fn send_straight(&mut self, frame: &Frame) -> Result<(), Refusal> {
        if 1 + frame.tail().len() > PIECES_MAX {
            return Err(Refusal::TooLong);
        }
        let header = header_for(&frame.offload, 1).emit();
        let pieces = &mut self.pieces.0;
        pieces.clear();
        pieces.push(piece(header.as_ptr(), self.header_len));
        pieces.push(piece(frame.head().as_ptr(), frame.head().len()));
        pieces.extend(frame.tail().iter().map(|slice| piece(slice.ptr, slice.len)));
        // SAFETY: all-zero is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (pieces.as_mut_ptr(), pieces.len());
        // SAFETY: each piece is mapped memory (`Frame::push_slice`) or private; the kernel reads them and answers EFAULT
        // where it cannot.
        match unsafe { libc::sendmsg(self.socket.as_raw_fd(), &message, libc::MSG_DONTWAIT) } {
            0.. => Ok(()),
            _ => Err(refusal(&io::Error::last_os_error())),
        }
    }

    fn refuse(&mut self, refusal: Refusal, count: usize) {
        let before = self.refused.map_or(0, |(_, before)| before);
        self.refused = Some((refusal, before + count as u64));
    }
}

impl Transmit for SocketTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        if frame.len() <= COPY_MAX {
            self.batch.push(frame, self.header_len);
            if self.batch.count == BURST {
                self.flush();
            }
            return Ok(());
        }
        // Those before it go first.
        self.flush();
        self.send_straight(frame)
    }

    fn flush(&mut self) {
        let fd = self.socket.as_raw_fd();
        let mut first = 0;
        while first < self.batch.count {
            match self.batch.send(fd, first).or_else(|_| self.batch.send(fd, first)) {
                Ok(count) => first += count,
                // There is no room for the rest either, or nobody to take it.
                Err(refusal @ (Refusal::Full | Refusal::NotReady)) => {
                    self.refuse(refusal, self.batch.count - first);
                    break;
                }
                Err(refusal) => {
                    self.refuse(refusal, 1);
                    first += 1;
                }
            }
        }
        self.batch.count = 0;
    }

    fn refused(&mut self) -> Option<(Refusal, u64)> {
        self.refused.take()
    }
}

impl Batch {
    fn new() -> Batch {
        let mut octets = vec![0u8; BURST * SLOT_LEN];
        let start = octets.as_mut_ptr();
        let slot = |index| piece(start.wrapping_add(index * SLOT_LEN), 0);
        let mut parts: Vec<libc::iovec> = (0..BURST).map(slot).collect();
        // SAFETY: all-zero is a valid value.
        let mut messages: Vec<libc::mmsghdr> = vec![unsafe { mem::zeroed() }; BURST];
        let first = parts.as_mut_ptr();
        for (index, message) in messages.iter_mut().enumerate() {
            message.msg_hdr.msg_iov = first.wrapping_add(index);
            message.msg_hdr.msg_iovlen = 1;
        }
        Batch {
            octets,
            parts,
            messages,
            count: 0,
        }
    }

    /// Adds a frame of at most [`COPY_MAX`] octets; there is room.
    fn push(&mut self, frame: &Frame, header_len: usize) {
        let slot = &mut self.octets[self.count * SLOT_LEN..][..header_len + frame.len()];
        let (header, rest) = slot.split_at_mut(header_len);
        let (head, tail) = rest.split_at_mut(frame.head().len());
        header.copy_from_slice(&header_for(&frame.offload, 1).emit()[..header_len]);
        head.copy_from_slice(frame.head());
        frame.read_tail(0, tail);
        self.parts[self.count].iov_len = slot.len();
        self.count += 1;
    }

    /// Sends from the frame with this index on; how many were taken, at least one.
    fn send(&mut self, fd: RawFd, first: usize) -> Result<usize, Refusal> {
        let list = &mut self.messages[first..self.count];
        // SAFETY: the messages point to slots of this batch with the lengths that were just set.
        let count = unsafe { libc::sendmmsg(fd, list.as_mut_ptr(), list.len() as u32, libc::MSG_DONTWAIT) };
        match usize::try_from(count) {
            Ok(count) => Ok(count.max(1)),
            Err(_) => Err(refusal(&io::Error::last_os_error())),
        }
    }
}

/// packet(7), "ERRORS".
fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Refusal::Full,
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => Refusal::NotReady,
        Some(libc::EMSGSIZE) => Refusal::TooLong,
        _ => Refusal::Failed,
    }
}

fn piece(ptr: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: ptr.cast_mut().cast(),
        iov_len: len,
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().finish_non_exhaustive()
    }
}
