//! A guest's memory in memfds: as the device maps it, and as the driver sees it.

use std::fs::File;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::memory::{GuestMemory, Region, RegionSpec};
use devices::ring::Buffer;
use vm_memory::{AtomicAccess, ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

/// What surrounds every region in its file: nobody may touch it.
pub const GUARD: u8 = 0xee;
const PAGE: u64 = 4096;

/// Regions with gaps, odd ends and a seam: the first two are neighbours for the guest, but not for the host.
pub const PATCHWORK: &[(u64, u64)] = &[
    (0, SEAM),
    (SEAM, 0x2_0000 - SEAM),
    (0x10_0000, 0x20_0123),
    (0x1_0000_0000, 0x1_0010),
];
/// Where buffers of [`PATCHWORK`] may cross from one region to the next.
pub const SEAM: u64 = 0x1_8003;

/// The memory of one guest.
pub struct Ram {
    regions: Vec<(RegionSpec, File)>,
    view: GuestMemoryMmap,
    device: Arc<GuestMemory>,
}

/// What the memory held at one time.
pub type Snapshot = Vec<(u64, Vec<u8>)>;

impl Ram {
    /// Regions at these guest addresses with these lengths, in ascending order.
    pub fn new(ranges: &[(u64, u64)]) -> Arc<Ram> {
        let regions: Vec<_> = ranges.iter().enumerate().map(region).collect();
        let mapped =
            |(spec, file): &(RegionSpec, File)| Region::map(*spec, file.try_clone().unwrap()).unwrap();
        let viewed = |(spec, file): &(RegionSpec, File)| {
            let file = FileOffset::new(file.try_clone().unwrap(), spec.file_offset);
            (GuestAddress(spec.guest), spec.size as usize, Some(file))
        };
        Arc::new(Ram {
            device: Arc::new(GuestMemory::new(regions.iter().map(mapped).collect()).unwrap()),
            view: GuestMemoryMmap::from_ranges_with_files(regions.iter().map(viewed)).unwrap(),
            regions,
        })
    }

    /// The regions as the front end describes them.
    pub fn specs(&self) -> impl Iterator<Item = &RegionSpec> {
        self.regions.iter().map(|(spec, _)| spec)
    }

    /// The device's mapping.
    pub fn device(&self) -> Arc<GuestMemory> {
        self.device.clone()
    }

    /// A copy that shares nothing with this memory, for another implementation to work on.
    pub fn copy(&self) -> GuestMemoryMmap {
        let ranges: Vec<_> = self
            .regions
            .iter()
            .map(|(spec, _)| (GuestAddress(spec.guest), spec.size as usize))
            .collect();
        let copy = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        for (start, octets) in self.snapshot() {
            copy.write_slice(&octets, GuestAddress(start)).unwrap();
        }
        copy
    }

    /// The front end's address of a guest address; the same number, where nothing is, if it is not in memory.
    pub fn user(&self, guest: u64) -> u64 {
        self.regions
            .iter()
            .find(|(spec, _)| guest.wrapping_sub(spec.guest) < spec.size)
            .map_or(guest, |(spec, _)| spec.user + (guest - spec.guest))
    }

    pub fn read<T: ByteValued>(&self, at: u64) -> T {
        self.view.read_obj(GuestAddress(at)).unwrap()
    }

    pub fn write<T: ByteValued>(&self, at: u64, value: T) {
        self.view.write_obj(value, GuestAddress(at)).unwrap();
    }

    pub fn load<T: AtomicAccess>(&self, at: u64) -> T {
        self.view.load(GuestAddress(at), Ordering::SeqCst).unwrap()
    }

    pub fn store<T: AtomicAccess>(&self, at: u64, value: T) {
        self.view
            .store(value, GuestAddress(at), Ordering::SeqCst)
            .unwrap();
    }

    pub fn octets(&self, at: u64, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        self.view.read_slice(&mut octets, GuestAddress(at)).unwrap();
        octets
    }

    pub fn put(&self, at: u64, octets: &[u8]) {
        self.view.write_slice(octets, GuestAddress(at)).unwrap();
    }

    /// Everything that the memory holds.
    pub fn snapshot(&self) -> Snapshot {
        let whole =
            |(spec, _): &(RegionSpec, File)| (spec.guest, self.octets(spec.guest, spec.size as usize));
        self.regions.iter().map(whole).collect()
    }

    /// The runs of octets that changed since, which are all that changed.
    pub fn changes_since(&self, before: &Snapshot) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = vec![];
        for ((start, now), (_, then)) in self.snapshot().iter().zip(before) {
            if now == then {
                continue;
            }
            let differ = now
                .iter()
                .zip(then)
                .enumerate()
                .filter(|(_, (now, then))| now != then);
            for at in differ.map(|(offset, _)| start + offset as u64) {
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end += 1,
                    _ => runs.push(at..at + 1),
                }
            }
        }
        runs
    }

    /// Panics if anything outside of `allowed` changed since, or anything around the regions ever did.
    pub fn assert_kept(&self, before: &Snapshot, allowed: &[Range<u64>]) {
        for run in self.changes_since(before) {
            let is_allowed = |at| allowed.iter().any(|range| range.contains(&at));
            assert!(
                run.clone().all(is_allowed),
                "{run:#x?} changed, beyond {allowed:#x?}"
            );
        }
        self.assert_guards();
    }

    /// Panics if anybody wrote around a region.
    pub fn assert_guards(&self) {
        for (spec, file) in &self.regions {
            let end = PAGE + spec.size;
            let guards = [0..PAGE, end..file.metadata().unwrap().len()];
            for guard in guards {
                let mut octets = vec![0; (guard.end - guard.start) as usize];
                file.read_exact_at(&mut octets, guard.start).unwrap();
                assert!(
                    octets.iter().all(|octet| *octet == GUARD),
                    "around {:#x}",
                    spec.guest
                );
            }
        }
    }

    /// Pages that anybody read or wrote: a page of a memfd comes to be when it is first touched.
    pub fn touched_pages(&self) -> u64 {
        let blocks = |(_, file): &(RegionSpec, File)| file.metadata().unwrap().blocks();
        self.regions.iter().map(blocks).sum::<u64>() * 512 / PAGE
    }
}

/// A region of a file of its own, between guards. The front end's addresses go the other way than the guest's.
fn region((number, (guest, size)): (usize, &(u64, u64))) -> (RegionSpec, File) {
    let spec = RegionSpec {
        guest: *guest,
        size: *size,
        user: 0x7f00_0000_0000 - number as u64 * 0x10_0000_0000,
        file_offset: PAGE,
    };
    let file = memfd();
    let end = (PAGE + size).next_multiple_of(PAGE) + PAGE;
    file.set_len(end).unwrap();
    for guard in [0..PAGE, PAGE + size..end] {
        let octets = vec![GUARD; (guard.end - guard.start) as usize];
        file.write_all_at(&octets, guard.start).unwrap();
    }
    (spec, file)
}

fn memfd() -> File {
    // SAFETY: the name is a string that ends with a zero; the descriptor that comes back is nobody else's.
    unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

/// What buffers hold, read as the device reads them.
pub fn contents(buffers: &[Buffer]) -> Vec<u8> {
    let mut octets = vec![];
    for buffer in buffers {
        // SAFETY: the ring that the chain was taken from keeps the buffer mapped, and the suite keeps the ring.
        octets.extend((0..buffer.len).map(|offset| unsafe { buffer.ptr.add(offset).read_volatile() }));
    }
    octets
}
