//! The control thread: the model, the attachments and their connections, all on one event loop.

mod attach;
mod attachment;
mod claims;
mod connection_events;
mod control;
mod convert;
mod devices;
mod error;
mod follow;
mod maps;
mod neighbours;
mod nic;
mod nics;
mod pace;
mod plan;
mod programs;
mod rarp;
mod store;
mod trace;
mod uplink_api;
mod uplinks;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ::devices::nic::vfio::pci::Binding;
use netkit::{Ifindex, Model};
use policy::QuarantineRule;
use policy::engine::Engine;
use vmm_sys_util::eventfd::EventFd;

use crate::dataplane::{Forwarder, Workers};

use attach::Waiting;
use attachment::Attachment;
use follow::Follower;
use pace::Pace;
use store::Store;
use uplinks::Uplink;

pub use control::{Control, ControlHandle, Reactor, StartError};
pub use error::DaemonError;
pub use programs::ParsedObject;
pub use store::StoreError;

/// How the daemon is to be set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the desired state is kept; `None` keeps it in memory only.
    pub state_dir: Option<PathBuf>,
    /// Data-path threads.
    pub workers: usize,
    /// How programs are run.
    pub programs: ProgramRules,
}

/// How programs are run.
#[derive(Debug, Clone, Copy)]
pub struct ProgramRules {
    /// Instructions that a run may take, counted at loop heads and calls.
    pub fuel: i64,
    /// When programs go into quarantine.
    pub quarantine: QuarantineRule,
    /// Use the interpreter even where programs can be compiled.
    pub interpreter_only: bool,
}

/// The daemon's state. Only the control thread touches it.
#[derive(Debug)]
pub struct Daemon {
    model: Model,
    attachments: BTreeMap<Ifindex, Attachment>,
    /// Attachments that could not be restored yet; they are tried again.
    waiting: BTreeMap<Ifindex, Waiting>,
    /// The host's routes, for the devices that stand for its netdevs.
    follower: Follower,
    /// NICs that frames leave by.
    uplinks: BTreeMap<Ifindex, Uplink>,
    /// NICs that were taken from the host's drivers for guests.
    passed: Vec<Binding>,
    /// Written to when a worker has learnt of a neighbour.
    learnt: Arc<EventFd>,
    /// When that is to be taken.
    learning: Pace,
    /// When NICs are to be asked what they are like.
    looking: Pace,
    workers: Workers,
    /// The control thread's own, for frames that the daemon itself sends.
    forwarder: Forwarder,
    store: Option<Store>,
    engine: Engine,
    /// Held while a program runs on the control plane's shard.
    test_run: Arc<Mutex<()>>,
}
