//! Guests without a virtual machine: a vhost-user front end and a virtio-net driver in this process.
//!
//! ```no_run
//! use netkit_tests::driver::{Pair, Setup, packet};
//! use netkit_tests::netkitd::Netkitd;
//!
//! let daemon = Netkitd::start();
//! let (mut a, mut b) = Pair::new(&daemon, "nk").connect(&Setup::default())?;
//! let frame = packet::ethernet([2; 6], [4; 6], b"hello");
//! a.send_frame(&frame);
//! assert_eq!(b.receive().frame, frame);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod attack;
mod bystanders;
pub mod conversation;
pub mod device;
pub mod feature;
mod format;
pub mod front_end;
pub mod header;
pub mod inflight;
pub mod memory;
pub mod message;
pub mod namespace;
mod opening;
pub mod packet;
mod pair;
mod random;
pub mod ring;
mod rules;
pub mod stack;

pub use bystanders::Bystanders;
pub use device::{NetDriver, Received, Setup};
pub use format::Format;
pub use front_end::FrontEnd;
pub use header::Header;
pub use memory::Memory;
pub use opening::{Opening, RingSetup};
pub use pair::{End, Pair, PairConfig};
pub use random::Random;
pub use stack::Stack;
