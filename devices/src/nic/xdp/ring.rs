//! The rings that an AF_XDP socket shares with the kernel: one side puts entries in, the other takes them out.
//!
//! Both indexes run freely and wrap at 2^32; their difference is what the ring holds. Of the kernel's index nothing is
//! believed but that: an entry's place is always masked, and a difference beyond the ring's size counts as the size.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::nic::mapping::Mapping;

/// Where the parts of a ring lie in its memory (`struct xdp_ring_offset`), and how many entries it has.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The producer's index.
    pub producer: usize,
    /// The consumer's index.
    pub consumer: usize,
    /// The ring's flags.
    pub flags: usize,
    /// The first entry.
    pub entries: usize,
    /// How many entries there are: a power of two.
    pub size: u32,
}

/// The side that puts entries in: of a fill ring or a transmit ring.
pub struct Producer<T> {
    ring: Ring<T>,
    /// Where the next entry goes; ahead of what the consumer was told.
    next: u32,
    /// The consumer's index as it was last looked at.
    consumed: u32,
}

/// The side that takes entries out: of a receive ring or a completion ring.
pub struct Consumer<T> {
    ring: Ring<T>,
    /// The next entry to be taken; ahead of what the producer was told.
    next: u32,
    /// The producer's index as it was last looked at.
    produced: u32,
}

impl<T: Copy> Producer<T> {
    /// Takes one side of the ring in this memory. None if the ring does not fit in it.
    pub(super) fn new(memory: Mapping, layout: Layout) -> Option<Producer<T>> {
        let ring = Ring::new(memory, layout)?;
        Some(Producer {
            next: ring.producer().load(Ordering::Relaxed),
            consumed: ring.consumer().load(Ordering::Acquire),
            ring,
        })
    }

    /// Whether there is room for this many entries.
    #[inline]
    pub fn has_room(&mut self, count: u32) -> bool {
        if self.room() >= count {
            return true;
        }
        // The consumer has read the entries before its index, so they may be written again.
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.room() >= count
    }

    #[inline]
    fn room(&self) -> u32 {
        self.ring
            .size()
            .saturating_sub(self.next.wrapping_sub(self.consumed))
    }

    /// Puts an entry in, for which [`Self::has_room`]; the consumer sees it after [`Self::publish`].
    #[inline]
    pub fn push(&mut self, entry: T) {
        // SAFETY: the entry is masked, and the consumer does not read it before it is published.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the consumer all entries. False if it has seen them before.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let is_new = self.ring.producer().load(Ordering::Relaxed) != self.next;
        if is_new {
            self.ring.producer().store(self.next, Ordering::Release);
        }
        is_new
    }

    /// How many entries the consumer has not taken yet.
    #[inline]
    pub fn pending(&mut self) -> u32 {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.ring.size() - self.room()
    }

    /// Whether the consumer sleeps until a system call wakes it.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

impl<T: Copy> Consumer<T> {
    /// Takes one side of the ring in this memory. None if the ring does not fit in it.
    pub(super) fn new(memory: Mapping, layout: Layout) -> Option<Consumer<T>> {
        let ring = Ring::new(memory, layout)?;
        Some(Consumer {
            next: ring.consumer().load(Ordering::Relaxed),
            produced: ring.producer().load(Ordering::Acquire),
            ring,
        })
    }

    /// The entry `ahead` of the next one; None if the producer has not put it in yet.
    #[inline]
    pub fn peek(&mut self, ahead: u32) -> Option<T> {
        if self.available() <= ahead {
            self.produced = self.ring.producer().load(Ordering::Acquire);
            if self.available() <= ahead {
                return None;
            }
        }
        // SAFETY: the entry is masked, and the producer does not write to it before it is given back.
        Some(unsafe { self.ring.entry(self.next.wrapping_add(ahead)).read() })
    }

    #[inline]
    fn available(&self) -> u32 {
        self.produced.wrapping_sub(self.next).min(self.ring.size())
    }

    /// Leaves behind entries that [`Self::peek`] gave; the producer may use them after [`Self::publish`].
    #[inline]
    pub fn advance(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
    }

