//! A frame in flight: a private copy of its first octets, the rest still where the sender put it.

use std::fmt;

use super::{MacAddress, Offload};

/// Octets of a frame that are copied out of guest memory before anyone looks at them.
pub const LINEAR_LEN: usize = 256;
/// The most octets that are pulled into a frame's head to be looked at.
pub const HEAD_CAPACITY: usize = 2048;
/// The most that a frame's head can hold: a whole frame of any length, with room for what programs put around it.
pub const HEAD_ROOM: usize = 128 * 1024;

/// A run of octets that stays in the sender's memory.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// First octet; valid for `len` octets while the frame's source is pinned.
    pub ptr: *const u8,
    /// Length in octets.
    pub len: usize,
}

/// Who a frame is addressed to, seen from its receiver (Linux `skb->pkt_type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketType {
    /// To the receiver.
    #[default]
    Host = 0,
    /// To everyone.
    Broadcast = 1,
    /// To a group.
    Multicast = 2,
    /// To someone else.
    OtherHost = 3,
}

/// What travels with a frame beside its octets and offloads (the `sk_buff` fields that programs see).
///
/// The order is kept, because a load that reaches over two stores waits until both have left the processor's store buffer,
/// behind the frame that was just written to another guest. What is cleared for each frame comes first, and makes up three
/// stores of 16 octets that do not overlap; `protocol`, which xmit has just stored, has no other field of two octets beside
/// it that would be loaded together with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Metadata {
    /// `skb->tstamp` in nanoseconds; 0 is unset.
    pub tstamp: u64,
    /// `skb->mark`.
    pub mark: u32,
    /// `skb->priority`.
    pub priority: u32,
    /// `skb->cb` as programs see it; survives a redirect.
    pub cb: [u32; 5],
    /// `skb->tc_classid`.
    pub tc_classid: u32,
    /// `skb->hash`; 0 is not computed.
    pub hash: u32,
    /// `skb->tc_index`.
    pub tc_index: u16,
    /// `skb->queue_mapping`.
    pub queue_mapping: u16,
    /// A VLAN tag that the frame carries beside its octets; it is put into them before the frame leaves.
    pub vlan: Option<VlanTag>,
    /// Seen from the receiver.
    pub packet_type: PacketType,
    /// EtherType as the sender's stack set it, in host order.
    pub protocol: u16,
}

/// A VLAN tag (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag protocol: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// Tag control information.
    pub tci: u16,
}

/// One frame on its way from a source to a target.
///
/// The first octets (the head) are private memory; the tail is a list of slices of the sender's
/// memory. What programs see and what is delivered is the head's copy, never the original.
pub struct Frame {
    head: Box<[u8]>,
    head_len: usize,
    tail: Vec<Slice>,
    tail_len: usize,
    /// What is left to compute or cut.
    pub offload: Offload,
    /// What travels beside the octets.
    pub meta: Metadata,
}

