//! A PCI device that is ours: its configuration, registers, interrupts and reset.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Container, PciAddress, Registers, abi};
use crate::nic::NicError;

/// PCI configuration space: the command register and its bits.
const COMMAND: u16 = 0x04;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;

/// A PCI device that this process drives.
#[derive(Debug)]
pub struct Device {
    nic: String,
    file: File,
    config: Region,
    resets: bool,
    container: Arc<Container>,
}

/// The kinds of interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Interrupt {
    /// MSI-X vectors.
    MsiX = abi::VFIO_PCI_MSIX_IRQ_INDEX,
    /// The device, or the bus to it, failed.
    Error = abi::VFIO_PCI_ERR_IRQ_INDEX,
    /// The host wants the device back.
    Request = abi::VFIO_PCI_REQ_IRQ_INDEX,
}

/// Where a region lies in the device's file, and what of it may be mapped.
#[derive(Debug)]
struct Region {
    offset: u64,
    size: u64,
    /// Offsets in the region, and lengths.
    mappable: Vec<(u64, u64)>,
}

impl Device {
    /// Opens a device whose group is bound to vfio-pci.
    pub fn open(address: &PciAddress, group: u32) -> Result<Device, NicError> {
        let nic = address.to_string();
        let container = Arc::new(Container::open(&nic, group)?);
        let file = File::from(container.device(&nic)?);
        let mut info = abi::DeviceInfo {
            argsz: size_of::<abi::DeviceInfo>() as u32,
            ..abi::DeviceInfo::default()
        };
        // SAFETY: the structure outlives the call and says its own length.
        if unsafe { libc::ioctl(file.as_raw_fd(), abi::VFIO_DEVICE_GET_INFO, &mut info) } < 0 {
            return Err(NicError::last("ask about", nic, "see the kernel's log"));
        }
        if info.flags & abi::VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(NicError::new("use", nic, libc::ENODEV, "it is no PCI device"));
        }
        let config = Region::of(&file, abi::VFIO_PCI_CONFIG_REGION_INDEX)
            .map_err(|error| failed("find the configuration space of", &nic, &error))?;
        let device = Device {
            nic,
            file,
            config,
            resets: info.flags & abi::VFIO_DEVICE_FLAGS_RESET != 0,
            container,
        };
        // Its registers answer only while memory access is on; without, a look at them is a SIGBUS.
        device.set_bus_master(false)?;
        Ok(device)
    }

    /// No device at all: nothing that is asked of it works.
    #[cfg(test)]
    pub fn none() -> Device {
        Device {
            nic: "none".to_owned(),
            file: File::open("/dev/null").expect("there is /dev/null"),
            config: Region {
                offset: 0,
                size: 0,
                mappable: Vec::new(),
            },
            resets: true,
            container: Arc::new(Container::without_device()),
        }
    }

    /// Its address, as text.
    pub fn name(&self) -> &str {
        &self.nic
    }

    /// The address space that it sees.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Resets it. What was set by [`Device::set_interrupts`] is gone then.
    pub fn reset(&self) -> Result<(), NicError> {
        if !self.resets {
            return Ok(()); // The driver's own reset has to do.
        }
        // SAFETY: plain request on a descriptor that we own.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), abi::VFIO_DEVICE_RESET) } {
            status if status < 0 => Err(NicError::last("reset", &self.nic, "see the kernel's log")),
            _ => Ok(()),
        }
    }

    /// Lets it read and write memory on its own, or no longer. Its registers are there in both cases.
    pub fn set_bus_master(&self, on: bool) -> Result<(), NicError> {
        let command = self.config_u16(COMMAND)? | COMMAND_MEMORY;
        let command = match on {
            true => command | COMMAND_MASTER,
            false => command & !COMMAND_MASTER,
        };
        self.file
            .write_all_at(&command.to_le_bytes(), self.config.offset + u64::from(COMMAND))
            .map_err(|error| failed("write to the configuration space of", &self.nic, &error))
    }

    /// Makes it do nothing any more. Nothing is left to do if that fails: closing it resets it once more.
    pub fn quiet(&self) {
        let _ = self.set_bus_master(false);
        let _ = self.reset();
    }

    /// An octet of its configuration space.
    pub fn config_u8(&self, offset: u16) -> Result<u8, NicError> {
        Ok(self.config_octets::<1>(offset)?[0])
    }

    /// 16 bits of its configuration space.
    pub fn config_u16(&self, offset: u16) -> Result<u16, NicError> {
        self.config_octets(offset).map(u16::from_le_bytes)
    }

    /// 32 bits of its configuration space.
    pub fn config_u32(&self, offset: u16) -> Result<u32, NicError> {
        self.config_octets(offset).map(u32::from_le_bytes)
    }

    fn config_octets<const N: usize>(&self, offset: u16) -> Result<[u8; N], NicError> {
        let mut octets = [0; N];
        let step = "read the configuration space of";
        if u64::from(offset) + N as u64 > self.config.size {
            return Err(NicError::new(
                step,
                &self.nic,
                libc::ERANGE,
                "the device is not what it says",
            ));
        }
        self.file
            .read_exact_at(&mut octets, self.config.offset + u64::from(offset))
            .map_err(|error| failed(step, &self.nic, &error))?;
        Ok(octets)
    }

    /// Maps `len` octets from `offset` on of a base address register's region.
    pub fn registers(&self, bar: u32, offset: u64, len: usize) -> Result<Registers, NicError> {
        let step = format!("map the registers (BAR {bar}) of");
        let region = Region::of(&self.file, bar).map_err(|error| failed(&step, &self.nic, &error))?;
        let inside = |(start, size): &(u64, u64)| {
            let end = offset.checked_add(len as u64);
            *start <= offset && end.is_some_and(|end| end <= start.saturating_add(*size))
        };
        if len == 0 || !region.mappable.iter().any(inside) {
            let hint = "it has fewer registers than its driver needs, or the kernel lets nobody map them";
            return Err(NicError::new(step, &self.nic, libc::ENXIO, hint));
        }
        Registers::map(self.file.as_fd(), region.offset.saturating_add(offset), len)
            .map_err(|error| failed(&step, &self.nic, &error))
    }

    /// How many interrupts of a kind it has.
    pub fn interrupts(&self, kind: Interrupt) -> usize {
        let mut info = abi::IrqInfo {
            argsz: size_of::<abi::IrqInfo>() as u32,
            index: kind as u32,
            ..abi::IrqInfo::default()
        };
        // SAFETY: the structure outlives the call and says its own length.
        let status = unsafe { libc::ioctl(self.file.as_raw_fd(), abi::VFIO_DEVICE_GET_IRQ_INFO, &mut info) };
        if status < 0 { 0 } else { info.count as usize }
    }

    /// Has interrupts of a kind, from the first on, written to event descriptors; an empty list turns them all off.
    pub fn set_interrupts(&self, kind: Interrupt, events: &[RawFd]) -> Result<(), NicError> {
        let count = events.len().min(abi::IRQS_MAX);
        let data = match count {
            0 => abi::VFIO_IRQ_SET_DATA_NONE,
            _ => abi::VFIO_IRQ_SET_DATA_EVENTFD,
        };
        let mut set = abi::IrqSet {
            argsz: abi::IrqSet::HEADER + 4 * count as u32,
            flags: data | abi::VFIO_IRQ_SET_ACTION_TRIGGER,
            index: kind as u32,
            start: 0,
            count: count as u32,
            fds: [-1; abi::IRQS_MAX],
        };
        set.fds[..count].copy_from_slice(&events[..count]);
        // SAFETY: the structure outlives the call and says its own length.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), abi::VFIO_DEVICE_SET_IRQS, &set) } < 0 {
            let step = format!("set {count} {kind:?} interrupts of");
            return Err(NicError::last(
                step,
                &self.nic,
                "take fewer queues, or see the kernel's log",
            ));
        }
        Ok(())
    }
}

