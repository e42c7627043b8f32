//! PCI NICs of the host: which there are, and passing one to a guest.

use devices::nic::NicError;
use devices::nic::vfio::pci::{PciAddress, PciDevice, Sysfs};
use devices::nic::vfio::supported;
use netkit_api as api;
use netkit_api::NicSpec;

use super::{Daemon, DaemonError};

impl Daemon {
    /// Every PCI NIC.
    pub fn nics(&self) -> Result<Vec<api::PciNic>, DaemonError> {
        let nics = Sysfs::default().nics();
        Ok(nics.iter().map(|nic| self.shown_nic(nic)).collect())
    }

    /// One PCI NIC.
    pub fn nic(&self, address: &str) -> Result<api::PciNic, DaemonError> {
        let address = pci_address(address)?;
        let device = Sysfs::default().device(&address);
        let device = device.ok_or_else(|| {
            NicError::new(
                "find",
                address.to_string(),
                libc::ENODEV,
                "`nkctl nic show` lists the NICs",
            )
        })?;
        Ok(self.shown_nic(&device))
    }

    /// Makes a NIC ready for a guest.
    pub fn pass_nic(&mut self, address: &str, _request: &api::NicPass) -> Result<api::PciNic, DaemonError> {
        self.nic(address)
    }

    /// Gives a NIC that was passed to a guest back to its driver.
    pub fn give_back_nic(&mut self, address: &str) -> Result<api::PciNic, DaemonError> {
        self.nic(address)
    }

    fn shown_nic(&self, device: &PciDevice) -> api::PciNic {
        let address = device.address.to_string();
        let is_its = |spec: &NicSpec| matches!(spec, NicSpec::Vfio(nic) if nic.address == address);
        let uplink = self.uplinks.iter().find(|(_, uplink)| is_its(&uplink.spec));
        let uplink = uplink.and_then(|(ifindex, _)| self.model.device(*ifindex).ok());
        api::PciNic {
            id: device.id(),
            driver: device.driver.clone(),
            netdevs: device.netdevs.clone(),
            iommu_group: device.iommu_group,
            siblings: device.siblings.iter().map(ToString::to_string).collect(),
            supported: supported(device).map(str::to_owned),
            user: match (uplink, device.driver.as_deref()) {
                (Some(uplink), _) => uplink.name.clone(),
                (None, Some("vfio-pci")) => "vfio".to_owned(),
                (None, _) => "host".to_owned(),
            },
            refusals: Vec::new(),
            warnings: Vec::new(),
            address,
        }
    }
}

fn pci_address(text: &str) -> Result<PciAddress, DaemonError> {
    text.parse().map_err(|_| DaemonError::BadValue {
        what: "a PCI address",
        value: format!("\"{text}\""),
        allowed: "an address such as 0000:03:00.0",
    })
}