    /// Gives the producer all entries that were left behind.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

/// A ring's memory; all pointers lie in it.
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    _memory: Mapping,
}

// SAFETY: the pointers lie in memory that the ring owns, and each side is used by one thread at a time.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    fn new(memory: Mapping, layout: Layout) -> Option<Ring<T>> {
        if !layout.size.is_power_of_two() {
            return None;
        }
        Some(Ring {
            producer: memory.at(layout.producer, 1)?,
            consumer: memory.at(layout.consumer, 1)?,
            flags: memory.at(layout.flags, 1)?,
            entries: memory.at(layout.entries, layout.size as usize)?,
            mask: layout.size - 1,
            _memory: memory,
        })
    }

    #[inline]
    fn size(&self) -> u32 {
        self.mask + 1
    }

    #[inline]
    fn entry(&self, index: u32) -> *mut T {
        // SAFETY: the masked index is less than the number of entries.
        unsafe { self.entries.as_ptr().add((index & self.mask) as usize) }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it lies in the ring's memory, aligned as the kernel laid it out (`Mapping::at`).
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("next", &self.next)
            .field("consumed", &self.consumed)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("next", &self.next)
            .field("produced", &self.produced)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd};

    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout {
        producer: 0,
        consumer: 64,
        flags: 128,
        entries: 192,
        size: 8,
    };

    /// Both sides of a ring whose indexes start here, and its memory once more.
    fn ring(start: u32) -> (Producer<u64>, Consumer<u64>, Mapping) {
        // SAFETY: plain system call; the descriptor is ours.
        let memory = unsafe { File::from_raw_fd(libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC)) };
        memory.set_len(4096).unwrap();
        let map = || Mapping::shared(memory.as_fd(), 0, 4096, 0).unwrap();
        let raw = map();
        set(&raw, LAYOUT.producer, start);
        set(&raw, LAYOUT.consumer, start);
        (
            Producer::new(map(), LAYOUT).unwrap(),
            Consumer::new(map(), LAYOUT).unwrap(),
            raw,
        )
    }

    fn set(memory: &Mapping, offset: usize, value: u32) {
        // SAFETY: it lies in the memory, aligned.
        unsafe { memory.at::<AtomicU32>(offset, 1).unwrap().as_ref() }.store(value, Ordering::Release);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u32),
        ShowEntries,
        Take(u32),
        GiveBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..10u32).prop_map(Step::Push),
            Just(Step::ShowEntries),
            (1..10u32).prop_map(Step::Take),
            Just(Step::GiveBack),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_ring_is_a_queue_whose_ends_show_what_they_did_when_they_say_so(
            start in prop_oneof![Just(0), Just(u32::MAX - 11), any::<u32>()],
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let (mut producer, mut consumer, _memory) = ring(start);
            // Put in and not shown; shown and not taken; taken and not given back.
            let (mut hidden, mut shown, mut taken) = (VecDeque::new(), VecDeque::new(), 0);
            let mut number = 0u64;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let used = (hidden.len() + shown.len() + taken) as u32;
                        prop_assert_eq!(producer.has_room(count), used + count <= LAYOUT.size);
                        if producer.has_room(count) {
                            for _ in 0..count {
                                producer.push(number);
                                hidden.push_back(number);
                                number += 1;
                            }
                        }
                    }
                    Step::ShowEntries => {
                        prop_assert_eq!(producer.publish(), !hidden.is_empty());
                        shown.append(&mut hidden);
                    }
                    Step::Take(count) => {
                        for ahead in 0..count {
                            prop_assert_eq!(consumer.peek(ahead), shown.get(ahead as usize).copied());
                        }
                        let count = count.min(shown.len() as u32);
                        consumer.advance(count);
                        shown.drain(..count as usize);
                        taken += count as usize;
                    }
                    Step::GiveBack => {
                        consumer.publish();
                        taken = 0;
                        prop_assert_eq!(producer.pending() as usize, hidden.len() + shown.len());
                    }
                }
            }
        }

        #[test]
        fn an_index_of_the_other_side_is_never_followed_out_of_the_ring(
            start: u32, theirs: u32, count in 0..100u32,
        ) {
            let (mut producer, mut consumer, memory) = ring(start);
            set(&memory, LAYOUT.consumer, theirs);
            prop_assert!(!producer.has_room(LAYOUT.size + 1));
            prop_assert!(producer.pending() <= LAYOUT.size);
            for _ in 0..count {
                if producer.has_room(1) {
                    producer.push(1);
                }
            }
            set(&memory, LAYOUT.producer, theirs);
            prop_assert_eq!(consumer.peek(LAYOUT.size), None);
            for _ in 0..count {
                if consumer.peek(0).is_some() {
                    consumer.advance(1);
                }
            }
        }
    }

    #[test]
    fn a_ring_that_does_not_fit_in_its_memory_is_refused() {
        for wrong in [
            Layout { size: 512, ..LAYOUT },
            Layout { size: 6, ..LAYOUT },
            Layout {
                entries: 196,
                ..LAYOUT
            },
            Layout {
                flags: 4096,
                ..LAYOUT
            },
            Layout {
                producer: usize::MAX - 3,
                ..LAYOUT
            },
        ] {
            assert!(
                Producer::<u64>::new(Mapping::anonymous(4096, 0).unwrap(), wrong).is_none(),
                "{wrong:?}"
            );
        }
    }
}
