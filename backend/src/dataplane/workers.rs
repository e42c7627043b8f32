//! The fixed set of data-path threads, as the control thread holds it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::plan::{Plan, Token};
use super::worker::Worker;

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<(Arc<Shared>, Option<JoinHandle<()>>)>,
    plan: Arc<Plan>,
}

/// What the control thread and one worker share.
pub struct Shared {
    /// Where the worker sleeps.
    pub epoll: Epoll,
    wake: EventFd,
    generation: AtomicU64,
    stopping: AtomicBool,
    slow: Mutex<Slow>,
    acknowledged: Condvar,
}

struct Slow {
    plan: Arc<Plan>,
    seen: u64,
    pokes: Vec<Token>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `count` threads, each on a processor of its own as far as there are enough.
    pub fn start(count: usize, plan: Arc<Plan>) -> io::Result<Workers> {
        let processors = allowed_processors();
        let mut threads = Vec::new();
        for index in 0..count {
            let shared = Arc::new(Shared::new(plan.clone())?);
            let worker = Worker::new(shared.clone(), index);
            let processor = processors.get(index % processors.len().max(1)).copied();
            let run = move || {
                if let Some(processor) = processor {
                    pin(processor);
                }
                worker.run();
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            threads.push((shared, Some(thread)));
        }
        Ok(Workers { threads, plan })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The plan that is in force.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Puts a plan in force. When this returns no worker sees the old one.
    pub fn publish(&mut self, plan: Plan) {
        self.plan = Arc::new(plan);
        for (shared, _) in &self.threads {
            shared.publish(self.plan.clone());
        }
        for (shared, _) in &self.threads {
            shared.wait_for_acknowledgement();
        }
    }

    /// Has events on `fd` wake the worker of a source. An eventfd need not be read: every write is an edge.
    pub fn watch(&self, token: Token, fd: RawFd) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token.to_u64());
        self.of(token).epoll.ctl(ControlOperation::Add, fd, event)
    }

    /// Undoes [`Self::watch`]. Needed before the descriptor is closed, since the other side holds it open too.
    pub fn unwatch(&self, token: Token, fd: RawFd) {
        let _ = self
            .of(token)
            .epoll
            .ctl(ControlOperation::Delete, fd, EpollEvent::default());
    }

    /// Has the worker of a source look at it once.
    pub fn poke(&self, token: Token) {
        let shared = self.of(token);
        shared.lock().pokes.push(token);
        let _ = shared.wake.write(1);
    }

    fn of(&self, token: Token) -> &Shared {
        &self.threads[token.worker(self.threads.len())].0
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (shared, thread) in &mut self.threads {
            shared.stopping.store(true, Ordering::Release);
            let _ = shared.wake.write(1);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn new(plan: Arc<Plan>) -> io::Result<Shared> {
        let (epoll, wake) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, Token::NONE.to_u64());
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), event)?;
        Ok(Shared {
            epoll,
            wake,
            generation: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            slow: Mutex::new(Slow {
                plan,
                seen: 0,
                pokes: Vec::new(),
            }),
            acknowledged: Condvar::new(),
        })
    }

    /// Whether the worker is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Changes with every plan.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The plan in force.
    pub fn plan(&self) -> (u64, Arc<Plan>) {
        let slow = self.lock();
        (self.generation(), slow.plan.clone())
    }

    /// The worker no longer sees any plan before this one.
    pub fn acknowledge(&self, generation: u64) {
        self.lock().seen = generation;
        self.acknowledged.notify_all();
    }

    /// Sources to look at.
    pub fn take_pokes(&self) -> Vec<Token> {
        std::mem::take(&mut self.lock().pokes)
    }

    fn publish(&self, plan: Arc<Plan>) {
        let old = {
            let mut slow = self.lock();
            self.generation.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut slow.plan, plan)
        };
        let _ = self.wake.write(1);
        drop(old);
    }

    fn wait_for_acknowledgement(&self) {
        let wanted = self.generation();
        let mut slow = self.lock();
        while slow.seen < wanted {
            slow = self
                .acknowledged
                .wait(slow)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allowed_processors() -> Vec<usize> {
    // SAFETY: all-zero is a valid cpu_set_t, and the call fills at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize)
            .filter(|processor| libc::CPU_ISSET(*processor, &set))
            .collect()
    }
}

/// Keeps the calling thread on one processor. Where that is refused the scheduler decides.
fn pin(processor: usize) {
    // SAFETY: all-zero is a valid cpu_set_t; the processor came out of such a set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
