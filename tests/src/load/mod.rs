//! A load generator: the drivers of two guests on one core, fast enough that the back end between them is what is measured.
//!
//! Each port has rings of its own in a shared memory file. A frame costs its sender the writing of a descriptor and of one
//! cache line with headers, flow and sequence number; it costs its receiver the reading of that line. Each 64th frame of a
//! flow is written and compared whole, or each one with [`Verify::All`].

mod closed_loop;
mod error;
mod frame;
mod latency;
mod memory;
mod open_loop;
mod options;
mod port;
mod processor;
mod queue;
mod report;
mod ring;
mod sink;
mod source;
mod wake;
mod wire;

pub use error::LoadError;
pub use latency::Summary;
pub use options::{Mac, Mode, Options, RingFormat, Size, Verify};
pub use report::{Direction, Report};

use ring::{DriverRing, PackedRing, SplitRing};
use wire::Wire;

/// Connects to a back end, generates what the options say, and says what became of it.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        processor::pin(cpu)?;
    }
    match options.ring {
        RingFormat::Split => run_on::<SplitRing>(options),
        RingFormat::Packed => run_on::<PackedRing>(options),
    }
}

fn run_on<R: DriverRing>(options: &Options) -> Result<Report, LoadError> {
    let mut wire = Wire::<R>::open(options)?;
    let report = match options.mode {
        Mode::OneWay | Mode::BothWays => open_loop::run(&mut wire, options),
        Mode::ClosedLoop => closed_loop::run(&mut wire, options),
        Mode::Wake => wake::run(&mut wire, options),
        Mode::Wait => wake::wait(&mut wire, options),
    }?;
    wire.stop()?;
    Ok(report)
}
