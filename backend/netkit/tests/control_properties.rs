//! What holds whatever is done to a model.

mod common;

use std::collections::HashSet;

use common::*;
use devices::packet::MacAddress;
use netkit::{
    AttachType, ChangeRequest, CreateRequest, Ifindex, Mode, Model, OperationalState, Pairing, PeerRequest,
    Policy, SavedModel, Scrub, Target,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Control {
    Create(Box<CreateRequest>),
    Delete(u32),
    SetUp(u32, bool),
    SetMtu(u32, u32),
    SetAddress(u32, u8),
    SetName(u32, String),
    SetDomain(u32, String),
    Change(u32, Option<Policy>, Option<Policy>),
    Link(u32, bool),
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a", "b", "nk0", "nk1", "nk%d", "x%dy", "bad/name", "", "%d%d",
    ])
    .prop_map(String::from)
}

fn domain_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["host", "foo", "if1", "if2", "a b"]).prop_map(String::from)
}

fn address() -> impl Strategy<Value = MacAddress> {
    (0..4u8).prop_map(|last| MacAddress([2, 0, 0, 0, 0, last]))
}

fn peer_request() -> impl Strategy<Value = PeerRequest> {
    use prop::option::{of, weighted};
    (
        of(name()),
        weighted(0.2, address()),
        weighted(0.2, 60..70u32),
        of(domain_name()),
        weighted(0.3, 0..12u32),
    )
        .prop_map(|(name, address, mtu, domain, ifindex)| PeerRequest {
            name,
            address,
            mtu,
            domain,
            ifindex,
            ..Default::default()
        })
}

fn create_request() -> impl Strategy<Value = CreateRequest> {
    use prop::option::{of, weighted};
    let modes = prop::sample::select(vec![Mode::L2, Mode::L3]);
    let policies = prop::sample::select(vec![Policy::Forward, Policy::Blackhole]);
    let scrubs = prop::sample::select(vec![Scrub::None, Scrub::Default]);
    let pairings = prop::sample::select(vec![Pairing::Pair, Pairing::Single]);
    let primary = (
        of(name()),
        weighted(0.2, address()),
        weighted(0.3, 0..12u32),
        of(domain_name()),
        weighted(0.2, 0..3u32),
    );
    let netkit = (
        of(modes),
        weighted(0.2, policies),
        weighted(0.2, scrubs),
        weighted(0.3, pairings),
        any::<Option<u16>>(),
    );
    (primary, netkit, of(peer_request())).prop_map(|(primary, netkit, peer)| {
        let (name, address, ifindex, domain, num_rx_queues) = primary;
        let (mode, policy, scrub, pairing, headroom) = netkit;
        let attributes = CreateRequest {
            mode,
            policy,
            scrub,
            pairing,
            headroom,
            ..Default::default()
        };
        CreateRequest {
            name,
            address,
            ifindex,
            domain,
            num_rx_queues,
            peer,
            ..attributes
        }
    })
}

fn control() -> impl Strategy<Value = Control> {
    let device = 0..12u32;
    let policy = || prop::option::of(prop::sample::select(vec![Policy::Forward, Policy::Blackhole]));
    prop_oneof![
        4 => create_request().prop_map(|request| Control::Create(Box::new(request))),
        2 => device.clone().prop_map(Control::Delete),
        2 => (device.clone(), any::<bool>()).prop_map(|(device, up)| Control::SetUp(device, up)),
        1 => (device.clone(), 60..70u32).prop_map(|(device, mtu)| Control::SetMtu(device, mtu)),
        1 => (device.clone(), any::<u8>()).prop_map(|(device, octet)| Control::SetAddress(device, octet)),
        1 => (device.clone(), name()).prop_map(|(device, name)| Control::SetName(device, name)),
        1 => (device.clone(), domain_name()).prop_map(|(device, name)| Control::SetDomain(device, name)),
        1 => (device.clone(), policy(), policy()).prop_map(|(device, a, b)| Control::Change(device, a, b)),
        1 => (device, any::<bool>()).prop_map(|(device, peer)| Control::Link(device, peer)),
    ]
}

