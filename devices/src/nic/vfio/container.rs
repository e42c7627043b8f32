//! An IOMMU's address space for one group of devices (VFIO type 1, version 2).

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::abi;
use crate::nic::NicError;

/// Where our addresses begin, if the IOMMU lets us choose: behind what devices and firmware use below 4 GiB.
const IOVA_START: u64 = 1 << 32;
/// What addresses are aligned to, so that large pages stay large in the IOMMU.
const IOVA_ALIGNMENT: u64 = 2 << 20;

/// A group of devices that is ours, and the addresses at which they see our memory.
#[derive(Debug)]
pub struct Container {
    nic: String,
    group: OwnedFd,
    container: File,
    free: Mutex<Vec<IovaRange>>,
}

/// Addresses from `start` to `end`, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IovaRange {
    start: u64,
    end: u64,
}

impl Container {
    /// Takes a group; `nic` is what it is taken for.
    pub fn open(nic: &str, group: u32) -> Result<Container, NicError> {
        let failed = |step: &str, hint: &str| NicError::last(step, nic, hint);
        let container = open("/dev/vfio/vfio").map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let hint = "load the kernel's driver for it: modprobe vfio-pci";
            NicError::new("open /dev/vfio/vfio for", nic, errno, hint)
        })?;
        // SAFETY: plain integer requests on a descriptor that we own.
        let (version, type1) = unsafe {
            (
                libc::ioctl(container.as_raw_fd(), abi::VFIO_GET_API_VERSION),
                libc::ioctl(
                    container.as_raw_fd(),
                    abi::VFIO_CHECK_EXTENSION,
                    abi::VFIO_TYPE1V2_IOMMU,
                ),
            )
        };
        if version != abi::VFIO_API_VERSION || type1 <= 0 {
            let hint = "the kernel's VFIO lacks type 1 version 2: modprobe vfio_iommu_type1";
            return Err(NicError::new("use VFIO for", nic, libc::EOPNOTSUPP, hint));
        }
        let path = format!("/dev/vfio/{group}");
        let group = open(&path).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            NicError::new(format!("open {path} for"), nic, errno, group_hint(errno))
        })?;
        let mut status = abi::GroupStatus {
            argsz: size_of::<abi::GroupStatus>() as u32,
            flags: 0,
        };
        // SAFETY: the structure outlives the call and says its own length.
        if unsafe { libc::ioctl(group.as_raw_fd(), abi::VFIO_GROUP_GET_STATUS, &mut status) } < 0 {
            return Err(failed(
                "ask for the state of the IOMMU group of",
                "see the kernel's log",
            ));
        }
        if status.flags & abi::VFIO_GROUP_FLAGS_VIABLE == 0 {
            let hint =
                "another device of its IOMMU group has a driver of the host's; bind all of them to vfio-pci";
            return Err(NicError::new("use the IOMMU group of", nic, libc::EPERM, hint));
        }
        let fd = container.as_raw_fd();
        // SAFETY: the kernel reads one descriptor's number.
        if unsafe { libc::ioctl(group.as_raw_fd(), abi::VFIO_GROUP_SET_CONTAINER, &fd) } < 0 {
            return Err(failed(
                "put into a container the IOMMU group of",
                "see the kernel's log",
            ));
        }
        // SAFETY: plain integer request.
        if unsafe { libc::ioctl(fd, abi::VFIO_SET_IOMMU, abi::VFIO_TYPE1V2_IOMMU) } < 0 {
            let hint = "if the kernel's log speaks of interrupt remapping, turn it on in the firmware; \
                        vfio_iommu_type1.allow_unsafe_interrupts=1 does without";
            return Err(failed("turn on the IOMMU for", hint));
        }
        let free = iova_ranges(&container, nic)?;
        Ok(Container {
            nic: nic.to_owned(),
            group: group.into(),
            container,
            free: Mutex::new(free),
        })
    }

    /// Of no device at all.
    #[cfg(test)]
    pub fn without_device() -> Container {
        let null = || open("/dev/null").expect("there is /dev/null");
        Container {
            nic: "none".to_owned(),
            group: null().into(),
            container: null(),
            free: Mutex::new(Vec::new()),
        }
    }

    /// Opens a device of the group.
    pub fn device(&self, address: &str) -> Result<OwnedFd, NicError> {
        let name = CString::new(address).unwrap_or_default();
        // SAFETY: the name ends with a zero and outlives the call.
        let fd = unsafe {
            libc::ioctl(
                self.group.as_raw_fd(),
                abi::VFIO_GROUP_GET_DEVICE_FD,
                name.as_ptr(),
            )
        };
        if fd < 0 {
            return Err(NicError::last(
                "open",
                address,
                "see whether it is bound to vfio-pci, and the kernel's log",
            ));
        }
        // SAFETY: the descriptor has just been made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Makes memory visible to the devices, for reading and writing, and says where.
    ///
    /// # Safety
    /// The memory stays mapped, and nothing that must not change unseen lies in it, until [`Container::unmap`].
    pub unsafe fn map(&self, memory: *mut u8, len: usize) -> Result<u64, NicError> {
        let iova = self.reserve(len as u64)?;
        let map = abi::DmaMap {
            argsz: size_of::<abi::DmaMap>() as u32,
            flags: abi::VFIO_DMA_MAP_FLAG_READ | abi::VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: memory as u64,
            iova,
            size: len as u64,
        };
        // SAFETY: the structure outlives the call; the caller answers for the memory.
        if unsafe { libc::ioctl(self.container.as_raw_fd(), abi::VFIO_IOMMU_MAP_DMA, &map) } < 0 {
            let error = std::io::Error::last_os_error();
            let hint = match error.raw_os_error() {
                Some(libc::ENOMEM) => {
                    "the limit of locked memory is too low: LimitMEMLOCK=infinity in netkitd's unit, or ulimit -l"
                }
                _ => "see the kernel's log",
            };
            return Err(NicError::new(
                format!("map {} KiB of memory for", len >> 10),
                &self.nic,
                error.raw_os_error().unwrap_or(libc::EIO),
                hint,
            ));
        }
        Ok(iova)
    }

    /// Hides memory from the devices again.
    pub fn unmap(&self, iova: u64, len: usize) {
        let mut unmap = abi::DmaUnmap {
            argsz: size_of::<abi::DmaUnmap>() as u32,
            flags: 0,
            iova,
            size: len as u64,
        };
        // SAFETY: the structure outlives the call. It can only fail for what is not mapped.
        unsafe { libc::ioctl(self.container.as_raw_fd(), abi::VFIO_IOMMU_UNMAP_DMA, &mut unmap) };
    }

    fn reserve(&self, len: u64) -> Result<u64, NicError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        reserve(&mut free, len).ok_or_else(|| {
            let hint = "the IOMMU leaves no range of that length";
            NicError::new("find addresses for memory of", &self.nic, libc::ENOSPC, hint)
        })
    }
}

