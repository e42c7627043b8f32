//! One data-path thread: polls the sources that have work, sleeps when none has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{EpollEvent, EventSet};

use super::forwarder::Forwarder;
use super::plan::{Plan, Port};
use super::plan_cell::Reading;
use super::shared::{Order, Shared, WAKE};
use super::uplink::UplinkPort;
use super::watch_list::{Place, Served, WatchList};

/// Time between two looks at what the sleeping sources say, while there are frames to forward. A look is a system call.
const LOOK_BUSY: Duration = Duration::from_micros(50);
/// The same while there are none and the time is free.
const LOOK_IDLE: Duration = Duration::from_micros(4);
/// The same while no source sleeps: only the control thread has something to say then, and can wait.
const LOOK_ALONE: Duration = Duration::from_micros(500);
/// Idle sources that are polled after a round over the busy ones: few, so that a thousand of them cost the busy ones
/// next to nothing, and each has its turn all the same.
const IDLE_POLLS: usize = 1;
/// Over which time a worker's load is judged.
const WINDOW: Duration = Duration::from_secs(1);
/// The part of the time, in percent, from which on the control thread is asked to move sources elsewhere.
const OVERLOAD: u32 = 70;

/// A thread's state.
pub struct Worker {
    shared: Arc<Shared>,
    forwarder: Forwarder,
    sources: WatchList,
    events: Vec<EpollEvent>,
    is_ending: bool,
    /// When the sleeping sources were last looked at.
    looked: Instant,
    window: Window,
}

/// What was done since the load was last judged.
struct Window {
    start: Instant,
    busy: Duration,
}

impl Worker {
    /// A worker that counts in statistics shard `shard`.
    pub fn new(shared: Arc<Shared>, shard: usize) -> Worker {
        let now = Instant::now();
        Worker {
            shared,
            forwarder: Forwarder::new(shard),
            sources: WatchList::default(),
            events: vec![EpollEvent::default(); 256],
            is_ending: false,
            looked: now,
            window: Window::new(now),
        }
    }

    /// Works until the daemon ends. A plan is in use while there is something to do and it is in force.
    pub fn run(mut self) {
        while !self.is_ending {
            if self.sources.is_asleep() {
                self.look(-1);
                continue;
            }
            let reading = self.shared.plan.enter();
            self.work(&reading);
            self.shared.plan.leave(reading);
        }
    }

    fn work(&mut self, reading: &Reading<Plan>) {
        // The clock is read once a round.
        let mut now = Instant::now();
        while self.shared.plan.is_current(reading) && !self.sources.is_asleep() && !self.is_ending {
            let is_busy = self.round(reading, now);
            let start = std::mem::replace(&mut now, Instant::now());
            if is_busy {
                self.note_work(now.saturating_duration_since(start));
            } else {
                std::hint::spin_loop();
            }
            let pause = match (self.sources.has_sleepers(), is_busy) {
                (false, _) => LOOK_ALONE,
                (true, true) => LOOK_BUSY,
                (true, false) => LOOK_IDLE,
            };
            if now.saturating_duration_since(self.looked) >= pause {
                self.look(0);
                self.judge(now);
            }
        }
    }

    /// Gives each busy source its burst and a few idle ones, or all if there is time, a look. Says whether there were
    /// frames.
    fn round(&mut self, reading: &Reading<Plan>, now: Instant) -> bool {
        let mut index = 0;
        while let Some(place) = self.sources.busy(index) {
            if self.poll(reading, place) {
                index += 1;
            } else {
                self.sources.cool(index, now);
            }
        }
        let mut is_busy = index > 0;
        let count = self.sources.idle_count();
        let looks = if is_busy { count.min(IDLE_POLLS) } else { count };
        for _ in 0..looks {
            let Some(place) = self.sources.next_idle() else {
                break;
            };
            if self.poll(reading, place) {
                is_busy = true;
                self.sources.warm(place);
            } else if !self.sources.is_overdue(place, now) {
                self.sources.stay(place);
            } else {
                match self.arm(reading, place) {
                    Armed::Sleeps => self.sources.sleep(place),
                    Armed::NeverKicks => self.sources.stay(place),
                    Armed::HasFrames => self.sources.warm(place),
                }
            }
        }
        is_busy
    }

