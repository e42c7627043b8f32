//! What whoever comes next finds of a split ring.

use super::*;

/// What the specification has the next back end do with a split queue's region: the chains to take again, in order.
fn resubmitted(books: &SplitInflight, used: u16) -> Vec<u16> {
    let (header, entries) = (books.region.header(), books.region.entries());
    assert_eq!(header.version.load(Ordering::Relaxed), 1);
    let mut done = Vec::new();
    let mut head = header.last_batch_head.load(Ordering::Relaxed);
    for _ in 0..used.wrapping_sub(header.used_idx.load(Ordering::Relaxed)) {
        done.push(head);
        head = entries[usize::from(head)].next.load(Ordering::Relaxed);
    }
    let mut left: Vec<u16> = (0..entries.len() as u16)
        .filter(|head| entries[usize::from(*head)].inflight.load(Ordering::Relaxed) == 1)
        .filter(|head| !done.contains(head))
        .collect();
    left.sort_by_key(|head| entries[usize::from(*head)].counter.load(Ordering::Relaxed));
    left
}

/// The used index is 65535 at first, so that it wraps on the way.
#[test]
fn u16_whoever_comes_next_takes_what_was_not_given_back_and_nothing_else() {
    let (_file, buffer) = buffer(SPLIT);
    let mut books = SplitInflight::open(&buffer, 1, 8, 65535).unwrap();
    let next = |books: &SplitInflight, used: u16, wanted: &[u16], when: &str| {
        assert_eq!(resubmitted(books, used), wanted, "{when}");
    };
    next(&books, 65535, &[], "before anything was taken");
    for head in [5, 2, 7] {
        books.take(head);
    }
    next(&books, 65535, &[5, 2, 7], "after chains were taken");
    books.complete(5);
    books.complete(2);
    next(&books, 65535, &[5, 2, 7], "after two of them were completed");
    books.before_publish();
    next(&books, 65535, &[5, 2, 7], "before the used index moves");
    next(&books, 1, &[7], "after the used index has moved");
    books.after_publish(1);
    next(&books, 1, &[7], "after the burst");
    // The driver has offered one of them again.
    books.take(5);
    books.complete(7);
    books.complete(5);
    books.rewind(1);
    next(&books, 1, &[7, 5], "after a chain was taken and given back");
    books.before_publish();
    next(&books, 1, &[7, 5], "before the index moves again");
    next(&books, 2, &[5], "after the index has moved again");
    books.after_publish(2);
    next(&books, 2, &[5], "after the second burst");
    // The ring starts anew where its used index is, and takes all from there.
    let books = SplitInflight::open(&buffer, 1, 8, 2).unwrap();
    next(&books, 2, &[], "after a new start");
}

#[test]
fn a_driver_s_bad_or_repeated_heads_do_no_harm() {
    let (file, buffer) = buffer(SPLIT);
    let mut books = SplitInflight::open(&buffer, 0, 8, 0).unwrap();
    for _ in 0..20 {
        for head in [3, 3, 8, u16::MAX] {
            books.take(head);
            books.complete(head);
        }
    }
    books.before_publish();
    books.after_publish(80);
    let mut next_region = [1; 16];
    file.read_exact_at(&mut next_region, SPLIT.region_len()).unwrap();
    assert_eq!(next_region, [0; 16]);
}
