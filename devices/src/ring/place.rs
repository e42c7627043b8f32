//! Places in a packed ring: an index and the wrap counter of the round that it belongs to (virtio 1.3, 2.8.1).

const DESC_F_AVAIL: u16 = 1 << 7;
const DESC_F_USED: u16 = 1 << 15;
const WRAP: u16 = 1 << 15;

/// A place in a packed ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of a descriptor.
    pub index: u16,
    /// The wrap counter, which starts at 1 and toggles with every round.
    pub wrap: bool,
}

impl Place {
    /// Where both sides begin (virtio 1.3, 2.8.1).
    pub const FIRST: Place = Place { index: 0, wrap: true };

    /// Reads the form that event suppression areas and vhost-user give places in: the wrap counter is the highest bit.
    #[inline]
    pub fn from_bits(bits: u16) -> Place {
        Place {
            index: bits & !WRAP,
            wrap: bits & WRAP != 0,
        }
    }

    /// Where work goes on according to the base of a ring; `None` if a ring of this size cannot be there.
    ///
    /// That is where the next chain is to be completed, as no chain is held back. A front end that knows no more than
    /// the beginning (DPDK's virtio-user) gives the place of the next descriptor to take only and leaves the other half
    /// zero, which would put the two a whole ring apart or more. // U8
    pub fn resume(base: u32, size: u16) -> Option<Place> {
        let [next, used] = [base as u16, (base >> 16) as u16].map(Place::from_bits);
        if next.index >= size || used.index >= size {
            return None;
        }
        if base >> 16 == 0 && next.wrap {
            return Some(next);
        }
        (used.distance_to(next, size) <= u32::from(size)).then_some(used)
    }

    /// As [`Self::from_bits`] reads it.
    #[inline]
    pub fn bits(self) -> u16 {
        self.index | if self.wrap { WRAP } else { 0 }
    }

    /// The place `slots` descriptors on, which is at most once around.
    #[inline]
    pub fn after(self, slots: u16, size: u16) -> Place {
        // Both are at most 32768 and the index is below that, so that the sum fits.
        let index = self.index.wrapping_add(slots);
        if index >= size {
            Place {
                index: index.wrapping_sub(size),
                wrap: !self.wrap,
            }
        } else {
            Place { index, ..self }
        }
    }

    /// How many descriptors it is from here to `other`, in a sequence that repeats after two rounds.
    #[inline]
    pub fn distance_to(self, other: Place, size: u16) -> u32 {
        let size = u32::from(size);
        let linear = |place: Place| u32::from(place.index) + if place.wrap { 0 } else { size };
        let (from, to) = (linear(self), linear(other));
        if to >= from {
            to - from
        } else {
            to + 2 * size - from
        }
    }

    /// Whether these flags make the descriptor at this place available (virtio 1.3, 2.8.1). // P4
    #[inline]
    pub fn is_available(self, flags: u16) -> bool {
        let (avail, used) = (flags & DESC_F_AVAIL != 0, flags & DESC_F_USED != 0);
        avail == self.wrap && used != self.wrap
    }

    /// Whether these flags say that the descriptor at this place is used.
    #[inline]
    pub fn is_used(self, flags: u16) -> bool {
        flags & (DESC_F_AVAIL | DESC_F_USED) == self.used_flags()
    }

    /// The flags that make the descriptor at this place used.
    #[inline]
    pub fn used_flags(self) -> u16 {
        if self.wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All places of a ring in their order, over the two rounds after which they repeat.
    fn all(size: u16) -> Vec<Place> {
        let round = |wrap| (0..size).map(move |index| Place { index, wrap });
        round(true).chain(round(false)).collect()
    }

    #[test]
    fn places_repeat_after_two_rounds() {
        for size in [1, 2, 3, 7, 8] {
            let places = all(size);
            for (from, place) in places.iter().enumerate() {
                for slots in 0..=size {
                    let to = (from + usize::from(slots)) % places.len();
                    assert_eq!(place.after(slots, size), places[to]);
                    assert_eq!(place.distance_to(places[to], size), u32::from(slots));
                }
                assert_eq!(Place::from_bits(place.bits()), *place);
            }
        }
        let last = Place {
            index: 32767,
            wrap: false,
        };
        assert_eq!(last.after(1, 32768), Place::FIRST);
        assert_eq!(
            last.after(32768, 32768),
            Place {
                index: 32767,
                wrap: true
            }
        );
    }

    #[test]
    fn the_flags_of_an_available_descriptor_differ_and_those_of_a_used_one_do_not() {
        let last_round = Place {
            wrap: false,
            ..Place::FIRST
        };
        for (flags, place) in [(DESC_F_AVAIL, Place::FIRST), (DESC_F_USED, last_round)] {
            for other in [0, DESC_F_AVAIL, DESC_F_USED, DESC_F_AVAIL | DESC_F_USED] {
                assert_eq!(place.is_available(other), other == flags);
                assert_eq!(place.is_available(other | 0x7f7f), other == flags);
            }
            assert!(!place.is_available(place.used_flags()));
            assert!(place.is_used(place.used_flags() | 0x7f7f));
            assert!(!place.is_used(flags) && !place.is_used(!place.used_flags()));
        }
        assert_eq!(Place::FIRST.used_flags(), DESC_F_AVAIL | DESC_F_USED);
    }
}
