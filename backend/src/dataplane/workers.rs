//! The fixed set of data-path threads, as the control thread holds it.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netkit::Ifindex;
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::affinity;
use super::balance::{Cost, best_move};
use super::placement::Placement;
use super::plan::Plan;
use super::shared::{Order, Shared};
use super::source::Token;
use super::watch_list::Place;
use super::worker::Worker;

/// A load that was measured over more than this tells nothing about now.
const LONGEST: Duration = Duration::from_secs(3);
/// A load that was measured over less than this tells nothing at all.
const SHORTEST: Duration = Duration::from_millis(100);

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<Thread>,
    plan: Arc<Plan>,
    placement: Placement,
    help: Arc<EventFd>,
    measured: Instant,
}

/// One worker.
#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
    processor: Option<usize>,
    /// What it had worked when loads were last measured.
    measured: Duration,
}

/// A worker as it is shown.
#[derive(Debug, Clone)]
pub struct WorkerState {
    /// The processor that it is kept on.
    pub processor: Option<usize>,
    /// The time that it has spent on frames.
    pub busy: Duration,
    /// What it serves.
    pub sources: Vec<SourceState>,
}

/// A source as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct SourceState {
    /// Which.
    pub token: Token,
    /// Frames that were taken from it.
    pub frames: u64,
    /// It was put where it is by hand.
    pub fixed: bool,
}

/// A source cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is no such source, or its ring is not started.
    #[error("no frames can come from that queue; it is served once its guest has started it")]
    NoSuchSource,
    /// There is no such worker.
    #[error("there is no worker {wanted}; choose one below {count}")]
    NoSuchWorker {
        /// Which was wanted.
        wanted: usize,
        /// How many there are.
        count: usize,
    },
    /// The new worker cannot wait for kicks.
    #[error("the worker cannot wait for kicks: {0}")]
    Watch(#[from] io::Error),
}

