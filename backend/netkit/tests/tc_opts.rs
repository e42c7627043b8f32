//! The cases of the kernel's selftest `tc_opts.c` on both lists of a pair. Those that mix in classic
//! tc filters, or look at buffers of the system call, have no meaning here.

mod common;

use common::*;
use netkit::{AttachOptions, AttachType, Errno, Mode, PROGRAMS_MAX, ProgramId};

use std::sync::Arc;

fn on_both(case: impl Fn(&mut Pair, AttachType)) {
    for list in BOTH {
        for mode in [Mode::L2, Mode::L3] {
            let mut pair = Pair::new(mode);
            case(&mut pair, list);
        }
    }
}

fn ids<const N: usize>(programs: [&Arc<Tc>; N]) -> Vec<ProgramId> {
    programs.iter().map(|program| program.id()).collect()
}

fn seen<const N: usize>(programs: [&Arc<Tc>; N]) -> [bool; N] {
    programs.map(|program| program.take_seen())
}

#[test]
fn basic() {
    let mut pair = Pair::new(Mode::L2);
    let [tc1, tc2] = Tc::next();
    let [primary, peer] = BOTH;
    pair.attach(primary, &tc1, options()).unwrap();
    assert_eq!(pair.programs(primary), (2, ids([&tc1])));
    assert_eq!(pair.count(peer), 0);
    BOTH.into_iter().for_each(|list| pair.ping(list));
    assert_eq!(seen([&tc1, &tc2]), [true, false]);

    pair.attach(peer, &tc2, options()).unwrap();
    assert_eq!(pair.programs(peer), (2, ids([&tc2])));
    BOTH.into_iter().for_each(|list| pair.ping(list));
    assert_eq!(seen([&tc1, &tc2]), [true, true]);

    pair.detach(peer, Some(&tc2), options()).unwrap();
    assert_eq!((pair.count(primary), pair.count(peer)), (1, 0));
    pair.detach(primary, Some(&tc1), options()).unwrap();
    assert_eq!((pair.count(primary), pair.count(peer)), (0, 0));
}

#[test]
fn before_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.attach(list, &tc2, options()).unwrap();
        assert_eq!(pair.programs(list), (3, ids([&tc1, &tc2])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true, true, false, false]);

        pair.attach(list, &tc3, before(&tc2)).unwrap();
        assert_eq!(pair.programs(list), (4, ids([&tc1, &tc3, &tc2])));
        pair.attach(list, &tc4, before(&tc1)).unwrap();
        assert_eq!(pair.programs(list), (5, ids([&tc4, &tc1, &tc3, &tc2])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);

        for (left, program) in [(3, &tc4), (2, &tc3), (1, &tc2), (0, &tc1)] {
            pair.detach(list, Some(program), options()).unwrap();
            assert_eq!(pair.count(list), left);
        }
    });
}

#[test]
fn after_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.attach(list, &tc2, options()).unwrap();
        pair.attach(list, &tc3, after(&tc1)).unwrap();
        assert_eq!(pair.programs(list), (4, ids([&tc1, &tc3, &tc2])));
        pair.attach(list, &tc4, after(&tc2)).unwrap();
        assert_eq!(pair.programs(list), (5, ids([&tc1, &tc3, &tc2, &tc4])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);

        pair.detach(list, Some(&tc4), options()).unwrap();
        assert_eq!(pair.programs(list), (6, ids([&tc1, &tc3, &tc2])));
        pair.detach(list, Some(&tc3), options()).unwrap();
        assert_eq!(pair.programs(list), (7, ids([&tc1, &tc2])));
        pair.detach(list, Some(&tc2), options()).unwrap();
        assert_eq!(pair.programs(list), (8, ids([&tc1])));
        pair.detach(list, Some(&tc1), options()).unwrap();
        assert_eq!(pair.count(list), 0);
    });
}

