//! What `linux/vfio.h` says: requests, flags and structures.

use std::os::fd::RawFd;

/// `_IO(VFIO_TYPE, VFIO_BASE + number)`.
const fn request(number: libc::c_ulong) -> libc::c_ulong {
    ((b';' as libc::c_ulong) << 8) | (100 + number)
}

pub const VFIO_API_VERSION: i32 = 0;
pub const VFIO_TYPE1V2_IOMMU: libc::c_ulong = 3;

pub const VFIO_GET_API_VERSION: libc::c_ulong = request(0);
pub const VFIO_CHECK_EXTENSION: libc::c_ulong = request(1);
pub const VFIO_SET_IOMMU: libc::c_ulong = request(2);
pub const VFIO_GROUP_GET_STATUS: libc::c_ulong = request(3);
pub const VFIO_GROUP_SET_CONTAINER: libc::c_ulong = request(4);
pub const VFIO_GROUP_GET_DEVICE_FD: libc::c_ulong = request(6);
pub const VFIO_DEVICE_GET_INFO: libc::c_ulong = request(7);
pub const VFIO_DEVICE_GET_REGION_INFO: libc::c_ulong = request(8);
pub const VFIO_DEVICE_GET_IRQ_INFO: libc::c_ulong = request(9);
pub const VFIO_DEVICE_SET_IRQS: libc::c_ulong = request(10);
pub const VFIO_DEVICE_RESET: libc::c_ulong = request(11);
pub const VFIO_IOMMU_GET_INFO: libc::c_ulong = request(12);
pub const VFIO_IOMMU_MAP_DMA: libc::c_ulong = request(13);
pub const VFIO_IOMMU_UNMAP_DMA: libc::c_ulong = request(14);

pub const VFIO_GROUP_FLAGS_VIABLE: u32 = 1 << 0;
pub const VFIO_DEVICE_FLAGS_RESET: u32 = 1 << 0;
pub const VFIO_DEVICE_FLAGS_PCI: u32 = 1 << 1;
pub const VFIO_REGION_INFO_FLAG_MMAP: u32 = 1 << 2;
pub const VFIO_REGION_INFO_CAP_SPARSE_MMAP: u16 = 1;
pub const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: u16 = 1;
pub const VFIO_DMA_MAP_FLAG_READ: u32 = 1 << 0;
pub const VFIO_DMA_MAP_FLAG_WRITE: u32 = 1 << 1;
pub const VFIO_IRQ_SET_DATA_NONE: u32 = 1 << 0;
pub const VFIO_IRQ_SET_DATA_EVENTFD: u32 = 1 << 2;
pub const VFIO_IRQ_SET_ACTION_TRIGGER: u32 = 1 << 5;

pub const VFIO_PCI_CONFIG_REGION_INDEX: u32 = 7;
pub const VFIO_PCI_MSIX_IRQ_INDEX: u32 = 2;
pub const VFIO_PCI_ERR_IRQ_INDEX: u32 = 3;
pub const VFIO_PCI_REQ_IRQ_INDEX: u32 = 4;

/// `struct vfio_group_status`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct GroupStatus {
    pub argsz: u32,
    pub flags: u32,
}

/// `struct vfio_device_info`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct DeviceInfo {
    pub argsz: u32,
    pub flags: u32,
    pub num_regions: u32,
    pub num_irqs: u32,
    pub cap_offset: u32,
    pub pad: u32,
}

/// `struct vfio_region_info`.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
pub struct RegionInfo {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub cap_offset: u32,
    pub size: u64,
    pub offset: u64,
}

/// `struct vfio_irq_info`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct IrqInfo {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub count: u32,
}

/// The most interrupts that are set at once.
pub const IRQS_MAX: usize = 64;

/// `struct vfio_irq_set`, with room for event descriptors.
#[derive(Debug)]
#[repr(C)]
pub struct IrqSet {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub start: u32,
    pub count: u32,
    pub fds: [RawFd; IRQS_MAX],
}

impl IrqSet {
    /// Length without descriptors.
    pub const HEADER: u32 = 20;
}

