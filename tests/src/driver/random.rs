//! Random octets that can be drawn again (xorshift64*).

/// A generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same octets.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next octets.
    pub fn octets(&mut self, len: usize) -> Vec<u8> {
        let mut octets: Vec<u8> = (0..len.div_ceil(8))
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        octets.truncate(len);
        octets
    }
}
