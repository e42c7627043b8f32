//! A number of frames that go there and back, each sent again when it has returned.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::LoadError;
use super::latency::Distribution;
use super::options::Options;
use super::report::{Interval, Report};
use super::ring::DriverRing;
use super::wire::Wire;

/// Frames that have not returned in this time are lost, and others are sent in their place.
const PATIENCE: Duration = Duration::from_secs(1);
const THERE: usize = 0;
const BACK: usize = 1;

/// Runs the mode.
pub fn run<R: DriverRing>(wire: &mut Wire<R>, options: &Options) -> Result<Report, LoadError> {
    wire.reach(&[THERE, BACK])?;
    let in_flight = usize::from(options.in_flight);
    let mut warm_up = Loop::new(wire, options);
    warm_up.run_for(options.warm_up(), in_flight)?;
    warm_up.finish()?;
    let interval = Interval::begin(wire)?;
    let mut frames = Loop::new(wire, options);
    frames.run_for(options.measured(), in_flight)?;
    let measured = interval.end(frames.wire)?;
    frames.finish()?;
    let times = frames.times;
    let mut report = Report::new(options, wire, &measured);
    report.round_trip_ns = times.summary();
    report.round_trips_per_second = times.summary().map(|it| it.count as f64 / report.seconds);
    Ok(report)
}

struct Loop<'a, R> {
    wire: &'a mut Wire<R>,
    /// Sequence number and time of what was sent and has not returned, for each flow.
    under_way: Vec<VecDeque<(u64, u64)>>,
    times: Distribution,
    begun: Instant,
    queues: usize,
    /// The transmit queue that is next.
    at_queue: usize,
    /// Flow and sequence number of what came, to be sent back.
    came: Vec<(usize, u64)>,
}

impl<'a, R: DriverRing> Loop<'a, R> {
    fn new(wire: &'a mut Wire<R>, options: &Options) -> Loop<'a, R> {
        Loop {
            wire,
            under_way: vec![VecDeque::with_capacity(64); usize::from(options.all_flows())],
            times: Distribution::default(),
            begun: Instant::now(),
            queues: usize::from(options.queues),
            at_queue: 0,
            came: Vec::with_capacity(1024),
        }
    }

    fn run_for(&mut self, duration: Duration, in_flight: usize) -> Result<(), LoadError> {
        let end = duration.as_nanos() as u64;
        let mut returned_at = self.now();
        self.send(in_flight)?;
        loop {
            self.send_back()?;
            let returned = self.take()?;
            let now = self.now();
            if now >= end {
                return Ok(());
            }
            if returned > 0 {
                returned_at = now;
                self.send(returned)?;
            } else if now - returned_at > PATIENCE.as_nanos() as u64 {
                returned_at = now;
                self.under_way.iter_mut().for_each(VecDeque::clear);
                self.send(in_flight)?;
            }
        }
    }

    /// Lets the last frames come home.
    fn finish(&mut self) -> Result<(), LoadError> {
        let end = Instant::now() + PATIENCE;
        while self.under_way.iter().any(|flow| !flow.is_empty()) && Instant::now() < end {
            self.send_back()?;
            self.take()?;
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// Sends frames from the first port.
    fn send(&mut self, count: usize) -> Result<(), LoadError> {
        let now = self.now();
        for _ in 0..count {
            let queue = &mut self.wire.ports[THERE].transmit[self.at_queue];
            let source = &mut self.wire.lanes[THERE].sources[self.at_queue];
            if let Some(tag) = source.next(queue)? {
                self.under_way[usize::from(tag.flow())].push_back((tag.sequence(), now));
            }
            self.at_queue = (self.at_queue + 1) % self.queues;
        }
        self.wire
            .transmitters(THERE)
            .try_for_each(|(_, queue)| queue.publish())?;
        Ok(())
    }

    /// Sends what came at the second port back.
    fn send_back(&mut self) -> Result<(), LoadError> {
        let came = &mut self.came;
        self.wire
            .sink(THERE, |flow, sequence| came.push((flow, sequence)))?;
        if came.is_empty() {
            return Ok(());
        }
        for queue in &mut self.wire.ports[BACK].transmit {
            queue.ring.reclaim()?;
        }
        for (flow, sequence) in came.drain(..) {
            let (index, flow) = (flow % self.queues, flow / self.queues);
            let queue = &mut self.wire.ports[BACK].transmit[index];
            self.wire.lanes[BACK].sources[index].answer(queue, flow, sequence);
        }
        self.wire
            .transmitters(BACK)
            .try_for_each(|(_, queue)| queue.publish())?;
        Ok(())
    }

    /// Takes what returned to the first port.
    fn take(&mut self) -> Result<usize, LoadError> {
        let (under_way, times, begun) = (&mut self.under_way, &mut self.times, self.begun);
        let mut returned = 0;
        self.wire.sink(BACK, |flow, sequence| {
            let now = begun.elapsed().as_nanos() as u64;
            // Whatever is older was lost.
            while let Some((sent, at)) = under_way[flow].front().copied()
                && sent <= sequence
            {
                under_way[flow].pop_front();
                if sent == sequence {
                    times.add(now - at);
                }
            }
            returned += 1;
        })?;
        Ok(returned)
    }
}
