//! Octets and headers that nobody sends in good faith, and frames that change under way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::recipe::{Field, layouts, oversized, recipes};
use crate::packet::{
    AdaptError, Frame, GsoType, Headers, Offload, OffloadFeatures, VirtioNetHeader, accept, adapt,
};

fn corrupt(octets: &mut [u8], changes: &[(prop::sample::Index, u8)]) {
    for (at, value) in changes {
        let near = octets.len().min(120);
        octets[at.index(near)] = *value;
    }
}

fn wild_headers() -> impl Strategy<Value = VirtioNetHeader> {
    let gso = prop_oneof![Just(0u8), Just(1), Just(4), Just(5), Just(0x81), any::<u8>()];
    let small = || prop_oneof![0..100u16, any::<u16>()];
    (any::<u8>(), gso, any::<u16>(), small(), small(), small()).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| VirtioNetHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
            num_buffers: 0,
        },
    )
}

fn features() -> impl Strategy<Value = OffloadFeatures> {
    any::<[bool; 5]>().prop_map(|[csum, tso4, tso6, ecn, uso]| OffloadFeatures {
        csum,
        tso4,
        tso6,
        ecn,
        uso,
    })
}

/// Whatever was accepted keeps its promises, and can be delivered to anyone.
fn keeps_its_promises(frame: &mut Frame, receiver: OffloadFeatures) -> Result<(), TestCaseError> {
    let offload = frame.offload;
    if offload.needs_csum {
        let end = usize::from(offload.csum_start) + usize::from(offload.csum_offset) + 2;
        prop_assert!(end <= frame.head().len());
    }
    if offload.gso_type != GsoType::None {
        let headers = Headers::parse(frame.head(), frame.len()).unwrap();
        prop_assert!(offload.needs_csum && offload.gso_size > 0 && offload.encapsulation.is_none());
        prop_assert_eq!(usize::from(offload.hdr_len), headers.payload);
        prop_assert!(frame.len() > headers.payload + usize::from(offload.gso_size));
    }
    prop_assert_eq!(deliver(frame, receiver), Ok(()));
    Ok(())
}

/// Delivers only what the receiver understands, if anything.
fn deliver(frame: &mut Frame, receiver: OffloadFeatures) -> Result<(), AdaptError> {
    let mut scratch = Frame::new();
    let adapted = adapt(frame, receiver, &mut scratch, |part| {
        assert!(receiver.understands(&part.offload));
        Ok(())
    });
    assert!(scratch.is_empty());
    adapted
}

proptest! {
    #[test]
    fn random_octets_do_no_harm(
        octets in vec(any::<u8>(), 0..300),
        header in wild_headers(),
        allowed in features(),
        receiver in features(),
        layout in layouts(),
    ) {
        let mut frame = layout.frame(&octets);
        if accept(&mut frame, &header, allowed).is_ok() {
            keeps_its_promises(&mut frame, receiver)?;
        }
    }

    #[test]
    fn frames_with_errors_do_no_harm(
        recipe in recipes(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        header in wild_headers(),
        honest: bool,
        gso_size: u16,
        receiver in features(),
        layout in layouts(),
    ) {
        let header = if honest { recipe.header(gso_size) } else { header };
        let mut octets = recipe.build(Field::PseudoHeader);
        corrupt(&mut octets, &changes);
        let mut frame = layout.frame(&octets);
        if accept(&mut frame, &header, OffloadFeatures::ALL).is_ok() {
            keeps_its_promises(&mut frame, receiver)?;
        }
    }

    /// Programs may write to the head after the frame was accepted.
    #[test]
    fn frames_that_change_after_they_were_accepted_do_no_harm(
        (recipe, gso_size) in oversized(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        offload in (any::<bool>(), any::<u16>(), any::<u16>(), any::<u16>()),
        receiver in features(),
        layout in layouts(),
    ) {
        let octets = recipe.build(Field::PseudoHeader);
        let mut frame = layout.frame(&octets);
        accept(&mut frame, &recipe.header(gso_size), OffloadFeatures::ALL).unwrap();
        corrupt(frame.head_mut(), &changes);
        let (moved, csum_start, csum_offset, hdr_len) = offload;
        if moved {
            frame.offload = Offload { csum_start, csum_offset, hdr_len, ..frame.offload };
        }
        let _ = deliver(&mut frame, receiver);
    }
}
