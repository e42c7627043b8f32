//! PCI devices as the host sees them: what they are, who drives them, and how they change hands.

mod address;
mod bind;
mod preflight;
mod sysfs;
#[cfg(test)]
mod tests;

pub use address::{PciAddress, PciAddressError};
pub use bind::{Binding, bind};
pub use preflight::{Objection, Preflight, preflight};
pub use sysfs::{PciDevice, Sysfs};

/// The host's driver that hands devices to user space.
pub const VFIO_DRIVER: &str = "vfio-pci";
