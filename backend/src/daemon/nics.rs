//! PCI NICs of the host: which there are, taking one from its driver, for us or for a guest, and giving it back.

use std::os::unix::fs::MetadataExt;

use devices::nic::NicError;
use devices::nic::vfio::pci::{self, Binding, Objection, PciAddress, PciDevice, Preflight, Sysfs, preflight};
use devices::nic::vfio::supported;
use netkit_api as api;
use netkit_api::NicSpec;

use super::nic;
use super::store::SavedBinding;
use super::{Daemon, DaemonError};

impl Daemon {
    /// Every PCI NIC.
    pub fn nics(&self) -> Result<Vec<api::PciNic>, DaemonError> {
        let nics = Sysfs::default().nics();
        Ok(nics.iter().map(|nic| self.shown_nic(nic)).collect())
    }

    /// One PCI NIC.
    pub fn nic(&self, address: &str) -> Result<api::PciNic, DaemonError> {
        Ok(self.shown_nic(&pci_device(pci_address(address)?)?))
    }

    /// Takes a NIC from its driver, so that a VMM can give it to a guest.
    pub fn pass_nic(&mut self, address: &str, request: &api::NicPass) -> Result<api::PciNic, DaemonError> {
        let address = pci_address(address)?;
        let device = pci_device(address)?;
        if self.passed.iter().any(|it| it.address == address) {
            return Err(DaemonError::NicPassed {
                nic: address.to_string(),
            });
        }
        self.check_nic(&address)?;
        if request.dry_run {
            return Ok(self.shown_nic(&device));
        }
        let binding = pci::bind(&Sysfs::default(), &address)?;
        self.passed.push(binding);
        self.save()?;
        self.nic(&address.to_string())
    }

    /// Gives a NIC that was passed to a guest back to its driver.
    pub fn give_back_nic(&mut self, address: &str) -> Result<api::PciNic, DaemonError> {
        let address = pci_address(address)?;
        let Some(place) = self.passed.iter().position(|it| it.address == address) else {
            return Err(DaemonError::NicNotPassed {
                nic: address.to_string(),
            });
        };
        self.check_closed(&address)?;
        self.passed[place].give_back(&Sysfs::default())?;
        self.passed.remove(place);
        self.save()?;
        self.nic(&address.to_string())
    }

    /// Refuses to give back a NIC that a VMM has: the host would wait for that to close it, and this thread with it.
    pub(super) fn check_closed(&self, address: &PciAddress) -> Result<(), DaemonError> {
        let refusals = self.preflight(address).refusals;
        match refusals.contains(&Objection::InUse(*address)) {
            false => Ok(()),
            true => Err(DaemonError::NicInUse {
                nic: address.to_string(),
            }),
        }
    }

    /// Makes a NIC ready to be driven by us: takes it from its driver if that is wanted.
    pub(super) fn take_nic(&self, spec: &api::VfioNic) -> Result<Option<Binding>, DaemonError> {
        let address = pci_address(&spec.address)?;
        let device = pci_device(address)?;
        if self.passed.iter().any(|it| it.address == address) {
            return Err(DaemonError::NicPassed {
                nic: address.to_string(),
            });
        }
        self.check_nic(&address)?;
        match device.driver.as_deref() {
            Some(pci::VFIO_DRIVER) => Ok(None),
            _ if spec.bind => Ok(Some(pci::bind(&Sysfs::default(), &address)?)),
            driver => Err(DaemonError::NicOfHost {
                nic: address.to_string(),
                driver: driver.unwrap_or("no driver").to_owned(),
            }),
        }
    }

    fn check_nic(&self, address: &PciAddress) -> Result<(), DaemonError> {
        match self.preflight(address).refusals.as_slice() {
            [] => Ok(()),
            refusals => Err(DaemonError::NicRefused {
                nic: address.to_string(),
                reasons: refusals
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
                errno: refusals.first().map_or(libc::EBUSY, errno),
            }),
        }
    }

    fn preflight(&self, address: &PciAddress) -> Preflight {
        let names = self.uplinks.iter().filter_map(|(ifindex, uplink)| {
            let device = self.model.device(*ifindex).ok()?;
            Some((nic::name(&uplink.spec), device.name.as_str()))
        });
        preflight(&Sysfs::default(), address, &names.collect::<Vec<_>>())
    }

