//! The transmitting side of a queue: frames are copied into memory of ours and put into the transmit ring.

use std::io;
use std::sync::Arc;

use libc::xdp_desc;

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

/// The transmitting side.
#[derive(Debug)]
pub struct XdpTransmit {
    tx: Producer<xdp_desc>,
    completion: Consumer<u64>,
    frames: Frames,
    umem: Arc<Umem>,
    socket: Arc<Socket>,
    frame_max: usize,
    metadata: bool,
    state: State,
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
    /// The transmitting side of a socket, for frames up to `frame_max`; with `metadata` it leaves checksums to the kernel.
    pub fn new(
        socket: Arc<Socket>,
        umem: Arc<Umem>,
        tx: Producer<xdp_desc>,
        completion: Consumer<u64>,
        frame_max: usize,
        metadata: bool,
    ) -> XdpTransmit {
        XdpTransmit {
            tx,
            completion,
            frames: umem.to_send(),
            umem,
            socket,
            frame_max,
            metadata,
            state: State::Ready,
        }
    }

    /// Makes sure that a frame of this many parts can be taken.
    fn reserve(&mut self, parts: usize) -> bool {
        self.has_room(parts)
            || {
                self.reap();
                self.has_room(parts)
            }
            || {
                self.flush();
                self.reap();
                self.has_room(parts)
            }
    }

    fn has_room(&mut self, parts: usize) -> bool {
        self.frames.len() >= parts && self.tx.has_room(parts as u32)
    }

    /// Takes the memory of frames back that have been sent.
    fn reap(&mut self) {
        let mut count = 0;
        while let Some(address) = self.completion.peek(count) {
            self.frames.give(address);
            count += 1;
        }
        self.completion.advance(count);
        self.completion.publish();
    }

    /// Copies octets from `offset` of the frame into memory of ours, and puts that into the ring.
    fn push(&mut self, frame: &Frame, offset: usize) -> bool {
        let len = TX_ROOM.min(frame.len() - offset);
        let Some(chunk) = self.frames.take() else {
            return false;
        };
        let address = chunk + TX_HEADROOM as u64;
        let Some(octets) = self.umem.octets(address, len) else {
            return false;
        };
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
        true
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
        let mut patience = PATIENCE + pending / KERNEL_BATCH;
        while pending > 0 && patience > 0 {
            let result = self.socket.wake_to_send();
            self.state = state_after(&result);
            if self.state != State::Ready || result.is_ok() && self.socket.zero_copy {
                return;
            }
            // EBUSY: a frame was dropped behind the NIC's back, such as one that is too long for the other end of a
            // virtual link. EAGAIN, ENOBUFS: the kernel stopped half-way. Whatever it says, what it took is taken.
            match self.tx.pending() {
                now if now < pending => pending = now,
                _ => patience -= 1,
            }
        }
    }
}

impl Transmit for XdpTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let len = frame.len();
        let parts = len.div_ceil(TX_ROOM);
        if self.state == State::Gone {
            return Err(Refusal::NotReady);
        }
        if len > self.frame_max || parts > MAX_PARTS {
            return Err(Refusal::TooLong);
        }
        // The kernel's transmit stops for good at a frame without an Ethernet header.
        if len < ETHERNET_HEADER {
            return Err(Refusal::Failed);
        }
        if frame.offload.needs_csum && !self.metadata {
            return Err(Refusal::BadOffload);
        }
        if !self.reserve(parts) {
            return Err(match self.state {
                State::Ready => Refusal::Full,
                State::Down | State::Gone => Refusal::NotReady,
            });
        }
        for part in 0..parts {
            if !self.push(frame, part * TX_ROOM) {
                return Err(Refusal::Failed);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.tx.publish();
        if self.tx.needs_wakeup() {
            self.wake();
        }
    }
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
