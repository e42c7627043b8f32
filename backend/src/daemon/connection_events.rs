//! The life of a front end's connection: it comes, it speaks, it goes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use devices::guest::GuestPort;
use devices::packet::MacAddress;
use netkit::Ifindex;

use super::attachment::{Attachment, VhostUserAttachment};
use super::rarp::announcement;
use super::uplinks::LOOK;
use super::{Daemon, Reactor};
use crate::dataplane::{Token, Workers};
use crate::vhost_user::{Connection, ConnectionError, Endpoint, Host, Session};

/// How often a client socket is tried.
const RETRY: Duration = Duration::from_millis(100);
/// How often an attachment is tried that could not be restored.
const RESTORE_RETRY: Duration = Duration::from_secs(1);
/// Messages of one connection before another has its turn.
const BURST: usize = 32;

impl Daemon {
    /// Takes the front end that is waiting at a device's socket, unless one is connected already; that one's successor
    /// waits in the backlog.
    pub(super) fn try_connect(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        let Some(identity) = self.identity_of(ifindex) else {
            return;
        };
        let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get_mut(&ifindex) else {
            return;
        };
        if vhost_user.link.is_some() {
            return;
        }
        let connection = match vhost_user.endpoint.connect().and_then(Connection::new) {
            Ok(connection) => connection,
            Err(error) => {
                let quiet = [
                    io::ErrorKind::WouldBlock,
                    io::ErrorKind::NotFound,
                    io::ErrorKind::ConnectionRefused,
                ];
                if !quiet.contains(&error.kind()) {
                    tracing::warn!("ifindex {ifindex}: cannot connect its front end: {error}");
                    pause(vhost_user, reactor);
                }
                return;
            }
        };
        tracing::info!("ifindex {ifindex}: a front end is connected");
        if let Some(fd) = vhost_user.endpoint.listener_fd() {
            reactor.forget(fd);
        }
        reactor.converse(connection.as_raw_fd(), ifindex);
        vhost_user.link = Some((connection, Session::new(vhost_user.port.clone(), identity)));
    }

    /// Reads what a front end says, and answers.
    pub(super) fn converse(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        let mut announced = Vec::new();
        let result = self.exchange(ifindex, &mut announced);
        for address in announced {
            self.announce(ifindex, address);
        }
        if let Err(error) = result {
            match error {
                ConnectionError::Closed => tracing::info!("ifindex {ifindex}: {error}"),
                error => tracing::warn!("ifindex {ifindex}: hanging up on its front end: {error}"),
            }
            self.disconnect(ifindex, reactor);
            self.try_connect(ifindex, reactor);
        }
    }

    fn exchange(&mut self, ifindex: Ifindex, announced: &mut Vec<MacAddress>) -> Result<(), ConnectionError> {
        let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get_mut(&ifindex) else {
            return Ok(());
        };
        let Some((connection, session)) = &mut vhost_user.link else {
            return Ok(());
        };
        let mut host = RingHost {
            workers: &mut self.workers,
            port: &vhost_user.port,
            ifindex,
            announced,
        };
        for _ in 0..BURST {
            let Some(message) = connection.receive(Instant::now())? else {
                break;
            };
            tracing::debug!("ifindex {ifindex}: {:?}", message.request);
            if let Some(reply) = session.handle(message, &mut host)? {
                connection.send(&reply)?;
            }
        }
        Ok(())
    }

    /// Ends a connection: its rings are stopped, and the socket takes the next one.
    pub(super) fn disconnect(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get_mut(&ifindex) else {
            return;
        };
        let Some((connection, mut session)) = vhost_user.link.take() else {
            return;
        };
        session.close(&mut RingHost {
            workers: &mut self.workers,
            port: &vhost_user.port,
            ifindex,
            announced: &mut Vec::new(),
        });
        self.workers.release(ifindex);
        reactor.forget(connection.as_raw_fd());
        if let Some(fd) = vhost_user.endpoint.listener_fd() {
            reactor.listen(fd, ifindex);
        }
    }

    /// Broadcasts where a guest is, in its name.
    fn announce(&mut self, ifindex: Ifindex, address: MacAddress) {
        let plan = self.workers.plan().clone();
        if let Some(slot) = plan.view.slot(ifindex) {
            self.forwarder.inject(&plan, slot, &announcement(address));
        }
    }

    /// Hangs up on the front ends that took back memory which they had shared.
    pub(super) fn check_memory(&mut self, reactor: &mut Reactor) {
        for ifindex in self.linked(|(_, session)| session.memory_is_lost()) {
            tracing::warn!("ifindex {ifindex}: its front end truncated the guest's memory; hanging up");
            self.disconnect(ifindex, reactor);
        }
    }

