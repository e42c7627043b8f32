//! virtio-net behind PCI (virtio 1.3, 4.1 and 5.1), from the driver's side: NICs of clouds' machines and of DPUs.

mod command;
mod control;
mod driver;
mod receive;
mod ring;
#[cfg(test)]
mod tests;
mod transmit;
mod transport;

pub use driver::open;

/// PCI vendor id.
pub const VENDOR: u16 = 0x1af4;

/// Whether a device id is that of a network device: the modern one, or the transitional one (virtio 1.3, 4.1.2).
pub fn is_net(device: u16) -> bool {
    matches!(device, 0x1041 | 0x1000)
}
