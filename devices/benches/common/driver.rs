//! A guest's driver of which only the cheapest part is left: it offers the same chains over and over.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use devices::memory::{GuestMemory, Region, RegionCache, RegionSpec};
use devices::ring::{Ring, RingConfig};

/// Descriptors of a ring.
pub const SIZE: u16 = 256;

const DESC: u64 = 0;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
const TABLES: u64 = 0x1_0000;
const BUFFERS: u64 = 0x10_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Packed, virtio 1.3, 2.8.1: what is available in the first round has AVAIL, in the second USED, and so on.
const PACKED_AVAIL: u16 = 1 << 7;
const PACKED_USED: u16 = 1 << 15;
/// Split, 2.7.7: no interrupts. Packed, 2.8.10: the same.
const NO_INTERRUPT: u16 = 1;
const EVENT_DISABLE: u32 = 1 << 16;
/// Both of a packed ring's places are the first, in the first round.
const FIRST: u32 = 0x8000_8000;

/// What a ring is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub packed: bool,
    /// Each chain lies in a table of its own.
    pub indirect: bool,
    /// Buffers of a chain, a power of two.
    pub buffers: u16,
    /// Octets of a buffer.
    pub len: u32,
    pub writable: bool,
}

/// The driver of one ring, in memory of its own.
#[derive(Debug)]
pub struct Driver {
    shape: Shape,
    memory: Arc<GuestMemory>,
    /// Packed: the descriptors as they are written, but for the two flags that change from round to round.
    descriptors: Vec<[u64; 2]>,
    next: usize,
    /// Packed: the flags of this round.
    available: u16,
}

impl Shape {
    /// Chains of one buffer in the ring itself.
    pub fn plain(packed: bool, len: u32, writable: bool) -> Shape {
        Shape {
            packed,
            indirect: false,
            buffers: 1,
            len,
            writable,
        }
    }

    pub fn format(&self) -> &'static str {
        if self.packed { "packed" } else { "split" }
    }

    /// Descriptors of the ring that a chain takes.
    fn slots(&self) -> u16 {
        if self.indirect { 1 } else { self.buffers }
    }

    /// Octets from buffer to buffer: they share no cache line.
    fn stride(&self) -> u64 {
        u64::from(self.len).next_multiple_of(64)
    }

    /// A descriptor as it lies in memory (2.7.5, 2.8.13).
    fn descriptor(&self, address: u64, len: u32, flags: u16, next_or_id: u16) -> [u64; 2] {
        let (low, high) = if self.packed {
            (next_or_id, flags)
        } else {
            (flags, next_or_id)
        };
        [
            address,
            u64::from(len) | u64::from(low) << 32 | u64::from(high) << 48,
        ]
    }

    /// The `index`th buffer of a chain, which `next` follows if one does.
    fn buffer(&self, chain: u16, index: u16, next_or_id: u16, has_next: bool) -> [u64; 2] {
        let number = u64::from(chain) * u64::from(self.buffers) + u64::from(index);
        let flags = if self.writable { WRITE } else { 0 } | if has_next { NEXT } else { 0 };
        self.descriptor(BUFFERS + number * self.stride(), self.len, flags, next_or_id)
    }
}

impl Driver {
    pub fn new(shape: Shape) -> Driver {
        let buffers = u64::from(SIZE) * u64::from(shape.buffers);
        let mut driver = Driver {
            shape,
            memory: memory(BUFFERS + buffers * shape.stride()),
            descriptors: Vec::new(),
            next: 0,
            available: PACKED_AVAIL,
        };
        for chain in 0..SIZE / shape.slots() {
            driver.describe(chain);
        }
        match shape.packed {
            true => driver
                .atomic(AVAIL)
                .store(EVENT_DISABLE.into(), Ordering::Relaxed),
            false => {
                for (index, words) in driver.descriptors.iter().enumerate() {
                    driver.write(DESC + 16 * index as u64, *words);
                }
                driver.index(AVAIL).store(NO_INTERRUPT, Ordering::Relaxed);
                for entry in 0..SIZE {
                    let head = entry * shape.slots() % SIZE;
                    driver
                        .index(AVAIL + 4 + 2 * u64::from(entry))
                        .store(head, Ordering::Relaxed);
                }
            }
        }
        driver
    }

