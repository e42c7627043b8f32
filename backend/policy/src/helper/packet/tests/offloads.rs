//! What helpers do to what is left to do on a frame: partial checksums, segmentation, tags beside the octets. No kernel
//! can be asked, since BPF_PROG_TEST_RUN makes no such frames.

use super::super::id;
use super::calls::Random;
use super::frames::{self, Segment};
use super::units::{error, run};
use super::{Bench, MEMORY, Pieces, call, read_memory, write_memory};
use crate::Errno;
use crate::machine::Machine;
use crate::packet::{Encapsulation, Gso, GsoKind, Metadata, PartialChecksum, VlanTag};

const FIXED_GSO: u64 = 1 << 0;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L4_UDP: u64 = 1 << 4;
const NO_CSUM_RESET: u64 = 1 << 5;
const MAC: u64 = 1;

/// A TCP segment of IPv4 whose checksum is left to the device, and that is to be cut.
pub fn large(kind: GsoKind) -> (Pieces, Metadata) {
    let segment = Segment::new(false, false, &mut Random(1));
    let mut metadata = frames::metadata(&segment.octets);
    metadata.offload.partial = Some(PartialChecksum {
        start: 34,
        offset: 16,
    });
    metadata.offload.gso = Some(Gso {
        kind,
        size: 1000,
        segments: 3,
        header_len: 54,
        ecn: false,
        encapsulation: None,
    });
    (Pieces::new(&segment.octets, 60), metadata)
}

#[test]
fn a_gso_frame_that_grows_has_smaller_segments_and_its_checksum_further_back() {
    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    let flags = ENCAP_L3_IPV4 | ENCAP_L4_UDP;
    let results = Bench::new().run(&mut octets, &mut metadata, |machine| {
        [flags, flags].map(|flags| call(machine, id::SKB_ADJUST_ROOM, [28, MAC, flags, 0]))
    });
    assert_eq!(results, [0, error(Errno::EALREADY)]);
    assert_eq!(
        metadata.offload.partial,
        Some(PartialChecksum {
            start: 62,
            offset: 16
        })
    );
    let gso = metadata.offload.gso.unwrap();
    assert_eq!((gso.size, gso.segments, gso.header_len), (972, 0, 82));
    assert_eq!(gso.encapsulation, Some(Encapsulation { inner: 42, udp: true }));
    assert_eq!(metadata.layers.transport, Some(34));

    let result = Bench::new().run(&mut octets, &mut metadata, |machine| {
        call(machine, id::SKB_CHANGE_TAIL, [500, 0, 0, 0])
    });
    assert_eq!(
        result,
        error(Errno::ENOTSUPP),
        "it stays encapsulated between programs"
    );

    Bench::new().run(&mut octets, &mut metadata, |machine| {
        let shrink = [(-28_i64) as u64, MAC, 0, 0];
        assert_eq!(call(machine, id::SKB_ADJUST_ROOM, shrink), 0);
    });
    let gso = metadata.offload.gso.unwrap();
    assert_eq!((gso.size, gso.header_len, gso.encapsulation), (1000, 54, None));
    assert_eq!(
        metadata.offload.partial,
        Some(PartialChecksum {
            start: 34,
            offset: 16
        })
    );
}

#[test]
fn segments_keep_their_size_on_demand_and_datagrams_must() {
    let (mut octets, mut metadata) = large(GsoKind::Udp);
    let results = Bench::new().run(&mut octets, &mut metadata, |machine| {
        [(20, 0), (-8, 0), (20, FIXED_GSO), (-8, FIXED_GSO)]
            .map(|(len, flags): (i64, u64)| call(machine, id::SKB_ADJUST_ROOM, [len as u64, MAC, flags, 0]))
    });
    let refused = error(Errno::ENOTSUPP);
    assert_eq!(results, [refused, refused, 0, 0]);
    assert_eq!(metadata.offload.gso.unwrap().size, 1000);
}

#[test]
fn segments_that_would_be_empty_are_no_segments() {
    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    let result = Bench::new().run(&mut octets, &mut metadata, |machine| {
        call(machine, id::SKB_ADJUST_ROOM, [1000, MAC, 0, 0])
    });
    assert_eq!((result, metadata.offload.gso), (0, None));
}

#[test]
fn a_change_of_protocol_changes_what_segments_are() {
    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    metadata.hash = 5;
    Bench::new().run(&mut octets, &mut metadata, |machine| {
        assert_eq!(call(machine, id::SKB_CHANGE_PROTO, [0xdd86, 0, 0, 0]), 0);
    });
    let gso = metadata.offload.gso.unwrap();
    assert_eq!((gso.kind, gso.size, gso.header_len), (GsoKind::TcpV6, 1000, 74));
    assert_eq!((metadata.protocol, metadata.hash), (0x86dd, 0));
    assert_eq!(metadata.offload.partial.unwrap().start, 54);
    Bench::new().run(&mut octets, &mut metadata, |machine| {
        assert_eq!(call(machine, id::SKB_CHANGE_PROTO, [0x0008, 0, 0, 0]), 0);
    });
    assert_eq!(metadata.offload.gso.unwrap().kind, GsoKind::TcpV4);
    assert_eq!(metadata.offload.partial.unwrap().start, 34);
}

