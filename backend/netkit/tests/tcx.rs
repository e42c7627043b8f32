//! What an uplink makes of frames that arrive at it and of those that leave through it, as Linux 6.12's dev.c and filter.c
//! have it.

mod common;

use std::sync::{Arc, Mutex};

use common::traffic::*;
use common::uplink::*;
use common::*;
use devices::packet::{Frame, MacAddress, Metadata, PacketType, VlanTag};
use netkit::{
    AttachType, Clones, Delivery, DropReason, Hook, Ifindex, Mode, Neighbour, NextHop, NicState, Outcome,
    Received, Statistics, Target, Way, receive, straight, verdict, xmit, xmit_clone,
};

const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

fn frame() -> Vec<u8> {
    ethernet(GUEST, ETH_P_IP, LEN as usize)
}

fn attach(host: &mut Host, ifindex: Ifindex, attach_type: AttachType, program: &Arc<Tc>) {
    let target = Target::new(ifindex, attach_type);
    host.model
        .prog_attach(target, &dynamic(program), &options())
        .unwrap();
}

fn on_ingress(host: &mut Host, program: &Arc<Tc>) {
    attach(host, host.nic, AttachType::TcxIngress, program);
}

fn on_egress(host: &mut Host, program: &Arc<Tc>) {
    attach(host, host.nic, AttachType::TcxEgress, program);
}

/// A frame leaves by a device, and is taken by whom it is for.
fn leaves(host: &Host, sender: Ifindex) -> Outcome {
    let view = host.model.view();
    let mut frame = Frame::from_octets(&frame());
    let outcome = xmit(&view, slot(&view, sender), &mut frame, &mut Clones::default(), 0);
    if let Outcome::Deliver(delivery) = &outcome {
        view.delivered(delivery, 1, 0);
    }
    outcome
}

fn statistics(host: &Host, device: Ifindex) -> Statistics {
    host.model.statistics(device).unwrap()
}

fn drops(host: &Host, device: Ifindex) -> Vec<(DropReason, u64)> {
    host.model.drops(device).unwrap()
}

/// Who gets a frame, and how.
fn delivered(host: &Host, outcome: Outcome) -> (Ifindex, Way) {
    let delivery: Delivery = deliver(outcome);
    (host.model.view().device(delivery.receiver).ifindex, delivery.way)
}

fn redirected(host: &Host, received: Received) -> (Ifindex, Way) {
    match received {
        Received::Outcome(outcome) => delivered(host, outcome),
        Received::Passed => panic!("it passed"),
    }
}

const NONE: Statistics = Statistics {
    rx_packets: 0,
    rx_bytes: 0,
    rx_dropped: 0,
    tx_packets: 0,
    tx_bytes: 0,
    tx_dropped: 0,
};

/// tcx.h, `tcx_action_code`: a code that it does not know ends the list and passes, where netkit drops.
#[test]
fn verdicts_at_ingress() {
    for (code, passes) in [
        (-1, true),
        (0, true),
        (1, true),
        (2, false),
        (3, true),
        (4, true),
        (8, true),
        (-2, true),
    ] {
        let mut host = Host::new(1);
        let behind = Tc::code(verdict::NEXT);
        on_ingress(&mut host, &Tc::code(code));
        on_ingress(&mut host, &behind);
        let received = host.arrives(&frame());
        assert_eq!(behind.take_seen(), code == verdict::NEXT, "{code}");
        assert_eq!(statistics(&host, host.nic), self::received(1), "{code}");
        if passes {
            assert_eq!(
                (received, drops(&host, host.nic)),
                (Received::Passed, vec![]),
                "{code}"
            );
        } else {
            let dropped = Outcome::Dropped(DropReason::ProgramDrop);
            assert_eq!(received, Received::Outcome(dropped));
            assert_eq!(drops(&host, host.nic), [(DropReason::ProgramDrop, 1)]);
        }
    }
}

