//! What survives a restart, and what a corrupt state is told.

mod common;

use common::*;
use devices::packet::MacAddress;
use netkit::{
    AttachType, CreateRequest, Created, DEVICES_MAX, Errno, Ifindex, Mode, Model, Pairing, Policy,
    SavedDevice, SavedModel, Scrub, Statistics, Target,
};

#[test]
fn ifindexes_start_again_at_the_end() {
    let saved = SavedModel {
        last_ifindex: i32::MAX as u32 - 1,
        ..SavedModel::default()
    };
    let mut model = Model::restore(&saved, 1, 1).unwrap();
    let created = model.create(&CreateRequest::default()).unwrap();
    assert_eq!(
        created,
        Created {
            primary: Ifindex(1),
            peer: Some(Ifindex(i32::MAX as u32))
        }
    );
}

#[test]
fn save_and_restore() {
    let request = CreateRequest {
        mode: Some(Mode::L2),
        policy: Some(Policy::Blackhole),
        scrub: Some(Scrub::None),
        mtu: Some(9000),
        headroom: Some(32),
        ..Default::default()
    };
    let (mut model, primary, peer) = created(&request);
    model
        .create(&CreateRequest {
            pairing: Some(Pairing::Single),
            ..Default::default()
        })
        .unwrap();
    model.set_up(primary, true).unwrap();
    model.set_domain(peer, "foo").unwrap();
    model.set_name(peer, "vm").unwrap();
    let saved = model.save();
    let mut restored = Model::restore(&saved, 4, 1).unwrap();
    assert_eq!(restored.save(), saved);
    for device in model.devices() {
        assert_eq!(restored.info(device.ifindex), model.info(device.ifindex));
        assert_eq!(restored.statistics(device.ifindex), Ok(Statistics::default()));
    }
    // New devices get new numbers and, though the seed is the same, new addresses.
    let created = restored
        .create(&CreateRequest {
            mode: Some(Mode::L2),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(created.peer, Some(Ifindex(4)));
    let mut addresses: Vec<_> = restored.devices().map(|device| device.address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 5);
}

#[test]
fn corrupt_state_is_refused() {
    let (model, _, _) = created(&CreateRequest {
        mode: Some(Mode::L2),
        ..Default::default()
    });
    let saved = model.save();
    let corruptions: [fn(&mut SavedModel); 21] = [
        |saved| saved.last_ifindex = u32::MAX,
        |saved| saved.devices[0].ifindex = Ifindex(0),
        |saved| saved.devices[0].ifindex = Ifindex(1 << 31),
        |saved| saved.devices[0].ifindex = Ifindex(9),
        |saved| saved.devices[0].ifindex = saved.devices[1].ifindex,
        |saved| saved.devices[0].name = saved.devices[1].name.clone(),
        |saved| saved.devices[0].name = "a/b".into(),
        |saved| saved.devices[0].name = "nk%d".into(),
        |saved| saved.devices[0].address = MacAddress::BROADCAST,
        |saved| saved.devices[0].mode = Mode::L3,
        |saved| saved.devices[0].mtu = 0,
        |saved| saved.devices[0].num_rx_queues = 0,
        |saved| saved.devices[0].num_tx_queues = 2,
        |saved| saved.devices[0].peer = None,
        |saved| saved.devices[0].peer = Some(Ifindex(1)),
        |saved| saved.devices[0].peer = Some(Ifindex(77)),
        |saved| saved.devices[0].primary = true,
        |saved| saved.devices[1].primary = false,
        |saved| saved.devices[0].pairing = Pairing::Single,
        |saved| saved.devices[0].headroom = 1,
        |saved| drop(saved.devices.pop()),
    ];
    for (number, corrupt) in corruptions.into_iter().enumerate() {
        let mut state = saved.clone();
        corrupt(&mut state);
        let error = Model::restore(&state, 1, 1).unwrap_err();
        assert_eq!(error.errno(), Errno::EINVAL, "{number}");
        assert!(
            error
                .to_string()
                .starts_with("the saved state cannot be restored: "),
            "{number}"
        );
    }
}

/// Each end names an existing device of the right kind, but they do not name each other.
#[test]
fn crossed_pairs_are_refused() {
    let mut model = Model::new(1, 1);
    model.create(&CreateRequest::default()).unwrap();
    model.create(&CreateRequest::default()).unwrap();
    let mut saved = model.save();
    saved.devices[0].peer = Some(Ifindex(4));
    assert_eq!(errno(Model::restore(&saved, 1, 1)).unwrap_err(), Errno::EINVAL);
}

#[test]
fn the_number_of_devices_is_limited() {
    let mut model = Model::new(1, 1);
    let single = CreateRequest {
        pairing: Some(Pairing::Single),
        ..Default::default()
    };
    model.create(&single).unwrap();
    let template = model.save().devices.remove(0);
    let device = |number: u32| SavedDevice {
        ifindex: Ifindex(number),
        name: format!("d{number}"),
        ..template.clone()
    };
    let limit = DEVICES_MAX as u32;
    let mut saved = SavedModel {
        last_ifindex: limit,
        devices: (1..limit).map(device).collect(),
        ..SavedModel::default()
    };
    let mut model = Model::restore(&saved, 1, 1).unwrap();
    // There is room for one more, but not for two.
    assert_eq!(errno(model.create(&CreateRequest::default())), Err(Errno::ENOSPC));
    model.create(&single).unwrap();
    assert_eq!(errno(model.create(&single)), Err(Errno::ENOSPC));
    saved.devices.extend([device(limit), device(limit + 1)]);
    assert_eq!(errno(Model::restore(&saved, 1, 1)).unwrap_err(), Errno::EINVAL);
}

#[test]
fn lists_and_links_come_back_with_their_programs() {
    let (mut model, primary, _) = created(&CreateRequest::default());
    let (program, linked) = (Tc::code(0), Tc::code(0));
    let list = |attach_type| Target::new(primary, attach_type);
    model
        .prog_attach(list(AttachType::Primary), &dynamic(&program), &options())
        .unwrap();
    let link = model
        .link_create(list(AttachType::Primary), &dynamic(&linked), &first())
        .unwrap();
    let gone = model
        .link_create(list(AttachType::Peer), &dynamic(&linked), &options())
        .unwrap();
    model.link_close(gone).unwrap();
    let saved = model.save();

    let mut restored = Model::restore(&saved, 1, 1).unwrap();
    restored
        .restore_lists(&saved, |id| Some(Tc::with_id(id)))
        .unwrap();
    for attach_type in [AttachType::Primary, AttachType::Peer] {
        let listing = restored.prog_query(list(attach_type));
        assert_eq!(listing, model.prog_query(list(attach_type)));
    }
    assert_eq!(restored.link_info(link).unwrap().program, linked.id());
    let next = restored
        .link_create(list(AttachType::Peer), &dynamic(&linked), &options())
        .unwrap();
    assert!(next > gone, "a link's id is never used twice");

    let mut without = Model::restore(&saved, 1, 1).unwrap();
    assert!(
        without.restore_lists(&saved, |_| None).is_err(),
        "a program that is not there"
    );
}
