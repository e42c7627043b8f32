//! Where a packed ring goes on when the device before this one may have been killed.
//!
//! A front end that lost its back end gives the base at which that one had begun, as it has no better (QEMU without an
//! inflight region). The place where the work was left is in the device's area, see [`super::event::Kicks`]. But so may be
//! an old one: other back ends leave there whatever they last waited for, and hand the ring over with a good base. So the
//! descriptors decide between the two.

use super::place::Place;

/// The better one of the front end's base and of the place that was kept in the ring, in view of the flags of all
/// descriptors.
///
/// A device that was killed between its used descriptors and the note of its place had used more than it noted. What it
/// had is passed over, if each chain was one descriptor: the id of a used descriptor does not tell how many it stands for.
pub fn resume(base: Place, kept: Place, flags: &[u16]) -> Place {
    let Ok(size) = u16::try_from(flags.len()) else {
        return base;
    };
    if kept.index >= size || objections(kept, flags) >= objections(base, flags) {
        return base;
    }
    let unnoted = |place: &Place| {
        let flags = flags.get(usize::from(place.index));
        flags.is_some_and(|flags| place.is_used(*flags))
    };
    let mut place = kept;
    for _ in 0..size {
        if !unnoted(&place) {
            break;
        }
        place = place.after(1, size);
    }
    place
}

/// What speaks against a device standing at this place: used descriptors of another round, which cannot be, and available
/// ones of another round. Of those there may be a few: what lies behind the first descriptor of a chain, or of a batch
/// that was used in order, keeps its flags until the driver comes by again.
fn objections(place: Place, flags: &[u16]) -> (usize, usize) {
    let (mut used, mut available) = (0, 0);
    for (index, flags) in flags.iter().enumerate() {
        // virtio 1.3, 2.8.1: the device leaves its wrap counter in USED, and the driver leaves it there when it makes the
        // descriptor available for the next round.
        let last_passed = Place {
            wrap: (index < usize::from(place.index)) == place.wrap,
            ..place
        };
        let next_round = Place {
            wrap: !last_passed.wrap,
            ..place
        };
        if next_round.is_used(*flags) {
            used += 1;
        } else if last_passed.is_available(*flags) {
            available += 1;
        }
    }
    (used, available)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u16 = 8;
    const AVAIL: u16 = 1 << 7;
    const USED: u16 = 1 << 15;

    fn available(place: Place) -> u16 {
        if place.wrap { AVAIL } else { USED }
    }

    /// The ring of a driver that is `ahead` of a device that has used `count` chains of `slots` descriptors each.
    fn ring(count: u16, slots: u16, ahead: u16) -> (Place, Vec<u16>) {
        let mut flags = vec![0; SIZE.into()];
        let (mut device, mut driver) = (Place::FIRST, Place::FIRST);
        let mut offered = 0;
        for chain in 0..=count {
            while offered < (chain * slots + ahead.max(slots)).min(count * slots + ahead) {
                flags[usize::from(driver.index)] = available(driver);
                driver = driver.after(1, SIZE);
                offered += 1;
            }
            if chain < count {
                flags[usize::from(device.index)] = device.used_flags();
                device = device.after(slots, SIZE);
            }
        }
        (device, flags)
    }

    fn places() -> Vec<Place> {
        let round = |wrap| (0..SIZE).map(move |index| Place { index, wrap });
        round(true).chain(round(false)).collect()
    }

    #[test]
    fn the_place_that_was_kept_wins_over_any_old_base_and_a_good_base_over_any_old_place() {
        for (slots, count) in [1, 2]
            .into_iter()
            .flat_map(|slots| (0..40).map(move |count| (slots, count)))
        {
            for ahead in (0..=SIZE).step_by(slots.into()) {
                let (place, flags) = ring(count, slots, ahead);
                for other in places().into_iter().step_by(slots.into()) {
                    let ring = format!("{count} of {slots}, {ahead} ahead, {other:?}");
                    assert_eq!(resume(other, place, &flags), place, "{ring}");
                    assert_eq!(resume(place, other, &flags), place, "{ring}");
                }
            }
        }
    }

    #[test]
    fn what_was_used_and_not_noted_is_passed_over() {
        // As far from the base as a ring of this size can be.
        let count = SIZE;
        for ahead in 0..SIZE / 2 {
            let (place, flags) = ring(count, 1, ahead);
            for unnoted in 0..SIZE / 2 {
                let noted = places()[usize::from(count - unnoted)];
                assert_eq!(noted.distance_to(place, SIZE), u32::from(unnoted));
                assert_eq!(resume(Place::FIRST, noted, &flags), place, "{ahead} {unnoted}");
            }
        }
    }

    #[test]
    fn a_ring_that_was_set_up_anew_begins_where_the_front_end_says() {
        let zero = Place::from_bits(0);
        for filled in 0..=SIZE {
            let (_, flags) = ring(0, 1, filled);
            assert_eq!(resume(Place::FIRST, zero, &flags), Place::FIRST);
        }
    }

    #[test]
    fn no_contents_lead_out_of_the_ring() {
        for bits in [0, 7, 8, 0x7fff, 0x8008, 0xffff] {
            for flags in [0, AVAIL, USED, AVAIL | USED] {
                let place = resume(Place::FIRST, Place::from_bits(bits), &[flags; SIZE as usize]);
                assert!(place.index < SIZE);
            }
        }
    }
}
