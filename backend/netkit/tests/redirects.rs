//! The redirects of programs: every row of what a real netkit was seen to do with them.

mod common;

use common::traffic::*;
use common::*;
use devices::packet::{Frame, MacAddress, Metadata, PacketType};
use netkit::{
    AttachType, Clones, DropReason, Errno, Ifindex, Mode, Model, Neighbour, NextHop, Outcome, Route,
    Statistics, Target, verdict, xmit, xmit_clone,
};

#[test]
fn redirect_without_a_call() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        pair.attach(list, &Tc::code(verdict::REDIRECT), options())
            .unwrap();
        assert_eq!(ten(pair, sender), Err(DropReason::RedirectFailed));
        assert_gone(pair, sender, receiver, DropReason::RedirectFailed);
    });
}

#[test]
fn redirect_to_an_unknown_device() {
    for (ifindex, flags) in [(0, 0), (999, 0), (999, 1), (u32::MAX, 0)] {
        in_both_modes_and_directions(|pair, list, sender, receiver| {
            pair.attach(
                list,
                &Tc::new(move |context| context.redirect(ifindex, flags)),
                options(),
            )
            .unwrap();
            assert_eq!(ten(pair, sender), Err(DropReason::RedirectFailed));
            assert_gone(pair, sender, receiver, DropReason::RedirectFailed);
        });
    }
}

#[test]
fn redirect_to_a_device_that_is_down() {
    for flags in [0, 1] {
        in_both_modes_and_directions(|pair, list, sender, receiver| {
            let (target, _) = pair.add_pair(Mode::L2);
            pair.model.set_up(target, false).unwrap();
            pair.attach(
                list,
                &Tc::new(move |context| context.redirect(target.0, flags)),
                options(),
            )
            .unwrap();
            if flags == 0 {
                // The target was to transmit, and is charged.
                assert_eq!(ten(pair, sender), Err(DropReason::SenderDown));
                assert_eq!(pair.statistics(sender), sent(10));
                assert_eq!(pair.model.drops(sender).unwrap(), []);
                assert_eq!(pair.statistics(target), dropped(10));
            } else {
                assert_eq!(ten(pair, sender), Err(DropReason::RedirectFailed));
                assert_gone(pair, sender, receiver, DropReason::RedirectFailed);
                assert_eq!(pair.statistics(target), Statistics::default());
            }
        });
    }
}

#[test]
fn redirect_to_a_device_whose_peer_is_down() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        let (target, target_peer) = pair.add_pair(Mode::L2);
        pair.model.set_up(target_peer, false).unwrap();
        pair.attach(
            list,
            &Tc::new(move |context| context.redirect(target.0, 0)),
            options(),
        )
        .unwrap();
        assert_eq!(ten(pair, sender), Err(DropReason::PeerDown));
        assert_eq!(
            (pair.statistics(sender), pair.statistics(receiver)),
            (sent(10), Statistics::default())
        );
        assert_eq!(pair.model.drops(sender).unwrap(), []);
        // The target is then the sender, and charged as one.
        assert_eq!(pair.statistics(target), dropped(10));
        assert_eq!(pair.model.drops(target).unwrap(), [(DropReason::PeerDown, 10)]);
    });
}

#[test]
fn redirect_peer_fails_silently() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        let (target, _) = pair.add_pair(Mode::L2);
        pair.attach(
            list,
            &Tc::new(move |context| context.redirect_peer(target.0, 0)),
            options(),
        )
        .unwrap();
        assert_eq!(ten(pair, sender), Err(DropReason::RedirectFailed));
        assert_gone(pair, sender, receiver, DropReason::RedirectFailed);
    });
}

#[test]
fn redirect_with_other_flags_is_drop() {
    for flags in [2, 3, 1 << 32] {
        in_both_modes_and_directions(|pair, list, sender, receiver| {
            let (target, _) = pair.add_pair(Mode::L2);
            pair.attach(
                list,
                &Tc::new(move |context| context.redirect(target.0, flags)),
                options(),
            )
            .unwrap();
            assert_eq!(ten(pair, sender), Err(DropReason::ProgramDrop));
            assert_dropped(pair, sender, receiver, DropReason::ProgramDrop);
        });
    }
    let mut pair = Pair::same_domain(Mode::L2);
    pair.attach(
        AttachType::Primary,
        &Tc::new(|context| context.redirect_peer(1, 1)),
        options(),
    )
    .unwrap();
    assert_eq!(ten(&mut pair, Ifindex(2)), Err(DropReason::ProgramDrop));
}

