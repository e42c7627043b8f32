//! As many frames as the back end takes.

use std::time::{Duration, Instant};

use super::error::LoadError;
use super::options::{Mode, Options};
use super::report::{Interval, Report};
use super::ring::DriverRing;
use super::wire::Wire;

/// Frames that are offered to each transmit queue in a turn.
const OFFER: usize = 64;
/// Bursts that are taken of the receive queues in a turn, if there are as many.
const BURSTS: usize = 4;
/// Turns between two looks at the clock.
const TURNS: usize = 32;

/// Runs the modes one-way and both-ways.
pub fn run<R: DriverRing>(wire: &mut Wire<R>, options: &Options) -> Result<Report, LoadError> {
    let directions: &[usize] = if options.mode == Mode::OneWay {
        &[0]
    } else {
        &[0, 1]
    };
    wire.reach(directions)?;
    run_for(wire, directions, options.warm_up())?;
    wire.drain()?;
    let interval = Interval::begin(wire)?;
    run_for(wire, directions, options.measured())?;
    let measured = interval.end(wire)?;
    wire.drain()?;
    Ok(Report::new(options, wire, &measured))
}

fn run_for<R: DriverRing>(
    wire: &mut Wire<R>,
    directions: &[usize],
    duration: Duration,
) -> Result<(), LoadError> {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        for _ in 0..TURNS {
            // What is received comes first: a full transmit ring costs nothing, an empty receive ring costs frames.
            for &direction in directions {
                for _ in 0..BURSTS {
                    if wire.sink(direction, |_, _| ())? == 0 {
                        break;
                    }
                }
            }
            for &direction in directions {
                wire.generate(direction, OFFER)?;
            }
        }
    }
    Ok(())
}
