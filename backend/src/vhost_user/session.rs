//! The state machine of one connection: what each message does to the guest's queues.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::guest::{GuestPort, NetFeatures, Notifier, check_eventfd};
use devices::memory::{DirtyLog, GuestMemory, MAX_REGIONS, Region, RegionSpec};
use devices::packet::MacAddress;
use devices::ring::SplitRing;
use vhost::vhost_user::message::FrontendReq as Request;
use vhost::vhost_user::{VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures as Transport};

use super::connection::send_whole;
use super::message::{Message, Violation, backend_request};
use super::vring::{Kick, Vring};

/// The protocol features of this back end.
const PROTOCOL: Protocol = Protocol::MQ
    .union(Protocol::LOG_SHMFD)
    .union(Protocol::RARP)
    .union(Protocol::REPLY_ACK)
    .union(Protocol::MTU)
    .union(Protocol::BACKEND_REQ)
    .union(Protocol::CONFIG)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::STATUS);

const INVALID_RING: u64 = 1 << 8;
const RING_INDEX: u64 = 0xff;
const CONFIG_CHANGE: u32 = 2;
const CONFIG_SPACE: usize = 256;
const LIVE_MIGRATION: u32 = 2;
const VLAN_AND_ETHERNET_HEADER: usize = 14 + 4;
/// vhost-user: the regions that SET_MEM_TABLE may have.
const TABLE_REGIONS: usize = 8;

/// What a session needs of the daemon around it.
pub trait Host {
    /// Has kicks on `fd` wake the worker of a ring.
    fn watch(&mut self, ring: usize, fd: BorrowedFd<'_>) -> io::Result<()>;
    /// Undoes [`Host::watch`]; the descriptor is closed right after.
    fn unwatch(&mut self, ring: usize, fd: BorrowedFd<'_>);
    /// Has the worker of a ring look at it once.
    fn wake(&mut self, ring: usize);
    /// Broadcasts that the guest with this address is here.
    fn announce(&mut self, address: MacAddress);
}

/// What the device says of itself in its configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Virtio features that are offered.
    pub features: u64,
    /// The address that the guest should have.
    pub address: MacAddress,
    /// In octets.
    pub mtu: u16,
    /// Whether both ends are up.
    pub link_up: bool,
}

/// One connection of a front end.
#[derive(Debug)]
pub struct Session {
    port: Arc<GuestPort>,
    identity: Identity,
    features: Option<u64>,
    protocol: u64,
    memory: Arc<GuestMemory>,
    log: Option<Arc<DirtyLog>>,
    log_fd: Option<Notifier>,
    vrings: Vec<Vring>,
    mtu: Option<u16>,
    status: u8,
    backend_channel: Option<UnixStream>,
}

impl Session {
    /// A session at its beginning: nothing negotiated, all rings stopped and disabled. // U2
    pub fn new(port: Arc<GuestPort>, identity: Identity) -> Session {
        let vrings = port.queues().iter().map(|_| Vring::default()).collect();
        Session {
            port,
            identity,
            features: None,
            protocol: 0,
            memory: Arc::default(),
            log: None,
            log_fd: None,
            vrings,
            mtu: None,
            status: 0,
            backend_channel: None,
        }
    }

    /// The virtio features that the driver took, once it has.
    pub fn features(&self) -> Option<u64> {
        self.features.map(|features| features & self.identity.features)
    }

    /// Whether any ring is started.
    pub fn is_running(&self) -> bool {
        self.port.queues().iter().any(|queue| queue.lock().ring.is_some())
    }

    /// Whether the front end took back memory that it had shared.
    pub fn memory_is_lost(&self) -> bool {
        self.memory.is_lost()
    }

    /// Takes note of what the device now is, and tells the driver if it can hear it. // U6: not while suspended
    pub fn set_identity(&mut self, identity: Identity) {
        let changed = std::mem::replace(&mut self.identity, identity) != identity;
        let wanted = Protocol::BACKEND_REQ | Protocol::CONFIG;
        if !changed || self.protocol & wanted.bits() != wanted.bits() || !self.is_running() {
            return;
        }
        if let Some(channel) = &self.backend_channel
            && send_whole(channel, &backend_request(CONFIG_CHANGE)).is_err()
        {
            self.backend_channel = None;
        }
    }

