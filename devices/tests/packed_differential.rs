//! Our packed ring against our split one, each with its own driver, on the same buffers: both formats carry the same.

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::chaos::TILES;
use common::driver::{Driver, Part, Used};
use common::packed::{EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, FIRST, PackedDriver, step};
use common::ram::Ram;
use devices::ring::{Chain, LOOKAHEAD, PackedRing, Ring, RingConfig};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SPLIT_RING: u64 = 0x100;
const PACKED_RING: u64 = 0x800;
/// Where each driver has its indirect tables.
const TABLES: [u64; 2] = [0x1000, 0x2000];
/// Where buffers may be.
const BUFFERS: [Range<u64>; 2] = [0x3000..0x5000, 0x8000..0x9000];
/// More than any ring of these tests can hold.
const SPLIT_SIZE: u16 = 64;
const LARGEST: u16 = 40;

/// The same chains in both formats.
struct Twins {
    split: Driver,
    packed: PackedDriver,
    rings: [Ring; 2],
    event_idx: bool,
    // Whether the drivers want notifications.
    wanted: bool,
    posted: usize,
    // The ids of the chains that the devices have, the oldest first.
    ids: Vec<[u16; 2]>,
}

impl Twins {
    fn new(ram: &Arc<Ram>, size: u16, event_idx: bool, in_order: bool, start: u16) -> Twins {
        let split = Driver::new(ram, SPLIT_SIZE, SPLIT_RING);
        let mut packed = PackedDriver::new(ram, size, PACKED_RING);
        packed.in_order = in_order;
        packed.resume_at(step(FIRST, start % size, size) ^ (start & FIRST));
        let rings = [&split.config(event_idx), &packed.config(event_idx)]
            .map(|config| Ring::start(config, ram.device(), None).unwrap());
        Twins {
            split,
            packed,
            rings,
            event_idx,
            wanted: true,
            posted: 0,
            ids: vec![],
        }
    }

    fn post(&mut self, parts: &[Part], is_indirect: bool) {
        let slots = if is_indirect { 1 } else { parts.len() as u16 };
        if self.packed.free_slots() < slots {
            return;
        }
        let [first, second] = TABLES.map(|table| table + self.posted as u64 % 40 * 97);
        self.ids.push(match is_indirect {
            true => [
                self.split.post_indirect(&[], first, parts, 0),
                self.packed.post_indirect(second, parts, 0),
            ],
            false => [self.split.post(parts), self.packed.post(parts)],
        });
        self.posted += 1;
    }

    /// Has both drivers say whether they want to be notified of the next chain.
    fn wish(&self) {
        if self.event_idx {
            // There, or never within these rings.
            let far = if self.wanted { 0 } else { 0x4000 };
            self.split.set_used_event(self.split.next_used.wrapping_add(far));
            self.packed.set_event(self.packed.next_used | far, EVENT_DESC);
        } else {
            self.split.set_avail_flags(u16::from(!self.wanted));
            let flags = if self.wanted { EVENT_ENABLE } else { EVENT_DISABLE };
            self.packed.set_event(0, flags);
        }
    }

    /// Has both devices take up to `taken` chains, give back the ones from `kept` on, and complete the others.
    fn use_chains(&mut self, taken: usize, kept: usize, len: impl Fn(usize) -> u32) {
        let expected = taken.min(self.ids.len());
        let mut marks = self.rings.each_ref().map(Ring::mark);
        for n in 0..taken {
            if n <= kept {
                marks = self.rings.each_ref().map(Ring::mark);
            }
            let mut chains = [Chain::default(), Chain::default()];
            for (ring, chain) in self.rings.iter_mut().zip(&mut chains) {
                assert_eq!(ring.take(chain), Ok(n < expected));
            }
            if n >= expected {
                break;
            }
            assert_eq!(pieces(&chains[0]), pieces(&chains[1]));
            assert_eq!(chains[0].readable_len(), chains[1].readable_len());
            assert_eq!(chains[0].writable_len(), chains[1].writable_len());
            assert_eq!(chains.each_ref().map(|chain| chain.id.id()), self.ids[n]);
            for (ring, chain) in self.rings.iter_mut().zip(&chains) {
                ring.complete(chain.id, len(n));
            }
        }
        let completed = expected.min(kept);
        if completed < expected {
            for (ring, mark) in self.rings.iter_mut().zip(marks) {
                ring.rewind(mark);
            }
        }
        self.wish();
        let before = self.packed.ram.snapshot();
        let [notify, other] = self.rings.each_mut().map(Ring::publish);
        assert_eq!(notify, other);
        let [ring, area] = self.packed.used_ranges();
        let written = [self.split.used_range(), ring, area];
        self.packed.ram.assert_kept(&before, &written);
        let back = [self.split.collect(), self.packed.collect()];
        for (side, back) in back.iter().enumerate() {
            let expected = self.ids[..completed].iter().enumerate();
            let expected: Vec<Used> = expected
                .map(|(n, ids)| Used {
                    id: ids[side].into(),
                    len: len(n),
                })
                .collect();
            assert_eq!(*back, expected);
        }
        self.ids.drain(..completed);
    }

