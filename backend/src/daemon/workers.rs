//! What the API does to workers.

use netkit_api as api;

use super::{Daemon, DaemonError};
use crate::dataplane::{MoveError, SourceState, Token, WorkerState};

impl Daemon {
    /// The workers and what they serve.
    pub fn workers(&self) -> Vec<api::Worker> {
        let states = self.workers.states().into_iter().enumerate();
        states
            .map(|(number, state)| self.shown_worker(number, &state))
            .collect()
    }

    /// Has another worker serve a queue, until the queue is started anew.
    pub fn move_queue(&mut self, device: &str, queue: u32, worker: u32) -> Result<(), DaemonError> {
        let token = Token::new(self.model.find(device)?, queue as usize);
        let moved = self.workers.fix(token, worker as usize);
        moved.map_err(|source| DaemonError::NotMoved {
            device: device.to_owned(),
            queue,
            source,
        })
    }

    fn shown_worker(&self, number: usize, state: &WorkerState) -> api::Worker {
        let queue = |source: &SourceState| {
            let device = self.model.device(source.token.ifindex).ok()?;
            Some(api::ServedQueue {
                device: device.name.clone(),
                queue: source.token.queue as u32,
                frames: source.frames,
                fixed: source.fixed,
            })
        };
        api::Worker {
            worker: number as u32,
            processor: state.processor.map(|processor| processor as u32),
            busy_ns: state.busy.as_nanos() as u64,
            queues: state.sources.iter().filter_map(queue).collect(),
        }
    }
}

/// The errno of a move that was refused.
pub fn errno(error: &MoveError) -> i32 {
    match error {
        MoveError::NoSuchSource => libc::ENOENT,
        MoveError::NoSuchWorker { .. } => libc::EINVAL,
        MoveError::Watch(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}
