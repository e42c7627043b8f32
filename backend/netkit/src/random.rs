//! Random Ethernet addresses from a seed, so that the model reads no entropy itself.

use devices::packet::MacAddress;

/// A splitmix64 generator: addresses need to differ, not to be secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A unicast, locally administered address (etherdevice.h: `eth_random_addr`).
    pub(crate) fn address(&mut self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = self.next().to_le_bytes();
        MacAddress([(a & !1) | 2, b, c, d, e, f])
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn addresses_are_local_unicast_and_differ() {
        let mut random = Random::new(7);
        let addresses: HashSet<_> = (0..1000).map(|_| random.address()).collect();
        assert_eq!(addresses.len(), 1000);
        assert!(
            addresses
                .iter()
                .all(|address| address.is_unicast() && address.0[0] & 2 == 2)
        );
    }
}
