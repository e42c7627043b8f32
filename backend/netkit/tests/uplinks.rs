//! Uplinks as devices: what they share with the others, what they refuse, their lists, and leases beyond the kernel's own
//! tests.

mod common;

use common::uplink::*;
use common::*;
use devices::packet::MacAddress;
use netkit::{
    AttachType, ChangeRequest, CreateRequest, DeviceKind, Errno, Flag, Ifindex, LeaseRequest, Mode, Model,
    NicState, OperationalState, Policy, QueueKind, QueueUse, SavedModel, Target, UplinkRequest, verdict,
};

#[test]
fn an_uplink_is_a_device_of_another_kind() {
    let host = Host::new(4);
    let info = host.model.info(host.nic).unwrap();
    assert_eq!(
        (info.kind, info.name.as_str(), info.ifindex),
        (DeviceKind::Uplink, "eth0", Ifindex(1))
    );
    assert_eq!((info.mode, info.address, info.mtu), (Mode::L2, NIC, 1500));
    assert_eq!((info.num_rx_queues, info.peer_ifindex), (4, None));
    assert_eq!(info.domain, domain("host"));
    assert_eq!(host.model.find("eth0"), Ok(host.nic));
    let view = host.model.view();
    let device = view.device(slot(&view, host.nic));
    assert_eq!(
        (device.kind(), device.up, device.peer),
        (DeviceKind::Uplink, true, None)
    );
    let other = Pair::new(Mode::L2);
    assert_eq!(other.model.info(other.peer).unwrap().kind, DeviceKind::Netkit);
}