fn apply(model: &mut Model, control: &Control) -> Result<(), netkit::Error> {
    match control {
        Control::Create(request) => model.create(request).map(drop),
        Control::Delete(device) => model.delete(Ifindex(*device)).map(drop),
        Control::SetUp(device, up) => model.set_up(Ifindex(*device), *up),
        Control::SetMtu(device, mtu) => model.set_mtu(Ifindex(*device), *mtu),
        Control::SetAddress(device, octet) => {
            model.set_address(Ifindex(*device), MacAddress([*octet, 0, 0, 0, 0, 1]))
        }
        Control::SetName(device, name) => model.set_name(Ifindex(*device), name),
        Control::SetDomain(device, name) => model.set_domain(Ifindex(*device), name),
        Control::Change(device, policy, peer_policy) => {
            let request = ChangeRequest {
                policy: *policy,
                peer_policy: *peer_policy,
                ..Default::default()
            };
            model.change(Ifindex(*device), &request)
        }
        Control::Link(device, of_peer) => {
            let attach_type = if *of_peer {
                AttachType::Peer
            } else {
                AttachType::Primary
            };
            let target = Target::new(Ifindex(*device), attach_type);
            model
                .link_create(target, &dynamic(&Tc::code(0)), &options())
                .map(drop)
        }
    }
}

fn check_invariants(model: &Model) {
    let mut names = HashSet::new();
    for device in model.devices() {
        let info = model.info(device.ifindex).unwrap();
        assert!(names.insert(device.name.clone()), "{} twice", device.name);
        assert_eq!(model.find(&device.name), Ok(device.ifindex));
        assert!((68..=65535).contains(&device.mtu));
        assert_eq!(device.mode == Mode::L3, device.address.is_zero());
        // Both ends or none, and they know each other.
        let peer = device.peer.map(|peer| model.device(peer).unwrap());
        assert_eq!(peer.is_some(), device.pairing == Pairing::Pair);
        if let Some(peer) = peer {
            assert_eq!(
                (peer.peer, peer.primary, peer.mode),
                (Some(device.ifindex), !device.primary, device.mode)
            );
        }
        // A carrier needs both.
        let carrier = device.up && peer.is_none_or(|peer| peer.up);
        assert_eq!(info.operational_state == OperationalState::Up, carrier);
    }
    for link in model.links() {
        assert!(link.ifindex.is_none_or(|ifindex| model.device(ifindex).is_ok()));
    }
    let view = model.view();
    assert_eq!(view.len(), model.devices().count());
    for (slot, device) in view.iter() {
        assert_eq!(view.slot(device.ifindex), Some(slot));
        let peer = device.peer.map(|peer| view.device(peer));
        assert_eq!(
            peer.map(|peer| peer.ifindex),
            model.device(device.ifindex).unwrap().peer
        );
        assert_eq!(
            device.crosses_domains,
            peer.is_some_and(|peer| peer.domain != device.domain)
        );
    }
}

proptest! {
    #[test]
    fn control_operations_keep_the_invariants(controls in prop::collection::vec(control(), 1..60)) {
        let mut model = Model::new(2, 7);
        for control in &controls {
            let before = model.save();
            let result = apply(&mut model, control);
            if result.is_err() && !matches!(control, Control::Change(..)) {
                // Nothing is left of what failed, but for addresses and numbers that were drawn.
                prop_assert_eq!(&model.save().devices, &before.devices);
            }
            check_invariants(&model);
        }
        let saved = model.save();
        let mut restored = Model::restore(&saved, 2, 7).unwrap();
        restored.restore_lists(&saved, |id| Some(Tc::with_id(id))).unwrap();
        prop_assert_eq!(restored.save(), saved.clone());
        check_invariants(&restored);
        let text = serde_json::to_string(&saved).unwrap();
        prop_assert_eq!(serde_json::from_str::<SavedModel>(&text).unwrap(), saved);
    }
}
