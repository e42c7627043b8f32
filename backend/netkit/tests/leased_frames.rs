//! Frames of devices that lease a NIC's queues: they leave and arrive by those, and programs see them as they see others.

mod common;

use std::sync::Arc;

use common::traffic::*;
use common::uplink::*;
use common::*;
use devices::packet::{Frame, MacAddress, Metadata, PacketType, flow_hash};
use netkit::{
    AttachType, Clones, Delivery, DropReason, Ifindex, Mode, Neighbour, Outcome, Received, Route, Statistics,
    Target, Way, receive, receive_leased, straight, verdict, xmit,
};

const OUTSIDE: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

fn attach(host: &mut Host, ifindex: Ifindex, attach_type: AttachType, program: &Arc<Tc>) {
    let target = Target::new(ifindex, attach_type);
    host.model
        .prog_attach(target, &dynamic(program), &first())
        .unwrap();
}

fn on_egress(host: &mut Host, program: &Arc<Tc>) {
    attach(host, host.nic, AttachType::TcxEgress, program);
}

fn statistics<const N: usize>(host: &Host, devices: [Ifindex; N]) -> [Statistics; N] {
    devices.map(|device| host.model.statistics(device).unwrap())
}

/// A frame leaves by a device, and is taken by whom it is for.
fn leaves(host: &Host, sender: Ifindex, octets: &[u8]) -> (Outcome, Frame) {
    let view = host.model.view();
    let mut frame = Frame::from_octets(octets);
    let outcome = xmit(&view, slot(&view, sender), &mut frame, &mut Clones::default(), 0);
    if let Outcome::Deliver(delivery) = &outcome {
        view.delivered(delivery, 1, 0);
    }
    (outcome, frame)
}

/// A frame arrives at a leased queue of the NIC, passes, and is taken by whom it is for.
fn arrives(host: &Host, lessee: Ifindex, octets: &[u8]) -> (Outcome, Frame) {
    let view = host.model.view();
    let mut frame = Frame::from_octets(octets);
    let (nic, mut clones) = (slot(&view, host.nic), Clones::default());
    let received = receive(&view, nic, &mut frame, &mut clones, 0);
    assert_eq!(received, Received::Passed);
    let outcome = receive_leased(&view, nic, slot(&view, lessee), &mut frame, &mut clones, 0);
    if let Outcome::Deliver(delivery) = &outcome {
        view.delivered(delivery, 1, 0);
    }
    (outcome, frame)
}

fn frame() -> Vec<u8> {
    ethernet(OUTSIDE, ETH_P_IP, LEN as usize)
}

/// Who gets a frame, how, and by which queue.
fn delivered(host: &Host, outcome: Outcome) -> (Ifindex, Way, Option<u16>) {
    let Delivery {
        receiver, way, queue, ..
    } = deliver(outcome);
    (host.model.view().device(receiver).ifindex, way, queue)
}

#[test]
fn what_a_lessee_sends_leaves_by_its_queue() {
    let mut host = Host::new(4);
    let (primary, guest) = host.pair(2);
    let single = host.single(2);
    host.lease(guest, 3).unwrap();
    host.lease(single, 2).unwrap();
    for (lessee, queue) in [(guest, 3), (single, 2)] {
        let (outcome, _) = leaves(&host, lessee, &frame());
        assert_eq!(delivered(&host, outcome), (host.nic, Way::Wire, Some(queue)));
        assert_eq!(statistics(&host, [lessee]), [sent(1)]);
    }
    assert_eq!(
        statistics(&host, [host.nic, primary]),
        [sent(2), Statistics::default()]
    );
    let view = host.model.view();
    assert_eq!(straight(&view, slot(&view, guest)), None);
    // What the primary sends is for the guest as ever, and so is the way there.
    assert_eq!(straight(&view, slot(&view, primary)), Some(slot(&view, guest)));
    let (outcome, _) = leaves(&host, primary, &frame());
    assert_eq!(delivered(&host, outcome), (guest, Way::Pair, None));
}

/// A frame that does not leave by a lease has no queue of its own.
#[test]
fn other_frames_leave_by_any_queue() {
    let mut host = Host::new(2);
    let (outcome, _) = leaves(&host, host.nic, &frame());
    assert_eq!(delivered(&host, outcome), (host.nic, Way::Wire, None));
    let single = host.single(2);
    let (outcome, _) = leaves(&host, single, &frame());
    assert_eq!(outcome, Outcome::Dropped(DropReason::NoPeer));
    host.lease(single, 1).unwrap();
    host.model.set_nic(host.nic, nic(1)).unwrap();
    let (outcome, _) = leaves(&host, single, &frame());
    assert_eq!(
        delivered(&host, outcome),
        (host.nic, Way::Wire, None),
        "its queue is gone"
    );
}

