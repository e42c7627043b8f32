//! The packed virtqueue (virtio 1.3, 2.8), device side, completing strictly in order.

use std::sync::Arc;

use super::{Chain, ChainId, RingConfig, RingError, Run};
use crate::memory::{DirtyLog, GuestMemory};

/// A started packed virtqueue.
#[derive(Debug)]
pub struct PackedRing {
    memory: Arc<GuestMemory>,
    log: Option<Arc<DirtyLog>>,
}

/// A place in a ring, see [`PackedRing::mark`].
#[derive(Debug, Clone, Copy)]
pub struct PackedMark {}

impl PackedRing {
    pub fn start(
        config: &RingConfig,
        memory: Arc<GuestMemory>,
        log: Option<Arc<DirtyLog>>,
    ) -> Result<PackedRing, RingError> {
        let _ = (memory, log);
        Err(RingError::BadSize(config.size))
    }
    pub fn position(&self) -> u32 {
        0
    }
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }
    pub fn log(&self) -> Option<&Arc<DirtyLog>> {
        self.log.as_ref()
    }
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.log = log;
    }
    pub fn ever_filled(&self) -> bool {
        false
    }
    pub fn prepare(&mut self) -> Result<usize, RingError> {
        Ok(0)
    }
    pub fn peek_run(&self) -> Option<Run> {
        None
    }
    pub fn take_run(&mut self) {}
    pub fn take(&mut self, _chain: &mut Chain) -> Result<bool, RingError> {
        Ok(false)
    }
    pub fn mark(&self) -> PackedMark {
        PackedMark {}
    }
    pub fn rewind(&mut self, _mark: PackedMark) {}
    pub fn complete(&mut self, _chain: ChainId, _len: u32) {}
    pub fn publish(&mut self) -> bool {
        false
    }
    pub fn suppress_kicks(&mut self) {}
    pub fn request_kicks(&mut self) -> bool {
        false
    }
}
