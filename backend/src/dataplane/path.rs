//! One frame's path from a device on: through xmit, to where it is delivered or dropped.

use devices::Refusal;
use devices::packet::{Frame, MacAddress};
use netkit::l3::{self, L3Input};
use netkit::{Clones, Delivery, DropReason, Mode, Outcome, Slot, View, xmit, xmit_clone};

use super::plan::Port;
use super::targets::Targets;

/// How often a frame may be handed on behind a device, through an uplink or to another device that shares it, before it
/// is taken to go round in a circle.
const LEVELS: usize = 4;
/// Copies that one frame may have in all, for groups and by programs, those of copies included: programs that send copies
/// to each other through an uplink would multiply them at every level.
pub(super) const COPIES_MAX: usize = 16 * 1024;

/// What a thread needs to send frames on; nothing is allocated once it exists.
#[derive(Debug)]
pub struct Path {
    pub(super) shard: usize,
    pub(super) scratch: Frame,
    /// None while it is on its way.
    answer: Option<Frame>,
    /// Copies that the frame which is sent now may still have.
    copies: usize,
    #[expect(clippy::vec_box, reason = "a level is moved out while it is in use")]
    levels: Vec<Box<Level>>,
}

/// What a transmission needs for itself while it goes on, beside that which it is part of.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub clones: Clones,
    /// The copy that is being sent.
    pub clone: Frame,
}

impl Path {
    /// A path that counts in statistics shard `shard`.
    pub fn new(shard: usize) -> Path {
        Path {
            shard,
            scratch: Frame::new(),
            answer: Some(Frame::new()),
            copies: COPIES_MAX,
            levels: (0..LEVELS).map(|_| Box::default()).collect(),
        }
    }

