//! The internet checksum (RFC 1071): the sum of 16-bit words in ones' complement.

/// A sum under way over octets that come in pieces of any length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checksum {
    /// Sum of native-endian words; the byte order is put right at the end (RFC 1071, 2 (B)).
    sum: u64,
    /// Whether an odd number of octets was added.
    odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    pub const fn new() -> Checksum {
        Checksum { sum: 0, odd: false }
    }

    /// The pseudo-header of TCP and UDP over IPv4; `length` is that of header and payload, in octets.
    ///
    /// RFC 9293, 3.1 and RFC 768.
    pub fn pseudo_header_v4(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> Checksum {
        let mut sum = Checksum::new();
        sum.add(&source);
        sum.add(&destination);
        sum.add(&[0, protocol]);
        sum.add(&length.to_be_bytes());
        sum
    }

    /// The pseudo-header of an upper layer over IPv6; `length` is that of header and payload, in octets.
    ///
    /// RFC 8200, 8.1: with a routing header, `destination` is the final one.
    pub fn pseudo_header_v6(source: [u8; 16], destination: [u8; 16], protocol: u8, length: u32) -> Checksum {
        let mut sum = Checksum::new();
        sum.add(&source);
        sum.add(&destination);
        sum.add(&length.to_be_bytes());
        sum.add(&[0, 0, 0, protocol]);
        sum
    }

    /// Adds the octets that follow those added so far.
    pub fn add(&mut self, octets: &[u8]) {
        // SAFETY: the slice is readable.
        unsafe { self.add_raw(octets.as_ptr(), octets.len()) }
    }

    /// Adds octets that others may be writing to; a race yields the sum of some mixture of old and new.
    ///
    /// # Safety
    /// `len` octets from `ptr` on must be mapped and readable.
    pub unsafe fn add_raw(&mut self, ptr: *const u8, len: usize) {
        // SAFETY: the same requirement.
        let sum = fold(unsafe { sum_words(ptr, len) });
        // RFC 1071, 2 (B): octets at odd places count as if swapped.
        self.sum += u64::from(if self.odd { sum.swap_bytes() } else { sum });
        self.odd ^= len % 2 == 1;
    }

    /// The sum as it stands, not complemented.
    pub fn fold(&self) -> u16 {
        u16::from_be(fold(self.sum))
    }

    /// The checksum: the complement of the sum.
    pub fn finish(&self) -> u16 {
        !self.fold()
    }
}

/// The checksum after a 16-bit word under it changed from `old` to `new` (RFC 1624, 3, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// Adds the carries back in until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Sum of the native-endian words, the last one padded with a zero octet.
///
/// It only reads through the pointer, for no reference to memory that others write to may exist, and
/// nothing but the sum depends on what is read.
///
/// # Safety
/// `len` octets from `ptr` on must be mapped and readable.
unsafe fn sum_words(ptr: *const u8, len: usize) -> u64 {
    // 32-bit words in lanes of 64 bits: no carry to mind, and the compiler makes vectors of it.
    type Block = [u32; 8];
    let mut lanes = [0u64; 8];
    let blocks = len / size_of::<Block>();
    for index in 0..blocks {
        // SAFETY: the block ends within the `len` octets.
        let block = unsafe { ptr.cast::<Block>().add(index).read_unaligned() };
        for (lane, word) in lanes.iter_mut().zip(block) {
            *lane += u64::from(word);
        }
    }
    let mut sum = lanes.iter().map(|lane| (lane >> 32) + (lane & 0xffff_ffff)).sum();
    for index in blocks * size_of::<Block>() / 2..len / 2 {
        // SAFETY: the word ends within the `len` octets.
        sum += u64::from(unsafe { ptr.cast::<u16>().add(index).read_unaligned() });
    }
    if len % 2 == 1 {
        // SAFETY: the last of the `len` octets.
        sum += u64::from(u16::from_ne_bytes([unsafe { ptr.add(len - 1).read() }, 0]));
    }
    sum
}
