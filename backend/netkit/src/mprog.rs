//! A program list: ordered, revisioned, changed by rules that must agree on one position
//! (kernel/bpf/mprog.c).

use std::sync::Arc;

use crate::{LinkId, ListError, Program, ProgramId, ProgramKind};

/// Most programs in a list. The kernel's array has 64 places, the last of which stays empty
/// (bpf_mprog.h: `bpf_mprog_max`).
pub const PROGRAMS_MAX: usize = 63;

/// Where a program is to be attached or detached.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// `BPF_F_BEFORE`: before the relative object, or first if there is none.
    pub before: bool,
    /// `BPF_F_AFTER`: after the relative object, or last if there is none.
    pub after: bool,
    /// `BPF_F_REPLACE` with the program whose place is taken.
    pub replace: Option<Arc<dyn Program>>,
    /// What `before` and `after` relate to.
    pub relative: Option<Relative>,
    /// The revision the list must be at; 0 for any.
    pub expected_revision: u64,
}

/// An object of a list that a position relates to.
#[derive(Debug, Clone)]
pub enum Relative {
    /// A program, whichever way it is attached.
    Program(Arc<dyn Program>),
    /// A link (`BPF_F_LINK`).
    Link(LinkId),
}

/// What a query answers (`BPF_PROG_QUERY`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramListing {
    /// 1 at first, and one more after each change. An empty list always says 1, as in the kernel,
    /// though it goes on counting from where it was.
    pub revision: u64,
    /// The programs, in the order in which they run.
    pub programs: Vec<Listed>,
}

/// One program of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The program.
    pub program: ProgramId,
    /// Its name.
    pub name: String,
    /// The link that holds it, if it was attached by one.
    pub link: Option<LinkId>,
}

/// A program and the link that holds it, if any (`struct bpf_tuple`).
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub program: Arc<dyn Program>,
    pub link: Option<LinkId>,
}

/// A program by id and the link that must hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub program: ProgramId,
    pub link: Option<LinkId>,
}

/// Where in the list. Objects that did not resolve are carried along, because their error counts
/// only when its turn comes.
#[derive(Debug)]
pub(crate) struct Place {
    pub before: bool,
    pub after: bool,
    pub relative: Result<Option<Entry>, ListError>,
    pub expected_revision: u64,
}

impl Place {
    /// At the end, whatever the revision.
    pub fn anywhere() -> Place {
        Place {
            before: false,
            after: false,
            relative: Ok(None),
            expected_revision: 0,
        }
    }
}

/// The list itself (`struct bpf_mprog_bundle`).
#[derive(Debug)]
pub(crate) struct ProgramList {
    entries: Vec<Entry>,
    revision: u64,
    /// The programs alone, as workers run them.
    programs: Arc<[Arc<dyn Program>]>,
}

impl ProgramList {
    pub fn new() -> ProgramList {
        ProgramList {
            entries: Vec::new(),
            revision: 1,
            programs: Arc::new([]),
        }
    }

