//! U16: the buffer that the front end keeps for us.

use super::*;

#[test]
fn u16_a_buffer_is_made_for_the_format_that_was_negotiated() {
    for (features, len) in [(0, 2 * 4160), (PACKED, 2 * 8256)] {
        let mut bench = Bench::new(features);
        for padding in [0, 4] {
            let pad = |mut payload: Vec<u8>| {
                payload.resize(20 + padding, 0);
                payload
            };
            let (spec, file) = bench.get_inflight(&pad(inflight_spec(7, 9, 2, 256)));
            assert_eq!(spec, pad(inflight_spec(len, 0, 2, 256)));
            assert_eq!(file.metadata().unwrap().len(), len);
            bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
        }
    }
}

#[test]
fn u16_what_no_ring_could_be_kept_in_is_refused() {
    let mut bench = Bench::new(0);
    let (_, file) = bench.get_inflight(&inflight_spec(0, 0, 2, 256));
    for spec in [
        inflight_spec(8320, 0, 3, 256),
        inflight_spec(8320, 0, 0, 256),
        inflight_spec(8320, 0, 2, 0),
        inflight_spec(8320, 0, 2, 32769),
        inflight_spec(8319, 0, 2, 256),
        inflight_spec(8320, 64, 2, 256),
        inflight_spec(8320, u64::MAX, 2, 256),
        inflight_spec(u64::MAX, 0, 2, 512),
        inflight_spec(0, 0, 2, 256),
    ] {
        let refused = bench
            .handle(Request::SET_INFLIGHT_FD, &spec, Some(&file))
            .unwrap_err();
        assert!(refused.is_answerable(), "{refused}");
    }
    let fits = inflight_spec(8320, 0, 2, 256);
    for payload in [&fits[..19], &[&fits[..], &[0]].concat(), &[]] {
        let refused = bench
            .handle(Request::SET_INFLIGHT_FD, payload, Some(&file))
            .unwrap_err();
        assert!(matches!(refused, Violation::BadLength { .. }));
    }
    let refused = bench.handle(Request::SET_INFLIGHT_FD, &fits, None).unwrap_err();
    assert!(matches!(refused, Violation::BadFds { .. }));
    for spec in [
        inflight_spec(0, 0, 3, 256),
        inflight_spec(0, 0, 2, 0),
        inflight_spec(0, 0, 2, u16::MAX),
    ] {
        bench.handle(Request::GET_INFLIGHT_FD, &spec, None).unwrap_err();
    }
    assert!(bench.session.inflight.is_none());
    bench.ask_with(Request::SET_INFLIGHT_FD, &fits, Some(&file));
    assert!(bench.session.inflight.is_some());
}

#[test]
fn u16_the_descriptor_goes_with_the_reply() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut bench = Bench::new(0);
    let reply = bench
        .ask(Request::GET_INFLIGHT_FD, &inflight_spec(0, 0, 1, 4))
        .unwrap();
    Connection::new(ours).unwrap().send(&reply).unwrap();
    let mut octets = [0; 64];
    let (len, file) = theirs.recv_with_fd(&mut octets).unwrap();
    assert_eq!(octets[..len], reply.octets);
    assert_eq!(file.unwrap().metadata().unwrap().len(), 128);
}

#[test]
fn u16_after_a_kill_a_packed_ring_goes_on_where_its_region_says_and_not_at_the_stale_base() {
    let mut bench = Bench::new(PACKED);
    let (spec, file) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 0x8000_8000, HERE);
    bench.offer_packed(HERE[0], 0..8, true);
    bench.burst(3, true);
    bench.burst(2, false);
    // Killed: nobody stops anything.
    let mut bench = Bench::around(bench.memory, PACKED);
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 0x8000_8000, HERE);
    assert_eq!(bench.position(), Some(0x8003_8003));
    bench.burst(5, true);
    bench.offer_packed(HERE[0], 0..2, false);
    bench.burst(1, true);
    let mut bench = Bench::around(bench.memory, PACKED);
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 0x8000_8000, HERE);
    assert_eq!(bench.position(), Some(0x0001_0001));
}

