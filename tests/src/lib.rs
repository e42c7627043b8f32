//! The guest-level tests of netkitd and what they stand on.

pub mod bench;
pub mod driver;
pub mod host;
pub mod http;
pub mod kernel;
pub mod load;
pub mod needs;
pub mod netkitd;
mod not_run;
pub mod outside;
pub mod programs;
pub mod rig;

pub use not_run::not_run;