#[test]
fn redirect_called_but_pass_returned() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        let (target, target_peer) = pair.add_pair(Mode::L2);
        let program = Tc::new(move |context| {
            context.redirect(target.0, 0);
            verdict::PASS
        });
        pair.attach(list, &program, options()).unwrap();
        assert_eq!(ten(pair, sender), Ok(receiver));
        assert_passed(pair, sender, receiver);
        assert_eq!(pair.statistics(target), Statistics::default());
        assert_eq!(pair.statistics(target_peer), Statistics::default());
    });
}

/// A target that one program asked for serves the REDIRECT of a later one.
#[test]
fn redirect_called_by_an_earlier_program() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, target_peer) = pair.add_pair(Mode::L2);
    let ask = Tc::new(move |context| {
        context.redirect(target.0, 0);
        verdict::NEXT
    });
    pair.attach(AttachType::Primary, &ask, options()).unwrap();
    pair.attach(AttachType::Primary, &Tc::code(verdict::REDIRECT), options())
        .unwrap();
    let primary = pair.primary;
    assert_eq!(ten(&mut pair, primary), Ok(target_peer));
}

#[test]
fn redirect_into_another_primary_runs_its_list() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        let (target, target_peer) = pair.add_pair(Mode::L2);
        pair.attach(
            list,
            &Tc::new(move |context| context.redirect(target.0, 0)),
            options(),
        )
        .unwrap();
        let program = Tc::code(verdict::NEXT);
        let on_target = Target::new(target, AttachType::Primary);
        pair.model
            .prog_attach(on_target, &dynamic(&program), &options())
            .unwrap();
        assert_eq!(ten(pair, sender), Ok(target_peer));
        assert_eq!(program.take_runs(), 10);
        assert_eq!(
            (pair.statistics(sender), pair.statistics(receiver)),
            (sent(10), Statistics::default())
        );
        assert_eq!(
            (pair.statistics(target), pair.statistics(target_peer)),
            (sent(10), received(10))
        );
    });
}

#[test]
fn redirect_ingress_delivers_without_counting() {
    in_both_modes_and_directions(|pair, list, sender, receiver| {
        let (target, target_peer) = pair.add_pair(Mode::L2);
        let program = Tc::code(verdict::DROP);
        let on_target = Target::new(target, AttachType::Primary);
        pair.model
            .prog_attach(on_target, &dynamic(&program), &options())
            .unwrap();
        pair.attach(
            list,
            &Tc::new(move |context| context.redirect(target.0, 1)),
            options(),
        )
        .unwrap();
        assert_eq!(ten(pair, sender), Ok(target));
        assert_eq!(
            (pair.statistics(sender), pair.statistics(receiver)),
            (sent(10), Statistics::default())
        );
        assert_eq!(pair.statistics(target), Statistics::default());
        assert_eq!(pair.statistics(target_peer), Statistics::default());
        assert_eq!(program.take_runs(), 0);
    });
}

/// What the stack does to a frame that it takes back from a redirect.
#[test]
fn redirect_ingress_looks_received_on_the_target() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, _) = pair.add_pair(Mode::L2);
    let address = pair.model.device(target).unwrap().address;
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 1)),
        options(),
    )
    .unwrap();
    let meta = Metadata {
        mark: 42,
        priority: 3,
        protocol: 0x1234,
        ..Default::default()
    };
    pair.send(pair.primary, &ethernet(address, ETH_P_IP, 60), meta)
        .unwrap();
    let seen = pair.delivered.unwrap().1;
    assert_eq!((seen.mark, seen.priority, seen.protocol), (42, 0, ETH_P_IP));
    assert_eq!(seen.packet_type, PacketType::Host);
}

#[test]
fn redirects_resolve_in_the_receivers_domain() {
    for flags in [0, 1] {
        let redirect = move |target: Ifindex| Tc::new(move |context| context.redirect(target.0, flags));
        // From the peer in foo to the host: the host's devices are reachable, the other guest is not.
        let mut pair = Pair::new(Mode::L2);
        let (host, guest) = pair.add_pair(Mode::L2);
        pair.attach(AttachType::Peer, &redirect(host), options()).unwrap();
        let (primary, peer) = (pair.primary, pair.peer);
        assert!(ten(&mut pair, peer).is_ok());
        pair.attach(AttachType::Peer, &redirect(guest), first()).unwrap();
        assert_eq!(ten(&mut pair, peer), Err(DropReason::RedirectFailed));
        // From the host to the peer in foo: only foo's devices are.
        pair.attach(AttachType::Primary, &redirect(host), options())
            .unwrap();
        assert_eq!(ten(&mut pair, primary), Err(DropReason::RedirectFailed));
        pair.model.set_domain(guest, "foo").unwrap();
        pair.attach(AttachType::Primary, &redirect(guest), first())
            .unwrap();
        assert!(ten(&mut pair, primary).is_ok());
    }
}

