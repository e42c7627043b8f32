//! A device's counters: one shard for each thread that counts, so that counting needs no locked
//! instruction and shares no cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::DropReason;

/// What `ip -s link show` prints: frames and octets with their Ethernet header, as the kernel's
/// `rtnl_link_stats64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Frames the device received.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_bytes: u64,
    /// Always 0: netkit charges every drop to the sender.
    pub rx_dropped: u64,
    /// Frames the device transmitted, redirected ones among them, even those whose redirect failed.
    pub tx_packets: u64,
    /// Octets of them, measured before any program ran.
    pub tx_bytes: u64,
    /// Frames the device should have transmitted and did not.
    pub tx_dropped: u64,
}

/// The counters of one device.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Box<[Shard]>,
}

/// What one thread counts. Two cache lines, because adjacent lines are prefetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
    drops: [AtomicU64; DropReason::COUNT],
}

/// Adds to a counter that only this thread writes, so no read-modify-write instruction is needed.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

impl Counters {
    pub(crate) fn new(shards: usize) -> Counters {
        Counters {
            shards: (0..shards).map(|_| Shard::default()).collect(),
        }
    }

    #[inline]
    pub(crate) fn count_tx(&self, packets: u64, bytes: u64, shard: usize) {
        let shard = &self.shards[shard];
        add(&shard.tx_packets, packets);
        add(&shard.tx_bytes, bytes);
    }

    #[inline]
    pub(crate) fn count_rx(&self, packets: u64, bytes: u64, shard: usize) {
        let shard = &self.shards[shard];
        add(&shard.rx_packets, packets);
        add(&shard.rx_bytes, bytes);
    }

    /// A drop that the device's `tx_dropped` shows.
    pub(crate) fn count_tx_dropped(&self, reason: DropReason, shard: usize) {
        add(&self.shards[shard].tx_dropped, 1);
        self.count_silent_drop(reason, shard);
    }

    /// A drop after the frame counted as transmitted: netkit shows it nowhere, we by its reason.
    pub(crate) fn count_silent_drop(&self, reason: DropReason, shard: usize) {
        add(&self.shards[shard].drops[reason as usize], 1);
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut sum = Statistics::default();
        for shard in &self.shards {
            sum.rx_packets += shard.rx_packets.load(Relaxed);
            sum.rx_bytes += shard.rx_bytes.load(Relaxed);
            sum.tx_packets += shard.tx_packets.load(Relaxed);
            sum.tx_bytes += shard.tx_bytes.load(Relaxed);
            sum.tx_dropped += shard.tx_dropped.load(Relaxed);
        }
        sum
    }

    /// The reasons that occurred, each with its count.
    pub(crate) fn drops(&self) -> Vec<(DropReason, u64)> {
        let count = |reason: DropReason| {
            self.shards
                .iter()
                .map(|shard| shard.drops[reason as usize].load(Relaxed))
                .sum()
        };
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, count(reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let counters = Counters::new(3);
        counters.count_tx(1, 100, 0);
        counters.count_tx(1, 50, 2);
        counters.count_rx(1, 60, 1);
        counters.count_tx_dropped(DropReason::Runt, 1);
        counters.count_silent_drop(DropReason::RedirectFailed, 2);
        let statistics = counters.statistics();
        assert_eq!((statistics.tx_packets, statistics.tx_bytes), (2, 150));
        assert_eq!(
            (statistics.rx_packets, statistics.rx_bytes, statistics.rx_dropped),
            (1, 60, 0)
        );
        assert_eq!(statistics.tx_dropped, 1);
        assert_eq!(
            counters.drops(),
            [(DropReason::Runt, 1), (DropReason::RedirectFailed, 1)]
        );
    }

    #[test]
    fn shards_are_on_cache_lines_of_their_own() {
        assert_eq!(size_of::<Shard>() % 128, 0);
        assert_eq!(align_of::<Shard>(), 128);
    }
}
