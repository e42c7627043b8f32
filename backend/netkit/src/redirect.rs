//! Where a redirect leads (filter.c: `skb_do_redirect`).

use devices::packet::{Frame, MacAddress, PacketType};

use crate::program::Redirect;
use crate::view::{Delivery, Slot, View, Way};
use crate::{DeviceKind, DeviceView, DropReason, ETH_HLEN, Ifindex, Mode, NextHop, Outcome, routing};

/// How deep transmissions may nest (dev.h: `XMIT_RECURSION_LIMIT`).
const XMIT_RECURSION_LIMIT: u32 = 8;
/// What a redirect adds to the depth: one level for the redirect, one for the transmission that
/// follows (filter.c: `__bpf_tx_skb`; dev.c: `__dev_queue_xmit`).
const REDIRECT_DEPTH: u32 = 2;

/// What a redirect leads to.
pub(crate) enum Hop {
    /// This device transmits the frame in turn.
    Egress(Slot),
    /// This device receives it.
    Ingress(Slot),
}

/// Where a redirect leads: to a device in the receiver's domain, which has to be up to receive
/// (filter.c: `skb_do_redirect`, `__bpf_tx_skb`, `__bpf_rx_skb`).
pub(crate) fn do_redirect(
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
        // What a NIC receives goes to the host in the kernel, to whom it belongs here: nothing is behind an uplink.
        Some(Redirect::Ingress(ifindex)) => match target(ifindex)? {
            target if view.device(target).up && view.device(target).uplink.is_none() => {
                Ok(Hop::Ingress(target))
            }
            _ => Err(DropReason::RedirectFailed),
        },
        Some(Redirect::Peer(_)) | None => Err(DropReason::RedirectFailed),
    }
}

/// Puts the Ethernet header of a next hop on a frame (filter.c: `__bpf_redirect_neigh`). None if there is no route or
/// neighbour, or the frame is not an IP packet.
pub(crate) fn to_neighbour(target: &DeviceView, frame: &mut Frame, next_hop: NextHop) -> Option<()> {
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

/// Prepares a frame for the device that is to transmit it, on behalf of a program that ran at `depth`. Returns how deep
/// that transmission is nested. A device without a queue of its own looks at that again, and is charged (dev.c:
/// `__dev_queue_xmit`, "Dead loop on virtual device"); it comes to that only where an uplink's list ran on the way.
pub(crate) fn enter(
    view: &View,
    target: Slot,
    frame: &mut Frame,
    depth: u32,
    shard: usize,
) -> Result<u32, DropReason> {
    // What a frame loses on the way (filter.c: `__bpf_tx_skb`; dev.c: `netdev_core_pick_tx`, for a device with one
    // transmit queue).
    frame.meta.tstamp = 0;
    frame.meta.queue_mapping = 0;
    let depth = depth + REDIRECT_DEPTH;
    if depth > XMIT_RECURSION_LIMIT + 1 && view.device(target).kind() == DeviceKind::Netkit {
        view.count_drop(target, DropReason::RedirectLoop, shard);
        return Err(DropReason::RedirectLoop);
    }
    Ok(depth)
}

/// A redirect with `BPF_F_INGRESS`: the target receives the frame.
pub(crate) fn receive_on(view: &View, sender: Slot, receiver: Slot, frame: &mut Frame) -> Outcome {
    forward(view.device(receiver), frame);
    Outcome::Deliver(Delivery {
        receiver,
        sender,
        bytes: frame.len() as u64,
        way: Way::Ingress,
        queue: None,
    })
}

/// A redirect with `bpf_redirect_peer`, from a program at tc ingress of `uplink`: the target's other end receives the
/// frame at once, without any program of the pair, if it is up and in another domain than the uplink.
pub(crate) fn redirect_peer(
    view: &View,
    uplink: Slot,
    target: Ifindex,
    frame: &mut Frame,
) -> Result<Outcome, DropReason> {
    let domain = &view.device(uplink).domain;
    let target = view.slot(target).map(|target| view.device(target));
    let target = target.filter(|target| target.domain == *domain);
    let peer = target.and_then(|target| target.peer);
    let can_receive = |peer: &Slot| {
        let peer = view.device(*peer);
        peer.up && peer.domain != *domain
    };
    let receiver = peer.filter(can_receive).ok_or(DropReason::RedirectFailed)?;
    // skbuff.c: `skb_scrub_packet`, within one namespace: mark, priority and time stamp stay.
    frame.meta.packet_type = PacketType::Host;
    Ok(Outcome::Deliver(Delivery {
        receiver,
        sender: uplink,
        bytes: frame.len() as u64,
        way: Way::Inbound,
        queue: None,
    }))
}

/// Makes a frame look as if `target` had received it from a wire (netdevice.h: `____dev_forward_skb`;
/// eth.c: `eth_type_trans`).
pub(crate) fn forward(target: &DeviceView, frame: &mut Frame) {
    frame.meta.priority = 0;
    frame.meta.packet_type = packet_type(frame, target.address);
    frame.meta.protocol = eth_type(frame);
}

/// Who a frame is addressed to, seen from a receiver (eth.c: `eth_skb_pkt_type`).
pub(crate) fn packet_type(frame: &Frame, receiver: MacAddress) -> PacketType {
    match frame.destination() {
        Some(destination) if destination == receiver => PacketType::Host,
        Some(MacAddress::BROADCAST) => PacketType::Broadcast,
        Some(destination) if destination.is_multicast() => PacketType::Multicast,
        _ => PacketType::OtherHost,
    }
}

/// The EtherType that the stack of a sender would have set (eth.c: `eth_type_trans`).
pub(crate) fn eth_type(frame: &mut Frame) -> u16 {
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