    /// Takes a burst from a source. Says whether there were frames.
    fn poll(&mut self, reading: &Reading<Plan>, place: Place) -> bool {
        let Some(served) = self.sources.get_mut(place) else {
            return false;
        };
        served.resolve(reading);
        let Some(slot) = served.slot else { return false };
        let queue = served.source.token().queue;
        if !std::mem::replace(&mut served.hushed, true)
            && let Port::Guest { port, .. } = reading.plan.port(slot)
            && queue < port.pairs()
            && let Some(ring) = &mut port.transmit_queue(queue).lock_for_burst().ring
        {
            ring.suppress_kicks();
        }
        let frames = self.forwarder.poll(&reading.plan, slot, queue);
        if frames > 0 {
            served.source.count(frames);
        }
        frames > 0
    }

    /// Has an idle source's driver kick from now on.
    fn arm(&mut self, reading: &Reading<Plan>, place: Place) -> Armed {
        let Some(served) = self.sources.get_mut(place) else {
            return Armed::Sleeps;
        };
        let queue = served.source.token().queue;
        let port = match served.slot.map(|slot| reading.plan.port(slot)) {
            Some(Port::Guest { port, .. }) => port,
            Some(Port::Uplink(uplink)) => return arm_nic(uplink, queue),
            // A tap was read until it had nothing, so what comes next is an edge.
            _ => return Armed::Sleeps,
        };
        if queue >= port.pairs() {
            return Armed::Sleeps;
        }
        let mut queue = port.transmit_queue(queue).lock_for_burst();
        let polled = queue.polled;
        let Some(ring) = &mut queue.ring else {
            return Armed::Sleeps;
        };
        if polled {
            return Armed::NeverKicks;
        }
        if !ring.request_kicks() {
            return Armed::Sleeps;
        }
        served.hushed = false;
        Armed::HasFrames
    }

    /// Finds out which sleeping sources have work; `timeout` in milliseconds, -1 for ever.
    fn look(&mut self, timeout: i32) {
        let count = match self.shared.epoll.wait(timeout, &mut self.events) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => {
                tracing::error!("a worker cannot wait for events: {error}");
                0
            }
        };
        let now = Instant::now();
        self.looked = now;
        for event in &self.events[..count] {
            if event.data() != WAKE {
                if event.event_set() != EventSet::empty() {
                    self.sources.wake(event.data() as Place, now);
                }
                continue;
            }
            self.shared.orders.carry_out(|order| match order {
                Order::Serve(place, source) => self.sources.serve(place, source, now),
                Order::Leave(place) => self.sources.leave(place),
                Order::Look(place) => self.sources.look(place, now),
                Order::End => self.is_ending = true,
            });
        }
    }

    fn note_work(&mut self, time: Duration) {
        self.window.busy += time;
        self.shared.note_work(time);
    }

    /// Calls for help if there was too much to do lately.
    fn judge(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.window.start);
        if time < WINDOW {
            return;
        }
        if self.window.busy * 100 >= time * OVERLOAD {
            self.shared.call_for_help();
        }
        self.window = Window::new(now);
    }
}

/// What became of a source whose driver was to kick.
enum Armed {
    /// It will kick, or is gone.
    Sleeps,
    /// It has no way to.
    NeverKicks,
    /// It had frames already.
    HasFrames,
}

fn arm_nic(uplink: &UplinkPort, index: usize) -> Armed {
    let Some(nic) = uplink.nic.as_deref().filter(|nic| index < nic.queues()) else {
        return Armed::Sleeps;
    };
    let mut queue = nic.queue(index).receive();
    match (queue.wake_fd(), queue.arm()) {
        (_, false) => Armed::HasFrames,
        (None, true) => Armed::NeverKicks,
        (Some(_), true) => Armed::Sleeps,
    }
}

impl Served {
    /// Finds the source's device in the plan in use.
    fn resolve(&mut self, reading: &Reading<Plan>) {
        if self.resolved != Some(reading.generation) {
            self.slot = reading.plan.view.slot(self.source.token().ifindex);
            self.resolved = Some(reading.generation);
        }
    }
}

impl Window {
    fn new(start: Instant) -> Window {
        Window {
            start,
            busy: Duration::ZERO,
        }
    }
}
