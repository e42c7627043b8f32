//! Our split ring against rust-vmm's `virtio_queue::Queue`, each on a copy of the same memory.
//!
//! The two differ where they are documented to: the other one does not know NO_INTERRUPT, does not tell the first step
//! after a start whatever the event index says, and is more lenient (see [`stricter`]).

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::chaos::{TABLES, TILES, TORN_TABLE, any_descriptor};
use common::driver::{Descriptor, Driver, INDIRECT, NEXT, Part, by_head, readable, writable};
use common::ram::Ram;
use devices::ring::{Chain, LOOKAHEAD, MAX_CHAIN_BUFFERS, MAX_QUEUE_SIZE, RingConfig, RingError, SplitRing};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use virtio_queue::desc::split::Descriptor as OtherDescriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// [`TILES`], but the front end's addresses are aligned as the guest's are: it is the former that a ring is given by.
const EVEN_TILES: &[(u64, u64)] = &[(0, 0x4000), (0x4000, 0x800), (0x4800, 0x800), (0x8000, 0x1000)];
const RING: u64 = 0x100;
/// Where buffers may be.
const BUFFERS: [Range<u64>; 2] = [0x3000..0x5000, 0x8000..0x9000];

/// A ring in two implementations.
struct Twins {
    driver: Driver,
    ours: SplitRing,
    memory: GuestMemoryMmap,
    other: Queue,
    is_first: bool,
}

impl Twins {
    fn new(ram: &Arc<Ram>, size: u16, event_idx: bool, index: u16) -> Twins {
        let mut driver = Driver::new(ram, size, RING);
        driver.resume_at(index);
        let ours = driver.start(event_idx);
        let mut other = queue(size, [driver.desc, driver.avail, driver.used]).unwrap();
        other.set_event_idx(event_idx);
        other.set_next_avail(index);
        other.set_next_used(index);
        let memory = ram.copy();
        assert!(other.is_valid(&memory));
        Twins {
            driver,
            ours,
            memory,
            other,
            is_first: true,
        }
    }

    /// Shows the other implementation what the driver wrote.
    fn synchronise(&self) {
        let used = self.driver.used_range();
        let kept = self.other_used();
        for (start, octets) in self.driver.ram.snapshot() {
            self.memory.write_slice(&octets, GuestAddress(start)).unwrap();
        }
        self.memory.write_slice(&kept, GuestAddress(used.start)).unwrap();
    }

    fn other_used(&self) -> Vec<u8> {
        let used = self.driver.used_range();
        let mut octets = vec![0; (used.end - used.start) as usize];
        self.memory
            .read_slice(&mut octets, GuestAddress(used.start))
            .unwrap();
        octets
    }

    fn assert_same_used_ring(&self) {
        let used = self.driver.used_range();
        let ours = self
            .driver
            .ram
            .octets(used.start, (used.end - used.start) as usize);
        assert_eq!(ours, self.other_used());
    }

    /// How many chains are there to take, if both say so.
    fn available(&mut self) -> Result<usize, RingError> {
        let ours = self.ours.prepare(LOOKAHEAD);
        match self.other.iter(&self.memory).map(|_| ()) {
            Ok(()) => {
                let index = self
                    .other
                    .avail_idx(&self.memory, std::sync::atomic::Ordering::Acquire)
                    .unwrap();
                assert_eq!(
                    ours,
                    Ok(usize::from(index.0.wrapping_sub(self.other.next_avail())))
                );
            }
            Err(_) => assert!(matches!(ours, Err(RingError::IndexJump { .. })), "{ours:?}"),
        }
        ours
    }

    /// The next chain from both: ours, and the other one's descriptors unless it refused the chain.
    fn take(&mut self) -> (Result<Chain, RingError>, Option<Vec<OtherDescriptor>>) {
        let mut chain = Chain::default();
        let ours = self.ours.take(&mut chain);
        let other = self.other.pop_descriptor_chain(&self.memory).unwrap();
        assert_eq!(chain.id.id(), other.head_index());
        let descriptors: Vec<_> = other.collect();
        // It refuses a chain by ending it before its end.
        let is_whole = descriptors.last().is_some_and(|last| !last.has_next());
        (
            ours.map(|taken| {
                assert!(taken);
                chain
            }),
            is_whole.then_some(descriptors),
        )
    }

