//! Where the kernel writes frames that are received.

use crate::packet::{Slice, VirtioNetHeader};

/// The longest frame: an IP packet with an Ethernet header and two VLAN tags.
pub(crate) const FRAME_MAX: usize = 65535 + 14 + 8;
/// What of a frame lies close to others; most end here, so that a burst of them touches little memory.
const NEAR_LEN: usize = 2048;
const FAR_LEN: usize = FRAME_MAX - NEAR_LEN;

/// Room for some frames, each in two pieces, with their headers. A page is taken when it is first written to.
///
/// Nothing refers to the vectors' contents: the kernel writes to them, and frames that lie there are read.
#[derive(Debug)]
pub(crate) struct Buffers {
    headers: Vec<[u8; VirtioNetHeader::LEN]>,
    near: Vec<u8>,
    far: Vec<u8>,
}

impl Buffers {
    /// Room for `count` frames.
    pub(crate) fn new(count: usize) -> Buffers {
        Buffers {
            headers: vec![[0; VirtioNetHeader::LEN]; count],
            near: vec![0; count * NEAR_LEN],
            far: vec![0; count * FAR_LEN],
        }
    }

    /// Where the parts of the frame with this index go: its header, of this length, and its two pieces.
    ///
    /// # Panics
    /// If the index or the length is too large.
    pub(crate) fn parts(&mut self, index: usize, header_len: usize) -> [libc::iovec; 3] {
        assert!(index < self.headers.len() && header_len <= VirtioNetHeader::LEN);
        let part = |ptr: *mut u8, len| libc::iovec {
            iov_base: ptr.cast(),
            iov_len: len,
        };
        [
            part(self.headers.as_mut_ptr().wrapping_add(index).cast(), header_len),
            part(self.near.as_mut_ptr().wrapping_add(index * NEAR_LEN), NEAR_LEN),
            part(self.far.as_mut_ptr().wrapping_add(index * FAR_LEN), FAR_LEN),
        ]
    }

    /// The header of the frame with this index.
    ///
    /// # Panics
    /// If the index is too large.
    pub(crate) fn header(&self, index: usize) -> VirtioNetHeader {
        VirtioNetHeader::parse(&self.headers[index])
    }

    /// Where the first `len` octets of the frame with this index are.
    ///
    /// # Panics
    /// If the index is too large.
    pub(crate) fn slices(&self, index: usize, len: usize) -> impl Iterator<Item = Slice> {
        assert!(index < self.headers.len());
        let near = Slice {
            ptr: self.near.as_ptr().wrapping_add(index * NEAR_LEN),
            len: len.min(NEAR_LEN),
        };
        let far = Slice {
            ptr: self.far.as_ptr().wrapping_add(index * FAR_LEN),
            len: len.saturating_sub(NEAR_LEN).min(FAR_LEN),
        };
        [near, far].into_iter().filter(|slice| slice.len > 0)
    }
}
