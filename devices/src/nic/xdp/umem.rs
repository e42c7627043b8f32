//! The memory that frames lie in on their way from and to the kernel, and the frames of it that nobody uses.

use std::io;
use std::ptr::NonNull;

use crate::memory::{GuestMemory, Region};
use crate::nic::mapping::Mapping;

/// The size of one frame's room: a page, the most that the kernel takes without huge pages.
pub const CHUNK: usize = 4096;
/// How much of a frame that is received a chunk holds: the kernel keeps `XDP_PACKET_HEADROOM` free.
pub const RX_ROOM: usize = CHUNK - 256;
/// Where a frame to be sent starts in its chunk, with what is asked of the kernel in front of it.
pub const TX_HEADROOM: usize = 64;
/// How much of a frame to be sent a chunk holds.
pub const TX_ROOM: usize = CHUNK - TX_HEADROOM;

/// The memory of one queue: frames to be received, frames to be sent, then a guest's memory if frames are sent from it.
#[derive(Debug)]
pub struct Umem {
    memory: Mapping,
    frames: usize,
    guest: Vec<Shown>,
    /// Keeps the places where the guest's memory is mapped a first time from becoming something else.
    _regions: GuestMemory,
}

/// A region of a guest's memory: where it is mapped for everyone, and where it is in ours.
#[derive(Debug)]
struct Shown {
    host: usize,
    len: usize,
    at: usize,
}

impl Umem {
    /// Memory for this many frames each way, and all of a guest's. That is present and pinned from then on.
    pub fn new(frames: u32, guest: &GuestMemory) -> io::Result<Umem> {
        let frames = frames as usize;
        let mut len = 2 * frames * CHUNK;
        let mut shown = Vec::new();
        for region in guest.regions() {
            let region_len = region.spec.size as usize;
            shown.push(Shown {
                host: region.host(),
                len: region_len,
                at: len,
            });
            let pages = region_len.checked_next_multiple_of(CHUNK);
            let end = pages.and_then(|pages| len.checked_add(pages));
            len = end.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        }
        let mut memory = match shown.first() {
            None => Mapping::anonymous(len, libc::MAP_POPULATE)?,
            Some(_) => Mapping::anonymous(len, 0)?,
        };
        for (region, place) in guest.regions().iter().zip(&shown) {
            show(&mut memory, region, place)?;
        }
        Ok(Umem {
            memory,
            frames,
            guest: shown,
            _regions: guest.clone(),
        })
    }

    /// All of it, for the kernel.
    pub(in crate::nic) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Whether frames can be sent from a guest's memory.
    pub fn has_guest(&self) -> bool {
        !self.guest.is_empty()
    }

    /// The address of octets of the guest, and how many follow in the same region.
    #[inline]
    pub fn address_of(&self, octets: *const u8) -> Option<(u64, usize)> {
        self.guest.iter().find_map(|region| {
            let offset = (octets as usize).wrapping_sub(region.host);
            (offset < region.len).then(|| ((region.at + offset) as u64, region.len - offset))
        })
    }

    /// The frames to receive into.
    pub fn to_receive(&self) -> Frames {
        Frames::new(0, self.frames)
    }

    /// The frames to send from.
    pub fn to_send(&self) -> Frames {
        Frames::new(self.frames * CHUNK, self.frames)
    }

    /// The octets that a descriptor speaks of; None if they are not all in it.
    #[inline]
    pub fn octets(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        self.memory.at(usize::try_from(address).ok()?, len)
    }
}

fn show(memory: &mut Mapping, region: &Region, place: &Shown) -> io::Result<()> {
    let file = region
        .file()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    memory.replace(place.at, place.len, file, region.spec.file_offset)
}

/// The frames of one direction that are not on their way, by their address in the memory.
#[derive(Debug)]
pub struct Frames {
    free: Vec<u64>,
    start: u64,
    end: u64,
}

impl Frames {
    fn new(start: usize, count: usize) -> Frames {
        let address = |index: usize| (start + index * CHUNK) as u64;
        Frames {
            // The first one is taken first.
            free: (0..count).rev().map(address).collect(),
            start: address(0),
            end: address(count),
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Takes one.
    #[inline]
    pub fn take(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// Gives the one back that an address lies in. False, and nothing is done, if that is not of this direction.
    #[inline]
    pub fn give(&mut self, address: u64) -> bool {
        let chunk = address & !(CHUNK as u64 - 1);
        let is_ours = (self.start..self.end).contains(&chunk);
        if is_ours && self.free.len() < self.free.capacity() {
            self.free.push(chunk);
        }
        is_ours
    }
}
