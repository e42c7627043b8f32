//! Creating pairs and singles: what netkit and rtnetlink accept, refuse and choose themselves.

mod common;

use common::*;

use devices::packet::MacAddress;

use netkit::{
    ChangeRequest, CreateRequest, Created, Device, Errno, Flag, Followed, Ifindex, Mode, Model,
    OperationalState, Pairing, PeerRequest, Policy, Route, Scrub, Target,
};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

fn model() -> Model {
    Model::new(1, 1)
}

#[allow(clippy::needless_pass_by_value)] // the cases build what they pass
fn create(request: CreateRequest) -> Result<Created, Errno> {
    errno(model().create(&request))
}

fn create_with_peer(peer: PeerRequest) -> Result<Created, Errno> {
    create(CreateRequest {
        mode: Some(Mode::L2),
        peer: Some(peer),
        ..Default::default()
    })
}

fn names(model: &Model) -> Vec<&str> {
    model.devices().map(|device| device.name.as_str()).collect()
}

#[test]
fn defaults() {
    let (model, primary, peer) = created(&CreateRequest::default());
    assert_eq!((peer, primary), (Ifindex(1), Ifindex(2)));
    assert_eq!(names(&model), ["nk0", "nk1"]);
    for (end, is_primary) in [(primary, true), (peer, false)] {
        let Device {
            address,
            mtu,
            up,
            mode,
            policy,
            scrub,
            pairing,
            primary,
            ..
        } = model.device(end).unwrap();
        assert_eq!(
            (*address, *mtu, *up, *primary),
            (MacAddress::ZERO, 1500, false, is_primary)
        );
        assert_eq!(
            (*mode, *policy, *scrub, *pairing),
            (Mode::L3, Policy::Forward, Scrub::Default, Pairing::Pair)
        );
        let info = model.info(end).unwrap();
        assert_eq!(
            (
                info.headroom,
                info.tailroom,
                info.num_rx_queues,
                info.num_tx_queues
            ),
            (0, 0, 1, 1)
        );
    }
    assert_eq!(model.device(primary).unwrap().domain.as_str(), "host");
    assert_eq!(model.device(peer).unwrap().domain.as_str(), "if1");
}

