//! One frame's way: from a source, through netkit's xmit, to a target.

use devices::guest::{GuestPort, Transmitted, transmit};
use devices::nic::{Arrivals, Coalescer};
use devices::packet::{Frame, LINEAR_LEN, MacAddress};
use devices::tap::{Tap, TapBuffer};
use netkit::{Delivery, DropReason, ETH_HLEN, Mode, Slot, Way, straight};

use super::path::{Path, drop_reason};
use super::plan::{Plan, Port};
use super::targets::Targets;
use super::uplink::UplinkPort;

/// Frames that are taken from one source before another source has its turn.
const BURST: usize = 64;

/// What a thread needs to forward frames; nothing is allocated once it exists.
#[derive(Debug)]
pub struct Forwarder {
    frame: Frame,
    path: Path,
    tap_buffer: TapBuffer,
    arrivals: Arrivals,
    /// For NICs that receive frames larger than a segment, and for those that do not.
    coalescers: [Coalescer; 2],
}

/// The way of every frame from one guest to another, known before there is a frame: no program looks at it, and neither
/// end is in L3 mode.
struct Straight<'p> {
    delivery: Delivery,
    port: &'p GuestPort,
}

impl Forwarder {
    /// A forwarder that counts in statistics shard `shard`.
    pub fn new(shard: usize) -> Forwarder {
        Forwarder {
            frame: Frame::new(),
            path: Path::new(shard),
            tap_buffer: TapBuffer::default(),
            arrivals: Arrivals::default(),
            coalescers: [false, true].map(Coalescer::new),
        }
    }

    /// Forwards what a source has, up to a burst, and says how many frames that were.
    pub fn poll(&mut self, plan: &Plan, sender: Slot, queue: usize) -> usize {
        match plan.port(sender) {
            // What goes out by an uplink comes in there, not here.
            Port::None | Port::Shared { .. } => 0,
            Port::Uplink(uplink) => self.poll_uplink(plan, sender, uplink, queue),
            Port::Guest { port, .. } => self.poll_guest(plan, sender, port, queue),
            Port::Tap { tap, .. } => self.poll_tap(plan, sender, tap, queue),
        }
    }

    /// Sends a frame as if the guest behind a device had.
    pub fn inject(&mut self, plan: &Plan, sender: Slot, octets: &[u8]) {
        self.frame = Frame::from_octets(octets);
        let mut targets = Targets::new(plan, self.path.shard, 1, 0);
        self.path.forward(sender, &mut self.frame, &mut targets);
        self.frame.clear();
    }

    /// Sends a packet that has waited for the address of its next hop.
    pub fn release(&mut self, plan: &Plan, uplink: Slot, lladdr: MacAddress, frame: &mut Frame) {
        let address = plan.view.device(uplink).address;
        if let Some(header) = frame.head_mut().first_chunk_mut::<ETH_HLEN>() {
            header[..6].copy_from_slice(&lladdr.0);
            header[6..12].copy_from_slice(&address.0);
        }
        let mut targets = Targets::new(plan, self.path.shard, 1, 0);
        self.path.transmit(uplink, frame, &mut targets);
    }

    fn poll_guest(&mut self, plan: &Plan, sender: Slot, port: &GuestPort, pair: usize) -> usize {
        let mut queue = port.transmit_queue(pair).lock_for_burst();
        let shard = self.path.shard;
        let expected = queue.prepare(BURST);
        let mut targets = Targets::new(plan, shard, expected, pair);
        let mut count = 0;
        let drop = |reason| plan.view.count_drop(sender, reason, shard);
        let straight = Straight::of(plan, sender);
        let linear_len = straight.as_ref().map_or(LINEAR_LEN, Straight::linear_len);
        while count < BURST {
            let head = match transmit(&mut queue, &mut self.frame, linear_len) {
                Transmitted::Nothing => break,
                Transmitted::Frame(head) if queue.enabled => {
                    match &straight {
                        Some(straight) => self.pass(straight, plan, &mut targets),
                        None => self.path.forward(sender, &mut self.frame, &mut targets),
                    }
                    head
                }
                // vhost-user: a started but disabled transmit queue is drained and discarded.
                Transmitted::Frame(head) => {
                    drop(DropReason::RingDisabled);
                    head
                }
                Transmitted::BadOffload(head, reason) => {
                    tracing::debug!("{}: {reason}", plan.view.device(sender).ifindex);
                    drop(DropReason::BadOffloadHeader);
                    head
                }
                Transmitted::TooLong(head) => {
                    drop(DropReason::FrameTooLong);
                    head
                }
                Transmitted::Broken(error) => {
                    tracing::warn!(
                        "{}: transmit ring {pair} is broken: {error}",
                        plan.view.device(sender).ifindex
                    );
                    drop(DropReason::MalformedChain);
                    break;
                }
            };
            count += 1;
            if let Some(ring) = &mut queue.ring {
                ring.complete(head, 0);
            }
        }
        // The slices point into memory that only the lock keeps mapped.
        self.frame.clear();
        std::mem::drop(targets);
        queue.publish();
        count
    }

