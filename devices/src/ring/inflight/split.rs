//! The books of a split ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use super::{InflightBuffer, Region, VERSION};

/// vhost-user: `QueueRegionSplit`.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    pub(super) features: AtomicU64,
    pub(super) version: AtomicU16,
    pub(super) desc_num: AtomicU16,
    pub(super) last_batch_head: AtomicU16,
    pub(super) used_idx: AtomicU16,
}

/// vhost-user: `DescStateSplit`.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    pub(super) inflight: AtomicU8,
    padding: [u8; 5],
    pub(super) next: AtomicU16,
    pub(super) counter: AtomicU64,
}

/// Keeps the books for whoever comes after us. We need none ourselves: chains are completed in order, so all that was in
/// flight follows the used index.
#[derive(Debug)]
pub struct SplitInflight {
    pub(super) region: Region<Header, Entry>,
    counter: u64,
    last: u16,
    // The chains that were completed and not published. As long as the ring at most, which it has room for.
    batch: Vec<u16>,
}

impl SplitInflight {
    /// Opens the books of a queue whose used index is `used`, with nothing in flight; `None` if the buffer has no place
    /// for them.
    pub fn open(buffer: &Arc<InflightBuffer>, queue: usize, size: u32, used: u16) -> Option<SplitInflight> {
        let region = Region::<Header, Entry>::new(buffer, queue, size, false)?;
        for entry in region.entries() {
            entry.inflight.store(0, Ordering::Relaxed);
        }
        let header = region.header();
        header.features.store(0, Ordering::Relaxed);
        header.desc_num.store(region.size, Ordering::Relaxed);
        header.last_batch_head.store(0, Ordering::Relaxed);
        header.used_idx.store(used, Ordering::Release);
        header.version.store(VERSION, Ordering::Release);
        Some(SplitInflight {
            counter: 0,
            last: 0,
            batch: Vec::with_capacity(usize::from(region.size)),
            region,
        })
    }

    /// A chain was taken.
    #[inline]
    pub fn take(&mut self, head: u16) {
        if let Some(entry) = self.region.entries().get(usize::from(head)) {
            entry.counter.store(self.counter, Ordering::Relaxed);
            entry.inflight.store(1, Ordering::Release);
            self.counter = self.counter.wrapping_add(1);
        }
    }

    /// A chain was completed.
    #[inline]
    pub fn complete(&mut self, head: u16) {
        if self.batch.len() < self.batch.capacity() {
            self.batch.push(head);
        }
    }

    /// All but the first `count` chains that were completed were given back.
    pub fn rewind(&mut self, count: u16) {
        self.batch.truncate(usize::from(count));
    }

    /// Lists the completed chains. The used index moves next, and with it the list counts.
    pub fn before_publish(&mut self) {
        for head in &self.batch {
            if let Some(entry) = self.region.entries().get(usize::from(*head)) {
                entry.next.store(self.last, Ordering::Relaxed);
                self.last = *head;
            }
        }
        let header = self.region.header();
        header.last_batch_head.store(self.last, Ordering::Release);
    }

    /// Takes the completed chains out of the books: the used index is now `used`.
    pub fn after_publish(&mut self, used: u16) {
        for head in self.batch.drain(..) {
            if let Some(entry) = self.region.entries().get(usize::from(head)) {
                entry.inflight.store(0, Ordering::Release);
            }
        }
        self.region.header().used_idx.store(used, Ordering::Release);
    }
}
