//! Where the frames of one burst go: the receive queues that are written to, and what is counted.

use arrayvec::ArrayVec;
use devices::guest::{GuestPort, ReceiveBurst};
use devices::nic::NicPort;
use devices::packet::{Frame, flow_hash};
use netkit::{Delivery, Slot};

use super::plan::Plan;
use super::uplink::nic_drop_reason;

/// Receive queues that one burst keeps open. For a further one the others are given up.
const OPEN_MAX: usize = 8;

/// The receive queues that a burst writes to. Each stays locked from its first frame to the end of the burst, so that
/// its frames are made visible together and its driver is notified once, however the frames of a burst alternate.
///
/// Two threads that wait for each other's queue would wait for ever: a thread waits only while it holds none.
#[derive(Debug)]
pub struct Targets<'p> {
    pub(super) plan: &'p Plan,
    /// The queue that the burst comes from.
    pub(super) source_queue: usize,
    shard: usize,
    /// Frames of the burst.
    expected: usize,
    open: ArrayVec<Target<'p>, OPEN_MAX>,
    /// NICs, and the queue of each, that have frames to send.
    unflushed: ArrayVec<Unflushed<'p>, OPEN_MAX>,
    tally: Option<Tally>,
}

#[derive(Debug)]
struct Target<'p> {
    receiver: Slot,
    pair: usize,
    burst: ReceiveBurst<'p>,
}

/// A NIC that has frames to send.
#[derive(Debug)]
struct Unflushed<'p> {
    uplink: Slot,
    nic: &'p NicPort,
    queue: usize,
}

/// Frames that went the same way one after the other, to be counted together.
#[derive(Debug, Clone, Copy)]
struct Tally {
    /// The way of each, and the octets of all.
    delivery: Delivery,
    frames: u64,
}