impl Region {
    fn of(file: &File, index: u32) -> std::io::Result<Region> {
        let len = size_of::<abi::RegionInfo>();
        // struct vfio_region_info: argsz, flags, index, cap_offset, size, offset.
        let info = abi::Answer::of(
            file.as_raw_fd(),
            abi::VFIO_DEVICE_GET_REGION_INFO,
            &[0, 0, index],
            len,
        )?;
        let (flags, size) = (info.u32(4), info.u64(16));
        let sparse = info.capability(info.u32(12), abi::VFIO_REGION_INFO_CAP_SPARSE_MMAP);
        let mappable = match sparse {
            _ if flags & abi::VFIO_REGION_INFO_FLAG_MMAP == 0 => Vec::new(),
            None => vec![(0, size)],
            // struct vfio_region_info_cap_sparse_mmap: header, nr_areas, reserved, then pairs of offset and size.
            Some(at) => (0..(info.u32(at + 8) as usize).min(64))
                .map(|area| (info.u64(at + 16 + 16 * area), info.u64(at + 24 + 16 * area)))
                .collect(),
        };
        Ok(Region {
            offset: info.u64(24),
            size,
            mappable,
        })
    }
}

fn failed(step: &str, nic: &str, error: &std::io::Error) -> NicError {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    NicError::new(step, nic, errno, "see the kernel's log")
}