    /// Does what is due by the clock.
    pub(super) fn tick(&mut self, reactor: &mut Reactor) {
        let now = Instant::now();
        for ifindex in self.linked(|(connection, _)| connection.deadline().is_some_and(|at| at <= now)) {
            tracing::warn!(
                "ifindex {ifindex}: hanging up on its front end: {}",
                ConnectionError::Timeout
            );
            self.disconnect(ifindex, reactor);
        }
        for ifindex in self.to_be_tried().collect::<Vec<_>>() {
            self.resume(ifindex, reactor);
            self.try_connect(ifindex, reactor);
        }
        if !self.waiting.is_empty() {
            self.retry_waiting(reactor);
        }
        self.looking.want();
        if self.looking.take(now) {
            self.check_uplinks(reactor);
            self.give_up_waiting();
        }
        self.take_learnt();
        self.follow_changes();
    }

    /// When [`Self::tick`] is to be called next; `None` while there is nothing to wait for.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let now = Instant::now();
        let deadlines = self
            .attachments
            .values()
            .filter_map(|attachment| match attachment {
                Attachment::VhostUser(this) => this
                    .link
                    .as_ref()
                    .and_then(|(connection, _)| connection.deadline()),
                _ => None,
            });
        let looking = self.looking.due().filter(|_| !self.uplinks.is_empty());
        let deadlines = deadlines
            .chain(self.follow_due())
            .chain(self.learning.due())
            .chain(looking);
        let mut next = deadlines.map(|at| at.saturating_duration_since(now)).min();
        let mut at_most = |wait: Duration| next = Some(next.map_or(wait, |next| next.min(wait)));
        if self.to_be_tried().next().is_some() {
            at_most(RETRY);
        }
        if !self.waiting.is_empty() {
            at_most(RESTORE_RETRY);
        }
        if !self.uplinks.is_empty() {
            at_most(LOOK);
        }
        next
    }

    /// Unconnected clients, and servers that are paused.
    fn to_be_tried(&self) -> impl Iterator<Item = Ifindex> {
        self.attachments
            .iter()
            .filter_map(|(ifindex, attachment)| match attachment {
                Attachment::VhostUser(this) => {
                    let client = matches!(this.endpoint, Endpoint::Client { .. });
                    (this.paused || client && this.link.is_none()).then_some(*ifindex)
                }
                _ => None,
            })
    }

    fn resume(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        if let Some(Attachment::VhostUser(vhost_user)) = self.attachments.get_mut(&ifindex)
            && std::mem::take(&mut vhost_user.paused)
            && let Some(fd) = vhost_user.endpoint.listener_fd()
        {
            reactor.listen(fd, ifindex);
        }
    }

    fn linked(&self, wanted: impl Fn(&(Connection, Session)) -> bool) -> Vec<Ifindex> {
        let matches = |attachment: &Attachment| match attachment {
            Attachment::VhostUser(this) => this.link.as_ref().is_some_and(&wanted),
            _ => false,
        };
        self.attachments
            .iter()
            .filter(|(_, it)| matches(it))
            .map(|(ifindex, _)| *ifindex)
            .collect()
    }
}

/// Stops listening for a while: a front end that cannot be accepted, for want of descriptors, would wake us for ever.
fn pause(vhost_user: &mut VhostUserAttachment, reactor: &mut Reactor) {
    if let Some(fd) = vhost_user.endpoint.listener_fd() {
        reactor.forget(fd);
        vhost_user.paused = true;
    }
}

/// The daemon as a session sees it. Only transmit rings have kicks that matter: a receive ring without buffers drops.
struct RingHost<'a> {
    workers: &'a mut Workers,
    port: &'a GuestPort,
    ifindex: Ifindex,
    announced: &'a mut Vec<MacAddress>,
}

impl RingHost<'_> {
    fn token(&self, ring: usize) -> Option<Token> {
        (ring % 2 == 1).then(|| Token::new(self.ifindex, ring / 2))
    }
}

impl Host for RingHost<'_> {
    fn watch(&mut self, ring: usize, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.token(ring)
            .map_or(Ok(()), |token| self.workers.watch(token, fd.as_raw_fd()))
    }

    fn unwatch(&mut self, ring: usize, _fd: BorrowedFd<'_>) {
        if let Some(token) = self.token(ring) {
            self.workers.unwatch(token);
        }
    }

    /// A ring that has never started is nobody's work.
    fn wake(&mut self, ring: usize) {
        if let Some(token) = self.token(ring)
            && (self.workers.serves(token) || self.port.queues()[ring].lock().ring.is_some())
        {
            self.workers.poke(token);
        }
    }

    fn announce(&mut self, address: MacAddress) {
        self.announced.push(address);
    }
}
