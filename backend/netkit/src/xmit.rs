//! What happens to a frame that a device transmits (netkit.c: `netkit_xmit`).

use devices::packet::{Frame, MacAddress, PacketType};

use crate::program::{Redirect, Surroundings};
use crate::view::{Delivery, Slot, View};
use crate::{
    Clones, Context, DeviceView, DropReason, Ifindex, Mode, NextHop, Policy, Scrub, routing, verdict,
};

/// Octets of an Ethernet header (`ETH_HLEN`).
pub const ETH_HLEN: usize = 14;

/// How deep transmissions may nest (dev.h: `XMIT_RECURSION_LIMIT`).
const XMIT_RECURSION_LIMIT: u32 = 8;
/// What a redirect adds to the depth: one level for the redirect, one for the transmission that
/// follows (filter.c: `__bpf_tx_skb`; dev.c: `__dev_queue_xmit`).
const REDIRECT_DEPTH: u32 = 2;

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
    Pass { receiver: Slot, bytes: u64 },
    Redirect { receiver: Slot, bytes: u64 },
    Drop(DropReason),
}

/// What a redirect leads to.
enum Hop {
    /// This device transmits the frame in turn.
    Egress(Slot),
    /// This device receives it.
    Ingress(Slot),
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
    transmit(view, sender, frame, clones, 1, shard)
}

/// Where [`xmit`] delivers every frame of a device that has an Ethernet header at least, if that does not depend on the
/// frame: no program looks at it. What programs see of a frame is not set then, as nobody does.
pub fn straight(view: &View, sender: Slot) -> Option<Slot> {
    let device = view.device(sender);
    let receiver = device.peer?;
    let passes = device.programs.is_empty() && device.policy == Policy::Forward;
    (passes && device.up && view.device(receiver).up).then_some(receiver)
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
    let (receiver, redirect, depth) = clones.take(frame)?;
    Some(match do_redirect(view, receiver, frame, Some(redirect), depth) {
        Ok(Hop::Egress(target)) => {
            queue(frame);
            transmit(view, target, frame, clones, depth + REDIRECT_DEPTH, shard)
        }
        Ok(Hop::Ingress(target)) => receive(view, receiver, target, frame),
        Err(reason) => {
            view.device(receiver).counters.count_silent_drop(reason, shard);
            Outcome::Dropped(reason)
        }
    })
}

/// Follows a frame from a device to where it is delivered or dropped.
fn transmit(
    view: &View,
    mut sender: Slot,
    frame: &mut Frame,
    clones: &mut Clones,
    mut depth: u32,
    shard: usize,
) -> Outcome {
    let mut redirect = None;
    loop {
        clones.depth = depth;
        // The core, not the driver, keeps a device that is down from transmitting (sch_generic.c: `noop_enqueue`).
        if !view.device(sender).up {
            view.count_drop(sender, DropReason::SenderDown, shard);
            return Outcome::Dropped(DropReason::SenderDown);
        }
        let receiver = match netkit_xmit(view, sender, frame, &mut redirect, clones, shard) {
            Verdict::Pass { receiver, bytes } => {
                return Outcome::Deliver(Delivery {
                    receiver,
                    sender,
                    bytes,
                    ingress: false,
                });
            }
            Verdict::Drop(reason) => {
                view.count_drop(sender, reason, shard);
                return Outcome::Dropped(reason);
            }
            Verdict::Redirect { receiver, bytes } => {
                // Counted before the attempt, whose result netkit ignores.
                view.device(sender).counters.count_tx(1, bytes, shard);
                receiver
            }
        };
        match do_redirect(view, receiver, frame, redirect.take(), depth) {
            Ok(Hop::Egress(target)) => {
                depth += REDIRECT_DEPTH;
                queue(frame);
                sender = target;
            }
            Ok(Hop::Ingress(receiver)) => return receive(view, sender, receiver, frame),
            Err(reason) => {
                view.device(sender).counters.count_silent_drop(reason, shard);
                return Outcome::Dropped(reason);
            }
        }
    }
}

/// What a frame loses on the way to the device that it is redirected to (filter.c: `__bpf_tx_skb`; dev.c:
/// `netdev_core_pick_tx`, for a device with one transmit queue).
fn queue(frame: &mut Frame) {
    frame.meta.tstamp = 0;
    frame.meta.queue_mapping = 0;
}

/// A redirect with `BPF_F_INGRESS`: the target receives the frame.
fn receive(view: &View, sender: Slot, receiver: Slot, frame: &mut Frame) -> Outcome {
    forward(view.device(receiver), frame);
    Outcome::Deliver(Delivery {
        receiver,
        sender,
        bytes: frame.len() as u64,
        ingress: true,
    })
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
        return Verdict::Drop(DropReason::NoPeer);
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
            Policy::Forward => Verdict::Pass { receiver, bytes },
            Policy::Blackhole => Verdict::Drop(DropReason::PolicyBlackhole),
        };
    }
    let surroundings = Surroundings::new(view, receiver, shard, redirect.take(), clones);
    let mut context = Context { frame, surroundings };
    let code = run(device, &mut context);
    if let Some(reason) = context.refusal() {
        return Verdict::Drop(reason);
    }
    *redirect = context.surroundings.into_redirect();
    match code {
        verdict::NEXT | verdict::PASS => Verdict::Pass { receiver, bytes },
        verdict::REDIRECT => Verdict::Redirect { receiver, bytes },
        verdict::DROP => Verdict::Drop(DropReason::ProgramDrop),
        _ => Verdict::Drop(DropReason::UnknownVerdict),
    }
}

