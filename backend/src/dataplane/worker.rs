//! One data-path thread: polls the sources that have work, sleeps when none has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{EpollEvent, EventSet};

use super::forwarder::Forwarder;
use super::plan::{Plan, Port, Token};
use super::workers::Shared;

/// How long a source is polled after its last frame. A wake-up costs a few microseconds of somebody's time, and a busy
/// sender's next frame is usually closer than this.
const LINGER: Duration = Duration::from_micros(50);
/// Rounds of polling between two looks at what the sleeping sources say.
const ROUNDS_PER_LOOK: u32 = 16;

/// A thread's state.
pub struct Worker {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    generation: u64,
    forwarder: Forwarder,
    active: Vec<Active>,
    events: Vec<EpollEvent>,
}

/// A source that is being polled.
struct Active {
    token: Token,
    idle_since: Option<Instant>,
}

impl Worker {
    /// A worker that counts in statistics shard `shard`.
    pub fn new(shared: Arc<Shared>, shard: usize) -> Worker {
        let (generation, plan) = shared.plan();
        Worker {
            shared,
            plan,
            generation,
            forwarder: Forwarder::new(shard),
            active: Vec::new(),
            events: vec![EpollEvent::default(); 256],
        }
    }

    /// Works until the daemon ends.
    pub fn run(mut self) {
        let mut round = 0u32;
        while !self.shared.is_stopping() {
            self.follow_plan();
            if self.active.is_empty() {
                self.look(-1);
            } else if round.is_multiple_of(ROUNDS_PER_LOOK) {
                self.look(0);
            }
            round = round.wrapping_add(1);
            self.poll_active();
        }
    }

    /// Between two bursts nothing of the plan is in use, so this is where it changes.
    fn follow_plan(&mut self) {
        if self.shared.generation() != self.generation {
            (self.generation, self.plan) = self.shared.plan();
            self.shared.acknowledge(self.generation);
        }
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
        for index in 0..count {
            let token = Token::from_u64(self.events[index].data());
            if token == Token::NONE {
                for poked in self.shared.take_pokes() {
                    self.activate(poked);
                }
            } else if self.events[index].event_set() != EventSet::empty() {
                self.activate(token);
            }
        }
    }

    fn activate(&mut self, token: Token) {
        if self.active.iter().any(|active| active.token == token) {
            return;
        }
        if let Some(slot) = self.plan.view.slot(token.ifindex())
            && let Port::Guest { port, .. } = self.plan.port(slot)
            && token.queue() < port.pairs()
            && let Some(ring) = &mut port.transmit_queue(token.queue()).lock_for_burst().ring
        {
            ring.suppress_kicks();
        }
        self.active.push(Active {
            token,
            idle_since: None,
        });
    }

    fn poll_active(&mut self) {
        let mut index = 0;
        while index < self.active.len() {
            let token = self.active[index].token;
            let count = self.poll(token);
            let keep = count > 0 || self.keep_idle(index);
            if count > 0 {
                self.active[index].idle_since = None;
            }
            if keep {
                index += 1;
            } else {
                self.active.swap_remove(index);
            }
        }
    }

    fn poll(&mut self, token: Token) -> usize {
        match self.plan.view.slot(token.ifindex()) {
            Some(slot) => self.forwarder.poll(&self.plan, slot, token.queue()),
            None => 0,
        }
    }

    /// Whether an idle source stays among the active ones: for a while, or if it has no other way to be noticed, or if
    /// it got work just when it was to be let go.
    fn keep_idle(&mut self, index: usize) -> bool {
        let now = Instant::now();
        let active = &mut self.active[index];
        let since = *active.idle_since.get_or_insert(now);
        if now - since < LINGER {
            std::hint::spin_loop();
            return true;
        }
        let token = active.token;
        let Some(slot) = self.plan.view.slot(token.ifindex()) else {
            return false;
        };
        let Port::Guest { port, .. } = self.plan.port(slot) else {
            return false;
        };
        if token.queue() >= port.pairs() {
            return false;
        }
        let mut queue = port.transmit_queue(token.queue()).lock_for_burst();
        let polled = queue.polled;
        queue
            .ring
            .as_mut()
            .is_some_and(|ring| polled || ring.request_kicks())
    }
}
