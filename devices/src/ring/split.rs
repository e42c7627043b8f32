//! The split virtqueue (virtio 1.3, 2.7), device side, completing strictly in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::descriptor::{LOOKAHEAD, Lookahead, Ready, read_descriptor};
use super::indirect::push_split_table;
use super::inflight::{InflightBuffer, SplitInflight};
use super::{AGAIN, Chain, ChainId, MAX_QUEUE_SIZE, RingConfig, RingError, Run, resolve};
use crate::memory::{DirtyLog, GuestMemory, RegionCache};
use crate::prefetch;

const AVAIL_F_NO_INTERRUPT: u16 = 1;
const USED_F_NO_NOTIFY: u16 = 1;

/// A started split virtqueue: addresses resolved once, indices kept privately.
#[derive(Debug)]
pub struct SplitRing {
    size: u16,
    // As wide as it is used: next to a counter that has just been stored, a narrow one is read together with it, which
    // makes the processor wait for the store.
    mask: usize,
    desc: *const u8,
    avail: *const u8,
    used: *mut u8,
    event_idx: bool,
    next_avail: u16,
    // The driver's available index when it was last read: no further look at a line that the driver writes to while
    // chains are left.
    seen: u16,
    // Descriptors from `next_avail` on, copied ahead of their use.
    ahead: Lookahead,
    next_used: u16,
    published: u16,
    // No notification has been decided on since the start, so the driver's used_event may be stale: notify once.
    fresh: bool,
    memory: Arc<GuestMemory>,
    cache: RegionCache,
    log: Option<Arc<DirtyLog>>,
    used_log: Option<u64>,
    inflight: Option<SplitInflight>,
}

/// A place in a ring, see [`SplitRing::mark`].
#[derive(Debug, Clone, Copy)]
pub struct SplitMark {
    next_avail: u16,
    next_used: u16,
}

