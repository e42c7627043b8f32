//! Internet checksums as the kernel computes with them (net/checksum.h), on words in the order of the octets.

/// A sum that is not folded yet (`__wsum`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum(pub u32);

impl Sum {
    /// `csum_add`: with the carry added at the low end.
    pub fn add(self, other: u32) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other);
        Sum(sum.wrapping_add(u32::from(carry)))
    }

    /// `csum_sub`.
    pub fn sub(self, other: u32) -> Sum {
        self.add(!other)
    }

    /// `csum_from32to16`: the same sum in 16 bits.
    pub fn shorten(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// `csum_fold`: what a checksum field holds.
    pub fn fold(self) -> u16 {
        !self.shorten()
    }
}

/// `csum16_add`.
pub fn add16(sum: u16, other: u16) -> u16 {
    let (sum, carry) = sum.overflowing_add(other);
    sum.wrapping_add(u16::from(carry))
}

/// `csum_replace2`: the checksum after a 16-bit field changed.
pub fn replace2(field: u16, from: u16, to: u16) -> u16 {
    !add16(add16(!field, !from), to)
}

/// `csum_replace4`: the checksum after a 32-bit field changed.
pub fn replace4(field: u16, from: u32, to: u32) -> u16 {
    Sum(!u32::from(field)).sub(from).add(to).fold()
}

/// `csum_replace_by_diff`: the checksum after what is summed changed by a difference.
pub fn replace_by_diff(field: u16, diff: u32) -> u16 {
    Sum(diff).add(!u32::from(field)).fold()
}
