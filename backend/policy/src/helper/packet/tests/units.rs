//! What single helpers promise, where the kernel is no guide: bad arguments, fragments, room, the hash.

use super::super::id;
use super::calls::Random;
use super::frames::{self, Segment};
use super::offloads::large;
use super::{Bench, MEMORY, Pieces, call, call_raw, context, read_memory, write_context, write_memory};
use crate::Errno;
use crate::FaultKind;
use crate::layout::{CONTEXT, PACKET, STACK_TOP};
use crate::machine::Machine;
use crate::packet::{GsoKind, Metadata};

const MAC: u64 = 1;

pub fn error(errno: Errno) -> i64 {
    errno.to_register() as i64
}

/// Runs on a small frame without offloads.
pub fn run<T>(program: impl FnOnce(&mut Machine) -> T) -> (T, Vec<u8>, Metadata) {
    let segment = Segment::new(false, true, &mut Random(2));
    let mut metadata = frames::metadata(&segment.octets);
    let mut octets = Pieces::new(&segment.octets, 40);
    let result = Bench::new().run(&mut octets, &mut metadata, program);
    (result, octets.whole(), metadata)
}

#[test]
fn numbers_are_those_of_the_kernel_and_unique() {
    let numbers: Vec<u32> = super::HELPERS.iter().map(|helper| helper.id).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // linux/bpf.h
    assert_eq!(
        (id::CSUM_LEVEL, id::CHECK_MTU, id::SKB_SET_TSTAMP),
        (135, 163, 192)
    );
}

#[test]
fn memory_that_is_not_the_programs_stops_it() {
    let bad: [(u32, [u64; 5], u8); 9] = [
        (id::SKB_LOAD_BYTES, [0, 0, MEMORY, 0, 0], 4),
        (id::SKB_LOAD_BYTES, [0, 0, 0, 4, 0], 3),
        (id::SKB_LOAD_BYTES, [0, 0, u64::from(STACK_TOP) - 4, 5, 0], 3),
        (id::SKB_LOAD_BYTES_RELATIVE, [0, 0, MEMORY, 1 << 40, 0], 3),
        (id::SKB_STORE_BYTES, [0, 0, MEMORY, 0, 0], 4),
        (id::SKB_STORE_BYTES, [0, 0, 0x5000_0000, 4, 0], 3),
        (id::CSUM_DIFF, [0, 4, 0, 0, 0], 1),
        (id::CSUM_DIFF, [0, 0, 0xffff_ffff, 4, 0], 3),
        (id::CHECK_MTU, [0, 0, 0xffff_fffe, 0, 0], 3),
    ];
    for (helper, arguments, culprit) in bad {
        let ((stopped, fault), ..) = run(|machine| {
            call_raw(machine, helper, arguments);
            (machine.words.stopped, machine.fault)
        });
        assert_eq!(stopped, 1, "helper {helper} {arguments:x?}");
        assert!(
            matches!(fault, Some(FaultKind::Argument { helper: h, argument, .. }) if h == helper && argument == culprit),
            "helper {helper}: {fault:?}"
        );
    }
    let (sum, ..) = run(|machine| call_raw(machine, id::CSUM_DIFF, [0, 0, 0, 0, 7]));
    assert_eq!(sum, 7, "nothing is nowhere");
}

#[test]
fn a_load_beyond_the_end_clears_the_memory() {
    let (memory, ..) = run(|machine| {
        write_memory(machine, &[7; 16]);
        let len = u64::from(machine.packet_len());
        let result = call(machine, id::SKB_LOAD_BYTES, [len - 7, MEMORY, 8, 0]);
        assert_eq!(result, error(Errno::EFAULT));
        read_memory(machine)
    });
    assert_eq!(memory[..9], [0, 0, 0, 0, 0, 0, 0, 0, 7]);
}