#[test]
fn names_ifindexes_and_domains_are_shared_with_other_devices() {
    let mut host = Host::new(1);
    let (primary, _) = host.pair(1);
    let create = |host: &mut Host, request: UplinkRequest| errno(host.model.create_uplink(&request));
    let with_ifindex = |ifindex| UplinkRequest {
        ifindex: Some(ifindex),
        ..uplink("eth1", 1)
    };
    assert_eq!(create(&mut host, uplink("eth0", 1)), Err(Errno::EEXIST));
    assert_eq!(create(&mut host, with_ifindex(primary.0)), Err(Errno::EEXIST));
    assert_eq!(create(&mut host, with_ifindex(0)), Err(Errno::EINVAL));
    assert_eq!(create(&mut host, uplink("a/b", 1)), Err(Errno::EINVAL));
    let nowhere = UplinkRequest {
        domain: Some("a b".into()),
        ..uplink("eth1", 1)
    };
    assert_eq!(create(&mut host, nowhere), Err(Errno::EINVAL));
    let without_address = UplinkRequest {
        address: MacAddress::ZERO,
        ..uplink("eth1", 1)
    };
    assert_eq!(create(&mut host, without_address), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(create(&mut host, with_ifindex(77)), Ok(Ifindex(77)));
    let taken = CreateRequest {
        name: Some("eth1".into()),
        ..Default::default()
    };
    assert_eq!(errno(host.model.create(&taken)), Err(Errno::EEXIST));
    host.model.set_name(host.nic, "wan").unwrap();
    host.model.set_domain(host.nic, "dmz").unwrap();
    let info = host.model.info(host.nic).unwrap();
    assert_eq!((info.name.as_str(), info.domain), ("wan", domain("dmz")));
}

#[test]
fn what_belongs_to_the_nic_is_refused_with_the_next_step() {
    let mut host = Host::new(1);
    let nic = host.nic;
    let blackhole = ChangeRequest {
        policy: Some(Policy::Blackhole),
        ..Default::default()
    };
    let refusals = [
        (host.model.set_mtu(nic, 9000), "set it at the NIC"),
        (
            host.model.set_address(nic, MacAddress([2, 0, 0, 0, 0, 3])),
            "set it at the NIC",
        ),
        (host.model.delete(nic).map(drop), "nkctl uplink del"),
        (host.model.change(nic, &blackhole), "tcx_ingress"),
    ];
    for (result, next) in refusals {
        let error = result.unwrap_err();
        assert_eq!(error.errno(), Errno::EOPNOTSUPP, "{error}");
        assert!(
            error.to_string().contains("eth0") && error.to_string().contains(next),
            "{error}"
        );
    }
    assert!(host.is_there(nic));
    let (primary, _) = host.pair(1);
    assert_eq!(errno(host.model.remove_uplink(primary)), Err(Errno::EOPNOTSUPP));
    assert_eq!(
        errno(host.model.set_nic(primary, self::nic(1))),
        Err(Errno::EOPNOTSUPP)
    );
    let used = host.model.set_queue_use(primary, 0, QueueUse::AfXdp);
    assert_eq!(errno(used), Err(Errno::EOPNOTSUPP));
    assert_eq!(errno(host.model.remove_uplink(Ifindex(99))), Err(Errno::ENODEV));
}

#[test]
fn what_the_nic_is_like_is_taken_over() {
    let mut host = Host::new(4);
    let flags = |host: &Host| {
        let info = host.model.info(host.nic).unwrap();
        (info.flags, info.operational_state)
    };
    let up = vec![Flag::Broadcast, Flag::Multicast, Flag::Up, Flag::LowerUp];
    assert_eq!(flags(&host), (up, OperationalState::Up));
    let quiet = vec![Flag::NoCarrier, Flag::Broadcast, Flag::Multicast, Flag::Up];
    for (running, present) in [(false, true), (true, false)] {
        let state = NicState {
            address: MacAddress([2, 0, 0, 0, 0, 9]),
            mtu: 9000,
            rx_queues: 2,
            running,
            present,
        };
        host.model.set_nic(host.nic, state).unwrap();
        assert_eq!(flags(&host), (quiet.clone(), OperationalState::Down));
        let info = host.model.info(host.nic).unwrap();
        assert_eq!(
            (info.address, info.mtu, info.num_rx_queues),
            (state.address, 9000, 2)
        );
    }
    host.model.set_up(host.nic, false).unwrap();
    assert_eq!(
        flags(&host),
        (vec![Flag::Broadcast, Flag::Multicast], OperationalState::Down)
    );
}

#[test]
fn each_kind_of_device_has_its_own_lists() {
    let mut host = Host::new(1);
    let (primary, guest) = host.pair(1);
    let single = host.single(1);
    let program = Tc::code(verdict::NEXT);
    let mut attach = |ifindex, attach_type| {
        let target = Target::new(ifindex, attach_type);
        host.model.prog_attach(target, &dynamic(&program), &options())
    };
    for attach_type in [AttachType::TcxIngress, AttachType::TcxEgress] {
        for netkit in [primary, guest, single] {
            let error = attach(netkit, attach_type).unwrap_err();
            assert_eq!(error.errno(), Errno::EOPNOTSUPP);
            assert!(error.to_string().contains("netkit primary or peer"), "{error}");
        }
        attach(host.nic, attach_type).unwrap();
    }
    for attach_type in BOTH {
        let error = attach(host.nic, attach_type).unwrap_err();
        assert_eq!(error.errno(), Errno::ENXIO);
        assert!(error.to_string().contains("tcx_ingress"), "{error}");
    }
    assert_eq!(errno(attach(single, AttachType::Primary)), Err(Errno::EOPNOTSUPP));
    assert_eq!(host.model.info(host.nic).unwrap().program_count, 2);
}

#[test]
fn an_uplink_s_lists_are_seen_from_its_domain_alone() {
    let mut host = Host::new(1);
    let caller = domain("guest");
    let target = Target {
        caller: Some(&caller),
        ..Target::new(host.nic, AttachType::TcxIngress)
    };
    let attached = host.model.prog_attach(target, &dynamic(&Tc::code(0)), &options());
    assert_eq!(errno(attached), Err(Errno::ENODEV));
}

/// tcx.c frees a list that is empty, so its revision starts anew, where netkit's goes on.
#[test]
fn the_revision_of_an_uplink_s_list_starts_anew_when_it_is_empty() {
    let mut host = Host::new(1);
    let [a, b] = Tc::next();
    let target = Target::new(host.nic, AttachType::TcxIngress);
    let revision = |host: &Host| host.model.prog_query(target).unwrap().revision;
    host.model.prog_attach(target, &dynamic(&a), &options()).unwrap();
    let link = host.model.link_create(target, &dynamic(&b), &before(&a)).unwrap();
    assert_eq!(revision(&host), 3);
    let stale = host
        .model
        .prog_detach(target, Some(a.id()), &at_revision(2, options()));
    assert_eq!(errno(stale), Err(Errno::ESTALE));
    host.model.prog_detach(target, Some(a.id()), &options()).unwrap();
    assert_eq!(revision(&host), 4);
    host.model.link_close(link).unwrap();
    assert_eq!(revision(&host), 1);
    host.model
        .prog_attach(target, &dynamic(&a), &at_revision(1, options()))
        .unwrap();
    assert_eq!(revision(&host), 2);
    let empty = Target::new(host.nic, AttachType::TcxEgress);
    assert_eq!(
        errno(host.model.prog_detach(empty, None, &options())),
        Err(Errno::ENOENT)
    );
}

#[test]
fn links_of_an_uplink_are_defunct_once_it_is_removed() {
    let mut host = Host::new(1);
    let links: Vec<_> = [AttachType::TcxIngress, AttachType::TcxEgress]
        .into_iter()
        .map(|attach_type| {
            let target = Target::new(host.nic, attach_type);
            let link = host
                .model
                .link_create(target, &dynamic(&Tc::code(0)), &options())
                .unwrap();
            let info = host.model.link_info(link).unwrap();
            assert_eq!((info.attach_type, info.ifindex), (attach_type, Some(host.nic)));
            link
        })
        .collect();
    host.model.remove_uplink(host.nic).unwrap();
    for link in links {
        assert_eq!(host.model.link_info(link).unwrap().ifindex, None);
        assert_eq!(
            errno(host.model.link_update(link, &dynamic(&Tc::code(0)), None)),
            Err(Errno::ENOLINK)
        );
    }
}

/// Each row is wrong in what it names and in all that the rows after it name: the first check is the one that answers.
#[test]
fn leases_are_checked_in_the_kernel_s_order() {
    let mut host = Host::new(2);
    let (primary, _) = host.pair(1);
    let (_, lessee) = host.pair_in_host(2);
    host.lease(lessee, 1).unwrap();
    let good = LeaseRequest {
        uplink: host.nic,
        device: primary,
        queue: 1,
        kind: QueueKind::Rx,
        queue_kind: QueueKind::Rx,
        caller_domain: None,
        uplink_domain: Some("host".into()),
    };
    let out_of_range = LeaseRequest {
        queue: 2,
        ..good.clone()
    };
    let from_netkit = LeaseRequest {
        uplink: primary,
        ..out_of_range.clone()
    };
    let from_nobody = LeaseRequest {
        uplink: Ifindex(99),
        ..out_of_range.clone()
    };
    let nowhere = LeaseRequest {
        uplink_domain: Some("nowhere".into()),
        ..from_nobody.clone()
    };
    let to_nic = LeaseRequest {
        device: host.nic,
        ..nowhere.clone()
    };
    let to_nobody = LeaseRequest {
        device: Ifindex(98),
        ..nowhere.clone()
    };
    let tx = LeaseRequest {
        queue_kind: QueueKind::Tx,
        ..to_nobody.clone()
    };
    for (request, expected, words) in [
        (tx, Errno::EINVAL, "only rx queues"),
        (to_nobody, Errno::ENODEV, "with ifindex 98"),
        (to_nic, Errno::EINVAL, "Device is not a virtual device"),
        (nowhere, Errno::ENONET, "no domain \"nowhere\""),
        (from_nobody, Errno::ENODEV, "with ifindex 99"),
        (from_netkit, Errno::EINVAL, "Lease device is a virtual device"),
        (out_of_range, Errno::ERANGE, "has 2 receive queues"),
        (good.clone(), Errno::EBUSY, "Lease device queue is already leased"),
        (
            LeaseRequest { queue: 0, ..good },
            Errno::EOPNOTSUPP,
            "netkit can only lease against the peer device",
        ),
    ] {
        let error = host.model.lease(&request).unwrap_err();
        assert_eq!(error.errno(), expected, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn other_refusals_of_leases_say_why() {
    let mut host = Host::new(3);
    let (_, guest) = host.pair(2);
    let tap = host
        .model
        .create_uplink(&UplinkRequest {
            leasable: false,
            ..uplink("tap0", 4)
        })
        .unwrap();
    let said = |host: &mut Host, uplink, queue| {
        let request = host.request(guest, uplink, queue);
        host.model.lease(&request).unwrap_err().to_string()
    };
    assert!(said(&mut host, tap, 0).contains("does not support queue management operations"));
    host.model.set_queue_use(host.nic, 0, QueueUse::AfXdp).unwrap();
    host.model
        .set_queue_use(host.nic, 1, QueueUse::MemoryProvider)
        .unwrap();
    let nic = host.nic;
    assert!(said(&mut host, nic, 0).contains("in use by AF_XDP"));
    assert!(said(&mut host, nic, 1).contains("in use by memory provider"));
    host.lease(guest, 2).unwrap();
    host.model.set_queue_use(nic, 0, QueueUse::Free).unwrap();
    assert!(said(&mut host, nic, 0).contains("netkit maximum queue limit reached"));
    let absent = NicState {
        present: false,
        ..self::nic(3)
    };
    host.model.set_nic(nic, absent).unwrap();
    assert!(said(&mut host, nic, 0).contains("has been removed from the system"));
    // Without a domain the lessor is looked for where the caller is.
    let from_inside = LeaseRequest {
        uplink_domain: None,
        ..host.request(guest, nic, 0)
    };
    assert_eq!(errno(host.model.lease(&from_inside)), Err(Errno::ENODEV));
    let from_elsewhere = LeaseRequest {
        caller_domain: Some(domain("host")),
        ..host.request(guest, nic, 0)
    };
    assert_eq!(errno(host.model.lease(&from_elsewhere)), Err(Errno::ENODEV));
}

#[test]
fn queues_in_other_use_stay() {
    let mut host = Host::new(4);
    for (queue, queue_use) in [(2, QueueUse::AfXdp), (3, QueueUse::MemoryProvider)] {
        host.model.set_queue_use(host.nic, queue, queue_use).unwrap();
        assert_eq!(host.queue(host.nic, queue).used_by, queue_use);
        assert_eq!(host.channels(host.nic, queue), Err(Errno::EINVAL));
        // Saying it again changes nothing; another use has to wait.
        host.model.set_queue_use(host.nic, queue, queue_use).unwrap();
    }
    let use_of =
        |host: &mut Host, queue, queue_use| errno(host.model.set_queue_use(host.nic, queue, queue_use));
    assert_eq!(use_of(&mut host, 2, QueueUse::MemoryProvider), Err(Errno::EBUSY));
    assert_eq!(use_of(&mut host, 4, QueueUse::AfXdp), Err(Errno::ERANGE));
    for queue in [2, 3] {
        use_of(&mut host, queue, QueueUse::Free).unwrap();
    }
    assert_eq!(host.channels(host.nic, 2), Ok(()));
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(use_of(&mut host, 1, QueueUse::AfXdp), Err(Errno::EBUSY));
    for count in [0, 4097, u32::MAX] {
        assert_eq!(host.channels(host.nic, count), Err(Errno::EINVAL));
    }
    assert_eq!(host.channels(Ifindex(99), 1), Err(Errno::ENODEV));
}

#[test]
fn leases_of_queues_that_the_nic_has_lost_are_kept_and_shown() {
    let mut host = Host::new(4);
    let (_, guest) = host.pair(3);
    host.lease(guest, 1).unwrap();
    host.lease(guest, 3).unwrap();
    host.model.set_nic(host.nic, nic(2)).unwrap();
    let queues = host.model.queues(host.nic).unwrap();
    let shown: Vec<_> = queues
        .iter()
        .map(|queue| {
            (
                queue.queue,
                queue.present,
                queue.lease.as_ref().map(|lease| lease.queue),
            )
        })
        .collect();
    assert_eq!(shown, [(0, true, None), (1, true, Some(1)), (3, false, Some(2))]);
    let view = host.model.view();
    let lease = view.device(slot(&view, guest)).lease.clone().unwrap();
    assert_eq!((lease.uplink, &*lease.queues), (slot(&view, host.nic), &[1][..]));
    host.model.set_nic(host.nic, nic(4)).unwrap();
    assert!(host.queue(host.nic, 3).present);
    assert_eq!(host.lessee(3).unwrap().queue, 2);
    assert_eq!(errno(host.model.queue(host.nic, 4)), Err(Errno::EINVAL));
    let own: Vec<_> = host.model.queues(guest).unwrap();
    assert_eq!(own.len(), 3, "its own and two that it leases");
    assert!(own.iter().all(|queue| queue.lease.is_none()));
}

#[test]
fn a_domain_that_is_deleted_gives_nics_back_to_the_host() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let (primary, _) = host.pair_in_host(2);
    host.model.set_domain(host.nic, "guest").unwrap();
    host.model.set_domain(primary, "guest").unwrap();
    let deleted = host.model.delete_domain(&domain("guest")).unwrap();
    assert_eq!(deleted.len(), 4);
    assert!(!host.is_there(guest) && !host.is_there(primary));
    assert_eq!(host.model.device(host.nic).unwrap().domain, domain("host"));
    assert_eq!(host.model.delete_domain(&domain("host")).unwrap(), []);
    assert!(host.is_there(host.nic));
}

#[test]
fn uplinks_lists_and_leases_survive_a_restart() {
    let mut host = Host::new(4);
    let (_, guest) = host.pair(3);
    let single = host.single(2);
    host.lease(guest, 3).unwrap();
    host.lease(guest, 1).unwrap();
    host.lease(single, 2).unwrap();
    let ingress = Target::new(host.nic, AttachType::TcxIngress);
    let egress = Target::new(host.nic, AttachType::TcxEgress);
    let [a, b, c] = Tc::next();
    host.model.prog_attach(ingress, &dynamic(&a), &options()).unwrap();
    host.model.link_create(ingress, &dynamic(&b), &options()).unwrap();
    host.model.prog_attach(egress, &dynamic(&c), &options()).unwrap();
    let saved = host.model.save();
    let text = serde_json::to_string(&saved).unwrap();
    let saved: SavedModel = serde_json::from_str(&text).unwrap();

    let mut restored = Model::restore(&saved, 1, 1).unwrap();
    restored
        .restore_lists(&saved, |id| Some(Tc::with_id(id)))
        .unwrap();
    assert_eq!(restored.save(), host.model.save());
    assert_eq!(restored.queues(host.nic), host.model.queues(host.nic));
    for target in [ingress, egress] {
        assert_eq!(restored.prog_query(target), host.model.prog_query(target));
    }
    // Until somebody has looked at it, the NIC counts as missing.
    let view = restored.view();
    assert!(
        !view
            .device(slot(&view, host.nic))
            .uplink
            .as_ref()
            .unwrap()
            .running
    );
    restored.set_nic(host.nic, nic(4)).unwrap();
    assert_eq!(restored.info(host.nic), host.model.info(host.nic));
}

#[test]
fn state_that_was_saved_without_uplinks_is_read() {
    let mut pair = Pair::new(Mode::L2);
    pair.attach(AttachType::Primary, &Tc::code(0), options()).unwrap();
    let saved = pair.model.save();
    let text = serde_json::to_string(&saved).unwrap();
    assert!(!text.contains("lease") && !text.contains("uplink"), "{text}");
    let link = r#"{"id": 1, "attach_type": "peer", "device": null, "program": 7}"#;
    assert!(serde_json::from_str::<netkit::SavedLink>(link).is_ok());
    assert_eq!(serde_json::from_str::<SavedModel>(&text).unwrap(), saved);
}

#[test]
fn corrupt_uplinks_and_leases_are_refused() {
    let mut host = Host::new(4);
    let (primary, guest) = host.pair(2);
    let other = host.single(3);
    host.lease(guest, 1).unwrap();
    host.lease(other, 2).unwrap();
    let saved = host.model.save();
    let at = |ifindex: Ifindex| {
        saved
            .devices
            .iter()
            .position(|device| device.ifindex == ifindex)
            .unwrap()
    };
    let (nic, primary, guest, other) = (at(host.nic), at(primary), at(guest), at(other));
    let lease = saved.devices[other].lease.clone();
    type Corruption<'a> = Box<dyn Fn(&mut SavedModel) + 'a>;
    let corruptions: Vec<Corruption<'_>> = vec![
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().queues = vec![1]),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().queues = vec![2, 2]),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().queues = vec![0, 2, 3]),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().queues = vec![]),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().queues = vec![u32::MAX]),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().uplink = Ifindex(99)),
        Box::new(|saved| saved.devices[other].lease.as_mut().unwrap().uplink = saved.devices[guest].ifindex),
        Box::new(|saved| saved.devices[primary].lease = lease.clone()),
        Box::new(|saved| saved.devices[nic].lease = lease.clone()),
        Box::new(|saved| saved.devices[nic].uplink.as_mut().unwrap().leasable = false),
        Box::new(|saved| saved.devices[nic].uplink = None),
        Box::new(|saved| saved.devices[nic].mode = Mode::L3),
        Box::new(|saved| saved.devices[nic].num_rx_queues = 5000),
        Box::new(|saved| saved.devices[nic].name = "a/b".into()),
        Box::new(|saved| saved.devices[guest].uplink = saved.devices[nic].uplink.clone()),
    ];
    assert!(Model::restore(&saved, 1, 1).is_ok());
    for (number, corrupt) in corruptions.into_iter().enumerate() {
        let mut state = saved.clone();
        corrupt(&mut state);
        let refused = Model::restore(&state, 1, 1).map(|model| model.save());
        assert_eq!(errno(refused), Err(Errno::EINVAL), "{number}");
    }
}