impl<'p> Targets<'p> {
    /// No queue yet, for a burst of about `expected` frames.
    #[inline]
    pub fn new(plan: &'p Plan, shard: usize, expected: usize, source_queue: usize) -> Targets<'p> {
        Targets {
            plan,
            source_queue,
            shard,
            expected,
            open: ArrayVec::new(),
            unflushed: ArrayVec::new(),
            tally: None,
        }
    }

    /// The receive queue for a frame: the one that its flow belongs to, among those that the guest uses.
    #[inline]
    pub fn open(&mut self, receiver: Slot, port: &'p GuestPort, frame: &Frame) -> &mut ReceiveBurst<'p> {
        let pair = match port.receiving_pairs() {
            0 | 1 => 0,
            pairs => flow_hash(frame) as usize % pairs,
        };
        let is_it = |target: &Target<'_>| target.receiver == receiver && target.pair == pair;
        let index = match self.open.iter().position(is_it) {
            Some(index) => index,
            None => self.open_another(receiver, port, pair),
        };
        &mut self.open[index].burst
    }

    /// Has an uplink's NIC send what a queue of it has taken, at the end of the burst.
    #[inline]
    pub fn flush_later(&mut self, uplink: Slot, nic: &'p NicPort, queue: usize) {
        let is_it = |other: &Unflushed<'_>| other.uplink == uplink && other.queue == queue;
        if self.unflushed.iter().any(is_it) {
            return;
        }
        if self.unflushed.is_full() {
            self.flush();
        }
        self.unflushed.push(Unflushed { uplink, nic, queue });
    }

    fn flush(&mut self) {
        for Unflushed { uplink, nic, queue } in self.unflushed.drain(..) {
            let mut transmit = nic.queue(queue).transmit();
            transmit.flush();
            if let Some((refusal, frames)) = transmit.refused() {
                let reason = nic_drop_reason(refusal);
                self.plan.view.count_lost(uplink, reason, frames, self.shard);
            }
        }
    }

    /// Counts a frame that its receiver took.
    #[inline]
    pub fn delivered(&mut self, delivery: &Delivery) {
        match &mut self.tally {
            Some(tally) if tally.is_way_of(delivery) => {
                tally.delivery.bytes += delivery.bytes;
                tally.frames += 1;
            }
            _ => {
                self.count();
                self.tally = Some(Tally {
                    delivery: *delivery,
                    frames: 1,
                });
            }
        }
    }

    /// Counts what has been delivered. Afterwards the statistics are up to date.
    #[inline]
    pub fn count(&mut self) {
        if let Some(tally) = self.tally.take() {
            self.plan
                .view
                .delivered(&tally.delivery, tally.frames, self.shard);
        }
    }

    fn open_another(&mut self, receiver: Slot, port: &'p GuestPort, pair: usize) -> usize {
        if self.open.is_full() {
            self.open.clear();
        }
        let burst = self.lock(port, pair);
        self.open.push(Target {
            receiver,
            pair,
            burst,
        });
        self.open.len() - 1
    }

    /// Locks the receive queue of a pair, or another one if the guest does not use that one: for now, or for good.
    fn lock(&mut self, port: &'p GuestPort, pair: usize) -> ReceiveBurst<'p> {
        let burst = self.lock_queue(port, pair);
        if burst.is_used() || port.pairs() == 1 {
            return burst;
        }
        drop(burst);
        // What is held may be the very queue that is looked for.
        self.open.clear();
        let is_used = |pair: &usize| ReceiveBurst::open(port.receive_queue(*pair), 0).is_used();
        let other = (0..port.pairs()).find(is_used).unwrap_or(pair);
        self.lock_queue(port, other)
    }

    fn lock_queue(&mut self, port: &'p GuestPort, pair: usize) -> ReceiveBurst<'p> {
        let queue = port.receive_queue(pair);
        match ReceiveBurst::try_open(queue, self.expected) {
            Some(burst) => burst,
            None => {
                self.open.clear();
                ReceiveBurst::open(queue, self.expected)
            }
        }
    }
}

impl Drop for Targets<'_> {
    fn drop(&mut self) {
        self.flush();
        self.count();
    }
}

impl Tally {
    #[inline]
    fn is_way_of(&self, delivery: &Delivery) -> bool {
        let way = |delivery: &Delivery| (delivery.receiver, delivery.sender, delivery.way);
        way(&self.delivery) == way(delivery)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use netkit::{CreateRequest, Mode, Model};

    use super::*;

    fn pair() -> Plan {
        let mut model = Model::new(1, 1);
        let request = CreateRequest {
            mode: Some(Mode::L2),
            ..CreateRequest::default()
        };
        model.create(&request).unwrap();
        Plan::empty(model.view())
    }

    /// Each thread holds a queue and wants that of the other, again and again.
    #[test]
    fn threads_that_write_to_the_same_queues_in_turn_never_wait_for_each_other() {
        const ROUNDS: usize = 20_000;
        let plan = pair();
        let slots: Vec<Slot> = plan.view.iter().map(|(slot, _)| slot).collect();
        let ports = [GuestPort::new(1), GuestPort::new(1)];
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for first in [0, 1] {
                let (plan, slots, ports, done) = (&plan, &slots, &ports, &done);
                scope.spawn(move || {
                    let frame = Frame::from_octets(&[0; 60]);
                    for _ in 0..ROUNDS {
                        let mut targets = Targets::new(plan, 0, 1, 0);
                        for turn in [first, 1 - first, first] {
                            targets.open(slots[turn], &ports[turn], &frame);
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            let end = Instant::now() + Duration::from_secs(60);
            while done.load(Ordering::Relaxed) < 2 {
                if Instant::now() > end {
                    // A panic would wait for the threads, too.
                    eprintln!("two threads wait for each other");
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }

    #[test]
    fn more_receivers_than_a_burst_keeps_open_are_served_all_the_same() {
        let plan = pair();
        let slot = plan.view.iter().map(|(slot, _)| slot).next().unwrap();
        let ports: Vec<GuestPort> = (0..3 * OPEN_MAX).map(|_| GuestPort::new(1)).collect();
        let frame = Frame::from_octets(&[0; 60]);
        let mut targets = Targets::new(&plan, 0, 1, 0);
        for port in &ports {
            // As if each were another device's.
            targets.open.iter_mut().for_each(|target| target.pair = 7);
            targets.open(slot, port, &frame);
            assert!(targets.open.len() <= OPEN_MAX);
        }
        drop(targets);
        assert!(
            ports
                .iter()
                .all(|port| ReceiveBurst::try_open(port.receive_queue(0), 0).is_some())
        );
    }
}
