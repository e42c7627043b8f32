//! How the front ends that exist speak: which messages, in which order, from the connection to running rings.

use std::io;
use std::os::fd::RawFd;

use super::feature;
use super::front_end::{FrontEnd, RingAddresses};
use super::inflight::Inflight;
use super::memory::Memory;
use super::message::{longs, protocol, request};
use super::ring::Position;

/// A front end that exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Opening {
    /// QEMU 10: enables rings before any feature is set, shares memory region by region, has its rings called last.
    #[default]
    Qemu,
    /// cloud-hypervisor 54: everything at activation, addresses before bases, bases from the available index.
    CloudHypervisor,
    /// DPDK's virtio-user 22.11: call descriptors before features, no acknowledgements, guest addresses are its own.
    VirtioUser,
}

/// One ring, as a front end tells it.
#[derive(Debug, Clone, Copy)]
pub struct RingSetup {
    /// Number of descriptors.
    pub size: u16,
    /// Where it is.
    pub addresses: RingAddresses,
    /// Whether it is packed.
    pub packed: bool,
    /// Where the driver makes the next chain available, as half of a base (U8).
    pub available: u16,
    /// Where the device uses the next chain, as half of a base (U8).
    pub used: u16,
    /// What the back end said when the ring was stopped, or where a ring starts.
    pub last_base: u32,
    /// Tells the device; `None` if it has to poll.
    pub kick: Option<RawFd>,
    /// Tells the driver; `None` if it polls.
    pub call: Option<RawFd>,
    /// Tells the front end of an error.
    pub err: RawFd,
}

const QEMU: u64 = protocol::MQ
    | protocol::LOG_SHMFD
    | protocol::RARP
    | protocol::REPLY_ACK
    | protocol::MTU
    | protocol::BACKEND_REQ
    | protocol::INFLIGHT_SHMFD
    | protocol::RESET_DEVICE
    | protocol::CONFIGURE_MEM_SLOTS
    | protocol::STATUS;
const CLOUD_HYPERVISOR: u64 = protocol::MQ
    | protocol::LOG_SHMFD
    | protocol::REPLY_ACK
    | protocol::CONFIG
    | protocol::INFLIGHT_SHMFD
    | protocol::CONFIGURE_MEM_SLOTS;
const VIRTIO_USER: u64 = protocol::MQ | protocol::REPLY_ACK | protocol::STATUS;

impl Opening {
    /// Memory as this front end has it.
    pub fn memory(self) -> io::Result<Memory> {
        match self {
            Opening::VirtioUser => Memory::identical(),
            Opening::Qemu | Opening::CloudHypervisor => Memory::new(),
        }
    }

    /// What is said before the guest's driver runs. Gives the virtio features that the back end offers.
    pub fn negotiate(self, front_end: &mut FrontEnd, rings: &[RingSetup]) -> io::Result<u64> {
        match self {
            Opening::Qemu => negotiate_as_qemu(front_end, rings),
            Opening::CloudHypervisor => negotiate_as_cloud_hypervisor(front_end, rings),
            Opening::VirtioUser => negotiate_as_virtio_user(front_end, rings),
        }
    }

    /// What is said when the guest's driver is ready.
    pub fn activate(
        self,
        front_end: &FrontEnd,
        features: u64,
        memory: &Memory,
        rings: &[RingSetup],
        inflight: &mut Inflight,
    ) -> io::Result<()> {
        let features = features | feature::PROTOCOL_FEATURES;
        match self {
            Opening::Qemu => activate_as_qemu(front_end, features, memory, rings, inflight),
            Opening::CloudHypervisor => {
                activate_as_cloud_hypervisor(front_end, features, memory, rings, inflight)
            }
            Opening::VirtioUser => activate_as_virtio_user(front_end, features, memory, rings),
        }
    }

    /// Where a ring is told to go on after a broken connection.
    pub fn base(self, ring: &RingSetup) -> u32 {
        match (self, ring.packed) {
            (Opening::Qemu, false) => ring.used.into(),
            // Memory does not tell where a packed ring stood, so QEMU tells what it knows.
            (Opening::Qemu, true) => ring.last_base,
            // The trap: buffers that were posted and not used would be skipped.
            (Opening::CloudHypervisor | Opening::VirtioUser, false) => ring.available.into(),
            // It has no packed rings; this is what it would have to say.
            (Opening::CloudHypervisor, true) => u32::from(ring.used) * 0x1_0001,
            // It knows nothing of the upper half, and its rings are always new.
            (Opening::VirtioUser, true) => Position::START.encode().into(),
        }
    }
}

fn agree(front_end: &mut FrontEnd, known: u64) -> io::Result<u64> {
    let features = front_end.protocol_features()? & known;
    front_end.set_protocol_features(features)?;
    Ok(features)
}

