//! Both rings against a device that is written here for these tests alone, from the specification.

use proptest::prelude::*;

use super::device::{Device, PackedDevice, SplitDevice};
use super::*;

const LEN: u32 = 100;

fn config(size: u16) -> RingConfig {
    RingConfig {
        size,
        in_order: false,
        event_idx: false,
        indirect: false,
        writable: false,
        buffer_len: LEN,
        kicks: true,
    }
}

fn ring_and_device<R: DriverRing, D: Device>(config: &RingConfig) -> (R, D) {
    let mut memory = Memory::new(R::octets(config), false).unwrap();
    let ring = R::new(config, &mut memory).unwrap();
    let device = D::new(ring.addresses(), memory.region(), config);
    (ring, device)
}

/// One step of a test: the driver puts buffers, or the device uses some of those that it has, the youngest first if it
/// may, with one entry for all if it may.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put(usize),
    Use { count: usize, at_once: bool },
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..12usize).prop_map(Step::Put),
        (0..12usize, any::<bool>()).prop_map(|(count, at_once)| Step::Use { count, at_once }),
        (1..12usize).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 1..200)
}

/// What the driver put must be what the device gets, and what the device used must be what the driver gets,
/// if it does not only reclaim.
fn exchange<R: DriverRing, D: Device>(config: &RingConfig, steps: &[Step], reclaims: bool) {
    let (mut ring, mut device) = ring_and_device::<R, D>(config);
    let (mut put, mut had, mut used) = (0u64, Vec::new(), std::collections::VecDeque::new());
    for step in steps {
        match *step {
            Step::Put(count) => {
                let before = put;
                for _ in 0..count.min(ring.room()) {
                    ring.put(put << 12, LEN);
                    put += 1;
                    assert_eq!(device.next(), None, "a buffer was shown before it was published");
                }
                ring.publish();
                for address in before..put {
                    let buffer = device.next().expect("a buffer that was published");
                    assert_eq!(buffer.parts, expected_parts(config, address << 12));
                    had.push(buffer.id);
                }
                assert_eq!(device.next(), None);
            }
            Step::Use { count, at_once } => {
                let count = count.min(had.len());
                let batch: Vec<u16> = if config.in_order {
                    had.drain(..count).collect()
                } else {
                    had.drain(had.len() - count..).rev().collect()
                };
                let len = 7 + count as u32;
                if config.in_order && at_once && !batch.is_empty() {
                    device.use_batch(&batch, len);
                    used.extend(
                        batch[1..]
                            .iter()
                            .zip(&batch)
                            .map(|(_, id)| Used { id: *id, len: LEN }),
                    );
                    used.push_back(Used {
                        id: batch[count - 1],
                        len,
                    });
                } else {
                    for id in &batch {
                        device.use_batch(&[*id], len);
                    }
                    used.extend(batch.iter().map(|id| Used { id: *id, len }));
                }
            }
            Step::Take(_) if reclaims => {
                ring.reclaim().unwrap();
                used.clear();
            }
            Step::Take(count) => {
                let mut taken = vec![Used::default(); count];
                let found = ring.take(&mut taken).unwrap();
                assert_eq!(found, count.min(used.len()));
                taken.truncate(found);
                assert_eq!(taken, used.drain(..found).collect::<Vec<_>>());
            }
        }
        assert_eq!(ring.outstanding(), had.len() + used.len());
        assert_eq!(ring.room() + ring.outstanding(), usize::from(config.size));
    }
}

fn expected_parts(config: &RingConfig, address: u64) -> Vec<(u64, u32, bool)> {
    if config.indirect {
        return vec![(address, 12, false), (address + 12, LEN - 12, false)];
    }
    vec![(address, LEN, config.writable)]
}

proptest! {
    #[test]
    fn a_split_ring_carries_buffers(steps in steps(), in_order: bool, indirect: bool, event_idx: bool, reclaims: bool) {
        let config = RingConfig { in_order, indirect, event_idx, writable: !indirect, ..config(16) };
        exchange::<SplitRing, SplitDevice>(&config, &steps, reclaims);
    }

    #[test]
    fn a_packed_ring_of_any_size_carries_buffers(
        steps in steps(), size in 1..20u16, in_order: bool, indirect: bool, event_idx: bool, reclaims: bool,
    ) {
        let config = RingConfig { in_order, indirect, event_idx, writable: !indirect, ..config(size) };
        exchange::<PackedRing, PackedDevice>(&config, &steps, reclaims);
    }
}

/// Puts and takes `count` buffers one by one, and gives for which of them the device was to be kicked.
fn kicks<R: DriverRing, D: Device>(config: &RingConfig, wish: impl Fn(&D, u16), count: u16) -> Vec<u16> {
    let (mut ring, mut device) = ring_and_device::<R, D>(config);
    let mut kicked = Vec::new();
    for number in 0..count {
        wish(&device, number);
        ring.put(0x1000, LEN);
        if ring.publish() {
            kicked.push(number);
        }
        let id = device.next().unwrap().id;
        device.use_batch(&[id], 1);
        ring.reclaim().unwrap();
    }
    kicked
}

