//! Attachments: what stands behind a device.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UplinkSpec;

/// What is wanted behind a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AttachmentSpec {
    /// A guest, through a vhost-user socket.
    VhostUser(VhostUserSpec),
    /// A host netdev.
    Tap(TapSpec),
    /// A NIC.
    Uplink(UplinkSpec),
}

/// A guest, through a vhost-user socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VhostUserSpec {
    /// Path of the unix socket.
    pub path: String,
    /// Which side of the socket the daemon takes.
    #[serde(default)]
    pub mode: SocketMode,
    /// Queue pairs, 1 to 128.
    #[serde(default = "one")]
    pub queues: u16,
}

/// The daemon's side of a vhost-user socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SocketMode {
    /// The daemon listens; the VMM connects.
    #[default]
    Server,
    /// The VMM listens; the daemon connects, and tries again for ever.
    Client,
}

/// A host netdev made by the daemon, or an existing one that it opens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TapSpec {
    /// Name of the host netdev; the kernel picks one if absent.
    pub ifname: Option<String>,
    /// Queues, 1 to 16; absent is 1.
    pub queues: Option<u16>,
    /// A file descriptor of a tap queue that the daemon inherited when it was started.
    pub fd: Option<i32>,
}

/// What stands behind a device now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// Path of the vhost-user socket.
    pub path: Option<String>,
    /// The daemon's side of the socket.
    pub mode: Option<SocketMode>,
    /// Queue pairs or tap queues; 0 for `none`.
    pub queues: u16,
    /// Name of the host netdev.
    pub ifname: Option<String>,
    /// The uplink, and by what this device's frames are known there.
    pub uplink: Option<UplinkSpec>,
    /// Whether a front end is connected; a tap always is, an uplink while its NIC is there.
    pub connected: bool,
    /// Whether the guest's driver runs: its rings are started.
    pub running: bool,
    /// The Ethernet address that the guest should have.
    pub guest_address: Option<String>,
    /// Virtio features that the guest's driver took, as a number.
    pub features: Option<u64>,
}

/// The kinds of attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentKind {
    /// Nothing.
    None,
    /// A guest.
    VhostUser,
    /// A host netdev.
    Tap,
    /// A NIC.
    Uplink,
}

fn one() -> u16 {
    1
}
