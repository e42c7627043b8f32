//! The guest's memory as the front end shares it: mapped files, looked up by guest address or by the front end's own.

mod dirty_log;
pub mod sigbus;

use std::fs::File;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion};

pub use dirty_log::{DirtyLog, DirtyLogError};

/// The most regions a front end may share.
pub const MAX_REGIONS: usize = 509;
/// The most memory of one guest: a file may be longer than any memory, and the address space is everybody's.
const MAX_OCTETS: u64 = 16 << 40;

/// A front end's memory table. Immutable: a change of the table makes a new one.
#[derive(Debug, Clone, Default)]
pub struct GuestMemory {
    /// Sorted by guest address, without overlap.
    regions: Vec<Region>,
}

/// One shared region.
#[derive(Debug, Clone)]
pub struct Region {
    /// Where it is and how it was shared.
    pub spec: RegionSpec,
    host: usize,
    mapping: std::sync::Arc<Mapping>,
}

/// What the front end says of a region (vhost-user: memory region description).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionSpec {
    /// Guest physical address.
    pub guest: u64,
    /// Length in octets.
    pub size: u64,
    /// Address in the front end's process.
    pub user: u64,
    /// Offset in the file.
    pub file_offset: u64,
}

/// Why a region or an address is refused.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Addresses wrap, or the length is zero.
    #[error("memory region at guest address {guest:#x} with {size} octets is empty or wraps around")]
    BadRange {
        /// Guest physical address.
        guest: u64,
        /// Length in octets.
        size: u64,
    },
    /// Two regions share guest or user addresses.
    #[error("memory region at guest address {0:#x} overlaps another one")]
    Overlap(u64),
    /// More than [`MAX_REGIONS`].
    #[error("more than {MAX_REGIONS} memory regions")]
    TooMany,
    /// More than any guest has.
    #[error("more than {} TiB of memory", MAX_OCTETS >> 40)]
    TooLarge,
    /// The daemon maps more regions than it can guard against their loss.
    #[error(
        "cannot guard the memory region at guest address {0:#x}: all guests together have too many regions"
    )]
    Unguarded(u64),
    /// No such region.
    #[error("no memory region at guest address {0:#x}")]
    NotFound(u64),
    /// The file ends before the region does.
    #[error(
        "the file behind the memory region at guest address {guest:#x} has {len} octets, fewer than the region"
    )]
    ShortFile {
        /// Guest physical address.
        guest: u64,
        /// Length of the file in octets.
        len: u64,
    },
    /// The file is not mappable, or there is no memory.
    #[error(
        "cannot map the memory region at guest address {guest:#x}: {source}; share the guest's memory (share=on)"
    )]
    Map {
        /// Guest physical address.
        guest: u64,
        /// What mmap said.
        source: vm_memory::mmap::MmapRegionError,
    },
}

struct Mapping {
    // First, so that the range is no longer guarded when it is unmapped.
    guard: sigbus::Guard,
    region: MmapRegion,
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("len", &self.region.size())
            .finish()
    }
}

impl Region {
    /// Maps a region of `file`.
    pub fn map(spec: RegionSpec, file: File) -> Result<Region, MemoryError> {
        let bad = MemoryError::BadRange {
            guest: spec.guest,
            size: spec.size,
        };
        let size = usize::try_from(spec.size).ok().filter(|size| *size > 0);
        let ends = [spec.guest, spec.user, spec.file_offset].map(|start| start.checked_add(spec.size));
        let (Some(size), true) = (size, ends.iter().all(Option::is_some)) else {
            return Err(bad);
        };
        check_length(&file, &spec)?;
        let region = MmapRegionBuilder::new(size)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file, spec.file_offset))
            .build()
            .map_err(|source| MemoryError::Map {
                guest: spec.guest,
                source,
            })?;
        let host = region.as_ptr() as usize;
        let guard = sigbus::Guard::new(host, size).ok_or(MemoryError::Unguarded(spec.guest))?;
        Ok(Region {
            spec,
            host,
            mapping: std::sync::Arc::new(Mapping { guard, region }),
        })
    }

    /// Where it is mapped.
    pub fn host(&self) -> usize {
        self.host
    }

    /// The file that it is a part of.
    pub fn file(&self) -> Option<&File> {
        self.mapping.region.file_offset().map(FileOffset::file)
    }

    fn contains(&self, start: u64, address: u64) -> bool {
        address >= start && address - start < self.spec.size
    }
}

