//! For processors that there is no compiler for: nothing is ever compiled.

use super::{CompileError, Maps};
use crate::code::Code;
use crate::helper::Helper;
use crate::machine::{Machine, Stopped};

/// Machine code, of which there is none.
#[derive(Debug)]
pub enum Compiled {}

/// Why machine code is not safe.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {}

/// Does nothing: only compiled code makes stray accesses.
pub fn install_fault_handler() {}

impl Compiled {
    pub(super) fn new(
        _code: &Code,
        _maps: &dyn Maps,
        _helpers: fn(u32) -> Option<&'static Helper>,
    ) -> Result<Compiled, CompileError> {
        Err(CompileError::Unsupported)
    }

    pub(crate) fn call(
        &self,
        _machine: &mut Machine,
        _function: usize,
        _arguments: [u64; 5],
        _frame: u32,
    ) -> Result<u64, Stopped> {
        match *self {}
    }

    /// The machine code.
    pub fn machine_code(&self) -> &[u8] {
        match *self {}
    }

    /// The instruction whose machine code is at an offset.
    pub fn instruction_at(&self, _native_offset: usize) -> Option<usize> {
        match *self {}
    }

    /// The machine code for people.
    pub fn disassemble(&self) -> Vec<(usize, String)> {
        match *self {}
    }
}
