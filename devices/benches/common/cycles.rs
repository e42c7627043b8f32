//! Time as the processor counts it, and what a frame takes of it.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};

#[cfg(target_arch = "x86_64")]
const UNIT: &str = "cycles";
#[cfg(target_arch = "x86_64")]
const UNIT_FOR_EACH: &str = "cycles/frame";
#[cfg(not(target_arch = "x86_64"))]
const UNIT: &str = "ns";
#[cfg(not(target_arch = "x86_64"))]
const UNIT_FOR_EACH: &str = "ns/frame";

/// Cycles of the time stamp counter, which goes on at its own rate whatever the core's is; nanoseconds where there is
/// none. An element is a frame.
#[derive(Debug, Clone, Copy)]
pub struct Cycles;

/// Short runs: there are many, and what they measure is short.
pub fn criterion() -> Criterion<Cycles> {
    Criterion::default()
        .with_measurement(Cycles)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

/// What the counter shows.
#[cfg(target_arch = "x86_64")]
pub fn now() -> u64 {
    // What was begun before is to be over, and what follows not begun.
    // SAFETY: all three only read registers and wait.
    unsafe {
        std::arch::x86_64::_mm_lfence();
        let now = std::arch::x86_64::_rdtsc();
        std::arch::x86_64::_mm_lfence();
        now
    }
}

/// What the clock shows.
#[cfg(not(target_arch = "x86_64"))]
pub fn now() -> u64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_nanos() as u64
}

impl Measurement for Cycles {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        now()
    }

    fn end(&self, start: u64) -> u64 {
        now() - start
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Cycles {
    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        UNIT
    }

    fn scale_throughputs(&self, _typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        if let Throughput::Elements(frames) = throughput {
            values.iter_mut().for_each(|value| *value /= *frames as f64);
        }
        UNIT_FOR_EACH
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        UNIT
    }
}
