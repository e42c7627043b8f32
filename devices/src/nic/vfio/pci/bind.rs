//! Takes a PCI device from the host's driver, and gives it back.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::{PciAddress, Sysfs, VFIO_DRIVER};
use crate::nic::NicError;

/// A device that was bound to vfio-pci, and the driver that it had. Whoever keeps it over the daemon's death can still give
/// the device back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The device.
    pub address: PciAddress,
    /// The driver that it had before; None if it had none.
    pub driver: Option<String>,
}

/// Binds a device to vfio-pci. It goes back to the driver that it had if that fails.
///
/// Look at [`preflight`](super::preflight()) before: the device's netdevs disappear from the host.
pub fn bind(sysfs: &Sysfs, address: &PciAddress) -> Result<Binding, NicError> {
    let device = sysfs.device(address).ok_or_else(|| {
        NicError::new(
            "find",
            address.to_string(),
            libc::ENODEV,
            "lspci -D lists what there is",
        )
    })?;
    let binding = Binding {
        address: *address,
        driver: device.driver,
    };
    if binding.was_vfio() {
        return Ok(binding);
    }
    binding.take(sysfs).inspect_err(|_| {
        // The first error says more than what comes of the way back.
        let _ = binding.give_back(sysfs);
    })?;
    Ok(binding)
}

impl Binding {
    /// Gives the device back to the driver that it had, after it was closed: the host waits for that. A device that was
    /// found bound to vfio-pci stays so.
    pub fn give_back(&self, sysfs: &Sysfs) -> Result<(), NicError> {
        if self.was_vfio() {
            return Ok(());
        }
        let directory = sysfs.directory(&self.address);
        self.write(
            "clear the driver_override of",
            &directory.join("driver_override"),
            "\n",
        )?;
        let address = self.address.to_string();
        if self.driver_now(sysfs).as_deref() == Some(VFIO_DRIVER) {
            self.write("take vfio-pci from", &directory.join("driver/unbind"), &address)?;
        }
        match &self.driver {
            Some(driver) if self.driver_now(sysfs).as_deref() != Some(driver) => {
                let bind = sysfs.path(format!("sys/bus/pci/drivers/{driver}/bind"));
                self.write(&format!("give back to {driver}"), &bind, &address)
            }
            _ => Ok(()),
        }
    }

    fn was_vfio(&self) -> bool {
        self.driver.as_deref() == Some(VFIO_DRIVER)
    }

    fn take(&self, sysfs: &Sysfs) -> Result<(), NicError> {
        let directory = sysfs.directory(&self.address);
        let address = self.address.to_string();
        let name = directory.join("driver_override");
        self.write("set the driver_override of", &name, VFIO_DRIVER)?;
        if let Some(driver) = &self.driver {
            let unbind = directory.join("driver/unbind");
            self.write(&format!("take the driver {driver} from"), &unbind, &address)?;
        }
        let probe = sysfs.path("sys/bus/pci/drivers_probe");
        self.write("find vfio-pci for", &probe, &address)?;
        match self.driver_now(sysfs) {
            Some(driver) if driver == VFIO_DRIVER => Ok(()),
            driver => {
                let hint = format!(
                    "its driver is {} now; load vfio-pci (modprobe vfio-pci) and see the kernel's log",
                    driver.as_deref().unwrap_or("none")
                );
                Err(NicError::new("bind to vfio-pci", address, libc::ENODEV, hint))
            }
        }
    }

    fn driver_now(&self, sysfs: &Sysfs) -> Option<String> {
        super::sysfs::link(sysfs.directory(&self.address).join("driver"))
    }

    /// The kernel acts on one write of the whole text.
    fn write(&self, step: &str, path: &Path, text: &str) -> Result<(), NicError> {
        let written = || -> io::Result<()> {
            OpenOptions::new()
                .write(true)
                .open(path)?
                .write_all(text.as_bytes())
        };
        written().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let hint = match errno {
                libc::EACCES | libc::EPERM | libc::EROFS => {
                    format!("netkitd needs to write to {}", path.display())
                }
                libc::ENOENT => format!("there is no {}", path.display()),
                _ => "see the kernel's log".to_owned(),
            };
            NicError::new(step, self.address.to_string(), errno, hint)
        })
    }
}
