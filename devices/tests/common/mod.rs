//! What the suites share: a guest's memory, the driver's side of its rings, its device as a whole, and frames.
// Each suite is a crate of its own and uses a part of this.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod chaos;
pub mod driver;
pub mod flip;
pub mod frames;
pub mod guest;
pub mod packed;
pub mod ram;
pub mod rendezvous;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use proptest::test_runner::Config as ProptestConfig;

/// A property that is tried so many times, and leaves no file behind.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Runs `work` on a thread of its own and gives up on it if it hangs.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    let worker = std::thread::spawn(move || done.send(work()));
    match result.recv_timeout(limit) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("no end after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("the worker sends unless it panics"))
        }
    }
}