/// A drop by a program moves no counter of the NIC, as its driver has not seen the frame.
#[test]
fn verdicts_at_egress() {
    for (code, passes) in [
        (-1, true),
        (0, true),
        (1, true),
        (2, false),
        (3, true),
        (4, true),
        (8, true),
        (-2, true),
    ] {
        let mut host = Host::new(1);
        let behind = Tc::code(verdict::NEXT);
        on_egress(&mut host, &Tc::code(code));
        on_egress(&mut host, &behind);
        let outcome = leaves(&host, host.nic);
        assert_eq!(behind.take_seen(), code == verdict::NEXT, "{code}");
        if passes {
            assert_eq!(delivered(&host, outcome), (host.nic, Way::Wire), "{code}");
            assert_eq!(statistics(&host, host.nic), sent(1), "{code}");
            assert_eq!(drops(&host, host.nic), []);
        } else {
            assert_eq!(outcome, Outcome::Dropped(DropReason::ProgramDrop));
            assert_eq!(statistics(&host, host.nic), NONE);
            assert_eq!(drops(&host, host.nic), [(DropReason::ProgramDrop, 1)]);
        }
    }
}

#[test]
fn a_pass_takes_the_class_over() {
    let mut host = Host::new(1);
    let classify = |code| {
        Tc::new(move |context| {
            context.frame.meta.tc_classid = 0x1_0007;
            code
        })
    };
    for (code, index) in [(verdict::PASS, 7), (verdict::NEXT, 0)] {
        let program = classify(code);
        on_ingress(&mut host, &program);
        let view = host.model.view();
        let mut frame = Frame::from_octets(&frame());
        let received = receive(
            &view,
            slot(&view, host.nic),
            &mut frame,
            &mut Clones::default(),
            0,
        );
        assert_eq!((received, frame.meta.tc_index), (Received::Passed, index));
        let target = Target::new(host.nic, AttachType::TcxIngress);
        host.model
            .prog_detach(target, Some(program.id()), &options())
            .unwrap();
    }
}