#[test]
fn a_load_relative_to_a_header_sees_the_linear_part_only() {
    run(|machine| {
        let linear = u64::from(machine.linear_len());
        let network = |offset| [offset, MEMORY, 4, 1];
        assert_eq!(
            call(machine, id::SKB_LOAD_BYTES_RELATIVE, network(linear - 14 - 4)),
            0
        );
        let beyond = call(machine, id::SKB_LOAD_BYTES_RELATIVE, network(linear - 14 - 3));
        assert_eq!(beyond, error(Errno::EFAULT));
        assert_eq!(call(machine, id::SKB_LOAD_BYTES, [linear - 3, MEMORY, 4, 0]), 0);
    });
}

#[test]
fn a_load_relative_to_a_header_starts_in_the_first_64_kib() {
    let mut octets = Pieces::new(&[7; 70_000], usize::MAX);
    Bench::new().run(&mut octets, &mut Metadata::default(), |machine| {
        assert_eq!(
            call(machine, id::SKB_LOAD_BYTES_RELATIVE, [0xffff, MEMORY, 4, 0]),
            0
        );
        let further = call(machine, id::SKB_LOAD_BYTES_RELATIVE, [0x10000, MEMORY, 4, 0]);
        assert_eq!(further, error(Errno::EFAULT));
    });
}

#[test]
fn a_store_and_a_pull_make_octets_linear_and_show_it() {
    let ((), frame, _) = run(|machine| {
        write_memory(machine, &[1, 2, 3, 4]);
        write_context(machine, |context| context.mark = 99);
        assert_eq!(call(machine, id::SKB_STORE_BYTES, [50, MEMORY, 4, 2]), 0);
        assert_eq!(machine.linear_len(), 54);
        assert_eq!(
            call(
                machine,
                id::SKB_PULL_DATA,
                [u64::from(machine.packet_len()), 0, 0, 0]
            ),
            0
        );
        assert_eq!(machine.packet.fragments_len, 0);
        let too_far = u64::from(machine.packet_len()) + 1;
        let result = call(machine, id::SKB_PULL_DATA, [too_far, 0, 0, 0]);
        assert_eq!(result, error(Errno::ENOMEM));
        let context = context(machine);
        assert_eq!(context.data_end - context.data, context.len);
        assert_eq!(context.mark, 99);
    });
    assert_eq!(frame[50..54], [1, 2, 3, 4]);
}

#[test]
fn a_hash_is_the_same_in_both_directions_and_forgotten_when_told() {
    let hash = |octets: &[u8]| {
        let mut metadata = frames::metadata(octets);
        Bench::new().run(&mut Pieces::new(octets, 20), &mut metadata, |machine| {
            let hash = call(machine, id::GET_HASH_RECALC, [0; 4]);
            assert_eq!(i64::from(context(machine).hash), hash);
            hash
        })
    };
    for ipv6 in [false, true] {
        let segment = Segment::new(ipv6, true, &mut Random(9));
        let (start, end) = (segment.addresses().start, segment.addresses().end);
        let mut reply = segment.octets.clone();
        reply[start..end].rotate_left((end - start) / 2);
        reply[end..end + 4].rotate_left(2);
        let there = hash(&segment.octets);
        assert_ne!(there, 0);
        assert_eq!(there, hash(&reply));
        reply[end] ^= 1;
        assert_ne!(there, hash(&reply), "another port is another flow");
    }
    assert_ne!(hash(&[0; 14]), 0);
    let ((), _, metadata) = run(|machine| {
        assert_eq!(call(machine, id::SET_HASH, [77, 0, 0, 0]), 0);
        assert_eq!(call(machine, id::GET_HASH_RECALC, [0; 4]), 77);
        assert_eq!(call(machine, id::SET_HASH_INVALID, [0; 4]), 0);
        assert_eq!(context(machine).hash, 0);
        call(machine, id::SET_HASH, [78, 0, 0, 0]);
    });
    assert_eq!(metadata.hash, 78);
}

