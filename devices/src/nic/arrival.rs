//! Frames as a NIC received them: where they lie.

use crate::packet::{Frame, LINEAR_LEN, OffloadFeatures, Slice, VirtioNetHeader, VlanTag, accept};

/// Frames that are taken from a NIC at once.
pub const BURST: usize = 64;

/// Frames that a queue has given, in memory that is the queue's until it is released. Reused for every burst.
#[derive(Debug)]
pub struct Arrivals {
    frames: Vec<Arrival>,
    count: usize,
}

/// One frame. Nobody but the NIC's driver writes to where it lies, so it may be looked at there.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Where it lies, in order; at least one piece.
    pub slices: Vec<Slice>,
    /// What the NIC says of it.
    pub header: VirtioNetHeader,
    /// A tag that the NIC took out of it.
    pub vlan: Option<VlanTag>,
}

// SAFETY: the slices are only read, and the queue that owns the memory is locked while they are used.
unsafe impl Send for Arrival {}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals {
            frames: (0..BURST).map(|_| Arrival::with_room()).collect(),
            count: 0,
        }
    }
}

impl Arrivals {
    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// How many more frames there is room for.
    pub fn room(&self) -> usize {
        self.frames.len() - self.count
    }

    /// Adds an empty frame, to be filled in. None if there is no room.
    pub fn add(&mut self) -> Option<&mut Arrival> {
        let arrival = self.frames.get_mut(self.count)?;
        self.count += 1;
        arrival.slices.clear();
        (arrival.header, arrival.vlan) = (VirtioNetHeader::default(), None);
        Some(arrival)
    }

    /// Takes away the frame that was added last.
    pub fn remove_last(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// The frames, in the order of their arrival.
    pub fn frames(&self) -> &[Arrival] {
        &self.frames[..self.count]
    }
}

impl Arrival {
    fn with_room() -> Arrival {
        Arrival {
            slices: Vec::with_capacity(20),
            ..Arrival::default()
        }
    }

    /// Length in octets.
    pub fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.len).sum()
    }

    /// Whether it has no octet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first piece.
    pub fn first(&self) -> &[u8] {
        match self.slices.first() {
            // SAFETY: the piece is mapped and nobody writes to it while the queue is not released.
            Some(slice) => unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) },
            None => &[],
        }
    }

    /// Makes `frame` this one, its first octets copied and the rest where it is. False if the NIC's word on it makes no
    /// sense.
    pub fn fill(&self, frame: &mut Frame) -> bool {
        frame.clear();
        for slice in &self.slices {
            // SAFETY: the piece stays mapped until the queue is released, which the caller does after the frame is gone.
            unsafe { frame.push_slice(*slice) };
        }
        frame.pull(LINEAR_LEN.min(frame.len()));
        frame.meta.vlan = self.vlan;
        if accept(frame, &self.header, OffloadFeatures::ALL).is_err() {
            return false;
        }
        // A NIC's word on checksums that it has verified is worth more than a guest's.
        frame.offload.data_valid = self.header.data_valid();
        true
    }
}