/// Where each redirect of an ingress program leads, and who counts.
#[test]
fn redirects_from_ingress() {
    type Call = fn(&mut netkit::Context<'_>, u32) -> i32;
    let egress: Call = |context, target| context.redirect(target, 0);
    let ingress: Call = |context, target| context.redirect(target, 1);
    let peer: Call = |context, target| context.redirect_peer(target, 0);
    // What the target is, and how it is asked for; then who receives and how, or why nobody does; then what target and its
    // other end count.
    for (call, flags_of_test, expected, target_counts, other_counts) in [
        (egress, "egress", Ok((false, Way::Pair)), sent(1), received(1)),
        (ingress, "ingress", Ok((true, Way::Ingress)), NONE, NONE),
        (peer, "peer", Ok((false, Way::Inbound)), NONE, received(1)),
    ] {
        let mut host = Host::new(1);
        let (primary, guest) = host.pair(1);
        let list = Tc::code(verdict::PASS);
        attach(&mut host, primary, AttachType::Primary, &list);
        on_ingress(&mut host, &Tc::new(move |context| call(context, primary.0)));
        let way = redirected(&host, host.arrives(&frame()));
        let receiver =
            expected.map(|(on_target, way): (bool, Way)| (if on_target { primary } else { guest }, way));
        assert_eq!(Ok::<_, DropReason>(way), receiver, "{flags_of_test}");
        assert_eq!(statistics(&host, primary), target_counts, "{flags_of_test}");
        assert_eq!(statistics(&host, guest), other_counts, "{flags_of_test}");
        assert_eq!(statistics(&host, host.nic), received(1), "{flags_of_test}");
        // The pair's own programs see what it transmits, and nothing else.
        assert_eq!(list.take_runs(), u64::from(flags_of_test == "egress"));
        // Onto another NIC.
        let other = host.model.create_uplink(&uplink("eth1", 1)).unwrap();
        let target = Target::new(host.nic, AttachType::TcxIngress);
        let program = Tc::new(move |context| call(context, other.0));
        host.model
            .prog_attach(target, &dynamic(&program), &first())
            .unwrap();
        let received = host.arrives(&frame());
        if flags_of_test == "egress" {
            assert_eq!(redirected(&host, received), (other, Way::Wire));
            assert_eq!(statistics(&host, other), sent(1));
        } else {
            // Nobody is behind a NIC to receive, and it has no other end.
            let failed = Outcome::Dropped(DropReason::RedirectFailed);
            assert_eq!(received, Received::Outcome(failed));
            assert_eq!(statistics(&host, other), NONE);
            assert_eq!(drops(&host, host.nic), [(DropReason::RedirectFailed, 1)]);
        }
    }
}

#[test]
fn a_redirect_without_a_call_or_with_a_wrong_one_fails() {
    for (call, reason) in [
        (None, DropReason::RedirectFailed),
        (Some((999, 0)), DropReason::RedirectFailed),
        (Some((0, 1)), DropReason::RedirectFailed),
        (Some((1, 2)), DropReason::ProgramDrop),
    ] {
        let mut host = Host::new(1);
        on_ingress(
            &mut host,
            &Tc::new(move |context| match call {
                Some((ifindex, flags)) => context.redirect(ifindex, flags),
                None => verdict::REDIRECT,
            }),
        );
        let received = host.arrives(&frame());
        assert_eq!(received, Received::Outcome(Outcome::Dropped(reason)));
        assert_eq!(drops(&host, host.nic), [(reason, 1)]);
    }
}

/// filter.c, `skb_do_redirect` with `BPF_F_PEER`: each of its conditions, alone.
#[test]
fn redirect_peer_wants_another_end_that_is_up_in_another_domain() {
    let failed = Err(DropReason::RedirectFailed);
    type Change = fn(&mut Host, Ifindex, Ifindex);
    let cases: [(&str, Change, bool); 6] = [
        ("as it is", |_, _, _| (), true),
        (
            "the target is down",
            |host, primary, _| host.model.set_up(primary, false).unwrap(),
            true,
        ),
        (
            "the other end is down",
            |host, _, guest| host.model.set_up(guest, false).unwrap(),
            false,
        ),
        (
            "the other end is here",
            |host, _, guest| host.model.set_domain(guest, "host").unwrap(),
            false,
        ),
        (
            "the target is elsewhere",
            |host, primary, _| host.model.set_domain(primary, "foo").unwrap(),
            false,
        ),
        (
            "both have moved",
            |host, primary, _| {
                host.model.set_domain(primary, "foo").unwrap();
                host.model.set_domain(host.nic, "foo").unwrap();
            },
            true,
        ),
    ];
    for (case, change, works) in cases {
        let mut host = Host::new(1);
        let (primary, guest) = host.pair(1);
        change(&mut host, primary, guest);
        on_ingress(
            &mut host,
            &Tc::new(move |context| context.redirect_peer(primary.0, 0)),
        );
        let outcome = match host.arrives(&frame()) {
            Received::Outcome(Outcome::Deliver(delivery)) => {
                Ok((host.model.view().device(delivery.receiver).ifindex, delivery.way))
            }
            Received::Outcome(Outcome::Dropped(reason)) => Err(reason),
            Received::Passed => panic!("{case}: it passed"),
        };
        assert_eq!(
            outcome,
            if works { Ok((guest, Way::Inbound)) } else { failed },
            "{case}"
        );
        assert_eq!(
            statistics(&host, guest),
            if works { received(1) } else { NONE },
            "{case}"
        );
        assert_eq!(drops(&host, host.nic).len(), usize::from(!works), "{case}");
    }
    let mut host = Host::new(1);
    let single = host.single(1);
    for target in [single.0, host.nic.0, 99] {
        let program = Tc::new(move |context| context.redirect_peer(target, 0));
        let list = Target::new(host.nic, AttachType::TcxIngress);
        host.model
            .prog_attach(list, &dynamic(&program), &first())
            .unwrap();
        let received = host.arrives(&frame());
        assert_eq!(
            received,
            Received::Outcome(Outcome::Dropped(DropReason::RedirectFailed))
        );
    }
    on_flags(&mut host);
}

/// Any flag of `bpf_redirect_peer` makes the helper say DROP.
fn on_flags(host: &mut Host) {
    let program = Tc::new(|context| context.redirect_peer(1, 1));
    let list = Target::new(host.nic, AttachType::TcxIngress);
    host.model
        .prog_attach(list, &dynamic(&program), &first())
        .unwrap();
    let received = host.arrives(&frame());
    assert_eq!(
        received,
        Received::Outcome(Outcome::Dropped(DropReason::ProgramDrop))
    );
}

#[test]
fn redirect_peer_keeps_mark_priority_and_time() {
    let mut host = Host::new(1);
    let (primary, _) = host.pair(1);
    on_ingress(
        &mut host,
        &Tc::new(move |context| {
            let meta = &mut context.frame.meta;
            (meta.mark, meta.priority, meta.tstamp) = (42, 3, 99);
            context.redirect_peer(primary.0, 0)
        }),
    );
    let view = host.model.view();
    let mut frame = Frame::from_octets(&frame());
    let received = receive(
        &view,
        slot(&view, host.nic),
        &mut frame,
        &mut Clones::default(),
        0,
    );
    assert!(matches!(received, Received::Outcome(Outcome::Deliver(_))));
    let meta = frame.meta;
    assert_eq!((meta.mark, meta.priority, meta.tstamp), (42, 3, 99));
    assert_eq!(meta.packet_type, PacketType::Host);
}

#[test]
fn redirect_peer_fails_from_egress() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    on_egress(
        &mut host,
        &Tc::new(move |context| context.redirect_peer(primary.0, 0)),
    );
    assert_eq!(
        leaves(&host, host.nic),
        Outcome::Dropped(DropReason::RedirectFailed)
    );
    assert_eq!(drops(&host, host.nic), [(DropReason::RedirectFailed, 1)]);
    assert_eq!(
        (statistics(&host, host.nic), statistics(&host, guest)),
        (NONE, NONE)
    );
}