    fn poll_tap(&mut self, plan: &Plan, sender: Slot, tap: &Tap, queue: usize) -> usize {
        let Some(source) = tap.queues.get(queue) else {
            return 0;
        };
        let mut targets = Targets::new(plan, self.path.shard, 1, queue);
        let mut count = 0;
        while count < BURST && source.read(&mut self.tap_buffer, &mut self.frame) {
            self.path.forward(sender, &mut self.frame, &mut targets);
            count += 1;
        }
        self.frame.clear();
        count
    }

    fn poll_uplink(&mut self, plan: &Plan, sender: Slot, uplink: &UplinkPort, index: usize) -> usize {
        let Some(nic) = uplink.nic.as_deref().filter(|nic| index < nic.queues()) else {
            return 0;
        };
        let mut queue = nic.queue(index).receive();
        self.arrivals.clear();
        queue.receive(&mut self.arrivals);
        let count = self.arrivals.frames().len();
        if count == 0 {
            // What was no frame of use takes up memory as well.
            queue.release();
            return 0;
        }
        let mut targets = Targets::new(plan, self.path.shard, count, index);
        let coalescer = &mut self.coalescers[usize::from(!nic.capabilities.receives_gso)];
        while coalescer.next(&self.arrivals, &mut self.frame) {
            self.path.arrive(sender, uplink, &mut self.frame, &mut targets);
        }
        // The slices point into the queue's memory, and some may still be on their way to another NIC.
        self.frame.clear();
        drop(targets);
        queue.release();
        let malformed = coalescer.malformed();
        plan.view
            .count_lost(sender, DropReason::BadOffloadHeader, malformed, self.path.shard);
        count
    }

    /// Sends `self.frame` straight on: what [`Path::forward`] would do with it.
    #[inline]
    fn pass<'p>(&mut self, straight: &Straight<'p>, plan: &Plan, targets: &mut Targets<'p>) {
        let delivery = Delivery {
            bytes: self.frame.len() as u64,
            ..straight.delivery
        };
        let written = if self.frame.len() < ETH_HLEN {
            Err(DropReason::Runt)
        } else {
            let target = targets.open(delivery.receiver, straight.port, &self.frame);
            target
                .write(&mut self.frame, &mut self.path.scratch)
                .map_err(drop_reason)
        };
        match written {
            Ok(()) => targets.delivered(&delivery),
            Err(reason) => plan.view.refused(&delivery, reason, self.path.shard),
        }
    }
}

impl<'p> Straight<'p> {
    fn of(plan: &'p Plan, sender: Slot) -> Option<Straight<'p>> {
        let receiver = straight(&plan.view, sender)?;
        let is_l2 = |slot| plan.view.device(slot).mode == Mode::L2;
        let Port::Guest { port, .. } = plan.port(receiver) else {
            return None;
        };
        let delivery = Delivery {
            receiver,
            sender,
            bytes: 0,
            way: Way::Pair,
            queue: None,
        };
        (is_l2(sender) && is_l2(receiver)).then_some(Straight { delivery, port })
    }

    /// Octets of each frame that are looked at: those that tell its flow, if there are queues to choose from.
    fn linear_len(&self) -> usize {
        match self.port.receiving_pairs() {
            0 | 1 => 0,
            _ => LINEAR_LEN,
        }
    }
}
