//! What a run came to, as JSON and as text.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::LoadError;
use super::latency::Summary;
use super::options::{Mode, Options};
use super::ring::DriverRing;
use super::wire::{PORTS, Wire};
use super::{processor, sink::Arrivals};

/// What a run came to. Frames are those that were sent within the measured interval; the rate is that of the frames that
/// came within it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub mode: String,
    pub ring: String,
    pub size: String,
    pub queues: u16,
    pub flows: u16,
    pub huge: bool,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub corrupt: u64,
    /// Frames that were not sent, as the ring was full.
    pub refused: u64,
    pub seconds: f64,
    pub frames_per_second: f64,
    pub octets_per_second: f64,
    pub per_direction: Vec<Direction>,
    /// Run time of the generating thread as a share of the interval.
    pub cpu_share: f64,
    pub round_trips_per_second: Option<f64>,
    pub round_trip_ns: Option<Summary>,
    pub wake_ns: Option<Summary>,
    pub features: String,
    /// What the first corrupt frame was.
    pub complaint: Option<String>,
}

/// One direction of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Direction {
    pub from: &'static str,
    pub to: &'static str,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub corrupt: u64,
    pub refused: u64,
    pub frames_per_second: f64,
    pub octets_per_second: f64,
}

/// A measured interval.
#[derive(Debug)]
pub struct Interval {
    begun: Instant,
    run_time: u64,
}

/// What there was at an interval's end.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    elapsed: Duration,
    cpu_share: f64,
    arrivals: [Arrivals; 2],
}

impl Interval {
    /// Begins with the counters at nothing.
    pub fn begin<R: DriverRing>(wire: &mut Wire<R>) -> Result<Interval, LoadError> {
        wire.reset();
        Ok(Interval {
            run_time: processor::run_time()?,
            begun: Instant::now(),
        })
    }

    /// Ends; what comes later counts as received, and not for the rate.
    pub fn end<R: DriverRing>(self, wire: &Wire<R>) -> Result<Measured, LoadError> {
        let elapsed = self.begun.elapsed();
        let run_time = processor::run_time()? - self.run_time;
        Ok(Measured {
            elapsed,
            cpu_share: run_time as f64 / elapsed.as_nanos() as f64,
            arrivals: [0, 1].map(|direction| wire.lanes[direction].sink.arrivals),
        })
    }
}

impl Report {
    /// What the counters say after the wire was drained.
    pub fn new<R: DriverRing>(options: &Options, wire: &Wire<R>, measured: &Measured) -> Report {
        let directions: Vec<Direction> = [0, 1].map(|from| Direction::new(from, wire, measured)).into();
        let total = |field: fn(&Direction) -> u64| directions.iter().map(field).sum();
        let rate = |field: fn(&Direction) -> f64| directions.iter().map(field).sum();
        let mut report = Report {
            mode: name(&options.mode),
            ring: name(&options.ring),
            size: options.size.to_string(),
            queues: options.queues,
            flows: options.all_flows(),
            huge: wire.ports[0].huge,
            sent: total(|it| it.sent),
            received: total(|it| it.received),
            lost: total(|it| it.lost),
            reordered: total(|it| it.reordered),
            corrupt: total(|it| it.corrupt),
            refused: total(|it| it.refused),
            seconds: measured.elapsed.as_secs_f64(),
            frames_per_second: rate(|it| it.frames_per_second),
            octets_per_second: rate(|it| it.octets_per_second),
            per_direction: Vec::new(),
            cpu_share: measured.cpu_share,
            round_trips_per_second: None,
            round_trip_ns: None,
            wake_ns: None,
            features: format!("{:#x}", wire.ports[0].features),
            complaint: wire.lanes.iter().find_map(|lane| lane.sink.complaint.clone()),
        };
        report.per_direction = match options.mode {
            Mode::OneWay | Mode::Wake => directions.into_iter().take(1).collect(),
            _ => directions,
        };
        report
    }

    /// What is wrong with the frames that came, if something is.
    pub fn fault(&self) -> Option<String> {
        if self.corrupt > 0 {
            let first = self.complaint.as_deref().unwrap_or("unknown");
            return Some(format!("{} frames are corrupt; the first: {first}", self.corrupt));
        }
        (self.reordered > 0).then(|| {
            format!(
                "{} frames were overtaken by later ones of their flow",
                self.reordered
            )
        })
    }
}

impl Direction {
    fn new<R: DriverRing>(from: usize, wire: &Wire<R>, measured: &Measured) -> Direction {
        let lane = &wire.lanes[from];
        let (all, within) = (lane.sink.arrivals, measured.arrivals[from]);
        let seconds = measured.elapsed.as_secs_f64();
        Direction {
            from: PORTS[from],
            to: PORTS[1 - from],
            sent: lane.sent(),
            received: all.frames,
            lost: lane.sent().saturating_sub(all.frames),
            reordered: all.reordered,
            corrupt: all.corrupt,
            refused: lane.refused(),
            frames_per_second: within.frames as f64 / seconds,
            octets_per_second: within.octets as f64 / seconds,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = if self.huge { "2 MiB" } else { "4 KiB" };
        let features = &self.features;
        writeln!(
            f,
            "{} of {} over {} rings, pages of {pages}, features {features}",
            self.mode, self.size, self.ring
        )?;
        let (millions, gigabits) = (self.frames_per_second / 1e6, self.octets_per_second * 8e-9);
        writeln!(
            f,
            "{millions:.3} M frames/s, {gigabits:.2} Gbit/s in {:.2} s",
            self.seconds
        )?;
        write!(
            f,
            "sent {}, received {}, lost {}, ",
            self.sent, self.received, self.lost
        )?;
        write!(
            f,
            "reordered {}, corrupt {}, refused {}, ",
            self.reordered, self.corrupt, self.refused
        )?;
        write!(f, "generator's share of its processor {:.3}", self.cpu_share)?;
        let times = [("round trip", &self.round_trip_ns), ("wake", &self.wake_ns)];
        for (what, times) in times {
            if let Some(Summary {
                median,
                p90,
                p99,
                max,
                count,
            }) = times
            {
                write!(
                    f,
                    "\n{what} in ns: median {median}, p90 {p90}, p99 {p99}, max {max} of {count}"
                )?;
            }
        }
        Ok(())
    }
}

fn name(value: &impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|it| it.get_name().to_owned())
        .unwrap_or_default()
}
