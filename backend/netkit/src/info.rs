//! What `ip -d link show` prints of a device (netkit.c: `netkit_fill_info`).

use std::fmt;

use devices::packet::MacAddress;
use serde::{Deserialize, Serialize};

use crate::mac_text;
use crate::{Device, DeviceKind, Domain, Error, Ifindex, Mode, Model, Pairing, Policy, Scrub};

/// A device as it is shown. Policy and scrub are this end's own, so they swap places when the pair is
/// looked at from the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its number.
    pub ifindex: Ifindex,
    /// What it is.
    pub kind: DeviceKind,
    /// Its name.
    pub name: String,
    /// `IFLA_LINK`: the other end's number; None for a single.
    pub peer_ifindex: Option<Ifindex>,
    /// The other end's name.
    pub peer_name: Option<String>,
    /// Its flags, in iproute2's order.
    pub flags: Vec<Flag>,
    /// Its operational state.
    pub operational_state: OperationalState,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Its Ethernet address; zero in L3 mode.
    #[serde(with = "mac_text")]
    pub address: MacAddress,
    /// `IFLA_NETKIT_MODE`.
    pub mode: Mode,
    /// `IFLA_NETKIT_PAIRING`.
    pub pairing: Pairing,
    /// `IFLA_NETKIT_PRIMARY`.
    pub primary: bool,
    /// `IFLA_NETKIT_POLICY`: this end's.
    pub policy: Policy,
    /// `IFLA_NETKIT_PEER_POLICY`: the other end's, if there is one.
    pub peer_policy: Option<Policy>,
    /// `IFLA_NETKIT_SCRUB`: this end's; left out for a single.
    pub scrub: Option<Scrub>,
    /// `IFLA_NETKIT_PEER_SCRUB`: the other end's, if there is one.
    pub peer_scrub: Option<Scrub>,
    /// `IFLA_NETKIT_HEADROOM` in octets.
    pub headroom: u16,
    /// `IFLA_NETKIT_TAILROOM` in octets.
    pub tailroom: u16,
    /// Its domain.
    pub domain: Domain,
    /// `IFLA_NUM_RX_QUEUES`.
    pub num_rx_queues: u32,
    /// `IFLA_NUM_TX_QUEUES`.
    pub num_tx_queues: u32,
    /// Programs that run on what this end transmits; of an uplink, also those on what it receives.
    pub program_count: usize,
}

/// A flag of a device, as iproute2 prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flag {
    /// It is up, but the other end or the NIC is not.
    #[serde(rename = "NO-CARRIER")]
    NoCarrier,
    /// It can broadcast.
    #[serde(rename = "BROADCAST")]
    Broadcast,
    /// It can multicast.
    #[serde(rename = "MULTICAST")]
    Multicast,
    /// It has no neighbours to resolve (L3 mode).
    #[serde(rename = "NOARP")]
    NoArp,
    /// It is administratively up.
    #[serde(rename = "UP")]
    Up,
    /// It has a carrier.
    #[serde(rename = "LOWER_UP")]
    LowerUp,
    /// The other end is administratively down.
    #[serde(rename = "M-DOWN")]
    PeerDown,
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flag::NoCarrier => "NO-CARRIER",
            Flag::Broadcast => "BROADCAST",
            Flag::Multicast => "MULTICAST",
            Flag::NoArp => "NOARP",
            Flag::Up => "UP",
            Flag::LowerUp => "LOWER_UP",
            Flag::PeerDown => "M-DOWN",
        })
    }
}

/// The operational state (RFC 2863, `IFLA_OPERSTATE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationalState {
    /// Administratively down, or an uplink without a carrier.
    #[serde(rename = "DOWN")]
    Down,
    /// Up, but the other end is not.
    #[serde(rename = "LOWERLAYERDOWN")]
    LowerLayerDown,
    /// Up with a carrier.
    #[serde(rename = "UP")]
    Up,
}

impl fmt::Display for OperationalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperationalState::Down => "DOWN",
            OperationalState::LowerLayerDown => "LOWERLAYERDOWN",
            OperationalState::Up => "UP",
        })
    }
}

impl Model {
    /// Everything that is shown of a device.
    pub fn info(&self, ifindex: Ifindex) -> Result<DeviceInfo, Error> {
        let device = self.device(ifindex)?;
        let peer = device.peer.and_then(|peer| self.devices.get(&peer));
        let carrier = self.carrier(device);
        Ok(DeviceInfo {
            ifindex,
            kind: device.kind(),
            name: device.name.clone(),
            peer_ifindex: device.peer,
            peer_name: peer.map(|peer| peer.name.clone()),
            flags: flags(device, peer, carrier),
            operational_state: operational_state(device, carrier),
            mtu: device.mtu,
            address: device.address,
            mode: device.mode,
            pairing: device.pairing,
            primary: device.primary,
            policy: device.policy,
            peer_policy: peer.map(|peer| peer.policy),
            scrub: (device.pairing == Pairing::Pair).then_some(device.scrub),
            peer_scrub: peer.map(|peer| peer.scrub),
            headroom: device.headroom,
            tailroom: device.tailroom,
            domain: device.domain.clone(),
            num_rx_queues: device.num_rx_queues,
            num_tx_queues: device.num_tx_queues,
            program_count: device.list.entries().len()
                + device
                    .uplink
                    .as_ref()
                    .map_or(0, |uplink| uplink.ingress.entries().len()),
        })
    }

    /// Whether the device has a carrier: a single while it is up, an end of a pair while both are
    /// (netkit.c: `netkit_open`, `netkit_close`), an uplink while its NIC has one.
    pub(crate) fn carrier(&self, device: &Device) -> bool {
        let other = device.peer.and_then(|peer| self.devices.get(&peer));
        let running = device.uplink.as_ref().is_none_or(|uplink| uplink.is_running());
        device.up && running && other.is_none_or(|other| other.up)
    }
}

/// ip/ipaddress.c: `print_link_flags`.
fn flags(device: &Device, peer: Option<&Device>, carrier: bool) -> Vec<Flag> {
    [
        (Flag::NoCarrier, device.up && !carrier),
        (Flag::Broadcast, true),
        (Flag::Multicast, true),
        (Flag::NoArp, device.mode == Mode::L3),
        (Flag::Up, device.up),
        (Flag::LowerUp, carrier),
        (Flag::PeerDown, peer.is_some_and(|peer| !peer.up)),
    ]
    .into_iter()
    .filter_map(|(flag, set)| set.then_some(flag))
    .collect()
}

/// link_watch.c: `default_operstate`.
fn operational_state(device: &Device, carrier: bool) -> OperationalState {
    match (device.up, carrier) {
        (false, _) => OperationalState::Down,
        (true, false) if device.uplink.is_some() => OperationalState::Down,
        (true, false) => OperationalState::LowerLayerDown,
        (true, true) => OperationalState::Up,
    }
}
