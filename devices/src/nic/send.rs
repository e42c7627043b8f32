//! Giving a frame to a NIC, after doing what the NIC does not.

use super::{Capabilities, Transmit};
use crate::Refusal;
use crate::packet::{Frame, OffloadFeatures, adapt};

/// Hands a frame to a queue in the form that the NIC takes: as it is, with its checksum complete, or in segments that are
/// built in `scratch`.
///
/// # Errors
/// The first refusal of a part. Parts before it are sent.
pub fn send(
    queue: &mut dyn Transmit,
    capabilities: &Capabilities,
    frame: &mut Frame,
    scratch: &mut Frame,
) -> Result<(), Refusal> {
    let offloads = match frame.len() <= capabilities.frame_max {
        true => capabilities.offloads,
        // Too long to be cut by the NIC.
        false => OffloadFeatures {
            csum: capabilities.offloads.csum,
            ..OffloadFeatures::NONE
        },
    };
    adapt(frame, offloads, scratch, |part| {
        if part.len() > capabilities.frame_max || 1 + part.tail().len() > capabilities.pieces_max {
            return Err(Refusal::TooLong);
        }
        queue.transmit(part)
    })
}
