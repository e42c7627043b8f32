//! What messages about the guest's memory do: the memory table and the dirty log.

use std::fs::File;
use std::sync::Arc;

use devices::memory::{DirtyLog, GuestMemory, Region, RegionSpec};
use vhost::vhost_user::{VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures as Transport};

use super::message::{Message, Reply, Violation};
use super::session::{Host, Session};

/// vhost-user: the regions that SET_MEM_TABLE may have.
const TABLE_REGIONS: usize = 8;

impl Session {
    pub(super) fn set_mem_table(
        &mut self,
        message: &mut Message,
        host: &mut dyn Host,
    ) -> Result<(), Violation> {
        let specs = message.regions()?;
        let fds = std::mem::take(&mut message.fds);
        if specs.len() != fds.len() || specs.is_empty() || specs.len() > TABLE_REGIONS {
            return Err(Violation::BadFds {
                request: message.request,
                count: fds.len(),
            });
        }
        let map = |(spec, fd): (RegionSpec, File)| Region::map(spec, fd);
        let regions = specs.into_iter().zip(fds).map(map).collect::<Result<_, _>>()?;
        self.change_memory(GuestMemory::new(regions)?, host)
    }

    pub(super) fn add_mem_reg(
        &mut self,
        message: &mut Message,
        host: &mut dyn Host,
    ) -> Result<(), Violation> {
        let spec = message.single_region()?;
        let memory = self.memory.with(Region::map(spec, message.one_fd()?)?)?;
        self.change_memory(memory, host)
    }

    // U10: a descriptor that came along by mistake is closed with the message.
    pub(super) fn rem_mem_reg(&mut self, message: &Message, host: &mut dyn Host) -> Result<(), Violation> {
        let memory = self.memory.without(&message.single_region()?)?;
        self.change_memory(memory, host)
    }

    /// Puts a new memory table in place, under running rings too: their addresses are looked up anew. // U5
    pub(super) fn change_memory(
        &mut self,
        memory: GuestMemory,
        host: &mut dyn Host,
    ) -> Result<(), Violation> {
        self.memory = Arc::new(memory);
        for index in 0..self.vrings.len() {
            self.restart(index, host);
        }
        Ok(())
    }

    // U7
    pub(super) fn set_log_base(
        &mut self,
        message: &mut Message,
        host: &mut dyn Host,
    ) -> Result<Option<Reply>, Violation> {
        let (size, offset) = message.log()?;
        let request = message.request;
        let map = DirtyLog::map(message.one_fd()?, offset, size);
        let log = map.map_err(|error| Violation::Descriptor {
            request,
            error: Box::new(error),
        })?;
        self.log = Some(Arc::new(log));
        for index in 0..self.vrings.len() {
            self.restart(index, host);
        }
        // The specification leaves the payload open: QEMU skips it, rust-vmm's front end waits for the log's description.
        Ok((self.protocol & Protocol::LOG_SHMFD.bits() != 0).then(|| message.reply(&message.payload)))
    }

    pub(super) fn active_log(&self) -> Option<Arc<DirtyLog>> {
        let wanted = self
            .features
            .is_some_and(|features| features & Transport::LOG_ALL.bits() != 0);
        self.log.clone().filter(|_| wanted)
    }
}
