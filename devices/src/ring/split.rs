//! The split virtqueue (virtio 1.3, 2.7), device side, completing strictly in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::{Chain, MAX_QUEUE_SIZE, RingError};
use crate::memory::{DirtyLog, GuestMemory, RegionCache};

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;
const DESC_F_INDIRECT: u16 = 4;
const AVAIL_F_NO_INTERRUPT: u16 = 1;
const USED_F_NO_NOTIFY: u16 = 1;

/// How a driver set up a ring. Addresses are the front end's (vhost-user: vring address description).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingConfig {
    /// Number of descriptors.
    pub size: u32,
    /// Descriptor table.
    pub desc: u64,
    /// Available ring.
    pub avail: u64,
    /// Used ring.
    pub used: u64,
    /// Guest address of the used ring for the dirty log, if its writes are to be logged.
    pub used_log: Option<u64>,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
}

/// A started split virtqueue: addresses resolved once, indices kept privately.
#[derive(Debug)]
pub struct SplitRing {
    size: u16,
    desc: *const u8,
    avail: *const u8,
    used: *mut u8,
    event_idx: bool,
    next_avail: u16,
    next_used: u16,
    published: u16,
    // No notification has been decided on since the start, so the driver's used_event may be stale: notify once.
    fresh: bool,
    memory: Arc<GuestMemory>,
    cache: RegionCache,
    log: Option<Arc<DirtyLog>>,
    used_log: Option<u64>,
}

/// A place in a ring, see [`SplitRing::mark`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    next_avail: u16,
    next_used: u16,
}

// SAFETY: the pointers lead into `memory`, which the ring keeps mapped; they are used by whoever holds `&mut self`.
unsafe impl Send for SplitRing {}

