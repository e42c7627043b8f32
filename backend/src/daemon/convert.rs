//! Between the API's types and the model's.

use devices::packet::MacAddress;
use netkit::{ChangeRequest, CreateRequest, DeviceInfo, DropReason, PeerRequest, Statistics};
use netkit_api as api;

use super::DaemonError;
use super::attachment::no_attachment;
use super::store::SavedAttachment;

/// Reads an Ethernet address.
pub fn address(text: &str) -> Result<MacAddress, DaemonError> {
    let allowed = "six hexadecimal octets such as 52:54:00:12:34:56";
    text.parse().map_err(|_| DaemonError::BadValue {
        what: "an address",
        value: format!("\"{text}\""),
        allowed,
    })
}

/// Reads an Ethernet address that a device can have.
pub fn unicast_address(text: &str) -> Result<MacAddress, DaemonError> {
    let address = address(text)?;
    match address.is_unicast() {
        true => Ok(address),
        false => Err(DaemonError::BadValue {
            what: "an address of a device",
            value: format!("\"{text}\""),
            allowed: "a unicast address other than zero",
        }),
    }
}

pub fn create_request(request: &api::DeviceCreate) -> Result<CreateRequest, DaemonError> {
    Ok(CreateRequest {
        name: request.name.clone(),
        address: request.address.as_deref().map(address).transpose()?,
        mtu: request.mtu,
        num_rx_queues: request.num_rx_queues,
        num_tx_queues: request.num_tx_queues,
        ifindex: request.ifindex,
        domain: request.domain.clone(),
        mode: request.mode.map(mode),
        policy: request.policy.map(policy),
        peer_policy: request.peer_policy.map(policy),
        scrub: request.scrub.map(scrub),
        peer_scrub: request.peer_scrub.map(scrub),
        headroom: request.headroom,
        tailroom: request.tailroom,
        pairing: request.pairing.map(pairing),
        peer: request.peer.as_ref().map(peer_request).transpose()?,
    })
}

fn peer_request(request: &api::PeerCreate) -> Result<PeerRequest, DaemonError> {
    Ok(PeerRequest {
        name: request.name.clone(),
        address: request.address.as_deref().map(address).transpose()?,
        mtu: request.mtu,
        domain: request.domain.clone(),
        num_rx_queues: request.num_rx_queues,
        num_tx_queues: request.num_tx_queues,
        ifindex: request.ifindex,
    })
}

pub fn change_request(request: &api::NetkitChange) -> ChangeRequest {
    ChangeRequest {
        mode: request.mode.map(mode),
        policy: request.policy.map(policy),
        peer_policy: request.peer_policy.map(policy),
        scrub: request.scrub.map(scrub),
        peer_scrub: request.peer_scrub.map(scrub),
        headroom: request.headroom,
        tailroom: request.tailroom,
        pairing: request.pairing.map(pairing),
        has_peer_info: request.peer.is_some(),
    }
}

pub fn device(info: DeviceInfo, statistics: Statistics, attachment: api::Attachment) -> api::Device {
    api::Device {
        ifindex: info.ifindex.0,
        name: info.name,
        peer_ifindex: info.peer_ifindex.map(|ifindex| ifindex.0),
        peer_name: info.peer_name,
        flags: info.flags.iter().map(ToString::to_string).collect(),
        operstate: info.operational_state.to_string(),
        mtu: info.mtu,
        address: info.address.to_string(),
        domain: info.domain.as_str().to_owned(),
        num_rx_queues: info.num_rx_queues,
        num_tx_queues: info.num_tx_queues,
        mode: match info.mode {
            netkit::Mode::L2 => api::Mode::L2,
            netkit::Mode::L3 => api::Mode::L3,
        },
        pairing: match info.pairing {
            netkit::Pairing::Pair => api::Pairing::Pair,
            netkit::Pairing::Single => api::Pairing::Single,
        },
        primary: info.primary,
        policy: shown_policy(info.policy),
        peer_policy: info.peer_policy.map(shown_policy),
        scrub: info.scrub.map(shown_scrub),
        peer_scrub: info.peer_scrub.map(shown_scrub),
        headroom: info.headroom,
        tailroom: info.tailroom,
        attachment,
        statistics: self::statistics(statistics),
    }
}

pub fn statistics(statistics: Statistics) -> api::Statistics {
    api::Statistics {
        rx_packets: statistics.rx_packets,
        rx_bytes: statistics.rx_bytes,
        rx_dropped: statistics.rx_dropped,
        tx_packets: statistics.tx_packets,
        tx_bytes: statistics.tx_bytes,
        tx_dropped: statistics.tx_dropped,
    }
}

pub fn drop_reason((reason, frames): (DropReason, u64)) -> api::Drop {
    api::Drop {
        reason: reason.name().to_owned(),
        description: reason.describe().to_owned(),
        frames,
    }
}

/// An attachment that was saved but could not be opened again yet.
pub fn waiting_attachment(saved: &SavedAttachment) -> api::Attachment {
    match &saved.spec {
        api::AttachmentSpec::VhostUser(spec) => api::Attachment {
            kind: api::AttachmentKind::VhostUser,
            path: Some(spec.path.clone()),
            mode: Some(spec.mode),
            queues: spec.queues,
            guest_address: Some(saved.guest_address.clone()),
            ..no_attachment()
        },
        api::AttachmentSpec::Uplink(spec) => api::Attachment {
            kind: api::AttachmentKind::Uplink,
            uplink: Some(spec.clone()),
            ..no_attachment()
        },
        api::AttachmentSpec::Tap(spec) => api::Attachment {
            kind: api::AttachmentKind::Tap,
            queues: spec.queues.unwrap_or(1),
            ifname: spec.ifname.clone(),
            ..no_attachment()
        },
    }
}

pub fn origin(origin: netkit::Origin) -> api::Origin {
    match origin {
        netkit::Origin::Api => api::Origin::Api,
        netkit::Origin::Host => api::Origin::Host,
    }
}

fn mode(mode: api::Mode) -> netkit::Mode {
    match mode {
        api::Mode::L2 => netkit::Mode::L2,
        api::Mode::L3 => netkit::Mode::L3,
    }
}

fn policy(policy: api::Policy) -> netkit::Policy {
    match policy {
        api::Policy::Forward => netkit::Policy::Forward,
        api::Policy::Blackhole => netkit::Policy::Blackhole,
    }
}

fn shown_policy(policy: netkit::Policy) -> api::Policy {
    match policy {
        netkit::Policy::Forward => api::Policy::Forward,
        netkit::Policy::Blackhole => api::Policy::Blackhole,
    }
}

fn scrub(scrub: api::Scrub) -> netkit::Scrub {
    match scrub {
        api::Scrub::None => netkit::Scrub::None,
        api::Scrub::Default => netkit::Scrub::Default,
    }
}

fn shown_scrub(scrub: netkit::Scrub) -> api::Scrub {
    match scrub {
        netkit::Scrub::None => api::Scrub::None,
        netkit::Scrub::Default => api::Scrub::Default,
    }
}

fn pairing(pairing: api::Pairing) -> netkit::Pairing {
    match pairing {
        api::Pairing::Pair => netkit::Pairing::Pair,
        api::Pairing::Single => netkit::Pairing::Single,
    }
}
