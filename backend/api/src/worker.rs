//! Workers: the data-path threads, and what each serves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A data-path thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its number, from 0.
    pub worker: u32,
    /// The processor that it is kept on.
    pub processor: Option<u32>,
    /// Nanoseconds that it has spent on frames since the daemon started.
    pub busy_ns: u64,
    /// What it serves: queues that have started.
    pub queues: Vec<ServedQueue>,
}

/// A queue that frames come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedQueue {
    /// Name of the device.
    pub device: String,
    /// Number of the queue pair, or of the tap's queue, from 0.
    pub queue: u32,
    /// Frames that were taken from it since it started.
    pub frames: u64,
    /// It was put where it is by hand, so it is not moved when that worker has too much to do.
    pub fixed: bool,
}

/// Which worker is to serve a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerChoice {
    /// Its number, from 0.
    pub worker: u32,
}
