//! One descriptor chain, checked and resolved to host addresses.

use super::descriptor::{Descriptor, Ready};
use super::{MAX_CHAIN_BUFFERS, RingError};
use crate::memory::{GuestMemory, RegionCache};

/// A run of host memory that belongs to a guest's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    /// Host address of the first octet.
    pub ptr: *mut u8,
    /// Length in octets.
    pub len: usize,
    /// Guest address of the first octet, for the dirty log.
    pub guest: u64,
}

// SAFETY: a buffer is an address and a length; whoever dereferences it must hold the memory table that it came from.
unsafe impl Send for Buffer {}

/// What a chain is returned to the driver by.
///
/// One number, so that it is stored and loaded as one: a load of two stores waits until both have left the processor's
/// store buffer, behind the frame that was just written to another guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainId(u32);

impl ChainId {
    /// Split: the index of its first descriptor, and 1 for its entry in the available ring. Packed: its buffer id, and the
    /// descriptors of the ring that it takes up.
    #[inline]
    pub const fn new(id: u16, slots: u16) -> ChainId {
        ChainId((slots as u32) << 16 | id as u32)
    }

    /// See [`Self::new`].
    #[inline]
    pub const fn id(self) -> u16 {
        self.0 as u16
    }

    /// See [`Self::new`].
    #[inline]
    pub const fn slots(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// The buffers of one chain, in order. Reused from chain to chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// What it is returned by.
    pub id: ChainId,
    buffers: Vec<Buffer>,
    readable: usize,
    readable_len: u64,
    writable_len: u64,
}

impl Chain {
    /// Buffers that the driver filled.
    pub fn readable(&self) -> &[Buffer] {
        &self.buffers[..self.readable]
    }

    /// Buffers that the device fills.
    pub fn writable(&self) -> &[Buffer] {
        &self.buffers[self.readable..]
    }

    /// Octets in the readable buffers.
    pub fn readable_len(&self) -> u64 {
        self.readable_len
    }

    /// Octets in the writable buffers.
    pub fn writable_len(&self) -> u64 {
        self.writable_len
    }

    #[inline]
    pub(super) fn restart(&mut self, id: ChainId) {
        self.id = id;
        self.buffers.clear();
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
    }

    /// Adds the buffer of a descriptor that was found whole, to a chain that has none yet.
    #[inline]
    pub(super) fn push_run(&mut self, ready: &Ready) {
        let len = u64::from(ready.descriptor.len);
        let (readable, total) = match ready.descriptor.is_writable() {
            true => (0, &mut self.writable_len),
            false => (1, &mut self.readable_len),
        };
        *total = len;
        self.readable = readable;
        self.buffers.push(Buffer {
            ptr: ready.run,
            len: ready.descriptor.len as usize,
            guest: ready.descriptor.address,
        });
    }

    /// Adds the buffer of a descriptor, cut where it crosses from region to region.
    pub(super) fn push(
        &mut self,
        descriptor: &Descriptor,
        memory: &GuestMemory,
        cache: &mut RegionCache,
    ) -> Result<(), RingError> {
        let (address, len, writable) = (descriptor.address, descriptor.len, descriptor.is_writable());
        if len == 0 {
            return Err(RingError::EmptyBuffer(address));
        }
        if !writable && self.readable < self.buffers.len() {
            return Err(RingError::ReadableAfterWritable);
        }
        let total = if writable {
            &mut self.writable_len
        } else {
            &mut self.readable_len
        };
        *total += u64::from(len);
        if self.readable_len + self.writable_len > u64::from(u32::MAX) {
            return Err(RingError::TooLong);
        }
        let (mut guest, mut left) = (address, u64::from(len));
        while left > 0 {
            if self.buffers.len() == MAX_CHAIN_BUFFERS {
                return Err(RingError::TooManyBuffers);
            }
            let (ptr, run) = memory
                .run_at(guest, cache)
                .ok_or(RingError::BadBuffer { address, len })?;
            let take = run.min(left);
            self.buffers.push(Buffer {
                ptr,
                len: take as usize,
                guest,
            });
            self.readable += usize::from(!writable);
            left -= take;
            guest = guest.checked_add(take).filter(|_| left > 0).unwrap_or(guest);
        }
        Ok(())
    }
}