/// Takes addresses for `len` octets out of the ranges, from [`IOVA_START`] on if there are any.
fn reserve(free: &mut [IovaRange], len: u64) -> Option<u64> {
    let fits = |range: &IovaRange, at_least: u64| {
        let start = range
            .start
            .max(at_least)
            .checked_next_multiple_of(IOVA_ALIGNMENT)?;
        let last = start.checked_add(len.max(1) - 1)?;
        (last <= range.end).then_some(start)
    };
    for at_least in [IOVA_START, IOVA_ALIGNMENT] {
        for range in free.iter_mut() {
            if let Some(start) = fits(range, at_least) {
                range.start = start.saturating_add(len);
                return Some(start);
            }
        }
    }
    None
}

/// Where the IOMMU translates, as the kernel says.
fn iova_ranges(container: &File, nic: &str) -> Result<Vec<IovaRange>, NicError> {
    let len = size_of::<abi::IommuInfo>();
    let info =
        abi::Answer::of(container.as_raw_fd(), abi::VFIO_IOMMU_GET_INFO, &[0], len).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            NicError::new("ask for the IOMMU of", nic, errno, "see the kernel's log")
        })?;
    // struct vfio_iommu_type1_info: argsz, flags, iova_pgsizes, cap_offset.
    let Some(at) = info.capability(info.u32(16), abi::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) else {
        // Kernels before 5.4 do not say; 39 bits is the least that an IOMMU has.
        return Ok(vec![IovaRange {
            start: 0,
            end: (1 << 39) - 1,
        }]);
    };
    // struct vfio_iommu_type1_info_cap_iova_range: header, nr_iovas, reserved, then pairs.
    let count = (info.u32(at + 8) as usize).min(1024);
    let range = |index: usize| IovaRange {
        start: info.u64(at + 16 + 16 * index),
        end: info.u64(at + 24 + 16 * index),
    };
    Ok((0..count).map(range).collect())
}

fn open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn group_hint(errno: i32) -> &'static str {
    match errno {
        libc::EBUSY => "another program drives a device of this IOMMU group; stop it first",
        libc::ENOENT => "no device of its IOMMU group is bound to vfio-pci; let netkitd bind it, or do so",
        libc::EACCES | libc::EPERM => {
            "netkitd's user may not open it; give the file to that user with a udev rule"
        }
        _ => "see the kernel's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_from_what_the_iommu_translates() {
        let mut free = vec![
            IovaRange {
                start: 0,
                end: 0xfedf_ffff,
            },
            IovaRange {
                start: 0xfef0_0000,
                end: (1 << 33) - 1,
            },
        ];
        assert_eq!(reserve(&mut free, 4096), Some(1 << 32));
        assert_eq!(
            reserve(&mut free, 4096),
            Some((1 << 32) + (2 << 20)),
            "not the same again"
        );
        assert_eq!(
            reserve(&mut free, (1 << 32) - 4096),
            None,
            "no range is that long"
        );
        assert_eq!(
            reserve(&mut free, 0xf000_0000),
            Some((1 << 32) + (4 << 20)),
            "the rest of the second"
        );
        assert_eq!(
            reserve(&mut free, 0xf000_0000),
            Some(2 << 20),
            "low ones, but never address 0"
        );
        assert_eq!(reserve(&mut [], 1), None);
        let all = IovaRange {
            start: u64::MAX - 5,
            end: u64::MAX,
        };
        assert_eq!(reserve(&mut [all], 4), None);
    }
}
