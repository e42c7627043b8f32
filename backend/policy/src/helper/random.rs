//! `bpf_get_prandom_u32`: numbers that are random enough for sampling and load balancing, not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{Answer, Call, helpers};

helpers! {
    7 => |call: &mut Call<'_>, _| -> Answer { Ok(u64::from(call.machine.helpers.random.next())) };
}

/// A generator of its own for each machine (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Default for Random {
    /// Starts where the system's randomness says.
    fn default() -> Random {
        Random(RandomState::new().build_hasher().finish())
    }
}

impl Random {
    #[inline]
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32
    }
}
