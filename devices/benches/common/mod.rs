//! What the benchmarks share.

pub mod cycles;
pub mod driver;
