//! Where a packed ring goes on.

use super::*;
use packed::Slot;

const AVAIL: u64 = 1 << 55;
const USED: u64 = 1 << 63;

fn place(index: u16, wrap: bool) -> Place {
    Place { index, wrap }
}

/// A ring of 8 from whose place `first` on the driver has made all descriptors available.
fn offered(first: Place) -> Vec<Slot> {
    let ring: Vec<Slot> = (0..8).map(|_| Default::default()).collect();
    for offset in 0..8 {
        let at = first.after(offset, 8);
        let flags = if at.wrap { AVAIL } else { USED };
        let id = u64::from(100 + at.index);
        ring[usize::from(at.index)][1].store((flags | id << 32 | 1500).to_le(), Ordering::Relaxed);
    }
    ring
}

fn give_back(ring: &[Slot], at: Place) {
    let flags = if at.wrap { AVAIL | USED } else { 0 };
    ring[usize::from(at.index)][1].store((flags | 7 << 32 | 60).to_le(), Ordering::Relaxed);
}

fn halves(ring: &[Slot]) -> Vec<u64> {
    ring.iter()
        .map(|slot| u64::from_le(slot[1].load(Ordering::Relaxed)))
        .collect()
}

/// Where a batch can be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    BeforeIt,
    Kept,
    Announced,
    OthersWritten,
    Written,
    AfterIt,
}

const CUTS: [Cut; 6] = [
    Cut::BeforeIt,
    Cut::Kept,
    Cut::Announced,
    Cut::OthersWritten,
    Cut::Written,
    Cut::AfterIt,
];

/// Gives back a batch of single descriptors until it is cut off, in the order of `PackedRing::publish`.
fn publish(books: &mut PackedInflight, ring: &[Slot], old: Place, count: u16, cut: Cut) {
    let others = || (1..count).map(|offset| old.after(offset, 8));
    let used = old.after(count, 8);
    if cut >= Cut::Kept {
        others().for_each(|at| books.keep(ring, at.index));
    }
    if cut >= Cut::Announced {
        books.before_publish(old, used);
    }
    if cut >= Cut::OthersWritten {
        others().for_each(|at| give_back(ring, at));
    }
    if cut >= Cut::Written {
        give_back(ring, old);
    }
    if cut >= Cut::AfterIt {
        books.after_publish(used);
    }
}

#[test]
fn u16_a_batch_is_given_back_whole_or_not_at_all_wherever_it_was_cut_off() {
    let stale = place(6, false);
    for first in [place(0, true), place(3, true), place(6, true), place(7, false)] {
        for count in [1, 2, 5, 8] {
            for cut in CUTS {
                let (_file, buffer) = buffer(PACKED);
                let ring = offered(first);
                let before = halves(&ring);
                let (mut books, begun) = PackedInflight::open(&buffer, 1, &ring, first).unwrap();
                assert_eq!(begun, first);
                publish(&mut books, &ring, first, count, cut);
                let (_, found) = PackedInflight::open(&buffer, 1, &ring, stale).unwrap();
                let case = format!("{count} from {first:?}, {cut:?}");
                if cut >= Cut::Written {
                    assert_eq!(found, first.after(count, 8), "{case}");
                } else {
                    assert_eq!(found, first, "{case}");
                    assert_eq!(halves(&ring), before, "{case}");
                }
                // And again, if the one that followed ends at once.
                let (_, again) = PackedInflight::open(&buffer, 1, &ring, stale).unwrap();
                assert_eq!(again, found, "{case}");
            }
        }
    }
}

#[test]
fn u16_a_batch_that_was_seen_stays_given_back_even_if_the_driver_has_filled_the_ring_again() {
    for first in [place(0, true), place(5, true), place(5, false)] {
        let (_file, buffer) = buffer(PACKED);
        let ring = offered(first);
        let (mut books, _) = PackedInflight::open(&buffer, 0, &ring, first).unwrap();
        publish(&mut books, &ring, first, 8, Cut::Written);
        let next = first.after(8, 8);
        for (slot, new) in ring.iter().zip(offered(next)) {
            slot[1].store(new[1].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let (_, found) = PackedInflight::open(&buffer, 0, &ring, first).unwrap();
        assert_eq!(found, next);
    }
}

#[test]
fn u16_a_region_that_is_new_or_retired_leaves_the_place_to_the_front_end() {
    let (_file, buffer) = buffer(PACKED);
    let ring = offered(Place::FIRST);
    let open = |base| PackedInflight::open(&buffer, 1, &ring, base).unwrap();
    let (mut books, found) = open(place(2, true));
    assert_eq!(found, place(2, true));
    publish(&mut books, &ring, found, 3, Cut::AfterIt);
    assert_eq!(open(Place::FIRST).1, place(5, true));
    buffer.retire(0);
    assert_eq!(open(Place::FIRST).1, place(5, true));
    buffer.retire(1);
    buffer.retire(2);
    assert_eq!(open(Place::FIRST).1, Place::FIRST);
}

#[test]
fn u16_what_makes_no_sense_in_a_region_is_not_believed() {
    let base = place(4, true);
    let ring = offered(base);
    let found = |version: u16, size: u16, places: u64| {
        let (_file, buffer) = buffer(PACKED);
        let (books, _) = PackedInflight::open(&buffer, 0, &ring, base).unwrap();
        let header = books.region.header();
        header.version.store(version, Ordering::Relaxed);
        header.desc_num.store(size, Ordering::Relaxed);
        header.places.store(places, Ordering::Relaxed);
        PackedInflight::open(&buffer, 0, &ring, base).unwrap().1
    };
    let octets = |used: u8, old: u8, wrap: u8, old_wrap: u8| {
        u64::from_ne_bytes([used, 0, old, 0, wrap, old_wrap, 0xff, 0xff])
    };
    assert_eq!(found(1, 8, octets(5, 5, 0, 0)), place(5, false));
    for (version, size, places) in [
        (0, 8, octets(5, 5, 0, 0)),
        (2, 8, octets(5, 5, 0, 0)),
        (1, 7, octets(5, 5, 0, 0)),
        (1, 0, octets(5, 5, 0, 0)),
        (1, 65535, octets(5, 5, 0, 0)),
        (1, 8, octets(8, 5, 0, 0)),
        (1, 8, octets(5, 8, 0, 0)),
        (1, 8, octets(255, 255, 0, 0)),
        (1, 8, octets(5, 5, 2, 0)),
        (1, 8, octets(5, 5, 0, 255)),
        (1, 8, u64::MAX),
    ] {
        assert_eq!(found(version, size, places), base, "{version} {size} {places:#x}");
    }
}
