//! Uplinks: NICs that the daemon sends through, who shares them, and queues that are leased.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Drop, Statistics};

/// What makes an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UplinkCreate {
    /// Its name, at most 15 octets, unique among devices and uplinks.
    pub name: String,
    /// The NIC.
    pub nic: NicSpec,
    /// Its domain. Default `host`.
    #[serde(default)]
    pub domain: Option<String>,
    /// Its ifindex. Default the next free one.
    #[serde(default)]
    pub ifindex: Option<u32>,
}

/// A NIC, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NicSpec {
    /// A host netdev, by packet sockets; the kernel keeps it.
    Kernel(KernelNic),
    /// A macvtap on a host netdev, made by the daemon or there already.
    Macvtap(MacvtapNic),
    /// A tap, made by the daemon or there already.
    Tap(TapNic),
    /// Queues of a host netdev, by AF_XDP.
    AfXdp(AfXdpNic),
    /// A PCI device, which the daemon drives.
    Vfio(VfioNic),
}

/// A host netdev, by packet sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelNic {
    /// Name of the host netdev.
    pub ifname: String,
    /// Sockets over which frames are spread by flow, 1 to 16. Default 1.
    #[serde(default)]
    pub queues: Option<u16>,
}

/// A macvtap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MacvtapNic {
    /// Name of the macvtap; it is made if it is not there, and then goes with the uplink.
    pub ifname: String,
    /// The netdev below one that is to be made.
    #[serde(default)]
    pub lower: Option<String>,
    /// Its mode, if it is to be made.
    #[serde(default)]
    pub mode: MacvtapMode,
    /// Queues, 1 to 16. Default 1.
    #[serde(default)]
    pub queues: Option<u16>,
}

/// How a macvtap shares its lower netdev.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MacvtapMode {
    /// With others, among which frames are passed on directly.
    #[default]
    Bridge,
    /// With others, all frames going to the switch outside.
    Vepa,
    /// With others, which it does not reach.
    Private,
    /// With nobody.
    Passthru,
}

/// A tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TapNic {
    /// Name of the tap.
    pub ifname: String,
    /// Queues, 1 to 16. Default 1.
    #[serde(default)]
    pub queues: Option<u16>,
}

/// Queues of a host netdev, by AF_XDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AfXdpNic {
    /// Name of the host netdev.
    pub ifname: String,
    /// The first queue. Default 0.
    #[serde(default)]
    pub queue: u32,
    /// How many queues. Default 1.
    #[serde(default)]
    pub queues: Option<u16>,
    /// How frames get to and from the hardware.
    #[serde(default)]
    pub mode: AfXdpMode,
    /// Polls the NIC from the worker instead of waiting for its interrupts.
    #[serde(default)]
    pub busy_poll: bool,
}

/// How frames get to and from the hardware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AfXdpMode {
    /// Without a copy if the driver can, else with one.
    #[default]
    Auto,
    /// Without a copy, or not at all.
    ZeroCopy,
    /// With a copy.
    Copy,
}

/// A PCI device, which the daemon drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfioNic {
    /// Its address, such as `0000:03:00.0`.
    pub address: String,
    /// Queue pairs. Default as many as there are workers, as far as the NIC has them.
    #[serde(default)]
    pub queues: Option<u16>,
    /// Binds the device to vfio-pci, and gives it back to its driver when the uplink goes.
    #[serde(default)]
    pub bind: bool,
    /// Uses a device without an IOMMU in front of it: it can write to all memory of the host.
    #[serde(default)]
    pub unsafe_noiommu: bool,
}

/// A change of an uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UplinkSet {
    /// Up or down.
    pub up: Option<bool>,
    /// How many receive queues the NIC is to have (`ethtool -L`).
    pub rx_queues: Option<u32>,
}

