//! What the engine asks of whoever hands it a frame.

use crate::Errno;

/// The octets of a frame: a private linear part, and fragments that may lie in somebody else's memory.
pub trait Octets {
    /// The linear part.
    fn linear(&self) -> &[u8];

    /// Puts another linear part in place of the one there was.
    fn set_linear(&mut self, octets: &[u8]);

    /// Octets behind the linear part.
    fn fragments_len(&self) -> usize;

    /// The linear part, and how many octets are behind it.
    fn parts(&self) -> (&[u8], usize) {
        (self.linear(), self.fragments_len())
    }

    /// Copies octets of the fragments, from `offset` in them. The caller has seen to it that they are there.
    fn read_fragments(&self, offset: usize, to: &mut [u8]);

    /// Takes the first octets of the fragments away and puts them into `to`. The caller has seen to it that they are
    /// there, and adds them to the linear part.
    fn take_fragments(&mut self, to: &mut [u8]);

    /// Cuts the fragments to `len` octets, which is no more than there are.
    fn truncate_fragments(&mut self, len: usize);
}

/// What travels beside a frame's octets: the fields of `struct sk_buff` that programs and helpers see.
///
/// What programs write stands apart from what they only read, and no two are neighbours here that are in the context:
/// they would be fetched at once, which takes a processor long when one of them has just been stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Metadata {
    /// `PACKET_HOST` and so on (linux/if_packet.h).
    pub packet_type: u32,
    pub ingress_ifindex: u32,
    /// 0 is not computed.
    pub hash: u32,
    /// The device that the program runs on.
    pub ifindex: u32,
    pub mark: u32,
    pub priority: u32,
    pub tc_classid: u32,
    pub cb: [u32; 5],
    /// In nanoseconds; 0 is unset.
    pub tstamp: u64,
    /// `BPF_SKB_CLOCK_*` (linux/bpf.h).
    pub tstamp_type: u8,
    pub queue_mapping: u16,
    /// EtherType in host order.
    pub protocol: u16,
    pub tc_index: u16,
    /// The tag that the frame carries beside its octets.
    pub vlan: Option<VlanTag>,
    /// What is still to be computed or cut.
    pub offload: Offload,
    /// Where the headers are.
    pub layers: Layers,
}

/// Where a frame's headers are, which its octets alone do not tell (`network_header` and so on in `struct sk_buff`).
/// The Ethernet header is always the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// Where the network header starts, in octets from the start of the frame.
    pub network: u32,
    /// Where the transport header starts, if that is known.
    pub transport: Option<u32>,
    /// A helper put an outer header around the frame (`encapsulation`).
    pub encapsulated: bool,
    /// With `Offload::verified`: how many more checksums than the first the sender vouches for (`csum_level`).
    pub checksum_level: u8,
}

impl Default for Layers {
    fn default() -> Layers {
        Layers {
            network: 14,
            transport: None,
            encapsulated: false,
            checksum_level: 0,
        }
    }
}

/// A VLAN tag beside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// 0x8100 or 0x88a8, in host order.
    pub protocol: u16,
    /// Tag control information.
    pub tci: u16,
}

/// What is left to do on a frame before it may go on a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// `CHECKSUM_PARTIAL`: the checksum of everything from `start` on is still to be stored at `start + offset`.
    pub partial: Option<PartialChecksum>,
    /// `CHECKSUM_UNNECESSARY`: the sender vouches for the checksums.
    pub verified: bool,
    /// How the frame is to be cut.
    pub gso: Option<Gso>,
}

/// A checksum that is still to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// In octets from the start of the frame.
    pub start: u16,
    /// In octets from `start`.
    pub offset: u16,
}

/// Segmentation that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// What the segments are.
    pub kind: GsoKind,
    /// Payload octets of each (`gso_size`).
    pub size: u16,
    /// How many there will be (`gso_segs`); 0 is not known.
    pub segments: u16,
    /// Octets of all headers in each segment, for `wire_len`.
    pub header_len: u16,
    /// The sender's TCP uses ECN.
    pub ecn: bool,
    /// Octets in front of the innermost network header that helpers added as an outer header. Those headers' lengths
    /// and checksums have to be made anew for each segment. 0: none.
    pub encapsulation: Option<Encapsulation>,
}

/// What segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams (`SKB_GSO_UDP_L4`).
    Udp,
}

/// An outer header that `bpf_skb_adjust_room` put around a frame that is still to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encapsulation {
    /// Where the inner network header starts, in octets from the start of the frame.
    pub inner: u16,
    /// Whether the outer headers end in UDP (`BPF_F_ADJ_ROOM_ENCAP_L4_UDP`).
    pub udp: bool,
}

/// A next hop (linux/bpf.h: `struct bpf_redir_neigh`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Found by routing the frame.
    FromFrame,
    /// This IPv4 neighbour.
    Ipv4([u8; 4]),
    /// This IPv6 neighbour.
    Ipv6([u8; 16]),
}

/// What surrounds a run: devices, routes, neighbours. Ifindexes are those of the domain that the program runs in.
pub trait Environment {
    /// `bpf_redirect`: remembers a target for the verdict REDIRECT. Returns what the helper returns.
    fn redirect(&mut self, ifindex: u32, flags: u64) -> i64;

