//! The sources that one worker serves, and which of them it polls now.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netkit::Slot;

use super::source::Source;

/// How long an idle source is polled at most before its driver is asked for kicks. A wake-up costs a few microseconds of
/// somebody's time, and a busy sender's next frame is usually closer than this.
const LINGER_MAX: Duration = Duration::from_micros(64);
/// How long it is polled at least.
const LINGER_MIN: Duration = Duration::from_micros(2);

/// Where a source stands in its worker's table: what epoll says when the source is kicked.
///
/// The control thread hands the places out, and may give a place to another source while an event for the one before is
/// under way. Such an event costs one look at an idle source.
pub type Place = usize;

/// A source that is served.
#[derive(Debug)]
pub struct Served {
    /// Which.
    pub source: Arc<Source>,
    /// Where its device is in the plan of generation `resolved`.
    pub slot: Option<Slot>,
    /// The generation that `slot` belongs to.
    pub resolved: Option<u64>,
    /// Its driver has been told not to kick since it was woken.
    pub hushed: bool,
    state: State,
    /// When it was first found empty, or when it was let go.
    idle_since: Instant,
    linger: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its driver kicks.
    Asleep,
    /// It gave frames when it was last polled.
    Busy,
    /// It gave none, and may soon.
    Idle,
}

/// All sources of a worker.
#[derive(Debug, Default)]
pub struct WatchList {
    served: Vec<Option<Served>>,
    /// How many are served.
    count: usize,
    busy: Vec<Place>,
    /// The one that waits longest for its look comes first.
    idle: VecDeque<Place>,
}

impl WatchList {
    /// Takes a source on; it is polled at once.
    pub fn serve(&mut self, place: Place, source: Arc<Source>, now: Instant) {
        self.leave(place);
        if self.served.len() <= place {
            self.served.resize_with(place + 1, || None);
        }
        self.count += 1;
        self.served[place] = Some(Served {
            source,
            slot: None,
            resolved: None,
            hushed: false,
            state: State::Asleep,
            idle_since: now,
            linger: LINGER_MAX,
        });
        self.wake(place, now);
    }

    /// Lets a source go for good. It is not told to kick: whoever serves it next begins with polling it.
    pub fn leave(&mut self, place: Place) {
        if self.served.get_mut(place).and_then(Option::take).is_some() {
            self.count -= 1;
            self.busy.retain(|it| *it != place);
            self.idle.retain(|it| *it != place);
        }
    }

    /// Has a source polled that may have something. The nearer this is to its last frame, the longer it would have been
    /// worth while to go on polling, and the longer it is polled the next time.
    pub fn wake(&mut self, place: Place, now: Instant) {
        let Some(served) = self.get_mut(place) else { return };
        if served.state != State::Asleep {
            return;
        }
        served.linger = if now.saturating_duration_since(served.idle_since) < LINGER_MAX {
            (2 * served.linger).min(LINGER_MAX)
        } else {
            (served.linger / 2).max(LINGER_MIN)
        };
        served.hushed = false;
        served.state = State::Busy;
        self.busy.push(place);
    }

    /// Has a source polled of which something has changed: its ring may be another one, whose driver kicks.
    pub fn look(&mut self, place: Place, now: Instant) {
        if let Some(served) = self.get_mut(place) {
            served.hushed = false;
        }
        self.wake(place, now);
    }

    /// A source.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Served> {
        self.served.get_mut(place).and_then(Option::as_mut)
    }

    /// Whether no source is polled.
    pub fn is_asleep(&self) -> bool {
        self.busy.is_empty() && self.idle.is_empty()
    }

    /// Whether there is a source that would have to kick to be noticed.
    pub fn has_sleepers(&self) -> bool {
        self.count > self.busy.len() + self.idle.len()
    }

    /// The busy source with this index; there is none past the last.
    pub fn busy(&self, index: usize) -> Option<Place> {
        self.busy.get(index).copied()
    }

    /// The busy source with this index gave nothing. Another takes its index.
    pub fn cool(&mut self, index: usize, now: Instant) {
        let place = self.busy.swap_remove(index);
        if let Some(served) = self.get_mut(place) {
            (served.state, served.idle_since) = (State::Idle, now);
            self.idle.push_back(place);
        }
    }

    /// How many idle sources are polled.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// The idle source that waits longest for its look. It is to be given back with one of the three below.
    pub fn next_idle(&mut self) -> Option<Place> {
        self.idle.pop_front()
    }

    /// An idle source gave frames.
    pub fn warm(&mut self, place: Place) {
        if let Some(served) = self.get_mut(place) {
            served.state = State::Busy;
            self.busy.push(place);
        }
    }

    /// An idle source stays polled.
    pub fn stay(&mut self, place: Place) {
        self.idle.push_back(place);
    }

    /// An idle source will kick.
    pub fn sleep(&mut self, place: Place) {
        if let Some(served) = self.get_mut(place) {
            served.state = State::Asleep;
        }
    }

    /// Whether an idle source has been polled in vain for long enough.
    pub fn is_overdue(&self, place: Place, now: Instant) -> bool {
        self.served
            .get(place)
            .and_then(Option::as_ref)
            .is_none_or(|it| now.saturating_duration_since(it.idle_since) >= it.linger)
    }
}
