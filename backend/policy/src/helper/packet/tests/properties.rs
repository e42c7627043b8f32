//! What holds after any calls on any frame.

use proptest::prelude::*;

use super::super::id;
use super::calls::{self, Random, Step};
use super::frames::{self, Segment};
use super::{Bench, Pieces, call, call_raw, context, read_memory, write_context, write_memory};
use super::{MEMORY, MEMORY_LEN};
use crate::context::SkBuff;
use crate::layout::{CONTEXT, PACKET, PACKET_LEN};
use crate::machine::Machine;
use crate::packet::{Encapsulation, Gso, GsoKind, Metadata, PartialChecksum, VlanTag};

/// A frame with anything that may travel beside it.
fn any_metadata(random: &mut Random, frame: &[u8]) -> Metadata {
    let mut metadata = frames::metadata(frame);
    if random.one_in(3) {
        metadata.vlan = Some(VlanTag {
            protocol: random.pick(&[0x8100, 0x88a8]),
            tci: random.next() as u16,
        });
    }
    if random.one_in(2) && frame.len() > 20 {
        let place = random.below(frame.len() as u64 - 2) as u16;
        let offset = random.below(20.min(u64::from(place) + 1)) as u16;
        let start = place - offset;
        metadata.offload.partial = Some(PartialChecksum { start, offset });
    }
    metadata.offload.verified = random.one_in(2);
    if random.one_in(2) {
        metadata.offload.gso = Some(Gso {
            kind: random.pick(&[GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp]),
            size: random.pick(&[1, 536, 1448, 65535]),
            segments: random.pick(&[0, 2, 65535]),
            header_len: random.pick(&[0, 42, 66, 65535]),
            ecn: false,
            encapsulation: random.one_in(4).then_some(Encapsulation { inner: 50, udp: true }),
        });
    }
    metadata.layers.transport = random.pick(&[None, Some(34), Some(54)]);
    metadata.layers.encapsulated = random.one_in(8);
    metadata.hash = random.or_zero() as u32;
    metadata
}

/// What must be so whenever a helper has returned.
fn assert_consistent(machine: &Machine) {
    let packet = &machine.packet;
    assert!(PACKET <= packet.data && packet.data <= packet.data_end);
    assert!(packet.data_end <= PACKET + PACKET_LEN);
    assert_eq!(packet.fragments_len as usize, machine.octets().fragments_len());

    let metadata = &packet.metadata;
    let SkBuff {
        len,
        protocol,
        vlan_present,
        data,
        data_end,
        pkt_type,
        hash,
        tstamp_type,
        gso_size,
        ..
    } = context(machine);
    assert_eq!(len, packet.data_end - packet.data + packet.fragments_len);
    assert_eq!((data, data_end), (packet.data, packet.data_end));
    assert_eq!(u16::from_be(protocol as u16), metadata.protocol);
    assert_eq!(vlan_present == 1, metadata.vlan.is_some());
    assert_eq!(pkt_type, metadata.packet_type);
    assert_eq!(hash, metadata.hash);
    assert_eq!(tstamp_type, metadata.tstamp_type);
    assert_eq!(
        gso_size,
        metadata.offload.gso.map_or(0, |gso| u32::from(gso.size))
    );
    if let Some(gso) = metadata.offload.gso {
        assert_ne!(gso.size, 0, "segments of nothing");
    }
    if let Some(partial) = metadata.offload.partial {
        let end = u32::from(partial.start) + u32::from(partial.offset) + 2;
        assert!(end <= len, "the place of the checksum is in the frame");
    }
}