/// Refuses a regular file that is shorter than its region: touching what is missing would raise SIGBUS.
fn check_length(file: &File, spec: &RegionSpec) -> Result<(), MemoryError> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.len() < spec.file_offset + spec.size => {
            Err(MemoryError::ShortFile {
                guest: spec.guest,
                len: metadata.len(),
            })
        }
        _ => Ok(()),
    }
}

impl GuestMemory {
    /// A table of regions that do not overlap.
    pub fn new(mut regions: Vec<Region>) -> Result<GuestMemory, MemoryError> {
        if regions.len() > MAX_REGIONS {
            return Err(MemoryError::TooMany);
        }
        let sizes = regions.iter().map(|region| region.spec.size);
        if sizes.fold(0, u64::saturating_add) > MAX_OCTETS {
            return Err(MemoryError::TooLarge);
        }
        for address in [|spec: &RegionSpec| spec.user, |spec: &RegionSpec| spec.guest] {
            regions.sort_by_key(|region| address(&region.spec));
            for pair in regions.windows(2) {
                if address(&pair[0].spec) + pair[0].spec.size > address(&pair[1].spec) {
                    return Err(MemoryError::Overlap(pair[1].spec.guest));
                }
            }
        }
        Ok(GuestMemory { regions })
    }

    /// This table with one more region.
    pub fn with(&self, region: Region) -> Result<GuestMemory, MemoryError> {
        let mut regions = self.regions.clone();
        regions.push(region);
        GuestMemory::new(regions)
    }

    /// This table without the region at these addresses (vhost-user: `REM_MEM_REG` matches guest address, user address
    /// and size; the file offset is not compared).
    pub fn without(&self, spec: &RegionSpec) -> Result<GuestMemory, MemoryError> {
        let same = |region: &Region| {
            (region.spec.guest, region.spec.user, region.spec.size) == (spec.guest, spec.user, spec.size)
        };
        let mut regions = self.regions.clone();
        let index = regions
            .iter()
            .position(same)
            .ok_or(MemoryError::NotFound(spec.guest))?;
        regions.remove(index);
        Ok(GuestMemory { regions })
    }

    /// The regions, by guest address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Whether the front end took back memory that it had shared (its file was truncated under the mapping).
    pub fn is_lost(&self) -> bool {
        self.regions.iter().any(|region| region.mapping.guard.is_hit())
    }

    /// The host address of a front-end address, if `len` octets from there lie in one region.
    pub fn translate_user(&self, user: u64, len: u64) -> Option<*mut u8> {
        let region = self
            .regions
            .iter()
            .find(|region| region.contains(region.spec.user, user))?;
        let offset = user - region.spec.user;
        (len <= region.spec.size - offset).then_some((region.host + offset as usize) as *mut u8)
    }

    /// The guest address of a front-end address.
    pub fn guest_of_user(&self, user: u64) -> Option<u64> {
        let region = self
            .regions
            .iter()
            .find(|region| region.contains(region.spec.user, user))?;
        Some(region.spec.guest + (user - region.spec.user))
    }

    /// A run of host memory at a guest address: its start and how many octets follow in the same region.
    #[inline]
    pub fn run_at(&self, guest: u64, cache: &mut RegionCache) -> Option<(*mut u8, u64)> {
        if guest.wrapping_sub(cache.guest) < cache.size {
            let offset = guest - cache.guest;
            return Some(((cache.host + offset as usize) as *mut u8, cache.size - offset));
        }
        let region = self
            .regions
            .iter()
            .find(|region| region.contains(region.spec.guest, guest))?;
        *cache = RegionCache {
            guest: region.spec.guest,
            size: region.spec.size,
            host: region.host,
        };
        let offset = guest - cache.guest;
        Some(((cache.host + offset as usize) as *mut u8, cache.size - offset))
    }
}

