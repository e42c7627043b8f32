//! Which worker serves each source: the control thread's table.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;

use netkit::Ifindex;

use super::source::{Source, Token};
use super::watch_list::Place;

/// The table.
#[derive(Debug)]
pub struct Placement {
    sources: BTreeMap<Token, Placed>,
    workers: Vec<Places>,
}

/// Where a source is.
#[derive(Debug)]
pub struct Placed {
    /// Who serves it.
    pub worker: usize,
    /// Where it stands in that worker's table.
    pub place: Place,
    /// The source.
    pub source: Arc<Source>,
    /// What its worker waits on; a source without is polled.
    pub fd: Option<RawFd>,
    /// It was put there by hand and stays.
    pub fixed: bool,
    /// Its count of frames when loads were last measured.
    pub measured: u64,
}

/// The places of one worker.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    free: Vec<Place>,
}

impl Placement {
    /// Of no source on this many workers.
    pub fn new(workers: usize) -> Placement {
        Placement {
            sources: BTreeMap::new(),
            workers: (0..workers).map(|_| Places::default()).collect(),
        }
    }

    /// Where a source is.
    pub fn get(&self, token: Token) -> Option<&Placed> {
        self.sources.get(&token)
    }

    /// As [`Self::get`], to change it.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut Placed> {
        self.sources.get_mut(&token)
    }

    /// All sources.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &Placed)> {
        self.sources.iter().map(|(token, placed)| (*token, placed))
    }

    /// As [`Self::iter`], to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Placed> {
        self.sources.values_mut()
    }

    /// The sources of a device.
    pub fn of_device(&self, ifindex: Ifindex) -> Vec<Token> {
        let (first, last) = (Token::new(ifindex, 0), Token::new(ifindex, usize::MAX));
        self.sources
            .range(first..=last)
            .map(|(token, _)| *token)
            .collect()
    }

    /// How many sources a worker serves.
    pub fn count(&self, worker: usize) -> usize {
        self.workers.get(worker).map_or(0, |it| it.taken)
    }

    /// Gives a source that has none a place.
    pub fn add(&mut self, token: Token, worker: usize) -> &mut Placed {
        let place = self.workers[worker].take();
        self.sources.entry(token).or_insert(Placed {
            worker,
            place,
            source: Arc::new(Source::new(token)),
            fd: None,
            fixed: false,
            measured: 0,
        })
    }

    /// Sets a place of a worker apart.
    pub fn reserve(&mut self, worker: usize) -> Place {
        self.workers[worker].take()
    }

    /// A place that was set apart is not needed.
    pub fn cancel(&mut self, worker: usize, place: Place) {
        self.workers[worker].give_back(place);
    }

    /// Moves a source to a place that was set apart, and gives the place that it leaves.
    pub fn change(&mut self, token: Token, worker: usize, place: Place) -> Option<Place> {
        let placed = self.sources.get_mut(&token)?;
        let left = std::mem::replace(&mut placed.place, place);
        let before = std::mem::replace(&mut placed.worker, worker);
        self.workers[before].give_back(left);
        Some(left)
    }

    /// Forgets a source.
    pub fn remove(&mut self, token: Token) -> Option<Placed> {
        let placed = self.sources.remove(&token)?;
        self.workers[placed.worker].give_back(placed.place);
        Some(placed)
    }
}

impl Places {
    fn take(&mut self) -> Place {
        // Those below `taken + free` were all handed out.
        let place = self.free.pop().unwrap_or(self.taken);
        self.taken += 1;
        place
    }

    fn give_back(&mut self, place: Place) {
        self.taken -= 1;
        self.free.push(place);
    }
}