#[test]
fn the_frames_of_a_flow_share_one_of_several_queues() {
    let mut host = Host::new(4);
    let (_, guest) = host.pair(4);
    for queue in [3, 1, 2] {
        host.lease(guest, queue).unwrap();
    }
    let mut used = [0; 4];
    for port in 0..64 {
        let mut octets = ipv4([10, 0, 0, 1]);
        octets[..6].copy_from_slice(&OUTSIDE.0);
        octets[34] = port;
        let queues: Vec<_> = (0..2)
            .map(|_| delivered(&host, leaves(&host, guest, &octets).0).2.unwrap())
            .collect();
        assert_eq!(queues[0], queues[1]);
        let expected = [3, 1, 2][flow_hash(&Frame::from_octets(&octets)) as usize % 3];
        assert_eq!(queues[0], expected);
        used[usize::from(queues[0])] += 1;
    }
    assert!(
        used[0] == 0 && used[1..].iter().all(|count| *count > 8),
        "{used:?}"
    );
}

#[test]
fn programs_see_what_leaves_by_a_lease() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    let seen = Tc::new(|context| {
        // Between the two domains, as on the way to the primary.
        assert_eq!((context.frame.meta.mark, context.ingress_ifindex()), (0, 0));
        verdict::NEXT
    });
    attach(&mut host, primary, AttachType::Peer, &seen);
    on_egress(&mut host, &seen);
    let view = host.model.view();
    let mut marked = Frame::from_octets(&frame());
    marked.meta.mark = 42;
    let outcome = xmit(&view, slot(&view, guest), &mut marked, &mut Clones::default(), 0);
    assert_eq!(delivered(&host, outcome), (host.nic, Way::Wire, Some(1)));
    assert_eq!(seen.take_runs(), 2);

    on_egress(&mut host, &Tc::code(verdict::DROP));
    assert_eq!(
        leaves(&host, guest, &frame()).0,
        Outcome::Dropped(DropReason::ProgramDrop)
    );
    assert_eq!(
        host.model.drops(host.nic).unwrap(),
        [(DropReason::ProgramDrop, 1)]
    );
    assert_eq!(host.model.drops(guest).unwrap(), [], "it has sent the frame");
    attach(&mut host, primary, AttachType::Peer, &Tc::code(verdict::DROP));
    assert_eq!(
        leaves(&host, guest, &frame()).0,
        Outcome::Dropped(DropReason::ProgramDrop)
    );
    assert_eq!(host.model.drops(guest).unwrap(), [(DropReason::ProgramDrop, 1)]);
    // A redirect goes where it says.
    let back = Tc::new(move |context| context.redirect(primary.0, 1));
    attach(&mut host, primary, AttachType::Peer, &back);
    let (outcome, _) = leaves(&host, guest, &frame());
    assert_eq!(delivered(&host, outcome), (primary, Way::Ingress, None));
}

#[test]
fn what_arrives_for_a_pair_runs_the_primary_s_list() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    let list = Tc::code(verdict::NEXT);
    attach(&mut host, primary, AttachType::Primary, &list);
    let address = host.model.device(guest).unwrap().address;
    let (outcome, frame) = arrives(&host, guest, &ethernet(address, ETH_P_IP, 60));
    assert_eq!(delivered(&host, outcome), (guest, Way::Pair, None));
    assert_eq!(frame.meta.packet_type, PacketType::Host);
    assert_eq!(
        statistics(&host, [host.nic, primary, guest]),
        [received(1), sent(1), received(1)]
    );
    assert_eq!(list.take_runs(), 1);
    attach(&mut host, primary, AttachType::Primary, &Tc::code(verdict::DROP));
    let (outcome, _) = arrives(&host, guest, &ethernet(address, ETH_P_IP, 60));
    assert_eq!(outcome, Outcome::Dropped(DropReason::ProgramDrop));
    host.model.set_up(guest, false).unwrap();
    let (outcome, _) = arrives(&host, guest, &ethernet(address, ETH_P_IP, 60));
    assert_eq!(outcome, Outcome::Dropped(DropReason::PeerDown));
}