    /// Does what a message says, and gives the octets to answer with, if any. // U1
    pub fn handle(
        &mut self,
        mut message: Message,
        host: &mut dyn Host,
    ) -> Result<Option<Vec<u8>>, Violation> {
        match self.dispatch(&mut message, host) {
            Ok(Some(payload)) => Ok(Some(message.reply(&payload))),
            Ok(None) if self.acknowledges(&message) => Ok(Some(message.reply(&0u64.to_ne_bytes()))),
            Ok(None) => Ok(None),
            Err(violation) if violation.is_answerable() && self.acknowledges(&message) => {
                tracing::warn!("vhost-user request refused: {violation}");
                Ok(Some(message.reply(&1u64.to_ne_bytes())))
            }
            Err(violation) => Err(violation),
        }
    }

    /// Stops everything, as when the front end is gone.
    pub fn close(&mut self, host: &mut dyn Host) {
        for index in 0..self.vrings.len() {
            self.stop(index, host);
            self.set_kick(index, Kick::Unset, host);
            let mut queue = self.port.queues()[index].lock();
            queue.enabled = false;
            queue.broken = None;
            queue.call = None;
            queue.err = None;
        }
    }

    fn acknowledges(&self, message: &Message) -> bool {
        // QEMU and cloud-hypervisor count the protocol features as negotiated from SET_PROTOCOL_FEATURES on.
        message.need_reply && self.protocol & Protocol::REPLY_ACK.bits() != 0
    }

    /// One arm a request; the answer is the payload of a request that has its own.
    fn dispatch(&mut self, message: &mut Message, host: &mut dyn Host) -> Result<Option<Vec<u8>>, Violation> {
        let request = message.request;
        let number = |value: u64| Ok(Some(value.to_ne_bytes().to_vec()));
        match request {
            Request::GET_FEATURES => return number(self.offered()),
            Request::SET_FEATURES => self.set_features(message.u64()?)?,
            Request::SET_OWNER => {}
            // U17: deprecated; some old front ends use it to disable the rings.
            Request::RESET_OWNER => self.disable_all(),
            Request::RESET_DEVICE => self.reset(host),
            Request::GET_PROTOCOL_FEATURES => return number(PROTOCOL.bits()),
            Request::SET_PROTOCOL_FEATURES => self.set_protocol_features(message.u64()?)?,
            // QEMU compares it with queue pairs, cloud-hypervisor with rings: rings satisfy both. // U18
            Request::GET_QUEUE_NUM => return number(self.vrings.len() as u64),
            Request::GET_MAX_MEM_SLOTS => return number(MAX_REGIONS as u64),
            Request::SET_MEM_TABLE => self.set_mem_table(message, host)?,
            Request::ADD_MEM_REG => self.add_mem_reg(message, host)?,
            Request::REM_MEM_REG => self.rem_mem_reg(message, host)?,
            Request::SET_LOG_BASE => return self.set_log_base(message, host),
            Request::SET_LOG_FD => self.log_fd = Some(notifier(message)?),
            Request::SET_VRING_NUM => self.set_vring_num(message)?,
            Request::SET_VRING_ADDR => self.set_vring_addr(message, host)?,
            Request::SET_VRING_BASE => {
                // The used index in the guest's memory is the better base, see `SplitRing::start`.
                self.ring_of_state(message)?;
            }
            Request::GET_VRING_BASE => return self.get_vring_base(message, host),
            Request::SET_VRING_KICK => self.set_vring_kick(message, host)?,
            Request::SET_VRING_CALL => {
                let (ring, call) = self.ring_notifier(message)?;
                self.port.queues()[ring].lock().call = call;
            }
            Request::SET_VRING_ERR => {
                let (ring, err) = self.ring_notifier(message)?;
                self.port.queues()[ring].lock().err = err;
            }
            Request::SET_VRING_ENABLE => self.set_vring_enable(message, host)?,
            Request::SEND_RARP => host.announce(mac_of(message.u64()?)),
            Request::NET_SET_MTU => self.set_mtu(message)?,
            Request::SET_BACKEND_REQ_FD => self.set_backend_channel(message)?,
            Request::GET_CONFIG => return self.get_config(message),
            Request::SET_CONFIG => Self::set_config(message)?,
            Request::SET_STATUS => self.status = message.u64()? as u8,
            Request::GET_STATUS => return number(u64::from(self.status)),
            // U19
            _ => return Err(Violation::Unsupported(request as u32)),
        }
        Ok(None)
    }

