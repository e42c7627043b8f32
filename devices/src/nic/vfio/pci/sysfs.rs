//! What sysfs says of a PCI device.

use std::fs;
use std::path::{Path, PathBuf};

use super::PciAddress;

/// The files in which the kernel describes the host: `/sys` and `/proc`, below a root that tests may choose.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// A PCI device as sysfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, subclass and programming interface.
    pub class: u32,
    /// Its driver.
    pub driver: Option<String>,
    /// Its netdevs.
    pub netdevs: Vec<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Other devices of the group; bridges do not count, for they do no DMA of their own.
    pub siblings: Vec<PciAddress>,
    /// Ways to reset it, such as `flr`.
    pub reset_methods: Vec<String>,
}

impl Default for Sysfs {
    fn default() -> Self {
        Sysfs::below("/")
    }
}

impl Sysfs {
    /// The files below a root.
    pub fn below(root: impl Into<PathBuf>) -> Sysfs {
        Sysfs { root: root.into() }
    }

    /// A file below the root; `path` does not start with a slash.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The directory of a PCI device.
    pub fn directory(&self, address: &PciAddress) -> PathBuf {
        self.path("sys/bus/pci/devices").join(address.to_string())
    }

    /// What the host says of a PCI device; None if there is none.
    pub fn device(&self, address: &PciAddress) -> Option<PciDevice> {
        let directory = self.directory(address);
        let hex = |name: &str| u32::from_str_radix(read(directory.join(name))?.strip_prefix("0x")?, 16).ok();
        let iommu_group = link(directory.join("iommu_group")).and_then(|group| group.parse().ok());
        Some(PciDevice {
            address: *address,
            vendor: hex("vendor")? as u16,
            device: hex("device")? as u16,
            class: hex("class")?,
            driver: link(directory.join("driver")),
            netdevs: netdevs(&directory),
            iommu_group,
            siblings: self.siblings(address, iommu_group),
            reset_methods: read(directory.join("reset_method"))
                .map(|methods| methods.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    }

    /// All PCI devices that are NICs.
    pub fn nics(&self) -> Vec<PciDevice> {
        list(self.path("sys/bus/pci/devices"))
            .iter()
            .filter_map(|name| self.device(&name.parse().ok()?))
            .filter(PciDevice::is_nic)
            .collect()
    }

    fn siblings(&self, address: &PciAddress, group: Option<u32>) -> Vec<PciAddress> {
        let Some(group) = group else {
            return Vec::new();
        };
        list(self.path(format!("sys/kernel/iommu_groups/{group}/devices")))
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|sibling| sibling != address && !self.is_bridge(sibling))
            .collect()
    }

    fn is_bridge(&self, address: &PciAddress) -> bool {
        read(self.directory(address).join("class")).is_some_and(|class| class.starts_with("0x06"))
    }
}

impl PciDevice {
    /// Whether it is a network controller.
    pub fn is_nic(&self) -> bool {
        self.class >> 16 == 0x02
    }

    /// Vendor and device as text, such as `8086:10c9`.
    pub fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// The netdevs of a device; those of a virtio device are the ones of the device on the virtio bus below it.
fn netdevs(directory: &Path) -> Vec<String> {
    let below = list(directory)
        .into_iter()
        .filter(|name| name.starts_with("virtio"));
    let mut netdevs = list(directory.join("net"));
    netdevs.extend(below.flat_map(|name| list(directory.join(name).join("net"))));
    netdevs
}

/// A file's text without white space around it.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The last name of what a symbolic link points to.
pub(super) fn link(path: impl AsRef<Path>) -> Option<String> {
    Some(
        fs::read_link(path)
            .ok()?
            .file_name()?
            .to_string_lossy()
            .into_owned(),
    )
}

/// The names in a directory, in order; none if there is no such directory.
pub(super) fn list(path: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}
