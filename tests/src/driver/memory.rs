//! The memory of a guest in this process: shared files, several regions with gaps, guest addresses unlike our own.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::Ordering;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    AtomicAccess, Bytes, FileOffset, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// The region that rings are in.
pub const RINGS: usize = 0;
/// The region that most buffers are in. Its successor follows without a gap, in another file.
pub const BUFFERS: usize = 1;

const MIB: u64 = 1 << 20;
/// Guest address and size of each region: two beside each other, gaps around them.
const REGIONS: [(u64, u64); 4] = [
    (MIB, 4 * MIB),
    (0x1000_0000, 64 * MIB),
    (0x1000_0000 + 64 * MIB, 64 * MIB),
    (0x1_0000_0000, 16 * MIB),
];
/// Where in its file a region starts.
const FILE_OFFSET: u64 = 0x3000;

/// How one region is told to the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedRegion {
    /// Guest address.
    pub guest: u64,
    /// In octets.
    pub size: u64,
    /// Address in this process.
    pub user: u64,
    /// Where it starts in the file.
    pub file_offset: u64,
    /// The file.
    pub fd: i32,
}

/// A guest's memory.
#[derive(Debug)]
pub struct Memory {
    map: GuestMemoryMmap,
    regions: Vec<SharedRegion>,
    files: Vec<File>,
    /// Octets handed out of each region.
    used: Vec<u64>,
}

impl Memory {
    /// Memory whose guest addresses are unlike the addresses in this process.
    pub fn new() -> io::Result<Memory> {
        Memory::lay_out(|index, _| REGIONS[index].0)
    }

    /// Memory whose guest addresses are the addresses in this process, as in DPDK's virtio-user.
    pub fn identical() -> io::Result<Memory> {
        Memory::lay_out(|_, user| user)
    }

    fn lay_out(guest_address: impl Fn(usize, u64) -> u64) -> io::Result<Memory> {
        let (mut mapped, mut regions, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (_, size)) in REGIONS.into_iter().enumerate() {
            let file = memory_file(FILE_OFFSET + size)?;
            let region: vm_memory::MmapRegion = MmapRegionBuilder::new(size as usize)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
                .with_file_offset(FileOffset::new(file.try_clone()?, FILE_OFFSET))
                .build()
                .map_err(io::Error::other)?;
            let user = region.as_ptr() as u64;
            let guest = guest_address(index, user);
            regions.push(SharedRegion {
                guest,
                size,
                user,
                file_offset: FILE_OFFSET,
                fd: file.as_raw_fd(),
            });
            files.push(file);
            let whole = GuestRegionMmap::new(region, GuestAddress(guest));
            mapped.push(whole.ok_or_else(|| io::Error::other("a region wraps around"))?);
        }
        mapped.sort_by_key(|region| region.start_addr());
        Ok(Memory {
            map: GuestMemoryMmap::from_regions(mapped).map_err(io::Error::other)?,
            used: vec![0; regions.len()],
            regions,
            files,
        })
    }

    /// How it is told to the back end.
    pub fn regions(&self) -> &[SharedRegion] {
        &self.regions
    }

    /// The file behind a region.
    pub fn file(&self, region: usize) -> &File {
        &self.files[region]
    }

    /// Hands out memory of a region.
    ///
    /// # Panics
    /// If there is not enough left.
    pub fn allocate(&mut self, region: usize, len: u64, align: u64) -> u64 {
        let start = self.used[region].next_multiple_of(align);
        assert!(
            start + len <= self.regions[region].size,
            "region {region} of the guest is full"
        );
        self.used[region] = start + len;
        self.regions[region].guest + start
    }

    /// The address in this process.
    ///
    /// # Panics
    /// If no region has the address.
    pub fn user(&self, guest: u64) -> u64 {
        let region = self
            .regions
            .iter()
            .find(|region| (region.guest..region.guest + region.size).contains(&guest))
            .expect("an address inside the guest's memory");
        region.user + (guest - region.guest)
    }

    /// Writes octets, also across adjacent regions.
    pub fn write(&self, guest: u64, octets: &[u8]) {
        self.map
            .write_slice(octets, GuestAddress(guest))
            .expect("an address inside the guest's memory");
    }

    /// Reads octets, also across adjacent regions.
    pub fn read(&self, guest: u64, octets: &mut [u8]) {
        self.map
            .read_slice(octets, GuestAddress(guest))
            .expect("an address inside the guest's memory");
    }

    /// Stores a field that the device looks at, after everything before.
    pub fn store<T: AtomicAccess>(&self, guest: u64, value: T) {
        self.map
            .store(value, GuestAddress(guest), Ordering::SeqCst)
            .expect("an aligned address inside the guest's memory");
    }

    /// Loads a field that the device writes, before everything after.
    pub fn load<T: AtomicAccess>(&self, guest: u64) -> T {
        self.map
            .load(GuestAddress(guest), Ordering::SeqCst)
            .expect("an aligned address inside the guest's memory")
    }
}

/// A file in memory that can be shared.
pub fn memory_file(len: u64) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor that is made is ours.
    let file = unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(len)?;
    Ok(file)
}