impl Workers {
    /// Starts `count` threads, each on a processor of its own as far as there are enough.
    pub fn start(count: usize, plan: Arc<Plan>) -> io::Result<Workers> {
        let processors = affinity::allowed_processors();
        let help = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let mut workers = Workers {
            threads: Vec::new(),
            plan,
            placement: Placement::new(count),
            help,
            measured: Instant::now(),
        };
        for index in 0..count {
            let processor = processors.get(index % processors.len().max(1)).copied();
            let shared = Arc::new(Shared::new(workers.plan.clone(), workers.help.clone())?);
            let worker = Worker::new(shared.clone(), index);
            let run = move || {
                if let Some(processor) = processor {
                    affinity::pin(processor);
                }
                worker.run();
            };
            let handle = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            workers.threads.push(Thread {
                shared,
                handle: Some(handle),
                processor,
                measured: Duration::ZERO,
            });
        }
        Ok(workers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The plan that is in force.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Becomes readable when a worker has too much to do: time for [`Self::balance`].
    pub fn help(&self) -> &EventFd {
        &self.help
    }

    /// Puts a plan in force. When this returns no worker sees the old one.
    pub fn publish(&mut self, plan: Plan) {
        self.plan = Arc::new(plan);
        for thread in &self.threads {
            thread.shared.plan.publish(self.plan.clone());
        }
        for thread in &self.threads {
            thread.shared.plan.wait();
        }
    }

    /// Has a worker serve a source, and events on `fd` wake it. An eventfd need not be read: every write is an edge.
    pub fn watch(&mut self, token: Token, fd: RawFd) -> io::Result<()> {
        let (worker, place) = self.place(token);
        add(&self.threads[worker].shared, place, fd)?;
        if let Some(placed) = self.placement.get_mut(token) {
            placed.fd = Some(fd);
        }
        Ok(())
    }

    /// Undoes the waiting of [`Self::watch`]. Needed before the descriptor is closed, since the other side holds it open
    /// too.
    pub fn unwatch(&mut self, token: Token) {
        if let Some(placed) = self.placement.get_mut(token)
            && let Some(fd) = placed.fd.take()
        {
            remove(&self.threads[placed.worker].shared, fd);
        }
    }

    /// Has a worker serve a source, and look at it.
    pub fn poke(&mut self, token: Token) {
        let (worker, place) = self.place(token);
        self.threads[worker].shared.order(Order::Look(place));
    }

    /// Has the sources of a device served no more.
    pub fn release(&mut self, ifindex: Ifindex) {
        for token in self.placement.of_device(ifindex) {
            self.unwatch(token);
            if let Some(placed) = self.placement.remove(token) {
                self.threads[placed.worker]
                    .shared
                    .order(Order::Leave(placed.place));
            }
        }
    }

    /// Whether a source is served.
    pub fn serves(&self, token: Token) -> bool {
        self.placement.get(token).is_some()
    }

    /// Moves a source to another worker for good.
    pub fn fix(&mut self, token: Token, worker: usize) -> Result<(), MoveError> {
        self.move_to(token, worker)?;
        if let Some(placed) = self.placement.get_mut(token) {
            placed.fixed = true;
        }
        Ok(())
    }

    /// Moves one source to another worker, if that evens out what they have to do.
    pub fn balance(&mut self) {
        let _ = self.help.read();
        let Some((busy, sources)) = self.measure() else {
            return;
        };
        let Some((token, worker)) = best_move(&busy, &sources) else {
            return;
        };
        let Token { ifindex, queue } = token;
        match self.move_to(token, worker) {
            Ok(()) => tracing::info!("ifindex {ifindex}: worker {worker} now serves queue {queue}"),
            Err(error) => tracing::warn!("ifindex {ifindex}: queue {queue} stays where it is: {error}"),
        }
    }

    /// The workers and what they do.
    pub fn states(&self) -> Vec<WorkerState> {
        let mut states: Vec<WorkerState> = self.threads.iter().map(Thread::state).collect();
        for (token, placed) in self.placement.iter() {
            states[placed.worker].sources.push(SourceState {
                token,
                frames: placed.source.frames(),
                fixed: placed.fixed,
            });
        }
        states
    }

    /// Where a source is served, from now on if it was not yet: by the worker with the least to do.
    fn place(&mut self, token: Token) -> (usize, Place) {
        if let Some(placed) = self.placement.get(token) {
            return (placed.worker, placed.place);
        }
        let placed = self.placement.add(token, self.idlest());
        let (worker, place) = (placed.worker, placed.place);
        let order = Order::Serve(place, placed.source.clone());
        self.threads[worker].shared.order(order);
        (worker, place)
    }

    /// The worker with the least to do: tenths of its time, then sources.
    fn idlest(&self) -> usize {
        let time = self.measured.elapsed().max(SHORTEST).as_nanos();
        let work = |thread: &Thread| thread.shared.busy().saturating_sub(thread.measured).as_nanos();
        let load = |worker: &usize| {
            (
                10 * work(&self.threads[*worker]) / time,
                self.placement.count(*worker),
            )
        };
        (0..self.threads.len()).min_by_key(load).unwrap_or(0)
    }

    /// The source has left its worker before the next one may poll it, and is polled there at once: a kick that came
    /// between is not missed.
    fn move_to(&mut self, token: Token, worker: usize) -> Result<(), MoveError> {
        let Some(placed) = self.placement.get(token) else {
            return Err(MoveError::NoSuchSource);
        };
        let (wanted, count) = (worker, self.threads.len());
        if wanted >= count {
            return Err(MoveError::NoSuchWorker { wanted, count });
        }
        if placed.worker == worker {
            return Ok(());
        }
        let (from, to) = (&self.threads[placed.worker].shared, &self.threads[worker].shared);
        let (source, fd) = (placed.source.clone(), placed.fd);
        let place = self.placement.reserve(worker);
        // First what may fail. What is heard there before the source is served is ignored.
        if let Some(fd) = fd
            && let Err(error) = add(to, place, fd)
        {
            self.placement.cancel(worker, place);
            return Err(error.into());
        }
        if let Some(fd) = fd {
            remove(from, fd);
        }
        if let Some(left) = self.placement.change(token, worker, place) {
            from.order(Order::Leave(left));
            from.orders.wait();
        }
        to.order(Order::Serve(place, source));
        Ok(())
    }

    /// The part of the time that each worker was busy since the last measurement, and what each source had in it. `None`
    /// if that was too long ago to tell about now.
    fn measure(&mut self) -> Option<(Vec<f64>, Vec<Cost>)> {
        let now = Instant::now();
        let time = now.duration_since(std::mem::replace(&mut self.measured, now));
        let share = |thread: &mut Thread| {
            let busy = thread.shared.busy();
            let before = std::mem::replace(&mut thread.measured, busy);
            busy.saturating_sub(before).as_secs_f64() / time.as_secs_f64().max(1e-9)
        };
        let busy: Vec<f64> = self.threads.iter_mut().map(share).collect();
        let mut frames = vec![0u64; busy.len()];
        let mut sources = Vec::new();
        for placed in self.placement.iter_mut() {
            let counted = placed.source.frames();
            let new = counted.wrapping_sub(std::mem::replace(&mut placed.measured, counted));
            frames[placed.worker] += new;
            sources.push(Cost {
                token: placed.source.token(),
                worker: placed.worker,
                load: new as f64,
                fixed: placed.fixed,
            });
        }
        for cost in &mut sources {
            cost.load *= busy[cost.worker] / frames[cost.worker].max(1) as f64;
        }
        (time <= LONGEST).then_some((busy, sources))
    }
}

impl Thread {
    fn state(&self) -> WorkerState {
        WorkerState {
            processor: self.processor,
            busy: self.shared.busy(),
            sources: Vec::new(),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.shared.order(Order::End);
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join();
            }
        }
    }
}

fn add(worker: &Shared, place: Place, fd: RawFd) -> io::Result<()> {
    let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, place as u64);
    worker.epoll.ctl(ControlOperation::Add, fd, event)
}

