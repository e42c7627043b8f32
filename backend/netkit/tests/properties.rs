//! What holds whatever is done: lists agree with a naive one, and a model keeps its invariants.

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::*;
use devices::packet::MacAddress;
use netkit::{
    AttachOptions, AttachType, ChangeRequest, CreateRequest, Errno, Ifindex, LinkId, Mode, Model,
    OperationalState, Pairing, PeerRequest, Policy, ProgramId, Relative, Scrub, Target,
};
use proptest::prelude::*;

/// A list by the letter of the rules: candidates for the place are gathered, and must be one.
#[derive(Debug, Default)]
struct NaiveList {
    entries: Vec<(ProgramId, Option<LinkId>)>,
    changes: u64,
}

/// Options by number of program or link, rather than by object.
#[derive(Debug, Clone)]
struct Place {
    before: bool,
    after: bool,
    replace: Option<usize>,
    relative: Option<(bool, usize)>,
    revision: Option<u64>,
}

fn place() -> impl Strategy<Value = Place> {
    let relative = prop::option::of((any::<bool>(), 0..8usize));
    let revision = prop::option::weighted(0.2, 1..12u64);
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::weighted(0.2, 0..8usize),
        relative,
        revision,
    )
        .prop_map(|(before, after, replace, relative, revision)| Place {
            before,
            after,
            replace,
            relative,
            revision,
        })
}

#[derive(Debug, Clone)]
enum Operation {
    Attach(usize, Place),
    Detach(Option<usize>, Place),
    LinkCreate(usize, Place),
    LinkUpdate(usize, usize),
    LinkDetach(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (0..8usize, place()).prop_map(|(program, place)| Operation::Attach(program, place)),
        2 => (prop::option::of(0..8usize), place()).prop_map(|(program, place)| Operation::Detach(program, place)),
        2 => (0..8usize, place()).prop_map(|(program, place)| Operation::LinkCreate(program, place)),
        1 => (0..8usize, 0..8usize).prop_map(|(link, program)| Operation::LinkUpdate(link, program)),
        1 => (0..8usize).prop_map(Operation::LinkDetach),
    ]
}

impl NaiveList {
    fn find(&self, program: ProgramId) -> Option<usize> {
        self.entries.iter().position(|(listed, _)| *listed == program)
    }