/// Runs the list until a program returns anything but NEXT (netkit.c: `netkit_run`).
fn run(device: &DeviceView, context: &mut Context<'_>) -> i32 {
    for program in device.programs.iter() {
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

/// Where a redirect leads: to a device in the receiver's domain, which has to be up to receive
/// (filter.c: `skb_do_redirect`, `__bpf_tx_skb`, `__bpf_rx_skb`).
fn do_redirect(
    view: &View,
    receiver: Slot,
    frame: &mut Frame,
    redirect: Option<Redirect>,
    depth: u32,
) -> Result<Hop, DropReason> {
    let domain = &view.device(receiver).domain;
    let reachable = |target: &Slot| view.device(*target).domain == *domain;
    let target = |ifindex: Ifindex| {
        view.slot(ifindex)
            .filter(reachable)
            .ok_or(DropReason::RedirectFailed)
    };
    let egress = |target| match depth > XMIT_RECURSION_LIMIT {
        true => Err(DropReason::RedirectLoop),
        false => Ok(Hop::Egress(target)),
    };
    match redirect {
        Some(Redirect::Egress(ifindex)) => egress(target(ifindex)?),
        Some(Redirect::Neighbour(ifindex, next_hop)) => {
            let target = target(ifindex)?;
            to_neighbour(view.device(target), frame, next_hop).ok_or(DropReason::NeighbourUnknown)?;
            egress(target)
        }
        Some(Redirect::Ingress(ifindex)) => match target(ifindex)? {
            target if view.device(target).up => Ok(Hop::Ingress(target)),
            _ => Err(DropReason::RedirectFailed),
        },
        Some(Redirect::Peer) | None => Err(DropReason::RedirectFailed),
    }
}

/// Puts the Ethernet header of a next hop on a frame (filter.c: `__bpf_redirect_neigh`). None if there is no route or
/// neighbour, or the frame is not an IP packet.
fn to_neighbour(target: &DeviceView, frame: &mut Frame, next_hop: NextHop) -> Option<()> {
    let address = match next_hop {
        NextHop::Address(address) => address,
        NextHop::FromFrame => {
            let destination = routing::destination(frame)?;
            let route = target.routing.route_on(destination, target.ifindex)?;
            route.via.unwrap_or(destination)
        }
    };
    let source = target.address;
    let destination = match target.mode {
        Mode::L2 => target.routing.neighbour(target.ifindex, address)?,
        Mode::L3 => MacAddress::default(),
    };
    let protocol: u16 = if routing::destination(frame)?.is_ipv4() {
        0x0800
    } else {
        0x86dd
    };
    let header = frame.head_mut().first_chunk_mut::<ETH_HLEN>()?;
    header[..6].copy_from_slice(&destination.0);
    header[6..12].copy_from_slice(&source.0);
    header[12..].copy_from_slice(&protocol.to_be_bytes());
    Some(())
}

/// Makes a frame look as if `target` had received it from a wire (netdevice.h: `____dev_forward_skb`;
/// eth.c: `eth_type_trans`).
fn forward(target: &DeviceView, frame: &mut Frame) {
    frame.meta.priority = 0;
    frame.meta.packet_type = packet_type(frame, target.address);
    frame.meta.protocol = eth_type(frame);
}

/// Who a frame is addressed to, seen from a receiver (eth.c: `eth_skb_pkt_type`).
fn packet_type(frame: &Frame, receiver: MacAddress) -> PacketType {
    match frame.destination() {
        Some(destination) if destination == receiver => PacketType::Host,
        Some(MacAddress::BROADCAST) => PacketType::Broadcast,
        Some(destination) if destination.is_multicast() => PacketType::Multicast,
        _ => PacketType::OtherHost,
    }
}

/// The EtherType that the stack of a sender would have set (eth.c: `eth_type_trans`).
fn eth_type(frame: &mut Frame) -> u16 {
    const ETH_P_802_3_MIN: u16 = 0x0600;
    const ETH_P_802_3: u16 = 0x0001;
    const ETH_P_802_2: u16 = 0x0004;
    // Novell's raw 802.3 has a checksum of ones where other frames have a protocol.
    frame.pull(ETH_HLEN + 2);
    match frame.head() {
        [_, _, _, _, _, _, _, _, _, _, _, _, high, low, payload @ ..] => {
            match u16::from_be_bytes([*high, *low]) {
                protocol if protocol >= ETH_P_802_3_MIN => protocol,
                _ if payload.starts_with(&[0xff, 0xff]) => ETH_P_802_3,
                _ => ETH_P_802_2,
            }
        }
        _ => 0,
    }
}