/// A frame that the receiver did not take: who is charged depends on the way that it came.
#[test]
fn refused_frames_are_charged_to_who_has_not_counted_them() {
    let full = DropReason::UplinkFull;
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    let view = host.model.view();
    let mut out = Frame::from_octets(&frame());
    let delivery = deliver(xmit(
        &view,
        slot(&view, host.nic),
        &mut out,
        &mut Clones::default(),
        0,
    ));
    view.refused(&delivery, full, 0);
    assert_eq!(
        (statistics(&host, host.nic), drops(&host, host.nic)),
        (dropped(1), vec![(full, 1)])
    );
    on_ingress(
        &mut host,
        &Tc::new(move |context| context.redirect_peer(primary.0, 0)),
    );
    let view = host.model.view();
    let received = receive(&view, slot(&view, host.nic), &mut out, &mut Clones::default(), 0);
    let Received::Outcome(outcome) = received else {
        panic!("{received:?}");
    };
    view.refused(&deliver(outcome), DropReason::ReceiverRingFull, 0);
    assert_eq!(statistics(&host, guest), NONE);
    let arrived = Statistics {
        tx_dropped: 1,
        ..self::received(1)
    };
    assert_eq!(statistics(&host, host.nic), arrived);
    assert_eq!(
        drops(&host, host.nic),
        [(DropReason::ReceiverRingFull, 1), (full, 1)]
    );
    view.count_unclaimed(slot(&view, host.nic), 0);
    assert_eq!(drops(&host, host.nic)[2], (DropReason::NotClaimed, 1));
    assert_eq!(statistics(&host, host.nic), arrived);
}

/// The list, `skb->dev`, `skb->skb_iif`, protocol and packet type.
type Seen = (Hook, Ifindex, u32, u16, PacketType);

