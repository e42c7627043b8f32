//! Devices: one end of a netkit pair, or a single.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Attachment, object};

/// A device as `nkctl -d -s link show` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Unique in the daemon.
    pub ifindex: u32,
    /// Unique in the daemon, at most 15 octets.
    pub name: String,
    /// ifindex of the other end; absent for a single.
    pub peer_ifindex: Option<u32>,
    /// Name of the other end; absent for a single.
    pub peer_name: Option<String>,
    /// Interface flags as `ip link show` names them: `BROADCAST`, `MULTICAST`, `NOARP`, `UP`, `LOWER_UP`,
    /// `NO-CARRIER`, `M-DOWN`.
    pub flags: Vec<String>,
    /// `UP`, `DOWN` or `LOWERLAYERDOWN`.
    pub operstate: String,
    /// In octets, without the Ethernet header.
    pub mtu: u32,
    /// Ethernet address; all zero in L3 mode.
    pub address: String,
    /// Stands for the network namespace.
    pub domain: String,
    /// Receive queues.
    pub num_rx_queues: u32,
    /// Transmit queues.
    pub num_tx_queues: u32,
    /// L2 or L3.
    pub mode: Mode,
    /// Pair or single.
    pub pairing: Pairing,
    /// Whether this is the end through which the pair is managed.
    pub primary: bool,
    /// What happens to a frame that this end transmits while no program is attached.
    pub policy: Policy,
    /// The other end's policy; absent for a single.
    pub peer_policy: Option<Policy>,
    /// What this end scrubs from the frames it transmits; absent for a single.
    pub scrub: Option<Scrub>,
    /// The other end's scrub; absent for a single.
    pub peer_scrub: Option<Scrub>,
    /// In octets.
    pub headroom: u16,
    /// In octets.
    pub tailroom: u16,
    /// What stands behind the device.
    pub attachment: Attachment,
    /// Since the daemon started.
    pub statistics: Statistics,
}

/// Frame and octet counters with the kernel's meaning for a netkit device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Frames received from the other end.
    pub rx_packets: u64,
    /// Octets received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Always zero: a drop is charged to the sender.
    pub rx_dropped: u64,
    /// Frames transmitted.
    pub tx_packets: u64,
    /// Octets transmitted, Ethernet headers included.
    pub tx_bytes: u64,
    /// Frames of this sender that were dropped.
    pub tx_dropped: u64,
}

/// netkit's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ethernet addresses and neighbour discovery as on any Ethernet device.
    L2,
    /// No addresses, no neighbour discovery: the daemon answers it on the guest's behalf.
    L3,
}

/// What becomes of a frame while the program list is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It passes.
    Forward,
    /// It is dropped.
    Blackhole,
}

/// What is cleared from a frame that crosses domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scrub {
    /// Mark and priority are kept.
    None,
    /// Mark and priority are cleared.
    Default,
}

/// Whether the device has another end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Two ends.
    Pair,
    /// One end.
    Single,
}

/// What `ip link add ... type netkit` says; what is absent takes the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceCreate {
    /// Name of the primary; may hold one `%d`. Default `nk%d`.
    pub name: Option<String>,
    /// Ethernet address of the primary; refused in L3 mode.
    pub address: Option<String>,
    /// MTU of the primary (of both, if `peer` is absent).
    pub mtu: Option<u32>,
    /// 1 to 1024.
    pub num_rx_queues: Option<u32>,
    /// 1.
    pub num_tx_queues: Option<u32>,
    /// ifindex of the primary, if it is to be forced.
    pub ifindex: Option<u32>,
    /// Domain of the primary; default `host`.
    pub domain: Option<String>,
    /// Default `l3`, as in the kernel.
    pub mode: Option<Mode>,
    /// Default `forward`.
    pub policy: Option<Policy>,
    /// Default `default`.
    pub scrub: Option<Scrub>,
    /// Default `forward`.
    pub peer_policy: Option<Policy>,
    /// Default `default`.
    pub peer_scrub: Option<Scrub>,
    /// In octets; both ends get it.
    pub headroom: Option<u16>,
    /// In octets; both ends get it.
    pub tailroom: Option<u16>,
    /// Default `pair`.
    pub pairing: Option<Pairing>,
    /// Link attributes of the peer.
    #[serde(deserialize_with = "object::optional")]
    pub peer: Option<PeerCreate>,
}

/// Link attributes of the peer (netkit's PEER_INFO).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeerCreate {
    /// Default `nk%d`.
    pub name: Option<String>,
    /// Ethernet address; refused in L3 mode.
    pub address: Option<String>,
    /// In octets.
    pub mtu: Option<u32>,
    /// Default: a domain of its own.
    pub domain: Option<String>,
    /// 1 to 1024.
    pub num_rx_queues: Option<u32>,
    /// 1.
    pub num_tx_queues: Option<u32>,
    /// If it is to be forced.
    pub ifindex: Option<u32>,
}

/// The names that a new pair or single got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCreated {
    /// Name of the primary.
    pub primary: String,
    /// Name of the peer; absent for a single.
    pub peer: Option<String>,
}

/// What `ip link set` changes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSet {
    /// Up or down.
    pub up: Option<bool>,
    /// In octets.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub address: Option<String>,
    /// Domain to move to.
    pub domain: Option<String>,
    /// New name.
    pub name: Option<String>,
}

/// What `ip link change DEV type netkit` says. Only the policies may change; naming anything else is refused, as the
/// kernel does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetkitChange {
    /// The primary's policy.
    pub policy: Option<Policy>,
    /// The peer's policy.
    pub peer_policy: Option<Policy>,
    /// Refused.
    pub mode: Option<Mode>,
    /// Refused.
    pub scrub: Option<Scrub>,
    /// Refused.
    pub peer_scrub: Option<Scrub>,
    /// Refused.
    pub headroom: Option<u16>,
    /// Refused.
    pub tailroom: Option<u16>,
    /// Refused.
    pub pairing: Option<Pairing>,
    /// Refused.
    #[serde(deserialize_with = "object::optional")]
    pub peer: Option<PeerCreate>,
}

/// Why frames that a device sent were not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceDrops {
    /// Name of the device.
    pub device: String,
    /// Only reasons that have occurred.
    pub drops: Vec<Drop>,
}

/// One drop reason of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    /// Stable name in snake case.
    pub reason: String,
    /// One sentence for people.
    pub description: String,
    /// Frames since the daemon started.
    pub frames: u64,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Data-path threads.
    pub workers: u32,
}
