//! Maps.

use crate::memory::View;

/// A map.
#[derive(Debug)]
pub struct Map {
    handle: u16,
}

impl Map {
    /// What programs call it by.
    pub fn handle(&self) -> u16 {
        self.handle
    }
    /// The program at an index of a prog_array.
    pub fn program(&self, _index: u32) -> Option<*const crate::Program> {
        None
    }
    /// Window address of the value.
    pub fn lookup(&self, _view: View, _shard: usize, _key: &[u8]) -> Option<u32> {
        None
    }
}
