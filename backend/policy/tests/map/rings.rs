//! Ring buffers and perf event arrays.

use policy::Errno;
use policy::map::{Event, Map};

use crate::common::{at, kind, map};

const CURRENT_CPU: u64 = 0xffff_ffff;

fn events(map: &Map) -> Vec<Event> {
    let mut events = Vec::new();
    map.events(&mut |event| events.push(event));
    events
}

#[test]
fn records_come_in_the_order_of_their_reservation() {
    let (memory, map) = map(kind::RINGBUF, 0, 0, 4096, 0);
    let (first, second) = (at(&memory, 0), at(&memory, 1));
    let one = map.ring_reserve(first, 3, 0).unwrap();
    let two = map.ring_reserve(second, 1, 0).unwrap();
    let three = map.ring_reserve(first, 0, 0).unwrap();
    // SAFETY: the room was just reserved.
    unsafe {
        first.view.at(one).copy_from(b"abc".as_ptr(), 3);
        second.view.at(two).write(b'd');
    }
    map.ring_submit(two, 0).unwrap();
    assert_eq!(events(&map), [], "the first is not finished");
    map.ring_submit(one, 0).unwrap();
    map.ring_discard(three, 0).unwrap();
    let told: Vec<_> = events(&map)
        .into_iter()
        .map(|event| (event.cpu, event.data))
        .collect();
    assert_eq!(told, [(0, b"abc".to_vec()), (1, b"d".to_vec())]);
    assert_eq!(map.ring_query(0), 0);
    assert_eq!(map.ring_query(1), 4096);
    assert_eq!(map.ring_query(2), map.ring_query(3));
}

#[test]
fn an_address_that_is_made_up_or_stale_is_refused() {
    let (memory, map) = map(kind::RINGBUF, 0, 0, 4096, 0);
    let at = at(&memory, 0);
    let sample = map.ring_reserve(at, 100, 0).unwrap();
    assert!(map.ring_holds(sample));
    for wrong in [
        0,
        8,
        sample + 8,
        sample - 8,
        sample + 1,
        sample.wrapping_add(1 << 31),
        u32::MAX,
    ] {
        assert_eq!(map.ring_submit(wrong, 0), Err(Errno::EINVAL), "{wrong:#x}");
        assert_eq!(map.ring_discard(wrong, 0), Err(Errno::EINVAL), "{wrong:#x}");
    }
    map.ring_submit(sample, 0).unwrap();
    assert_eq!(map.ring_submit(sample, 0), Err(Errno::EINVAL));
    assert_eq!(events(&map).len(), 1);
    assert_eq!(map.ring_discard(sample, 0), Err(Errno::EINVAL));
}

#[test]
fn what_does_not_fit_is_refused_and_long_records_go_round() {
    let (memory, map) = map(kind::RINGBUF, 0, 0, 4096, 0);
    let at = at(&memory, 0);
    assert_eq!(map.ring_reserve(at, 4096, 0), None);
    assert_eq!(map.ring_reserve(at, 4088, 0), None, "one octet is never used");
    assert_eq!(map.ring_reserve(at, u64::MAX, 0), None);
    assert_eq!(map.ring_reserve(at, 8, 1), None, "no flags");
    for round in 0..100_u8 {
        let data = vec![round; 3000];
        // SAFETY: the data is as long as said.
        unsafe {
            map.ring_output(at, data.as_ptr(), 3000, 0).unwrap();
            assert_eq!(map.ring_output(at, data.as_ptr(), 3000, 0), Err(Errno::EAGAIN));
            assert_eq!(map.ring_output(at, data.as_ptr(), 8, 4), Err(Errno::EINVAL));
        }
        let told = events(&map);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].data, data);
        let next = map.ring_reserve(at, 0, 0).unwrap();
        assert!(map.ring_holds(next));
        map.ring_discard(next, 0).unwrap();
        assert_eq!(events(&map), []);
    }
}

#[test]
fn a_run_that_forgot_its_records_does_not_block_the_others() {
    let (memory, map) = map(kind::RINGBUF, 0, 0, 4096, 0);
    let (hostile, good) = (at(&memory, 0), at(&memory, 1));
    let kept = map.ring_reserve(hostile, 8, 0).unwrap();
    map.ring_reserve(hostile, 100, 0).unwrap();
    // SAFETY: the data is as long as said.
    unsafe { map.ring_output(good, b"good".as_ptr(), 4, 0).unwrap() };
    let open = map.ring_reserve(good, 8, 0).unwrap();
    map.ring_release_all(hostile);
    let told: Vec<_> = events(&map).into_iter().map(|event| event.data).collect();
    assert_eq!(told, [b"good".to_vec()]);
    assert_eq!(map.ring_submit(kept, 0), Err(Errno::EINVAL));
    map.ring_submit(open, 0).unwrap();
    assert_eq!(events(&map).len(), 1);
}

#[test]
fn threads_lose_no_record_and_mix_none_up() {
    const EACH: u64 = 20_000;
    let (memory, map) = map(kind::RINGBUF, 0, 0, 8192, 0);
    let mut next = [0; 2];
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let (map, at) = (&map, at(&memory, shard));
            scope.spawn(move || {
                for number in 0..EACH {
                    let data = vec![number; number as usize % 40];
                    let octets = [&[number][..], &data].concat();
                    let len = octets.len() as u64 * 8;
                    // SAFETY: the data is as long as said.
                    while unsafe { map.ring_output(at, octets.as_ptr().cast(), len, 0) }.is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        while next != [EACH; 2] {
            map.events(&mut |event| {
                let words: Vec<u64> = event
                    .data
                    .chunks_exact(8)
                    .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
                    .collect();
                let number = next[event.cpu as usize];
                assert_eq!(words, vec![number; 1 + number as usize % 40]);
                next[event.cpu as usize] += 1;
            });
        }
    });
    assert!(events(&map).is_empty());
}

#[test]
fn perf_records_are_of_parts_and_what_is_lost_is_counted() {
    let (memory, map) = map(kind::PERF_EVENT_ARRAY, 4, 4, 2, 0);
    let at = at(&memory, 1);
    let big = vec![1; 100_000];
    // SAFETY: the parts are as long as said.
    unsafe {
        let parts: [(*const u8, u32); 2] = [(b"head".as_ptr(), 4), (b"packet".as_ptr(), 6)];
        map.perf_output(at, CURRENT_CPU, &parts).unwrap();
        map.perf_output(at, 1, &parts).unwrap();
        assert_eq!(map.perf_output(at, 0, &parts), Err(Errno::EOPNOTSUPP));
        assert_eq!(map.perf_output(at, 2, &parts), Err(Errno::E2BIG));
        assert_eq!(map.perf_output(at, 1 << 60, &parts), Err(Errno::EINVAL));
        for _ in 0..2 {
            map.perf_output(at, CURRENT_CPU, &[(big.as_ptr(), 100_000)])
                .unwrap();
        }
        let full = map.perf_output(at, CURRENT_CPU, &[(big.as_ptr(), 100_000)]);
        assert_eq!(full, Err(Errno::ENOSPC));
    }
    let told = events(&map);
    assert_eq!(told.len(), 4);
    assert_eq!(
        (told[0].cpu, told[0].lost, &told[0].data[..]),
        (1, 1, &b"headpacket"[..])
    );
    for _ in 0..10 {
        // SAFETY: the part is as long as said.
        unsafe {
            map.perf_output(at, CURRENT_CPU, &[(big.as_ptr(), 99_999)])
                .unwrap()
        };
        assert_eq!(events(&map)[0].data, big[..99_999], "round the end of the ring");
    }
}
