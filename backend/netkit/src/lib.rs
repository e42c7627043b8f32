//! The netkit model: pairs, attributes, program lists, links and xmit.
//!
//! A [`Model`] holds the devices and is changed by one control thread; a [`View`] is an immutable
//! picture of it that any number of workers use in [`xmit`]. Nothing here does I/O, reads a clock or
//! starts a thread, so every rule can be tested in microseconds.

mod attach;
mod attributes;
mod change;
mod counters;
mod create;
mod device;
mod domain;
mod drop_reason;
mod errno;
mod error;
mod ident;
mod info;
pub mod l3;
mod link;
pub mod mac_text;
mod model;
mod mprog;
mod name;
mod program;
mod random;
mod request;
mod saved;
mod view;
mod xmit;

pub use attach::Target;
pub use attributes::{AttachType, Mode, Pairing, Policy, Scrub, UnknownWord};
pub use counters::Statistics;
pub use device::{Device, MTU_MAX, MTU_MIN, RX_QUEUES_MAX, TX_QUEUES_MAX};
pub use domain::Domain;
pub use drop_reason::DropReason;
pub use errno::Errno;
pub use error::Error;
pub use ident::{Ifindex, LinkId, ProgramId};
pub use info::{DeviceInfo, Flag, OperationalState};
pub use link::LinkInfo;
pub use model::{Created, DEVICES_MAX, Model};
pub use mprog::{AttachOptions, ListError, Listed, PROGRAMS_MAX, ProgramListing, Relative};
pub use name::NAME_MAX;
pub use program::{Context, Program, ProgramKind, verdict};
pub use request::{ChangeRequest, CreateRequest, PeerRequest};
pub use saved::{SavedDevice, SavedModel};
pub use view::{Delivery, DeviceView, Slot, View};
pub use xmit::{Outcome, xmit};
