//! What the control thread and one worker share.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::mailbox::Mailbox;
use super::plan::Plan;
use super::plan_cell::PlanCell;
use super::source::Source;
use super::watch_list::Place;

/// What epoll says when there are orders.
pub const WAKE: u64 = u64::MAX;

/// One worker as the control thread sees it.
pub struct Shared {
    /// Where the worker sleeps.
    pub epoll: Epoll,
    /// What it works by.
    pub plan: PlanCell<Plan>,
    /// What it is to do.
    pub orders: Mailbox<Order>,
    wake: EventFd,
    help: Arc<EventFd>,
    busy_nanoseconds: AtomicU64,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve a source, and look at it.
    Serve(Place, Arc<Source>),
    /// Serve a source no more.
    Leave(Place),
    /// Look at a source.
    Look(Place),
    /// End.
    End,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("orders", &self.orders)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// For a new worker, which writes to `help` when it has too much to do.
    pub fn new(plan: Arc<Plan>, help: Arc<EventFd>) -> io::Result<Shared> {
        let (epoll, wake) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, WAKE);
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), event)?;
        Ok(Shared {
            epoll,
            plan: PlanCell::new(plan),
            orders: Mailbox::default(),
            wake,
            help,
            busy_nanoseconds: AtomicU64::new(0),
        })
    }

    /// Gives the worker an order.
    pub fn order(&self, order: Order) {
        self.orders.give(order);
        // Every write is an edge, so nobody needs to read.
        let _ = self.wake.write(1);
    }

    /// The time that the worker has spent on frames since it began.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanoseconds.load(Ordering::Relaxed))
    }

    /// Takes note of time spent on frames; for the worker only.
    #[inline]
    pub fn note_work(&self, time: Duration) {
        let before = self.busy_nanoseconds.load(Ordering::Relaxed);
        let after = before.wrapping_add(time.as_nanos() as u64);
        self.busy_nanoseconds.store(after, Ordering::Relaxed);
    }

    /// Asks the control thread to move sources to other workers.
    pub fn call_for_help(&self) {
        let _ = self.help.write(1);
    }
}
