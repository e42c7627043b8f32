//! Watches a wire while a test runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::Sight;
use super::{Checker, Fault, Namespace, Tally, Wire};

/// How long to go on for frames that are on their way.
const TAIL: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(10);
/// The first wrong frames tell enough.
const FAULTS: usize = 5;

/// A thread that checks every frame that passes a netdev, in both directions.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Tally, Vec<Fault>)>>,
}

impl Capture {
    /// Begins.
    pub fn start(namespace: &Namespace, netdev: &str, mut checker: Checker) -> io::Result<Capture> {
        let mut wire = namespace.enter(|| Wire::packet(netdev, Sight::Both))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut faults = Vec::new();
            let mut end = None;
            while end.is_none_or(|end| Instant::now() < end) {
                if end.is_none() && stopped.load(Ordering::Relaxed) {
                    end = Some(Instant::now() + TAIL);
                }
                while let Some((header, frame)) = wire.receive() {
                    faults.extend(checker.check(&header, &frame).err());
                    faults.truncate(FAULTS);
                }
                wire.wait(TICK);
            }
            (checker.tally(), faults)
        });
        Ok(Capture {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends, and gives what was seen and what was wrong.
    pub fn stop(mut self) -> (Tally, Vec<Fault>) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("the capture's thread")
    }

    /// Ends, and gives what was seen.
    ///
    /// # Panics
    /// If a frame was wrong.
    pub fn all_right(self) -> Tally {
        let (tally, faults) = self.stop();
        assert!(faults.is_empty(), "wrong frames on the wire: {faults:#?}");
        tally
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