    /// Has a chain completed by both.
    fn complete(&mut self, head: u16, len: u32) {
        self.ours.complete(by_head(head), len);
        self.other.add_used(&self.memory, head, len).unwrap();
    }

    /// Has both tell the driver.
    fn publish(&mut self, flags: u16, completed: bool) {
        let ours = self.ours.publish();
        self.assert_same_used_ring();
        let other = self.other.needs_notification(&self.memory).unwrap();
        let expected = match (completed, self.other.event_idx_enabled()) {
            (false, _) => false,
            (true, true) => other || self.is_first,
            (true, false) => flags & 1 == 0,
        };
        assert_eq!(ours, expected);
        self.is_first &= !completed;
    }
}

fn queue(size: u16, addresses: [u64; 3]) -> Result<Queue, virtio_queue::Error> {
    let [desc, avail, used] = addresses.map(GuestAddress);
    let mut queue = Queue::new(MAX_QUEUE_SIZE)?;
    queue.try_set_size(size)?;
    queue.try_set_desc_table_address(desc)?;
    queue.try_set_avail_ring_address(avail)?;
    queue.try_set_used_ring_address(used)?;
    queue.set_ready(true);
    Ok(queue)
}

/// A buffer as it lies in memory: start, length, direction.
type Piece = (u64, u64, bool);

fn our_pieces(chain: &Chain) -> Vec<Piece> {
    let of = |writable| move |buffer: &devices::ring::Buffer| (buffer.guest, buffer.len as u64, writable);
    let readable = chain.readable().iter().map(of(false));
    readable.chain(chain.writable().iter().map(of(true))).collect()
}

/// The other one's buffers, cut where regions meet; `None` if one is not in memory.
fn other_pieces(descriptors: &[OtherDescriptor]) -> Option<Vec<Piece>> {
    let mut pieces = vec![];
    for descriptor in descriptors {
        let (mut at, mut left) = (descriptor.addr().0, u64::from(descriptor.len()));
        while left > 0 {
            let (start, size) = TILES
                .iter()
                .find(|(start, size)| at.wrapping_sub(*start) < *size)?;
            let take = left.min(start + size - at);
            pieces.push((at, take, descriptor.is_write_only()));
            at += take;
            left -= take;
        }
    }
    Some(pieces)
}