#[test]
fn what_a_program_sees_depends_on_where_it_runs() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = |then: i32, seen: &Arc<Mutex<Vec<Seen>>>, target: u32| {
        let seen = seen.clone();
        Tc::new(move |context| {
            let meta = context.frame.meta;
            let entry = (
                context.hook(),
                context.ifindex(),
                context.ingress_ifindex(),
                meta.protocol,
                meta.packet_type,
            );
            seen.lock().unwrap().push(entry);
            if then == verdict::REDIRECT {
                context.redirect(target, 0)
            } else {
                then
            }
        })
    };
    let other = host.model.create_uplink(&uplink("eth1", 1)).unwrap();
    // Into a pair, and by its primary's list on to another NIC's egress list: the guest's domain is where that looks.
    on_ingress(&mut host, &look(verdict::REDIRECT, &seen, primary.0));
    attach(
        &mut host,
        primary,
        AttachType::Primary,
        &look(verdict::REDIRECT, &seen, other.0),
    );
    attach(
        &mut host,
        other,
        AttachType::TcxEgress,
        &look(verdict::PASS, &seen, 0),
    );
    host.model.set_domain(other, "guest").unwrap();
    assert_eq!(redirected(&host, host.arrives(&frame())), (other, Way::Wire));
    // Straight from one NIC to the other, nothing scrubs where it came from.
    host.model.set_domain(other, "host").unwrap();
    let list = Target::new(host.nic, AttachType::TcxIngress);
    let program = look(verdict::REDIRECT, &seen, other.0);
    host.model
        .prog_attach(list, &dynamic(&program), &first())
        .unwrap();
    assert_eq!(
        redirected(&host, host.arrives(&ethernet(NIC, ETH_P_ARP, 60))),
        (other, Way::Wire)
    );
    let nic = host.nic.0;
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (Hook::TcxIngress, host.nic, nic, ETH_P_IP, PacketType::OtherHost),
            (Hook::Netkit, guest, 0, ETH_P_IP, PacketType::OtherHost),
            (Hook::TcxEgress, other, 0, ETH_P_IP, PacketType::OtherHost),
            (Hook::TcxIngress, host.nic, nic, ETH_P_ARP, PacketType::Host),
            (Hook::TcxEgress, other, nic, ETH_P_ARP, PacketType::Host),
        ]
    );
}

#[test]
fn a_tag_is_beside_the_frame_before_a_program_sees_it() {
    let mut host = Host::new(1);
    on_ingress(
        &mut host,
        &Tc::new(|context| {
            let tag = VlanTag {
                protocol: 0x8100,
                tci: 7,
            };
            assert_eq!(context.frame.meta.vlan, Some(tag));
            assert_eq!((context.frame.meta.protocol, context.frame.len()), (ETH_P_IP, 60));
            verdict::PASS
        }),
    );
    let mut octets = frame();
    octets.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(host.arrives(&octets), Received::Passed);
    assert_eq!(statistics(&host, host.nic).rx_bytes, 64);
}

#[test]
fn an_uplink_that_is_down_passes_nothing_but_its_egress_list_runs() {
    type Change = fn(&mut Host);
    let set = |host: &mut Host, running, present| {
        let state = NicState {
            running,
            present,
            ..nic(1)
        };
        host.model.set_nic(host.nic, state).unwrap();
    };
    let cases: [(Change, bool); 3] = [
        (|host| host.model.set_up(host.nic, false).unwrap(), false),
        // Whether a NIC without a carrier receives is its own affair.
        (
            |host| {
                host.model
                    .set_nic(
                        host.nic,
                        NicState {
                            running: false,
                            ..nic(1)
                        },
                    )
                    .unwrap()
            },
            true,
        ),
        (
            |host| {
                host.model
                    .set_nic(
                        host.nic,
                        NicState {
                            present: false,
                            ..nic(1)
                        },
                    )
                    .unwrap()
            },
            true,
        ),
    ];
    for (change, receives) in cases {
        let mut host = Host::new(1);
        let program = Tc::code(verdict::PASS);
        on_egress(&mut host, &program);
        change(&mut host);
        assert_eq!(leaves(&host, host.nic), Outcome::Dropped(DropReason::UplinkDown));
        assert!(program.take_seen());
        assert_eq!(statistics(&host, host.nic), dropped(1));
        let received = host.arrives(&frame());
        if receives {
            assert_eq!(received, Received::Passed);
        } else {
            assert_eq!(
                received,
                Received::Outcome(Outcome::Dropped(DropReason::UplinkDown))
            );
            assert_eq!(statistics(&host, host.nic).rx_packets, 0);
            assert_eq!(drops(&host, host.nic), [(DropReason::UplinkDown, 2)]);
        }
        set(&mut host, true, true);
        host.model.set_up(host.nic, true).unwrap();
        assert_eq!(delivered(&host, leaves(&host, host.nic)), (host.nic, Way::Wire));
    }
}