/// vhost_user_backend_init, then vhost_virtqueue_init, then the first virtio_net_set_multiqueue: all at realize.
fn negotiate_as_qemu(front_end: &mut FrontEnd, rings: &[RingSetup]) -> io::Result<u64> {
    for (pair, of_pair) in rings.chunks(2).enumerate() {
        front_end.features()?;
        let agreed = agree(front_end, QEMU)?;
        // Requests that concern the whole device are sent for its first pair only.
        if pair == 0 {
            if front_end.queue_num()? < rings.len() as u64 / 2 {
                return Err(io::Error::other("you are asking more queues than supported"));
            }
            if agreed & protocol::CONFIGURE_MEM_SLOTS != 0 {
                front_end.max_mem_slots()?;
            }
            front_end.set_owner()?;
        }
        front_end.features()?;
        for (offset, ring) in of_pair.iter().enumerate() {
            front_end.set_vring_call(2 * pair + offset, ring.call)?;
            front_end.set_vring_err(2 * pair + offset, Some(ring.err))?;
        }
    }
    for ring in 0..rings.len() {
        front_end.set_vring_enable(ring, ring < 2)?;
    }
    front_end.features()
}

fn activate_as_qemu(
    front_end: &FrontEnd,
    features: u64,
    memory: &Memory,
    rings: &[RingSetup],
    inflight: &mut Inflight,
) -> io::Result<()> {
    if inflight.is_wanted() {
        // vhost_dev_prepare_inflight, for which the features are set one time more.
        front_end.set_features(features)?;
        inflight.share(front_end, rings)?;
    }
    for (pair, of_pair) in rings.chunks(2).enumerate() {
        front_end.set_features(features)?;
        if pair == 0 {
            for region in memory.regions() {
                front_end.add_mem_reg(region)?;
            }
        }
        for (offset, ring) in of_pair.iter().enumerate() {
            let index = 2 * pair + offset;
            front_end.set_vring_num(index, u32::from(ring.size))?;
            front_end.set_vring_base(index, Opening::Qemu.base(ring))?;
            front_end.set_vring_addr(index, &ring.addresses)?;
            front_end.set_vring_kick(index, ring.kick)?;
            front_end.set_vring_call(index, ring.call)?;
        }
        for offset in 0..of_pair.len() {
            front_end.set_vring_enable(2 * pair + offset, true)?;
        }
    }
    Ok(())
}

fn negotiate_as_cloud_hypervisor(front_end: &mut FrontEnd, rings: &[RingSetup]) -> io::Result<u64> {
    front_end.set_owner()?;
    let offered = front_end.features()?;
    agree(front_end, CLOUD_HYPERVISOR)?;
    if front_end.queue_num()? < rings.len() as u64 {
        return Err(io::Error::other("the back end has too few rings"));
    }
    front_end.config(0, 12)?;
    Ok(offered)
}

fn activate_as_cloud_hypervisor(
    front_end: &FrontEnd,
    features: u64,
    memory: &Memory,
    rings: &[RingSetup],
    inflight: &mut Inflight,
) -> io::Result<()> {
    front_end.set_features(features)?;
    front_end.set_mem_table(memory.regions())?;
    for (index, ring) in rings.iter().enumerate() {
        front_end.set_vring_num(index, u32::from(ring.size))?;
    }
    inflight.share(front_end, rings)?;
    for (index, ring) in rings.iter().enumerate() {
        front_end.set_vring_addr(index, &ring.addresses)?;
        front_end.set_vring_base(index, Opening::CloudHypervisor.base(ring))?;
        front_end.set_vring_call(index, ring.call)?;
        front_end.set_vring_kick(index, ring.kick)?;
    }
    (0..rings.len()).try_for_each(|index| front_end.set_vring_enable(index, true))
}

fn negotiate_as_virtio_user(front_end: &mut FrontEnd, rings: &[RingSetup]) -> io::Result<u64> {
    front_end.set_owner()?;
    let offered = front_end.features()?;
    agree(front_end, VIRTIO_USER)?;
    front_end.set_acknowledged(false);
    front_end.queue_num()?;
    for (index, ring) in rings.iter().enumerate() {
        front_end.set_vring_call(index, ring.call)?;
    }
    Ok(offered)
}

fn activate_as_virtio_user(
    front_end: &FrontEnd,
    features: u64,
    memory: &Memory,
    rings: &[RingSetup],
) -> io::Result<()> {
    const DRIVER_OK: u8 = 4;
    front_end.tell(request::SET_FEATURES, &longs(&[features]), &[])?;
    let regions = memory.regions();
    front_end.set_mem_table(regions)?;
    for (index, ring) in rings.iter().enumerate() {
        front_end.set_vring_num(index, u32::from(ring.size))?;
        front_end.set_vring_base(index, Opening::VirtioUser.base(ring))?;
        front_end.set_vring_addr(index, &ring.addresses)?;
        front_end.set_vring_kick(index, ring.kick)?;
    }
    for index in 0..rings.len() {
        front_end.set_vring_enable(index, true)?;
    }
    front_end.set_status(DRIVER_OK)
}