/// An uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uplink {
    /// Its number, among those of the devices.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The NIC.
    pub nic: NicSpec,
    /// Whether frames flow.
    pub state: UplinkState,
    /// Why they do not.
    pub reason: Option<String>,
    /// What drives the NIC, such as `igb` or `af_xdp (copy)`; absent while it is missing.
    pub driver: Option<String>,
    /// What the NIC does by itself: `csum`, `tso4`, `tso6`, `uso`, `rx-gso`, `sg`.
    pub capabilities: Vec<String>,
    /// The NIC's Ethernet address.
    pub address: String,
    /// Its MTU in octets.
    pub mtu: u32,
    /// In Mbit/s, if known.
    pub speed: Option<u32>,
    /// Its domain.
    pub domain: String,
    /// Its receive queues.
    pub queues: Vec<UplinkQueue>,
    /// The devices that it is behind.
    pub devices: Vec<UplinkShare>,
    /// What went through it.
    pub statistics: Statistics,
    /// Why frames were not delivered.
    pub drops: Vec<Drop>,
}

/// Whether frames flow through an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UplinkState {
    /// They do.
    Up,
    /// It was set down.
    Down,
    /// The NIC has no carrier, or is down on the host.
    NoCarrier,
    /// The NIC is gone, or was taken away; it is opened again when it is back.
    Missing,
}

/// A receive queue of an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkQueue {
    /// Its number.
    pub queue: u32,
    /// Whether this daemon takes frames from it.
    pub used: bool,
    /// To whom it is leased.
    pub lease: Option<QueueLease>,
}

/// The other side of a leased queue, as the NIC's side shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueLease {
    /// The device.
    pub device: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// The queue's number at the device.
    pub queue: u32,
    /// The device's domain, if it is not the uplink's.
    pub domain: Option<String>,
}

/// A device that an uplink is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkShare {
    /// The device.
    pub device: String,
    /// By what its frames are known.
    pub share: Share,
    /// What it has of that: Ethernet addresses, or IP prefixes.
    pub addresses: Vec<String>,
}

/// By what the frames for a device are told from those for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// By nothing: it gets all of them.
    #[default]
    None,
    /// By Ethernet address.
    Mac,
    /// By IP address; for devices in L3 mode.
    Ip,
}

/// An uplink, behind a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UplinkSpec {
    /// The uplink's name.
    pub uplink: String,
    /// By what the frames for this device are known.
    #[serde(default)]
    pub share: Share,
    /// Ethernet addresses (default that of the device's other end) or IP prefixes.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What leases a queue (netdev generic netlink: `queue-create`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseCreate {
    /// The uplink's name.
    pub uplink: String,
    /// Which of its receive queues.
    pub queue: u32,
    /// The uplink's domain, if it is to be another than the device's.
    #[serde(default)]
    pub domain: Option<String>,
    /// The kind of queue: only `rx` can be leased.
    #[serde(default)]
    pub kind: QueueKind,
}

/// The kind of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Receive.
    #[default]
    Rx,
    /// Transmit.
    Tx,
}

/// What came of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseCreated {
    /// The queue's number at the device: 1 for the first.
    pub queue: u32,
    /// Whether the NIC has the device's frames arrive there; else they are told apart in software.
    pub steered: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A PCI NIC of the host, and what speaks for or against taking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PciNic {
    /// Its address.
    pub address: String,
    /// Vendor and device, as `8086:10c9`.
    pub id: String,
    /// Its driver now.
    pub driver: Option<String>,
    /// Its netdevs.
    pub netdevs: Vec<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Other devices of the group.
    pub siblings: Vec<String>,
    /// What netkitd would drive it with.
    pub supported: Option<String>,
    /// Who has it: `host`, an uplink's name, `passed` or `vfio`.
    pub user: String,
    /// What forbids to take it, each with what to do.
    pub refusals: Vec<String>,
    /// What is good to know before.
    pub warnings: Vec<String>,
}

/// How a NIC is to be passed to a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NicPass {
    /// Only says what would be done.
    pub dry_run: bool,
}