    /// Sends a frame from what is behind a device.
    pub fn forward<'p>(&mut self, sender: Slot, frame: &mut Frame, targets: &mut Targets<'p>) {
        let is_l3 = targets.plan.view.device(sender).mode == Mode::L3;
        if !is_l3 || self.enter_l3(sender, frame, targets) {
            self.transmit(sender, frame, targets);
        }
    }

    /// Has a device transmit a frame.
    pub(super) fn transmit<'p>(&mut self, sender: Slot, frame: &mut Frame, targets: &mut Targets<'p>) {
        self.follow(sender, frame, targets, |view, frame, clones, shard| {
            Some(xmit(view, sender, frame, clones, shard))
        });
    }

    /// Takes a step that netkit decides, then the copies that programs asked for go where they are to go, and after them
    /// the frame itself. False if netkit decided nothing.
    pub(super) fn follow<'p>(
        &mut self,
        sender: Slot,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
        step: impl FnOnce(&View, &mut Frame, &mut Clones, usize) -> Option<Outcome>,
    ) -> bool {
        let view = &targets.plan.view;
        let Some(mut level) = self.enter() else {
            view.count_drop(sender, DropReason::RedirectLoop, self.shard);
            return true;
        };
        let outcome = step(view, frame, &mut level.clones, self.shard);
        // The kernel sends a copy while the program runs, so before the frame itself.
        while self.copies > 0
            && let Some(outcome) = xmit_clone(view, &mut level.clone, &mut level.clones, self.shard)
        {
            self.copies -= 1;
            self.conclude(&outcome, &mut level.clone, targets);
        }
        if let left @ 1.. = level.clones.give_up() {
            view.count_lost(sender, DropReason::RedirectLoop, left, self.shard);
        }
        if let Some(outcome) = &outcome {
            self.conclude(outcome, frame, targets);
        }
        self.levels.push(level);
        outcome.is_some()
    }

    /// Sends copies of a frame, one for each device.
    pub(super) fn flood<'p>(
        &mut self,
        devices: impl Iterator<Item = Slot>,
        frame: &Frame,
        targets: &mut Targets<'p>,
        send: impl Fn(&mut Path, Slot, &mut Frame, &mut Targets<'p>),
    ) {
        // Without a level the frame itself goes no further either, and is counted then.
        let Some(mut level) = self.enter() else {
            return;
        };
        for device in devices {
            if self.copies == 0 {
                let view = &targets.plan.view;
                view.count_drop(device, DropReason::RedirectLoop, self.shard);
                continue;
            }
            self.copies -= 1;
            level.clone.copy_from(frame);
            send(self, device, &mut level.clone, targets);
        }
        self.levels.push(level);
    }

    /// Room for one more transmission. The first one is another frame's.
    fn enter(&mut self) -> Option<Box<Level>> {
        if self.levels.len() == LEVELS {
            self.copies = COPIES_MAX;
        }
        self.levels.pop()
    }

    /// Takes the Ethernet out of a frame from a guest in L3 mode, and answers its neighbour discovery. False if there is
    /// nothing left to send.
    fn enter_l3<'p>(&mut self, sender: Slot, frame: &mut Frame, targets: &mut Targets<'p>) -> bool {
        let (Port::Guest { address, gateway, .. } | Port::Tap { address, gateway, .. }) =
            targets.plan.port(sender)
        else {
            return true;
        };
        if let Some(source) = frame.source() {
            address.learn(source);
        }
        let mut reply = [0; l3::REPLY_MAX];
        match l3::from_guest(frame, *gateway, &mut reply) {
            L3Input::Forward => true,
            L3Input::Consumed => false,
            L3Input::Dropped(reason) => {
                targets.plan.view.count_drop(sender, reason, self.shard);
                false
            }
            L3Input::Reply(len) => {
                self.answer(sender, &reply[..len], targets);
                false
            }
        }
    }

    /// Gives a frame of our own to what stands behind a device. If it does not take it, nobody misses it.
    pub(super) fn answer<'p>(&mut self, receiver: Slot, octets: &[u8], targets: &mut Targets<'p>) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        answer.clear();
        answer.extend_head(octets.len()).copy_from_slice(octets);
        let _ = self.hand_over(receiver, None, &mut answer, targets);
        self.answer = Some(answer);
    }

    /// Delivers a frame that is to be delivered, and counts what came of it.
    // By reference: a copy would load together what was just stored apart, and wait for that.
    fn conclude<'p>(&mut self, outcome: &Outcome, frame: &mut Frame, targets: &mut Targets<'p>) {
        let Outcome::Deliver(delivery) = outcome else {
            return;
        };
        match self.deliver(delivery, frame, targets) {
            Ok(()) => targets.delivered(delivery),
            Err(reason) => targets.plan.view.refused(delivery, reason, self.shard),
        }
    }

    fn deliver<'p>(
        &mut self,
        delivery: &Delivery,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> Result<(), DropReason> {
        let (plan, receiver) = (targets.plan, delivery.receiver);
        if plan.view.device(receiver).mode == Mode::L3
            && let Port::Guest { address, gateway, .. } | Port::Tap { address, gateway, .. } =
                plan.port(receiver)
        {
            let address: MacAddress = address.get();
            l3::to_guest(frame, address, *gateway);
        }
        frame.insert_vlan_tag();
        self.hand_over(receiver, delivery.queue, frame, targets)
    }

    /// Gives a frame to what stands behind a device.
    fn hand_over<'p>(
        &mut self,
        receiver: Slot,
        queue: Option<u16>,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> Result<(), DropReason> {
        match targets.plan.port(receiver) {
            Port::None => Err(DropReason::NoReceiver),
            Port::Guest { port, .. } => {
                let target = targets.open(receiver, port, frame);
                target.write(frame, &mut self.scratch).map_err(drop_reason)
            }
            Port::Tap { tap, .. } => {
                let queue = &tap.queues[targets.source_queue % tap.queues.len()];
                queue.write(frame, &mut self.scratch).map_err(drop_reason)
            }
            Port::Shared { uplink: Some(uplink) } => self.leave(receiver, *uplink, frame, targets),
            Port::Shared { uplink: None } => Err(DropReason::UplinkDown),
            Port::Uplink(uplink) => self.emit(receiver, uplink, queue, frame, targets),
        }
    }
}

pub(super) fn drop_reason(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Full => DropReason::ReceiverRingFull,
        Refusal::NotReady => DropReason::ReceiverNotReady,
        Refusal::TooLong => DropReason::FrameTooLong,
        Refusal::Malformed => DropReason::MalformedChain,
        Refusal::BadOffload => DropReason::BadOffloadHeader,
        Refusal::Failed => DropReason::TapError,
    }
}
