//! NICs that the daemon drives itself, over VFIO.

mod abi;
mod container;
mod device;
mod dma;
mod events;
pub mod pci;
mod pool;
mod registers;

pub use container::Container;
pub use device::{Device, Interrupt};
pub use dma::{DmaMemory, Plain};
pub use events::{Events, new_event};
pub use pci::PciAddress;
pub use pool::{FramePool, Place, pieces_max};
pub use registers::Registers;

use super::{Nic, NicError, igb, virtio_pci};
use pci::{PciDevice, Sysfs};

/// A PCI device that is to be opened as a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfioConfig {
    /// Where it is. It is bound to vfio-pci.
    pub address: PciAddress,
    /// Queue pairs, at most; the NIC may have fewer.
    pub queues: u16,
    /// A device without an IOMMU in front of it is wanted.
    pub unsafe_noiommu: bool,
}

/// The driver that there is for a PCI device.
pub fn supported(device: &PciDevice) -> Option<&'static str> {
    match device.vendor {
        igb::VENDOR => igb::Model::of(device.device).map(|_| "igb"),
        virtio_pci::VENDOR => virtio_pci::is_net(device.device).then_some("virtio-net"),
        _ => None,
    }
}

/// Opens a NIC that is bound to vfio-pci, and starts it.
pub fn open(config: &VfioConfig) -> Result<Nic, NicError> {
    let nic = config.address.to_string();
    let device = Sysfs::default()
        .device(&config.address)
        .ok_or_else(|| NicError::new("find", &nic, libc::ENODEV, "lspci -D lists what there is"))?;
    if supported(&device).is_none() {
        let hint = format!("there is no driver for {} here", device.id());
        return Err(NicError::new("drive", nic, libc::EOPNOTSUPP, hint));
    }
    let group = device.iommu_group.ok_or_else(|| no_iommu(config))?;
    let opened = Device::open(&config.address, group)?;
    match igb::Model::of(device.device) {
        Some(model) if device.vendor == igb::VENDOR => igb::open(opened, model, config.queues),
        _ => virtio_pci::open(opened, config.queues),
    }
}

/// Without an IOMMU the device would have to be given physical addresses, for which no kernel of a distribution's is
/// built, and nothing would keep it out of the host's memory.
fn no_iommu(config: &VfioConfig) -> NicError {
    let hint = match config.unsafe_noiommu {
        true => "driving it without one is not supported; use the uplink kinds kernel or af-xdp instead",
        false => {
            "turn it on in the firmware and with intel_iommu=on or amd_iommu=on on the kernel's command line"
        }
    };
    NicError::new(
        "find an IOMMU in front of",
        config.address.to_string(),
        libc::ENODEV,
        hint,
    )
}
