//! Copies of a few octets, which are most of what a frame's head and header are: no call, no loop of single octets.

/// Copies `len` octets. If both sides overlap, which only a guest can arrange in its own memory, what arrives is its mixture.
///
/// # Safety
/// `len` octets must be readable and writable. Neither side is touched outside of them.
#[inline]
pub unsafe fn short_copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: every piece lies inside of the `len` octets that the caller vouches for: pieces of N octets are used only
    // if there are N, the last one is moved back to end where the octets do.
    unsafe {
        match len {
            32.. => pieces::<32>(from, to, len),
            16..32 => pieces::<16>(from, to, len),
            8..16 => pieces::<8>(from, to, len),
            4..8 => pieces::<4>(from, to, len),
            _ => (0..len).for_each(|index| to.add(index).write(from.add(index).read())),
        }
    }
}

/// # Safety
/// As [`short_copy`], with at least `N` octets.
#[inline(always)]
unsafe fn pieces<const N: usize>(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: by the caller's promise, see `short_copy`.
    unsafe {
        // Read before anything is written that it may overlap with.
        let last = from.add(len - N).cast::<[u8; N]>().read_unaligned();
        let mut offset = 0;
        while offset + N < len {
            let piece = from.add(offset).cast::<[u8; N]>().read_unaligned();
            to.add(offset).cast::<[u8; N]>().write_unaligned(piece);
            offset += N;
        }
        to.add(len - N).cast::<[u8; N]>().write_unaligned(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_else() {
        let from: Vec<u8> = (0..512).map(|octet| octet as u8).collect();
        for len in 0..=300 {
            let mut to = vec![0xee; 400];
            // SAFETY: both vectors are longer.
            unsafe { short_copy(from.as_ptr(), to[50..].as_mut_ptr(), len) };
            assert_eq!(to[50..50 + len], from[..len]);
            assert!(
                to[..50].iter().chain(&to[50 + len..]).all(|octet| *octet == 0xee),
                "{len}"
            );
        }
    }
}
