//! What holds of leases whatever is done to uplinks, devices and domains.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use common::uplink::uplink;
use netkit::{
    CreateRequest, DeviceKind, Domain, Ifindex, LeaseRequest, Model, NicState, Pairing, PeerRequest,
    QueueKind, QueueUse, UplinkRequest,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Control {
    Create {
        single: bool,
        rx_queues: u32,
        domain: &'static str,
    },
    CreateUplink {
        rx_queues: u32,
        leasable: bool,
    },
    Lease {
        device: u32,
        uplink: u32,
        queue: u32,
        domain: Option<&'static str>,
    },
    Delete(u32),
    RemoveUplink(u32),
    DeleteDomain(&'static str),
    SetChannels(u32, u32),
    SetNic {
        uplink: u32,
        rx_queues: u32,
        present: bool,
    },
    SetUse {
        uplink: u32,
        queue: u32,
        queue_use: QueueUse,
    },
    SetDomain(u32, &'static str),
    SetUp(u32, bool),
}

fn control() -> impl Strategy<Value = Control> {
    let device = 1..12u32;
    let queue = 0..4u32;
    let domain = || prop::sample::select(vec!["host", "a", "b"]);
    let queue_use = prop::sample::select(vec![QueueUse::Free, QueueUse::AfXdp, QueueUse::MemoryProvider]);
    prop_oneof![
        3 => (any::<bool>(), 1..5u32, domain())
            .prop_map(|(single, rx_queues, domain)| Control::Create { single, rx_queues, domain }),
        2 => (0..5u32, prop::bool::weighted(0.8))
            .prop_map(|(rx_queues, leasable)| Control::CreateUplink { rx_queues, leasable }),
        12 => (device.clone(), device.clone(), queue.clone(), prop::option::weighted(0.2, domain()))
            .prop_map(|(device, uplink, queue, domain)| Control::Lease { device, uplink, queue, domain }),
        1 => device.clone().prop_map(Control::Delete),
        1 => device.clone().prop_map(Control::RemoveUplink),
        1 => domain().prop_map(Control::DeleteDomain),
        2 => (device.clone(), 0..6u32).prop_map(|(uplink, count)| Control::SetChannels(uplink, count)),
        1 => (device.clone(), 0..5u32, prop::bool::weighted(0.8))
            .prop_map(|(uplink, rx_queues, present)| Control::SetNic { uplink, rx_queues, present }),
        2 => (device.clone(), queue, queue_use)
            .prop_map(|(uplink, queue, queue_use)| Control::SetUse { uplink, queue, queue_use }),
        1 => (device.clone(), domain()).prop_map(|(device, domain)| Control::SetDomain(device, domain)),
        1 => (device, any::<bool>()).prop_map(|(device, up)| Control::SetUp(device, up)),
    ]
}

fn apply(model: &mut Model, control: &Control) -> Result<(), netkit::Error> {
    match *control {
        Control::Create {
            single,
            rx_queues,
            domain,
        } => {
            let pairing = if single { Pairing::Single } else { Pairing::Pair };
            let peer = PeerRequest {
                num_rx_queues: Some(rx_queues),
                domain: Some(domain.into()),
                ..Default::default()
            };
            let request = CreateRequest {
                num_rx_queues: Some(rx_queues),
                pairing: Some(pairing),
                peer: (!single).then_some(peer),
                ..Default::default()
            };
            model.create(&request).map(drop)
        }
        Control::CreateUplink { rx_queues, leasable } => {
            let request = UplinkRequest {
                leasable,
                ..uplink("eth%d", rx_queues)
            };
            model.create_uplink(&request).map(drop)
        }
        Control::Lease {
            device,
            uplink,
            queue,
            domain,
        } => {
            let request = LeaseRequest {
                device: Ifindex(device),
                caller_domain: None,
                uplink: Ifindex(uplink),
                queue,
                kind: QueueKind::Rx,
                queue_kind: QueueKind::Rx,
                uplink_domain: domain.map(String::from),
            };
            model.lease(&request).map(drop)
        }
        Control::Delete(device) => model.delete(Ifindex(device)).map(drop),
        Control::RemoveUplink(uplink) => model.remove_uplink(Ifindex(uplink)).map(drop),
        Control::DeleteDomain(domain) => model.delete_domain(&Domain::new(domain).unwrap()).map(drop),
        Control::SetChannels(uplink, count) => model.set_channels(Ifindex(uplink), count),
        Control::SetNic {
            uplink,
            rx_queues,
            present,
        } => {
            let state = NicState {
                present,
                ..common::uplink::nic(rx_queues)
            };
            model.set_nic(Ifindex(uplink), state)
        }
        Control::SetUse {
            uplink,
            queue,
            queue_use,
        } => model.set_queue_use(Ifindex(uplink), queue, queue_use),
        Control::SetDomain(device, domain) => model.set_domain(Ifindex(device), domain),
        Control::SetUp(device, up) => model.set_up(Ifindex(device), up),
    }
}

/// Who leases what, as the uplinks show it: the lessee and the queue's number there, by uplink and queue.
fn leases(model: &Model) -> BTreeMap<(Ifindex, u32), (Ifindex, u32)> {
    let mut leases = BTreeMap::new();
    for device in model.devices() {
        for queue in model.queues(device.ifindex).unwrap() {
            if let Some(lease) = queue.lease {
                assert_eq!(
                    device.kind(),
                    DeviceKind::Uplink,
                    "a device does not see what is behind it"
                );
                leases.insert((device.ifindex, queue.queue), (lease.ifindex, lease.queue));
            }
        }
    }
    leases
}

fn check_invariants(model: &Model) {
    let leases = leases(model);
    // No two leases are one queue of a device's, and all of a device's are of one uplink.
    let ids: HashSet<_> = leases.values().collect();
    assert_eq!(ids.len(), leases.len());
    let mut uplinks = HashMap::new();
    let mut counts: HashMap<Ifindex, u32> = HashMap::new();
    for ((uplink, _), (lessee, id)) in &leases {
        assert_eq!(*uplinks.entry(*lessee).or_insert(*uplink), *uplink);
        *counts.entry(*lessee).or_default() += 1;
        let device = model.device(*lessee).unwrap();
        assert_eq!(device.kind(), DeviceKind::Netkit);
        assert!(device.pairing == Pairing::Single || !device.primary);
        // Queue 0 is the device's own, and it has no more than it was created with.
        assert!((1..device.num_rx_queues).contains(id));
    }
    for device in model
        .devices()
        .filter(|device| device.kind() == DeviceKind::Netkit)
    {
        let count = counts.get(&device.ifindex).copied().unwrap_or(0);
        assert_eq!(model.queues(device.ifindex).unwrap().len() as u32, 1 + count);
    }
    for uplink in model
        .devices()
        .filter(|device| device.kind() == DeviceKind::Uplink)
    {
        let lessees: HashSet<_> = model.lessees(uplink.ifindex).into_iter().collect();
        let shown: HashSet<_> = uplinks
            .iter()
            .filter(|(_, of)| **of == uplink.ifindex)
            .map(|(lessee, _)| *lessee)
            .collect();
        assert_eq!(lessees, shown);
        for queue in model.queues(uplink.ifindex).unwrap() {
            assert_eq!(queue.present, queue.queue < uplink.num_rx_queues);
            // Nobody else gets at a leased queue.
            assert!(queue.lease.is_none() || queue.used_by == QueueUse::Free);
        }
    }
    // A view has the same leases, but for queues that are gone.
    let view = model.view();
    for (_, device) in view.iter() {
        let mut expected: Vec<_> = leases
            .iter()
            .filter(|((uplink, queue), (lessee, _))| {
                *lessee == device.ifindex && *queue < model.device(*uplink).unwrap().num_rx_queues
            })
            .map(|((_, queue), (_, id))| (*id, *queue))
            .collect();
        expected.sort_unstable();
        let expected: Vec<_> = expected.into_iter().map(|(_, queue)| queue).collect();
        let lease = device.lease.as_ref();
        assert_eq!(lease.map_or(&[][..], |lease| &lease.queues), expected);
        let uplink = lease.map(|lease| view.device(lease.uplink).ifindex);
        assert_eq!(uplink, uplinks.get(&device.ifindex).copied());
        let other = device.peer.or(lease.map(|lease| lease.uplink));
        let crosses = other.is_some_and(|other| view.device(other).domain != device.domain);
        assert_eq!(device.crosses_domains, crosses);
    }
}

proptest! {
    #[test]
    fn whatever_is_done_no_queue_has_two_lessees(controls in prop::collection::vec(control(), 1..80)) {
        let mut model = Model::new(1, 7);
        for control in &controls {
            let (state, before) = (model.save(), leases(&model));
            let result = apply(&mut model, control);
            let after = leases(&model);
            if result.is_err() {
                prop_assert_eq!(&model.save().devices, &state.devices);
            }
            match control {
                Control::Lease { .. } => {
                    prop_assert_eq!(after.len() - before.len(), usize::from(result.is_ok()));
                }
                Control::Delete(_) | Control::RemoveUplink(_) | Control::DeleteDomain(_) => {}
                // A lease lives exactly as long as its device and its uplink.
                _ => prop_assert_eq!(&after, &before),
            }
            let there = |(uplink, lessee): (Ifindex, Ifindex)| {
                model.device(uplink).is_ok() && model.device(lessee).is_ok()
            };
            for ((uplink, queue), (lessee, id)) in &before {
                let kept = after.get(&(*uplink, *queue)) == Some(&(*lessee, *id));
                prop_assert_eq!(kept, there((*uplink, *lessee)));
                // With the uplink goes the lessee.
                prop_assert!(model.device(*uplink).is_ok() || model.device(*lessee).is_err());
            }
            if let (Control::SetChannels(uplink, count), Ok(())) = (control, &result) {
                let lost = |(of, queue): &(Ifindex, u32)| of.0 == *uplink && *queue >= *count;
                let shrinks = |(_, queue): &(Ifindex, u32)| {
                    let device = state.devices.iter().find(|device| device.ifindex.0 == *uplink).unwrap();
                    *queue < device.num_rx_queues
                };
                prop_assert!(!after.keys().any(|key| lost(key) && shrinks(key)));
            }
            check_invariants(&model);
        }
        let saved = model.save();
        let restored = Model::restore(&saved, 1, 7).unwrap();
        prop_assert_eq!(restored.save(), saved);
        prop_assert_eq!(leases(&restored), leases(&model));
    }
}
