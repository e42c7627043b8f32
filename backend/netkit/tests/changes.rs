//! Changing, showing and deleting devices.

mod common;

use common::*;
use devices::packet::MacAddress;
use netkit::{
    AttachType, ChangeRequest, CreateRequest, Errno, Flag, Ifindex, Mode, Model, OperationalState, Pairing,
    Policy, Scrub, Target,
};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

#[test]
fn change_policies_through_the_primary() {
    let (mut model, primary, peer) = created(&CreateRequest::default());
    let policies = ChangeRequest {
        policy: Some(Policy::Blackhole),
        ..Default::default()
    };
    assert_eq!(errno(model.change(peer, &policies)), Err(Errno::EACCES));
    assert_eq!(
        errno(model.change(peer, &ChangeRequest::default())),
        Err(Errno::EACCES)
    );
    model.change(primary, &policies).unwrap();
    let ends = |model: &Model| {
        (
            model.device(primary).unwrap().policy,
            model.device(peer).unwrap().policy,
        )
    };
    assert_eq!(ends(&model), (Policy::Blackhole, Policy::Forward));
    let both = ChangeRequest {
        policy: Some(Policy::Forward),
        peer_policy: Some(Policy::Blackhole),
        ..Default::default()
    };
    model.change(primary, &both).unwrap();
    assert_eq!(ends(&model), (Policy::Forward, Policy::Blackhole));
}

#[test]
fn fixed_attributes_are_refused_before_anything_is_applied() {
    let (mut model, primary, _) = created(&CreateRequest::default());
    let with_policy = ChangeRequest {
        policy: Some(Policy::Blackhole),
        ..Default::default()
    };
    for (request, attribute) in [
        (
            ChangeRequest {
                mode: Some(Mode::L3),
                ..with_policy
            },
            "operating mode",
        ),
        (
            ChangeRequest {
                scrub: Some(Scrub::Default),
                ..with_policy
            },
            "scrubbing",
        ),
        (
            ChangeRequest {
                peer_scrub: Some(Scrub::Default),
                ..with_policy
            },
            "peer scrubbing",
        ),
        (
            ChangeRequest {
                has_peer_info: true,
                ..with_policy
            },
            "peer info",
        ),
        (
            ChangeRequest {
                headroom: Some(0),
                ..with_policy
            },
            "headroom",
        ),
        (
            ChangeRequest {
                tailroom: Some(0),
                ..with_policy
            },
            "tailroom",
        ),
        (
            ChangeRequest {
                pairing: Some(Pairing::Pair),
                ..with_policy
            },
            "pairing",
        ),
    ] {
        let error = model.change(primary, &request).unwrap_err();
        assert_eq!(error.errno(), Errno::EACCES);
        let text = format!("netkit link {attribute} cannot be changed after device creation");
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(model.device(primary).unwrap().policy, Policy::Forward);
    }
}

#[test]
fn set_address() {
    let (mut model, primary, _) = created(&CreateRequest {
        mode: Some(Mode::L2),
        ..Default::default()
    });
    model.set_up(primary, true).unwrap();
    model.set_address(primary, MAC).unwrap();
    assert_eq!(model.info(primary).unwrap().address, MAC);
    assert_eq!(
        errno(model.set_address(primary, MacAddress::ZERO)),
        Err(Errno::EADDRNOTAVAIL)
    );
    assert_eq!(
        errno(model.set_address(primary, MacAddress::BROADCAST)),
        Err(Errno::EADDRNOTAVAIL)
    );
    let (mut model, primary, _) = created(&CreateRequest::default());
    assert_eq!(
        errno(model.set_address(primary, MacAddress::ZERO)),
        Err(Errno::EOPNOTSUPP)
    );
}

#[test]
fn set_name() {
    let (mut model, primary, _) = created(&CreateRequest::default());
    model.set_up(primary, true).unwrap();
    model.set_name(primary, "vm").unwrap();
    assert_eq!(
        (model.find("vm"), errno(model.find("nk1"))),
        (Ok(primary), Err(Errno::ENODEV))
    );
    model.set_name(primary, "vm").unwrap();
    assert_eq!(errno(model.set_name(primary, "nk0")), Err(Errno::EEXIST));
    assert_eq!(errno(model.set_name(primary, "a b")), Err(Errno::EINVAL));
    model.set_name(primary, "nk%d").unwrap();
    assert_eq!(model.find("nk1"), Ok(primary));
}