    /// Starts both anew where they stand.
    fn restart(&mut self) {
        let position = self.rings[1].position();
        assert_eq!(position, u32::from(self.packed.next_used) * 0x1_0001);
        let config = RingConfig {
            base: position,
            ..self.packed.config(self.event_idx)
        };
        let device = || self.packed.ram.device();
        self.rings = [
            Ring::start(&self.split.config(self.event_idx), device(), None).unwrap(),
            Ring::Packed(PackedRing::start(&config, device(), None).unwrap()),
        ];
    }
}

/// A buffer as it lies in memory: start, length, direction.
fn pieces(chain: &Chain) -> Vec<(u64, usize, bool)> {
    let of = |writable| move |buffer: &devices::ring::Buffer| (buffer.guest, buffer.len, writable);
    let readable = chain.readable().iter().map(of(false));
    readable.chain(chain.writable().iter().map(of(true))).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// The driver makes a chain available, through a table or not.
    Post(Vec<Part>, bool),
    /// The driver wants notifications or none.
    Wish(bool),
    /// The devices take that many chains and keep that many; whether anything was written to them.
    Use(usize, usize, u32),
    /// The devices look ahead.
    Prepare,
    /// The devices ask for kicks, or for none.
    Ask(bool),
    /// The devices start anew.
    Restart,
}

fn part() -> impl Strategy<Value = Part> {
    let place = select(BUFFERS.to_vec()).prop_flat_map(|place| {
        let end = place.end;
        (place, 1..0xa00u64).prop_map(move |(at, len)| (at, len.min(end - at)))
    });
    (place, any::<bool>()).prop_map(|((address, len), writable)| Part {
        address,
        len: len as u32,
        writable,
    })
}

fn post() -> impl Strategy<Value = Step> {
    let len = prop_oneof![3 => 1..2usize, 2 => 2..7usize];
    let parts = len.prop_flat_map(|len| vec(part(), len));
    (parts, any::<bool>()).prop_map(|(mut parts, is_indirect)| {
        parts.sort_by_key(|part| part.writable);
        Step::Post(parts, is_indirect)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let kept = prop_oneof![2 => Just(usize::MAX), 1 => 0..8usize];
    let len = prop_oneof![1 => Just(0), 2 => any::<u32>()];
    prop_oneof![
        16 => post(),
        1 => any::<bool>().prop_map(Step::Wish),
        6 => (0..12usize, kept, len).prop_map(|(taken, kept, len)| Step::Use(taken, kept, len)),
        2 => Just(Step::Prepare),
        2 => any::<bool>().prop_map(Step::Ask),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(common::cases(1000))]

    #[test]
    fn both_formats_carry_the_same(
        size in 1..=LARGEST,
        event_idx: bool,
        in_order: bool,
        start: u16,
        steps in vec(any_step(), 1..120),
    ) {
        let ram = Ram::new(TILES);
        let mut twins = Twins::new(&ram, size, event_idx, in_order, start);
        for step in &steps {
            match step {
                Step::Post(parts, is_indirect) => twins.post(parts, *is_indirect),
                Step::Wish(wanted) => twins.wanted = *wanted,
                Step::Use(taken, kept, len) => {
                    let len = |n| if *len == 0 { 0 } else { len.wrapping_add(n as u32) };
                    twins.use_chains(*taken, *kept, len);
                }
                Step::Prepare => {
                    for ring in &mut twins.rings {
                        ring.prepare(LOOKAHEAD).unwrap();
                    }
                }
                Step::Ask(true) => {
                    let [split, packed] = twins.rings.each_mut().map(Ring::request_kicks);
                    prop_assert_eq!(split, packed);
                    prop_assert_eq!(split, !twins.ids.is_empty());
                }
                Step::Ask(false) => twins.rings.each_mut().map(Ring::suppress_kicks).into_iter().for_each(drop),
                Step::Restart => twins.restart(),
            }
        }
        ram.assert_guards();
    }
}