    fn fresh(&self, revision: u64) -> Result<(), Errno> {
        if revision == 0 || revision == self.changes + 1 {
            Ok(())
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// Where an entry goes or is, counted in gaps: gap n is in front of entry n.
    fn gaps(
        &self,
        place: &Place,
        relative: Option<(ProgramId, Option<LinkId>)>,
    ) -> Result<Vec<usize>, Errno> {
        let mut gaps = Vec::new();
        let at = relative.map(|(program, link)| {
            let found = self
                .find(program)
                .filter(|index| link.is_none() || self.entries[*index].1 == link);
            found.ok_or(Errno::ENOENT)
        });
        if place.before {
            gaps.push(at.unwrap_or(Ok(0))?);
        }
        if place.after {
            gaps.push(at.map_or(Ok(self.entries.len()), |at| Ok(at? + 1))?);
        }
        if gaps.is_empty() && relative.is_some() {
            return Err(Errno::EINVAL);
        }
        Ok(gaps)
    }

    fn attach(
        &mut self,
        new: (ProgramId, Option<LinkId>),
        replace: Option<Result<ProgramId, Errno>>,
        place: &Place,
        relative: Option<(ProgramId, Option<LinkId>)>,
    ) -> Result<(), Errno> {
        self.fresh(place.revision.unwrap_or(0))?;
        if self.find(new.0).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Some(old) = replace {
            let index = self.find(old?).ok_or(Errno::ENOENT)?;
            if self.entries[index].1.is_some() {
                return Err(Errno::EBUSY);
            }
            self.same_entry(index, place, relative)?;
            self.entries[index] = new;
        } else {
            let gaps = self.gaps(place, relative)?;
            if place.before && place.after {
                return Err(Errno::ERANGE);
            }
            self.entries
                .insert(gaps.first().copied().unwrap_or(self.entries.len()), new);
        }
        self.changes += 1;
        Ok(())
    }

    /// Whether `index` is right before, or right after, what the place says.
    fn same_entry(
        &self,
        index: usize,
        place: &Place,
        relative: Option<(ProgramId, Option<LinkId>)>,
    ) -> Result<(), Errno> {
        let at = relative.map(|(program, link)| {
            let found = self
                .find(program)
                .filter(|index| link.is_none() || self.entries[*index].1 == link);
            found.ok_or(Errno::ENOENT)
        });
        if place.before && at.map_or(Ok(true), |at| Ok(at? != index + 1))? {
            return Err(Errno::ERANGE);
        }
        if place.after && at.map_or(Ok(true), |at| Ok(at? + 1 != index))? {
            return Err(Errno::ERANGE);
        }
        Ok(())
    }

    fn detach(
        &mut self,
        program: Option<ProgramId>,
        place: &Place,
        relative: Option<(ProgramId, Option<LinkId>)>,
    ) -> Result<(), Errno> {
        if self.entries.is_empty() {
            return Err(Errno::ENOENT);
        }
        if place.replace.is_some() {
            return Err(Errno::EINVAL);
        }
        self.fresh(place.revision.unwrap_or(0))?;
        let index = if let Some(program) = program {
            let index = self.find(program).ok_or(Errno::ENOENT)?;
            if self.entries[index].1.is_some() {
                return Err(Errno::EBUSY);
            }
            self.same_entry(index, place, relative)?;
            index
        } else {
            let gaps = self.gaps(place, relative)?;
            if place.before && place.after {
                return Err(Errno::ERANGE);
            }
            match (gaps.first(), place.before, relative) {
                // The entry in front of the relative one, or the first.
                (Some(gap), true, Some(_)) => gap.saturating_sub(1),
                (Some(gap), ..) => (*gap).min(self.entries.len() - 1),
                (None, ..) => self.entries.len() - 1,
            }
        };
        if self.entries[index].1.is_some() {
            return Err(Errno::EBUSY);
        }
        self.entries.remove(index);
        self.changes += 1;
        Ok(())
    }
}

/// The lists under test, with the objects that numbers stand for.
struct Bench {
    pair: Pair,
    list: AttachType,
    naive: NaiveList,
    programs: [Arc<Tc>; 8],
    /// Every link made, with its program and whether it is attached.
    links: Vec<(LinkId, usize, bool)>,
}

impl Bench {
    fn new(list: AttachType) -> Bench {
        Bench {
            pair: Pair::new(Mode::L2),
            list,
            naive: NaiveList::default(),
            programs: Tc::next(),
            links: vec![],
        }
    }

    fn relative(&self, place: &Place) -> (Option<Relative>, Option<(ProgramId, Option<LinkId>)>) {
        let Some((by_link, number)) = place.relative else {
            return (None, None);
        };
        match self.links.get(number).filter(|_| by_link) {
            Some((link, program, _)) => (
                Some(Relative::Link(*link)),
                Some((self.programs[*program].id(), Some(*link))),
            ),
            None => (
                relative(&self.programs[number]),
                Some((self.programs[number].id(), None)),
            ),
        }
    }

    fn options(&self, place: &Place) -> AttachOptions {
        AttachOptions {
            before: place.before,
            after: place.after,
            replace: place.replace.map(|number| dynamic(&self.programs[number])),
            relative: self.relative(place).0,
            expected_revision: place.revision.unwrap_or(0),
        }
    }

    fn run(&mut self, operation: &Operation) -> (Result<(), Errno>, Result<(), Errno>) {
        let programs = self.programs.clone();
        match operation {
            Operation::Attach(number, place) => {
                let naive_relative = self.relative(place).1;
                let options = self.options(place);
                let replace = place.replace.map(|number| Ok(programs[number].id()));
                let expected =
                    self.naive
                        .attach((programs[*number].id(), None), replace, place, naive_relative);
                (self.pair.attach(self.list, &programs[*number], options), expected)
            }
            Operation::Detach(number, place) => {
                let naive_relative = self.relative(place).1;
                let options = self.options(place);
                let program = number.map(|number| &programs[number]);
                let expected = self
                    .naive
                    .detach(program.map(|program| program.id()), place, naive_relative);
                (self.pair.detach(self.list, program, options), expected)
            }
            Operation::LinkCreate(number, place) => {
                let naive_relative = self.relative(place).1;
                let result = self.pair.link(self.list, &programs[*number], self.options(place));
                let link = result.unwrap_or(LinkId(u32::MAX));
                let replace = place.replace.map(|_| Err(Errno::ENOENT));
                let expected = self.naive.attach(
                    (programs[*number].id(), Some(link)),
                    replace,
                    place,
                    naive_relative,
                );
                if result.is_ok() {
                    self.links.push((link, *number, true));
                }
                (result.map(drop), expected)
            }
            Operation::LinkUpdate(number, program) => self.update(*number, *program),
            Operation::LinkDetach(number) => {
                let Some((link, _, attached)) = self.links.get_mut(*number) else {
                    return (Ok(()), Ok(()));
                };
                if std::mem::take(attached) {
                    self.naive.entries.retain(|(_, owner)| *owner != Some(*link));
                    self.naive.changes += 1;
                }
                (errno(self.pair.model.link_detach(*link)), Ok(()))
            }
        }
    }

    fn update(&mut self, number: usize, program: usize) -> (Result<(), Errno>, Result<(), Errno>) {
        let Some((link, current, attached)) = self.links.get_mut(number) else {
            return (Ok(()), Ok(()));
        };
        let id = self.programs[program].id();
        let expected = if !*attached {
            Err(Errno::ENOLINK)
        } else if *current == program {
            Ok(())
        } else if self.naive.find(id).is_some() {
            Err(Errno::EEXIST)
        } else {
            for entry in self
                .naive
                .entries
                .iter_mut()
                .filter(|(_, owner)| *owner == Some(*link))
            {
                entry.0 = id;
            }
            self.naive.changes += 1;
            *current = program;
            Ok(())
        };
        let link = *link;
        (self.pair.update(link, &self.programs[program].clone()), expected)
    }
}

proptest! {
    #[test]
    fn lists_agree_with_a_naive_one(list in prop::sample::select(&BOTH[..]),
                                    operations in prop::collection::vec(operation(), 1..60)) {
        let mut bench = Bench::new(list);
        for operation in &operations {
            let (result, expected) = bench.run(operation);
            prop_assert_eq!(result, expected, "{:?}", operation);
            let (revision, entries) = bench.pair.links(list);
            prop_assert_eq!(&entries, &bench.naive.entries);
            let changes = if entries.is_empty() { 0 } else { bench.naive.changes };
            prop_assert_eq!(revision, changes + 1);
        }
        // Workers run what the query lists.
        let view = bench.pair.model.view();
        let (sender, _) = bench.pair.ends(list);
        let ids: Vec<_> = view.device(slot(&view, sender)).programs.iter().map(|program| program.id()).collect();
        prop_assert_eq!(ids, bench.pair.programs(list).1);
    }
}

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
        let restored = Model::restore(&saved, 2, 7).unwrap();
        prop_assert_eq!(restored.save(), saved.clone());
        check_invariants(&restored);
        let text = serde_json::to_string(&saved).unwrap();
        prop_assert_eq!(serde_json::from_str::<netkit::SavedModel>(&text).unwrap(), saved);
    }
}

