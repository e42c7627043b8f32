//! What workers and the control thread share, in every interleaving that the memory model allows (loom). The types are
//! the daemon's own, on the model checker's locks and atomics.

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;

/// What the daemon's files find where `dataplane::sync` is otherwise.
mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}
#[path = "../src/dataplane/mailbox.rs"]
mod mailbox;
#[path = "../src/dataplane/plan_cell.rs"]
mod plan_cell;

use mailbox::Mailbox;
use plan_cell::PlanCell;

/// Forced switches in one execution: protocols of this size have no faults that need more, and the check stays short.
const SWITCHES: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(SWITCHES);
    builder.check(model);
}

/// A plan that says whether it may still be used.
#[derive(Debug)]
struct Plan {
    withdrawn: AtomicBool,
}

impl Plan {
    fn new() -> Arc<Plan> {
        Arc::new(Plan {
            withdrawn: AtomicBool::new(false),
        })
    }
}

#[test]
fn no_worker_uses_a_plan_that_was_withdrawn() {
    check(|| {
        let mut plan = Plan::new();
        let cell = Arc::new(PlanCell::new(plan.clone()));
        let worker = {
            let cell = cell.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let reading = cell.enter();
                    for _ in 0..2 {
                        assert!(!reading.plan.withdrawn.load(Ordering::Relaxed));
                        if !cell.is_current(&reading) {
                            break;
                        }
                    }
                    cell.leave(reading);
                }
            })
        };
        for _ in 0..2 {
            let next = Plan::new();
            cell.publish(next.clone());
            cell.wait();
            let mut old = std::mem::replace(&mut plan, next);
            old.withdrawn.store(true, Ordering::Relaxed);
            // What it kept alive goes now, on the thread that asked for the change.
            assert!(
                Arc::get_mut(&mut old).is_some(),
                "a worker still holds the old plan"
            );
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_worker_that_sleeps_holds_nobody_up() {
    check(|| {
        let cell = Arc::new(PlanCell::new(Plan::new()));
        let reading = cell.enter();
        cell.leave(reading);
        cell.publish(Plan::new());
        cell.wait();
    });
}

#[test]
fn orders_are_carried_out_once_and_in_order() {
    check(|| {
        let mailbox = Arc::new(Mailbox::default());
        let wake = Arc::new(Notify::new());
        let worker = {
            let (mailbox, wake) = (mailbox.clone(), wake.clone());
            thread::spawn(move || {
                let mut seen = Vec::new();
                while seen.len() < 3 {
                    wake.wait();
                    mailbox.carry_out(|order: u32| seen.push(order));
                }
                seen
            })
        };
        for order in 0..3 {
            mailbox.give(order);
            wake.notify();
            if order == 1 {
                mailbox.wait();
            }
        }
        assert_eq!(worker.join().unwrap(), [0, 1, 2]);
    });
}

/// A transmit ring with one frame to come, its kick descriptor, and the workers' epolls.
struct Source {
    available: AtomicU64,
    /// Whether the driver is to kick.
    wanted: AtomicBool,
    /// Under the ring's lock.
    taken: Mutex<u64>,
    /// Which workers wait on the descriptor, and which have heard it.
    epoll: Mutex<[(bool, bool); 2]>,
}

impl Source {
    fn new(wanted: bool) -> Arc<Source> {
        Arc::new(Source {
            available: AtomicU64::new(0),
            wanted: AtomicBool::new(wanted),
            taken: Mutex::new(0),
            epoll: Mutex::new([(true, false), (false, false)]),
        })
    }

    /// The driver's part (virtio 1.3, 2.7.13).
    fn send(&self) {
        self.available.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.wanted.load(Ordering::Relaxed) {
            for (waits, heard) in self.epoll.lock().unwrap().iter_mut() {
                *heard |= *waits;
            }
        }
    }

    fn poll(&self) {
        let mut taken = self.taken.lock().unwrap();
        *taken = self.available.load(Ordering::Acquire);
    }

    /// A worker's part when it lets go of an idle source.
    fn arm(&self) {
        let mut taken = self.taken.lock().unwrap();
        self.wanted.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        *taken = self.available.load(Ordering::Acquire);
    }
}

/// Moves a source while its driver sends and its worker lets go of it.
fn move_source(armed: bool) {
    check(move || {
        let source = Source::new(armed);
        let orders = Arc::new(Mailbox::default());
        let wake = Arc::new(Notify::new());
        let driver = {
            let source = source.clone();
            thread::spawn(move || source.send())
        };
        let first = {
            let (source, orders, wake) = (source.clone(), orders.clone(), wake.clone());
            thread::spawn(move || {
                if !armed {
                    source.arm();
                }
                let mut serves = true;
                while serves {
                    wake.wait();
                    orders.carry_out(|()| serves = false);
                }
            })
        };
        // As `Workers::move_to`.
        source.epoll.lock().unwrap()[1].0 = true;
        source.epoll.lock().unwrap()[0].0 = false;
        orders.give(());
        wake.notify();
        orders.wait();
        // From here on this is the second worker: it begins with a poll, and lets go of the source when that is idle.
        source.poll();
        source.arm();
        driver.join().unwrap();
        first.join().unwrap();
        let heard = source.epoll.lock().unwrap()[1].1;
        assert!(
            *source.taken.lock().unwrap() == 1 || heard,
            "the frame waits for ever"
        );
    });
}

#[test]
fn a_kick_during_a_move_from_a_worker_that_sleeps_is_not_lost() {
    move_source(true);
}

#[test]
fn a_kick_during_a_move_from_a_worker_that_polls_is_not_lost() {
    move_source(false);
}