#[test]
fn revision() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        pair.attach(list, &tc1, at_revision(1, options())).unwrap();
        assert_eq!(
            pair.attach(list, &tc2, at_revision(1, options())),
            Err(Errno::ESTALE)
        );
        assert_eq!(pair.count(list), 1);
        pair.attach(list, &tc2, at_revision(2, options())).unwrap();
        assert_eq!(pair.programs(list), (3, ids([&tc1, &tc2])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2]), [true, true]);

        assert_eq!(
            pair.detach(list, Some(&tc2), at_revision(2, options())),
            Err(Errno::ESTALE)
        );
        assert_eq!(pair.count(list), 2);
        pair.detach(list, Some(&tc2), at_revision(3, options())).unwrap();
        pair.detach(list, Some(&tc1), options()).unwrap();
        assert_eq!(pair.count(list), 0);
    });
}

/// netkit keeps the counter of a list that empties, but a query shows that of a new list.
#[test]
fn revision_of_an_emptied_list() {
    on_both(|pair, list| {
        let [tc1] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.detach(list, Some(&tc1), options()).unwrap();
        assert_eq!(pair.programs(list), (1, vec![]));
        assert_eq!(
            pair.attach(list, &tc1, at_revision(1, options())),
            Err(Errno::ESTALE)
        );
        pair.attach(list, &tc1, at_revision(3, options())).unwrap();
        assert_eq!(pair.programs(list), (4, ids([&tc1])));
    });
}

#[test]
fn replace_program() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3] = Tc::next();
        pair.attach(list, &tc1, at_revision(1, options())).unwrap();
        pair.attach(list, &tc2, at_revision(2, before(&tc1))).unwrap();
        assert_eq!(pair.programs(list), (3, ids([&tc2, &tc1])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, true, false]);

        pair.attach(list, &tc3, at_revision(3, replace(&tc2))).unwrap();
        assert_eq!(pair.programs(list), (4, ids([&tc3, &tc1])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, false, true]);

        let replace_before = |old, relative| AttachOptions {
            replace: Some(dynamic(old)),
            ..before(relative)
        };
        pair.attach(list, &tc2, at_revision(4, replace_before(&tc3, &tc1)))
            .unwrap();
        assert_eq!(pair.programs(list), (5, ids([&tc2, &tc1])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3]), [true, true, false]);

        assert_eq!(pair.attach(list, &tc2, replace(&tc2)), Err(Errno::EEXIST));
        let replace_after = AttachOptions {
            replace: Some(dynamic(&tc2)),
            ..after(&tc1)
        };
        assert_eq!(
            pair.attach(list, &tc3, at_revision(5, replace_after.clone())),
            Err(Errno::ERANGE)
        );
        let everywhere = AttachOptions {
            before: true,
            ..replace_after
        };
        assert_eq!(
            pair.attach(list, &tc3, at_revision(5, everywhere)),
            Err(Errno::ERANGE)
        );
        assert_eq!(pair.count(list), 2);

        pair.detach(list, Some(&tc2), at_revision(5, before(&tc1)))
            .unwrap();
        pair.detach(list, Some(&tc1), options()).unwrap();
        assert_eq!(pair.count(list), 0);
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
        assert_eq!(pair.attach(list, &tc1, both.clone()), Err(Errno::ERANGE));
        let alone = AttachOptions {
            relative: relative(&tc2),
            ..options()
        };
        assert_eq!(pair.attach(list, &tc1, alone), Err(Errno::EINVAL));
        let both = AttachOptions {
            relative: relative(&tc2),
            ..both
        };
        assert_eq!(pair.attach(list, &tc1, both), Err(Errno::ENOENT));
        assert_eq!(pair.attach(list, &tc1, before(&tc1)), Err(Errno::ENOENT));
        assert_eq!(pair.attach(list, &tc1, after(&tc1)), Err(Errno::ENOENT));
        assert_eq!(pair.count(list), 0);

        pair.attach(list, &tc1, options()).unwrap();
        for options in [options(), before(&tc1), after(&tc1), replace(&tc1)] {
            assert_eq!(pair.attach(list, &tc1, options), Err(Errno::EEXIST));
            assert_eq!(pair.count(list), 1);
        }
        pair.detach(list, Some(&tc1), options()).unwrap();
        assert_eq!(pair.count(list), 0);
    });
}

#[test]
fn prepend() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.attach(list, &tc2, first()).unwrap();
        assert_eq!(pair.programs(list), (3, ids([&tc2, &tc1])));
        pair.attach(list, &tc3, first()).unwrap();
        pair.attach(list, &tc4, first()).unwrap();
        assert_eq!(pair.programs(list), (5, ids([&tc4, &tc3, &tc2, &tc1])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);
    });
}

