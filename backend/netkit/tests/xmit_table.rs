//! Every row of what a real netkit was seen to do with frames, and of its table of statistics.

mod common;

use std::sync::{Arc, Mutex};

use common::traffic::*;
use common::*;

use devices::packet::{Frame, MacAddress, Metadata, PacketType};

use netkit::{
    AttachType, Clones, CreateRequest, DropReason, Ifindex, Mode, Model, Outcome, Pairing, Policy, Scrub,
    Statistics, straight, verdict, xmit,
};

fn with_policy(mode: Mode, policy: Policy) -> Pair {
    Pair::create(
        CreateRequest {
            mode: Some(mode),
            policy: Some(policy),
            ..Default::default()
        },
        true,
    )
}

#[test]
fn receiver_down() {
    in_both_modes_and_directions(|pair, _, sender, receiver| {
        pair.model.set_up(receiver, false).unwrap();
        assert_eq!(ten(pair, sender), Err(DropReason::PeerDown));
        assert_dropped(pair, sender, receiver, DropReason::PeerDown);
    });
}

#[test]
fn sender_down() {
    in_both_modes_and_directions(|pair, _, sender, receiver| {
        pair.model.set_up(sender, false).unwrap();
        assert_eq!(ten(pair, sender), Err(DropReason::SenderDown));
        assert_dropped(pair, sender, receiver, DropReason::SenderDown);
    });
}

#[test]
fn no_program_forward() {
    in_both_modes_and_directions(|pair, _, sender, receiver| {
        assert_eq!(ten(pair, sender), Ok(receiver));
        assert_passed(pair, sender, receiver);
    });
}

#[test]
fn packet_types() {
    let mut pair = Pair::same_domain(Mode::L2);
    let own = pair.model.device(pair.peer).unwrap().address;
    for (destination, packet_type) in [
        (own, PacketType::Host),
        (MacAddress([2, 0, 0, 0, 0, 7]), PacketType::OtherHost),
        (MacAddress([0x33, 0x33, 0, 0, 0, 1]), PacketType::Multicast),
        (MacAddress::BROADCAST, PacketType::Broadcast),
        (MacAddress::ZERO, PacketType::OtherHost),
    ] {
        pair.send(
            pair.primary,
            &ethernet(destination, ETH_P_IP, 60),
            Metadata::default(),
        )
        .unwrap();
        assert_eq!(
            pair.delivered.unwrap().1.packet_type,
            packet_type,
            "{destination}"
        );
    }
    let mut pair = Pair::same_domain(Mode::L3);
    pair.send(
        pair.primary,
        &ethernet(MacAddress::ZERO, ETH_P_IP, 60),
        Metadata::default(),
    )
    .unwrap();
    assert_eq!(pair.delivered.unwrap().1.packet_type, PacketType::Host);
}

#[test]
fn a_bare_header_passes_and_a_runt_does_not() {
    let program = Tc::code(verdict::PASS);
    let mut pair = Pair::same_domain(Mode::L2);
    pair.attach(AttachType::Primary, &program, options()).unwrap();
    let header = ethernet(MacAddress::BROADCAST, ETH_P_IP, 14);
    assert_eq!(
        pair.send(pair.primary, &header, Metadata::default()),
        Ok(pair.peer)
    );
    assert_eq!(program.take_runs(), 1);
    for length in 0..14 {
        let runt = pair.send(pair.primary, &header[..length], Metadata::default());
        assert_eq!(runt, Err(DropReason::Runt));
    }
    assert_eq!(program.take_runs(), 0);
    assert_eq!(pair.statistics(pair.primary).tx_dropped, 14);
    assert_eq!(pair.statistics(pair.peer).rx_packets, 1);
}

#[test]
fn no_program_blackhole() {
    for mode in [Mode::L2, Mode::L3] {
        let mut pair = with_policy(mode, Policy::Blackhole);
        let (primary, peer) = (pair.primary, pair.peer);
        assert_eq!(ten(&mut pair, primary), Err(DropReason::PolicyBlackhole));
        assert_dropped(&pair, primary, peer, DropReason::PolicyBlackhole);
        // The other direction has a policy of its own.
        assert_eq!(ten(&mut pair, peer), Ok(primary));
        assert_eq!(pair.statistics(peer), sent(10));
    }
}