#[test]
fn carrier_and_flags() {
    use Flag::{Broadcast, LowerUp, Multicast, NoArp, NoCarrier, PeerDown, Up};
    let (mut model, primary, peer) = created(&CreateRequest::default());
    let state = |model: &Model, end| {
        let info = model.info(end).unwrap();
        (info.operational_state, info.flags)
    };
    let down = (
        OperationalState::Down,
        vec![Broadcast, Multicast, NoArp, PeerDown],
    );
    assert_eq!(
        (state(&model, primary), state(&model, peer)),
        (down.clone(), down.clone())
    );

    model.set_up(primary, true).unwrap();
    let no_carrier = vec![NoCarrier, Broadcast, Multicast, NoArp, Up, PeerDown];
    assert_eq!(
        state(&model, primary),
        (OperationalState::LowerLayerDown, no_carrier)
    );
    assert_eq!(
        state(&model, peer),
        (OperationalState::Down, vec![Broadcast, Multicast, NoArp])
    );

    model.set_up(peer, true).unwrap();
    let up = (
        OperationalState::Up,
        vec![Broadcast, Multicast, NoArp, Up, LowerUp],
    );
    assert_eq!((state(&model, primary), state(&model, peer)), (up.clone(), up));

    model.set_up(primary, false).unwrap();
    model.set_up(peer, false).unwrap();
    assert_eq!(
        (state(&model, primary), state(&model, peer)),
        (down.clone(), down)
    );

    let (model, primary, _) = created(&CreateRequest {
        mode: Some(Mode::L2),
        ..Default::default()
    });
    assert_eq!(
        model.info(primary).unwrap().flags,
        [Broadcast, Multicast, PeerDown]
    );
}

#[test]
fn info_is_each_ends_own_view() {
    let request = CreateRequest {
        policy: Some(Policy::Blackhole),
        scrub: Some(Scrub::None),
        headroom: Some(32),
        tailroom: Some(8),
        ..Default::default()
    };
    let (mut model, primary, peer) = created(&request);
    model
        .prog_attach(
            Target::new(primary, AttachType::Peer),
            &dynamic(&Tc::code(0)),
            &options(),
        )
        .unwrap();
    let info = model.info(primary).unwrap();
    assert_eq!(
        (info.primary, info.peer_ifindex, info.peer_name.as_deref()),
        (true, Some(peer), Some("nk0"))
    );
    assert_eq!(
        (info.policy, info.peer_policy),
        (Policy::Blackhole, Some(Policy::Forward))
    );
    assert_eq!(
        (info.scrub, info.peer_scrub),
        (Some(Scrub::None), Some(Scrub::Default))
    );
    assert_eq!((info.headroom, info.tailroom, info.program_count), (32, 8, 0));
    let info = model.info(peer).unwrap();
    assert_eq!(
        (info.primary, info.peer_ifindex, info.peer_name.as_deref()),
        (false, Some(primary), Some("nk1"))
    );
    assert_eq!(
        (info.policy, info.peer_policy),
        (Policy::Forward, Some(Policy::Blackhole))
    );
    assert_eq!(
        (info.scrub, info.peer_scrub),
        (Some(Scrub::Default), Some(Scrub::None))
    );
    assert_eq!((info.headroom, info.tailroom, info.program_count), (32, 8, 1));
}

#[test]
fn delete_takes_both_ends() {
    for of_peer in [false, true] {
        let (mut model, primary, peer) = created(&CreateRequest::default());
        let (one, other) = if of_peer { (peer, primary) } else { (primary, peer) };
        assert_eq!(model.delete(one), Ok(vec![one, other]));
        assert_eq!(errno(model.delete(other)), Err(Errno::ENODEV));
        assert_eq!(model.devices().count(), 0);
        model.create(&CreateRequest::default()).unwrap();
        assert!(model.find("nk0").is_ok() && model.find("nk1").is_ok());
    }
}