#[test]
fn append() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.attach(list, &tc2, last()).unwrap();
        assert_eq!(pair.programs(list), (3, ids([&tc1, &tc2])));
        pair.attach(list, &tc3, last()).unwrap();
        pair.attach(list, &tc4, last()).unwrap();
        assert_eq!(pair.programs(list), (5, ids([&tc1, &tc2, &tc3, &tc4])));
        pair.ping(list);
        assert_eq!(seen([&tc1, &tc2, &tc3, &tc4]), [true; 4]);
    });
}

#[test]
fn dev_cleanup() {
    on_both(|pair, list| {
        let programs = Tc::next::<4>();
        for program in &programs {
            pair.attach(list, program, options()).unwrap();
        }
        assert_eq!(pair.count(list), 4);
        pair.model.delete(pair.primary).unwrap();
        assert_eq!(errno(pair.model.find("nk0")), Err(Errno::ENODEV));
        assert_eq!(errno(pair.model.find("nk1")), Err(Errno::ENODEV));
        // The model holds the programs no longer.
        for program in &programs {
            assert_eq!(Arc::strong_count(program), 1);
        }
    });
}

#[test]
fn mixed() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        let link2 = pair.link(list, &tc2, options()).unwrap();
        assert_eq!(pair.attach(list, &tc2, replace(&tc1)), Err(Errno::EEXIST));
        assert_eq!(pair.attach(list, &tc1, replace(&tc2)), Err(Errno::EEXIST));
        assert_eq!(pair.attach(list, &tc3, replace(&tc2)), Err(Errno::EBUSY));
        assert_eq!(pair.count(list), 2);

        pair.attach(list, &tc3, replace(&tc1)).unwrap();
        let link4 = pair.link(list, &tc4, options()).unwrap();
        assert_eq!(pair.attach(list, &tc2, replace(&tc4)), Err(Errno::EEXIST));
        let expected = vec![(tc3.id(), None), (tc2.id(), Some(link2)), (tc4.id(), Some(link4))];
        assert_eq!(pair.links(list), (5, expected));
        pair.detach(list, Some(&tc3), options()).unwrap();
        assert_eq!(pair.count(list), 2);
    });
}

#[test]
fn demixed() {
    on_both(|pair, list| {
        let [tc1, tc2] = Tc::next();
        pair.attach(list, &tc1, options()).unwrap();
        pair.link(list, &tc2, options()).unwrap();
        assert_eq!(pair.detach(list, None, last()), Err(Errno::EBUSY));
        assert_eq!(pair.detach(list, Some(&tc2), options()), Err(Errno::EBUSY));
        assert_eq!(pair.count(list), 2);
        pair.detach(list, None, first()).unwrap();
        assert_eq!(pair.programs(list).1, ids([&tc2]));
    });
}

fn attach_four(pair: &mut Pair, list: AttachType) -> [Arc<Tc>; 4] {
    let programs = Tc::next();
    for program in &programs {
        pair.attach(list, program, options()).unwrap();
    }
    assert_eq!(pair.programs(list).0, 5);
    programs
}

#[test]
fn detach() {
    on_both(|pair, list| {
        let [_tc1, tc2, tc3, _tc4] = attach_four(pair, list);
        pair.detach(list, None, first()).unwrap();
        assert_eq!(pair.programs(list).0, 6);
        pair.detach(list, None, last()).unwrap();
        assert_eq!(pair.programs(list), (7, ids([&tc2, &tc3])));
        pair.detach(list, Some(&tc3), options()).unwrap();
        pair.detach(list, Some(&tc2), options()).unwrap();
        assert_eq!(pair.detach(list, None, first()), Err(Errno::ENOENT));
        assert_eq!(pair.detach(list, None, last()), Err(Errno::ENOENT));
    });
}