/// `struct vfio_iommu_type1_info`.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
pub struct IommuInfo {
    pub argsz: u32,
    pub flags: u32,
    pub iova_pgsizes: u64,
    pub cap_offset: u32,
    pub pad: u32,
}

/// `struct vfio_iommu_type1_dma_map`.
#[derive(Debug)]
#[repr(C)]
pub struct DmaMap {
    pub argsz: u32,
    pub flags: u32,
    pub vaddr: u64,
    pub iova: u64,
    pub size: u64,
}

/// `struct vfio_iommu_type1_dma_unmap`.
#[derive(Debug)]
#[repr(C)]
pub struct DmaUnmap {
    pub argsz: u32,
    pub flags: u32,
    pub iova: u64,
    pub size: u64,
}

/// An answer of the kernel's that is a structure with capabilities behind it.
#[derive(Debug)]
pub struct Answer(Vec<u64>);

impl Answer {
    /// Asks twice: the first answer says how long the whole one is. `question` is the structure's first 32 bits words,
    /// of which the first is the length, and `len` its length without capabilities.
    pub fn of(fd: RawFd, request: libc::c_ulong, question: &[u32], len: usize) -> std::io::Result<Answer> {
        let mut room = len;
        for _ in 0..2 {
            let mut words = vec![0u64; room.div_ceil(8)];
            let octets = words.as_mut_ptr().cast::<u32>();
            for (index, word) in question.iter().enumerate().take(room / 4) {
                // SAFETY: the index is below the length of the room in 32-bit words.
                unsafe { octets.add(index).write(*word) };
            }
            // SAFETY: as above; the first word is the length of the room.
            unsafe { octets.write(room as u32) };
            // SAFETY: the kernel writes at most as much as the structure's first word says.
            if unsafe { libc::ioctl(fd, request, octets) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // SAFETY: as above.
            let wanted = unsafe { octets.read() } as usize;
            if wanted <= room || wanted > 1 << 20 {
                return Ok(Answer(words));
            }
            room = wanted;
        }
        Err(std::io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// The 32-bit field at an offset; 0 behind the end.
    pub fn u32(&self, at: usize) -> u32 {
        self.u64(at & !7).checked_shr(8 * (at as u32 & 4)).unwrap_or(0) as u32
    }

    /// The 64-bit field at an offset that is a multiple of 8; 0 behind the end.
    pub fn u64(&self, at: usize) -> u64 {
        self.0.get(at / 8).copied().map_or(0, u64::from_le)
    }

    /// Where a capability is, by its id. `first` is where the first one is, 0 for none
    /// (`struct vfio_info_cap_header`: u16 id, u16 version, u32 next).
    pub fn capability(&self, first: u32, id: u16) -> Option<usize> {
        let mut at = first as usize;
        for _ in 0..64 {
            if at == 0 {
                return None;
            }
            if self.u32(at) as u16 == id {
                return Some(at);
            }
            at = self.u32(at + 4) as usize;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<GroupStatus>(), 8);
        assert_eq!(size_of::<DeviceInfo>(), 24);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<IrqInfo>(), 16);
        assert_eq!(size_of::<IrqSet>(), IrqSet::HEADER as usize + 4 * IRQS_MAX);
        assert_eq!(size_of::<IommuInfo>(), 24);
        assert_eq!(size_of::<DmaMap>(), 32);
        assert_eq!(size_of::<DmaUnmap>(), 24);
        assert_eq!(
            (VFIO_GET_API_VERSION, VFIO_IOMMU_UNMAP_DMA),
            (0x3b64, 0x3b72),
            "_IO(';', 100 + n)"
        );
    }

    #[test]
    fn capabilities_are_found_and_a_circle_of_them_ends() {
        let word = |id: u32, next: u32| u64::from(id) | u64::from(next) << 32;
        let answer = Answer(vec![0, word(7, 16), word(1, 8)]);
        assert_eq!(answer.capability(8, 1), Some(16));
        assert_eq!(answer.capability(8, 2), None, "a circle");
        assert_eq!(answer.capability(0, 7), None);
        assert_eq!(answer.capability(4096, 7), None, "behind the end");
        assert_eq!((answer.u32(8), answer.u32(12)), (7, 16));
    }
}