    /// The device's side.
    pub fn start(&self) -> Ring {
        let config = RingConfig {
            size: SIZE.into(),
            desc: DESC,
            avail: AVAIL,
            used: USED,
            packed: self.shape.packed,
            base: if self.shape.packed { FIRST } else { 0 },
            ..RingConfig::default()
        };
        Ring::start(&config, self.memory.clone(), None).expect("a ring")
    }

    /// Makes so many more chains available.
    pub fn offer(&mut self, count: u16) {
        if !self.shape.packed {
            self.index(AVAIL + 2).fetch_add(count, Ordering::Release);
            return;
        }
        let slots = usize::from(self.shape.slots());
        for _ in 0..count {
            // The first descriptor of a chain at last: with it the device may take them all.
            for slot in (self.next..self.next + slots).rev() {
                let [address, rest] = self.descriptors[slot];
                self.write(
                    DESC + 16 * slot as u64,
                    [address, rest | u64::from(self.available) << 48],
                );
            }
            self.next = (self.next + slots) % usize::from(SIZE);
            if self.next == 0 {
                self.available ^= PACKED_AVAIL | PACKED_USED;
            }
        }
    }

    fn describe(&mut self, chain: u16) {
        let Shape {
            packed,
            indirect,
            buffers,
            ..
        } = self.shape;
        let head = chain * self.shape.slots();
        let first = if indirect { 0 } else { head };
        // A packed table needs no NEXT, and nobody reads the id there (2.8.7).
        let has_next = |index| index + 1 < buffers && !(packed && indirect);
        let words = |index: u16| {
            let next_or_id = if packed { chain } else { first + index + 1 };
            self.shape.buffer(chain, index, next_or_id, has_next(index))
        };
        let list: Vec<_> = (0..buffers).map(words).collect();
        if !indirect {
            self.descriptors.extend(list);
            return;
        }
        let table = TABLES + u64::from(chain) * 16 * u64::from(buffers);
        for (index, words) in list.into_iter().enumerate() {
            self.write(table + 16 * index as u64, words);
        }
        let of_table = self
            .shape
            .descriptor(table, 16 * u32::from(buffers), INDIRECT, chain);
        self.descriptors.push(of_table);
    }

    fn write(&self, at: u64, words: [u64; 2]) {
        self.atomic(at).store(words[0], Ordering::Relaxed);
        self.atomic(at + 8).store(words[1], Ordering::Release);
    }

    fn index(&self, at: u64) -> &AtomicU16 {
        // SAFETY: two aligned octets of the mapping that `memory` keeps.
        unsafe { AtomicU16::from_ptr(self.host(at).cast()) }
    }

    fn atomic(&self, at: u64) -> &AtomicU64 {
        // SAFETY: eight aligned octets of the mapping that `memory` keeps.
        unsafe { AtomicU64::from_ptr(self.host(at).cast()) }
    }

    fn host(&self, at: u64) -> *mut u8 {
        let run = self.memory.run_at(at, &mut RegionCache::default());
        run.expect("an address in memory").0
    }
}

fn memory(size: u64) -> Arc<GuestMemory> {
    // SAFETY: plain system call; the descriptor that it makes is ours.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"bench".as_ptr(), 0)) };
    file.set_len(size).expect("memory");
    let spec = RegionSpec {
        guest: 0,
        size,
        user: 0,
        file_offset: 0,
    };
    let region = Region::map(spec, file).expect("a region");
    Arc::new(GuestMemory::new(vec![region]).expect("memory"))
}
