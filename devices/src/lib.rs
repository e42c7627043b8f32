//! Everything that moves frames: the packet and offload model, guest memory, virtqueues, virtio-net and host netdevs.
//!
//! This crate knows rings, offloads and NICs, and nothing of netkit.

pub mod guest;
pub mod memory;
pub mod nic;
pub mod packet;
mod prefetch;
mod refusal;
pub mod ring;
mod short_copy;
pub mod tap;

pub use refusal::Refusal;
