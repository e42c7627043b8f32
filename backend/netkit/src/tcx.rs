//! What an uplink makes of frames: those that its NIC received, and those that leave through it
//! (dev.c: `sch_handle_ingress`, `sch_handle_egress`).

use devices::packet::Frame;

use crate::program::{Hook, Redirect, Surroundings};
use crate::redirect::{eth_type, forward, packet_type, redirect_peer};
use crate::view::{Delivery, Slot, View, Way};
use crate::xmit::{Entry, follow, run, transmit};
use crate::{Clones, Context, DropReason, ETH_HLEN, Mode, Outcome, verdict};

/// What became of a frame that a NIC received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a delivery still has to be made"]
pub enum Received {
    /// No program took it: it is for whom the caller finds it to be for.
    Passed,
    /// It was redirected, or dropped.
    Outcome(Outcome),
}

/// What a list made of a frame (`enum tcx_action_base`).
enum Action {
    Pass,
    Redirect,
    Drop(DropReason),
}

/// Takes a frame that the NIC behind an uplink received: counts it, and runs the uplink's ingress list. Takes no lock and
/// allocates nothing.
///
/// Copies that programs ask for are left in `clones`, as by [`xmit`](crate::xmit()). A frame that passed is for a device
/// that the caller chooses: for the other end of one, which is to [`xmit`](crate::xmit()) it, or for one that leases a
/// queue ([`receive_leased`]); or for none ([`View::count_unclaimed`]).
///
/// # Panics
/// If `shard` is not below the model's number of shards.
pub fn receive(view: &View, uplink: Slot, frame: &mut Frame, clones: &mut Clones, shard: usize) -> Received {
    clones.clear();
    let device = view.device(uplink);
    let lost = |reason| {
        device.counters.count_silent_drop(reason, shard);
        Received::Outcome(Outcome::Dropped(reason))
    };
    // A NIC that is down receives nothing, so nothing is counted but the reason.
    if !device.up {
        return lost(DropReason::UplinkDown);
    }
    if !frame.pull(ETH_HLEN) {
        return lost(DropReason::Runt);
    }
    device.counters.count_rx(1, frame.len() as u64, shard);
    // dev.c: `skb_vlan_untag`, which programs see the work of; then eth.c: `eth_type_trans`.
    frame.extract_vlan_tag();
    frame.meta.packet_type = packet_type(frame, device.address);
    frame.meta.protocol = eth_type(frame);
    let Some(ingress) = device.uplink.as_ref().map(|uplink| &uplink.ingress) else {
        return Received::Passed;
    };
    if ingress.is_empty() {
        return Received::Passed;
    }
    // Not nested in any transmission.
    clones.depth = 0;
    let at = Entry {
        depth: 0,
        ingress_ifindex: device.ifindex.0,
    };
    let surroundings = Surroundings::new(view, uplink, Hook::TcxIngress, at.ingress_ifindex, shard, clones);
    let mut context = Context { frame, surroundings };
    let action = action(run(ingress, &mut context), &mut context);
    let redirect = context.surroundings.into_redirect();
    match (action, redirect) {
        (Action::Pass, _) => Received::Passed,
        (Action::Drop(reason), _) => lost(reason),
        (Action::Redirect, Some(Redirect::Peer(target))) => {
            match redirect_peer(view, uplink, target, frame) {
                Ok(outcome) => Received::Outcome(outcome),
                Err(reason) => lost(reason),
            }
        }
        (Action::Redirect, redirect) => {
            Received::Outcome(follow(view, uplink, redirect, frame, clones, at, shard))
        }
    }
}

/// Takes a frame that passed [`receive`] and is for a device that leases a queue of the uplink. For a pair its primary
/// transmits the frame, so that the primary's programs see it; for a single there are none.
///
/// # Panics
/// If `shard` is not below the model's number of shards.
pub fn receive_leased(
    view: &View,
    uplink: Slot,
    device: Slot,
    frame: &mut Frame,
    clones: &mut Clones,
    shard: usize,
) -> Outcome {
    clones.clear();
    let lessee = view.device(device);
    if lessee.mode == Mode::L3
        && let Some(addresses) = frame.head_mut().get_mut(..12)
    {
        addresses.fill(0);
    }
    if let Some(primary) = lessee.peer {
        return transmit(view, primary, frame, clones, Entry::FIRST, shard);
    }
    if !lessee.up {
        view.device(uplink)
            .counters
            .count_silent_drop(DropReason::LesseeDown, shard);
        return Outcome::Dropped(DropReason::LesseeDown);
    }
    forward(lessee, frame);
    Outcome::Deliver(Delivery {
        receiver: device,
        sender: uplink,
        bytes: frame.len() as u64,
        way: Way::Inbound,
        queue: None,
    })
}

/// Transmits a frame on an uplink: runs its list, and then looks whether the NIC can send. The list runs first, also on a
/// device that is down, as in the kernel (dev.c: `__dev_queue_xmit`). `queue` is the NIC's, if the sender leases one.
pub(crate) fn send_out(
    view: &View,
    uplink: Slot,
    queue: Option<u16>,
    frame: &mut Frame,
    clones: &mut Clones,
    entry: Entry,
    shard: usize,
) -> Outcome {
    let device = view.device(uplink);
    let charged = |reason| {
        device.counters.count_tx_dropped(reason, shard);
        Outcome::Dropped(reason)
    };
    if !frame.pull(ETH_HLEN) {
        return charged(DropReason::Runt);
    }
    if !device.programs.is_empty() {
        // Before the driver's transmission, which alone takes a level.
        let at = Entry {
            depth: entry.depth - 1,
            ..entry
        };
        clones.depth = at.depth;
        let surroundings =
            Surroundings::new(view, uplink, Hook::TcxEgress, at.ingress_ifindex, shard, clones);
        let mut context = Context { frame, surroundings };
        let action = action(run(&device.programs, &mut context), &mut context);
        let redirect = context.surroundings.into_redirect();
        match action {
            Action::Pass => {}
            // The driver sees neither of them, and no counter of the device moves.
            Action::Redirect => {
                return follow(view, uplink, redirect, frame, clones, at, shard);
            }
            Action::Drop(reason) => {
                device.counters.count_silent_drop(reason, shard);
                return Outcome::Dropped(reason);
            }
        }
    }
    let running = device.uplink.as_ref().is_some_and(|uplink| uplink.running);
    if !(device.up && running) {
        // sch_generic.c: `noop_enqueue`, which a device without a carrier has too.
        return charged(DropReason::UplinkDown);
    }
    Outcome::Deliver(Delivery {
        receiver: uplink,
        sender: uplink,
        bytes: frame.len() as u64,
        way: Way::Wire,
        queue,
    })
}

/// What the code means that a list ended with (tcx.h: `tcx_action_code`). A code that it does not know is as good as NEXT:
/// no further program runs, and as no classifier comes after the list, the frame passes.
fn action(code: i32, context: &mut Context<'_>) -> Action {
    if let Some(reason) = context.refusal() {
        return Action::Drop(reason);
    }
    match code {
        verdict::DROP => Action::Drop(DropReason::ProgramDrop),
        verdict::REDIRECT => Action::Redirect,
        verdict::PASS => {
            context.frame.meta.tc_index = context.frame.meta.tc_classid as u16;
            Action::Pass
        }
        _ => Action::Pass,
    }
}
