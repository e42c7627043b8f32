//! Frames that are sent from where they lie: a guest's octets in pieces that the kernel takes.

use super::socket::TxMetadata;
use super::umem::{CHUNK, Umem};
use crate::packet::Frame;

/// The kernel counts the metadata's length in for every piece, though only the first of a frame has it.
const PIECE_MAX: usize = CHUNK - size_of::<TxMetadata>();

/// A run of a guest's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the socket's memory.
    pub address: u64,
    /// Its length.
    pub len: u32,
}

/// Cuts a frame's tail into pieces. False if the frame would have more than `parts_max` parts, or does not lie in the
/// guest's memory.
///
/// No piece crosses a page, as neighbouring pages need not be neighbours for a NIC.
pub fn cut(umem: &Umem, frame: &Frame, parts_max: usize, pieces: &mut Vec<Piece>) -> bool {
    pieces.clear();
    for slice in frame.tail() {
        let Some((start, follow)) = umem.address_of(slice.ptr) else {
            return false;
        };
        if slice.len > follow {
            return false;
        }
        let (mut address, mut left) = (start, slice.len);
        while left > 0 {
            let to_page_end = CHUNK - address as usize % CHUNK;
            let len = left.min(to_page_end).min(PIECE_MAX);
            // The head is the frame's first part.
            if pieces.len() + 1 >= parts_max {
                return false;
            }
            pieces.push(Piece {
                address,
                len: len as u32,
            });
            address += len as u64;
            left -= len;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::FromRawFd;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::{GuestMemory, Region, RegionSpec};
    use crate::nic::xdp::transmit::MAX_PARTS;
    use crate::packet::Slice;

    fn region(guest: u64, size: u64) -> Region {
        // SAFETY: plain system call; the descriptor is ours.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
        file.set_len(size).unwrap();
        let spec = RegionSpec {
            guest,
            size,
            user: guest,
            file_offset: 0,
        };
        Region::map(spec, file).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn pieces_are_the_frames_octets_within_pages(
            runs in prop::collection::vec((0..2usize, 0..0x7000usize, 1..5000usize), 0..6),
        ) {
            let guest = GuestMemory::new(vec![region(0, 0x10000), region(0x100000, 0x10000)]).unwrap();
            let umem = Umem::new(1, &guest).unwrap();
            let mut frame = Frame::from_octets(&[1; 64]);
            let mut number = 0u8;
            for (region, offset, len) in &runs {
                let start = (guest.regions()[*region].host() + offset) as *mut u8;
                for index in 0..*len {
                    number = number.wrapping_mul(5).wrapping_add(7);
                    // SAFETY: it lies in the region.
                    unsafe { start.add(index).write(number) };
                }
                // SAFETY: the region outlives the frame.
                unsafe { frame.push_slice(Slice { ptr: start, len: *len }) };
            }
            let mut pieces = Vec::new();
            prop_assert!(cut(&umem, &frame, MAX_PARTS, &mut pieces));
            let mut octets = frame.head().to_vec();
            for piece in pieces {
                prop_assert!(piece.len > 0 && piece.len as usize <= PIECE_MAX);
                prop_assert!(piece.address as usize % CHUNK + piece.len as usize <= CHUNK);
                let start = umem.octets(piece.address, piece.len as usize).unwrap();
                // SAFETY: it lies in the memory.
                octets.extend(unsafe { std::slice::from_raw_parts(start.as_ptr(), piece.len as usize) });
            }
            prop_assert_eq!(octets, frame.to_vec());
        }
    }

    #[test]
    fn what_is_not_the_guests_or_has_too_many_pieces_is_not_sent_in_place() {
        let guest = GuestMemory::new(vec![region(0, 0x20000)]).unwrap();
        let umem = Umem::new(1, &guest).unwrap();
        let host = guest.regions()[0].host() as *const u8;
        let others = [0u8; 64];
        let end = host.wrapping_add(0x20000 - 8);
        let mut pieces = Vec::new();
        for (ptr, len) in [
            (others.as_ptr(), 64),
            (end, 9),
            (host.wrapping_sub(1), 2),
            (host, 0x20000),
        ] {
            let mut frame = Frame::from_octets(&[1; 64]);
            // SAFETY: nobody reads what the slice points to.
            unsafe { frame.push_slice(Slice { ptr, len }) };
            assert!(!cut(&umem, &frame, MAX_PARTS, &mut pieces), "{len} octets");
        }
    }
}
