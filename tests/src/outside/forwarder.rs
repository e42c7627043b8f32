//! A wire that is not perfect: passes frames from one netdev to another, losing some and delaying others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::Sight;
use super::{Checker, Fault, Namespace, Tally, Wire};
use crate::driver::device::wait_readable;
use crate::driver::{Header, Random};

/// What happens to frames, in per cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Lost.
    pub loss: u64,
    /// Passed on after those that come next.
    pub reorder: u64,
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames passed on.
    pub passed: u64,
    /// Frames lost.
    pub lost: u64,
    /// Frames passed on late.
    pub reordered: u64,
    /// Frames that the other side did not take.
    pub refused: u64,
    /// All that came in.
    pub tally: Tally,
    /// Wrong ones among them.
    pub faults: Vec<Fault>,
}

/// For how many frames a late one is held back, and how long if none come.
const LATE_BY: u32 = 3;
const LATE_FOR: Duration = Duration::from_millis(5);
const TICK: Duration = Duration::from_millis(2);

/// A thread that passes frames on in both directions.
#[derive(Debug)]
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Passed>>,
}

/// One direction.
struct Lane {
    from: usize,
    held: Option<Held>,
}

struct Held {
    header: Header,
    frame: Vec<u8>,
    frames: u32,
    until: Instant,
}

impl Forwarder {
    /// Joins two netdevs of a namespace.
    pub fn start(
        namespace: &Namespace,
        netdevs: [&str; 2],
        impairment: Impairment,
        checker: Checker,
    ) -> io::Result<Forwarder> {
        let wires = namespace.enter(|| -> io::Result<_> {
            let [a, b] = netdevs.map(|netdev| Wire::packet(netdev, Sight::Arriving));
            Ok([a?, b?])
        })?;
        Ok(Forwarder::join(wires, impairment, checker))
    }

    /// Joins two wires.
    pub fn join(wires: [Wire; 2], impairment: Impairment, checker: Checker) -> Forwarder {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || forward(wires, impairment, checker, &stopped));
        Forwarder {
            stop,
            thread: Some(thread),
        }
    }

    /// Cuts the wire, and gives what happened.
    pub fn stop(mut self) -> Passed {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("the forwarder's thread")
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn forward(mut wires: [Wire; 2], impairment: Impairment, mut checker: Checker, stop: &AtomicBool) -> Passed {
    let mut random = Random::new(1);
    let mut passed = Passed::default();
    let mut lanes = [0, 1].map(|from| Lane { from, held: None });
    while !stop.load(Ordering::Relaxed) {
        for lane in &mut lanes {
            while let Some((header, frame)) = wires[lane.from].receive() {
                passed.faults.extend(checker.check(&header, &frame).err());
                let to = &mut wires[1 - lane.from];
                let dice = random.number() % 100;
                if dice < impairment.loss {
                    passed.lost += 1;
                } else if dice < impairment.loss + impairment.reorder && lane.held.is_none() {
                    passed.reordered += 1;
                    lane.held = Some(Held {
                        header,
                        frame,
                        frames: 0,
                        until: Instant::now() + LATE_FOR,
                    });
                } else {
                    pass(to, &header, &frame, &mut passed);
                    lane.release(to, &mut passed);
                }
            }
            lane.expire(&mut wires[1 - lane.from], &mut passed);
        }
        wait_readable(&[wires[0].fd(), wires[1].fd()], TICK);
    }
    passed.tally = checker.tally();
    passed
}

impl Lane {
    /// Another frame has overtaken the one that is held back.
    fn release(&mut self, to: &mut Wire, passed: &mut Passed) {
        if let Some(held) = &mut self.held {
            held.frames += 1;
            if held.frames >= LATE_BY {
                held.until = Instant::now();
                self.expire(to, passed);
            }
        }
    }

    fn expire(&mut self, to: &mut Wire, passed: &mut Passed) {
        if let Some(held) = self.held.take_if(|held| held.until <= Instant::now()) {
            pass(to, &held.header, &held.frame, passed);
        }
    }
}

fn pass(to: &mut Wire, header: &Header, frame: &[u8], passed: &mut Passed) {
    if to.send(header, frame) {
        passed.passed += 1;
    } else {
        passed.refused += 1;
    }
}
