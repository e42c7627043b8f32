//! Receive queues as they are shown, who uses them, and why they cannot be had.

use std::fmt;

use thiserror::Error;

use crate::{Domain, Errno, Ifindex};

/// A receive queue of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// The device.
    pub ifindex: Ifindex,
    /// The queue's number, from 0.
    pub queue: u32,
    /// Whether the device has it now. A NIC may have lost queues that are leased.
    pub present: bool,
    /// Who uses it by other means than a lease.
    pub used_by: QueueUse,
    /// Who leases it; shown at the uplink alone.
    pub lease: Option<QueueLease>,
}

/// The other side of a leased queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLease {
    /// The device that leases it.
    pub ifindex: Ifindex,
    /// The queue's number there: 1 for the first.
    pub queue: u32,
    /// The device's domain, if it is not the uplink's.
    pub domain: Option<Domain>,
}

/// Who uses a queue by other means than a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueUse {
    /// Nobody.
    Free,
    /// An AF_XDP socket.
    AfXdp,
    /// A provider of the queue's memory: io_uring, or devmem.
    MemoryProvider,
}

/// Why a queue cannot be had, in the kernel's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueBusy {
    AfXdp,
    Leased { lessee: String },
    MemoryProvider,
}

impl fmt::Display for QueueBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueBusy::AfXdp => f.write_str("Lease device queue in use by AF_XDP; close the socket first"),
            QueueBusy::Leased { lessee } => write!(
                f,
                "Lease device queue is already leased to {lessee}; it is free again once that device is deleted"
            ),
            QueueBusy::MemoryProvider => {
                f.write_str("Lease device queue in use by memory provider; close the provider first")
            }
        }
    }
}

/// Why a queue cannot be leased.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaseError {
    #[error("only rx queues can be created and leased; leave the kind out")]
    NotRx,
    #[error("Device is not a virtual device; lease to a netkit device")]
    ToPhysical,
    #[error("Device does not support queue creation; lease to a netkit device")]
    NoQueueCreation,
    #[error("Lease device is a virtual device; lease from an uplink")]
    FromVirtual,
    #[error("Lease device has been removed from the system; wait until its NIC is back")]
    Removed,
    #[error(
        "Lease device does not support queue management operations; put the uplink behind the device instead"
    )]
    NoQueueManagement,
    #[error("the uplink has {count} receive queues, from 0; choose another, or give it more channels")]
    OutOfRange { count: u32 },
    #[error("{0}")]
    Busy(QueueBusy),
    #[error("Leasing queues from different devices not supported; it leases from {other} already")]
    OtherUplink { other: String },
    #[error("netkit can only lease against the peer device; use {peer}")]
    OfPrimary { peer: String },
    #[error("netkit maximum queue limit reached; create the device with more than {limit} receive queues")]
    LimitReached { limit: u32 },
}

impl LeaseError {
    /// The errno that the kernel would answer with.
    pub fn errno(&self) -> Errno {
        match self {
            LeaseError::NotRx
            | LeaseError::ToPhysical
            | LeaseError::NoQueueCreation
            | LeaseError::FromVirtual
            | LeaseError::Removed
            | LeaseError::NoQueueManagement
            | LeaseError::LimitReached { .. } => Errno::EINVAL,
            LeaseError::OutOfRange { .. } => Errno::ERANGE,
            LeaseError::Busy(_) => Errno::EBUSY,
            LeaseError::OtherUplink { .. } | LeaseError::OfPrimary { .. } => Errno::EOPNOTSUPP,
        }
    }
}

/// Why a NIC cannot have that many channels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChannelsError {
    #[error("a netkit device has no channels; set those of the uplink")]
    NotSupported,
    #[error("use 1 to 4096")]
    OutOfRange,
    #[error("queue {queue} would go. {busy}")]
    Busy { queue: u32, busy: QueueBusy },
}

impl ChannelsError {
    /// The errno that ethtool would get.
    pub fn errno(&self) -> Errno {
        match self {
            ChannelsError::NotSupported => Errno::EOPNOTSUPP,
            ChannelsError::OutOfRange | ChannelsError::Busy { .. } => Errno::EINVAL,
        }
    }
}

/// Why a queue cannot be used for that.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueUseError {
    #[error("the uplink has no such receive queue")]
    OutOfRange,
    #[error("{busy}")]
    Busy { to: QueueUse, busy: QueueBusy },
}

impl QueueUseError {
    /// The errno that the kernel would answer with. A device memory provider finds no device behind a leased queue
    /// (netdev-genl.c: `netdev_nl_bind_rx_doit`).
    pub fn errno(&self) -> Errno {
        match self {
            QueueUseError::OutOfRange => Errno::ERANGE,
            QueueUseError::Busy {
                to: QueueUse::MemoryProvider,
                busy: QueueBusy::Leased { .. },
            } => Errno::EOPNOTSUPP,
            QueueUseError::Busy { .. } => Errno::EBUSY,
        }
    }
}