/// A descriptor, copied once out of the guest's memory.
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

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
        let resolve = |what, address: u64, len, align| {
            let aligned = address.is_multiple_of(align);
            let host = memory
                .translate_user(address, len)
                .filter(|host| aligned && host.addr().is_multiple_of(align as usize));
            host.ok_or(RingError::BadAddress(what))
        };
        let desc = resolve("descriptor table", config.desc, 16 * entries, 16)?;
        let avail = resolve("available ring", config.avail, 6 + 2 * entries, 2)?;
        let used = resolve("used ring", config.used, 6 + 8 * entries, 4)?;
        let mut ring = SplitRing {
            size,
            desc,
            avail,
            used,
            event_idx: config.event_idx,
            next_avail: 0,
            next_used: 0,
            published: 0,
            fresh: true,
            memory,
            cache: RegionCache::default(),
            log,
            used_log: config.used_log,
        };
        ring.next_avail = ring.used_index().load(Ordering::Acquire);
        ring.next_used = ring.next_avail;
        ring.published = ring.next_avail;
        Ok(ring)
    }

    /// Index of the next chain to take.
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Index of the next chain to complete: what `GET_VRING_BASE` answers.
    pub fn next_used(&self) -> u16 {
        self.next_used
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

    /// How many chains the driver has made available.
    #[inline]
    pub fn available(&self) -> Result<u16, RingError> {
        let found = self.avail_index().load(Ordering::Acquire);
        let count = found.wrapping_sub(self.next_avail);
        if count > self.size {
            return Err(RingError::IndexJump {
                at: self.next_avail,
                found,
            });
        }
        Ok(count)
    }

    /// Whether the driver has made anything available since the ring was set up. The available index alone does not
    /// tell: it passes zero again and again.
    pub fn ever_filled(&self) -> bool {
        self.next_avail != 0 || self.avail_index().load(Ordering::Relaxed) != 0
    }

    /// Takes the next available chain. The caller has checked that there is one ([`Self::available`]).
    pub fn take(&mut self, chain: &mut Chain) -> Result<(), RingError> {
        let slot = usize::from(self.next_avail & (self.size - 1));
        // SAFETY: `start` checked that `size` ring entries follow the 4-octet header, and that they are aligned.
        let head = unsafe { AtomicU16::from_ptr(self.avail.add(4 + 2 * slot).cast_mut().cast()) }
            .load(Ordering::Relaxed);
        chain.restart(head);
        self.walk(chain, head)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(())
    }

    /// Where the ring stands, to come back to with [`Self::rewind`].
    pub fn mark(&self) -> Mark {
        Mark {
            next_avail: self.next_avail,
            next_used: self.next_used,
        }
    }

    /// Gives back every chain that was taken or completed since `mark`, as if it had not been. Nothing of it may have
    /// been published.
    pub fn rewind(&mut self, mark: Mark) {
        self.next_avail = mark.next_avail;
        self.next_used = mark.next_used;
    }

    /// Returns a chain to the driver, not yet visible, with `len` octets written to it.
    #[inline]
    pub fn complete(&mut self, head: u16, len: u32) {
        let slot = usize::from(self.next_used & (self.size - 1));
        let offset = 4 + 8 * slot;
        let element = u64::from(head).to_le() | u64::from(len).to_le() << 32;
        // SAFETY: `start` checked that `size` used elements follow the 4-octet header; the used ring is aligned to 4.
        unsafe { self.used.add(offset).cast::<u64>().write_unaligned(element) };
        self.log_used(offset, 8);
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Makes completed chains visible, all at once, and says whether the driver wants to be notified.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let old = self.published;
        if self.next_used == old {
            return false;
        }
        self.used_index().store(self.next_used, Ordering::Release);
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

    fn walk(&mut self, chain: &mut Chain, head: u16) -> Result<(), RingError> {
        let mut index = head;
        for _ in 0..self.size {
            if index >= self.size {
                return Err(RingError::BadIndex(index));
            }
            // SAFETY: `start` checked that the table holds `size` descriptors, and `index` is below that.
            let descriptor = unsafe { read_descriptor(self.desc.add(16 * usize::from(index))) };
            if descriptor.flags & DESC_F_INDIRECT != 0 {
                if descriptor.flags & DESC_F_NEXT != 0 {
                    return Err(RingError::IndirectNext);
                }
                return self.walk_indirect(chain, descriptor);
            }
            self.push(chain, descriptor)?;
            if descriptor.flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(RingError::Loop)
    }

    fn walk_indirect(&mut self, chain: &mut Chain, table: Descriptor) -> Result<(), RingError> {
        let entries = table.len / 16;
        if !table.len.is_multiple_of(16) || entries == 0 || entries > u32::from(MAX_QUEUE_SIZE) {
            return Err(RingError::BadIndirectLength(table.len));
        }
        let mut index = 0u16;
        for _ in 0..entries {
            if u32::from(index) >= entries {
                return Err(RingError::BadIndex(index));
            }
            let descriptor = self.read_indirect(table, index)?;
            if descriptor.flags & DESC_F_INDIRECT != 0 {
                return Err(RingError::NestedIndirect);
            }
            self.push(chain, descriptor)?;
            if descriptor.flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(RingError::Loop)
    }

    fn read_indirect(&mut self, table: Descriptor, index: u16) -> Result<Descriptor, RingError> {
        let bad = RingError::BadBuffer {
            address: table.address,
            len: table.len,
        };
        let address = table.address.checked_add(16 * u64::from(index)).ok_or(bad)?;
        match self.memory.run_at(address, &mut self.cache) {
            // SAFETY: at least 16 octets follow in the mapping that `memory` keeps.
            Some((ptr, run)) if run >= 16 => Ok(unsafe { read_descriptor(ptr) }),
            Some(_) => self.read_split_descriptor(address).ok_or(bad),
            None => Err(bad),
        }
    }

    /// Reads a descriptor that crosses from one region into the next.
    #[cold]
    fn read_split_descriptor(&mut self, address: u64) -> Option<Descriptor> {
        let mut octets = [0u8; 16];
        for (offset, octet) in octets.iter_mut().enumerate() {
            let (ptr, _) = self
                .memory
                .run_at(address.checked_add(offset as u64)?, &mut self.cache)?;
            // SAFETY: `run_at` found this octet in a live mapping.
            *octet = unsafe { ptr.read_volatile() };
        }
        // SAFETY: the array is 16 octets long.
        Some(unsafe { read_descriptor(octets.as_ptr()) })
    }

    fn push(&mut self, chain: &mut Chain, descriptor: Descriptor) -> Result<(), RingError> {
        let writable = descriptor.flags & DESC_F_WRITE != 0;
        chain.push(
            &self.memory,
            &mut self.cache,
            descriptor.address,
            descriptor.len,
            writable,
        )
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

/// # Safety
/// 16 octets must be readable at `ptr`. Each is read once, whatever the driver does meanwhile.
#[inline]
unsafe fn read_descriptor(ptr: *const u8) -> Descriptor {
    let words = if ptr.cast::<u64>().is_aligned() {
        // SAFETY: readable by the caller's promise, aligned by the test.
        unsafe {
            [
                ptr.cast::<u64>().read_volatile(),
                ptr.cast::<u64>().add(1).read_volatile(),
            ]
        }
    } else {
        // SAFETY: readable by the caller's promise; octets have no alignment.
        let octets: [u8; 16] = std::array::from_fn(|offset| unsafe { ptr.add(offset).read_volatile() });
        let octets = u128::from_ne_bytes(octets).to_le();
        [(octets as u64).to_le(), ((octets >> 64) as u64).to_le()]
    };
    let rest = u64::from_le(words[1]);
    Descriptor {
        address: u64::from_le(words[0]),
        len: rest as u32,
        flags: (rest >> 32) as u16,
        next: (rest >> 48) as u16,
    }
}