/// What a user writes in JSON.
#[test]
fn requests_are_read_from_json() {
    let text = r#"{"name": "nk%d", "mode": "l2", "address": "52:54:00:12:34:56", "policy": "blackhole",
                   "scrub": "none", "pairing": "pair", "peer": {"name": "vm", "domain": "tenant"}}"#;
    let request: CreateRequest = serde_json::from_str(text).unwrap();
    let expected = CreateRequest {
        name: Some("nk%d".into()),
        mode: Some(Mode::L2),
        address: Some(MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        policy: Some(Policy::Blackhole),
        scrub: Some(Scrub::None),
        pairing: Some(Pairing::Pair),
        peer: Some(PeerRequest {
            name: Some("vm".into()),
            domain: Some("tenant".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(request, expected);
    let written = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<CreateRequest>(&written).unwrap(), expected);
    for wrong in [
        r#"{"mode": "L2"}"#,
        r#"{"address": "nonsense"}"#,
        r#"{"nmae": "x"}"#,
        r#"{"mtu": -1}"#,
    ] {
        assert!(serde_json::from_str::<CreateRequest>(wrong).is_err(), "{wrong}");
    }
    let info = Pair::new(Mode::L2).model.info(Ifindex(2)).unwrap();
    let text = serde_json::to_string(&info).unwrap();
    assert!(
        text.contains(r#""flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"operational_state":"UP""#),
        "{text}"
    );
}