/// The region that the last look-up found. Belongs to one [`GuestMemory`]; make a new one with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionCache {
    guest: u64,
    size: u64,
    host: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_file(len: u64) -> File {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(len).unwrap();
        file
    }

    fn spec(guest: u64, user: u64, size: u64) -> RegionSpec {
        RegionSpec {
            guest,
            size,
            user,
            file_offset: 0,
        }
    }

    #[test]
    fn addresses_translate_only_inside_a_region() {
        let a = Region::map(spec(0, 0x10_0000, 0x2000), memory_file(0x2000)).unwrap();
        let b = Region::map(spec(0x2000, 0x50_0000, 0x1000), memory_file(0x1000)).unwrap();
        let memory = GuestMemory::new(vec![b, a]).unwrap();
        let mut cache = RegionCache::default();
        let (first, left) = memory.run_at(0x1fff, &mut cache).unwrap();
        assert_eq!(left, 1);
        assert_eq!(memory.translate_user(0x10_1fff, 1), Some(first));
        assert_eq!(memory.translate_user(0x10_1fff, 2), None);
        assert_eq!(memory.run_at(0x2000, &mut cache).unwrap().1, 0x1000);
        assert!(memory.run_at(0x3000, &mut cache).is_none());
        assert_eq!(memory.guest_of_user(0x50_0010), Some(0x2010));
    }

    #[test]
    fn bad_regions_are_refused() {
        let refused = |spec, len| Region::map(spec, memory_file(len)).unwrap_err();
        assert!(matches!(
            refused(spec(u64::MAX, 0, 0x1000), 0x1000),
            MemoryError::BadRange { .. }
        ));
        assert!(matches!(
            refused(spec(0, 0, 0), 0x1000),
            MemoryError::BadRange { .. }
        ));
        assert!(matches!(
            refused(spec(0, 0, 0x2000), 0x1000),
            MemoryError::ShortFile { .. }
        ));
        let region = |guest, user| Region::map(spec(guest, user, 0x1000), memory_file(0x1000)).unwrap();
        let overlap = |regions| matches!(GuestMemory::new(regions), Err(MemoryError::Overlap(_)));
        assert!(overlap(vec![region(0, 0), region(0xfff, 0x10_0000)]));
        assert!(overlap(vec![region(0, 0), region(0x1000, 0xfff)]));
    }

    #[test]
    fn removal_matches_addresses_not_offsets() {
        let memory = GuestMemory::new(vec![
            Region::map(spec(0, 0x1000, 0x1000), memory_file(0x1000)).unwrap(),
        ])
        .unwrap();
        let wanted = RegionSpec {
            file_offset: 77,
            ..spec(0, 0x1000, 0x1000)
        };
        assert!(memory.without(&spec(0, 0x1000, 0x2000)).is_err());
        assert!(memory.without(&wanted).unwrap().regions().is_empty());
    }

    #[test]
    fn memory_that_is_taken_back_reads_as_zero_and_is_reported() {
        sigbus::install().unwrap();
        let file = memory_file(0x2000);
        let region = Region::map(spec(0, 0, 0x2000), file.try_clone().unwrap()).unwrap();
        let memory = GuestMemory::new(vec![region]).unwrap();
        let (ptr, _) = memory.run_at(0x1000, &mut RegionCache::default()).unwrap();
        assert!(!memory.is_lost());
        file.set_len(0).unwrap();
        // SAFETY: the octet is mapped; the missing page behind it is what the handler is for.
        assert_eq!(unsafe { ptr.read_volatile() }, 0);
        assert!(memory.is_lost());
    }
}
