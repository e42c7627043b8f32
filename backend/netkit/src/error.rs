//! What can go wrong when the model is changed: what was tried, on which object, and what to do.

use devices::packet::MacAddress;
use thiserror::Error;

use crate::{
    AttachType, ChannelsError, Errno, Ifindex, LeaseError, LinkId, ListError, ProgramId, QueueUseError,
};

/// Why the model refused. Where the kernel has a message for it, the text is the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    #[error("there is no device {what}; list the devices to see which there are")]
    NoSuchDevice { what: String },

    #[error("\"{name}\" cannot be a device name: {reason}")]
    NameInvalid { name: String, reason: &'static str },

    #[error("there is a device \"{name}\" already; choose another name, or let nk%d find a free one")]
    NameTaken { name: String },

    #[error("every number of \"{template}\" is taken; choose another name")]
    NamesExhausted { template: String },

    #[error("\"{name}\" cannot be a domain name: {reason}")]
    DomainInvalid { name: String, reason: &'static str },

    #[error("{ifindex} cannot be an ifindex; use 1 to 2147483647")]
    IfindexInvalid { ifindex: u32 },

    #[error("there is a device with ifindex {ifindex} already; choose another, or leave it out")]
    IfindexTaken { ifindex: Ifindex },

    #[error("cannot give the peer ifindex {ifindex}: another device has it; choose another, or leave it out")]
    PeerIfindexTaken { ifindex: Ifindex },

    #[error("cannot create a device: there are {limit} already, which is the limit; delete some first")]
    TooManyDevices { limit: usize },

    #[error("{device} cannot have the address {address}: it must be unicast and not zero")]
    AddressInvalid { device: String, address: MacAddress },

    #[error("{device} cannot have an address of its own: it is in l3 mode; use l2, or leave the address out")]
    AddressInL3 { device: String },

    #[error("mtu less than device minimum: {device} cannot have {mtu}, use 68 to 65535")]
    MtuTooSmall { device: String, mtu: u32 },

    #[error("mtu greater than device maximum: {device} cannot have {mtu}, use 68 to 65535")]
    MtuTooLarge { device: String, mtu: u32 },

    #[error("Invalid number of {direction} queues: {device} cannot have {count}")]
    QueuesInvalid {
        device: String,
        direction: &'static str,
        count: u32,
    },

    #[error("{device} cannot have {count} {direction} queues; netkit has at most {limit}")]
    QueuesUnsupported {
        device: String,
        direction: &'static str,
        count: u32,
        limit: u32,
    },

    #[error("a single netkit device cannot have {attribute}; leave it out, or create a pair")]
    SingleUnsupported { attribute: &'static str },

    #[error("netkit link settings can be changed only through the primary device, not through {device}")]
    NotPrimary { device: String },

    #[error(
        "netkit link {attribute} cannot be changed after device creation; delete {device} and create it anew"
    )]
    AttributeFixed { device: String, attribute: &'static str },

    #[error("cannot change the {attribute} of {device}: it is a single netkit device")]
    PolicyOfSingle { device: String, attribute: &'static str },

    #[error("program {program} cannot be attached to a netkit device: it is not of type sched_cls")]
    ProgramKind { program: ProgramId },

    #[error("program lists are managed through the primary device; {device} is a peer, use {primary}")]
    ListOfPeer { device: String, primary: String },

    #[error("{device} is a single netkit device and takes no programs")]
    ListOfSingle { device: String },

    #[error(
        "there is no {attach_type} list of {device}: it is an uplink, not a netkit device; use tcx_ingress or tcx_egress"
    )]
    ListOfUplink { device: String, attach_type: AttachType },

    #[error(
        "there is no {attach_type} list of {device}: it is a netkit device; attach to netkit primary or peer instead"
    )]
    ListOfNetkit { device: String, attach_type: AttachType },

    #[error("cannot {operation} {device}: it is an uplink; {hint}")]
    IsUplink {
        operation: &'static str,
        device: String,
        hint: &'static str,
    },

    #[error(
        "cannot {operation} {device}: it is a netkit device, not an uplink; list the uplinks to see which there are"
    )]
    NotUplink { operation: &'static str, device: String },

    #[error("there is no domain \"{name}\"; name one that a device is in")]
    NoSuchDomain { name: String },

    #[error("there is no receive queue {queue} of {device}; it has {count}, from 0")]
    NoSuchQueue { device: String, queue: u32, count: u32 },

    #[error("cannot lease queue {queue} of {uplink} to {device}: {source}")]
    Lease {
        queue: u32,
        uplink: String,
        device: String,
        source: LeaseError,
    },

    #[error("cannot give {device} {count} channels: {source}")]
    Channels {
        device: String,
        count: u32,
        source: ChannelsError,
    },

    #[error("cannot use queue {queue} of {device}: {source}")]
    QueueUse {
        device: String,
        queue: u32,
        source: QueueUseError,
    },

    #[error("cannot {operation} the {attach_type} list of {device}: {source}")]
    List {
        operation: String,
        attach_type: AttachType,
        device: String,
        source: ListError,
    },

    #[error("there is no link {link}; list the links to see which there are")]
    NoSuchLink { link: LinkId },

    #[error("cannot update link {link}: its device is gone or it was detached; create a new link")]
    LinkDefunct { link: LinkId },

    #[error("cannot update link {link}: it holds program {current}, not {expected}; look again and retry")]
    LinkProgramDiffers {
        link: LinkId,
        expected: ProgramId,
        current: ProgramId,
    },

    #[error("the saved state cannot be restored: {0}")]
    SavedState(String),
}

