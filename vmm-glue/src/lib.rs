//! Glue between netkitd and those who use it: a client of the daemon's API, and the arguments that give a
//! virtual machine monitor one of its devices.

pub mod client;
mod http;
pub mod vm;

pub use client::{Client, ClientError};
