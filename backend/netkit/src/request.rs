//! What a user asks for when creating or changing a device.

use devices::packet::MacAddress;
use serde::{Deserialize, Serialize};

use crate::mac_text;
use crate::{Mode, Pairing, Policy, Scrub};

/// The attributes of `ip link add … type netkit`; what is missing takes netkit's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CreateRequest {
    /// The primary's name, at most 15 octets; one `%d` becomes a free number. Default `nk%d`.
    pub name: Option<String>,
    /// The primary's address, L2 only. Default random.
    #[serde(with = "mac_text::option")]
    pub address: Option<MacAddress>,
    /// The primary's MTU in octets, 68 to 65535. Default 1500.
    pub mtu: Option<u32>,
    /// The primary's receive queues, 1 to 1024. Default 1.
    pub num_rx_queues: Option<u32>,
    /// The primary's transmit queues: 1. Default 1.
    pub num_tx_queues: Option<u32>,
    /// The primary's ifindex. Default the next free one.
    pub ifindex: Option<u32>,
    /// The primary's domain. Default `host`.
    pub domain: Option<String>,
    /// `l2` or `l3`, for both ends. Default `l3`.
    pub mode: Option<Mode>,
    /// What the primary does with frames while it has no program. Default `forward`.
    pub policy: Option<Policy>,
    /// What the peer does with frames while it has no program. Default `forward`.
    pub peer_policy: Option<Policy>,
    /// What the primary scrubs. Default `default`.
    pub scrub: Option<Scrub>,
    /// What the peer scrubs. Default `default`.
    pub peer_scrub: Option<Scrub>,
    /// Octets that programs may prepend, for both ends. Default 0.
    pub headroom: Option<u16>,
    /// Octets that programs may append, for both ends. Default 0.
    pub tailroom: Option<u16>,
    /// `pair` or `single`. Default `pair`.
    pub pairing: Option<Pairing>,
    /// The peer's own attributes (`IFLA_NETKIT_PEER_INFO`). Without them the peer takes the primary's
    /// MTU and queue counts; name, address, ifindex and domain are its own in any case.
    pub peer: Option<PeerRequest>,
}

/// The peer's attributes; what is missing takes the default, not the primary's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerRequest {
    /// Its name, at most 15 octets; one `%d` becomes a free number. Default `nk%d`.
    pub name: Option<String>,
    /// Its address, L2 only. Default random.
    #[serde(with = "mac_text::option")]
    pub address: Option<MacAddress>,
    /// Its MTU in octets, 68 to 65535. Default 1500.
    pub mtu: Option<u32>,
    /// Its domain. Default a domain of its own.
    pub domain: Option<String>,
    /// Its receive queues, 1 to 1024. Default 1.
    pub num_rx_queues: Option<u32>,
    /// Its transmit queues: 1. Default 1.
    pub num_tx_queues: Option<u32>,
    /// Its ifindex; heeded only if the primary's is given too, as in the kernel.
    pub ifindex: Option<u32>,
}

/// The netkit attributes of `ip link set … type netkit`. Only the policies can change; the others are
/// here so that asking for them gets netkit's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRequest {
    /// Fixed at creation.
    pub mode: Option<Mode>,
    /// The primary's new policy.
    pub policy: Option<Policy>,
    /// The peer's new policy.
    pub peer_policy: Option<Policy>,
    /// Fixed at creation.
    pub scrub: Option<Scrub>,
    /// Fixed at creation.
    pub peer_scrub: Option<Scrub>,
    /// Fixed at creation.
    pub headroom: Option<u16>,
    /// Fixed at creation.
    pub tailroom: Option<u16>,
    /// Fixed at creation.
    pub pairing: Option<Pairing>,
    /// Whether `IFLA_NETKIT_PEER_INFO` is there; fixed at creation.
    pub has_peer_info: bool,
}
