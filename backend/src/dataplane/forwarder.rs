//! One frame's way: from a source, through netkit's xmit, to a target.

use devices::Refusal;
use devices::guest::{GuestPort, Transmitted, transmit};
use devices::packet::{Frame, LINEAR_LEN, MacAddress};
use devices::tap::{Tap, TapBuffer};
use netkit::l3::{self, L3Input};
use netkit::{Clones, Delivery, DropReason, ETH_HLEN, Mode, Outcome, Slot, straight, xmit, xmit_clone};

use super::plan::{Plan, Port};
use super::targets::Targets;

/// Frames that are taken from one source before another source has its turn.
const BURST: usize = 64;

/// What a thread needs to forward frames; nothing is allocated once it exists.
#[derive(Debug)]
pub struct Forwarder {
    shard: usize,
    frame: Frame,
    scratch: Frame,
    answer: Frame,
    clones: Clones,
    /// The copy that is being sent.
    clone: Frame,
    tap_buffer: TapBuffer,
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
            shard,
            frame: Frame::new(),
            scratch: Frame::new(),
            answer: Frame::new(),
            clones: Clones::default(),
            clone: Frame::new(),
            tap_buffer: TapBuffer::default(),
        }
    }

    /// Forwards what a source has, up to a burst, and says how many frames that were.
    pub fn poll(&mut self, plan: &Plan, sender: Slot, queue: usize) -> usize {
        match plan.port(sender) {
            Port::None => 0,
            Port::Guest { port, .. } => self.poll_guest(plan, sender, port, queue),
            Port::Tap { tap, .. } => self.poll_tap(plan, sender, tap, queue),
        }
    }

    /// Sends a frame as if the guest behind a device had.
    pub fn inject(&mut self, plan: &Plan, sender: Slot, octets: &[u8]) {
        let shard = self.shard;
        self.frame = Frame::from_octets(octets);
        self.forward(plan, sender, 0, &mut Targets::new(plan, shard, 1));
        self.frame.clear();
    }

    fn poll_guest(&mut self, plan: &Plan, sender: Slot, port: &GuestPort, pair: usize) -> usize {
        let mut queue = port.transmit_queue(pair).lock_for_burst();
        let shard = self.shard;
        let expected = queue.prepare(BURST);
        let mut targets = Targets::new(plan, shard, expected);
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
                        None => self.forward(plan, sender, pair, &mut targets),
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
        let mut targets = Targets::new(plan, self.shard, 1);
        let mut count = 0;
        while count < BURST && source.read(&mut self.tap_buffer, &mut self.frame) {
            self.forward(plan, sender, queue, &mut targets);
            count += 1;
        }
        self.frame.clear();
        count
    }

    /// Sends `self.frame` straight on: what [`Self::forward`] would do with it.
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
                .write(&mut self.frame, &mut self.scratch)
                .map_err(drop_reason)
        };
        match written {
            Ok(()) => targets.delivered(&delivery),
            Err(reason) => plan.view.refused(&delivery, reason, self.shard),
        }
    }

    /// Sends `self.frame` from a device.
    fn forward<'p>(&mut self, plan: &'p Plan, sender: Slot, queue: usize, targets: &mut Targets<'p>) {
        if plan.view.device(sender).mode == Mode::L3 && !self.enter_l3(plan, sender, queue, targets) {
            return;
        }
        let outcome = xmit(&plan.view, sender, &mut self.frame, &mut self.clones, self.shard);
        // The kernel sends a copy while the program runs, so before the frame itself.
        while let Some(outcome) = xmit_clone(&plan.view, &mut self.clone, &mut self.clones, self.shard) {
            conclude(
                outcome,
                &mut self.clone,
                &mut self.scratch,
                plan,
                queue,
                targets,
                self.shard,
            );
        }
        conclude(
            outcome,
            &mut self.frame,
            &mut self.scratch,
            plan,
            queue,
            targets,
            self.shard,
        );
    }

    /// Takes the Ethernet out of a frame from a guest in L3 mode, and answers its neighbour discovery. False if there is
    /// nothing left to send.
    fn enter_l3<'p>(
        &mut self,
        plan: &'p Plan,
        sender: Slot,
        queue: usize,
        targets: &mut Targets<'p>,
    ) -> bool {
        let (Port::Guest { address, gateway, .. } | Port::Tap { address, gateway, .. }) = plan.port(sender)
        else {
            return true;
        };
        if let Some(source) = self.frame.source() {
            address.learn(source);
        }
        let mut reply = [0; l3::REPLY_MAX];
        match l3::from_guest(&mut self.frame, *gateway, &mut reply) {
            L3Input::Forward => true,
            L3Input::Consumed => false,
            L3Input::Dropped(reason) => {
                plan.view.count_drop(sender, reason, self.shard);
                false
            }
            L3Input::Reply(len) => {
                self.answer.clear();
                self.answer.extend_head(len).copy_from_slice(&reply[..len]);
                let _ = hand_over(&mut self.answer, &mut self.scratch, plan, sender, queue, targets);
                false
            }
        }
    }
}

/// Delivers a frame that is to be delivered, and counts what came of it.
fn conclude<'p>(
    outcome: Outcome,
    frame: &mut Frame,
    scratch: &mut Frame,
    plan: &'p Plan,
    queue: usize,
    targets: &mut Targets<'p>,
    shard: usize,
) {
    let Outcome::Deliver(delivery) = outcome else {
        return;
    };
    match deliver(&delivery, frame, scratch, plan, queue, targets) {
        Ok(()) => targets.delivered(&delivery),
        Err(reason) => plan.view.refused(&delivery, reason, shard),
    }
}

fn deliver<'p>(
    delivery: &Delivery,
    frame: &mut Frame,
    scratch: &mut Frame,
    plan: &'p Plan,
    queue: usize,
    targets: &mut Targets<'p>,
) -> Result<(), DropReason> {
    let receiver = delivery.receiver;
    if plan.view.device(receiver).mode == Mode::L3
        && let Port::Guest { address, gateway, .. } | Port::Tap { address, gateway, .. } = plan.port(receiver)
    {
        let address: MacAddress = address.get();
        l3::to_guest(frame, address, *gateway);
    }
    frame.insert_vlan_tag();
    hand_over(frame, scratch, plan, receiver, queue, targets)
}

/// Gives a frame to what stands behind a device.
fn hand_over<'p>(
    frame: &mut Frame,
    scratch: &mut Frame,
    plan: &'p Plan,
    receiver: Slot,
    queue: usize,
    targets: &mut Targets<'p>,
) -> Result<(), DropReason> {
    let written = match plan.port(receiver) {
        Port::None => return Err(DropReason::NoReceiver),
        Port::Guest { port, .. } => targets.open(receiver, port, frame).write(frame, scratch),
        Port::Tap { tap, .. } => tap.queues[queue % tap.queues.len()].write(frame, scratch),
    };
    written.map_err(drop_reason)
}

fn drop_reason(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Full => DropReason::ReceiverRingFull,
        Refusal::NotReady => DropReason::ReceiverNotReady,
        Refusal::TooLong => DropReason::FrameTooLong,
        Refusal::Malformed => DropReason::MalformedChain,
        Refusal::BadOffload => DropReason::BadOffloadHeader,
        Refusal::Failed => DropReason::TapError,
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
            ingress: false,
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
