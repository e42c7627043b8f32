//! What is done in software for a receiver that lacks an offload which the sender used.

use super::checksum::Checksum;
use super::segment::Segmenter;
use super::{Frame, GsoType, HeaderError, Offload, OffloadFeatures, TunnelError};

/// What a frame needs before a receiver can take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adaptation {
    /// Nothing.
    PassThrough,
    /// Its checksum.
    ChecksumOnly,
    /// To be cut, and checksums as the receiver lacks them.
    Segment,
}

impl Adaptation {
    /// What a frame with this offload needs for this receiver.
    pub fn of(offload: &Offload, receiver: OffloadFeatures) -> Adaptation {
        if receiver.understands(offload) {
            Adaptation::PassThrough
        } else if offload.gso_type == GsoType::None {
            Adaptation::ChecksumOnly
        } else {
            Adaptation::Segment
        }
    }
}

/// Why a frame could not be adapted; drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdaptError {
    /// The headers are not, or no longer, readable.
    #[error("the headers of a frame to be segmented cannot be read: {0}")]
    Headers(#[from] HeaderError),
    /// The headers are not, or no longer, those that the offload was validated against.
    #[error("the headers of the frame do not fit its offload {0:?}")]
    Mismatch(Offload),
    /// The outer headers are not, or no longer, those of a tunnel whose segments can be made.
    #[error("an encapsulated frame cannot be cut: {0}")]
    Tunnel(#[from] TunnelError),
    /// The checksum lies outside of the frame, or further in than a head can reach.
    #[error("the checksum at octet {0} is out of reach")]
    ChecksumOutside(usize),
    /// The frame exceeds what its IP header can express.
    #[error("an IP packet of {0} octets is too long")]
    TooLong(usize),
}

/// Delivers `frame` in the form that a receiver with these offloads takes: as it is, with its checksum
/// complete, or as several frames built in `scratch`, which is empty afterwards.
///
/// # Errors
/// The first error of `deliver`, or an [`AdaptError`] before anything was delivered.
pub fn adapt<E: From<AdaptError>>(
    frame: &mut Frame,
    receiver: OffloadFeatures,
    scratch: &mut Frame,
    mut deliver: impl FnMut(&Frame) -> Result<(), E>,
) -> Result<(), E> {
    match Adaptation::of(&frame.offload, receiver) {
        Adaptation::PassThrough => {}
        Adaptation::ChecksumOnly => complete_checksum(frame)?,
        Adaptation::Segment => {
            let mut segments = Segmenter::new(frame, scratch, receiver.csum)?;
            while let Some(segment) = segments.next() {
                deliver(segment)?;
            }
            return Ok(());
        }
    }
    // virtio 1.3, 5.1.6.4.1: no flag is set without GUEST_CSUM.
    frame.offload.data_valid &= receiver.csum;
    deliver(frame)
}

/// Computes the checksum that the sender left to us, if it did, and stores it in the head.
///
/// # Errors
/// If the head was changed such that the checksum no longer lies in it; the frame is unchanged.
pub fn complete_checksum(frame: &mut Frame) -> Result<(), AdaptError> {
    if frame.offload.needs_csum {
        let start = usize::from(frame.offload.csum_start);
        let field = start + usize::from(frame.offload.csum_offset);
        if !frame.pull(field + 2) {
            return Err(AdaptError::ChecksumOutside(field));
        }
        store_checksum(frame, start, field);
        frame.offload = Offload {
            needs_csum: false,
            csum_start: 0,
            csum_offset: 0,
            ..frame.offload
        };
    }
    Ok(())
}

/// Sums the frame from `start` on and stores the checksum at `field`, which holds the pseudo-header sum.
pub(super) fn store_checksum(frame: &mut Frame, start: usize, field: usize) {
    let checksum = checksum_from(frame, start);
    put_u16(frame.head_mut(), field, checksum);
}

/// The checksum of the frame from `start` in its head on, where its field holds the pseudo-header sum.
///
/// # Panics
/// If the head ends before `start`.
pub(crate) fn checksum_from(frame: &Frame, start: usize) -> u16 {
    let mut sum = Checksum::new();
    sum.add(&frame.head()[start..]);
    for slice in frame.tail() {
        // SAFETY: a frame's slices are mapped and readable while it holds them (`Frame::push_slice`).
        unsafe { sum.add_raw(slice.ptr, slice.len) };
    }
    // RFC 768: zero would mean "no checksum" to UDP, and its other form is the same to everyone else.
    match sum.finish() {
        0 => 0xffff,
        checksum => checksum,
    }
}

pub(super) fn put_u16(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