#[test]
fn the_device_is_kicked_only_if_it_wants_that() {
    let all: Vec<u16> = (0..40).collect();
    let even: Vec<u16> = (0..40).step_by(2).collect();
    let wish = |number: u16| number.is_multiple_of(2);
    assert_eq!(
        kicks::<SplitRing, SplitDevice>(&config(16), |it, _| it.want_kicks(true), 40),
        all
    );
    assert_eq!(
        kicks::<SplitRing, SplitDevice>(&config(16), |it, at| it.want_kicks(wish(at)), 40),
        even
    );
    assert_eq!(
        kicks::<PackedRing, PackedDevice>(&config(7), |it, _| it.want_kicks(true), 40),
        all
    );
    assert_eq!(
        kicks::<PackedRing, PackedDevice>(&config(7), |it, at| it.want_kicks(wish(at)), 40),
        even
    );
    let never = RingConfig {
        kicks: false,
        ..config(16)
    };
    assert!(kicks::<SplitRing, SplitDevice>(&never, |it, _| it.want_kicks(true), 40).is_empty());
    assert!(kicks::<PackedRing, PackedDevice>(&never, |it, _| it.want_kicks(true), 40).is_empty());
}

#[test]
fn with_event_idx_the_device_is_kicked_at_its_event() {
    let event_idx = |size| RingConfig {
        event_idx: true,
        ..config(size)
    };
    // The event is the buffer after next, asked for with every third one: 2, 5, 8 and so on.
    let events: Vec<u16> = (2..60).step_by(3).collect();
    let wish_split = |device: &SplitDevice, at: u16| {
        if at.is_multiple_of(3) {
            device.want_kick_at(at + 2);
        }
    };
    assert_eq!(
        kicks::<SplitRing, SplitDevice>(&event_idx(16), wish_split, 60),
        events
    );
    let wish_packed = |device: &PackedDevice, at: u16| {
        if at.is_multiple_of(3) {
            device.want_kick_at(at + 2);
        }
    };
    assert_eq!(
        kicks::<PackedRing, PackedDevice>(&event_idx(7), wish_packed, 60),
        events
    );
    assert_eq!(
        kicks::<PackedRing, PackedDevice>(&event_idx(16), wish_packed, 60),
        events
    );
}

fn calls<R: DriverRing, D: Device>(config: &RingConfig, wanted: bool) -> usize {
    let (mut ring, mut device) = ring_and_device::<R, D>(config);
    let mut calls = 0;
    // More than the index of a split ring has room for.
    for number in 0..200_000 {
        if wanted || number == 0 {
            ring.want_calls(wanted);
        }
        ring.put(0x1000, LEN);
        ring.publish();
        let id = device.next().unwrap().id;
        calls += usize::from(device.use_batch(&[id], 1));
        ring.reclaim().unwrap();
    }
    calls
}

#[test]
fn calls_come_if_they_are_wanted_and_never_else() {
    for event_idx in [false, true] {
        let split = RingConfig {
            event_idx,
            ..config(16)
        };
        let packed = RingConfig {
            event_idx,
            ..config(7)
        };
        assert_eq!(calls::<SplitRing, SplitDevice>(&split, true), 200_000);
        assert_eq!(calls::<SplitRing, SplitDevice>(&split, false), 0);
        assert_eq!(calls::<PackedRing, PackedDevice>(&packed, true), 200_000);
        assert_eq!(calls::<PackedRing, PackedDevice>(&packed, false), 0);
    }
}

fn foreign_ids_are_found<R: DriverRing, D: Device>(in_order: bool) {
    let config = RingConfig {
        in_order,
        ..config(16)
    };
    for id in [5, 16, 0xffff] {
        let (mut ring, mut device) = ring_and_device::<R, D>(&config);
        (0..3).for_each(|_| ring.put(0x1000, LEN));
        ring.publish();
        device.use_batch(&[id], 1);
        let error = ring.take(&mut [Used::default(); 16]).unwrap_err();
        assert_eq!(error, RingError::NotOutstanding { id: id.into() });
    }
}

#[test]
fn a_device_that_uses_what_it_does_not_have_is_found_out() {
    for in_order in [false, true] {
        foreign_ids_are_found::<SplitRing, SplitDevice>(in_order);
        foreign_ids_are_found::<PackedRing, PackedDevice>(in_order);
    }
    let (mut ring, mut device) = ring_and_device::<SplitRing, SplitDevice>(&config(16));
    ring.put(0x1000, LEN);
    ring.publish();
    device.use_batch(&[0], 1);
    device.use_batch(&[0], 1);
    let error = ring.reclaim().unwrap_err();
    assert_eq!(
        error,
        RingError::TooMany {
            used: 2,
            outstanding: 1
        }
    );
}