#[test]
fn runts_neither_arrive_nor_leave() {
    let host = Host::new(1);
    let short = &frame()[..13];
    assert_eq!(
        host.arrives(short),
        Received::Outcome(Outcome::Dropped(DropReason::Runt))
    );
    let view = host.model.view();
    let mut out = Frame::from_octets(short);
    let outcome = xmit(&view, slot(&view, host.nic), &mut out, &mut Clones::default(), 0);
    assert_eq!(outcome, Outcome::Dropped(DropReason::Runt));
    assert_eq!(statistics(&host, host.nic), dropped(1));
    assert_eq!(drops(&host, host.nic), [(DropReason::Runt, 2)]);
}

/// A guest's program sends its frames out by the NIC.
#[test]
fn a_netkit_program_redirects_to_an_uplink() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    let nic = host.nic.0;
    attach(
        &mut host,
        primary,
        AttachType::Peer,
        &Tc::new(move |context| context.redirect(nic, 0)),
    );
    let shorten = Tc::new(|context| {
        let head = context.frame.head()[..40].to_vec();
        context.frame.set_head(&head);
        verdict::NEXT
    });
    on_egress(&mut host, &shorten);
    assert_eq!(delivered(&host, leaves(&host, guest)), (host.nic, Way::Wire));
    assert_eq!(
        (statistics(&host, guest), statistics(&host, primary)),
        (sent(1), NONE)
    );
    // The driver counts what it is given, after the programs.
    assert_eq!(
        (
            statistics(&host, host.nic).tx_packets,
            statistics(&host, host.nic).tx_bytes
        ),
        (1, 40)
    );
    assert_eq!(
        straight(&host.model.view(), slot(&host.model.view(), host.nic)),
        None
    );
}

#[test]
fn a_neighbour_s_address_is_put_on_what_leaves() {
    let mut host = Host::new(1);
    let created = host.pair_in(Mode::L3, 1, "guest");
    let gateway = "10.0.0.1".parse().unwrap();
    let nic = host.nic;
    host.model.change_routing(&domain("host"), |routing| {
        routing.set_neighbour(Neighbour {
            address: gateway,
            device: nic,
            lladdr: GUEST,
        })
    });
    let next_hop = NextHop::Address(gateway);
    let program = Tc::new(move |context| context.redirect_neighbour(nic.0, next_hop, 0));
    attach(&mut host, created.primary, AttachType::Peer, &program);
    let view = host.model.view();
    let mut out = Frame::from_octets(&ipv4([10, 0, 0, 9]));
    let outcome = xmit(
        &view,
        slot(&view, created.peer.unwrap()),
        &mut out,
        &mut Clones::default(),
        0,
    );
    assert_eq!(delivered(&host, outcome), (host.nic, Way::Wire));
    assert_eq!((out.destination(), out.source()), (Some(GUEST), Some(NIC)));
}

/// dev.h, `XMIT_RECURSION_LIMIT`: a NIC has a queue, so that only the redirect counts as a level, not the transmission.
#[test]
fn loops_over_uplinks_end() {
    let mut host = Host::new(1);
    let nic = host.nic.0;
    let program = Tc::new(move |context| context.redirect(nic, 0));
    on_egress(&mut host, &program);
    assert_eq!(
        leaves(&host, host.nic),
        Outcome::Dropped(DropReason::RedirectLoop)
    );
    assert_eq!(program.take_runs(), 10);
    assert_eq!(statistics(&host, host.nic), NONE);
    assert_eq!(drops(&host, host.nic), [(DropReason::RedirectLoop, 1)]);
}

