//! The vhost-user back end: message framing, the state machine of one connection, and the sockets.
//!
//! The specification is docs/interop/vhost-user.rst of QEMU; its clauses are cited beside the code. Nothing here
//! blocks: all connections share one thread.

mod config_space;
mod connection;
mod inflight;
mod memory;
mod message;
mod rings;
mod session;
mod socket;
mod vring;

#[cfg(test)]
mod tests;

pub use connection::{Connection, ConnectionError};
pub use message::{Message, Reply, Violation};
pub use session::{Host, Identity, Session};
pub use socket::{Endpoint, SocketError, listen};