// SAFETY: the slices are only read, and whoever pushes them guarantees that they stay mapped while
// the frame is used, whichever thread uses it (see `push_slice`).
unsafe impl Send for Frame {}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// An empty frame with room for its head; reuse it, for this allocates.
    pub fn new() -> Frame {
        Frame {
            head: vec![0; HEAD_ROOM].into_boxed_slice(),
            head_len: 0,
            tail: Vec::with_capacity(64),
            tail_len: 0,
            offload: Offload::default(),
            meta: Metadata::default(),
        }
    }

    /// A frame whose octets are all private.
    ///
    /// # Panics
    /// If `octets` is longer than [`HEAD_ROOM`].
    pub fn from_octets(octets: &[u8]) -> Frame {
        let mut frame = Frame::new();
        frame.extend_head(octets.len()).copy_from_slice(octets);
        frame
    }

    /// Makes the frame empty and its metadata zero.
    #[inline]
    pub fn clear(&mut self) {
        self.head_len = 0;
        self.tail.clear();
        self.tail_len = 0;
        self.offload = Offload::default();
        self.meta = Metadata::default();
    }

    /// Length of the frame in octets, Ethernet header included.
    #[inline]
    pub fn len(&self) -> usize {
        self.head_len + self.tail_len
    }

    /// Whether it has no octet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The private first octets.
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// The private first octets, to be changed in place.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        &mut self.head[..self.head_len]
    }

    /// The octets that are still in the sender's memory.
    #[inline]
    pub fn tail(&self) -> &[Slice] {
        &self.tail
    }

    /// Octets in the tail.
    pub fn tail_len(&self) -> usize {
        self.tail_len
    }

    /// Adds `len` octets to the head, to be filled in by the caller.
    ///
    /// # Panics
    /// If the head would exceed [`HEAD_ROOM`], or the frame has a tail already.
    #[inline]
    pub fn extend_head(&mut self, len: usize) -> &mut [u8] {
        assert!(self.tail.is_empty(), "the head grows before the tail is pushed");
        let start = self.head_len;
        self.head_len += len;
        &mut self.head[start..self.head_len]
    }

    /// Appends octets that stay where they are.
    ///
    /// # Safety
    /// `slice` must stay mapped and readable for as long as the frame holds it. Others may write to
    /// it meanwhile; nothing is decided from its contents.
    #[inline]
    pub unsafe fn push_slice(&mut self, slice: Slice) {
        if slice.len > 0 {
            self.tail.push(slice);
            self.tail_len += slice.len;
        }
    }

    /// Moves octets from the tail to the head until the head has at least `len` octets.
    ///
    /// Returns false, with nothing changed, if the frame or the head's room is shorter than that.
    #[inline]
    pub fn pull(&mut self, len: usize) -> bool {
        len <= self.head_len || self.pull_tail(len)
    }

    fn pull_tail(&mut self, len: usize) -> bool {
        if len > self.len() || len > HEAD_CAPACITY {
            return false;
        }
        let mut emptied = 0;
        for slice in &mut self.tail {
            let take = slice.len.min(len - self.head_len);
            // SAFETY: the slice is mapped (`push_slice`), the head is private and has room for `take`
            // octets because `len` fits in it.
            unsafe {
                std::ptr::copy_nonoverlapping(slice.ptr, self.head.as_mut_ptr().add(self.head_len), take);
                slice.ptr = slice.ptr.add(take);
            }
            slice.len -= take;
            self.head_len += take;
            self.tail_len -= take;
            if slice.len > 0 {
                break;
            }
            emptied += 1;
        }
        self.tail.drain(..emptied);
        true
    }

    /// Puts other octets in place of the head.
    ///
    /// # Panics
    /// If there are more than [`HEAD_ROOM`].
    pub fn set_head(&mut self, octets: &[u8]) {
        self.head[..octets.len()].copy_from_slice(octets);
        self.head_len = octets.len();
    }

    /// Copies octets of the tail, from `offset` in it.
    ///
    /// # Panics
    /// If the tail is shorter than that.
    pub fn read_tail(&self, mut offset: usize, mut to: &mut [u8]) {
        assert!(offset + to.len() <= self.tail_len, "the tail is long enough");
        for slice in &self.tail {
            if offset >= slice.len {
                offset -= slice.len;
                continue;
            }
            let take = to.len().min(slice.len - offset);
            let (now, rest) = to.split_at_mut(take);
            // SAFETY: the slice is mapped (`push_slice`) and has `take` octets from `offset` on.
            unsafe { std::ptr::copy_nonoverlapping(slice.ptr.add(offset), now.as_mut_ptr(), take) };
            (to, offset) = (rest, 0);
        }
    }

    /// Moves the first octets of the tail to `to`.
    ///
    /// # Panics
    /// If the tail is shorter than that.
    pub fn take_tail(&mut self, to: &mut [u8]) {
        self.read_tail(0, to);
        let mut left = to.len();
        self.tail_len -= left;
        let mut emptied = 0;
        for slice in &mut self.tail {
            let take = left.min(slice.len);
            // SAFETY: the slice has `take` octets.
            slice.ptr = unsafe { slice.ptr.add(take) };
            slice.len -= take;
            left -= take;
            if slice.len > 0 {
                break;
            }
            emptied += 1;
        }
        self.tail.drain(..emptied);
    }

    /// Cuts the tail to `len` octets; it does not grow.
    pub fn truncate_tail(&mut self, len: usize) {
        let mut left = len;
        for slice in &mut self.tail {
            slice.len = slice.len.min(left);
            left -= slice.len;
        }
        self.tail.retain(|slice| slice.len > 0);
        self.tail_len = self.tail.iter().map(|slice| slice.len).sum();
    }

    /// Makes this frame a copy of another, with octets of its own: none of the copy lies in the sender's memory.
    ///
    /// # Panics
    /// If the other is longer than [`HEAD_ROOM`].
    pub fn copy_from(&mut self, other: &Frame) {
        self.clear();
        let len = other.len();
        assert!(len <= HEAD_ROOM, "a frame fits in a head");
        self.head[..other.head_len].copy_from_slice(other.head());
        other.read_tail(0, &mut self.head[other.head_len..len]);
        self.head_len = len;
        self.offload = other.offload;
        self.meta = other.meta;
    }

    /// Puts the tag that the frame carries beside its octets into them, behind the addresses (IEEE 802.1Q, 9.3).
    #[inline]
    pub fn insert_vlan_tag(&mut self) {
        if let Some(tag) = self.meta.vlan.take() {
            self.insert_tag(tag);
        }
    }

    fn insert_tag(&mut self, tag: VlanTag) {
        const ADDRESSES: usize = 12;
        const TAG: usize = 4;
        if self.head_len < ADDRESSES || self.head_len + TAG > self.head.len() {
            return;
        }
        self.head.copy_within(ADDRESSES..self.head_len, ADDRESSES + TAG);
        self.head_len += TAG;
        self.head[12..14].copy_from_slice(&tag.protocol.to_be_bytes());
        self.head[14..16].copy_from_slice(&tag.tci.to_be_bytes());
        if self.offload.needs_csum {
            self.offload.csum_start += TAG as u16;
        }
        if self.offload.hdr_len > 0 {
            self.offload.hdr_len += TAG as u16;
        }
        if let Some(encapsulation) = &mut self.offload.encapsulation {
            encapsulation.inner += TAG as u16;
        }
    }

    /// Takes a tag that stands behind the addresses out of the octets, to be carried beside them. Nothing changes if there
    /// is none, or if the frame carries one already.
    #[inline]
    pub fn extract_vlan_tag(&mut self) {
        let kind = self.head().get(12..14);
        if matches!(kind, Some([0x81, 0x00] | [0x88, 0xa8])) && self.meta.vlan.is_none() {
            self.extract_tag();
        }
    }

    fn extract_tag(&mut self) {
        const ADDRESSES: usize = 12;
        const TAG: usize = 4;
        // The tag, and the type behind it.
        if !self.pull(ADDRESSES + TAG + 2) {
            return;
        }
        let word = |at: usize| u16::from_be_bytes([self.head[at], self.head[at + 1]]);
        self.meta.vlan = Some(VlanTag {
            protocol: word(ADDRESSES),
            tci: word(ADDRESSES + 2),
        });
        self.head.copy_within(ADDRESSES + TAG..self.head_len, ADDRESSES);
        self.head_len -= TAG;
        let before = |offset: u16| offset.saturating_sub(TAG as u16);
        if self.offload.needs_csum {
            self.offload.csum_start = before(self.offload.csum_start);
        }
        self.offload.hdr_len = before(self.offload.hdr_len);
        if let Some(encapsulation) = &mut self.offload.encapsulation {
            encapsulation.inner = before(encapsulation.inner);
        }
    }

    /// Destination address, if the head holds a whole Ethernet header.
    #[inline]
    pub fn destination(&self) -> Option<MacAddress> {
        self.head().first_chunk::<6>().map(|octets| MacAddress(*octets))
    }

    /// Source address, if the head holds a whole Ethernet header.
    pub fn source(&self) -> Option<MacAddress> {
        self.head()
            .get(6..12)?
            .first_chunk::<6>()
            .map(|octets| MacAddress(*octets))
    }

    /// Copies the whole frame out, for tests, traces and captures.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut octets = self.head().to_vec();
        for slice in &self.tail {
            let start = octets.len();
            octets.resize(start + slice.len, 0);
            // SAFETY: the slice is mapped (`push_slice`) and the target was just made that long.
            unsafe { std::ptr::copy_nonoverlapping(slice.ptr, octets[start..].as_mut_ptr(), slice.len) };
        }
        octets
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("len", &self.len())
            .field("head_len", &self.head_len)
            .field("slices", &self.tail.len())
            .field("offload", &self.offload)
            .field("meta", &self.meta)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Encapsulation;

    #[test]
    fn the_tail_is_read_taken_and_cut() {
        let rest: Vec<u8> = (0..100).collect();
        let mut frame = Frame::from_octets(&[7; 14]);
        for part in rest.chunks(30) {
            // SAFETY: `rest` outlives the frame.
            unsafe {
                frame.push_slice(Slice {
                    ptr: part.as_ptr(),
                    len: part.len(),
                })
            };
        }
        let mut octets = [0; 50];
        frame.read_tail(20, &mut octets);
        assert_eq!(octets, rest[20..70]);
        frame.take_tail(&mut octets);
        assert_eq!((octets.as_slice(), frame.tail_len()), (&rest[..50], 50));
        frame.truncate_tail(15);
        assert_eq!(frame.to_vec()[14..], rest[50..65]);
        let mut copy = Frame::new();
        copy.copy_from(&frame);
        assert_eq!((copy.to_vec(), copy.tail().len()), (frame.to_vec(), 0));
        frame.set_head(&[9; 3000]);
        assert_eq!((frame.head().len(), frame.len()), (3000, 3015));
    }

    #[test]
    fn a_tag_beside_the_frame_goes_behind_its_addresses() {
        let mut frame = Frame::from_octets(&[[1; 12].as_slice(), &[8, 0], &[2; 20]].concat());
        frame.meta.vlan = Some(VlanTag {
            protocol: 0x8100,
            tci: 0x2005,
        });
        frame.offload.needs_csum = true;
        frame.offload.csum_start = 34;
        frame.offload.encapsulation = Some(Encapsulation {
            inner: 20,
            udp: false,
        });
        frame.insert_vlan_tag();
        assert_eq!(frame.head()[10..20], [1, 1, 0x81, 0, 0x20, 5, 8, 0, 2, 2]);
        assert_eq!((frame.len(), frame.offload.csum_start), (38, 38));
        assert_eq!(frame.offload.encapsulation.unwrap().inner, 24);
        frame.insert_vlan_tag();
        assert_eq!(frame.len(), 38, "once");
        frame.extract_vlan_tag();
        let tag = VlanTag {
            protocol: 0x8100,
            tci: 0x2005,
        };
        assert_eq!(frame.meta.vlan, Some(tag));
        assert_eq!(frame.to_vec(), [[1; 12].as_slice(), &[8, 0], &[2; 20]].concat());
        assert_eq!(frame.offload.csum_start, 34);
        assert_eq!(frame.offload.encapsulation.unwrap().inner, 20);
        frame.extract_vlan_tag();
        assert_eq!(
            (frame.len(), frame.meta.vlan),
            (34, Some(tag)),
            "there is none left"
        );
    }

    #[test]
    fn a_frame_without_room_for_a_tag_has_none() {
        for len in 12..18 {
            let mut frame =
                Frame::from_octets(&[[1; 12].as_slice(), &[0x88, 0xa8, 0, 1, 8]].concat()[..len.min(17)]);
            frame.extract_vlan_tag();
            assert_eq!((frame.len(), frame.meta.vlan), (len.min(17), None));
        }
    }

    #[test]
    fn pull_moves_octets_and_keeps_the_frame() {
        let rest: Vec<u8> = (0..100).collect();
        let mut frame = Frame::from_octets(&[7; 14]);
        for part in rest.chunks(30) {
            // SAFETY: `rest` outlives the frame.
            unsafe {
                frame.push_slice(Slice {
                    ptr: part.as_ptr(),
                    len: part.len(),
                })
            };
        }
        let before = frame.to_vec();
        assert!(frame.pull(60));
        assert_eq!((frame.head().len(), frame.len()), (60, 114));
        assert_eq!(frame.to_vec(), before);
        assert!(!frame.pull(115));
        assert!(frame.pull(114) && frame.tail().is_empty());
        assert_eq!(frame.to_vec(), before);
    }
}
