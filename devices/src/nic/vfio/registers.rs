//! A device's registers, mapped.

use std::os::fd::RawFd;
use std::ptr::NonNull;

use super::dma::Plain;

/// A run of a device's registers. A device that is gone answers with all ones.
#[derive(Debug)]
pub struct Registers {
    mapping: NonNull<u8>,
    mapping_len: usize,
    start: usize,
    len: usize,
}

// SAFETY: registers are reached by volatile access of one instruction each, from any thread.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

impl Registers {
    /// Maps `len` octets from `offset` on in a file.
    pub(super) fn map(fd: RawFd, offset: u64, len: usize) -> std::io::Result<Registers> {
        const PAGE: u64 = 4096;
        let start = (offset % PAGE) as usize;
        let mapping_len = (start + len).next_multiple_of(PAGE as usize);
        let from = i64::try_from(offset - start as u64)
            .map_err(|_| std::io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapping_len,
                protection,
                libc::MAP_SHARED,
                fd,
                from,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Registers {
            mapping: NonNull::new(mapping.cast())
                .ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOMEM))?,
            mapping_len,
            start,
            len,
        })
    }

    /// Plain memory in the place of registers.
    #[cfg(test)]
    pub fn in_memory(len: usize) -> Registers {
        // SAFETY: plain system calls; the name ends with a zero.
        let file = unsafe {
            let fd = libc::memfd_create(c"registers".as_ptr(), libc::MFD_CLOEXEC);
            <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        file.set_len(len as u64).expect("memory can be had");
        Registers::map(std::os::fd::AsRawFd::as_raw_fd(&file), 0, len).expect("memory can be mapped")
    }

    /// Reads a register, at a multiple of its length.
    ///
    /// # Panics
    /// If it lies outside: registers are constants of a driver's, which says at mapping how far they reach.
    #[inline]
    pub fn read<T: Plain>(&self, offset: usize) -> T {
        // SAFETY: the register lies in the mapping and is aligned; all octets make a value of such a type.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes a register.
    ///
    /// # Panics
    /// As [`Registers::read`].
    #[inline]
    pub fn write<T: Plain>(&self, offset: usize, value: T) {
        // SAFETY: as above.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }

    /// Length in octets.
    pub fn octets(&self) -> usize {
        self.len
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset <= self.len && size_of::<T>() <= self.len - offset,
            "inside of the registers"
        );
        // SAFETY: the place lies in the mapping.
        unsafe { self.mapping.as_ptr().add(self.start + offset).cast() }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: nobody else has a pointer into the mapping.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapping_len) };
    }
}
