//! A device's registers, mapped.

use std::os::fd::BorrowedFd;

use super::dma::Plain;
use crate::nic::mapping::Mapping;

/// A run of a device's registers, reached by volatile access of one instruction each, from any thread. A device that is
/// gone answers with all ones.
#[derive(Debug)]
pub struct Registers {
    mapping: Mapping,
    start: usize,
    len: usize,
}

impl Registers {
    /// Maps `len` octets from `offset` on in a file.
    pub(super) fn map(fd: BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<Registers> {
        const PAGE: u64 = 4096;
        let start = (offset % PAGE) as usize;
        let mapping_len = (start + len).next_multiple_of(PAGE as usize);
        let from = i64::try_from(offset - start as u64)
            .map_err(|_| std::io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        Ok(Registers {
            mapping: Mapping::shared(fd, from, mapping_len, 0)?,
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
        Registers::map(std::os::fd::AsFd::as_fd(&file), 0, len).expect("memory can be mapped")
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
        unsafe { self.mapping.start().add(self.start + offset).cast() }
    }
}