#[test]
fn the_straight_way_is_where_every_frame_would_be_delivered() {
    for mode in [Mode::L2, Mode::L3] {
        for (policy, programs, down) in every_case(&[Policy::Forward, Policy::Blackhole]) {
            let mut pair = with_policy(mode, policy);
            let (primary, peer) = (pair.primary, pair.peer);
            if programs {
                let program = Tc::code(verdict::NEXT);
                pair.attach(AttachType::Primary, &program, options()).unwrap();
            }
            if let Some(primary_is_down) = down {
                let device = if primary_is_down { primary } else { peer };
                pair.model.set_up(device, false).unwrap();
            }
            let view = pair.model.view();
            let receiver = straight(&view, slot(&view, primary)).map(|slot| view.device(slot).ifindex);
            let delivered = ten(&mut pair, primary);
            // A program has to be asked, whatever it says.
            let expected = delivered.ok().filter(|_| !programs);
            assert_eq!(receiver, expected, "{mode:?} {policy:?} {programs} {down:?}");
        }
    }
    let mut model = Model::new(1, 1);
    let single = CreateRequest {
        pairing: Some(Pairing::Single),
        ..CreateRequest::default()
    };
    let single = model.create(&single).unwrap().primary;
    model.set_up(single, true).unwrap();
    let view = model.view();
    assert_eq!(straight(&view, slot(&view, single)), None);
}

/// Every policy with and without programs, with both ends up, the primary down, and the peer down.
fn every_case(policies: &[Policy]) -> Vec<(Policy, bool, Option<bool>)> {
    let mut cases = vec![];
    for policy in policies {
        for programs in [false, true] {
            for down in [None, Some(true), Some(false)] {
                cases.push((*policy, programs, down));
            }
        }
    }
    cases
}

#[test]
fn next_and_pass_forward_even_on_a_blackhole_device() {
    for mode in [Mode::L2, Mode::L3] {
        for policy in [Policy::Forward, Policy::Blackhole] {
            for code in [verdict::NEXT, verdict::PASS] {
                let mut pair = with_policy(mode, policy);
                pair.attach(AttachType::Primary, &Tc::code(code), options())
                    .unwrap();
                let (primary, peer) = (pair.primary, pair.peer);
                assert_eq!(ten(&mut pair, primary), Ok(peer));
                assert_passed(&pair, primary, peer);
                // With the last program gone the policy holds again.
                pair.detach(AttachType::Primary, None, options()).unwrap();
                assert_eq!(ten(&mut pair, primary).is_ok(), policy == Policy::Forward);
            }
        }
    }
}

#[test]
fn drop_and_unknown_codes_drop() {
    for code in [1, 2, 3, 4, 5, 6, 8, 100, -2, i32::MIN, i32::MAX] {
        in_both_modes_and_directions(|pair, list, sender, receiver| {
            let reason = if code == 2 {
                DropReason::ProgramDrop
            } else {
                DropReason::UnknownVerdict
            };
            pair.attach(list, &Tc::code(code), options()).unwrap();
            assert_eq!(ten(pair, sender), Err(reason));
            assert_dropped(pair, sender, receiver, reason);
        });
    }
}

#[test]
fn lists_stop_at_the_first_verdict() {
    use verdict::{DROP, NEXT, PASS};
    for (codes, passes, second_runs) in [
        ([NEXT, DROP], false, 10),
        ([NEXT, PASS], true, 10),
        ([PASS, DROP], true, 0),
    ] {
        in_both_modes_and_directions(|pair, list, sender, receiver| {
            let programs = codes.map(Tc::code);
            for program in &programs {
                pair.attach(list, program, options()).unwrap();
            }
            assert_eq!(ten(pair, sender).is_ok(), passes);
            assert_eq!(
                (programs[0].take_runs(), programs[1].take_runs()),
                (10, second_runs)
            );
            match passes {
                true => assert_passed(pair, sender, receiver),
                false => assert_dropped(pair, sender, receiver, DropReason::ProgramDrop),
            }
        });
    }
}

#[test]
fn a_list_concerns_its_own_direction() {
    for mode in [Mode::L2, Mode::L3] {
        let mut pair = Pair::same_domain(mode);
        let (primary, peer) = (pair.primary, pair.peer);
        pair.attach(AttachType::Peer, &Tc::code(verdict::DROP), options())
            .unwrap();
        assert_eq!(ten(&mut pair, primary), Ok(peer));
        assert_eq!(ten(&mut pair, peer), Err(DropReason::ProgramDrop));
        assert_eq!(pair.statistics(peer).tx_dropped, 10);
    }
}

