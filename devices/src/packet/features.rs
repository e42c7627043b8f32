//! Which offloads one side of a device understands: what a sender may ask for, what a receiver may be given.

use super::{GsoType, Offload};

/// A set of offloads, seen from the device: the same type for both directions.
///
/// For a sender it is what the driver may leave to us, for a receiver what we may leave to the driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OffloadFeatures {
    /// Frames whose checksum is still to be computed.
    pub csum: bool,
    /// TCP over IPv4 frames larger than a segment.
    pub tso4: bool,
    /// TCP over IPv6 frames larger than a segment.
    pub tso6: bool,
    /// Such TCP frames with the CWR flag set.
    pub ecn: bool,
    /// UDP frames that stand for several datagrams, over IPv4 and IPv6.
    pub uso: bool,
}

impl OffloadFeatures {
    /// No offload at all: whole wire frames with complete checksums.
    pub const NONE: OffloadFeatures = OffloadFeatures {
        csum: false,
        tso4: false,
        tso6: false,
        ecn: false,
        uso: false,
    };
    /// Every offload of this model.
    pub const ALL: OffloadFeatures = OffloadFeatures {
        csum: true,
        tso4: true,
        tso6: true,
        ecn: true,
        uso: true,
    };

    /// Whether frames of this type may pass as they are.
    #[inline]
    pub fn allows(self, gso_type: GsoType) -> bool {
        match gso_type {
            GsoType::None => true,
            GsoType::TcpV4 => self.tso4,
            GsoType::TcpV6 => self.tso6,
            GsoType::Udp => self.uso,
        }
    }

    /// Whether a frame with this offload may pass as it is.
    ///
    /// A frame to be segmented leaves its checksum undone too, so segmentation without `csum` never counts
    /// (virtio 1.3, 5.1.3.1). Nor does segmentation inside of a tunnel, which these features cannot express.
    #[inline]
    pub fn understands(self, offload: &Offload) -> bool {
        (self.csum || !offload.needs_csum)
            && (self.ecn || !offload.ecn)
            && offload.encapsulation.is_none()
            && self.allows(offload.gso_type)
    }
}
