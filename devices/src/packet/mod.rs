//! What a frame is: its bytes, its offload metadata, and the software that stands in for a missing offload.

mod adapt;
pub mod checksum;
mod features;
mod flow;
mod frame;
pub mod headers;
mod mac;
mod offload;
mod segment;
#[cfg(test)]
mod tests;
mod tunnel;
mod validate;
pub mod virtio_header;

pub(crate) use adapt::checksum_from;
pub use adapt::{AdaptError, Adaptation, adapt, complete_checksum};
pub use checksum::Checksum;
pub use features::OffloadFeatures;
pub use flow::flow_hash;
pub use frame::{Frame, HEAD_CAPACITY, HEAD_ROOM, LINEAR_LEN, Metadata, PacketType, Slice, VlanTag};
pub use headers::{HeaderError, Headers, Network, Transport};
pub use mac::MacAddress;
pub use offload::{Encapsulation, GsoType, Offload};
pub use tunnel::TunnelError;
pub use validate::{BadOffload, accept, header_for, recheck};
pub use virtio_header::VirtioNetHeader;
