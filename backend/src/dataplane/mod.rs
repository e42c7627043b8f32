//! The data path: workers that take frames from their sources, send them through netkit's xmit and deliver them.
//!
//! What the workers see of the daemon is one immutable [`Plan`]; a change puts a new plan in its place and returns when
//! no worker can see the old one any more (the kernel's RCU). Which worker serves which source is the control thread's
//! to say, and to change.

mod affinity;
mod balance;
mod forwarder;
mod mailbox;
mod path;
mod placement;
mod plan;
mod plan_cell;
mod resolver;
mod shared;
mod shares;
mod source;
mod sync;
mod targets;
mod uplink;
#[cfg(test)]
mod uplink_tests;
mod watch_list;
mod worker;
mod workers;

pub use forwarder::Forwarder;
pub use plan::{GuestAddress, Plan, Port};
pub use resolver::Resolver;
pub use shares::{Prefix, SharedBy, Shares};
pub use source::Token;
pub use uplink::UplinkPort;
pub use workers::{MoveError, SourceState, WorkerState, Workers};
