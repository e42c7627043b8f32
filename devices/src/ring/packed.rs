//! The packed virtqueue (virtio 1.3, 2.8), device side, completing strictly in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use super::descriptor::{Descriptor, LOOKAHEAD, Lookahead, Ready, read_descriptor};
use super::event::{Event, Kicks};
use super::indirect::push_packed_table;
use super::inflight::{InflightBuffer, PackedInflight, Slot};
use super::place::Place;
use super::resume::resume;
use super::{AGAIN, Chain, ChainId, MAX_QUEUE_SIZE, RingConfig, RingError, Run, resolve};
use crate::memory::{DirtyLog, GuestMemory, RegionCache};

const DESC_F_WRITE: u16 = 2;
/// Descriptors of one cache line, if the ring begins with a line.
const LINE: u16 = 4;

/// A started packed virtqueue: addresses resolved once, places kept privately.
#[derive(Debug)]
pub struct PackedRing {
    size: u16,
    desc: *mut u8,
    driver_area: *const u8,
    device_area: *mut u8,
    event_idx: bool,
    in_order: bool,
    only_reads: bool,
    // Of the next descriptor to take.
    next: Place,
    // Descriptors from `next` on, copied ahead of their use, and the place behind them.
    ahead: Lookahead,
    seek: Place,
    // The chains that were completed and not published, and the place behind them.
    completed: Vec<Used>,
    used: Place,
    published: Place,
    kicks: Kicks,
    // No notification has been decided on since the start, so the place in the driver's area may be stale: notify once.
    fresh: bool,
    filled: bool,
    memory: Arc<GuestMemory>,
    cache: RegionCache,
    log: Option<Arc<DirtyLog>>,
    desc_log: Option<u64>,
    used_log: Option<u64>,
    inflight: Option<PackedInflight>,
}

/// A chain that goes back to the driver.
#[derive(Debug, Clone, Copy)]
struct Used {
    chain: ChainId,
    len: u32,
}

/// A place in a ring, see [`PackedRing::mark`].
#[derive(Debug, Clone, Copy)]
pub struct PackedMark {
    next: Place,
    used: Place,
    completed: usize,
}

// SAFETY: the pointers lead into `memory`, which the ring keeps mapped; they are used by whoever holds `&mut self`.
unsafe impl Send for PackedRing {}

impl PackedRing {
    /// Resolves the ring's addresses and takes up work where it was left: where the front end says, or, if the ring itself
    /// shows that this is out of date, where the device before this one was killed.
    pub fn start(
        config: &RingConfig,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
    ) -> Result<PackedRing, RingError> {
        // virtio 1.3, 2.8.10.1: any size, not only powers of two.
        let size = u16::try_from(config.size)
            .ok()
            .filter(|size| (1..=MAX_QUEUE_SIZE).contains(size))
            .ok_or(RingError::BadPackedSize(config.size))?;
        let resolve = |what, address, len, align| resolve(&memory, what, address, len, align);
        let desc = resolve("descriptor ring", config.desc, 16 * u64::from(size), 16)?;
        let driver_area = resolve("driver event suppression area", config.avail, 4, 4)?;
        let device_area = resolve("device event suppression area", config.used, 4, 4)?;
        let place = Place::resume(config.base, size).ok_or(RingError::BadBase {
            base: config.base,
            size,
        })?;
        // The front end's address for the log is that of what is at `used`: of the device's area, whose four octets are
        // not all that is written here. So descriptors are logged where they are themselves.
        let desc_log = config.used_log.and_then(|_| memory.guest_of_user(config.desc));
        let mut ring = PackedRing {
            size,
            desc,
            driver_area,
            device_area,
            event_idx: config.event_idx,
            in_order: config.in_order,
            only_reads: config.only_reads,
            next: place,
            ahead: Lookahead::default(),
            seek: place,
            completed: Vec::with_capacity(usize::from(size)),
            used: place,
            published: place,
            kicks: Kicks::All,
            fresh: true,
            filled: false,
            memory,
            cache: RegionCache::default(),
            log,
            desc_log,
            used_log: config.used_log,
            inflight: None,
        };
        let place = if config.base_is_exact {
            place
        } else {
            let kept = Place::from_bits(u32::from_le(ring.device_area().load(Ordering::Relaxed)) as u16);
            let flags: Vec<u16> = (0..size).map(|index| ring.flags_at(index)).collect();
            resume(place, kept, &flags)
        };
        ring.go_on_at(place);
        Ok(ring)
    }