#[test]
fn single_device_has_nobody_to_send_to() {
    let mut model = Model::new(1, 1);
    let request = CreateRequest {
        pairing: Some(Pairing::Single),
        ..Default::default()
    };
    let single = model.create(&request).unwrap().primary;
    model.set_up(single, true).unwrap();
    let view = model.view();
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let outcome = xmit(&view, slot(&view, single), &mut frame, &mut Clones::default(), 0);
    assert_eq!(outcome, Outcome::Dropped(DropReason::NoPeer));
    assert_eq!(model.statistics(single).unwrap(), dropped(1));
}

/// What a list sees is the receiver's side.
#[test]
fn context() {
    type Seen = (Ifindex, u32, String, usize, usize, Metadata);
    let seen: Arc<Mutex<Option<Seen>>> = Arc::default();
    let mut pair = Pair::same_domain(Mode::L2);
    let note = Tc::new({
        let seen = seen.clone();
        move |context| {
            let frame = &context.frame;
            let device = (
                context.ifindex(),
                context.ingress_ifindex(),
                context.domain().to_string(),
            );
            *seen.lock().unwrap() = Some((
                device.0,
                device.1,
                device.2,
                frame.len(),
                context.shard(),
                frame.meta,
            ));
            verdict::NEXT
        }
    });
    pair.attach(AttachType::Primary, &note, options()).unwrap();
    let meta = Metadata {
        mark: 42,
        priority: 3,
        tstamp: 5,
        hash: 0,
        cb: [9, 0, 0, 0, 1],
        ..Default::default()
    };
    pair.send(pair.primary, &ethernet(MacAddress::BROADCAST, ETH_P_IP, 60), meta)
        .unwrap();
    let expected = Metadata {
        protocol: ETH_P_IP,
        packet_type: PacketType::Broadcast,
        ..meta
    };
    assert_eq!(
        *seen.lock().unwrap(),
        Some((pair.peer, 0, "host".into(), 60, 0, expected))
    );
}

/// `cb` goes from program to program, and along with a redirect.
#[test]
fn control_block_travels() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, _) = pair.add_pair(Mode::L2);
    let write = Tc::new(|context| {
        context.frame.meta.cb[0] = 0xcafe;
        verdict::NEXT
    });
    let read_and_redirect = Tc::new(move |context| match context.frame.meta.cb[0] {
        0xcafe => context.redirect(target.0, 0),
        _ => verdict::DROP,
    });
    let read = Tc::new(|context| {
        if context.frame.meta.cb[0] == 0xcafe {
            verdict::PASS
        } else {
            verdict::DROP
        }
    });
    pair.attach(AttachType::Primary, &write, options()).unwrap();
    pair.attach(AttachType::Primary, &read_and_redirect, options())
        .unwrap();
    let on_target = netkit::Target::new(target, AttachType::Primary);
    pair.model
        .prog_attach(on_target, &dynamic(&read), &options())
        .unwrap();
    let primary = pair.primary;
    assert!(ten(&mut pair, primary).is_ok());
    assert_eq!(pair.statistics(target), sent(10));
}

#[test]
fn scrub_belongs_to_the_sender_and_to_crossings() {
    let meta = Metadata {
        mark: 42,
        priority: 3,
        tstamp: 77,
        ..Default::default()
    };
    for (crosses, scrub, kept) in [
        (false, Scrub::Default, (42, 3, 77)),
        (false, Scrub::None, (42, 3, 77)),
        (true, Scrub::Default, (0, 0, 0)),
        (true, Scrub::None, (42, 3, 0)),
    ] {
        let other = if scrub == Scrub::None {
            Scrub::Default
        } else {
            Scrub::None
        };
        let request = CreateRequest {
            scrub: Some(scrub),
            peer_scrub: Some(other),
            ..Default::default()
        };
        let mut pair = Pair::create(request, !crosses);
        pair.send(pair.primary, &ethernet(MacAddress::ZERO, ETH_P_IP, 60), meta)
            .unwrap();
        let seen = pair.delivered.unwrap().1;
        assert_eq!((seen.mark, seen.priority, seen.tstamp), kept, "{crosses} {scrub}");
    }
}

