//! netkitd beside other back ends: the same load, on the same cores, in turns.
//!
//! A [`works::Work`] says what is done and with whom, [`rounds`] takes the turns, [`peers`] starts who takes part, and
//! [`report`] says how it went. What a measurement is worth is decided in [`statistics`] and [`share`].

pub mod command_line;
mod error;
pub mod flame;
pub mod generator;
pub mod host_facts;
pub mod huge_pages;
pub mod idle;
pub mod kernel;
pub mod peers;
pub mod profile;
pub mod report;
pub mod results;
pub mod rounds;
pub mod share;
pub mod statistics;
pub mod testpmd;
pub mod veth;
pub mod virtio_user;
pub mod way_out;
pub mod works;

pub use error::Error;

/// The processor of the back end under test.
pub const BACK_END_CPU: usize = 0;
/// The processor of whoever makes the load.
pub const GENERATOR_CPU: usize = 1;

/// What a result is.
pub type Result<T> = std::result::Result<T, Error>;
