//! The netkit model: pairs, uplinks, attributes, program lists, links, leases and xmit.
//!
//! A [`Model`] holds the devices and is changed by one control thread; a [`View`] is an immutable
//! picture of it that any number of workers use in [`xmit`]. Nothing here does I/O, reads a clock or
//! starts a thread, so every rule can be tested in microseconds.
//!
//! ```
//! use devices::packet::Frame;
//! use netkit::{Clones, CreateRequest, Mode, Model, Outcome, xmit};
//!
//! let mut model = Model::new(1, 42);
//! let pair = model.create(&CreateRequest { mode: Some(Mode::L2), ..Default::default() })?;
//! let guest = pair.peer.expect("not a single");
//! model.set_up(pair.primary, true)?;
//! model.set_up(guest, true)?;
//!
//! let view = model.view();
//! let sender = view.slot(guest).expect("just created");
//! let mut frame = Frame::from_octets(&[0xff; 60]);
//! match xmit(&view, sender, &mut frame, &mut Clones::default(), 0) {
//!     Outcome::Deliver(delivery) => view.delivered(&delivery, 1, 0),
//!     Outcome::Dropped(reason) => panic!("{}", reason.describe()),
//! }
//! assert_eq!(model.statistics(pair.primary)?.rx_packets, 1);
//! # Ok::<(), netkit::Error>(())
//! ```

mod attach;
mod attributes;
mod change;
mod clones;
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
mod lease;
mod link;
mod list_error;
pub mod mac_text;
mod model;
mod mprog;
mod name;
mod program;
mod queue;
mod random;
mod redirect;
mod request;
pub mod routing;
mod saved;
mod tcx;
mod uplink;
mod view;
mod xmit;

pub use attach::Target;
pub use attributes::{AttachType, DeviceKind, Mode, Pairing, Policy, QueueKind, Scrub, UnknownWord};
pub use clones::Clones;
pub use counters::Statistics;
pub use device::{Device, MTU_MAX, MTU_MIN, RX_QUEUES_MAX, TX_QUEUES_MAX};
pub use domain::Domain;
pub use drop_reason::DropReason;
pub use errno::Errno;
pub use error::Error;
pub use ident::{Ifindex, LinkId, ProgramId};
pub use info::{DeviceInfo, Flag, OperationalState};
pub use lease::LeaseRequest;
pub use link::LinkInfo;
pub use list_error::ListError;
pub use model::{Created, DEVICES_MAX, Model};
pub use mprog::{AttachOptions, Listed, PROGRAMS_MAX, ProgramListing, Relative};
pub use name::NAME_MAX;
pub use program::{Context, Hook, Program, ProgramKind, Surroundings, verdict};
pub use queue::{ChannelsError, LeaseError, QueueBusy, QueueInfo, QueueLease, QueueUse, QueueUseError};
pub use request::{ChangeRequest, CreateRequest, PeerRequest};
pub use routing::{Followed, Neighbour, NextHop, Origin, Route, Routing};
pub use saved::{SavedDevice, SavedEntry, SavedLease, SavedLink, SavedModel, SavedUplink};
pub use tcx::{Received, receive, receive_leased};
pub use uplink::{NicState, UplinkRequest};
pub use view::{Delivery, DeviceView, LeaseView, Slot, UplinkView, View, Way};
pub use xmit::{ETH_HLEN, Outcome, straight, xmit, xmit_clone};