#[test]
fn protocol_is_the_senders_or_the_frames() {
    let mut pair = Pair::same_domain(Mode::L2);
    let mut protocol = |octets: &[u8], given: u16| {
        let meta = Metadata {
            protocol: given,
            ..Default::default()
        };
        pair.send(pair.primary, octets, meta).unwrap();
        pair.delivered.unwrap().1.protocol
    };
    let frame = |ether_type| ethernet(MacAddress::BROADCAST, ether_type, 60);
    assert_eq!(protocol(&frame(ETH_P_IP), 0), ETH_P_IP);
    assert_eq!(protocol(&frame(ETH_P_IP), 0x88cc), 0x88cc);
    assert_eq!(protocol(&frame(0x0600), 0), 0x0600);
    assert_eq!(protocol(&frame(0x05ff), 0), 0x0004);
    let mut novell = frame(46);
    novell[14..16].fill(0xff);
    assert_eq!(protocol(&novell, 0), 0x0001);
    assert_eq!(protocol(&novell[..14], 0), 0x0004);
}

/// Octets count as they were before any program, whatever programs make of the frame.
#[test]
fn bytes_are_counted_before_programs() {
    let mut pair = Pair::same_domain(Mode::L2);
    let grow = Tc::new(|context| {
        context.frame.extend_head(40).fill(0);
        verdict::PASS
    });
    pair.attach(AttachType::Primary, &grow, options()).unwrap();
    let (primary, peer) = (pair.primary, pair.peer);
    assert!(ten(&mut pair, primary).is_ok());
    assert_passed(&pair, primary, peer);
}

#[test]
fn a_full_receiver_is_charged_to_the_sender() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, target_peer) = pair.add_pair(Mode::L2);
    let full = DropReason::ReceiverRingFull;
    let refuse = |pair: &Pair| {
        let view = pair.model.view();
        let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
        let delivery = deliver(xmit(
            &view,
            slot(&view, pair.primary),
            &mut frame,
            &mut Clones::default(),
            0,
        ));
        view.refused(&delivery, full, 0);
    };
    refuse(&pair);
    assert_eq!(
        (pair.statistics(pair.primary), pair.statistics(pair.peer)),
        (dropped(1), Statistics::default())
    );
    assert_eq!(pair.model.drops(pair.primary).unwrap(), [(full, 1)]);

    // Behind a redirect it is the device redirected to.
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 0)),
        options(),
    )
    .unwrap();
    refuse(&pair);
    assert_eq!(
        pair.statistics(pair.primary),
        Statistics {
            tx_dropped: 1,
            ..sent(1)
        }
    );
    assert_eq!(
        (pair.statistics(target), pair.statistics(target_peer)),
        (dropped(1), Statistics::default())
    );

    // A frame redirected with BPF_F_INGRESS is counted as transmitted before anybody refuses it.
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 1)),
        first(),
    )
    .unwrap();
    refuse(&pair);
    assert_eq!(
        pair.statistics(pair.primary),
        Statistics {
            tx_dropped: 1,
            ..sent(2)
        }
    );
    assert_eq!(pair.model.drops(pair.primary).unwrap(), [(full, 2)]);
}

#[test]
fn drops_before_xmit_are_charged_to_the_sender() {
    let pair = Pair::same_domain(Mode::L2);
    let view = pair.model.view();
    view.count_drop(slot(&view, pair.peer), DropReason::MalformedChain, 0);
    assert_eq!(pair.statistics(pair.peer), dropped(1));
    assert_eq!(
        pair.model.drops(pair.peer).unwrap(),
        [(DropReason::MalformedChain, 1)]
    );
}

/// A view is a picture: what changes later is not in it, but its counters are everybody's.
#[test]
fn views_do_not_change_and_share_counters() {
    let mut pair = Pair::same_domain(Mode::L2);
    let old = pair.model.view();
    pair.attach(AttachType::Primary, &Tc::code(verdict::DROP), options())
        .unwrap();
    pair.model.set_up(pair.peer, false).unwrap();
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let sender = slot(&old, pair.primary);
    old.delivered(
        &deliver(xmit(&old, sender, &mut frame, &mut Clones::default(), 0)),
        1,
        0,
    );
    assert_eq!(pair.statistics(pair.primary), sent(1));
    let new = pair.model.view();
    assert_eq!(
        xmit(
            &new,
            slot(&new, pair.primary),
            &mut frame,
            &mut Clones::default(),
            0
        ),
        Outcome::Dropped(DropReason::PeerDown)
    );
    pair.model.delete(pair.primary).unwrap();
    assert!(pair.model.view().is_empty());
    // A worker that still has the old view goes on with it.
    assert!(matches!(
        xmit(&old, sender, &mut frame, &mut Clones::default(), 0),
        Outcome::Deliver(_)
    ));
    assert_eq!(
        (old.len(), old.slot(pair.primary), old.slot(Ifindex(99))),
        (2, Some(sender), None)
    );
}
