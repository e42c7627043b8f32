//! The cases of the kernel's selftest `tc_links.c` on both lists of a pair. Those that mix in classic
//! tc filters have no meaning here.

mod common;

use std::sync::Arc;

use common::*;
use netkit::{AttachOptions, AttachType, Errno, LinkId, Mode, ProgramKind, Relative, Target, verdict};

fn on_both(case: impl Fn(&mut Pair, AttachType)) {
    for list in BOTH {
        let mut pair = Pair::new(Mode::L2);
        case(&mut pair, list);
    }
}

/// What a query is to list.
fn listed<const N: usize>(entries: [(&Arc<Tc>, LinkId); N]) -> Vec<(netkit::ProgramId, Option<LinkId>)> {
    entries
        .iter()
        .map(|(program, link)| (program.id(), Some(*link)))
        .collect()
}

fn seen<const N: usize>(programs: [&Arc<Tc>; N]) -> [bool; N] {
    programs.map(|program| program.take_seen())
}

#[test]
fn basic() {
    let mut pair = Pair::new(Mode::L2);
    let [tc1, tc2] = Tc::next();
    let [primary, peer] = BOTH;
    let link1 = pair.link(primary, &tc1, options()).unwrap();
    assert_eq!(pair.links(primary), (2, listed([(&tc1, link1)])));
    assert_eq!(pair.count(peer), 0);
    BOTH.into_iter().for_each(|list| pair.ping(list));
    assert_eq!(seen([&tc1, &tc2]), [true, false]);
    let link2 = pair.link(peer, &tc2, options()).unwrap();
    assert_ne!(link1, link2);
    assert_eq!(pair.links(peer), (2, listed([(&tc2, link2)])));
    BOTH.into_iter().for_each(|list| pair.ping(list));
    assert_eq!(seen([&tc1, &tc2]), [true, true]);
}

#[test]
fn before_link_or_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, options()).unwrap();
        assert_eq!(pair.links(list), (3, listed([(&tc1, link1), (&tc2, link2)])));
        let link3 = pair.link(list, &tc3, before(&tc2)).unwrap();
        let link4 = pair.link(list, &tc4, before_link(link1)).unwrap();
        let order = [(&tc4, link4), (&tc1, link1), (&tc3, link3), (&tc2, link2)];
        assert_eq!(pair.links(list), (5, listed(order)));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);
    });
}

#[test]
fn after_link_or_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, options()).unwrap();
        let link3 = pair.link(list, &tc3, after(&tc1)).unwrap();
        let link4 = pair.link(list, &tc4, after_link(link2)).unwrap();
        let order = [(&tc1, link1), (&tc3, link3), (&tc2, link2), (&tc4, link4)];
        assert_eq!(pair.links(list), (5, listed(order)));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);
    });
}

#[test]
fn revision() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        let link1 = pair.link(list, &tc1, at_revision(1, options())).unwrap();
        assert_eq!(
            pair.link(list, &tc2, at_revision(1, options())),
            Err(Errno::ESTALE)
        );
        assert_eq!(pair.count(list), 1);
        let link2 = pair.link(list, &tc2, at_revision(2, options())).unwrap();
        assert_eq!(pair.links(list), (3, listed([(&tc1, link1), (&tc2, link2)])));
    });
}

#[test]
fn replace_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3] = Tc::next();
        let link1 = pair.link(list, &tc1, at_revision(1, options())).unwrap();
        let link2 = pair.link(list, &tc2, at_revision(2, before(&tc1))).unwrap();
        assert_eq!(pair.links(list), (3, listed([(&tc2, link2), (&tc1, link1)])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, true, false]);

        // A new link never replaces.
        let by_link = AttachOptions {
            relative: Some(Relative::Link(link2)),
            ..replace(&tc2)
        };
        let behind = AttachOptions {
            after: true,
            ..by_link.clone()
        };
        for options in [at_revision(3, replace(&tc2)), at_revision(3, by_link), behind] {
            assert_eq!(pair.link(list, &tc3, options), Err(Errno::ENOENT));
            assert_eq!(pair.count(list), 2);
        }

        pair.update(link2, &tc3).unwrap();
        assert_eq!(pair.links(list), (4, listed([(&tc3, link2), (&tc1, link1)])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, false, true]);

        pair.model.link_detach(link2).unwrap();
        assert_eq!(pair.links(list), (5, listed([(&tc1, link1)])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, false, false]);

        // An update to the same program changes nothing.
        pair.update(link1, &tc1).unwrap();
        assert_eq!(pair.links(list), (5, listed([(&tc1, link1)])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, false, false]);
    });
}

