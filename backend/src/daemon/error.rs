//! Why the daemon refused something, and the errno that says so.

use devices::nic::NicError;
use devices::tap::TapError;

use super::store::StoreError;
use crate::dataplane::MoveError;
use crate::vhost_user::SocketError;

/// A refusal: what was tried, on which object, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] netkit::Error),
    /// A socket could not be set up.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A tap could not be opened.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A NIC could not be opened or used.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// A NIC is another uplink's.
    #[error("{nic} is behind the uplink {uplink} already; use that one, or delete it first")]
    NicTaken {
        /// The NIC.
        nic: String,
        /// Whose it is.
        uplink: String,
    },
    /// Things speak against taking a NIC.
    #[error("cannot take {nic} from the host: {reasons}")]
    NicRefused {
        /// The NIC.
        nic: String,
        /// All of them, each with what to do.
        reasons: String,
        /// Of the first.
        errno: i32,
    },
    /// A NIC that we are to drive belongs to a driver of the host's.
    #[error("{nic} is bound to {driver}; add `bind` to take it, or bind it to vfio-pci yourself")]
    NicOfHost {
        /// The NIC.
        nic: String,
        /// Its driver.
        driver: String,
    },
    /// A NIC was passed to a guest.
    #[error("{nic} is passed to a guest; `nkctl nic return {nic}` takes it back")]
    NicPassed {
        /// The NIC.
        nic: String,
    },
    /// A NIC was not passed to a guest.
    #[error("{nic} was not passed to a guest by this daemon, so there is nothing to give back")]
    NicNotPassed {
        /// The NIC.
        nic: String,
    },
    /// A NIC that is to go back to the host is still in use.
    #[error("a VMM still has {nic}; unplug it there first, or let `nkctl nic return` do that")]
    NicInUse {
        /// The NIC.
        nic: String,
    },
    /// A NIC is not there.
    #[error(
        "the NIC of {uplink} is missing; `nkctl uplink show {uplink}` says why, try again when it is back"
    )]
    NicMissing {
        /// The uplink.
        uplink: String,
    },
    /// A device that is none.
    #[error("{device} is a netkit device, not an uplink; `nkctl uplink show` lists the uplinks")]
    NotUplink {
        /// The device.
        device: String,
    },
    /// An uplink where a netkit device is needed.
    #[error("{uplink} is an uplink, not a netkit device; see `nkctl uplink help`")]
    IsUplink {
        /// The uplink.
        uplink: String,
    },
    /// An uplink cannot be shared with a device that gets everything.
    #[error("{device} has {uplink} to itself; detach it, or attach both with `share mac` or `share ip`")]
    UplinkTaken {
        /// The uplink.
        uplink: String,
        /// Who has it.
        device: String,
    },
    /// Two devices want the same address.
    #[error("{address} is {device}'s on that uplink; choose another address")]
    AddressTaken {
        /// The address.
        address: String,
        /// Whose it is.
        device: String,
    },
    /// A device's mode does not fit the way an uplink is shared.
    #[error("{device} is in {mode} mode, so it can have {uplink} only {}", match mode { netkit::Mode::L3 => "by its IP addresses: attach it with `ip PREFIX`", netkit::Mode::L2 => "to itself or by Ethernet address: leave `ip` out, or use an l3 pair" })]
    ShareMode {
        /// The device.
        device: String,
        /// The uplink.
        uplink: String,
        /// Its mode.
        mode: netkit::Mode,
    },
    /// The change is in force, but will be gone after a restart.
    #[error("the change is in force but was not saved, so a restart will undo it: {0}")]
    NotSaved(#[from] StoreError),
    /// Something stands behind the device already.
    #[error("{device} is attached already; detach it first")]
    Attached {
        /// The device.
        device: String,
    },
    /// Nothing stands behind the device.
    #[error("nothing is attached to {device}, so there is nothing to detach")]
    NotAttached {
        /// The device.
        device: String,
    },
    /// A socket is in use by another device of this daemon.
    #[error("the socket \"{path}\" belongs to {device}; choose another path")]
    SocketTaken {
        /// The path.
        path: String,
        /// Whose it is.
        device: String,
    },
    /// A value out of its range.
    #[error("{what} cannot be {value}; use {allowed}")]
    BadValue {
        /// Which setting.
        what: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// An object was not loaded.
    #[error("cannot load the object: {0}")]
    Load(#[from] policy::engine::LoadError),
    /// No program of that id, name or tag.
    #[error("there is no program {wanted}; list the programs to see which there are")]
    NoSuchProgram {
        /// What was asked for.
        wanted: String,
    },
    /// No map of that id or name.
    #[error("there is no map {wanted}; list the maps to see which there are")]
    NoSuchMap {
        /// What was asked for.
        wanted: String,
    },
    /// A name that several have.
    #[error("more than one {what} is called {wanted}: {} and {} are; use the id", ids.0, ids.1)]
    Ambiguous {
        /// Of what.
        what: &'static str,
        /// The name.
        wanted: String,
        /// The first two.
        ids: (u32, u32),
    },
    /// A program that is to go is attached.
    #[error("program {program} is in use ({places}); detach it first")]
    ProgramInUse {
        /// Its name.
        program: String,
        /// Where.
        places: String,
    },
    /// A map without a pin was to lose it.
    #[error("map {map} is not pinned; it goes when no program uses it any more")]
    NotPinned {
        /// Its name.
        map: String,
    },
    /// A map refused.
    #[error("map {map} refuses {operation}: {errno}")]
    MapOperation {
        /// What was tried.
        operation: String,
        /// On which map.
        map: String,
        /// What bpf(2) would say.
        errno: policy::Errno,
    },
    /// No such route or neighbour.
    #[error("there is no {what} in domain {domain}; list them to see which there are")]
    NoSuchRoute {
        /// Which.
        what: String,
        /// Where.
        domain: String,
    },
    /// A route or neighbour of the host's was to go.
    #[error("the {what} is the host's; delete it there, with ip")]
    OfHost {
        /// Which.
        what: String,
    },
    /// A device of another domain.
    #[error("{device} is not in domain {domain}; name a device that is")]
    OutsideDomain {
        /// The device.
        device: String,
        /// The domain.
        domain: String,
    },
    /// A queue stays with its worker.
    #[error("queue {queue} of {device} stays where it is: {source}")]
    NotMoved {
        /// The device.
        device: String,
        /// The queue.
        queue: u32,
        /// Why.
        source: MoveError,
    },
    /// The control thread has ended.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

impl DaemonError {
    /// The errno of the refusal.
    pub fn errno(&self) -> i32 {
        match self {
            DaemonError::Model(error) => error.errno().number(),
            DaemonError::Socket(error) => error.errno(),
            DaemonError::Tap(TapError::Io { source, .. }) => source.raw_os_error().unwrap_or(libc::EIO),
            DaemonError::Tap(TapError::BadName(_) | TapError::BadQueues(_))
            | DaemonError::BadValue { .. } => libc::EINVAL,
            DaemonError::Nic(error) => error.errno(),
            DaemonError::NicRefused { errno, .. } => *errno,
            DaemonError::NicOfHost { .. } | DaemonError::NicPassed { .. } | DaemonError::NicInUse { .. } => {
                libc::EBUSY
            }
            DaemonError::NicNotPassed { .. } => libc::ENOENT,
            DaemonError::NicTaken { .. } | DaemonError::UplinkTaken { .. } => libc::EBUSY,
            DaemonError::AddressTaken { .. } => libc::EADDRINUSE,
            DaemonError::NicMissing { .. } => libc::ENODEV,
            DaemonError::NotUplink { .. } | DaemonError::IsUplink { .. } | DaemonError::ShareMode { .. } => {
                libc::EOPNOTSUPP
            }
            DaemonError::NotSaved(error) => error.errno(),
            DaemonError::Attached { .. } | DaemonError::ProgramInUse { .. } => libc::EBUSY,
            DaemonError::Load(error) => error.errno().0,
            DaemonError::NoSuchProgram { .. }
            | DaemonError::NoSuchMap { .. }
            | DaemonError::NotPinned { .. } => libc::ENOENT,
            DaemonError::NoSuchRoute { .. } => libc::ESRCH,
            DaemonError::OfHost { .. } => libc::EPERM,
            DaemonError::Ambiguous { .. } => libc::EINVAL,
            DaemonError::OutsideDomain { .. } => libc::ENODEV,
            DaemonError::MapOperation { errno, .. } => errno.0,
            DaemonError::NotAttached { .. } => libc::ENOENT,
            DaemonError::SocketTaken { .. } => libc::EADDRINUSE,
            DaemonError::NotMoved { source, .. } => super::workers::errno(source),
            DaemonError::ShuttingDown => libc::ESHUTDOWN,
        }
    }
}