#[test]
fn missing_devices_are_enodev() {
    let mut model = Model::new(1, 1);
    let none = Ifindex(5);
    assert_eq!(errno(model.find("nk0")), Err(Errno::ENODEV));
    assert_eq!(errno(model.device(none).map(drop)), Err(Errno::ENODEV));
    assert_eq!(errno(model.info(none)), Err(Errno::ENODEV));
    assert_eq!(errno(model.statistics(none)), Err(Errno::ENODEV));
    assert_eq!(errno(model.drops(none)), Err(Errno::ENODEV));
    assert_eq!(errno(model.set_up(none, true)), Err(Errno::ENODEV));
    assert_eq!(errno(model.set_mtu(none, 1500)), Err(Errno::ENODEV));
    assert_eq!(errno(model.set_address(none, MAC)), Err(Errno::ENODEV));
    assert_eq!(errno(model.set_domain(none, "host")), Err(Errno::ENODEV));
    assert_eq!(errno(model.set_name(none, "x")), Err(Errno::ENODEV));
    assert_eq!(
        errno(model.change(none, &ChangeRequest::default())),
        Err(Errno::ENODEV)
    );
    assert_eq!(errno(model.delete(none)), Err(Errno::ENODEV));
    assert_eq!(
        errno(model.prog_query(Target::new(none, AttachType::Primary))),
        Err(Errno::ENODEV)
    );
}

/// A caller sees the devices of its own domain only, and the peer never manages anything.
#[test]
fn lists_are_looked_up_in_the_callers_domain() {
    let (mut model, primary, peer) = created(&CreateRequest::default());
    let (host, own, other) = (
        domain("host"),
        model.device(peer).unwrap().domain.clone(),
        domain("other"),
    );
    let program = dynamic(&Tc::code(0));
    let target = |ifindex, caller| Target {
        ifindex,
        attach_type: AttachType::Peer,
        caller,
    };
    assert_eq!(
        errno(model.prog_attach(target(primary, Some(&other)), &program, &options())),
        Err(Errno::ENODEV)
    );
    assert_eq!(
        errno(model.prog_attach(target(primary, Some(&own)), &program, &options())),
        Err(Errno::ENODEV)
    );
    assert_eq!(
        errno(model.prog_attach(target(peer, Some(&host)), &program, &options())),
        Err(Errno::ENODEV)
    );
    assert_eq!(
        errno(model.prog_attach(target(peer, Some(&own)), &program, &options())),
        Err(Errno::EACCES)
    );
    assert_eq!(
        errno(model.prog_attach(target(peer, None), &program, &options())),
        Err(Errno::EACCES)
    );
    model
        .prog_attach(target(primary, Some(&host)), &program, &options())
        .unwrap();
    // The type of the program comes before everything else.
    let other_kind = dynamic(&Tc::of_kind(netkit::ProgramKind::Other, |_| 0));
    let nowhere = target(Ifindex(99), None);
    assert_eq!(
        errno(model.prog_attach(nowhere, &other_kind, &options())),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        errno(model.link_create(nowhere, &other_kind, &options())),
        Err(Errno::EINVAL)
    );
}

#[test]
fn errors_say_what_to_do() {
    let (mut model, primary, peer) = created(&CreateRequest::default());
    let text = |error: netkit::Error| error.to_string();
    assert_eq!(
        text(model.change(peer, &ChangeRequest::default()).unwrap_err()),
        "netkit link settings can be changed only through the primary device, not through nk0"
    );
    assert_eq!(
        text(
            model
                .prog_query(Target::new(peer, AttachType::Primary))
                .unwrap_err()
        ),
        "program lists are managed through the primary device; nk0 is a peer, use nk1"
    );
    let target = Target::new(primary, AttachType::Peer);
    assert_eq!(
        text(model.prog_detach(target, None, &options()).unwrap_err()),
        "cannot detach a program from the peer list of nk1: the list is empty"
    );
    let program = Tc::code(0);
    model.prog_attach(target, &dynamic(&program), &options()).unwrap();
    assert_eq!(
        text(
            model
                .prog_attach(target, &dynamic(&program), &options())
                .unwrap_err()
        ),
        format!(
            "cannot attach program {id} to the peer list of nk1: program {id} is in the list already; detach it first",
            id = program.id()
        )
    );
}
