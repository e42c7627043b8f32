//! Where a worker finds the plan in force: one writer puts plans in, one reader uses them between two promises.

use super::sync::{Arc, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// A plan and whether it is in use (the kernel's RCU, with a reader that says when it is idle).
///
/// The reader pays one load for each look whether its plan is still in force. It holds no plan while it sleeps, so it
/// need not be woken for a new one, and what the old one kept alive is gone when [`PlanCell::wait`] returns.
#[derive(Debug)]
pub struct PlanCell<T> {
    generation: AtomicU64,
    state: Mutex<State<T>>,
    left: Condvar,
}

#[derive(Debug)]
struct State<T> {
    plan: Arc<T>,
    /// The generation that the reader uses.
    in_use: Option<u64>,
    /// The writer waits for the reader; waking nobody costs a system call.
    awaited: bool,
}

/// A plan in use, from [`PlanCell::enter`] to [`PlanCell::leave`].
#[derive(Debug)]
pub struct Reading<T> {
    /// The plan.
    pub plan: Arc<T>,
    /// Differs from plan to plan.
    pub generation: u64,
}

impl<T> PlanCell<T> {
    /// A cell with its first plan.
    pub fn new(plan: Arc<T>) -> PlanCell<T> {
        PlanCell {
            generation: AtomicU64::new(0),
            state: Mutex::new(State {
                plan,
                in_use: None,
                awaited: false,
            }),
            left: Condvar::new(),
        }
    }

    /// Begins to use the plan in force.
    pub fn enter(&self) -> Reading<T> {
        let mut state = self.lock();
        let generation = self.generation.load(Ordering::Relaxed);
        state.in_use = Some(generation);
        Reading {
            plan: state.plan.clone(),
            generation,
        }
    }

    /// Whether a plan is still the one in force.
    #[inline]
    pub fn is_current(&self, reading: &Reading<T>) -> bool {
        // Which plan is used is decided under the lock; this is but the hint to go there.
        self.generation.load(Ordering::Relaxed) == reading.generation
    }

    /// Ends the use of a plan.
    pub fn leave(&self, reading: Reading<T>) {
        // Given back first, so that the writer is the one who drops what it kept alive.
        drop(reading);
        let mut state = self.lock();
        state.in_use = None;
        if std::mem::take(&mut state.awaited) {
            self.left.notify_all();
        }
    }

    /// Puts a plan in force. The reader may use the one before until [`Self::wait`] returns.
    pub fn publish(&self, plan: Arc<T>) {
        let mut state = self.lock();
        let next = self.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.generation.store(next, Ordering::Relaxed);
        state.plan = plan;
    }

    /// Returns when the reader uses no plan but the one in force.
    pub fn wait(&self) {
        let mut state = self.lock();
        let current = self.generation.load(Ordering::Relaxed);
        while state.in_use.is_some_and(|generation| generation != current) {
            state.awaited = true;
            state = self
                .left
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