    fn offered(&self) -> u64 {
        self.identity.features | Transport::all().bits()
    }

    fn set_features(&mut self, features: u64) -> Result<(), Violation> {
        let extra = features & !self.offered();
        if extra != 0 {
            return Err(Violation::NotOffered {
                request: Request::SET_FEATURES,
                extra,
            });
        }
        self.features = Some(features);
        let log = self.active_log();
        for queue in self.port.queues() {
            let mut queue = queue.lock();
            // U2: without PROTOCOL_FEATURES there is no SET_VRING_ENABLE, so rings are enabled from the start.
            queue.enabled |= features & Transport::PROTOCOL_FEATURES.bits() == 0;
            if let Some(ring) = &mut queue.ring {
                // U5: logging is switched on and off while rings run.
                ring.set_log(log.clone());
            }
        }
        Ok(())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<(), Violation> {
        let extra = features & !PROTOCOL.bits();
        if extra != 0 {
            return Err(Violation::NotOffered {
                request: Request::SET_PROTOCOL_FEATURES,
                extra,
            });
        }
        self.protocol = features;
        Ok(())
    }

    fn disable_all(&mut self) {
        for queue in self.port.queues() {
            queue.lock().enabled = false;
        }
    }

    // U17: to the initial state, but for the owner.
    fn reset(&mut self, host: &mut dyn Host) {
        for index in 0..self.vrings.len() {
            self.stop(index, host);
            self.set_kick(index, Kick::Unset, host);
            self.vrings[index] = Vring::default();
            let mut queue = self.port.queues()[index].lock();
            queue.enabled = false;
            queue.broken = None;
        }
        self.features = None;
        self.mtu = None;
        self.status = 0;
    }

    fn set_mem_table(&mut self, message: &mut Message, host: &mut dyn Host) -> Result<(), Violation> {
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

    fn add_mem_reg(&mut self, message: &mut Message, host: &mut dyn Host) -> Result<(), Violation> {
        let spec = message.single_region()?;
        let memory = self.memory.with(Region::map(spec, message.one_fd()?)?)?;
        self.change_memory(memory, host)
    }

    // U10: a descriptor that came along by mistake is closed with the message.
    fn rem_mem_reg(&mut self, message: &Message, host: &mut dyn Host) -> Result<(), Violation> {
        let memory = self.memory.without(&message.single_region()?)?;
        self.change_memory(memory, host)
    }

    /// Puts a new memory table in place, under running rings too: their addresses are looked up anew. // U5
    fn change_memory(&mut self, memory: GuestMemory, host: &mut dyn Host) -> Result<(), Violation> {
        self.memory = Arc::new(memory);
        for index in 0..self.vrings.len() {
            self.restart(index, host);
        }
        Ok(())
    }

    // U7
    fn set_log_base(
        &mut self,
        message: &mut Message,
        host: &mut dyn Host,
    ) -> Result<Option<Vec<u8>>, Violation> {
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
        // The specification leaves the payload open; QEMU expects none.
        Ok((self.protocol & Protocol::LOG_SHMFD.bits() != 0).then(Vec::new))
    }

    fn active_log(&self) -> Option<Arc<DirtyLog>> {
        let wanted = self
            .features
            .is_some_and(|features| features & Transport::LOG_ALL.bits() != 0);
        self.log.clone().filter(|_| wanted)
    }

    fn set_vring_num(&mut self, message: &Message) -> Result<(), Violation> {
        let (ring, size) = self.ring_of_state(message)?;
        if !size.is_power_of_two() || size > u32::from(devices::ring::MAX_QUEUE_SIZE) {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(size),
            });
        }
        self.vrings[ring].size = size;
        Ok(())
    }