#[derive(Debug, Clone)]
enum Step {
    /// The driver makes a chain available; the second part of it is in an indirect table.
    Post(Vec<Part>, Vec<Part>),
    /// The driver says when it wants to be notified: by index, relative to where it is, and by flags.
    Wish(i16, u16),
    /// The device takes and completes up to that many chains.
    Use(u16, u32),
    /// The device asks for kicks, or for none.
    Ask(bool),
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

/// A chain that keeps to the rules: some buffers directly, some through a table, readable ones first.
fn valid_chain() -> impl Strategy<Value = Step> {
    (vec(part(), 1..6), 0..6usize).prop_map(|(mut parts, direct)| {
        parts.sort_by_key(|part| part.writable);
        let indirect = parts.split_off(direct.min(parts.len()));
        Step::Post(parts, indirect)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => valid_chain(),
        2 => (-6..6i16, 0..4u16).prop_map(|(event, flags)| Step::Wish(event, flags)),
        4 => (0..5u16, any::<u32>()).prop_map(|(count, len)| Step::Use(count, len)),
        1 => any::<bool>().prop_map(Step::Ask),
    ]
}

fn run_step(twins: &mut Twins, step: &Step, flags: &mut u16) {
    let driver = &mut twins.driver;
    match step {
        Step::Post(direct, indirect) => {
            let table = u64::from(!indirect.is_empty());
            let outstanding = driver.next_avail.wrapping_sub(driver.next_used);
            // A chain of five descriptors at most: twice that many is room enough whatever is outstanding.
            if u64::from(driver.size) < (u64::from(outstanding) + 1) * (5 + table) {
                return;
            }
            match indirect.is_empty() {
                true => driver.post(direct),
                false => {
                    let slot = u64::from(driver.next_avail % driver.size);
                    let table = if slot == 0 { TORN_TABLE } else { TABLES + slot * 83 };
                    driver.post_indirect(direct, table, indirect, 0)
                }
            };
        }
        Step::Wish(event, wish) => {
            *flags = *wish;
            driver.set_avail_flags(*wish);
            driver.set_used_event(driver.next_used.wrapping_add_signed(*event));
        }
        Step::Use(count, len) => {
            twins.synchronise();
            let available = twins.available().unwrap();
            let count = available.min(usize::from(*count));
            for n in 0..count {
                let (ours, other) = twins.take();
                let ours = ours.unwrap();
                assert_eq!(our_pieces(&ours), other_pieces(&other.unwrap()).unwrap());
                twins.complete(ours.id.id(), len.wrapping_add(n as u32));
            }
            twins.publish(*flags, count > 0);
            twins.driver.collect();
        }
        Step::Ask(true) => {
            twins.synchronise();
            let ours = twins.ours.request_kicks();
            assert_eq!(ours, twins.other.enable_notification(&twins.memory).unwrap());
            twins.assert_same_used_ring();
        }
        Step::Ask(false) => {
            twins.ours.suppress_kicks();
            twins.other.disable_notification(&twins.memory).unwrap();
            twins.assert_same_used_ring();
        }
    }
}

/// What we refuse and the other one does not: buffers that are not in memory, a readable one behind a writable one, one
/// without an octet, more than 1024 of them, INDIRECT together with NEXT, and a table of more than 32768 descriptors.
///
/// It is told from the buffers that the other one found, and from where the chain goes over to a table.
fn stricter(driver: &Driver, head: u16, descriptors: &[OtherDescriptor]) -> bool {
    let Some(pieces) = other_pieces(descriptors) else {
        return true; // a buffer is not in memory
    };
    let is_ordered = pieces.is_sorted_by_key(|(_, _, writable)| *writable);
    let has_empty = descriptors.iter().any(|descriptor| descriptor.len() == 0);
    let is_long = pieces.len() > MAX_CHAIN_BUFFERS;
    let breaks_table_rule = table_descriptor(driver, head).is_some_and(|table| {
        // INDIRECT with NEXT, or more descriptors than any ring has.
        table.flags & NEXT != 0 || table.len > 16 * u32::from(MAX_QUEUE_SIZE)
    });
    !is_ordered || has_empty || is_long || breaks_table_rule
}

/// The descriptor at which a chain goes over to an indirect table.
fn table_descriptor(driver: &Driver, head: u16) -> Option<Descriptor> {
    let mut index = head;
    for _ in 0..driver.size {
        let at = driver.desc + 16 * u64::from(index);
        let descriptor = Descriptor {
            address: driver.ram.read(at),
            len: driver.ram.read(at + 8),
            flags: driver.ram.read(at + 12),
            next: driver.ram.read(at + 14),
        };
        if descriptor.flags & INDIRECT != 0 {
            return Some(descriptor);
        }
        if descriptor.flags & NEXT == 0 {
            return None;
        }
        index = descriptor.next;
    }
    None
}

proptest! {
    #![proptest_config(common::cases(600))]

    #[test]
    fn valid_drivers_see_the_same_from_both(
        exponent in 0..6u32,
        event_idx: bool,
        index in prop_oneof![Just(0), 65500..=u16::MAX, any::<u16>()],
        steps in vec(step(), 1..60),
    ) {
        let ram = Ram::new(TILES);
        let mut twins = Twins::new(&ram, 1 << exponent, event_idx, index);
        let mut flags = 0;
        for step in &steps {
            run_step(&mut twins, step, &mut flags);
        }
        ram.assert_guards();
    }

    #[test]
    fn we_refuse_what_the_other_one_refuses_and_more_only_by_rule(
        (descriptors, head) in (0..4u32).prop_flat_map(|exponent| {
            let size = 1u16 << exponent;
            let head = prop_oneof![20 => 0..size, 1 => size..=u16::MAX];
            (vec(any_descriptor(size), usize::from(size)), head)
        }),
        table in vec(any_descriptor(8), 8),
    ) {
        let ram = Ram::new(TILES);
        let mut twins = Twins::new(&ram, descriptors.len() as u16, false, 0);
        for (index, descriptor) in descriptors.iter().enumerate() {
            twins.driver.describe(index as u16, *descriptor);
        }
        for (index, descriptor) in table.iter().enumerate() {
            for table in [TABLES, TORN_TABLE] {
                twins.driver.describe_at(table + 16 * index as u64, *descriptor);
            }
        }
        twins.driver.offer(head);
        twins.synchronise();
        prop_assert_eq!(twins.available(), Ok(1));
        match twins.take() {
            (Ok(chain), Some(others)) => {
                prop_assert_eq!(Some(our_pieces(&chain)), other_pieces(&others));
                prop_assert!(!stricter(&twins.driver, head, &others));
            }
            (Ok(_), None) => prop_assert!(false, "only the other one refuses the chain"),
            (Err(error), Some(others)) => {
                prop_assert!(stricter(&twins.driver, head, &others), "only we refuse the chain: {}", error);
            }
            (Err(_), None) => {}
        }
        ram.assert_guards();
    }

    #[test]
    fn both_refuse_the_same_jumps_of_the_index(
        exponent in 0..6u32,
        index: u16,
        jump in prop_oneof![0..70u16, any::<u16>(), 65500..=u16::MAX],
    ) {
        let ram = Ram::new(TILES);
        let mut twins = Twins::new(&ram, 1 << exponent, false, index);
        ram.store(twins.driver.avail + 2, index.wrapping_add(jump));
        twins.synchronise();
        let available = twins.available();
        prop_assert_eq!(available.is_ok(), jump <= 1 << exponent);
    }

    #[test]
    fn we_refuse_every_ring_that_the_other_one_refuses(
        size in select(vec![0, 1, 2, 3, 8, 16, 100, 256, 512, 32768, 32769, 65535]),
        [desc, avail, used] in [ring_address(), ring_address(), ring_address()],
    ) {
        let ram = Ram::new(EVEN_TILES);
        let config = RingConfig {
            size: size.into(),
            desc: ram.user(desc),
            avail: ram.user(avail),
            used: ram.user(used),
            ..RingConfig::default()
        };
        let ours = SplitRing::start(&config, ram.device(), None);
        let other = queue(size, [desc, avail, used]).is_ok_and(|queue| queue.is_valid(&ram.copy()));
        // We want each part of the ring in one region.
        let is_whole = |at: u64, len: u64| EVEN_TILES.iter().any(|(start, region)| {
            at >= *start && at.saturating_add(len) <= start + region
        });
        let size = u64::from(size);
        let fits = is_whole(desc, 16 * size) && is_whole(avail, 6 + 2 * size) && is_whole(used, 6 + 8 * size);
        prop_assert_eq!(ours.is_ok(), other && fits);
    }
}

fn ring_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..0x400u64).prop_map(|at| 16 * at),
        2 => (0..0x900u64).prop_map(|at| 16 * at),
        1 => 0..0x9100u64,
        1 => select(vec![0x3ff0, 0x3ff8, 0x4000, 0x4800, 0x4810, 0x4ff0, 0x8000, 0x8ff0, 0x9000, u64::MAX - 15]),
    ]
}