#[test]
fn u16_a_split_ring_keeps_its_region_in_step_with_the_used_index() {
    let mut bench = Bench::new(0);
    let (spec, file) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.offer_split(HERE, 6);
    bench.start(8, 0, HERE);
    let region = 192;
    let header = || octets::<4>(&file, region + 8 + 4).map(u16::from);
    let inflight = || [0, 1, 2, 3, 4, 5].map(|head| octets::<1>(&file, region + 16 + 16 * head)[0]);
    assert_eq!(octets::<4>(&file, region + 8), [1, 0, 8, 0]);
    bench.burst(2, false);
    assert_eq!(inflight(), [1, 1, 0, 0, 0, 0]);
    bench.queue().publish();
    assert_eq!(inflight(), [0; 6]);
    assert_eq!(header(), [1, 0, 2, 0]);
    bench.burst(1, false);
    // Killed, and the used index in memory counts, whatever the base.
    let mut bench = Bench::around(bench.memory, 0);
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 6, HERE);
    assert_eq!(bench.position(), Some(2));
    assert_eq!(inflight(), [0; 6]);
    bench.burst(4, true);
    assert_eq!(header(), [5, 0, 6, 0]);
}

#[test]
fn u16_a_buffer_counts_for_the_rings_that_start_after_it_came() {
    let mut bench = Bench::new(PACKED);
    bench.start(8, 0x8000_8000, HERE);
    bench.offer_packed(HERE[0], 0..8, true);
    let (spec, first) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&first));
    bench.burst(1, true);
    let region = 320;
    assert_eq!(octets::<24>(&first, region), [0; 24]);
    assert_eq!(bench.stop(), 0x8001_8001);
    bench.start(8, 0x8001_8001, HERE);
    bench.burst(1, true);
    let places = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 2, 0, 2, 0, 1, 1, 0, 0,
    ];
    assert_eq!(octets::<24>(&first, region), places);
    // Another one takes its place.
    let (_, second) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&second));
    assert_eq!(bench.stop(), 0x8002_8002);
    bench.start(8, 0x8002_8002, HERE);
    bench.burst(1, true);
    assert_eq!(octets::<2>(&second, region + 16), [3, 0]);
    assert_eq!(octets::<2>(&first, region + 16), [2, 0]);
}

/// The octets of a packed queue's second region: of its places, and of the entry of a descriptor.
const PLACES: u64 = 320 + 16;
const fn entry(index: u64) -> u64 {
    320 + 32 + 32 * index
}

/// Of three chains the second and third are written first. That the back end ends between them and the first one is
/// made up here: it takes no longer than a store.
#[test]
fn u16_a_packed_batch_of_which_the_driver_saw_nothing_is_taken_again_whole() {
    const NEXT: u64 = 1;
    const AVAIL: u64 = 1 << 7;
    let mut bench = Bench::new(PACKED);
    let (spec, file) = bench.get_inflight(&inflight_spec(0, 0, 2, 8));
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 0x8000_8000, HERE);
    for (index, flags) in [AVAIL | NEXT, AVAIL, AVAIL, AVAIL | NEXT, AVAIL]
        .into_iter()
        .enumerate()
    {
        let half = 64 | (40 + index as u64) << 32 | flags << 48;
        bench.write(HERE[0] + 16 * index as u64, &longs(&[BUFFER, half]));
    }
    let before = octets::<80>(&bench.memory, HERE[0]);
    bench.burst(3, true);
    let after = octets::<80>(&bench.memory, HERE[0]);
    let changed = [0, 1, 2, 3, 4].map(|index| before[16 * index..][..16] != after[16 * index..][..16]);
    assert_eq!(changed, [true, false, true, true, false]);
    for index in [2, 3] {
        let descriptor = &before[16 * index as usize..][..16];
        let kept = [
            octets::<8>(&file, entry(index) + 24),
            octets::<8>(&file, entry(index) + 16),
        ]
        .concat();
        let (id, flags, len) = (&kept[8..10], &kept[10..12], &kept[12..16]);
        assert_eq!(
            [&kept[..8], len, id, flags].concat(),
            descriptor,
            "descriptor {index}"
        );
        assert_eq!(octets::<1>(&file, entry(index)), [0]);
        file.write_all_at(&[1], entry(index)).unwrap();
    }
    assert_eq!(octets::<8>(&file, PLACES), [5, 0, 5, 0, 1, 1, 0, 0]);
    file.write_all_at(&[0, 0], PLACES + 2).unwrap();
    bench.write(HERE[0], &before[..16]);
    let mut bench = Bench::around(bench.memory, PACKED);
    bench.ask_with(Request::SET_INFLIGHT_FD, &spec, Some(&file));
    bench.start(8, 0x8000_8000, HERE);
    assert_eq!(bench.position(), Some(0x8000_8000));
    assert_eq!(octets::<80>(&bench.memory, HERE[0]), before);
    bench.burst(3, true);
    assert_eq!(octets::<80>(&bench.memory, HERE[0]), after);
    assert_eq!(bench.stop(), 0x8005_8005);
}