    fn set_vring_addr(&mut self, message: &Message, host: &mut dyn Host) -> Result<(), Violation> {
        let addr = message.vring_addr()?;
        let ring = self.check_ring(message.request, addr.index)?;
        self.vrings[ring].addr = Some(addr);
        self.start(ring, host)
    }

    // U4, U8
    fn get_vring_base(
        &mut self,
        message: &Message,
        host: &mut dyn Host,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let (ring, _) = self.ring_of_state(message)?;
        let base = self.stop(ring, host);
        self.set_kick(ring, Kick::Unset, host);
        let mut payload = (ring as u32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&u32::from(base).to_ne_bytes());
        Ok(Some(payload))
    }

    fn set_vring_kick(&mut self, message: &mut Message, host: &mut dyn Host) -> Result<(), Violation> {
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

    fn set_vring_enable(&mut self, message: &Message, host: &mut dyn Host) -> Result<(), Violation> {
        let (ring, enable) = self.ring_of_state(message)?;
        if enable > 1 {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(enable),
            });
        }
        self.port.queues()[ring].lock().enabled = enable == 1;
        host.wake(ring);
        Ok(())
    }

    // U12
    fn set_mtu(&mut self, message: &Message) -> Result<(), Violation> {
        let value = message.u64()?;
        let mtu = u16::try_from(value).ok().filter(|mtu| *mtu >= 68);
        self.mtu = Some(mtu.ok_or(Violation::BadValue {
            request: message.request,
            value,
        })?);
        let max = self.max_frame();
        for queue in self.port.queues() {
            queue.lock().max_frame = max;
        }
        Ok(())
    }

    fn set_backend_channel(&mut self, message: &mut Message) -> Result<(), Violation> {
        let channel = UnixStream::from(OwnedFd::from(message.one_fd()?));
        let request = message.request;
        // Anything but a unix socket would be written to as if it were one.
        channel.peer_addr().map_err(|error| Violation::Descriptor {
            request,
            error: Box::new(error),
        })?;
        self.backend_channel = Some(channel);
        Ok(())
    }

    // U11: the same octets back with the answer in them; no payload is the way to refuse.
    fn get_config(&self, message: &Message) -> Result<Option<Vec<u8>>, Violation> {
        let (offset, _, octets) = message.config()?;
        let start = offset as usize;
        let Some(end) = start.checked_add(octets.len()).filter(|end| *end <= CONFIG_SPACE) else {
            return Ok(Some(Vec::new()));
        };
        let mut payload = message.payload[..12].to_vec();
        payload.extend_from_slice(&self.config_space()[start..end]);
        Ok(Some(payload))
    }

    // virtio 1.3, 5.1.4
    fn config_space(&self) -> [u8; CONFIG_SPACE] {
        let mut space = [0; CONFIG_SPACE];
        space[..6].copy_from_slice(&self.identity.address.0);
        space[6..8].copy_from_slice(&u16::from(self.identity.link_up).to_le_bytes());
        space[8..10].copy_from_slice(&(self.port.pairs() as u16).to_le_bytes());
        space[10..12].copy_from_slice(&self.mtu.unwrap_or(self.identity.mtu).to_le_bytes());
        // Speed and duplex are unknown.
        space[12..17].fill(0xff);
        space
    }

