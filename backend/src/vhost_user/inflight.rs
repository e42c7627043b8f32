//! What messages about the inflight buffer do: the books of the rings that the front end keeps for us. // U16

use std::sync::Arc;

use devices::guest::NetFeatures;
use devices::ring::{InflightBuffer, InflightError, InflightLayout};

use super::message::{InflightSpec, Message, Reply, Violation};
use super::session::Session;

impl Session {
    /// Makes a buffer, which counts only once the front end gives it back.
    pub(super) fn get_inflight_fd(&self, message: &Message) -> Result<Option<Reply>, Violation> {
        let wanted = message.inflight()?;
        let layout = self.inflight_layout(message, &wanted)?;
        let file = layout.create().map_err(refused(message))?;
        let spec = InflightSpec {
            size: layout.len(),
            offset: 0,
            ..wanted
        };
        Ok(Some(Reply {
            fd: Some(file),
            ..message.reply(&spec.payload(message.payload.len()))
        }))
    }

    /// Takes a buffer for the rings that start from now on.
    pub(super) fn set_inflight_fd(&mut self, message: &mut Message) -> Result<(), Violation> {
        let spec = message.inflight()?;
        let file = message.one_fd()?;
        let layout = self.inflight_layout(message, &spec)?;
        let buffer = InflightBuffer::map(file, spec.offset, spec.size, layout).map_err(refused(message))?;
        self.inflight = Some(Arc::new(buffer));
        Ok(())
    }

    /// Says in the books of a ring that it was stopped in order, so that it starts where the front end wants it to.
    pub(super) fn retire(&self, ring: usize) {
        if let Some(inflight) = &self.inflight {
            inflight.retire(ring);
        }
    }

    fn inflight_layout(&self, message: &Message, spec: &InflightSpec) -> Result<InflightLayout, Violation> {
        if usize::from(spec.queues) > self.vrings.len() {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(spec.queues),
            });
        }
        Ok(InflightLayout {
            queues: spec.queues,
            queue_size: spec.queue_size,
            packed: NetFeatures(self.features.unwrap_or(0)).packed(),
        })
    }
}

fn refused(message: &Message) -> impl FnOnce(InflightError) -> Violation {
    let request = message.request;
    move |error| Violation::Descriptor {
        request,
        error: Box::new(error),
    }
}
