//! Virtio features by name, as masks.

use virtio_bindings::{virtio_config as config, virtio_net as net, virtio_ring as ring};

/// The checksum of a sent frame may be left to the device.
pub const CSUM: u64 = 1 << net::VIRTIO_NET_F_CSUM;
/// The checksum of a received frame may be left to the driver.
pub const GUEST_CSUM: u64 = 1 << net::VIRTIO_NET_F_GUEST_CSUM;
/// The MTU is in the configuration space.
pub const MTU: u64 = 1 << net::VIRTIO_NET_F_MTU;
/// The Ethernet address is in the configuration space.
pub const MAC: u64 = 1 << net::VIRTIO_NET_F_MAC;
/// The driver receives large TCP segments over IPv4.
pub const GUEST_TSO4: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO4;
/// The driver receives large TCP segments over IPv6.
pub const GUEST_TSO6: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO6;
/// The driver receives large TCP segments with ECN.
pub const GUEST_ECN: u64 = 1 << net::VIRTIO_NET_F_GUEST_ECN;
/// The device takes large TCP segments over IPv4.
pub const HOST_TSO4: u64 = 1 << net::VIRTIO_NET_F_HOST_TSO4;
/// The device takes large TCP segments over IPv6.
pub const HOST_TSO6: u64 = 1 << net::VIRTIO_NET_F_HOST_TSO6;
/// The device takes large TCP segments with ECN.
pub const HOST_ECN: u64 = 1 << net::VIRTIO_NET_F_HOST_ECN;
/// A received frame may be spread over several buffers.
pub const MRG_RXBUF: u64 = 1 << net::VIRTIO_NET_F_MRG_RXBUF;
/// More than one queue pair.
pub const MQ: u64 = 1 << net::VIRTIO_NET_F_MQ;
/// The driver receives large UDP frames.
pub const GUEST_USO: u64 = 1 << net::VIRTIO_NET_F_GUEST_USO4 | 1 << net::VIRTIO_NET_F_GUEST_USO6;
/// The device takes large UDP frames.
pub const HOST_USO: u64 = 1 << net::VIRTIO_NET_F_HOST_USO;
/// Descriptors may lie in tables of their own.
pub const INDIRECT: u64 = 1 << ring::VIRTIO_RING_F_INDIRECT_DESC;
/// Notifications are asked for by index.
pub const EVENT_IDX: u64 = 1 << ring::VIRTIO_RING_F_EVENT_IDX;
/// Not a legacy driver.
pub const VERSION_1: u64 = 1 << config::VIRTIO_F_VERSION_1;
/// Buffers are used in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << config::VIRTIO_F_IN_ORDER;
/// Rings are packed.
pub const RING_PACKED: u64 = 1 << config::VIRTIO_F_RING_PACKED;
/// vhost-user: writes to guest memory are logged.
pub const LOG_ALL: u64 = 1 << 26;
/// vhost-user: there are protocol features.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;

/// All that a driver may leave to the device.
pub const HOST_OFFLOADS: u64 = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_USO;
/// All that the device may leave to a driver.
pub const GUEST_OFFLOADS: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_USO;
/// How rings may be used.
pub const RING: u64 = INDIRECT | EVENT_IDX | IN_ORDER;
/// What a current Linux guest takes.
pub const LINUX: u64 = VERSION_1 | MRG_RXBUF | HOST_OFFLOADS | GUEST_OFFLOADS | INDIRECT | EVENT_IDX;
