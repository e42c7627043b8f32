//! Memory for frames on their way to a device: they are copied in one behind the other, and leave in the same order.

use super::{DmaMemory, Plain};
use crate::packet::{Frame, Slice};

/// No piece reaches over a page: what is one run to us is not one behind an IOMMU, and QEMU's model of the 82576 drops
/// frames that lie so.
pub const PAGE: usize = 4096;
/// Frames start at cache lines.
const ALIGNMENT: usize = 64;

/// Memory that is used round and round.
#[derive(Debug)]
pub struct FramePool {
    memory: DmaMemory,
    /// Octets that were taken and given back since the beginning of time.
    taken: usize,
    returned: usize,
}

/// Where a frame lies, in octets since the beginning of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    start: usize,
    /// What [`FramePool::give_back`] is told when the frame is gone.
    pub end: usize,
}

impl FramePool {
    /// Uses this memory, which is some pages long.
    pub fn new(memory: DmaMemory) -> FramePool {
        FramePool {
            memory,
            taken: 0,
            returned: 0,
        }
    }

    /// Room for a frame, which is not taken yet. What fits into one page lies in one page.
    #[inline]
    pub fn find(&self, len: usize) -> Option<Place> {
        let start = self.taken.next_multiple_of(ALIGNMENT);
        let start = match len.min(PAGE) <= PAGE - start % PAGE {
            true => start,
            false => start.next_multiple_of(PAGE),
        };
        let end = start + len;
        (end - self.returned <= self.memory.octets()).then_some(Place { start, end })
    }

    /// Takes the room.
    #[inline]
    pub fn take(&mut self, place: Place) {
        self.taken = place.end;
    }

    /// Takes back the room of all frames up to one that ended there.
    #[inline]
    pub fn give_back(&mut self, end: usize) {
        self.returned = end;
    }

    /// Copies octets and the frame behind them to their place.
    #[inline]
    pub fn copy(&self, place: Place, before: &[u8], frame: &Frame) {
        let mut at = place.start;
        let slice = |octets: &[u8]| Slice {
            ptr: octets.as_ptr(),
            len: octets.len(),
        };
        self.copy_slice(&mut at, slice(before));
        self.copy_slice(&mut at, slice(frame.head()));
        for tail in frame.tail() {
            self.copy_slice(&mut at, *tail);
        }
    }

    #[inline]
    fn copy_slice(&self, at: &mut usize, mut slice: Slice) {
        while slice.len > 0 {
            let offset = *at % self.memory.octets();
            let now = Slice {
                len: slice.len.min(self.memory.octets() - offset),
                ..slice
            };
            // SAFETY: the slice is a frame's, which is mapped while the frame holds it (`Frame::push_slice`), or borrowed.
            unsafe { self.memory.copy_in(offset, now) };
            // SAFETY: the slice has that many octets.
            slice.ptr = unsafe { slice.ptr.add(now.len) };
            slice.len -= now.len;
            *at += now.len;
        }
    }

    /// Writes to the copy, in the first page of a frame.
    #[inline]
    pub fn write<T: Plain>(&self, place: Place, offset: usize, value: T) {
        self.memory
            .write(place.start % self.memory.octets() + offset, value);
    }

    /// The pieces of the place: the address that the device sees, and the length. None is longer than a page.
    #[inline]
    pub fn pieces(&self, place: Place) -> impl Iterator<Item = (u64, usize)> {
        let mut at = place.start;
        std::iter::from_fn(move || {
            let len = (place.end - at).min(PAGE - at % PAGE);
            let piece = (self.memory.iova(at % self.memory.octets()), len);
            at += len;
            (len > 0).then_some(piece)
        })
    }
}

/// How many pieces a frame of this length has at most.
pub fn pieces_max(len: usize) -> usize {
    len.div_ceil(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(pages: usize) -> FramePool {
        FramePool::new(DmaMemory::without_device(pages * PAGE))
    }

    #[test]
    fn pieces_cover_the_frame_and_none_reaches_over_a_page() {
        let mut pool = pool(32);
        for len in [60, 4096, 1514, 9000, 65549, 1, 3000, 70] {
            let place = pool.find(len).unwrap();
            pool.take(place);
            let pieces: Vec<_> = pool.pieces(place).collect();
            assert_eq!(pieces.iter().map(|piece| piece.1).sum::<usize>(), len);
            assert!(pieces.len() <= pieces_max(len), "{len}: {pieces:?}");
            for (address, len) in pieces {
                assert_eq!(address / PAGE as u64, (address + len as u64 - 1) / PAGE as u64);
            }
            pool.give_back(place.end);
        }
    }

    #[test]
    fn a_frame_is_copied_whole_also_around_the_end_of_the_memory() {
        let mut pool = pool(4);
        let octets: Vec<u8> = (0..9000).map(|index| (index % 251) as u8).collect();
        for _ in 0..5 {
            let mut frame = Frame::from_octets(&octets[..100]);
            // SAFETY: the octets outlive the frame.
            unsafe {
                frame.push_slice(Slice {
                    ptr: octets[100..].as_ptr(),
                    len: octets.len() - 100,
                })
            };
            let place = pool.find(3 + frame.len()).unwrap();
            pool.take(place);
            pool.copy(place, &[7, 8, 9], &frame);
            let copied: Vec<u8> = (place.start..place.end)
                .map(|at| pool.memory.read::<u8>(at % pool.memory.octets()))
                .collect();
            assert_eq!(copied, [&[7, 8, 9], octets.as_slice()].concat());
            pool.give_back(place.end);
        }
    }

    #[test]
    fn what_is_on_its_way_is_not_written_over() {
        let mut pool = pool(2);
        let first = pool.find(5000).unwrap();
        pool.take(first);
        assert_eq!(pool.find(5000), None);
        let second = pool.find(3000).unwrap();
        pool.take(second);
        assert!(second.start >= first.end);
        assert_eq!(pool.find(200), None, "all is taken");
        pool.give_back(first.end);
        assert!(pool.find(4096).is_some());
        pool.give_back(second.end);
        assert!(pool.find(4096).is_some());
    }
}
