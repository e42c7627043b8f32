//! The data path: workers that take frames from their sources, send them through netkit's xmit and deliver them.
//!
//! What the workers see of the daemon is one immutable [`Plan`]; a change puts a new plan in its place and returns when
//! no worker can see the old one any more (the kernel's RCU).

mod forwarder;
mod plan;
mod targets;
mod worker;
mod workers;

pub use forwarder::Forwarder;
pub use plan::{GuestAddress, Plan, Port, Token};
pub use workers::Workers;