/// Helpers that look at the linear part only, in the kernel as here.
fn looks_at_linear_part(step: &Step) -> bool {
    matches!(
        step.helper(),
        Some(id::SKB_LOAD_BYTES_RELATIVE | id::SKB_ECN_SET_CE)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_context_agrees_with_the_frame_after_any_calls(seed: u64, mark: u32, linear in 0_usize..1600) {
        let random = &mut Random(seed);
        let frame = frames::any(random);
        let mut metadata = any_metadata(random, &frame);
        let mut octets = Pieces::new(&frame, linear);
        let len = Bench::new().run(&mut octets, &mut metadata, |machine| {
            write_context(machine, |context| context.mark = mark);
            let mut mark = mark;
            for _ in 0..1 + random.below(12) {
                let step = calls::step(random, u64::from(machine.packet_len()));
                if let Step::SetMark(new) = step {
                    mark = new;
                }
                step.run(machine);
                assert_consistent(machine);
                assert_eq!(machine.words.stopped, 0, "{step:?}");
                assert_eq!(context(machine).mark, mark, "what the program wrote is kept");
            }
            machine.packet_len()
        });
        prop_assert_eq!(octets.whole().len(), len as usize);
    }

    #[test]
    fn it_does_not_matter_which_part_of_a_frame_is_linear(seed: u64, linear in 0_usize..1600) {
        let run = |linear: usize| {
            let random = &mut Random(seed);
            let frame = frames::any(random);
            let mut metadata = any_metadata(random, &frame);
            let mut octets = Pieces::new(&frame, linear);
            let (results, memory) = Bench::new().run(&mut octets, &mut metadata, |machine| {
                let mut filling = [0; MEMORY_LEN as usize];
                random.fill(&mut filling);
                write_memory(machine, &filling);
                let mut results = Vec::new();
                for _ in 0..1 + random.below(6) {
                    let step = calls::step(random, u64::from(machine.packet_len()));
                    if !looks_at_linear_part(&step) {
                        results.extend(step.run(machine));
                    }
                }
                (results, read_memory(machine))
            });
            (results, memory, octets.whole(), metadata)
        };
        prop_assert_eq!(run(usize::MAX), run(linear));
    }

    #[test]
    fn nonsense_does_no_harm(seed: u64, frame in prop::collection::vec(any::<u8>(), 0..100), linear in 0_usize..100) {
        let random = &mut Random(seed);
        let mut metadata = Metadata { protocol: random.pick(&[0x800, 0x86dd, 0x8100]), ..Metadata::default() };
        let mut octets = Pieces::new(&frame, linear);
        Bench::new().run(&mut octets, &mut metadata, |machine| {
            for _ in 0..8 {
                let helper = random.pick(super::HELPERS).id;
                let arguments = [(); 5].map(|()| match random.below(6) {
                    0 => 0,
                    1 => MEMORY,
                    2 => random.below(200),
                    3 => u64::from(machine.packet.data) + random.below(100),
                    4 => u64::from(CONTEXT),
                    _ => random.next(),
                });
                call_raw(machine, helper, arguments);
                let packet = &machine.packet;
                assert!(PACKET <= packet.data && packet.data <= packet.data_end);
                assert!(packet.data_end <= PACKET + PACKET_LEN);
            }
        });
    }

    #[test]
    fn checksums_stay_right_when_addresses_and_ports_are_rewritten(
        seed: u64, ipv6: bool, udp: bool, left: bool, linear in 0_usize..100
    ) {
        let random = &mut Random(seed);
        let mut segment = Segment::new(ipv6, udp, random);
        prop_assert!(segment.is_right());
        let mut metadata = frames::metadata(&segment.octets);
        if left {
            segment.leave_transport();
            metadata.offload.partial = Some(PartialChecksum {
                start: segment.transport() as u16,
                offset: segment.checksum_offset() as u16,
            });
        }
        let mut octets = Pieces::new(&segment.octets, linear);
        Bench::new().run(&mut octets, &mut metadata, |machine| rewrite(machine, &segment, random));
        segment.octets = octets.whole();
        if left {
            segment.complete_transport();
        }
        prop_assert!(segment.is_right());
    }
}

/// Writes a new address and a new port, as network address translation does.
fn rewrite(machine: &mut Machine, segment: &Segment, random: &mut Random) {
    const BPF_F_RECOMPUTE_CSUM: u64 = 1;
    const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
    const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
    let mangled = if segment.udp { BPF_F_MARK_MANGLED_0 } else { 0 };
    let checksum = segment.checksum_at() as u64;
    let address = segment.addresses().start as u64;
    let port = segment.transport() as u64;
    let address_len: u64 = if segment.ipv6 { 16 } else { 4 };

    let mut new = [0; 32];
    random.fill(&mut new);
    write_memory(machine, &new);
    let old = MEMORY + 64;
    assert_eq!(
        call(machine, id::SKB_LOAD_BYTES, [address, old, address_len, 0]),
        0
    );
    if segment.ipv6 {
        let difference = call_raw(machine, id::CSUM_DIFF, [old, 16, MEMORY, 16, 0]);
        let flags = BPF_F_PSEUDO_HDR | mangled;
        assert_eq!(
            call(machine, id::L4_CSUM_REPLACE, [checksum, 0, difference, flags]),
            0
        );
    } else {
        let from = word(&read_memory(machine)[64..68]);
        let to = word(&new[..4]);
        assert_eq!(call(machine, id::L3_CSUM_REPLACE, [24, from, to, 4]), 0);
        let flags = BPF_F_PSEUDO_HDR | mangled | 4;
        assert_eq!(call(machine, id::L4_CSUM_REPLACE, [checksum, from, to, flags]), 0);
    }
    let store = [address, MEMORY, address_len, BPF_F_RECOMPUTE_CSUM];
    assert_eq!(call(machine, id::SKB_STORE_BYTES, store), 0);

    assert_eq!(call(machine, id::SKB_LOAD_BYTES, [port, old, 2, 0]), 0);
    let from = word(&read_memory(machine)[64..66]);
    let to = word(&new[16..18]);
    assert_eq!(
        call(machine, id::L4_CSUM_REPLACE, [checksum, from, to, mangled | 2]),
        0
    );
    let store = [port, MEMORY + 16, 2, BPF_F_RECOMPUTE_CSUM];
    assert_eq!(call(machine, id::SKB_STORE_BYTES, store), 0);
}

/// Octets as a program loads them into a register.
fn word(octets: &[u8]) -> u64 {
    octets
        .iter()
        .rev()
        .fold(0, |word, octet| word << 8 | u64::from(*octet))
}
