//! Program lists do the same as naive ones, whatever is asked of them.

mod common;

use std::sync::Arc;

use common::*;
use netkit::{AttachOptions, AttachType, Errno, LinkId, Mode, ProgramId, Relative};
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