    /// Keeps the books of the ring, which has just started, in the region of a queue, and goes on where they say.
    pub fn track(&mut self, buffer: &Arc<InflightBuffer>, queue: usize) {
        let Some((inflight, place)) = PackedInflight::open(buffer, queue, self.slots(), self.next) else {
            return;
        };
        self.inflight = Some(inflight);
        // Descriptors may have been put back.
        self.log_write(self.desc_log, 0, 16 * u64::from(self.size));
        self.go_on_at(place);
    }

    /// The place of the next chain to complete, in both halves: what was taken and not completed is taken anew by
    /// whoever goes on. // U8
    pub fn position(&self) -> u32 {
        let bits = u32::from(self.used.bits());
        bits | bits << 16
    }

    /// The memory that the ring's buffers lie in.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Where writes to the guest's memory are logged.
    pub fn log(&self) -> Option<&Arc<DirtyLog>> {
        self.log.as_ref()
    }

    /// Switches logging on or off.
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.log = log;
    }

    /// Whether the driver has made anything available since the ring was set up. The place alone does not tell: it
    /// comes back to the first one every other round.
    pub fn ever_filled(&self) -> bool {
        self.filled || self.seek.is_available(self.flags_at(self.seek.index))
    }

    /// Looks ahead: copies the descriptors that come next, and has the processor fetch what they point to, so that a
    /// burst finds its memory at hand: `wanted` of them at least, if there are as many and no more than [`LOOKAHEAD`]. Says
    /// how many it has looked at that were not taken.
    #[inline]
    pub fn prepare(&mut self, wanted: usize) -> Result<usize, RingError> {
        let ready = usize::from(self.ahead.len());
        if ready >= wanted {
            return Ok(ready);
        }
        // What was not given back cannot have been offered anew, whatever its flags say.
        let held = self.published.distance_to(self.seek, self.size);
        let free = u32::from(self.size).saturating_sub(held) as u16;
        let missing = (wanted - ready).min(LOOKAHEAD) as u16;
        let mut room = self.ahead.room().min(free).min(missing);
        while room > 0 {
            let index = self.seek.index;
            let wanted = room.min(LINE - index % LINE).min(self.size - index);
            let found = self.look_ahead(wanted);
            room -= found;
            if found < wanted {
                break;
            }
        }
        Ok(usize::from(self.ahead.len()))
    }

    /// The next chain, if it was looked at and is one buffer in one piece. It is not taken yet.
    #[inline]
    pub fn peek_run(&self) -> Option<Run> {
        self.ahead.peek_whole().map(|ready| ready.whole(1))
    }

    /// Takes the chain that [`Self::peek_run`] has shown.
    #[inline]
    pub fn take_run(&mut self) {
        if self.ahead.pop().is_some() {
            self.next = self.next.after(1, self.size);
        }
    }

    /// Takes the next available chain, or says that there is none.
    #[inline]
    pub fn take(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        if self.ahead.is_empty() && self.prepare(AGAIN)? == 0 {
            return Ok(false);
        }
        let Some(ready) = self.ahead.pop() else {
            return Ok(false);
        };
        if !ready.run.is_null() && ready.descriptor.is_whole() {
            chain.restart(ChainId::new(ready.id, 1));
            chain.push_run(&ready);
        } else if let Err(error) = self.walk(chain, &ready) {
            self.look_again();
            return Err(error);
        }
        self.next = self.next.after(chain.id.slots(), self.size);
        Ok(true)
    }

    /// Where the ring stands, to come back to with [`Self::rewind`].
    #[inline]
    pub fn mark(&self) -> PackedMark {
        PackedMark {
            next: self.next,
            used: self.used,
            completed: self.completed.len(),
        }
    }

    /// Gives back every chain that was taken or completed since `mark`, as if it had not been. Nothing of it may have
    /// been published.
    pub fn rewind(&mut self, mark: PackedMark) {
        if mark.next != self.next {
            self.next = mark.next;
            self.look_again();
        }
        self.used = mark.used;
        self.completed.truncate(mark.completed);
    }

    /// Returns a chain to the driver, not yet visible, with `len` octets written to it.
    #[inline]
    pub fn complete(&mut self, chain: ChainId, len: u32) {
        self.completed.push(Used { chain, len });
        // virtio 1.3, 2.8.6: the next used descriptor comes behind all descriptors of the chain. // P10
        self.used = self.used.after(chain.slots(), self.size);
    }

    /// Makes completed chains visible, all at once, and says whether the driver wants to be notified.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.inflight.is_some() && !self.completed.is_empty() {
            self.keep_books();
        }
        let Some((first, others)) = self.completed.split_first() else {
            return false;
        };
        let old = self.published;
        if self.in_order && self.completed.iter().all(|used| used.len == 0) {
            // virtio 1.3, 2.8.8: the last id stands for the whole batch. That there is no length for any of them says
            // that all were used completely: right for buffers that are only read. // P11
            let last = others.last().unwrap_or(first);
            self.write_used(old, last);
        } else {
            // virtio 1.3, 2.8.9: the driver looks at the first one before any other, so nothing is visible until that is
            // written. // P2, R4
            let mut place = old.after(first.chain.slots(), self.size);
            for used in others {
                self.write_used(place, used);
                place = place.after(used.chain.slots(), self.size);
            }
            self.write_used(old, first);
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.after_publish(self.used);
        }
        self.completed.clear();
        self.published = self.used;
        self.write_area();
        // virtio 1.3, 2.8.10: the descriptors must be visible before the driver's wish is read.
        fence(Ordering::SeqCst);
        // P8
        let area = u32::from_le(self.driver_area().load(Ordering::Relaxed));
        let event = Event::from_area(area, self.event_idx);
        if std::mem::take(&mut self.fresh) {
            return event != Event::Never;
        }
        event.is_met(old, self.published, self.size)
    }

    /// Asks the driver not to kick while the ring is polled.
    pub fn suppress_kicks(&mut self) {
        self.kicks = Kicks::None;
        self.write_area();
    }

    /// Asks the driver to kick at the next chain. If this returns true there are chains already: poll once more.
    pub fn request_kicks(&mut self) -> bool {
        // The place in the area is that of the next chain to complete. While that is not the next one to take, it cannot
        // be waited for.
        self.kicks = if self.event_idx && self.next == self.published {
            Kicks::Next
        } else {
            Kicks::All
        };
        self.write_area();
        // virtio 1.3, 2.8.10: the wish must be visible before the last look at the descriptor.
        fence(Ordering::SeqCst);
        !self.ahead.is_empty() || self.seek.is_available(self.flags_at(self.seek.index))
    }

    /// Copies up to `wanted` available descriptors, which lie in one cache line at best, and says how many there were.
    #[inline]
    fn look_ahead(&mut self, wanted: u16) -> u16 {
        let first = self.seek.index;
        let mut flags = [0; LINE as usize];
        let mut found = 0;
        while found < wanted {
            let read = self.flags_at(first + found);
            if !self.seek.is_available(read) {
                break;
            }
            flags[usize::from(found)] = read;
            found += 1;
        }
        if found == 0 {
            return 0;
        }
        // virtio 1.3, 2.8.2: the flags first, then the rest.
        fence(Ordering::Acquire);
        for offset in 0..found {
            // SAFETY: `start` checked that the ring holds `size` descriptors; the index is below that.
            let read = unsafe { read_descriptor(self.desc.add(16 * usize::from(first + offset))) };
            // The flags that were checked are those that count.
            let descriptor = Descriptor {
                flags: flags[usize::from(offset)],
                ..read.packed()
            };
            let mut ready = Ready::of(descriptor.next);
            ready.resolve(descriptor, &self.memory, &mut self.cache);
            self.ahead.push(ready);
        }
        self.seek = self.seek.after(found, self.size);
        self.filled = true;
        found
    }

    /// Forgets what was looked at ahead.
    fn look_again(&mut self) {
        self.ahead.clear();
        self.seek = self.next;
    }

    /// Follows a chain of more than one descriptor, or one whose buffer is not simply there.
    fn walk(&mut self, chain: &mut Chain, first: &Ready) -> Result<(), RingError> {
        chain.restart(ChainId::new(first.id, 1));
        if first.descriptor.is_indirect() {
            let only_reads = self.only_reads;
            return push_packed_table(
                chain,
                &first.descriptor,
                only_reads,
                &self.memory,
                &mut self.cache,
            );
        }
        let (mut descriptor, mut slots) = (first.descriptor, 1);
        loop {
            // virtio 1.3, 2.8.5 and 2.8.19: a list is of one kind.
            if descriptor.is_indirect() {
                return Err(RingError::IndirectNext);
            }
            chain.push(&descriptor, &self.memory, &mut self.cache)?;
            if !descriptor.has_next() {
                // virtio 1.3, 2.8.6: the last descriptor has the id. // P10
                chain.id = ChainId::new(descriptor.next, slots);
                return Ok(());
            }
            if slots == self.size {
                return Err(RingError::Loop);
            }
            if self.ahead.is_empty() {
                self.prepare(AGAIN)?;
            }
            // The first one became available after all others (virtio 1.3, 2.8.17).
            descriptor = self.ahead.pop().ok_or(RingError::Unfinished)?.descriptor;
            slots += 1;
        }
    }

    /// Makes the descriptor at this place used. Whoever sees it sees what was written before.
    #[inline]
    fn write_used(&self, place: Place, used: &Used) {
        // virtio 1.3, 2.8.3: WRITE says that there is something to read.
        let write = if used.len > 0 { DESC_F_WRITE } else { 0 };
        let flags = place.used_flags() | write;
        let half = u64::from(used.len) | u64::from(used.chain.id()) << 32 | u64::from(flags) << 48;
        let offset = 16 * usize::from(place.index) + 8;
        // SAFETY: `start` checked that the ring holds `size` descriptors and is aligned to 16; the index is below that.
        let target = unsafe { AtomicU64::from_ptr(self.desc.add(offset).cast()) };
        target.store(half.to_le(), Ordering::Release);
        self.log_write(self.desc_log, offset, 8);
    }

    /// Says in the books what becomes visible next, and how it was. The first descriptor is written last and at once.
    fn keep_books(&mut self) {
        let Some(mut inflight) = self.inflight.take() else {
            return;
        };
        let mut place = self.published;
        for used in &self.completed {
            if place != self.published {
                inflight.keep(self.slots(), place.index);
            }
            place = place.after(used.chain.slots(), self.size);
        }
        inflight.before_publish(self.published, self.used);
        self.inflight = Some(inflight);
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: `start` checked that the ring holds `size` descriptors and is aligned to 16; both sides use atomic
        // accesses, and `memory` keeps it mapped.
        unsafe { std::slice::from_raw_parts(self.desc.cast(), usize::from(self.size)) }
    }

    fn go_on_at(&mut self, place: Place) {
        (self.next, self.seek, self.used, self.published) = (place, place, place, place);
        self.filled |= place != Place::FIRST;
    }

    /// Says which kicks are asked for, and where the ring stands: behind what is used already, for whoever goes on.
    #[inline]
    fn write_area(&self) {
        let area = self.kicks.area(self.published);
        // The driver reads both halves at once. // P9
        self.device_area().store(area.to_le(), Ordering::Release);
        self.log_write(self.used_log, 0, 4);
    }

    fn device_area(&self) -> &AtomicU32 {
        // SAFETY: `start` checked the four octets of the device's area and their alignment.
        unsafe { AtomicU32::from_ptr(self.device_area.cast()) }
    }

    fn driver_area(&self) -> &AtomicU32 {
        // SAFETY: `start` checked the four octets of the driver's area and their alignment.
        unsafe { AtomicU32::from_ptr(self.driver_area.cast_mut().cast()) }
    }

    /// The flags of a descriptor, whose index must be below the size.
    #[inline]
    fn flags_at(&self, index: u16) -> u16 {
        debug_assert!(index < self.size);
        // SAFETY: `start` checked that the ring holds `size` descriptors and is aligned to 16.
        let flags = unsafe { AtomicU16::from_ptr(self.desc.add(16 * usize::from(index) + 14).cast()) };
        u16::from_le(flags.load(Ordering::Relaxed))
    }

    #[inline]
    fn log_write(&self, base: Option<u64>, offset: usize, len: u64) {
        if let (Some(log), Some(base)) = (&self.log, base) {
            log.mark(base.saturating_add(offset as u64), len);
        }
    }
}
