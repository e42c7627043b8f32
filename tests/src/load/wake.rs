//! Single frames to a back end that has gone to sleep: from the kick until the driver, woken by the call, has the frame.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::error::LoadError;
use super::latency::Distribution;
use super::options::Options;
use super::report::{Interval, Report};
use super::ring::DriverRing;
use super::wire::Wire;
use crate::driver::device::wait_readable;

/// A frame that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);
const DIRECTION: usize = 0;
const RECEIVER: usize = 1;

/// Runs the mode.
pub fn run<R: DriverRing>(wire: &mut Wire<R>, options: &Options) -> Result<Report, LoadError> {
    wire.reach(&[DIRECTION])?;
    let pause = Duration::from_micros(options.pause);
    run_for(wire, options.warm_up(), pause)?;
    let interval = Interval::begin(wire)?;
    let times = run_for(wire, options.measured(), pause)?;
    let measured = interval.end(wire)?;
    let mut report = Report::new(options, wire, &measured);
    report.wake_ns = times.summary();
    Ok(report)
}

/// Runs the mode wait: the guests are there, and want nothing but to be told of frames.
pub fn wait<R: DriverRing>(wire: &mut Wire<R>, options: &Options) -> Result<Report, LoadError> {
    want_calls(wire);
    let interval = Interval::begin(wire)?;
    std::thread::sleep(options.measured());
    let measured = interval.end(wire)?;
    Ok(Report::new(options, wire, &measured))
}

fn run_for<R: DriverRing>(
    wire: &mut Wire<R>,
    duration: Duration,
    pause: Duration,
) -> Result<Distribution, LoadError> {
    let mut times = Distribution::default();
    let begun = Instant::now();
    while begun.elapsed() < duration {
        forget_calls(wire);
        want_calls(wire);
        std::thread::sleep(pause);
        // Nothing is under way, so this is only what came too late.
        wire.sink(DIRECTION, |_, _| ())?;
        let sent = Instant::now();
        wire.generate(DIRECTION, 1)?;
        if wait_for(wire)? {
            times.add(sent.elapsed().as_nanos() as u64);
        }
    }
    Ok(times)
}

/// Sleeps until the device calls, and takes the frame; false if there is none.
fn wait_for<R: DriverRing>(wire: &mut Wire<R>) -> Result<bool, LoadError> {
    let queues = &wire.ports[RECEIVER].receive;
    let calls: Vec<_> = queues.iter().map(|queue| queue.call.as_raw_fd()).collect();
    let called = wait_readable(&calls, PATIENCE);
    match (wire.sink(DIRECTION, |_, _| ())? > 0, called) {
        (true, false) => Err(LoadError::NoCall),
        (taken, _) => Ok(taken),
    }
}

fn want_calls<R: DriverRing>(wire: &mut Wire<R>) {
    let receive = wire.ports.iter_mut().flat_map(|port| &mut port.receive);
    receive.for_each(|queue| queue.ring.want_calls(true));
}

fn forget_calls<R: DriverRing>(wire: &Wire<R>) {
    for queue in &wire.ports[RECEIVER].receive {
        // Nothing to read is as good.
        let _ = queue.call.read();
    }
}
