//! The state machine of one connection: what each message does to the guest's queues.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::guest::{GuestPort, NetFeatures};
use devices::memory::{DirtyLog, GuestMemory, MAX_REGIONS};
use devices::packet::MacAddress;
use devices::ring::InflightBuffer;
use vhost::vhost_user::message::FrontendReq as Request;
use vhost::vhost_user::{VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures as Transport};

use super::connection::send_whole;
use super::message::{Message, Reply, Violation, backend_request};
use super::vring::{Kick, Vring};

/// The protocol features of this back end.
const PROTOCOL: Protocol = Protocol::MQ
    .union(Protocol::LOG_SHMFD)
    .union(Protocol::RARP)
    .union(Protocol::REPLY_ACK)
    .union(Protocol::MTU)
    .union(Protocol::BACKEND_REQ)
    .union(Protocol::CONFIG)
    .union(Protocol::INFLIGHT_SHMFD)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::STATUS);

const CONFIG_CHANGE: u32 = 2;
const VLAN_AND_ETHERNET_HEADER: usize = 14 + 4;

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
    pub(super) port: Arc<GuestPort>,
    pub(super) identity: Identity,
    pub(super) features: Option<u64>,
    pub(super) protocol: u64,
    pub(super) memory: Arc<GuestMemory>,
    pub(super) log: Option<Arc<DirtyLog>>,
    pub(super) inflight: Option<Arc<InflightBuffer>>,
    pub(super) vrings: Vec<Vring>,
    pub(super) mtu: Option<u16>,
    pub(super) status: u8,
    pub(super) backend_channel: Option<UnixStream>,
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
            inflight: None,
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

    /// Does what a message says, and gives what to answer with, if anything. // U1
    pub fn handle(&mut self, mut message: Message, host: &mut dyn Host) -> Result<Option<Reply>, Violation> {
        match self.dispatch(&mut message, host) {
            Ok(Some(reply)) => Ok(Some(reply)),
            Ok(None) if self.acknowledges(&message) => Ok(Some(message.reply(&0u64.to_ne_bytes()))),
            Ok(None) => Ok(None),
            Err(violation)
                if violation.is_answerable() && !message.has_own_answer() && self.acknowledges(&message) =>
            {
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
            queue.set_base(0);
            queue.call = None;
            queue.err = None;
        }
    }

    fn acknowledges(&self, message: &Message) -> bool {
        // QEMU and cloud-hypervisor count the protocol features as negotiated from SET_PROTOCOL_FEATURES on.
        message.need_reply && self.protocol & Protocol::REPLY_ACK.bits() != 0
    }

    /// One arm a request; the reply is that of a request that has its own.
    fn dispatch(&mut self, message: &mut Message, host: &mut dyn Host) -> Result<Option<Reply>, Violation> {
        let request = message.request;
        let number = |message: &Message, value: u64| Ok(Some(message.reply(&value.to_ne_bytes())));
        match request {
            Request::GET_FEATURES => return number(message, self.offered()),
            Request::SET_FEATURES => self.set_features(message.u64()?)?,
            Request::SET_OWNER => {}
            // U17: deprecated; some old front ends use it to disable the rings.
            Request::RESET_OWNER => self.disable_all(),
            Request::RESET_DEVICE => self.reset(host),
            Request::GET_PROTOCOL_FEATURES => return number(message, PROTOCOL.bits()),
            Request::SET_PROTOCOL_FEATURES => self.set_protocol_features(message.u64()?)?,
            // QEMU compares it with queue pairs, cloud-hypervisor with rings: rings satisfy both. // U18
            Request::GET_QUEUE_NUM => return number(message, self.vrings.len() as u64),
            Request::GET_MAX_MEM_SLOTS => return number(message, MAX_REGIONS as u64),
            Request::SET_MEM_TABLE => self.set_mem_table(message, host)?,
            Request::ADD_MEM_REG => self.add_mem_reg(message, host)?,
            Request::REM_MEM_REG => self.rem_mem_reg(message, host)?,
            Request::SET_LOG_BASE => return self.set_log_base(message, host),
            // Nobody needs to be told that the log changed: front ends read it when they want.
            Request::SET_LOG_FD => drop(message.one_fd()?),
            Request::SET_VRING_NUM => self.set_vring_num(message)?,
            Request::SET_VRING_ADDR => self.set_vring_addr(message, host)?,
            Request::SET_VRING_BASE => self.set_vring_base(message)?,
            Request::GET_VRING_BASE => return self.get_vring_base(message, host),
            Request::SET_VRING_KICK => self.set_vring_kick(message, host)?,
            Request::SET_VRING_CALL => self.set_vring_call(message)?,
            Request::SET_VRING_ERR => {
                let (ring, err) = self.ring_notifier(message)?;
                self.port.queues()[ring].lock().err = err;
            }
            Request::SET_VRING_ENABLE => self.set_vring_enable(message, host)?,
            Request::SEND_RARP => host.announce(mac_of(message.u64()?)),
            Request::NET_SET_MTU => self.set_mtu(message)?,
            Request::SET_BACKEND_REQ_FD => self.set_backend_channel(message)?,
            Request::GET_INFLIGHT_FD => return self.get_inflight_fd(message),
            Request::SET_INFLIGHT_FD => self.set_inflight_fd(message)?,
            Request::GET_CONFIG => return self.get_config(message),
            Request::SET_CONFIG => Self::set_config(message)?,
            Request::SET_STATUS => self.status = message.u64()? as u8,
            Request::GET_STATUS => return number(message, u64::from(self.status)),
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
        let packed = |features| NetFeatures(features).packed();
        if self.is_running() && packed(self.features.unwrap_or(0)) != packed(features) {
            return Err(Violation::FormatChange);
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
            self.retire(index);
            self.vrings[index] = Vring::default();
            let mut queue = self.port.queues()[index].lock();
            queue.enabled = false;
            queue.set_base(0);
        }
        self.features = None;
        self.inflight = None;
        self.mtu = None;
        self.status = 0;
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

    pub(super) fn max_frame(&self) -> Option<usize> {
        let limited = NetFeatures(self.features.unwrap_or(0)).mtu();
        limited.then(|| usize::from(self.mtu.unwrap_or(self.identity.mtu)) + VLAN_AND_ETHERNET_HEADER)
    }
}

// U13: the address is the first six octets of the number.
fn mac_of(value: u64) -> MacAddress {
    let octets = value.to_ne_bytes();
    MacAddress(std::array::from_fn(|index| octets[index]))
}