#[test]
fn names_given_and_numbered() {
    let mut model = model();
    let named = |name: &str, peer: &str| CreateRequest {
        name: Some(name.into()),
        peer: Some(PeerRequest {
            name: Some(peer.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    model.create(&named("nk1", "nk0")).unwrap();
    assert_eq!(errno(model.create(&named("nk1", "nk5"))), Err(Errno::EEXIST));
    assert_eq!(errno(model.create(&named("nk5", "nk1"))), Err(Errno::EEXIST));
    assert_eq!(errno(model.create(&named("nk5", "nk5"))), Err(Errno::EEXIST));
    model.create(&CreateRequest::default()).unwrap();
    model.create(&named("vm%d", "vm%d")).unwrap();
    assert_eq!(names(&model), ["nk0", "nk1", "nk2", "nk3", "vm0", "vm1"]);
    for name in ["", "a/b", "a b", ".", "..", "a:b", "%s", "sixteen-octets-x"] {
        assert_eq!(
            errno(model.create(&named(name, "ok"))),
            Err(Errno::EINVAL),
            "{name:?}"
        );
        assert_eq!(
            errno(model.create(&named("ok", name))),
            Err(Errno::EINVAL),
            "{name:?}"
        );
    }
    // Nothing is left of what was refused.
    assert_eq!(model.devices().count(), 6);
    assert_eq!(errno(model.find("ok")), Err(Errno::ENODEV));
}

#[test]
fn a_numbered_peer_stays_clear_of_the_primarys_name() {
    let (model, primary, _) = created(&CreateRequest {
        name: Some("nk0".into()),
        ..Default::default()
    });
    assert_eq!(model.find("nk0"), Ok(primary));
    assert_eq!(names(&model), ["nk1", "nk0"]);
}

#[test]
fn ifindexes() {
    let mut model = model();
    let with = |primary: Option<u32>, peer: Option<u32>| CreateRequest {
        ifindex: primary,
        peer: Some(PeerRequest {
            ifindex: peer,
            ..Default::default()
        }),
        ..Default::default()
    };
    let both = model.create(&with(Some(10), Some(20))).unwrap();
    assert_eq!(
        both,
        Created {
            primary: Ifindex(10),
            peer: Some(Ifindex(20))
        }
    );
    assert_eq!(errno(model.create(&with(Some(20), None))), Err(Errno::EEXIST));
    assert_eq!(errno(model.create(&with(Some(11), Some(20)))), Err(Errno::EBUSY));
    assert_eq!(errno(model.create(&with(Some(11), Some(11)))), Err(Errno::EBUSY));
    for wrong in [0, 1 << 31, u32::MAX] {
        assert_eq!(errno(model.create(&with(Some(wrong), None))), Err(Errno::EINVAL));
        assert_eq!(
            errno(model.create(&with(Some(11), Some(wrong)))),
            Err(Errno::EINVAL)
        );
    }
    // The peer's is heeded only along with the primary's; the counter passes over what is asked for.
    assert_eq!(
        model.create(&with(None, Some(30))).unwrap().peer,
        Some(Ifindex(1))
    );
    let reserved = model.create(&with(Some(3), None)).unwrap();
    assert_eq!(
        reserved,
        Created {
            primary: Ifindex(3),
            peer: Some(Ifindex(4))
        }
    );
    // Numbers are not used again while there are others.
    model.delete(Ifindex(4)).unwrap();
    assert_eq!(
        model.create(&CreateRequest::default()).unwrap().peer,
        Some(Ifindex(5))
    );
}

#[test]
fn address() {
    let l2 = CreateRequest {
        mode: Some(Mode::L2),
        ..Default::default()
    };
    let (model, primary, peer) = created(&l2);
    let (a, b) = (
        model.device(primary).unwrap().address,
        model.device(peer).unwrap().address,
    );
    assert!(a.is_unicast() && b.is_unicast() && a != b);

    let given = CreateRequest {
        address: Some(MAC),
        peer: Some(PeerRequest {
            address: Some(MacAddress([2, 0, 0, 0, 0, 2])),
            ..Default::default()
        }),
        ..l2.clone()
    };
    let (model, primary, peer) = created(&given);
    assert_eq!(model.device(primary).unwrap().address, MAC);
    assert_eq!(
        model.device(peer).unwrap().address,
        MacAddress([2, 0, 0, 0, 0, 2])
    );

    for bad in [
        MacAddress::ZERO,
        MacAddress::BROADCAST,
        MacAddress([1, 0, 0, 0, 0, 1]),
    ] {
        assert_eq!(
            create(CreateRequest {
                address: Some(bad),
                ..l2.clone()
            }),
            Err(Errno::EADDRNOTAVAIL)
        );
        assert_eq!(
            create_with_peer(PeerRequest {
                address: Some(bad),
                ..Default::default()
            }),
            Err(Errno::EADDRNOTAVAIL)
        );
        // Checked before the mode is.
        assert_eq!(
            create(CreateRequest {
                address: Some(bad),
                ..Default::default()
            }),
            Err(Errno::EADDRNOTAVAIL)
        );
    }
    let l3_peer = CreateRequest {
        peer: Some(PeerRequest {
            address: Some(MAC),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(
        create(CreateRequest {
            address: Some(MAC),
            ..Default::default()
        }),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(create(l3_peer), Err(Errno::EOPNOTSUPP));
}

#[test]
fn mtu() {
    for (mtu, expected) in [
        (67, Err(Errno::EINVAL)),
        (68, Ok(())),
        (65535, Ok(())),
        (65536, Err(Errno::EINVAL)),
    ] {
        assert_eq!(
            create(CreateRequest {
                mtu: Some(mtu),
                ..Default::default()
            })
            .map(drop),
            expected
        );
        assert_eq!(
            create_with_peer(PeerRequest {
                mtu: Some(mtu),
                ..Default::default()
            })
            .map(drop),
            expected
        );
        let (mut model, primary, peer) = created(&CreateRequest::default());
        assert_eq!(errno(model.set_mtu(primary, mtu)), expected);
        assert_eq!(model.device(peer).unwrap().mtu, 1500);
    }
}

#[test]
fn queues() {
    let rx = |n| CreateRequest {
        num_rx_queues: Some(n),
        ..Default::default()
    };
    let tx = |n| CreateRequest {
        num_tx_queues: Some(n),
        ..Default::default()
    };
    for (count, expected) in [
        (0, Err(Errno::EINVAL)),
        (1, Ok(())),
        (1024, Ok(())),
        (1025, Err(Errno::EOPNOTSUPP)),
        (4096, Err(Errno::EOPNOTSUPP)),
        (4097, Err(Errno::EINVAL)),
    ] {
        assert_eq!(create(rx(count)).map(drop), expected, "{count}");
        assert_eq!(
            create_with_peer(PeerRequest {
                num_rx_queues: Some(count),
                ..Default::default()
            })
            .map(drop),
            expected
        );
    }
    for (count, expected) in [
        (0, Err(Errno::EINVAL)),
        (1, Ok(())),
        (2, Err(Errno::EOPNOTSUPP)),
        (4097, Err(Errno::EINVAL)),
    ] {
        assert_eq!(create(tx(count)).map(drop), expected, "{count}");
        assert_eq!(
            create_with_peer(PeerRequest {
                num_tx_queues: Some(count),
                ..Default::default()
            })
            .map(drop),
            expected
        );
    }
    let error = model().create(&rx(0)).unwrap_err().to_string();
    assert_eq!(error, "Invalid number of receive queues: nk%d cannot have 0");
}

/// Without `PEER_INFO` the peer is made from the primary's attributes, with it from its own alone.
#[test]
fn what_the_peer_takes_from_the_primary() {
    let outer = CreateRequest {
        name: Some("vm".into()),
        mode: Some(Mode::L2),
        address: Some(MAC),
        mtu: Some(9000),
        num_rx_queues: Some(4),
        ifindex: Some(7),
        domain: Some("tenant".into()),
        headroom: Some(32),
        tailroom: Some(8),
        ..Default::default()
    };
    let (model, _, peer) = created(&outer);
    let end = model.device(peer).unwrap();
    assert_eq!(
        (end.mtu, end.num_rx_queues, end.headroom, end.tailroom),
        (9000, 4, 32, 8)
    );
    assert_eq!(
        (end.name.as_str(), end.ifindex, end.domain.as_str()),
        ("nk0", Ifindex(1), "if1")
    );
    assert_ne!(end.address, MAC);

    let (model, _, peer) = created(&CreateRequest {
        peer: Some(PeerRequest::default()),
        ..outer
    });
    let end = model.device(peer).unwrap();
    assert_eq!(
        (end.mtu, end.num_rx_queues, end.headroom, end.tailroom),
        (1500, 1, 32, 8)
    );
    assert_eq!((end.mode, end.name.as_str()), (Mode::L2, "nk0"));
}

#[test]
fn domains() {
    let peer_in = |domain: &str| CreateRequest {
        peer: Some(PeerRequest {
            domain: Some(domain.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let (mut model, primary, peer) = created(&peer_in("if3"));
    assert_eq!(model.device(peer).unwrap().domain, domain("if3"));
    assert_eq!(model.device(primary).unwrap().domain, domain("host"));
    // A domain of one's own is nobody else's.
    let second = model.create(&CreateRequest::default()).unwrap();
    assert_eq!(second.peer, Some(Ifindex(3)));
    assert_eq!(model.device(Ifindex(3)).unwrap().domain, domain("if3+"));
    model.set_domain(peer, "host").unwrap();
    assert_eq!(model.device(peer).unwrap().domain, domain("host"));
    assert_eq!(errno(model.set_domain(peer, "a/b")), Err(Errno::EINVAL));
    assert_eq!(create(peer_in("a b")), Err(Errno::EINVAL));
    assert_eq!(
        create(CreateRequest {
            domain: Some(String::new()),
            ..Default::default()
        }),
        Err(Errno::EINVAL)
    );
}

#[test]
fn single() {
    let single = CreateRequest {
        pairing: Some(Pairing::Single),
        ..Default::default()
    };
    let refused = [
        CreateRequest {
            peer: Some(PeerRequest::default()),
            ..single.clone()
        },
        CreateRequest {
            peer_scrub: Some(Scrub::Default),
            ..single.clone()
        },
        CreateRequest {
            peer_policy: Some(Policy::Forward),
            ..single.clone()
        },
        CreateRequest {
            scrub: Some(Scrub::Default),
            ..single.clone()
        },
        CreateRequest {
            policy: Some(Policy::Blackhole),
            ..single.clone()
        },
    ];
    for request in refused {
        assert_eq!(create(request), Err(Errno::EOPNOTSUPP));
    }
    let mut model = model();
    let allowed = CreateRequest {
        policy: Some(Policy::Forward),
        mode: Some(Mode::L2),
        headroom: Some(64),
        tailroom: Some(1),
        num_rx_queues: Some(64),
        ..single
    };
    let Created { primary, peer } = model.create(&allowed).unwrap();
    assert_eq!((primary, peer), (Ifindex(1), None));

    let info = model.info(primary).unwrap();
    assert_eq!(
        (info.pairing, info.primary, info.peer_ifindex, info.peer_name),
        (Pairing::Single, true, None, None)
    );
    assert_eq!(
        (info.scrub, info.peer_scrub, info.peer_policy),
        (None, None, None)
    );
    assert_eq!((info.headroom, info.num_rx_queues), (64, 64));
    assert_eq!(info.operational_state, OperationalState::Down);
    model.set_up(primary, true).unwrap();
    let info = model.info(primary).unwrap();
    assert_eq!(
        info.flags,
        [Flag::Broadcast, Flag::Multicast, Flag::Up, Flag::LowerUp]
    );

    let change = |request| errno(model.change(primary, &request));
    let mut change = change;
    assert_eq!(
        change(ChangeRequest {
            policy: Some(Policy::Forward),
            ..Default::default()
        }),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        change(ChangeRequest {
            peer_policy: Some(Policy::Forward),
            ..Default::default()
        }),
        Err(Errno::EOPNOTSUPP)
    );
    for list in BOTH {
        let target = Target::new(primary, list);
        assert_eq!(errno(model.prog_query(target)), Err(Errno::EOPNOTSUPP));
        assert_eq!(
            errno(model.prog_attach(target, &dynamic(&Tc::code(0)), &options())),
            Err(Errno::EOPNOTSUPP)
        );
    }
    assert_eq!(model.delete(primary), Ok(vec![primary]));
}

#[test]
fn what_leads_to_a_device_on_the_host_moves_with_it_to_another_domain() {
    let (mut model, primary, _) = created(&CreateRequest::default());
    let followed = Followed {
        routes: vec![Route {
            destination: "10.0.0.0".parse().unwrap(),
            length: 8,
            via: None,
            device: primary,
            source: None,
            mtu: None,
            metric: 0,
        }],
        neighbours: Vec::new(),
    };
    model.follow(primary, followed.clone()).unwrap();
    let routes = |model: &Model, name: &str| model.routing(&domain(name)).routes().len();
    assert_eq!((routes(&model, "host"), routes(&model, "red")), (1, 0));
    model.set_domain(primary, "red").unwrap();
    assert_eq!((routes(&model, "host"), routes(&model, "red")), (0, 1));
    assert!(model.save().routing.is_empty(), "the host's routes are not saved");
    model.delete(primary).unwrap();
    assert_eq!(routes(&model, "red"), 0);
    assert_eq!(errno(model.follow(primary, followed)), Err(Errno::ENODEV));
}