#[test]
fn more_room_than_there_is_in_front_moves_the_frame_and_too_much_is_refused() {
    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    metadata.offload.partial = None;
    metadata.offload.gso.as_mut().unwrap().header_len = 0;
    let before = octets.whole();
    let grown = Bench::new().run(&mut octets, &mut metadata, |machine| {
        let mut grown = 0;
        for len in [500, 40, 4000, 30_000] {
            assert_eq!(call(machine, id::SKB_CHANGE_HEAD, [len, 0, 0, 0]), 0);
            grown += len as usize;
        }
        assert!(machine.packet.data >= PACKET);
        let more = call(machine, id::SKB_CHANGE_HEAD, [100_000, 0, 0, 0]);
        assert_eq!(more, error(Errno::ENOMEM));
        grown
    });
    let after = octets.whole();
    assert!(after[..grown].iter().all(|octet| *octet == 0));
    assert_eq!(after[grown..], before);
    assert_eq!(metadata.layers.network as usize, 14 + grown);
}

#[test]
fn a_frame_may_wander_through_its_room_for_ever() {
    let ((), frame, _) = run(|machine| {
        for _ in 0..200 {
            assert_eq!(call(machine, id::SKB_CHANGE_TAIL, [8000, 0, 0, 0]), 0);
            let shrink = [(-4000_i64) as u64, MAC, 0, 0];
            assert_eq!(call(machine, id::SKB_ADJUST_ROOM, shrink), 0);
        }
        let context = context(machine);
        assert_eq!((context.len, context.data_end - context.data), (4000, 4000));
    });
    assert_eq!(frame.len(), 4000);
}

#[test]
fn what_a_program_wrote_in_its_context_is_not_undone_by_helpers() {
    let ((), _, metadata) = run(|machine| {
        write_context(machine, |context| {
            context.mark = 1;
            context.cb = [2; 5];
            context.priority = 3;
        });
        for (helper, arguments) in [
            (id::SKB_VLAN_PUSH, [0x0081, 5, 0, 0]),
            (id::SKB_CHANGE_TYPE, [1, 0, 0, 0]),
            (id::SKB_SET_TSTAMP, [9, 1, 0, 0]),
            (id::SKB_ADJUST_ROOM, [20, 0, 0, 0]),
        ] {
            assert_eq!(call(machine, helper, arguments), 0);
            let context = context(machine);
            assert_eq!((context.mark, context.cb, context.priority), (1, [2; 5], 3));
        }
        // A store into a field that cannot be written changes nothing.
        write_context(machine, |context| context.len = 5);
        call(machine, id::SKB_CHANGE_TYPE, [0, 0, 0, 0]);
        assert_eq!(context(machine).len, machine.packet_len());
    });
    assert_eq!((metadata.mark, metadata.tstamp, metadata.tstamp_type), (1, 9, 1));
}

#[test]
fn the_context_may_be_given_as_memory() {
    let (memory, ..) = run(|machine| {
        assert_eq!(
            call(machine, id::SKB_LOAD_BYTES, [0, u64::from(CONTEXT) + 48, 4, 0]),
            0
        );
        context(machine).cb[0]
    });
    assert_eq!(memory, 0x0202_0202, "the first octets of the frame");
}

#[test]
fn a_difference_of_sums_is_what_was_added_without_what_was_taken_away() {
    let mut random = Random(4);
    let mut octets = [0; 128];
    random.fill(&mut octets);
    let sum = |octets: &[u8]| u16::from_be(frames::sum(&[octets]));
    run(|machine| {
        write_memory(machine, &octets);
        for (from, to) in [(0, 128), (0, 5), (0, 6), (0, 7), (0, 0)] {
            let arguments = [MEMORY, from, MEMORY, to, 0];
            let result = call_raw(machine, id::CSUM_DIFF, arguments);
            assert_eq!(result, u64::from(sum(&octets[..to as usize])), "{to} octets");
        }
        for (from, to) in [(8, 0), (8, 8), (20, 40), (6, 9)] {
            let before = call_raw(machine, id::CSUM_DIFF, [0, 0, MEMORY, from, 77]);
            let arguments = [MEMORY, from, MEMORY + 32, to, before];
            let result = call_raw(machine, id::CSUM_DIFF, arguments);
            let after = call_raw(machine, id::CSUM_DIFF, [0, 0, MEMORY + 32, to, 77]);
            assert_eq!(result % 0xffff, after % 0xffff, "{from} octets out, {to} in");
        }
    });
}