/// Where an uplink's list ran first, it is the device at the end that finds the loop, and counts it.
#[test]
fn loops_behind_an_uplink_are_charged_to_the_device() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair_in_host(1);
    let redirect = Tc::new(move |context| context.redirect(primary.0, 0));
    on_ingress(&mut host, &redirect);
    attach(&mut host, primary, AttachType::Primary, &redirect);
    let received = host.arrives(&frame());
    assert_eq!(
        received,
        Received::Outcome(Outcome::Dropped(DropReason::RedirectLoop))
    );
    assert_eq!(redirect.take_runs(), 5, "once at the NIC, four times on the pair");
    let counted = Statistics {
        tx_dropped: 1,
        ..sent(4)
    };
    assert_eq!(
        (statistics(&host, primary), statistics(&host, guest)),
        (counted, NONE)
    );
    assert_eq!(drops(&host, primary), [(DropReason::RedirectLoop, 1)]);
}

#[test]
fn copies_of_what_arrived_are_sent_before_it() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    let other = host.model.create_uplink(&uplink("eth1", 1)).unwrap();
    let from = Arc::new(Mutex::new(Vec::new()));
    let noted = from.clone();
    let note = Tc::new(move |context| {
        noted.lock().unwrap().push(context.ingress_ifindex());
        verdict::PASS
    });
    attach(&mut host, other, AttachType::TcxEgress, &note);
    let copy = Tc::new(move |context| {
        for target in [primary.0, other.0] {
            let copy = Frame::from_octets(&frame());
            let fill = |frame: &mut Frame| {
                frame.copy_from(&copy);
                Ok(())
            };
            context.surroundings.clone_redirect(target, 0, fill).unwrap();
        }
        verdict::PASS
    });
    on_ingress(&mut host, &copy);
    let view = host.model.view();
    let (mut original, mut clones) = (Frame::from_octets(&frame()), Clones::default());
    let received = receive(&view, slot(&view, host.nic), &mut original, &mut clones, 0);
    assert_eq!(received, Received::Passed);
    let mut ways = Vec::new();
    let mut copied = Frame::new();
    while let Some(outcome) = xmit_clone(&view, &mut copied, &mut clones, 0) {
        ways.push(delivered(&host, outcome));
        assert_eq!(copied.to_vec(), original.to_vec());
    }
    assert_eq!(ways, [(guest, Way::Pair), (other, Way::Wire)]);
    assert_eq!(*from.lock().unwrap(), [host.nic.0]);
}

#[test]
fn a_fault_drops_whatever_the_verdict() {
    let mut host = Host::new(1);
    let fault = Tc::new(|context| {
        context.refuse(DropReason::ProgramFault);
        verdict::PASS
    });
    on_ingress(&mut host, &fault);
    on_egress(&mut host, &fault);
    let gone = Outcome::Dropped(DropReason::ProgramFault);
    assert_eq!(host.arrives(&frame()), Received::Outcome(gone));
    assert_eq!(leaves(&host, host.nic), gone);
    assert_eq!(drops(&host, host.nic), [(DropReason::ProgramFault, 2)]);
}

#[test]
fn metadata_of_a_frame_that_arrived_is_what_the_nic_gave() {
    let host = Host::new(1);
    let view = host.model.view();
    for (destination, packet_type) in [
        (NIC, PacketType::Host),
        (GUEST, PacketType::OtherHost),
        (MacAddress::BROADCAST, PacketType::Broadcast),
        (MacAddress([0x33, 0x33, 0, 0, 0, 1]), PacketType::Multicast),
    ] {
        let mut frame = Frame::from_octets(&ethernet(destination, ETH_P_ARP, 60));
        let received = receive(
            &view,
            slot(&view, host.nic),
            &mut frame,
            &mut Clones::default(),
            0,
        );
        assert_eq!(received, Received::Passed);
        let expected = Metadata {
            packet_type,
            protocol: ETH_P_ARP,
            ..Default::default()
        };
        assert_eq!(frame.meta, expected);
    }
}