/// What a chain may hold counts both directions together. Nobody looks into so large buffers, so only we have them.
#[test]
fn both_refuse_chains_of_4_gib_and_more() {
    const GIB: u32 = 1 << 30;
    let ram = Ram::new(&[(0, 0x2000), (0x1_0000_0000, GIB.into())]);
    let [read, write] = [readable(0x1_0000_0000, GIB), writable(0x1_0000_0000, GIB)];
    let almost = writable(0x1_0000_0000, GIB - 1);
    for (parts, fits) in [
        (vec![read, read, write, almost], true),
        (vec![read, read, write, write], false),
        (vec![read, write, write, write], false),
        (vec![read, read, read, read], false),
        (vec![write, write, write, write], false),
        (vec![read, read, read, almost, almost], false),
    ] {
        let mut driver = Driver::new(&ram, 8, RING);
        driver.post(&parts);
        let ours = driver.start(false).take(&mut Chain::default());
        assert_eq!(ours, if fits { Ok(true) } else { Err(RingError::TooLong) });

        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        memory
            .write_slice(&ram.octets(0, 0x2000), GuestAddress(0))
            .unwrap();
        let mut other = queue(8, [driver.desc, driver.avail, driver.used]).unwrap();
        let others = other.pop_descriptor_chain(&memory).unwrap().count();
        assert_eq!(others == parts.len(), fits);
    }
}
