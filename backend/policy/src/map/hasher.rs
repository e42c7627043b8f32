//! The hash of a key: multiplications folded over secrets, so that nobody who picks keys picks buckets.

/// The secrets of one map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hasher([u64; 3]);

impl Hasher {
    /// Different seeds make different functions.
    pub(super) fn new(seed: u64) -> Hasher {
        // Three numbers of a splitmix64 sequence.
        let secret = |index: u64| {
            let mut x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)) | 1
        };
        Hasher([secret(1), secret(2), secret(3)])
    }

    /// A seed that nobody knows.
    pub(super) fn random_seed() -> u64 {
        let mut seed = [0; 8];
        // SAFETY: eight octets are there to be filled.
        let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        if got != seed.len() as isize {
            // A kernel without getrandom: the address space is laid out at random, too.
            let address = std::ptr::from_ref(&seed) as u64;
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            return fold(address | 1, time.map_or(1, |time| time.as_nanos() as u64 | 1));
        }
        u64::from_ne_bytes(seed)
    }

    /// The hash of a short key, which is the same as that of its octets.
    #[inline(always)]
    pub(super) fn hash_short<const LEN: usize>(&self, Short(first, second): Short<LEN>) -> u64 {
        let [a, b, c] = self.0;
        fold(fold(first ^ b, second ^ a ^ LEN as u64) ^ c, b)
    }

    /// The hash of `len` octets, each of which is read at least once. Others may write them meanwhile: then the hash
    /// is of something that lay there in parts.
    ///
    /// # Safety
    /// The octets can be read.
    #[inline(always)]
    pub(super) unsafe fn hash(&self, key: *const u8, len: usize) -> u64 {
        let [a, b, c] = self.0;
        let start = a ^ len as u64;
        // SAFETY: all reads are within the `len` octets.
        let last = unsafe {
            match len {
                4 => fold(word4(key) ^ b, start),
                8 => fold(word8(key) ^ b, start),
                12 => fold(word8(key) ^ b, word4(key.add(8)) ^ start),
                16 => fold(word8(key) ^ b, word8(key.add(8)) ^ start),
                _ => self.long(key, len),
            }
        };
        fold(last ^ c, b)
    }

    unsafe fn long(&self, key: *const u8, len: usize) -> u64 {
        let [a, b, _] = self.0;
        let mut state = a ^ len as u64;
        let mut done = 0;
        // SAFETY: all reads are within the `len` octets.
        unsafe {
            while len - done >= 16 {
                state = fold(word8(key.add(done)) ^ b, word8(key.add(done + 8)) ^ state);
                done += 16;
            }
            let mut rest = [0; 16];
            std::ptr::copy(key.add(done), rest.as_mut_ptr(), len - done);
            fold(word8(rest.as_ptr()) ^ b, word8(rest.as_ptr().add(8)) ^ state)
        }
    }
}

/// A key of 4, 8, 12 or 16 octets in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short<const LEN: usize>(u64, u64);

impl<const LEN: usize> Short<LEN> {
    /// A key that a program has just put together of addresses and ports. It is read by two octets: a processor is slow
    /// to read at once what was stored in parts, and still under way to the cache.
    ///
    /// # Safety
    /// `LEN` octets can be read.
    #[inline(always)]
    pub(super) unsafe fn fresh(key: *const u8) -> Short<LEN> {
        #[repr(C, packed)]
        struct Pair(u16);
        let word = |start: usize| {
            (start..LEN.min(start + 8)).step_by(2).fold(0, |word, at| {
                // SAFETY: within the `LEN` octets. Volatile, or the compiler makes one access of all.
                let Pair(pair) = unsafe { key.add(at).cast::<Pair>().read_volatile() };
                word | u64::from(pair) << (8 * (at - start))
            })
        };
        Short(word(0), word(8))
    }

    /// A key that lies in a map.
    ///
    /// # Safety
    /// `LEN` octets can be read.
    #[inline(always)]
    pub(super) unsafe fn stored(key: *const u8) -> Short<LEN> {
        // SAFETY: all reads are within the `LEN` octets.
        unsafe {
            match LEN {
                4 => Short(word4(key), 0),
                8 => Short(word8(key), 0),
                12 => Short(word8(key), word4(key.add(8))),
                _ => Short(word8(key), word8(key.add(8))),
            }
        }
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
unsafe fn word4(at: *const u8) -> u64 {
    // SAFETY: the caller guarantees the octets.
    u64::from(unsafe { at.cast::<u32>().read_unaligned() })
}

#[inline(always)]
unsafe fn word8(at: *const u8) -> u64 {
    // SAFETY: the caller guarantees the octets.
    unsafe { at.cast::<u64>().read_unaligned() }
}

/// Whether two keys are the same. Others may write them meanwhile.
///
/// # Safety
/// `len` octets can be read at both.
#[inline(always)]
pub(super) unsafe fn same(a: *const u8, b: *const u8, len: usize) -> bool {
    // SAFETY: all reads are within the `len` octets.
    unsafe {
        match len {
            4 => word4(a) == word4(b),
            8 => word8(a) == word8(b),
            16 => (word8(a) ^ word8(b)) | (word8(a.add(8)) ^ word8(b.add(8))) == 0,
            _ => {
                let mut done = 0;
                while len - done >= 8 {
                    if word8(a.add(done)) != word8(b.add(done)) {
                        return false;
                    }
                    done += 8;
                }
                (done..len).all(|octet| *a.add(octet) == *b.add(octet))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_and_the_seed_matter() {
        for len in 1..40 {
            let key = vec![7; len];
            // SAFETY: the keys are as long as they say.
            unsafe {
                let hash = Hasher::new(1).hash(key.as_ptr(), len);
                assert_ne!(hash, Hasher::new(2).hash(key.as_ptr(), len));
                for octet in 0..len {
                    let mut other = key.clone();
                    other[octet] ^= 1;
                    assert_ne!(hash, Hasher::new(1).hash(other.as_ptr(), len), "{len} {octet}");
                    assert!(!same(key.as_ptr(), other.as_ptr(), len));
                }
                assert!(same(key.as_ptr(), key.clone().as_ptr(), len));
            }
        }
    }

    #[test]
    fn short_keys_are_the_same_however_they_are_read() {
        fn check<const LEN: usize>() {
            let key: Vec<u8> = (1..=LEN as u8).collect();
            let hasher = Hasher::new(1);
            // SAFETY: the key is as long as it says.
            unsafe {
                let fresh = Short::<LEN>::fresh(key.as_ptr());
                assert_eq!(fresh, Short::stored(key.as_ptr()));
                assert_eq!(hasher.hash_short(fresh), hasher.hash(key.as_ptr(), LEN));
            }
        }
        check::<4>();
        check::<8>();
        check::<12>();
        check::<16>();
    }

    #[test]
    fn keys_that_count_up_spread_evenly() {
        for len in [4, 8, 12, 16, 20] {
            let mut buckets = [0; 256];
            for number in 0..25_600_u32 {
                let mut key = vec![0; len];
                key[len - 4..].copy_from_slice(&number.to_be_bytes());
                // SAFETY: the key is as long as it says.
                let hash = unsafe { Hasher::new(42).hash(key.as_ptr(), len) };
                buckets[hash as usize % 256] += 1;
            }
            let fullest = buckets.iter().max().copied().unwrap_or_default();
            assert!(fullest < 160, "{len}: {fullest} where 100 are expected");
        }
    }
}