    /// A list as it was saved.
    pub fn restore(entries: Vec<Entry>, revision: u64) -> ProgramList {
        ProgramList {
            programs: entries.iter().map(|entry| entry.program.clone()).collect(),
            entries,
            revision,
        }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn programs(&self) -> Arc<[Arc<dyn Program>]> {
        self.programs.clone()
    }

    /// mprog.c: `bpf_mprog_query`.
    pub fn query(&self) -> ProgramListing {
        let list = |entry: &Entry| Listed {
            program: entry.program.id(),
            name: entry.program.name().to_owned(),
            link: entry.link,
        };
        ProgramListing {
            // netkit queries an empty list through a null entry, whose revision is 1.
            revision: if self.entries.is_empty() { 1 } else { self.revision },
            programs: self.entries.iter().map(list).collect(),
        }
    }

    /// mprog.c: `bpf_mprog_attach`.
    pub fn attach(
        &mut self,
        new: Entry,
        replace: Option<Result<Key, ListError>>,
        place: Place,
    ) -> Result<(), ListError> {
        self.check_revision(place.expected_revision)?;
        let program = new.program.id();
        if self.entries.iter().any(|entry| entry.program.id() == program) {
            return Err(ListError::AlreadyListed { program });
        }
        let relative = place.relative?;
        check_kind(relative.as_ref(), new.program.kind())?;
        let replaced = match replace {
            Some(key) => Some(self.exact(key?)?),
            None if self.entries.len() == PROGRAMS_MAX => return Err(ListError::Full),
            None => None,
        };
        let index = self.agree(replaced, place.before, place.after, relative.as_ref())?;
        if replaced.is_some() {
            self.entries[index as usize] = new;
        } else if place.before {
            // The index is of the entry in front of the new one.
            self.entries.insert((index + 1) as usize, new);
        } else {
            self.entries.insert(index as usize, new);
        }
        self.commit();
        Ok(())
    }

    /// mprog.c: `bpf_mprog_detach`. Without a program it removes what the place says, the last one
    /// if it says nothing.
    pub fn detach(&mut self, key: Option<Key>, replace: bool, place: Place) -> Result<Entry, ListError> {
        if self.entries.is_empty() {
            // netkit.c: netkit_prog_detach looks for the list before it looks at anything else.
            return Err(ListError::Empty);
        }
        if replace {
            return Err(ListError::ReplaceOnDetach);
        }
        self.check_revision(place.expected_revision)?;
        let relative = place.relative?;
        if key.is_some() {
            check_kind(relative.as_ref(), ProgramKind::SchedCls)?;
        }
        let exact = key.map(|key| self.exact(key)).transpose()?;
        let index = self.agree(exact, place.before, place.after, relative.as_ref())?;
        if index as usize == PROGRAMS_MAX {
            // The kernel cannot pop the end of a full list: the position lies beyond its array.
            return Err(ListError::Full);
        }
        let index = index.clamp(0, self.total() - 1) as usize;
        let entry = &self.entries[index];
        if entry.link != key.and_then(|key| key.link) {
            return Err(ListError::HeldByLink {
                program: entry.program.id(),
            });
        }
        let removed = self.entries.remove(index);
        self.commit();
        Ok(removed)
    }

    fn check_revision(&self, expected: u64) -> Result<(), ListError> {
        if expected != 0 && expected != self.revision {
            return Err(ListError::Stale {
                expected,
                current: self.revision,
            });
        }
        Ok(())
    }

    fn total(&self) -> isize {
        self.entries.len() as isize
    }

    /// mprog.c: `bpf_mprog_pos_exact`.
    fn exact(&self, key: Key) -> Result<isize, ListError> {
        let program = key.program;
        let index = self.index_of(program).ok_or(ListError::NotListed { program })?;
        if self.entries[index].link != key.link {
            return Err(ListError::HeldByLink { program });
        }
        Ok(index as isize)
    }

    /// The index of the relative object (mprog.c: `bpf_mprog_pos_before`, `bpf_mprog_pos_after`).
    fn index_of_relative(&self, relative: &Entry) -> Result<isize, ListError> {
        let program = relative.program.id();
        self.index_of(program)
            .filter(|index| relative.link.is_none() || relative.link == self.entries[*index].link)
            .map(|index| index as isize)
            .ok_or(ListError::RelativeNotListed { program })
    }

    fn index_of(&self, program: ProgramId) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.program.id() == program)
    }

    /// The one position that all given rules mean, from -1 (in front of the first) to the total
    /// (behind the last).
    fn agree(
        &self,
        exact: Option<isize>,
        before: bool,
        after: bool,
        relative: Option<&Entry>,
    ) -> Result<isize, ListError> {
        let mut index = exact;
        let mut settle = |position: isize| match index.replace(position) {
            Some(other) if other != position => Err(ListError::PlacesDiffer),
            _ => Ok(()),
        };
        if before {
            settle(relative.map_or(Ok(-1), |relative| Ok(self.index_of_relative(relative)? - 1))?)?;
        }
        if after {
            settle(relative.map_or(Ok(self.total()), |relative| {
                Ok(self.index_of_relative(relative)? + 1)
            })?)?;
        }
        match index {
            Some(index) => Ok(index),
            None if relative.is_some() => Err(ListError::RelativeAlone),
            None => Ok(self.total()),
        }
    }

    /// mprog.c: `bpf_mprog_commit`.
    fn commit(&mut self) {
        self.revision += 1;
        self.programs = self.entries.iter().map(|entry| entry.program.clone()).collect();
    }
}

