//! What happens to a frame that a device transmits (netkit.c: `netkit_xmit`).

use std::sync::Arc;

use devices::packet::Frame;

use crate::program::{Hook, Redirect, Surroundings};
use crate::redirect::{Hop, do_redirect, enter, eth_type, packet_type, receive_on, to_neighbour};
use crate::tcx::send_out;
use crate::view::{Delivery, Slot, View, Way};
use crate::{Clones, Context, DeviceView, DropReason, Mode, NextHop, Policy, Program, Scrub, verdict};

/// Octets of an Ethernet header (`ETH_HLEN`).
pub const ETH_HLEN: usize = 14;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a delivery still has to be made"]
pub enum Outcome {
    /// Give the frame to a receiver, then tell the view whether it took it.
    Deliver(Delivery),
    /// The frame is gone, and counted.
    Dropped(DropReason),
}

/// What one device's transmission made of a frame.
enum Verdict {
    Pass {
        receiver: Slot,
        bytes: u64,
    },
    /// Out of an uplink, by a queue that the device leases.
    Leased {
        bytes: u64,
    },
    Redirect {
        receiver: Slot,
        bytes: u64,
    },
    Drop(DropReason),
    /// It has no other end.
    Alone,
}

/// Transmits a frame on a device: checks, scrubs, runs its programs and those of the devices that
/// they redirect to. Takes no lock and allocates nothing.
///
/// Copies that programs ask for are left in `clones`: send them with [`xmit_clone`] before the frame itself is delivered.
/// `shard` is the calling thread's own number.
///
/// # Panics
/// If `shard` is not below the model's number of shards.
pub fn xmit(view: &View, sender: Slot, frame: &mut Frame, clones: &mut Clones, shard: usize) -> Outcome {
    clones.clear();
    if frame.meta.protocol == 0 {
        frame.meta.protocol = eth_type(frame);
    }
    transmit(view, sender, frame, clones, Entry::FIRST, shard)
}

/// Where [`xmit`] delivers every frame of a device that has an Ethernet header at least, if that does not depend on the
/// frame: no program looks at it. What programs see of a frame is not set then, as nobody does.
#[inline]
pub fn straight(view: &View, sender: Slot) -> Option<Slot> {
    view.device(sender).straight
}

/// Transmits the next copy that a program asked for, which is put into `frame`. None if there is no more.
#[inline]
pub fn xmit_clone(view: &View, frame: &mut Frame, clones: &mut Clones, shard: usize) -> Option<Outcome> {
    if clones.is_empty() {
        return None;
    }
    send_clone(view, frame, clones, shard)
}

fn send_clone(view: &View, frame: &mut Frame, clones: &mut Clones, shard: usize) -> Option<Outcome> {
    let pending = clones.take(frame)?;
    let (from, redirect) = (pending.receiver, Some(pending.redirect));
    let at = Entry {
        depth: pending.depth,
        ingress_ifindex: pending.ingress_ifindex,
    };
    Some(follow(view, from, redirect, frame, clones, at, shard))
}

/// Follows a frame that a program asked to redirect, elsewhere than in a netkit list: on an uplink, or a copy. `from` and
/// `at` are where the program ran.
pub(crate) fn follow(
    view: &View,
    from: Slot,
    redirect: Option<Redirect>,
    frame: &mut Frame,
    clones: &mut Clones,
    at: Entry,
    shard: usize,
) -> Outcome {
    match do_redirect(view, from, frame, redirect, at.depth) {
        Ok(Hop::Egress(target)) => match enter(view, target, frame, at.depth, shard) {
            Ok(depth) => transmit(view, target, frame, clones, Entry { depth, ..at }, shard),
            Err(reason) => Outcome::Dropped(reason),
        },
        Ok(Hop::Ingress(target)) => receive_on(view, from, target, frame),
        Err(reason) => {
            view.device(from).counters.count_silent_drop(reason, shard);
            Outcome::Dropped(reason)
        }
    }
}

/// How a frame comes to a device that is to transmit it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// How deep a netkit driver's transmission is nested then; an uplink's list runs one level above.
    pub depth: u32,
    /// The ifindex of the uplink on which the frame arrived (`skb->skb_iif`).
    pub ingress_ifindex: u32,
}

impl Entry {
    /// From a guest.
    pub const FIRST: Entry = Entry {
        depth: 1,
        ingress_ifindex: 0,
    };
}

/// Follows a frame from a device to where it is delivered or dropped.
pub(crate) fn transmit(
    view: &View,
    mut sender: Slot,
    frame: &mut Frame,
    clones: &mut Clones,
    mut entry: Entry,
    shard: usize,
) -> Outcome {
    let mut redirect = None;
    loop {
        clones.depth = entry.depth;
        let device = view.device(sender);
        // The core, not the driver, keeps a device that is down from transmitting (sch_generic.c: `noop_enqueue`).
        if !device.up && device.uplink.is_none() {
            view.count_drop(sender, DropReason::SenderDown, shard);
            return Outcome::Dropped(DropReason::SenderDown);
        }
        let receiver = match netkit_xmit(view, sender, frame, &mut redirect, clones, shard) {
            Verdict::Pass { receiver, bytes } => {
                return Outcome::Deliver(Delivery {
                    receiver,
                    sender,
                    bytes,
                    way: Way::Pair,
                    queue: None,
                });
            }
            Verdict::Drop(reason) => {
                view.count_drop(sender, reason, shard);
                return Outcome::Dropped(reason);
            }
            Verdict::Redirect { receiver, bytes } => {
                // Counted before the attempt, whose result netkit ignores.
                device.counters.count_tx(1, bytes, shard);
                entry.ingress_ifindex = 0;
                receiver
            }
            Verdict::Leased { bytes } => return leave(view, sender, bytes, frame, clones, entry, shard),
            Verdict::Alone => return without_peer(view, sender, frame, clones, entry, shard),
        };
        match do_redirect(view, receiver, frame, redirect.take(), entry.depth) {
            Ok(Hop::Egress(target)) => {
                match enter(view, target, frame, entry.depth, shard) {
                    Ok(depth) => entry.depth = depth,
                    Err(reason) => return Outcome::Dropped(reason),
                }
                sender = target;
            }
            Ok(Hop::Ingress(receiver)) => return receive_on(view, sender, receiver, frame),
            Err(reason) => {
                view.device(sender).counters.count_silent_drop(reason, shard);
                return Outcome::Dropped(reason);
            }
        }
    }
}