#[test]
fn what_arrives_for_a_single_is_delivered_to_it() {
    let mut host = Host::new(2);
    let single = host.single(2);
    host.lease(single, 1).unwrap();
    let address = host.model.device(single).unwrap().address;
    let (outcome, frame) = arrives(&host, single, &ethernet(address, ETH_P_ARP, 60));
    assert_eq!(delivered(&host, outcome), (single, Way::Inbound, None));
    let meta = Metadata {
        packet_type: PacketType::Host,
        protocol: ETH_P_ARP,
        ..Default::default()
    };
    assert_eq!(frame.meta, meta);
    assert_eq!(statistics(&host, [host.nic, single]), [received(1), received(1)]);
    host.model.set_up(single, false).unwrap();
    let (outcome, _) = arrives(&host, single, &ethernet(address, ETH_P_ARP, 60));
    assert_eq!(outcome, Outcome::Dropped(DropReason::LesseeDown));
    assert_eq!(host.model.drops(host.nic).unwrap(), [(DropReason::LesseeDown, 1)]);
    assert_eq!(statistics(&host, [host.nic, single]), [received(2), received(1)]);
}

#[test]
fn a_lessee_or_its_uplink_that_is_down_sends_nothing() {
    let mut host = Host::new(2);
    let single = host.single(2);
    host.lease(single, 1).unwrap();
    assert_eq!(
        leaves(&host, single, &frame()[..13]).0,
        Outcome::Dropped(DropReason::Runt)
    );
    host.model.set_up(host.nic, false).unwrap();
    assert_eq!(
        leaves(&host, single, &frame()).0,
        Outcome::Dropped(DropReason::UplinkDown)
    );
    assert_eq!(statistics(&host, [host.nic]), [dropped(1)]);
    host.model.set_up(single, false).unwrap();
    assert_eq!(
        leaves(&host, single, &frame()).0,
        Outcome::Dropped(DropReason::SenderDown)
    );
    let counted = Statistics {
        tx_dropped: 2,
        ..sent(1)
    };
    assert_eq!(statistics(&host, [single]), [counted]);
}

/// A single has no list, but what leaves its domain is scrubbed all the same.
#[test]
fn a_single_in_another_domain_is_scrubbed() {
    for (domain, mark) in [("host", 42), ("guest", 0)] {
        let mut host = Host::new(2);
        let single = host.single(2);
        host.model.set_domain(single, domain).unwrap();
        host.lease(single, 1).unwrap();
        let view = host.model.view();
        let mut marked = Frame::from_octets(&frame());
        marked.meta.mark = 42;
        let outcome = xmit(&view, slot(&view, single), &mut marked, &mut Clones::default(), 0);
        assert_eq!(delivered(&host, outcome).1, Way::Wire);
        assert_eq!(marked.meta.mark, mark, "{domain}");
    }
}

/// A guest in L3 mode has no Ethernet: its frames get the next hop's address on the way out, and lose theirs on the way in.
#[test]
fn an_l3_lessee_has_no_addresses() {
    let mut host = Host::new(2);
    let created = host.pair_in(Mode::L3, 2, "guest");
    let guest = created.peer.unwrap();
    host.lease(guest, 1).unwrap();
    let packet = ipv4([192, 0, 2, 1]);
    assert_eq!(
        leaves(&host, guest, &packet).0,
        Outcome::Dropped(DropReason::NeighbourUnknown)
    );
    assert_eq!(
        statistics(&host, [guest, host.nic]),
        [dropped(1), Statistics::default()]
    );
    let (nic, gateway) = (host.nic, "10.0.0.1".parse().unwrap());
    host.model.change_routing(&domain("host"), |routing| {
        routing.set_route(Route {
            destination: "0.0.0.0".parse().unwrap(),
            length: 0,
            via: Some(gateway),
            device: nic,
            source: None,
            mtu: None,
            metric: 0,
        });
        routing.set_neighbour(Neighbour {
            address: gateway,
            device: nic,
            lladdr: OUTSIDE,
        });
    });
    let (outcome, frame) = leaves(&host, guest, &packet);
    assert_eq!(delivered(&host, outcome), (nic, Way::Wire, Some(1)));
    assert_eq!((frame.destination(), frame.source()), (Some(OUTSIDE), Some(NIC)));
    assert_eq!(frame.to_vec()[14..], packet[14..]);

    let mut inbound = packet;
    inbound[..6].copy_from_slice(&NIC.0);
    inbound[6..12].copy_from_slice(&OUTSIDE.0);
    let (outcome, frame) = arrives(&host, guest, &inbound);
    assert_eq!(delivered(&host, outcome), (guest, Way::Pair, None));
    assert_eq!(frame.meta.packet_type, PacketType::Host);
    assert_eq!(frame.to_vec()[..12], [0; 12]);
}