fn check_kind(relative: Option<&Entry>, kind: ProgramKind) -> Result<(), ListError> {
    match relative {
        Some(entry) if entry.program.kind() != kind => Err(ListError::KindDiffers {
            program: entry.program.id(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Errno};

    #[derive(Debug)]
    struct Nop(u32, ProgramKind);

    impl Program for Nop {
        fn id(&self) -> ProgramId {
            ProgramId(self.0)
        }

        fn name(&self) -> &str {
            "nop"
        }

        fn kind(&self) -> ProgramKind {
            self.1
        }

        fn run(&self, _context: &mut Context<'_>) -> i32 {
            crate::verdict::NEXT
        }
    }

    fn entry(id: u32, link: Option<u32>) -> Entry {
        Entry {
            program: Arc::new(Nop(id, ProgramKind::SchedCls)),
            link: link.map(LinkId),
        }
    }

    fn key(id: u32, link: Option<u32>) -> Key {
        Key {
            program: ProgramId(id),
            link: link.map(LinkId),
        }
    }

    fn before(relative: Option<Entry>) -> Place {
        Place {
            before: true,
            relative: Ok(relative),
            ..Place::anywhere()
        }
    }

    fn after(relative: Option<Entry>) -> Place {
        Place {
            after: true,
            relative: Ok(relative),
            ..Place::anywhere()
        }
    }

    fn list(ids: impl IntoIterator<Item = u32>) -> ProgramList {
        let mut list = ProgramList::new();
        for id in ids {
            list.attach(entry(id, None), None, Place::anywhere()).unwrap();
        }
        list
    }

    fn ids(list: &ProgramList) -> Vec<u32> {
        list.query()
            .programs
            .iter()
            .map(|listed| listed.program.0)
            .collect()
    }

    #[test]
    fn errors_come_in_the_kernels_order() {
        let mut list = list([1, 2]);
        let unresolved = || Err(ListError::NoSuchLink { link: LinkId(9) });
        let mut attach =
            |id, replace, place| list.attach(entry(id, None), replace, place).unwrap_err().errno();
        let everything = |expected_revision| Place {
            before: true,
            after: true,
            relative: unresolved(),
            expected_revision,
        };
        assert_eq!(attach(1, Some(Ok(key(8, None))), everything(1)), Errno::ESTALE);
        assert_eq!(attach(1, Some(Ok(key(8, None))), everything(3)), Errno::EEXIST);
        assert_eq!(attach(3, Some(Ok(key(1, Some(1)))), everything(3)), Errno::ENOENT);
        let resolved = || Place {
            relative: Ok(Some(entry(7, None))),
            ..everything(3)
        };
        assert_eq!(attach(3, Some(Ok(key(1, Some(1)))), resolved()), Errno::EBUSY);
        assert_eq!(attach(3, Some(Ok(key(1, None))), resolved()), Errno::ENOENT);
        let listed = || Place {
            relative: Ok(Some(entry(2, None))),
            ..everything(3)
        };
        assert_eq!(attach(3, Some(Ok(key(1, None))), listed()), Errno::ERANGE);
        assert_eq!(ids(&list), [1, 2]);
        assert_eq!(list.query().revision, 3);
    }

    #[test]
    fn relatives_are_of_the_same_kind() {
        let other = || {
            Some(Entry {
                program: Arc::new(Nop(1, ProgramKind::Other)),
                link: None,
            })
        };
        let mut list = list([1]);
        assert_eq!(
            list.attach(entry(2, None), None, before(other()))
                .unwrap_err()
                .errno(),
            Errno::EINVAL
        );
        assert_eq!(
            list.detach(Some(key(1, None)), false, before(other()))
                .unwrap_err()
                .errno(),
            Errno::EINVAL
        );
        // Without a program there is no kind to compare with.
        list.detach(None, false, before(other())).unwrap();
    }

    #[test]
    fn a_relative_link_must_hold_its_program_here() {
        let mut list = list([1]);
        list.attach(entry(2, Some(5)), None, Place::anywhere()).unwrap();
        for wrong in [entry(2, Some(6)), entry(1, Some(5))] {
            let error = list
                .attach(entry(3, None), None, before(Some(wrong)))
                .unwrap_err();
            assert_eq!(error.errno(), Errno::ENOENT);
        }
        list.attach(entry(3, None), None, before(Some(entry(2, Some(5)))))
            .unwrap();
        list.attach(entry(4, None), None, after(Some(entry(2, None))))
            .unwrap();
        assert_eq!(ids(&list), [1, 3, 2, 4]);
    }

    #[test]
    fn replacing_keeps_the_place() {
        let mut list = list([1, 2, 3]);
        list.attach(
            entry(4, None),
            Some(Ok(key(2, None))),
            after(Some(entry(1, None))),
        )
        .unwrap();
        assert_eq!(ids(&list), [1, 4, 3]);
        let error = list.attach(
            entry(5, None),
            Some(Err(ListError::LinkCannotReplace)),
            Place::anywhere(),
        );
        assert_eq!(error.unwrap_err().errno(), Errno::ENOENT);
    }

    #[test]
    fn detach_looks_for_the_list_first() {
        let mut empty = ProgramList::new();
        let stale = || Place {
            expected_revision: 7,
            ..Place::anywhere()
        };
        assert_eq!(
            empty.detach(None, true, stale()).unwrap_err().errno(),
            Errno::ENOENT
        );
        let mut list = list([1]);
        assert_eq!(
            list.detach(None, true, stale()).unwrap_err().errno(),
            Errno::EINVAL
        );
        assert_eq!(
            list.detach(None, false, stale()).unwrap_err().errno(),
            Errno::ESTALE
        );
        let alone = Place {
            relative: Ok(Some(entry(1, None))),
            ..Place::anywhere()
        };
        assert_eq!(
            list.detach(None, false, alone).unwrap_err().errno(),
            Errno::EINVAL
        );
        assert_eq!(ids(&list), [1]);
    }

    #[test]
    fn a_place_beyond_the_ends_means_the_end() {
        let mut list = list([1, 2, 3]);
        list.detach(None, false, before(Some(entry(1, None)))).unwrap();
        list.detach(None, false, after(Some(entry(3, None)))).unwrap();
        assert_eq!(ids(&list), [2]);
    }

    #[test]
    fn a_full_list_is_detached_from_by_name_or_from_the_front() {
        let mut list = list(1..=PROGRAMS_MAX as u32);
        assert_eq!(
            list.attach(entry(99, None), None, Place::anywhere())
                .unwrap_err()
                .errno(),
            Errno::ERANGE
        );
        assert_eq!(
            list.detach(None, false, Place::anywhere()).unwrap_err().errno(),
            Errno::ERANGE
        );
        assert_eq!(
            list.detach(None, false, after(None)).unwrap_err().errno(),
            Errno::ERANGE
        );
        list.detach(None, false, before(None)).unwrap();
        list.detach(None, false, Place::anywhere()).unwrap();
        assert_eq!(ids(&list), (2..PROGRAMS_MAX as u32).collect::<Vec<_>>());
    }
}
