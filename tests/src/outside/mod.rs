//! What is on the other side of a NIC: stations that talk TCP/IP over bare frames, namespaces, and checks of every frame
//! that was on the wire.

pub mod capture;
mod checker;
mod forwarder;
mod lab;
mod namespace;
pub mod pcap;
pub mod samples;
mod segments;
pub mod station;
pub mod wire;

pub use capture::Capture;
pub use checker::{Checker, Fault, Tally, Wrong};
pub use forwarder::{Forwarder, Impairment, Passed};
pub use lab::{FAR, Lab, LabConfig, NIC};
pub use namespace::Namespace;
pub use segments::assert_segments;
pub use station::{Watched, station};
pub use wire::Wire;
