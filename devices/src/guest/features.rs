//! The virtio-net features that are offered, and what the taken ones mean for the data path.

use virtio_bindings::virtio_config::{
    VIRTIO_F_ANY_LAYOUT, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_net as net;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::packet::OffloadFeatures;

const fn bits(numbers: &[u32]) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < numbers.len() {
        set |= 1 << numbers[index];
        index += 1;
    }
    set
}

/// Every virtio feature that a guest's device has. The control queue lives in the VMM, so its bits are offered for the
/// front ends to keep (QEMU ignores them, cloud-hypervisor needs CTRL_VQ).
///
/// VIRTIO_F_RING_RESET is not among them, although a single ring may be stopped and started. QEMU, up to 10.0 at least,
/// hands the bit through to the guest and then tells the reset of a ring to a back end in the kernel only: we would go on
/// writing to a ring and to buffers that the driver has freed.
pub const OFFERED: u64 = bits(&[
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_RING_PACKED,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    net::VIRTIO_NET_F_CSUM,
    net::VIRTIO_NET_F_GUEST_CSUM,
    net::VIRTIO_NET_F_MTU,
    net::VIRTIO_NET_F_MAC,
    net::VIRTIO_NET_F_GUEST_TSO4,
    net::VIRTIO_NET_F_GUEST_TSO6,
    net::VIRTIO_NET_F_GUEST_ECN,
    net::VIRTIO_NET_F_HOST_TSO4,
    net::VIRTIO_NET_F_HOST_TSO6,
    net::VIRTIO_NET_F_HOST_ECN,
    net::VIRTIO_NET_F_MRG_RXBUF,
    net::VIRTIO_NET_F_STATUS,
    net::VIRTIO_NET_F_CTRL_VQ,
    net::VIRTIO_NET_F_GUEST_ANNOUNCE,
    net::VIRTIO_NET_F_MQ,
    net::VIRTIO_NET_F_GUEST_USO4,
    net::VIRTIO_NET_F_GUEST_USO6,
    net::VIRTIO_NET_F_HOST_USO,
]);

/// The features that a driver took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetFeatures(pub u64);

impl NetFeatures {
    fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    /// VIRTIO_F_EVENT_IDX.
    pub fn event_idx(self) -> bool {
        self.has(VIRTIO_RING_F_EVENT_IDX)
    }

    /// VIRTIO_F_RING_PACKED.
    pub fn packed(self) -> bool {
        self.has(VIRTIO_F_RING_PACKED)
    }

    /// VIRTIO_F_IN_ORDER.
    pub fn in_order(self) -> bool {
        self.has(VIRTIO_F_IN_ORDER)
    }

    /// A frame may be spread over several receive buffers.
    pub fn mergeable(self) -> bool {
        self.has(net::VIRTIO_NET_F_MRG_RXBUF)
    }

    /// Whether the driver limits what it receives by the MTU that it was told.
    pub fn mtu(self) -> bool {
        self.has(net::VIRTIO_NET_F_MTU)
    }

    /// Octets of the virtio-net header (virtio 1.3, 5.1.6.1: a legacy header has no `num_buffers` without MRG_RXBUF).
    pub fn header_len(self) -> usize {
        if self.has(VIRTIO_F_VERSION_1) || self.mergeable() {
            12
        } else {
            10
        }
    }

    /// What the driver may leave undone on the frames that it sends.
    pub fn sends(self) -> OffloadFeatures {
        let csum = self.has(net::VIRTIO_NET_F_CSUM);
        OffloadFeatures {
            csum,
            tso4: csum && self.has(net::VIRTIO_NET_F_HOST_TSO4),
            tso6: csum && self.has(net::VIRTIO_NET_F_HOST_TSO6),
            ecn: csum && self.has(net::VIRTIO_NET_F_HOST_ECN),
            uso: csum && self.has(net::VIRTIO_NET_F_HOST_USO),
        }
    }

