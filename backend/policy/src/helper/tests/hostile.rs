//! Whatever a program passes, a helper returns, and touches nothing but its window: a guard page would end the test.

use std::sync::Mutex;

use proptest::prelude::*;

use super::super::testing::{World, call};
use super::super::{find, names};
use super::maps::Fragmented;
use crate::code::function_handle;
use crate::layout::{
    CONTEXT, CONTEXT_LEN, FIRST, PACKET, PACKET_DATA, PACKET_LEN, PER_SHARD, READ_ONLY, SHARED, STACK,
    STACK_TOP,
};
use crate::map::MapKind;
use crate::packet::NoEnvironment;

const KINDS: [MapKind; 15] = [
    MapKind::Hash,
    MapKind::Array,
    MapKind::ProgArray,
    MapKind::PerfEventArray,
    MapKind::PercpuHash,
    MapKind::PercpuArray,
    MapKind::LruHash,
    MapKind::LruPercpuHash,
    MapKind::LpmTrie,
    MapKind::ArrayOfMaps,
    MapKind::HashOfMaps,
    MapKind::Queue,
    MapKind::Stack,
    MapKind::Ringbuf,
    MapKind::BloomFilter,
];

/// The edges of everything that a window holds.
const EDGES: [u32; 13] = [
    0,
    FIRST,
    CONTEXT + CONTEXT_LEN,
    STACK,
    STACK_TOP,
    PACKET,
    PACKET_DATA,
    PACKET + PACKET_LEN,
    READ_ONLY,
    SHARED,
    SHARED + 4096,
    PER_SHARD,
    u32::MAX,
];

fn register() -> impl Strategy<Value = u64> {
    let near_an_edge =
        (0..EDGES.len(), -80i64..80).prop_map(|(edge, distance)| (i64::from(EDGES[edge]) + distance) as u64);
    prop_oneof![
        6 => near_an_edge.clone(),
        1 => (near_an_edge, any::<u32>()).prop_map(|(low, high)| low & 0xffff_ffff | u64::from(high) << 32),
        4 => 0u64..24,
        3 => 0u64..2048,
        1 => (0u32..3).prop_map(|function| function_handle(function as usize).into()),
        2 => (0u32..64).prop_map(|shift| 1 << shift),
        1 => (0u32..64).prop_map(|shift| (1u64 << shift).wrapping_neg()),
        1 => any::<u64>(),
    ]
}

fn calls() -> impl Strategy<Value = Vec<(u32, [u64; 5])>> {
    let ids: Vec<u32> = (0..names::NAMES.len() as u32)
        .filter(|id| find(*id).is_some())
        .collect();
    let arguments = [(); 5].map(|()| register());
    proptest::collection::vec((proptest::sample::select(ids), arguments), 1..12)
}

fn run(world: &World, calls: &[(u32, [u64; 5])]) -> Result<(), TestCaseError> {
    let mut frame = Fragmented {
        linear: (0..100).collect(),
        fragments: vec![0x55; 1400],
    };
    world.run_on(&mut frame, &mut NoEnvironment, |machine| {
        for (id, arguments) in calls {
            machine.words.stopped = 0;
            machine.fault = None;
            let fuel = machine.words.fuel;
            let result = call(machine, *id, *arguments);
            prop_assert!(machine.words.fuel <= fuel);
            // The interpreter and the compiler both look at this word.
            if machine.words.stopped != 0 {
                prop_assert_eq!(
                    result,
                    0,
                    "what a helper that stopped the program says is nothing"
                );
            } else {
                prop_assert_eq!(machine.fault, None);
            }
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn helpers_survive_whatever_a_program_passes(calls in calls()) {
        static WORLD: Mutex<Option<World>> = Mutex::new(None);
        let mut world = WORLD.lock().unwrap();
        run(world.get_or_insert_with(|| World::new(&KINDS)), &calls)?;
    }
}

#[test]
fn every_helper_survives_every_edge_as_every_argument() {
    let world = World::new(&KINDS);
    let values = EDGES.map(u64::from).into_iter().chain(1..=KINDS.len() as u64);
    let values: Vec<u64> = values.chain([20, 64, u64::MAX, 1 << 31]).collect();
    for id in (0..names::NAMES.len() as u32).filter(|id| find(*id).is_some()) {
        for first in &values {
            for second in &values {
                let calls = [2, 3, 4].map(|third| {
                    let third = values[(first.wrapping_add(*second)) as usize % values.len() / third];
                    (id, [*first, *second, third, *second, *first])
                });
                run(&world, &calls).unwrap();
            }
        }
    }
}