#[test]
fn detach_before() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = attach_four(pair, list);
        pair.detach(list, Some(&tc1), before(&tc2)).unwrap();
        assert_eq!(pair.programs(list), (6, ids([&tc2, &tc3, &tc4])));
        assert_eq!(pair.detach(list, Some(&tc1), before(&tc2)), Err(Errno::ENOENT));
        assert_eq!(pair.detach(list, Some(&tc2), before(&tc4)), Err(Errno::ERANGE));
        assert_eq!(pair.detach(list, Some(&tc2), before(&tc1)), Err(Errno::ENOENT));
        pair.detach(list, Some(&tc2), before(&tc3)).unwrap();
        assert_eq!(pair.programs(list), (7, ids([&tc3, &tc4])));
        pair.detach(list, None, before(&tc4)).unwrap();
        assert_eq!(pair.programs(list), (8, ids([&tc4])));
        pair.detach(list, None, first()).unwrap();
        assert_eq!(pair.count(list), 0);
    });
}

#[test]
fn detach_after() {
    on_both(|pair, list| {
        let [tc1, tc2, tc3, tc4] = attach_four(pair, list);
        pair.detach(list, Some(&tc2), after(&tc1)).unwrap();
        assert_eq!(pair.programs(list), (6, ids([&tc1, &tc3, &tc4])));
        assert_eq!(pair.detach(list, Some(&tc2), after(&tc1)), Err(Errno::ENOENT));
        assert_eq!(pair.detach(list, Some(&tc1), after(&tc4)), Err(Errno::ERANGE));
        assert_eq!(pair.detach(list, Some(&tc1), after(&tc3)), Err(Errno::ERANGE));
        assert_eq!(pair.detach(list, Some(&tc1), after(&tc1)), Err(Errno::ERANGE));
        pair.detach(list, Some(&tc3), after(&tc1)).unwrap();
        assert_eq!(pair.programs(list), (7, ids([&tc1, &tc4])));
        pair.detach(list, None, after(&tc1)).unwrap();
        assert_eq!(pair.programs(list), (8, ids([&tc1])));
        pair.detach(list, None, last()).unwrap();
        assert_eq!(pair.count(list), 0);
    });
}

#[test]
fn delete_empty() {
    on_both(|pair, list| {
        assert_eq!(pair.detach(list, None, options()), Err(Errno::ENOENT));
        assert_eq!(pair.count(list), 0);
    });
}

#[test]
fn max() {
    for relative in [false, true] {
        for options in [options(), first(), last()] {
            on_both(|pair, list| {
                let programs = Tc::next::<PROGRAMS_MAX>();
                for program in &programs {
                    pair.attach(list, program, common::options()).unwrap();
                }
                let [one_more] = Tc::next();
                let mut options = options.clone();
                if relative {
                    options.relative = common::relative(&programs[PROGRAMS_MAX - 1]);
                }
                assert_eq!(pair.attach(list, &one_more, options), Err(Errno::ERANGE));
                assert_eq!(pair.count(list), PROGRAMS_MAX);
                // A place that is taken can be taken over.
                pair.attach(list, &one_more, replace(&programs[7])).unwrap();
                assert_eq!(pair.programs(list).1[7], one_more.id());
            });
        }
    }
}

#[test]
fn query() {
    on_both(|pair, list| {
        let programs = Tc::next::<4>();
        for (program, revision) in programs.iter().zip(1..) {
            pair.attach(list, program, at_revision(revision, options()))
                .unwrap();
        }
        let listing = pair.model.prog_query(pair.target(list)).unwrap();
        assert_eq!(listing.revision, 5);
        let listed: Vec<_> = listing
            .programs
            .iter()
            .map(|listed| (listed.program, listed.link))
            .collect();
        assert_eq!(
            listed,
            programs
                .iter()
                .map(|program| (program.id(), None))
                .collect::<Vec<_>>()
        );
        assert!(listing.programs.iter().all(|listed| listed.name == "tc"));
    });
}

#[test]
fn query_attach() {
    on_both(|pair, list| {
        let [tc1] = Tc::next();
        let (revision, programs) = pair.programs(list);
        assert_eq!((revision, programs.len()), (1, 0));
        pair.attach(list, &tc1, at_revision(revision, options())).unwrap();
        assert_eq!(pair.programs(list), (2, ids([&tc1])));
        pair.detach(list, Some(&tc1), options()).unwrap();
    });
}