    /// `bpf_redirect_peer`.
    fn redirect_peer(&mut self, ifindex: u32, flags: u64) -> i64;

    /// `bpf_redirect_neigh`.
    fn redirect_neigh(&mut self, ifindex: u32, next_hop: NextHop, flags: u64) -> i64;

    /// `bpf_clone_redirect`: sends a copy of the frame at once; `linear` is its linear part as it is now.
    fn clone_redirect(
        &mut self,
        linear: &[u8],
        octets: &dyn Octets,
        metadata: &Metadata,
        ifindex: u32,
        flags: u64,
    ) -> Result<(), Errno>;

    /// `bpf_fib_lookup`: `parameters` is the program's `struct bpf_fib_lookup`, to be filled in. Returns what the
    /// helper returns: 0 or a `BPF_FIB_LKUP_RET_*` code, or an errno.
    fn fib_lookup(&mut self, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno>;

    /// The MTU of a device; 0 means the one that the program runs on.
    fn mtu(&self, ifindex: u32) -> Option<u32>;
}

/// An environment without any device.
#[derive(Debug, Default)]
pub struct NoEnvironment;

impl Environment for NoEnvironment {
    fn redirect(&mut self, _ifindex: u32, flags: u64) -> i64 {
        // filter.c: bpf_redirect; TC_ACT_SHOT, TC_ACT_REDIRECT
        if flags & !1 != 0 { 2 } else { 7 }
    }

    fn redirect_peer(&mut self, _ifindex: u32, flags: u64) -> i64 {
        if flags != 0 { 2 } else { 7 }
    }

    fn redirect_neigh(&mut self, _ifindex: u32, _next_hop: NextHop, flags: u64) -> i64 {
        if flags != 0 { 2 } else { 7 }
    }

    fn clone_redirect(
        &mut self,
        _linear: &[u8],
        _octets: &dyn Octets,
        _metadata: &Metadata,
        _ifindex: u32,
        _flags: u64,
    ) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn fib_lookup(&mut self, _parameters: &mut [u8; 64], _flags: u32) -> Result<u32, Errno> {
        Err(Errno::ENODEV)
    }

    fn mtu(&self, _ifindex: u32) -> Option<u32> {
        None
    }
}

/// An environment of one device, which nothing can be redirected to.
#[derive(Debug)]
pub struct OneDevice {
    /// Its number; 0 names it, too.
    pub ifindex: u32,
    /// In octets.
    pub mtu: u32,
}

impl Environment for OneDevice {
    fn redirect(&mut self, ifindex: u32, flags: u64) -> i64 {
        NoEnvironment.redirect(ifindex, flags)
    }

    fn redirect_peer(&mut self, ifindex: u32, flags: u64) -> i64 {
        NoEnvironment.redirect_peer(ifindex, flags)
    }

    fn redirect_neigh(&mut self, ifindex: u32, next_hop: NextHop, flags: u64) -> i64 {
        NoEnvironment.redirect_neigh(ifindex, next_hop, flags)
    }

    fn clone_redirect(
        &mut self,
        linear: &[u8],
        octets: &dyn Octets,
        metadata: &Metadata,
        ifindex: u32,
        flags: u64,
    ) -> Result<(), Errno> {
        NoEnvironment.clone_redirect(linear, octets, metadata, ifindex, flags)
    }

    fn fib_lookup(&mut self, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno> {
        NoEnvironment.fib_lookup(parameters, flags)
    }

    fn mtu(&self, ifindex: u32) -> Option<u32> {
        (ifindex == 0 || ifindex == self.ifindex).then_some(self.mtu)
    }
}

impl Octets for Vec<u8> {
    fn linear(&self) -> &[u8] {
        self
    }

    fn set_linear(&mut self, octets: &[u8]) {
        if self.len() != octets.len() {
            return replace(self, octets);
        }
        // SAFETY: both are that long, and one is borrowed mutably.
        unsafe { copy_frame(octets.as_ptr(), self.as_mut_ptr(), octets.len()) };
    }

    fn fragments_len(&self) -> usize {
        0
    }

    fn read_fragments(&self, _offset: usize, _to: &mut [u8]) {}

    fn take_fragments(&mut self, _to: &mut [u8]) {}

    fn truncate_fragments(&mut self, _len: usize) {}
}

/// Out of the way of frames that stay as long as they are.
#[cold]
fn replace(all: &mut Vec<u8>, octets: &[u8]) {
    all.clear();
    all.extend_from_slice(octets);
}

/// Copies octets, of which there are mostly few.
///
/// # Safety
/// There are `len` octets at both, and they do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_frame(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: all copies lie within the `len` octets.
    unsafe {
        match len {
            32..=64 => copy_ends::<32>(from, to, len),
            65..=128 => copy_ends::<64>(from, to, len),
            _ => std::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// Copies the last and the first `END` of `len` octets, which are all of them.
#[inline(always)]
unsafe fn copy_ends<const END: usize>(from: *const u8, to: *mut u8, len: usize) {
    let last = len - END;
    // SAFETY: the caller guarantees that there are so many octets.
    unsafe {
        std::ptr::copy_nonoverlapping(from.add(last), to.add(last), END);
        std::ptr::copy_nonoverlapping(from, to, END);
    }
}