/// `XMIT_RECURSION_LIMIT` is 8, and each redirect takes two levels: five transmissions.
#[test]
fn redirect_loops_end() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (primary, peer) = (pair.primary, pair.peer);
    let program = Tc::new(move |context| context.redirect(primary.0, 0));
    pair.attach(AttachType::Primary, &program, options()).unwrap();
    let result = pair.send(
        primary,
        &ethernet(MacAddress::BROADCAST, ETH_P_IP, 60),
        Metadata::default(),
    );
    assert_eq!(result, Err(DropReason::RedirectLoop));
    assert_eq!(program.take_runs(), 5);
    assert_eq!(
        (pair.statistics(primary), pair.statistics(peer)),
        (sent(5), Statistics::default())
    );
    assert_eq!(
        pair.model.drops(primary).unwrap(),
        [(DropReason::RedirectLoop, 1)]
    );
}

/// A redirect uses up its target: the next device's program has to ask for its own.
#[test]
fn redirect_without_a_call_behind_a_redirect() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, _) = pair.add_pair(Mode::L2);
    let program = Tc::code(verdict::REDIRECT);
    let on_target = Target::new(target, AttachType::Primary);
    pair.model
        .prog_attach(on_target, &dynamic(&program), &options())
        .unwrap();
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 0)),
        options(),
    )
    .unwrap();
    let primary = pair.primary;
    assert_eq!(ten(&mut pair, primary), Err(DropReason::RedirectFailed));
    assert_eq!(program.take_runs(), 10);
    assert_eq!(
        (pair.statistics(primary), pair.statistics(target)),
        (sent(10), sent(10))
    );
    assert_eq!(
        pair.model.drops(target).unwrap(),
        [(DropReason::RedirectFailed, 10)]
    );
}

/// Of the metadata, the time and the queue are lost on the way to the target.
#[test]
fn redirect_clears_the_time_and_the_queue() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, target_peer) = pair.add_pair(Mode::L2);
    pair.model.set_domain(target_peer, "host").unwrap();
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 0)),
        options(),
    )
    .unwrap();
    let meta = Metadata {
        mark: 42,
        priority: 3,
        tstamp: 77,
        queue_mapping: 5,
        ..Default::default()
    };
    pair.send(pair.primary, &ethernet(MacAddress::BROADCAST, ETH_P_IP, 60), meta)
        .unwrap();
    let (receiver, seen) = pair.delivered.unwrap();
    assert_eq!(
        (
            receiver,
            seen.mark,
            seen.priority,
            seen.tstamp,
            seen.queue_mapping
        ),
        (target_peer, 42, 3, 0, 0)
    );
}

#[test]
fn a_clone_is_sent_before_the_frame_and_is_a_frame_of_its_own() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, target_peer) = pair.add_pair(Mode::L2);
    let index = target.0;
    let cloner = Tc::new(move |context| {
        let copy = Frame::from_octets(&[context.frame.head(), &[0xaa; 4]].concat());
        let fill = |clone: &mut Frame| {
            clone.copy_from(&copy);
            Ok(())
        };
        let refuse = |_: &mut Frame| Err(Errno::EINVAL);
        assert_eq!(context.clone_redirect(index, 0, refuse), Err(Errno::EINVAL));
        assert_eq!(context.clone_redirect(index, 2, fill), Err(Errno::EINVAL));
        assert_eq!(context.clone_redirect(9999, 0, fill), Err(Errno::EINVAL));
        context.clone_redirect(index, 0, fill).unwrap();
        verdict::PASS
    });
    pair.attach(AttachType::Primary, &cloner, options()).unwrap();
    let view = pair.model.view();
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let (mut clones, mut clone) = (Clones::default(), Frame::new());
    let outcome = xmit(&view, slot(&view, pair.primary), &mut frame, &mut clones, 0);
    let Some(Outcome::Deliver(copy)) = xmit_clone(&view, &mut clone, &mut clones, 0) else {
        panic!("the copy is delivered");
    };
    assert_eq!(
        (copy.receiver, clone.len()),
        (slot(&view, target_peer), frame.len() + 4)
    );
    assert_eq!(xmit_clone(&view, &mut clone, &mut clones, 0), None);
    assert!(matches!(outcome, Outcome::Deliver(it) if it.receiver == slot(&view, pair.peer)));
}

