//! What messages about a ring do: its set-up, its start and its stop.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use devices::guest::{NetFeatures, Notifier, check_eventfd};
use devices::ring::{MAX_QUEUE_SIZE, Ring, RingConfig, RingError};
use vhost::vhost_user::message::FrontendReq as Request;

use super::message::{Message, Reply, Violation};
use super::session::{Host, Session};
use super::vring::{Kick, Vring};

const INVALID_RING: u64 = 1 << 8;
const RING_INDEX: u64 = 0xff;

impl Session {
    // virtio 1.3, 2.7 and 2.8.10.1: only a packed ring may have any size.
    pub(super) fn set_vring_num(&mut self, message: &Message) -> Result<(), Violation> {
        let (ring, size) = self.ring_of_state(message)?;
        let any = NetFeatures(self.features.unwrap_or(0)).packed();
        let fits = (1..=u32::from(MAX_QUEUE_SIZE)).contains(&size);
        if !fits || !any && !size.is_power_of_two() {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(size),
            });
        }
        self.vrings[ring].size = size;
        Ok(())
    }

    pub(super) fn set_vring_addr(&mut self, message: &Message, host: &mut dyn Host) -> Result<(), Violation> {
        let addr = message.vring_addr()?;
        let ring = self.check_ring(message.request, addr.index)?;
        self.vrings[ring].addr = Some(addr);
        self.start(ring, host)
    }

    // U4, U8. virtio 1.3, 2.6.1: this is also how a single queue is reset, and nothing of what was said of it stays but
    // that it is enabled (G10 to G12).
    pub(super) fn get_vring_base(
        &mut self,
        message: &Message,
        host: &mut dyn Host,
    ) -> Result<Option<Reply>, Violation> {
        let (ring, _) = self.ring_of_state(message)?;
        let base = self.stop(ring, host);
        self.set_kick(ring, Kick::Unset, host);
        self.vrings[ring] = Vring::default();
        self.retire(ring);
        let mut payload = (ring as u32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&base.to_ne_bytes());
        Ok(Some(message.reply(&payload)))
    }

    pub(super) fn set_vring_kick(
        &mut self,
        message: &mut Message,
        host: &mut dyn Host,
    ) -> Result<(), Violation> {
        let (ring, fd) = self.ring_fd(message)?;
        let request = message.request;
        let kick = match fd {
            None => Kick::Polled,
            Some(fd) => {
                check_eventfd(fd.as_fd()).map_err(|error| Violation::Descriptor {
                    request,
                    error: Box::new(error),
                })?;
                Kick::Eventfd(fd)
            }
        };
        self.set_kick(ring, kick, host);
        self.start(ring, host)
    }

    pub(super) fn set_vring_enable(
        &mut self,
        message: &Message,
        host: &mut dyn Host,
    ) -> Result<(), Violation> {
        let (ring, enable) = self.ring_of_state(message)?;
        if enable > 1 {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(enable),
            });
        }
        self.port.queues()[ring].lock().enabled = enable == 1;
        self.port.count_receiving_pairs();
        host.wake(ring);
        Ok(())
    }

    // U8. A packed ring starts there; a split ring has a better base in its used index, see `SplitRing::start`. A ring
    // that runs does not jump.
    pub(super) fn set_vring_base(&mut self, message: &Message) -> Result<(), Violation> {
        let (ring, base) = self.ring_of_state(message)?;
        self.port.queues()[ring].lock().set_base(base);
        Ok(())
    }

    // U9. What was used before the descriptor came was notified to nobody, and the driver may wait for exactly that:
    // QEMU starts its rings first.
    pub(super) fn set_vring_call(&mut self, message: &mut Message) -> Result<(), Violation> {
        let (ring, call) = self.ring_notifier(message)?;
        let mut queue = self.port.queues()[ring].lock();
        queue.call = call;
        if queue.ring.is_some()
            && let Some(call) = &queue.call
        {
            call.notify();
        }
        Ok(())
    }

    /// Starts a ring if everything it needs is known. One that runs is started anew and goes on from where it is. // U4
    pub(super) fn start(&mut self, index: usize, host: &mut dyn Host) -> Result<(), Violation> {
        if self.memory.regions().is_empty() {
            return Ok(());
        }
        let features = NetFeatures(self.features.unwrap_or(0));
        let log = self.active_log();
        let max_frame = self.max_frame();
        // Under the lock: a ring that runs must not move on between the look at its position and the swap.
        let mut queue = self.port.queues()[index].lock();
        queue.stop();
        let Some(config) = self.vrings[index].config(features) else {
            return Ok(());
        };
        let config = RingConfig {
            only_reads: !is_receive_queue(index),
            base: queue.base,
            base_is_exact: queue.base_is_exact,
            ..config
        };
        queue.features = features;
        queue.max_frame = max_frame;
        queue.polled = matches!(self.vrings[index].kick, Kick::Polled);
        match Ring::start(&config, self.memory.clone(), log) {
            Ok(mut ring) => {
                // Nobody waits for receive buffers: a frame that finds none is dropped.
                if is_receive_queue(index) {
                    ring.suppress_kicks();
                }
                if let Some(inflight) = &self.inflight {
                    ring.track(inflight, index);
                }
                queue.ring = Some(ring);
                queue.broken = None;
                drop(queue);
                self.port.count_receiving_pairs();
                host.wake(index);
                Ok(())
            }
            Err(error) => {
                queue.fail(error);
                Err(Violation::Ring { index, error })
            }
        }
    }

    /// Starts a running ring anew, after something under it has changed. A ring that cannot go on is broken until its
    /// memory is back, which its front end learns on its error descriptor.
    pub(super) fn restart(&mut self, index: usize, host: &mut dyn Host) {
        let mut queue = self.port.queues()[index].lock();
        if self.memory.regions().is_empty() {
            queue.stop();
        }
        // QEMU tells a region that has changed in two steps: without it, and with it again.
        let is_broken = queue
            .broken
            .is_some_and(|error| !matches!(error, RingError::BadAddress(_)));
        drop(queue);
        if !is_broken && let Err(violation) = self.start(index, host) {
            tracing::warn!("a ring stops as the memory under it has changed: {violation}");
        }
    }

    /// Stops a ring and says where it stood.
    pub(super) fn stop(&mut self, index: usize, host: &mut dyn Host) -> u32 {
        let mut queue = self.port.queues()[index].lock();
        queue.stop();
        queue.polled = false;
        queue.broken = None;
        let base = queue.base;
        drop(queue);
        self.port.count_receiving_pairs();
        host.wake(index);
        base
    }

    pub(super) fn set_kick(&mut self, index: usize, mut kick: Kick, host: &mut dyn Host) {
        if let Kick::Eventfd(old) = &self.vrings[index].kick {
            host.unwatch(index, old.as_fd());
        }
        if let Kick::Eventfd(new) = &kick
            && let Err(error) = host.watch(index, new.as_fd())
        {
            tracing::warn!("ring {index}: cannot wait for kicks, polling instead: {error}");
            kick = Kick::Polled;
        }
        self.vrings[index].kick = kick;
    }

    pub(super) fn check_ring(&self, request: Request, index: u32) -> Result<usize, Violation> {
        let rings = self.vrings.len();
        let ring = usize::try_from(index).ok().filter(|ring| *ring < rings);
        ring.ok_or(Violation::BadRing {
            request,
            index,
            rings,
        })
    }

    pub(super) fn ring_of_state(&self, message: &Message) -> Result<(usize, u32), Violation> {
        let (index, value) = message.vring_state()?;
        Ok((self.check_ring(message.request, index)?, value))
    }

    // U9
    pub(super) fn ring_fd(&self, message: &mut Message) -> Result<(usize, Option<File>), Violation> {
        let value = message.u64()?;
        let ring = self.check_ring(message.request, (value & RING_INDEX) as u32)?;
        if value & INVALID_RING != 0 {
            return Ok((ring, None));
        }
        Ok((ring, Some(message.one_fd()?)))
    }

    pub(super) fn ring_notifier(
        &self,
        message: &mut Message,
    ) -> Result<(usize, Option<Notifier>), Violation> {
        let request = message.request;
        let (ring, fd) = self.ring_fd(message)?;
        let notifier = fd.map(|fd| Notifier::new(OwnedFd::from(fd))).transpose();
        Ok((
            ring,
            notifier.map_err(|error| Violation::Descriptor {
                request,
                error: Box::new(error),
            })?,
        ))
    }
}

/// virtio 1.3, 5.1.2: receive and transmit queues take turns.
fn is_receive_queue(index: usize) -> bool {
    index.is_multiple_of(2)
}