#[test]
fn invalid() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        let both = AttachOptions {
            before: true,
            after: true,
            ..options()
        };
        let no_link = Some(Relative::Link(LinkId(u32::MAX)));
        let refusals = [
            (both.clone(), Errno::ERANGE),
            (
                AttachOptions {
                    relative: relative(&tc2),
                    ..options()
                },
                Errno::EINVAL,
            ),
            (
                AttachOptions {
                    relative: no_link.clone(),
                    ..options()
                },
                Errno::ENOENT,
            ),
            (
                AttachOptions {
                    relative: relative(&tc2),
                    ..both
                },
                Errno::ENOENT,
            ),
            (before(&tc1), Errno::ENOENT),
            (after(&tc1), Errno::ENOENT),
        ];
        for (options, errno) in refusals {
            assert_eq!(pair.link(list, &tc1, options), Err(errno));
            assert_eq!(pair.count(list), 0);
        }
        let nowhere = Target::new(netkit::Ifindex(0), list);
        assert_eq!(
            errno(pair.model.link_create(nowhere, &dynamic(&tc1), &options())),
            Err(Errno::ENODEV)
        );

        let link1 = pair.link(list, &tc1, options()).unwrap();
        let missing = AttachOptions {
            relative: no_link,
            ..first()
        };
        assert_eq!(pair.link(list, &tc2, missing), Err(Errno::ENOENT));
        assert_eq!(pair.link(list, &tc1, before_link(link1)), Err(Errno::EEXIST));
        assert_eq!(pair.link(list, &tc1, before(&tc1)), Err(Errno::EEXIST));
        assert_eq!(pair.count(list), 1);
        pair.link(list, &tc2, before_link(link1)).unwrap();
        assert_eq!(pair.count(list), 2);
    });
}

#[test]
fn prepend() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, first()).unwrap();
        assert_eq!(pair.links(list), (3, listed([(&tc2, link2), (&tc1, link1)])));
        let link3 = pair.link(list, &tc3, first()).unwrap();
        let link4 = pair.link(list, &tc4, first()).unwrap();
        let order = [(&tc4, link4), (&tc3, link3), (&tc2, link2), (&tc1, link1)];
        assert_eq!(pair.links(list), (5, listed(order)));
    });
}

#[test]
fn append() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, last()).unwrap();
        let link3 = pair.link(list, &tc3, last()).unwrap();
        let link4 = pair.link(list, &tc4, last()).unwrap();
        let order = [(&tc1, link1), (&tc2, link2), (&tc3, link3), (&tc4, link4)];
        assert_eq!(pair.links(list), (5, listed(order)));
    });
}

#[test]
fn dev_cleanup() {
    on_both(|pair, list| {
        let programs = Tc::next::<4>();
        let links = programs
            .each_ref()
            .map(|program| pair.link(list, program, options()).unwrap());
        let (owner, _) = pair.ends(list);
        for link in links {
            assert_eq!(pair.model.link_info(link).unwrap().ifindex, Some(owner));
        }
        pair.model.delete(pair.peer).unwrap();
        assert_eq!(pair.model.devices().count(), 0);
        for (link, program) in links.into_iter().zip(&programs) {
            let info = pair.model.link_info(link).unwrap();
            assert_eq!(
                (info.ifindex, info.program, info.attach_type),
                (None, program.id(), list)
            );
            assert_eq!(pair.update(link, program), Err(Errno::ENOLINK));
            pair.model.link_detach(link).unwrap();
            pair.model.link_close(link).unwrap();
            assert_eq!(Arc::strong_count(program), 1);
        }
    });
}

#[test]
fn chain() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, options()).unwrap();
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2]), [true, true]);
        pair.model.link_detach(link2).unwrap();
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2]), [true, false]);
    });
}

#[test]
fn update_checks_the_link_then_the_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        pair.attach(list, &tc3, options()).unwrap();
        let update = |pair: &mut Pair, link, program: &Arc<Tc>, expected: Option<&Arc<Tc>>| {
            errno(
                pair.model
                    .link_update(link, &dynamic(program), expected.map(|program| program.id())),
            )
        };
        assert_eq!(update(pair, LinkId(99), &tc2, None), Err(Errno::ENOENT));
        assert_eq!(update(pair, link1, &tc2, Some(&tc2)), Err(Errno::EPERM));
        assert_eq!(update(pair, link1, &tc1, Some(&tc2)), Err(Errno::EPERM));
        assert_eq!(update(pair, link1, &tc3, None), Err(Errno::EEXIST));
        let other = Tc::of_kind(ProgramKind::Other, |_| verdict::NEXT);
        assert_eq!(update(pair, link1, &other, None), Err(Errno::EINVAL));
        update(pair, link1, &tc2, Some(&tc1)).unwrap();
        assert_eq!(
            pair.links(list),
            (4, vec![(tc2.id(), Some(link1)), (tc3.id(), None)])
        );
        assert_eq!(pair.model.link_info(link1).unwrap().program, tc2.id());
        pair.model.link_detach(link1).unwrap();
        assert_eq!(update(pair, link1, &tc1, Some(&tc3)), Err(Errno::ENOLINK));
    });
}

#[test]
fn detach_twice_and_close() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        let link1 = pair.link(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, options()).unwrap();
        pair.model.link_detach(link1).unwrap();
        pair.model.link_detach(link1).unwrap();
        assert_eq!(pair.model.link_info(link1).unwrap().ifindex, None);
        assert_eq!(pair.links(list).1, listed([(&tc2, link2)]));
        pair.model.link_close(link2).unwrap();
        assert_eq!(pair.count(list), 0);
        assert_eq!(errno(pair.model.link_close(link2)), Err(Errno::ENOENT));
        assert_eq!(errno(pair.model.link_info(link2)), Err(Errno::ENOENT));
        assert_eq!(pair.model.links().count(), 1);
        // A detached link's program can be attached anew; ids are not used twice.
        let link3 = pair.link(list, &tc1, options()).unwrap();
        assert!(link3 > link2);
    });
}