#[test]
fn a_clone_to_a_device_that_is_down_is_charged_to_it() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, _) = pair.add_pair(Mode::L2);
    pair.model.set_up(target, false).unwrap();
    let cloner = Tc::new(move |context| {
        let copy = Frame::from_octets(context.frame.head());
        for flags in [0, 1] {
            context
                .clone_redirect(target.0, flags, |clone| {
                    clone.copy_from(&copy);
                    Ok(())
                })
                .unwrap();
        }
        verdict::PASS
    });
    pair.attach(AttachType::Primary, &cloner, options()).unwrap();
    let view = pair.model.view();
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let (mut clones, mut clone) = (Clones::default(), Frame::new());
    let _ = xmit(&view, slot(&view, pair.primary), &mut frame, &mut clones, 0);
    let mut next = || xmit_clone(&view, &mut clone, &mut clones, 0);
    assert_eq!(next(), Some(Outcome::Dropped(DropReason::SenderDown)));
    assert_eq!(next(), Some(Outcome::Dropped(DropReason::RedirectFailed)));
    assert_eq!(pair.statistics(target), dropped(1));
}

#[test]
fn programs_that_copy_to_each_other_come_to_an_end() {
    let mut pair = Pair::same_domain(Mode::L2);
    let index = pair.primary.0;
    let bomb = Tc::new(move |context| {
        let copy = Frame::from_octets(context.frame.head());
        for _ in 0..10 {
            let _ = context.clone_redirect(index, 0, |clone| {
                clone.copy_from(&copy);
                Ok(())
            });
        }
        verdict::DROP
    });
    pair.attach(AttachType::Primary, &bomb, options()).unwrap();
    let view = pair.model.view();
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let (mut clones, mut clone) = (Clones::default(), Frame::new());
    let _ = xmit(&view, slot(&view, pair.primary), &mut frame, &mut clones, 0);
    let sent = std::iter::from_fn(|| xmit_clone(&view, &mut clone, &mut clones, 0)).count();
    assert_eq!(sent, 64);
}

#[test]
fn a_next_hop_gives_the_frame_its_ethernet_header() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, target_peer) = pair.add_pair(Mode::L2);
    let domain = pair.model.device(target).unwrap().domain.clone();
    let lladdr = MacAddress([2, 0, 0, 0, 0, 9]);
    let gateway = "10.0.0.1".parse().unwrap();
    pair.model.change_routing(&domain, |routing| {
        routing.set_route(Route {
            destination: "10.0.0.0".parse().unwrap(),
            length: 8,
            via: Some(gateway),
            device: target,
            source: None,
            mtu: None,
            metric: 0,
        });
    });
    let index = target.0;
    let program = Tc::new(move |context| context.redirect_neighbour(index, NextHop::FromFrame, 0));
    pair.attach(AttachType::Primary, &program, options()).unwrap();
    let mut packet = ethernet(MacAddress::BROADCAST, ETH_P_IP, 60);
    packet[14] = 0x45;
    packet[30..34].copy_from_slice(&[10, 1, 2, 3]);
    let send = |model: &Model| {
        let view = model.view();
        let mut frame = Frame::from_octets(&packet);
        let outcome = xmit(
            &view,
            slot(&view, pair.primary),
            &mut frame,
            &mut Clones::default(),
            0,
        );
        (outcome, frame.destination(), frame.source())
    };
    let unknown = Outcome::Dropped(DropReason::NeighbourUnknown);
    assert_eq!(send(&pair.model).0, unknown, "the gateway has no address yet");
    pair.model.change_routing(&domain, |routing| {
        routing.set_neighbour(Neighbour {
            address: gateway,
            device: target,
            lladdr,
        });
    });
    let (outcome, destination, source) = send(&pair.model);
    let receiver = slot(&pair.model.view(), target_peer);
    assert!(matches!(outcome, Outcome::Deliver(it) if it.receiver == receiver));
    assert_eq!(destination, Some(lladdr));
    assert_eq!(source, Some(pair.model.device(target).unwrap().address));
}
