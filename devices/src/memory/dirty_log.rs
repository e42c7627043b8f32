//! The log of guest pages that the back end has written to, for live migration.

use std::fs::File;
use std::sync::atomic::{AtomicU8, Ordering};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion};

use super::sigbus;

const PAGE: u64 = 4096;
/// The longest log: enough for every address that a processor has.
const MAX_OCTETS: u64 = 1 << 36;

/// A bitmap shared with the front end: bit `page % 8` of octet `page / 8` (vhost-user: Migration).
pub struct DirtyLog {
    // First, so that the range is no longer guarded when it is unmapped.
    _guard: sigbus::Guard,
    region: MmapRegion,
}

/// A log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirtyLogError {
    /// Longer than any log is.
    #[error("a dirty log of {0} octets")]
    TooLong(u64),
    /// The file is not mappable.
    #[error("cannot map the dirty log: {0}")]
    Map(#[from] vm_memory::mmap::MmapRegionError),
    /// The daemon maps more than it can guard against its loss.
    #[error("cannot guard the dirty log: all guests together have too many regions")]
    Unguarded,
}

impl std::fmt::Debug for DirtyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirtyLog")
            .field("octets", &self.region.size())
            .finish()
    }
}

impl DirtyLog {
    /// Maps `size` octets of `file` from `offset` on.
    pub fn map(file: File, offset: u64, size: u64) -> Result<DirtyLog, DirtyLogError> {
        if size > MAX_OCTETS {
            return Err(DirtyLogError::TooLong(size));
        }
        let size = size as usize;
        let region = MmapRegionBuilder::new(size)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file, offset))
            .build()?;
        let guard = sigbus::Guard::new(region.as_ptr() as usize, size).ok_or(DirtyLogError::Unguarded)?;
        Ok(DirtyLog {
            _guard: guard,
            region,
        })
    }

    /// Marks `len` octets from a guest address as written. Pages beyond the log are not marked.
    pub fn mark(&self, guest: u64, len: u64) {
        if len == 0 {
            return;
        }
        let last = guest.saturating_add(len - 1) / PAGE;
        for page in guest / PAGE..=last {
            let Some(octet) = usize::try_from(page / 8)
                .ok()
                .filter(|octet| *octet < self.region.size())
            else {
                return;
            };
            // SAFETY: `octet` lies in the mapping, which lives as long as `self`; the front end shares it and uses
            // atomic accesses too.
            let bits = unsafe { AtomicU8::from_ptr(self.region.as_ptr().add(octet)) };
            bits.fetch_or(1 << (page % 8), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn every_touched_page_is_marked_and_none_beyond_the_log() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(4096).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap(), 0, 2).unwrap();
        log.mark(4095, 2);
        log.mark(9 * PAGE, 0);
        log.mark(15 * PAGE, 1 << 40);
        log.mark(u64::MAX, 8);
        let mut bits = [0; 3];
        file.read_exact_at(&mut bits, 0).unwrap();
        assert_eq!(bits, [0b11, 0x80, 0]);
    }
}