/// One device's part: everything up to the switch over the verdict.
fn netkit_xmit(
    view: &View,
    sender: Slot,
    frame: &mut Frame,
    redirect: &mut Option<Redirect>,
    clones: &mut Clones,
    shard: usize,
) -> Verdict {
    let device = view.device(sender);
    let bytes = frame.len() as u64;
    let Some(receiver) = device.peer else {
        return Verdict::Alone;
    };
    let peer = view.device(receiver);
    if !peer.up {
        return Verdict::Drop(DropReason::PeerDown);
    }
    if !frame.pull(ETH_HLEN) {
        return Verdict::Drop(DropReason::Runt);
    }
    prep_forward(device, frame);
    frame.meta.packet_type = packet_type(frame, peer.address);
    if device.programs.is_empty() {
        return match device.policy {
            _ if device.straight.is_some() => Verdict::Pass { receiver, bytes },
            Policy::Forward => pass(device, receiver, bytes),
            Policy::Blackhole => Verdict::Drop(DropReason::PolicyBlackhole),
        };
    }
    let surroundings = Surroundings::new(view, receiver, Hook::Netkit, 0, shard, clones);
    let mut context = Context { frame, surroundings };
    let code = run(&device.programs, &mut context);
    if let Some(reason) = context.refusal() {
        return Verdict::Drop(reason);
    }
    *redirect = context.surroundings.into_redirect();
    match code {
        verdict::NEXT | verdict::PASS => pass(device, receiver, bytes),
        verdict::REDIRECT => Verdict::Redirect { receiver, bytes },
        verdict::DROP => Verdict::Drop(DropReason::ProgramDrop),
        _ => Verdict::Drop(DropReason::UnknownVerdict),
    }
}

/// To the other end, or out by a queue that the device leases.
#[inline]
fn pass(device: &DeviceView, receiver: Slot, bytes: u64) -> Verdict {
    match device.lease {
        None => Verdict::Pass { receiver, bytes },
        Some(_) => Verdict::Leased { bytes },
    }
}

/// What a device without another end transmits: an uplink, or a single, which runs no programs. Kept out of the way of the
/// frames of pairs.
#[inline(never)]
fn without_peer(
    view: &View,
    sender: Slot,
    frame: &mut Frame,
    clones: &mut Clones,
    entry: Entry,
    shard: usize,
) -> Outcome {
    let device = view.device(sender);
    if device.uplink.is_some() {
        return send_out(view, sender, None, frame, clones, entry, shard);
    }
    let reason = if device.lease.is_none() {
        DropReason::NoPeer
    } else if !frame.pull(ETH_HLEN) {
        DropReason::Runt
    } else {
        prep_forward(device, frame);
        let bytes = frame.len() as u64;
        return leave(view, sender, bytes, frame, clones, entry, shard);
    };
    view.count_drop(sender, reason, shard);
    Outcome::Dropped(reason)
}

/// Sends what a device passed out of the uplink by a queue that it leases. A frame of an L3 device has no Ethernet
/// addresses, so it gets those of its next hop.
#[inline(never)]
fn leave(
    view: &View,
    sender: Slot,
    bytes: u64,
    frame: &mut Frame,
    clones: &mut Clones,
    entry: Entry,
    shard: usize,
) -> Outcome {
    let device = view.device(sender);
    let Some(lease) = &device.lease else {
        view.count_drop(sender, DropReason::NoPeer, shard);
        return Outcome::Dropped(DropReason::NoPeer);
    };
    let uplink = view.device(lease.uplink);
    if device.mode == Mode::L3 && to_neighbour(uplink, frame, NextHop::FromFrame).is_none() {
        view.count_drop(sender, DropReason::NeighbourUnknown, shard);
        return Outcome::Dropped(DropReason::NeighbourUnknown);
    }
    // As with a redirect: what becomes of it further on is the uplink's to count.
    device.counters.count_tx(1, bytes, shard);
    let queue = lease.queue(frame);
    let entry = Entry {
        depth: entry.depth + 1,
        ingress_ifindex: 0,
    };
    send_out(view, lease.uplink, queue, frame, clones, entry, shard)
}

/// Runs a list until a program returns anything but NEXT (netkit.c: `netkit_run`; dev.c: `tcx_run`).
#[inline]
pub(crate) fn run(programs: &[Arc<dyn Program>], context: &mut Context<'_>) -> i32 {
    for program in programs {
        let code = program.run(context);
        if code != verdict::NEXT || context.refusal().is_some() {
            return code;
        }
    }
    verdict::NEXT
}

/// Clears what a frame must not carry into another domain; the sender's scrub says how much
/// (netkit.c: `netkit_prep_forward`, `netkit_xnet`).
fn prep_forward(device: &DeviceView, frame: &mut Frame) {
    if !device.crosses_domains {
        return;
    }
    frame.meta.tstamp = 0;
    if device.scrub == Scrub::Default {
        frame.meta.priority = 0;
        frame.meta.mark = 0;
    }
}
