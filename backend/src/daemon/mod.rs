//! The control thread: the model, the attachments and their connections, all on one event loop.

mod attach;
mod attachment;
mod connection_events;
mod control;
mod convert;
mod devices;
mod error;
mod plan;
mod rarp;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use netkit::{Ifindex, Model};

use crate::dataplane::{Forwarder, Workers};

use attach::Waiting;
use attachment::Attachment;
use store::Store;

pub use control::{Control, ControlHandle, Reactor, StartError};
pub use error::DaemonError;
pub use store::StoreError;

/// How the daemon is to be set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the desired state is kept; `None` keeps it in memory only.
    pub state_dir: Option<PathBuf>,
    /// Data-path threads.
    pub workers: usize,
}

/// The daemon's state. Only the control thread touches it.
#[derive(Debug)]
pub struct Daemon {
    model: Model,
    attachments: BTreeMap<Ifindex, Attachment>,
    /// Attachments that could not be restored yet; they are tried again.
    waiting: BTreeMap<Ifindex, Waiting>,
    workers: Workers,
    /// The control thread's own, for frames that the daemon itself sends.
    forwarder: Forwarder,
    store: Option<Store>,
}
