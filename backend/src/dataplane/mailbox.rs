//! Orders from the control thread to one worker, carried out in the order in which they were given.

use super::sync::{Condvar, Mutex, MutexGuard};

/// A queue of orders. Whoever gives one also has to wake the worker.
#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

#[derive(Debug)]
struct State<T> {
    orders: Vec<T>,
    /// Orders that were ever given.
    given: u64,
    /// Orders that were ever carried out.
    done: u64,
    /// Somebody waits for that; waking nobody costs a system call.
    awaited: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        Mailbox {
            state: Mutex::new(State {
                orders: Vec::new(),
                given: 0,
                done: 0,
                awaited: false,
            }),
            done: Condvar::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Gives an order.
    pub fn give(&self, order: T) {
        let mut state = self.lock();
        state.orders.push(order);
        state.given += 1;
    }

    /// Carries out what was ordered.
    pub fn carry_out(&self, mut carry_out: impl FnMut(T)) {
        let orders = std::mem::take(&mut self.lock().orders);
        let count = orders.len() as u64;
        orders.into_iter().for_each(&mut carry_out);
        let mut state = self.lock();
        state.done += count;
        if std::mem::take(&mut state.awaited) {
            self.done.notify_all();
        }
    }

    /// Returns when everything that was ordered so far is carried out.
    pub fn wait(&self) {
        let mut state = self.lock();
        let wanted = state.given;
        while state.done < wanted {
            state.awaited = true;
            state = self
                .done
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