// SAFETY: the pointers lead into `memory`, which the ring keeps mapped; they are used by whoever holds `&mut self`.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Resolves the ring's addresses and takes up work where the used index says that it was left.
    ///
    /// Everything is completed in order and nothing is held back, so the used index counts the chains that were
    /// consumed, whoever consumed them: this daemon, or one before it that was killed. The base that the front end
    /// gives is not needed, and cloud-hypervisor's would skip posted buffers.
    pub fn start(
        config: &RingConfig,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
    ) -> Result<SplitRing, RingError> {
        let size = u16::try_from(config.size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= MAX_QUEUE_SIZE)
            .ok_or(RingError::BadSize(config.size))?;
        let entries = u64::from(size);
        let resolve = |what, address, len, align| resolve(&memory, what, address, len, align);
        let desc = resolve("descriptor table", config.desc, 16 * entries, 16)?;
        let avail = resolve("available ring", config.avail, 6 + 2 * entries, 2)?;
        let used = resolve("used ring", config.used, 6 + 8 * entries, 4)?;
        let mut ring = SplitRing {
            size,
            mask: usize::from(size) - 1,
            desc,
            avail,
            used,
            event_idx: config.event_idx,
            next_avail: 0,
            seen: 0,
            ahead: Lookahead::default(),
            next_used: 0,
            published: 0,
            fresh: true,
            memory,
            cache: RegionCache::default(),
            log,
            used_log: config.used_log,
            inflight: None,
        };
        ring.next_avail = ring.used_index().load(Ordering::Acquire);
        ring.seen = ring.next_avail;
        ring.next_used = ring.next_avail;
        ring.published = ring.next_avail;
        Ok(ring)
    }

    /// Keeps the books of the ring in the region of a queue.
    pub fn track(&mut self, buffer: &Arc<InflightBuffer>, queue: usize) {
        self.inflight = SplitInflight::open(buffer, queue, self.size.into(), self.next_used);
    }

    /// Index of the next chain to take.
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Index of the next chain to complete. // U8
    pub fn position(&self) -> u32 {
        u32::from(self.next_used)
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

    /// Whether the driver has made anything available since the ring was set up. The available index alone does not
    /// tell: it passes zero again and again.
    pub fn ever_filled(&self) -> bool {
        self.next_avail != 0 || self.avail_index().load(Ordering::Relaxed) != 0
    }

    /// Looks ahead: copies the first descriptors of the chains that come next, and has the processor fetch what they
    /// point to, so that a burst finds its memory at hand: `wanted` chains at least, if there are as many and no more than
    /// [`LOOKAHEAD`]. Says how many it has looked at that were not taken.
    #[inline]
    pub fn prepare(&mut self, wanted: usize) -> Result<usize, RingError> {
        let ready = usize::from(self.ahead.len());
        if ready >= wanted {
            return Ok(ready);
        }
        let position = self.next_avail.wrapping_add(self.ahead.len());
        if self.seen == position {
            self.look_at_index()?;
        }
        let room = self.ahead.room().min((wanted - ready).min(LOOKAHEAD) as u16);
        let count = self.seen.wrapping_sub(position).min(room);
        if count > 0 {
            self.look_ahead(position, count);
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
        let Some(ready) = self.ahead.pop() else { return };
        self.next_avail = self.next_avail.wrapping_add(1);
        if let Some(inflight) = &mut self.inflight {
            inflight.take(ready.id);
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
        chain.restart(ChainId::new(ready.id, 1));
        if !ready.run.is_null() && ready.descriptor.is_whole() {
            chain.push_run(&ready);
        } else if let Err(error) = self.walk(chain, &ready) {
            self.ahead.clear();
            return Err(error);
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        if let Some(inflight) = &mut self.inflight {
            inflight.take(ready.id);
        }
        Ok(true)
    }

    /// Where the ring stands, to come back to with [`Self::rewind`].
    #[inline]
    pub fn mark(&self) -> SplitMark {
        SplitMark {
            next_avail: self.next_avail,
            next_used: self.next_used,
        }
    }

    /// Gives back every chain that was taken or completed since `mark`, as if it had not been. Nothing of it may have
    /// been published.
    pub fn rewind(&mut self, mark: SplitMark) {
        if mark.next_avail != self.next_avail {
            self.ahead.clear();
        }
        self.next_avail = mark.next_avail;
        self.next_used = mark.next_used;
        if let Some(inflight) = &mut self.inflight {
            inflight.rewind(self.next_used.wrapping_sub(self.published));
        }
    }

    /// Returns a chain to the driver, not yet visible, with `len` octets written to it.
    #[inline]
    pub fn complete(&mut self, chain: ChainId, len: u32) {
        let slot = usize::from(self.next_used) & self.mask;
        let offset = 4 + 8 * slot;
        let element = u64::from(chain.id()).to_le() | u64::from(len).to_le() << 32;
        // SAFETY: `start` checked that `size` used elements follow the 4-octet header; the used ring is aligned to 4.
        unsafe { self.used.add(offset).cast::<u64>().write_unaligned(element) };
        self.log_used(offset, 8);
        self.next_used = self.next_used.wrapping_add(1);
        if let Some(inflight) = &mut self.inflight {
            inflight.complete(chain.id());
        }
    }

    /// Makes completed chains visible, all at once, and says whether the driver wants to be notified.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let old = self.published;
        if self.next_used == old {
            return false;
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.before_publish();
        }
        self.used_index().store(self.next_used, Ordering::Release);
        if let Some(inflight) = &mut self.inflight {
            inflight.after_publish(self.next_used);
        }
        self.log_used(2, 2);
        self.published = self.next_used;
        // virtio 1.3, 2.7.13.4.1: the index must be visible before the driver's wish is read.
        fence(Ordering::SeqCst);
        if std::mem::take(&mut self.fresh) {
            return self.event_idx || !self.no_interrupt();
        }
        if self.event_idx {
            // virtio 1.3, 2.7.10.
            let event = self.used_event().load(Ordering::Relaxed);
            return self.next_used.wrapping_sub(event).wrapping_sub(1) < self.next_used.wrapping_sub(old);
        }
        !self.no_interrupt()
    }

    /// Asks the driver not to kick while the ring is polled.
    pub fn suppress_kicks(&mut self) {
        if !self.event_idx {
            self.used_flags().store(USED_F_NO_NOTIFY, Ordering::Relaxed);
            self.log_used(0, 2);
        }
    }

    /// Asks the driver to kick at the next chain. If this returns true there are chains already: poll once more.
    pub fn request_kicks(&mut self) -> bool {
        if self.event_idx {
            self.avail_event().store(self.next_avail, Ordering::Relaxed);
            self.log_used(4 + 8 * usize::from(self.size), 2);
        } else {
            self.used_flags().store(0, Ordering::Relaxed);
            self.log_used(0, 2);
        }
        // virtio 1.3, 2.7.10: the wish must be visible before the last look at the index.
        fence(Ordering::SeqCst);
        self.avail_index().load(Ordering::Acquire) != self.next_avail
    }

    /// Reads the driver's index, once for as many chains as it stands for.
    fn look_at_index(&mut self) -> Result<(), RingError> {
        let found = self.avail_index().load(Ordering::Acquire);
        if found.wrapping_sub(self.next_avail) > self.size {
            return Err(RingError::IndexJump {
                at: self.next_avail,
                found,
            });
        }
        self.seen = found;
        Ok(())
    }

    /// In stages, so that the misses of many chains overlap: all heads, all descriptors, all buffers.
    fn look_ahead(&mut self, position: u16, count: u16) {
        let mut heads = [0u16; LOOKAHEAD];
        let heads = &mut heads[..usize::from(count)];
        for (step, head) in heads.iter_mut().enumerate() {
            let slot = (usize::from(position) + step) & self.mask;
            // SAFETY: `start` checked that `size` ring entries follow the 4-octet header, and that they are aligned.
            let entry = unsafe { AtomicU16::from_ptr(self.avail.add(4 + 2 * slot).cast_mut().cast()) };
            *head = u16::from_le(entry.load(Ordering::Relaxed));
            prefetch::for_read(self.desc.wrapping_add(16 * usize::from(*head)));
        }
        for head in heads {
            let mut ready = Ready::of(*head);
            if *head < self.size {
                // SAFETY: `start` checked that the table holds `size` descriptors.
                let descriptor = unsafe { read_descriptor(self.desc.add(16 * usize::from(*head))) };
                ready.resolve(descriptor, &self.memory, &mut self.cache);
            }
            self.ahead.push(ready);
        }
    }

    /// Follows a chain of more than one descriptor, or one whose buffer is not simply there.
    fn walk(&mut self, chain: &mut Chain, ready: &Ready) -> Result<(), RingError> {
        if ready.id >= self.size {
            return Err(RingError::BadIndex(ready.id));
        }
        let mut descriptor = ready.descriptor;
        for _ in 0..self.size {
            if descriptor.is_indirect() {
                return push_split_table(chain, &descriptor, &self.memory, &mut self.cache);
            }
            chain.push(&descriptor, &self.memory, &mut self.cache)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            let index = descriptor.next;
            if index >= self.size {
                return Err(RingError::BadIndex(index));
            }
            // SAFETY: `start` checked that the table holds `size` descriptors, and `index` is below that.
            descriptor = unsafe { read_descriptor(self.desc.add(16 * usize::from(index))) };
        }
        Err(RingError::Loop)
    }

    fn no_interrupt(&self) -> bool {
        // SAFETY: the flags are the first two octets of the available ring, checked and aligned by `start`.
        let flags = unsafe { AtomicU16::from_ptr(self.avail.cast_mut().cast()) };
        flags.load(Ordering::Relaxed) & AVAIL_F_NO_INTERRUPT != 0
    }

    fn avail_index(&self) -> &AtomicU16 {
        // SAFETY: octets 2 and 3 of the available ring, checked and aligned by `start`; `memory` keeps them mapped.
        unsafe { AtomicU16::from_ptr(self.avail.add(2).cast_mut().cast()) }
    }

    fn used_event(&self) -> &AtomicU16 {
        // SAFETY: the two octets behind the available ring's entries, checked and aligned by `start`.
        unsafe { AtomicU16::from_ptr(self.avail.add(4 + 2 * usize::from(self.size)).cast_mut().cast()) }
    }

    fn used_flags(&self) -> &AtomicU16 {
        // SAFETY: the first two octets of the used ring, checked and aligned by `start`.
        unsafe { AtomicU16::from_ptr(self.used.cast()) }
    }

    fn used_index(&self) -> &AtomicU16 {
        // SAFETY: octets 2 and 3 of the used ring, checked and aligned by `start`.
        unsafe { AtomicU16::from_ptr(self.used.add(2).cast()) }
    }

    fn avail_event(&self) -> &AtomicU16 {
        // SAFETY: the two octets behind the used ring's elements, checked and aligned by `start`.
        unsafe { AtomicU16::from_ptr(self.used.add(4 + 8 * usize::from(self.size)).cast()) }
    }

    #[inline]
    fn log_used(&self, offset: usize, len: u64) {
        if let (Some(log), Some(base)) = (&self.log, self.used_log) {
            log.mark(base.saturating_add(offset as u64), len);
        }
    }
}