    fn shown_nic(&self, device: &PciDevice) -> api::PciNic {
        let is_its = |spec: &NicSpec| match spec {
            NicSpec::Vfio(nic) => nic.address.parse() == Ok(device.address),
            _ => false,
        };
        let uplink = self.uplinks.iter().find(|(_, uplink)| is_its(&uplink.spec));
        let uplink = uplink.and_then(|(ifindex, _)| self.model.device(*ifindex).ok());
        let is_passed = self.passed.iter().any(|it| it.address == device.address);
        let is_vfio = device.driver.as_deref() == Some(pci::VFIO_DRIVER);
        let found = match uplink {
            // It is in use by ourselves, which speaks against nothing.
            Some(_) => Preflight::default(),
            None => self.preflight(&device.address),
        };
        api::PciNic {
            address: device.address.to_string(),
            id: device.id(),
            driver: device.driver.clone(),
            netdevs: device.netdevs.clone(),
            iommu_group: device.iommu_group,
            siblings: device.siblings.iter().map(ToString::to_string).collect(),
            supported: supported(device).map(str::to_owned),
            user: match uplink {
                Some(uplink) => uplink.name.clone(),
                None if is_passed => "passed".to_owned(),
                None if is_vfio => "vfio".to_owned(),
                None => "host".to_owned(),
            },
            refusals: found.refusals.iter().map(ToString::to_string).collect(),
            warnings: found.warnings,
        }
    }

    /// What is to be given back one day, also by the next daemon.
    pub(super) fn saved_bindings(&self) -> Vec<SavedBinding> {
        let of_uplinks = self.uplinks.values().filter_map(|uplink| uplink.binding.as_ref());
        let saved = |binding: &Binding, passed| SavedBinding {
            address: binding.address.to_string(),
            driver: binding.driver.clone(),
            passed,
        };
        let passed = self.passed.iter().map(|binding| saved(binding, true));
        of_uplinks
            .map(|binding| saved(binding, false))
            .chain(passed)
            .collect()
    }

    /// Takes up what was saved.
    pub(super) fn restore_bindings(&mut self, saved: Vec<SavedBinding>) {
        for SavedBinding {
            address,
            driver,
            passed,
        } in saved
        {
            let Ok(address) = address.parse::<PciAddress>() else {
                continue;
            };
            let binding = Binding { address, driver };
            let is_its =
                |spec: &NicSpec| matches!(spec, NicSpec::Vfio(nic) if nic.address.parse() == Ok(address));
            if passed {
                self.passed.push(binding);
            } else if let Some(uplink) = self.uplinks.values_mut().find(|uplink| is_its(&uplink.spec)) {
                uplink.binding = Some(binding);
            }
        }
    }
}

/// Which PCI device is there, if one is: two that are there one after the other differ.
pub fn identity(spec: &api::VfioNic) -> Option<u64> {
    let address = spec.address.parse::<PciAddress>().ok()?;
    let directory = std::fs::metadata(Sysfs::default().directory(&address)).ok()?;
    Some(directory.ino())
}

/// Gives a NIC back to the driver that it was taken from. It must be closed.
pub fn give_back(binding: &Binding) {
    if let Err(error) = binding.give_back(&Sysfs::default()) {
        tracing::warn!("{error}");
    }
}

/// Reads a PCI address.
pub fn pci_address(text: &str) -> Result<PciAddress, DaemonError> {
    text.parse().map_err(|_| DaemonError::BadValue {
        what: "a PCI address",
        value: format!("\"{text}\""),
        allowed: "an address such as 0000:03:00.0",
    })
}

fn pci_device(address: PciAddress) -> Result<PciDevice, DaemonError> {
    let device = Sysfs::default().device(&address);
    Ok(device.ok_or_else(|| {
        NicError::new(
            "find",
            address.to_string(),
            libc::ENODEV,
            "`nkctl nic show` lists the NICs",
        )
    })?)
}

fn errno(objection: &Objection) -> i32 {
    match objection {
        Objection::Missing(_) | Objection::NoIommu(_) | Objection::NoVfio => libc::ENODEV,
        Objection::NotANic { .. } => libc::EINVAL,
        Objection::LockedMemory { .. } => libc::ENOMEM,
        Objection::Siblings { .. }
        | Objection::DefaultRoute(_)
        | Objection::Addressed(_)
        | Objection::Upper { .. }
        | Objection::Uplink { .. }
        | Objection::InUse(_) => libc::EBUSY,
    }
}