#[test]
fn a_new_tail_ends_all_offloads_that_it_cuts_off() {
    for (len, left) in [(52, true), (51, false), (700, true)] {
        let (mut octets, mut metadata) = large(GsoKind::TcpV4);
        Bench::new().run(&mut octets, &mut metadata, |machine| {
            assert_eq!(call(machine, id::SKB_CHANGE_TAIL, [len, 0, 0, 0]), 0);
            let too_short = call(machine, id::SKB_CHANGE_TAIL, [13, 0, 0, 0]);
            assert_eq!(too_short, error(Errno::EINVAL));
        });
        assert_eq!(octets.linear.len() as u64, len);
        assert_eq!(metadata.offload.gso, None);
        assert_eq!(metadata.offload.partial.is_some(), left, "{len}");
    }
}

#[test]
fn a_tag_beside_the_octets_goes_into_them_when_another_is_pushed() {
    let segment = Segment::new(false, false, &mut Random(3));
    let mut metadata = frames::metadata(&segment.octets);
    metadata.vlan = Some(VlanTag {
        protocol: 0x88a8,
        tci: 0x123,
    });
    metadata.offload.partial = Some(PartialChecksum {
        start: 34,
        offset: 16,
    });
    let before = (segment.octets.clone(), metadata);
    let mut octets = Pieces::new(&segment.octets, 20);
    Bench::new().run(&mut octets, &mut metadata, |machine| {
        assert_eq!(call(machine, id::SKB_VLAN_PUSH, [0x0081, 0x456, 0, 0]), 0);
    });
    assert_eq!(octets.whole()[12..18], [0x88, 0xa8, 0x01, 0x23, 0x08, 0x00]);
    assert_eq!(
        metadata.vlan,
        Some(VlanTag {
            protocol: 0x8100,
            tci: 0x456
        })
    );
    assert_eq!(
        (metadata.protocol, metadata.offload.partial.unwrap().start),
        (0x88a8, 38)
    );

    Bench::new().run(&mut octets, &mut metadata, |machine| {
        assert_eq!(call(machine, id::SKB_VLAN_POP, [0; 4]), 0);
    });
    assert_eq!((octets.whole(), metadata), before, "a pop undoes a push");
}

#[test]
fn levels_of_checksums_are_counted_while_they_are_vouched_for() {
    let levels = |machine: &mut Machine, levels: &[u64]| -> Vec<i64> {
        levels
            .iter()
            .map(|level| call(machine, id::CSUM_LEVEL, [*level, 0, 0, 0]))
            .collect()
    };
    let none = error(Errno::EACCES);
    let ((), _, metadata) = run(|machine| {
        assert_eq!(
            levels(machine, &[0, 1, 0, 1, 0, 2, 0, 2, 0]),
            [none, 0, 0, 0, 1, 0, 0, 0, none]
        );
        assert_eq!(
            levels(machine, &[1, 1, 3, 0, 1, 4]),
            [0, 0, 0, none, 0, error(Errno::EINVAL)]
        );
        assert_eq!(call(machine, id::SKB_ADJUST_ROOM, [8, MAC, NO_CSUM_RESET, 0]), 0);
        assert_eq!(levels(machine, &[0]), [0]);
        assert_eq!(call(machine, id::SKB_ADJUST_ROOM, [8, MAC, 0, 0]), 0);
        assert_eq!(levels(machine, &[0, 1]), [none, 0]);
    });
    assert!(metadata.offload.verified);

    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    Bench::new().run(&mut octets, &mut metadata, |machine| {
        assert_eq!(levels(machine, &[1, 0, 2, 3]), [0, none, 0, 0]);
        assert_eq!(
            call(machine, id::CSUM_UPDATE, [5, 0, 0, 0]),
            error(Errno::ENOTSUPP)
        );
    });
    assert!(metadata.offload.partial.is_some(), "what is left to do stays so");
}

#[test]
fn segments_are_held_against_the_mtu_one_by_one() {
    const SEGMENTS: u64 = 1;
    let (mut octets, mut metadata) = large(GsoKind::TcpV4);
    octets.fragments.resize(4000, 0);
    let mut bench = Bench::new();
    let mut check = |mtu: u32, ifindex: u64, flags: u64| {
        bench.mtu = mtu;
        bench.run(&mut octets, &mut metadata, |machine| {
            write_memory(machine, &[0; 4]);
            let result = call(machine, id::CHECK_MTU, [ifindex, MEMORY, 0, flags]);
            let memory = read_memory(machine);
            (result, u32::from_le_bytes(memory[..4].try_into().unwrap()))
        })
    };
    // 20 octets of IPv4, 20 of TCP and 1000 of payload
    assert_eq!(check(1040, 0, SEGMENTS), (0, 1040));
    assert_eq!(check(1039, 1, SEGMENTS), (2, 1039));
    assert_eq!(check(1039, 0, 0), (0, 1039));
    assert_eq!(check(1500, 2, 0), (error(Errno::ENODEV), 0));
    assert_eq!(check(1500, 0, 2), (error(Errno::EINVAL), 0));
    metadata.offload.gso = None;
    bench.run(&mut octets, &mut metadata, |machine| {
        write_memory(machine, &[0; 4]);
        assert_eq!(call(machine, id::CHECK_MTU, [0, MEMORY, 0, 0]), 1);
    });
}
