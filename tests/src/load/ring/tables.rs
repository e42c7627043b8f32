//! Indirect tables of a transmit ring: the header in one descriptor, the frame in the next, as guests have them.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::super::memory::{Area, Memory};
use crate::load::frame::HEADER;

/// Octets of a table.
pub const TABLE: u32 = 32;
/// Split ring: there is a next one.
const NEXT: u16 = 1;

/// One table for each buffer.
#[derive(Debug)]
pub struct Tables {
    area: Area,
    /// Whether the tables are those of a split ring (virtio 1.3, 2.7.5.3), or of a packed one (2.8.8).
    split: bool,
}

impl Tables {
    /// Octets of memory.
    pub fn octets(size: u16) -> usize {
        TABLE as usize * usize::from(size)
    }

    /// Lays the tables of a ring out.
    pub fn new(memory: &mut Memory, size: u16, split: bool) -> io::Result<Tables> {
        let area = memory.area(Tables::octets(size))?;
        Ok(Tables { area, split })
    }

    /// Writes a buffer's table and gives its guest address.
    #[inline]
    pub fn write(&self, id: u16, guest: u64, len: u32) -> u64 {
        let at = TABLE as usize * usize::from(id);
        let header = HEADER as u32;
        let parts = [(guest, header), (guest + u64::from(header), len - header)];
        for (position, (address, len)) in parts.into_iter().enumerate() {
            let at = at + 16 * position;
            // In a packed table neither id nor NEXT means anything.
            let chained = self.split && position == 0;
            let (flags, next) = if chained { (NEXT, 1) } else { (0, 0) };
            let (first, second) = if self.split { (flags, next) } else { (0, flags) };
            self.area.u64(at).store(address, Relaxed);
            self.area.u32(at + 8).store(len, Relaxed);
            self.area.u16(at + 12).store(first, Relaxed);
            self.area.u16(at + 14).store(second, Relaxed);
        }
        self.area.guest(at)
    }
}