    // U11: all fields are read-only; a migration's destination sets them from the source's.
    fn set_config(message: &Message) -> Result<(), Violation> {
        let (offset, flags, _) = message.config()?;
        if flags & LIVE_MIGRATION == 0 {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(offset),
            });
        }
        Ok(())
    }

    fn max_frame(&self) -> Option<usize> {
        let limited = NetFeatures(self.features.unwrap_or(0)).mtu();
        limited.then(|| usize::from(self.mtu.unwrap_or(self.identity.mtu)) + VLAN_AND_ETHERNET_HEADER)
    }

    /// Starts a ring if everything it needs is known. // U4
    fn start(&mut self, index: usize, host: &mut dyn Host) -> Result<(), Violation> {
        let features = NetFeatures(self.features.unwrap_or(0));
        let Some(config) = self.vrings[index].config(features.event_idx()) else {
            return Ok(());
        };
        if self.memory.regions().is_empty() {
            return Ok(());
        }
        let log = self.active_log();
        let max_frame = self.max_frame();
        // Under the lock: a ring that runs already must not move on between the look at its used index and the swap.
        let mut queue = self.port.queues()[index].lock();
        queue.features = features;
        queue.max_frame = max_frame;
        queue.polled = matches!(self.vrings[index].kick, Kick::Polled);
        match SplitRing::start(&config, self.memory.clone(), log) {
            Ok(mut ring) => {
                // Nobody waits for receive buffers: a frame that finds none is dropped.
                if is_receive_queue(index) {
                    ring.suppress_kicks();
                }
                queue.ring = Some(ring);
                queue.broken = None;
                drop(queue);
                host.wake(index);
                Ok(())
            }
            Err(error) => {
                queue.fail(error);
                Err(Violation::Ring { index, error })
            }
        }
    }

    /// Starts a running ring anew, after something under it has changed. A ring that cannot go on is broken, which its
    /// front end learns on its error descriptor.
    fn restart(&mut self, index: usize, host: &mut dyn Host) {
        let mut queue = self.port.queues()[index].lock();
        if self.memory.regions().is_empty() {
            queue.ring = None;
        }
        let is_broken = queue.broken.is_some();
        drop(queue);
        if !is_broken && let Err(violation) = self.start(index, host) {
            tracing::warn!("a ring stops as the memory under it has changed: {violation}");
        }
    }

    /// Stops a ring and says where it stood.
    fn stop(&mut self, index: usize, host: &mut dyn Host) -> u16 {
        let mut queue = self.port.queues()[index].lock();
        let base = queue.ring.take().map_or(0, |ring| ring.next_avail());
        queue.polled = false;
        drop(queue);
        host.wake(index);
        base
    }

    fn set_kick(&mut self, index: usize, kick: Kick, host: &mut dyn Host) {
        if let Kick::Eventfd(old) = &self.vrings[index].kick {
            host.unwatch(index, old.as_fd());
        }
        if let Kick::Eventfd(new) = &kick
            && let Err(error) = host.watch(index, new.as_fd())
        {
            tracing::warn!("ring {index}: cannot wait for kicks, polling instead: {error}");
        }
        self.vrings[index].kick = kick;
    }

    fn check_ring(&self, request: Request, index: u32) -> Result<usize, Violation> {
        let rings = self.vrings.len();
        let ring = usize::try_from(index).ok().filter(|ring| *ring < rings);
        ring.ok_or(Violation::BadRing {
            request,
            index,
            rings,
        })
    }

    fn ring_of_state(&self, message: &Message) -> Result<(usize, u32), Violation> {
        let (index, value) = message.vring_state()?;
        Ok((self.check_ring(message.request, index)?, value))
    }

    // U9
    fn ring_fd(&self, message: &mut Message) -> Result<(usize, Option<File>), Violation> {
        let value = message.u64()?;
        let ring = self.check_ring(message.request, (value & RING_INDEX) as u32)?;
        if value & INVALID_RING != 0 {
            return Ok((ring, None));
        }
        Ok((ring, Some(message.one_fd()?)))
    }

    fn ring_notifier(&self, message: &mut Message) -> Result<(usize, Option<Notifier>), Violation> {
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

fn notifier(message: &mut Message) -> Result<Notifier, Violation> {
    let request = message.request;
    let notifier = Notifier::new(OwnedFd::from(message.one_fd()?));
    notifier.map_err(|error| Violation::Descriptor {
        request,
        error: Box::new(error),
    })
}

// U13: the address is the first six octets of the number.
fn mac_of(value: u64) -> MacAddress {
    let octets = value.to_ne_bytes();
    MacAddress(std::array::from_fn(|index| octets[index]))
}