    /// What may be left undone on the frames that the driver receives. USO counts only with both of its bits, as
    /// drivers take both or neither.
    pub fn receives(self) -> OffloadFeatures {
        let csum = self.has(net::VIRTIO_NET_F_GUEST_CSUM);
        OffloadFeatures {
            csum,
            tso4: csum && self.has(net::VIRTIO_NET_F_GUEST_TSO4),
            tso6: csum && self.has(net::VIRTIO_NET_F_GUEST_TSO6),
            ecn: csum && self.has(net::VIRTIO_NET_F_GUEST_ECN),
            uso: csum && self.has(net::VIRTIO_NET_F_GUEST_USO4) && self.has(net::VIRTIO_NET_F_GUEST_USO6),
        }
    }
}

/// What the data path asks of the features for each frame, worked out once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Negotiated {
    /// What it was worked out from.
    pub features: NetFeatures,
    /// See [`NetFeatures::header_len`].
    pub header_len: usize,
    /// See [`NetFeatures::sends`].
    pub sends: OffloadFeatures,
    /// See [`NetFeatures::receives`].
    pub receives: OffloadFeatures,
}

impl Default for Negotiated {
    fn default() -> Negotiated {
        Negotiated::of(NetFeatures::default())
    }
}

impl Negotiated {
    /// Works it out.
    #[cold]
    pub fn of(features: NetFeatures) -> Negotiated {
        Negotiated {
            features,
            header_len: features.header_len(),
            sends: features.sends(),
            receives: features.receives(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// virtio 1.3, 5.1.3.1: a feature is offered only together with those that it needs.
    #[test]
    fn g3_prerequisites_are_offered() {
        let needs: &[(u32, u32)] = &[
            (net::VIRTIO_NET_F_GUEST_TSO4, net::VIRTIO_NET_F_GUEST_CSUM),
            (net::VIRTIO_NET_F_GUEST_TSO6, net::VIRTIO_NET_F_GUEST_CSUM),
            (net::VIRTIO_NET_F_GUEST_USO4, net::VIRTIO_NET_F_GUEST_CSUM),
            (net::VIRTIO_NET_F_GUEST_USO6, net::VIRTIO_NET_F_GUEST_CSUM),
            (net::VIRTIO_NET_F_GUEST_ECN, net::VIRTIO_NET_F_GUEST_TSO4),
            (net::VIRTIO_NET_F_HOST_TSO4, net::VIRTIO_NET_F_CSUM),
            (net::VIRTIO_NET_F_HOST_TSO6, net::VIRTIO_NET_F_CSUM),
            (net::VIRTIO_NET_F_HOST_USO, net::VIRTIO_NET_F_CSUM),
            (net::VIRTIO_NET_F_HOST_ECN, net::VIRTIO_NET_F_HOST_TSO4),
            (net::VIRTIO_NET_F_GUEST_ANNOUNCE, net::VIRTIO_NET_F_CTRL_VQ),
            (net::VIRTIO_NET_F_MQ, net::VIRTIO_NET_F_CTRL_VQ),
        ];
        for (feature, prerequisite) in needs {
            assert!(
                OFFERED & (1 << feature) != 0 && OFFERED & (1 << prerequisite) != 0,
                "{feature}"
            );
        }
        // virtio 1.3, 6.1: a device that is not legacy offers VERSION_1 (G14), which packed rings and the reset of single
        // queues are part of.
        assert!(NetFeatures(OFFERED).has(VIRTIO_F_VERSION_1));
    }

    #[test]
    fn the_header_is_short_only_for_a_legacy_driver_without_mergeable_buffers() {
        assert_eq!(NetFeatures(0).header_len(), 10);
        assert_eq!(NetFeatures(1 << net::VIRTIO_NET_F_MRG_RXBUF).header_len(), 12);
        assert_eq!(NetFeatures(1 << VIRTIO_F_VERSION_1).header_len(), 12);
    }
}