impl Error {
    pub(crate) fn no_such_device(ifindex: Ifindex) -> Error {
        Error::NoSuchDevice {
            what: format!("with ifindex {ifindex}"),
        }
    }

    /// The errno that netkit, rtnetlink or bpf(2) would answer with.
    pub fn errno(&self) -> Errno {
        match self {
            Error::NoSuchDevice { .. } => Errno::ENODEV,
            Error::NameInvalid { .. }
            | Error::DomainInvalid { .. }
            | Error::IfindexInvalid { .. }
            | Error::MtuTooSmall { .. }
            | Error::MtuTooLarge { .. }
            | Error::QueuesInvalid { .. }
            | Error::ProgramKind { .. }
            | Error::NoSuchQueue { .. }
            | Error::SavedState(_) => Errno::EINVAL,
            Error::NameTaken { .. } | Error::IfindexTaken { .. } => Errno::EEXIST,
            Error::NamesExhausted { .. } => Errno::ENFILE,
            Error::PeerIfindexTaken { .. } => Errno::EBUSY,
            Error::TooManyDevices { .. } => Errno::ENOSPC,
            Error::AddressInvalid { .. } => Errno::EADDRNOTAVAIL,
            Error::AddressInL3 { .. }
            | Error::QueuesUnsupported { .. }
            | Error::SingleUnsupported { .. }
            | Error::PolicyOfSingle { .. }
            | Error::ListOfSingle { .. }
            | Error::ListOfNetkit { .. }
            | Error::IsUplink { .. }
            | Error::NotUplink { .. } => Errno::EOPNOTSUPP,
            Error::ListOfUplink { .. } => Errno::ENXIO,
            Error::NoSuchDomain { .. } => Errno::ENONET,
            Error::Lease { source, .. } => source.errno(),
            Error::Channels { source, .. } => source.errno(),
            Error::QueueUse { source, .. } => source.errno(),
            Error::NotPrimary { .. } | Error::AttributeFixed { .. } | Error::ListOfPeer { .. } => {
                Errno::EACCES
            }
            Error::List { source, .. } => source.errno(),
            Error::NoSuchLink { .. } => Errno::ENOENT,
            Error::LinkDefunct { .. } => Errno::ENOLINK,
            Error::LinkProgramDiffers { .. } => Errno::EPERM,
        }
    }
}
