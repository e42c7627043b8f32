//! Where everything lies in a buffer.

use super::*;

/// vhost-user, Inflight I/O tracking: the structures as a C compiler lays them out.
#[test]
fn u16_fields_are_where_the_specification_puts_them() {
    use packed::{Entry as PackedEntry, Header as PackedHeader};
    use split::{Entry as SplitEntry, Header as SplitHeader};
    assert_eq!(offset_of!(SplitHeader, version), VERSION_AT);
    assert_eq!(offset_of!(SplitHeader, desc_num), 10);
    assert_eq!(offset_of!(SplitHeader, last_batch_head), 12);
    assert_eq!(offset_of!(SplitHeader, used_idx), 14);
    assert_eq!(size_of::<SplitHeader>(), 16);
    assert_eq!(offset_of!(SplitEntry, next), 6);
    assert_eq!(offset_of!(SplitEntry, counter), 8);
    assert_eq!(size_of::<SplitEntry>(), 16);
    assert_eq!(offset_of!(PackedHeader, version), VERSION_AT);
    assert_eq!(offset_of!(PackedHeader, desc_num), 10);
    assert_eq!(offset_of!(PackedHeader, free_head), 12);
    assert_eq!(offset_of!(PackedHeader, old_free_head), 14);
    assert_eq!(offset_of!(PackedHeader, places), 16);
    assert_eq!(size_of::<PackedHeader>(), 32);
    assert_eq!(offset_of!(PackedEntry, next), 2);
    assert_eq!(offset_of!(PackedEntry, last), 4);
    assert_eq!(offset_of!(PackedEntry, num), 6);
    assert_eq!(offset_of!(PackedEntry, counter), 8);
    assert_eq!(offset_of!(PackedEntry, id), 16);
    assert_eq!(offset_of!(PackedEntry, flags), 18);
    assert_eq!(offset_of!(PackedEntry, len), 20);
    assert_eq!(offset_of!(PackedEntry, addr), 24);
    assert_eq!(size_of::<PackedEntry>(), 32);
}

/// `used_idx`, `old_used_idx`, `used_wrap_counter`, `old_used_wrap_counter`: octets 16 to 21.
#[test]
fn u16_a_packed_queue_s_places_are_where_the_specification_puts_them() {
    let (file, buffer) = buffer(PACKED);
    let ring: Vec<Slot> = (0..8).map(|_| Default::default()).collect();
    let old = Place { index: 3, wrap: true };
    let used = Place {
        index: 1,
        wrap: false,
    };
    let (mut books, _) = PackedInflight::open(&buffer, 1, &ring, old).unwrap();
    books.before_publish(old, used);
    let mut octets = [0; 24];
    file.read_exact_at(&mut octets, 320).unwrap();
    let words: Vec<u16> = octets
        .as_chunks::<2>()
        .0
        .iter()
        .map(|it| u16::from_ne_bytes(*it))
        .collect();
    assert_eq!(words[..10], [0, 0, 0, 0, 1, 8, 0, 0, 1, 3]);
    assert_eq!(octets[20..], [0, 1, 0, 0]);
}

/// QEMU's libvhost-user and DPDK reckon a little differently, and both with multiples of 64.
#[test]
fn u16_regions_are_as_long_as_those_of_other_back_ends() {
    for queue_size in [1, 2, 3, 7, 8, 64, 256, 1000, 1024, 32768u16] {
        let size = u64::from(queue_size);
        let split = InflightLayout { queue_size, ..SPLIT };
        assert_eq!(split.region_len(), (16 * size + 16).next_multiple_of(64));
        assert_eq!(split.region_len(), (16 * size + 2).next_multiple_of(64));
        let packed = InflightLayout { queue_size, ..PACKED };
        assert_eq!(
            packed.region_len(),
            (32 * size + 8 + 6 * 2 + 9).next_multiple_of(64)
        );
        assert_eq!(packed.len(), 2 * packed.region_len());
    }
}