fn remove(worker: &Shared, fd: RawFd) {
    let _ = worker
        .epoll
        .ctl(ControlOperation::Delete, fd, EpollEvent::default());
}

#[cfg(test)]
mod tests {
    use netkit::Model;

    use super::*;

    /// Two workers, the first with two sources, each of which cost it half of the last second.
    fn overloaded() -> Workers {
        let plan = Plan::empty(Model::new(3, 1).view());
        let mut workers = Workers::start(2, Arc::new(plan)).unwrap();
        workers.measured = Instant::now() - Duration::from_secs(1);
        for device in [1, 2] {
            let token = Token::new(Ifindex(device), 0);
            workers.poke(token);
            workers.move_to(token, 0).unwrap();
            workers.placement.get(token).unwrap().source.count(1000);
        }
        workers.threads[0].shared.note_work(Duration::from_secs(1));
        workers
    }

    fn counts(workers: &Workers) -> [usize; 2] {
        [0, 1].map(|worker| workers.states()[worker].sources.len())
    }

    #[test]
    fn a_worker_with_too_much_to_do_hands_a_source_over_once() {
        let mut workers = overloaded();
        assert_eq!(counts(&workers), [2, 0]);
        workers.balance();
        assert_eq!(counts(&workers), [1, 1]);
        workers.balance();
        assert_eq!(counts(&workers), [1, 1]);
    }

    #[test]
    fn a_source_that_was_put_by_hand_stays_and_old_news_move_nothing() {
        let mut workers = overloaded();
        for device in [1, 2] {
            workers.fix(Token::new(Ifindex(device), 0), 0).unwrap();
        }
        workers.balance();
        assert_eq!(counts(&workers), [2, 0]);

        let mut workers = overloaded();
        workers.measured = Instant::now() - 2 * LONGEST;
        workers.balance();
        assert_eq!(counts(&workers), [2, 0]);
    }

    #[test]
    fn a_new_source_goes_to_the_worker_with_the_least_to_do() {
        let mut workers = overloaded();
        for device in 3..6 {
            workers.poke(Token::new(Ifindex(device), 0));
        }
        assert_eq!(counts(&workers), [2, 3]);
        workers.release(Ifindex(4));
        assert_eq!(counts(&workers), [2, 2]);
    }
}
