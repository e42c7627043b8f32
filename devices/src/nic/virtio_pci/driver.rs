//! Brings a device up (virtio 1.3, 3.1), and puts it to rest.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_net as net;
use vmm_sys_util::eventfd::EventFd;

use super::command::{self, Commands};
use super::control::VirtioControl;
use super::receive::{self, VirtioReceive};
use super::ring::{self, DriverRing};
use super::transmit::{self, VirtioTransmit};
use super::transport::{ACKNOWLEDGE, DRIVER, DRIVER_OK, NO_VECTOR, Transport, refused};
use crate::guest::NetFeatures;
use crate::nic::vfio::{Device, DmaMemory, Events, Interrupt, new_event};
use crate::nic::{Capabilities, Claim, Control, Nic, NicError, NicPort, Receive, Transmit};

/// The longest frame that is handed to the device.
pub const FRAME_MAX: usize = 65535 + 14 + 8;
/// Queue pairs that are used at most.
const PAIRS_MAX: u16 = 8;
/// What an Ethernet header with two VLAN tags adds to the MTU.
const HEADERS: usize = 14 + 8;
/// The MTU of a device that does not say one.
const MTU: u16 = 1500;
/// Memory of a queue pair.
const PAIR_MEMORY: usize = 2 * ring::MEMORY + receive::MEMORY + transmit::MEMORY;

/// What there is no way without: the memory that we name is the IOMMU's, not the host's.
const NEEDED: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_F_ACCESS_PLATFORM;
/// What is taken if it is offered.
const WANTED: &[u32] = &[
    VIRTIO_F_ORDER_PLATFORM,
    net::VIRTIO_NET_F_MAC,
    net::VIRTIO_NET_F_MTU,
    net::VIRTIO_NET_F_STATUS,
    net::VIRTIO_NET_F_CSUM,
    net::VIRTIO_NET_F_HOST_TSO4,
    net::VIRTIO_NET_F_HOST_TSO6,
    net::VIRTIO_NET_F_HOST_ECN,
    net::VIRTIO_NET_F_HOST_USO,
    net::VIRTIO_NET_F_GUEST_CSUM,
    net::VIRTIO_NET_F_MRG_RXBUF,
    net::VIRTIO_NET_F_CTRL_VQ,
    net::VIRTIO_NET_F_CTRL_RX,
    net::VIRTIO_NET_F_MQ,
];
/// What is taken only if frames may take up several buffers.
const WANTED_WITH_MERGEABLE: &[u32] = &[
    net::VIRTIO_NET_F_GUEST_TSO4,
    net::VIRTIO_NET_F_GUEST_TSO6,
    net::VIRTIO_NET_F_GUEST_ECN,
    net::VIRTIO_NET_F_GUEST_USO4,
    net::VIRTIO_NET_F_GUEST_USO6,
];

/// What the parts of the driver share.
#[derive(Debug)]
pub struct Adapter {
    /// The device's registers.
    pub transport: Transport,
    /// The device.
    pub device: Device,
    /// The features that were taken.
    pub features: u64,
    /// Queue pairs in use.
    pub pairs: u16,
    /// Keeps what the device may write to mapped until it is at rest.
    _memory: DmaMemory,
}

impl Adapter {
    /// Whether a feature was taken.
    pub fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// The MTU that the device says, or that its frames have room for.
    pub fn mtu(&self) -> u16 {
        let mtu = match self.has(net::VIRTIO_NET_F_MTU) {
            true => self.transport.config(|config| config.mtu()).unwrap_or(MTU),
            false => MTU,
        };
        match self.has(net::VIRTIO_NET_F_MRG_RXBUF) {
            true => mtu,
            false => mtu.min((receive::BUFFER - 12 - HEADERS) as u16),
        }
    }
}

#[cfg(test)]
impl Adapter {
    /// One whose registers are plain memory.
    pub fn without_device() -> Arc<Adapter> {
        Arc::new(Adapter {
            transport: Transport::in_memory(),
            device: Device::none(),
            features: u64::MAX,
            pairs: 1,
            _memory: DmaMemory::without_device(4096),
        })
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.transport.reset();
        self.device.quiet();
    }
}

/// Starts a device.
pub fn open(device: Device, queues: u16) -> Result<Nic, NicError> {
    device.reset()?;
    let transport = Transport::new(&device)?;
    transport.reset()?;
    transport.add_status(ACKNOWLEDGE);
    transport.add_status(DRIVER);
    let features = negotiate(&transport, &device)?;
    let pairs = pairs(&transport, &device, features, queues)?;
    let len = usize::from(pairs) * PAIR_MEMORY + ring::MEMORY + command::MEMORY;
    let mut memory = DmaMemory::new(device.container(), len, device.name())?;
    let adapter = Adapter {
        transport,
        device,
        features,
        pairs,
        _memory: memory.take(0),
    };
    start(&Arc::new(adapter), &mut memory)
}

fn negotiate(transport: &Transport, device: &Device) -> Result<u64, NicError> {
    let offered = transport.offered();
    if offered & NEEDED != NEEDED {
        let hint = "it does not keep to the IOMMU (VIRTIO_F_ACCESS_PLATFORM); QEMU: iommu_platform=on";
        return Err(refused(device, "drive", hint));
    }
    let bits = |numbers: &[u32]| numbers.iter().fold(0u64, |bits, number| bits | 1 << number);
    let mut features = NEEDED | offered & bits(WANTED);
    if features & 1 << net::VIRTIO_NET_F_MRG_RXBUF != 0 {
        features |= offered & bits(WANTED_WITH_MERGEABLE);
    }
    match transport.take(features) {
        true => Ok(features),
        false => Err(refused(
            device,
            "agree on features with",
            "it does not keep to what it offers",
        )),
    }
}

/// How many queue pairs can be used.
fn pairs(transport: &Transport, device: &Device, features: u64, queues: u16) -> Result<u16, NicError> {
    let vectors = device.interrupts(Interrupt::MsiX);
    if vectors < 2 {
        let hint = "it needs two MSI-X vectors at least; see whether the host has MSI turned off (pci=nomsi)";
        return Err(refused(device, "use", hint));
    }
    let vectors = u16::try_from(vectors - 1).unwrap_or(u16::MAX);
    let offered = pairs_offered(transport, features);
    Ok(queues.min(offered).min(vectors).clamp(1, PAIRS_MAX))
}

/// How many queue pairs the device has.
fn pairs_offered(transport: &Transport, features: u64) -> u16 {
    let needed = 1 << net::VIRTIO_NET_F_MQ | 1 << net::VIRTIO_NET_F_CTRL_VQ;
    match features & needed == needed {
        true => transport.config(|config| config.pairs()).max(1),
        false => 1,
    }
}

/// Makes the rings, and lets frames flow.
fn start(adapter: &Arc<Adapter>, memory: &mut DmaMemory) -> Result<Nic, NicError> {
    let (transport, device) = (&adapter.transport, &adapter.device);
    let events = Events::new(device)?;
    let mut wakes: Vec<EventFd> = Vec::new();
    for _ in 0..adapter.pairs {
        wakes.push(new_event(device.name())?);
    }
    let mut fds: Vec<_> = wakes.iter().map(AsRawFd::as_raw_fd).collect();
    fds.push(events.changed.as_raw_fd());
    device.set_interrupts(Interrupt::MsiX, &fds)?;
    device.set_bus_master(true)?;
    transport.set_config_vector(adapter.pairs);

    let mut receivers = Vec::new();
    let mut transmitters = Vec::new();
    let mergeable = adapter.has(net::VIRTIO_NET_F_MRG_RXBUF);
    let wire_max = usize::from(adapter.mtu()) + HEADERS;
    for (pair, wake) in (0..adapter.pairs).zip(wakes) {
        // Receive queues have even numbers, transmit queues odd ones (5.1.2).
        let ring = DriverRing::start(adapter, 2 * pair, pair, memory)?;
        receivers.push(VirtioReceive::new(ring, memory, mergeable, wake));
        let ring = DriverRing::start(adapter, 2 * pair + 1, NO_VECTOR, memory)?;
        transmitters.push(VirtioTransmit::new(ring, memory, wire_max));
    }
    let mut commands = None;
    if adapter.has(net::VIRTIO_NET_F_CTRL_VQ) {
        // The last queue that the device has, however many of those before it are used (5.1.2).
        let queue = pairs_offered(transport, adapter.features).saturating_mul(2);
        let ring = DriverRing::start(adapter, queue, NO_VECTOR, memory)?;
        commands = Some(Commands::new(ring, memory));
    }
    transport.add_status(DRIVER_OK);
    for receiver in &mut receivers {
        receiver.start();
    }
    let pairs_set = adapter.pairs == 1
        || commands
            .as_mut()
            .is_some_and(|commands| commands.set_pairs(adapter.pairs));
    if !pairs_set {
        return Err(refused(
            device,
            "use several queues of",
            "it refuses; take one queue",
        ));
    }
    let mut control = VirtioControl::new(Arc::clone(adapter), events, commands);
    // Until it is told, a device passes on all frames.
    control.claim(&Claim::Addresses(Vec::new()))?;
    let features = NetFeatures(adapter.features);
    let receives = features.receives();
    let capabilities = Capabilities {
        offloads: features.sends(),
        receives_gso: receives.tso4 || receives.tso6 || receives.uso,
        pieces_max: usize::MAX, // Frames are copied to where the device sees them.
        frame_max: FRAME_MAX,
    };
    let halves = receivers.into_iter().zip(transmitters);
    let queues = halves.map(|(receive, transmit)| {
        let receive: Box<dyn Receive> = Box::new(receive);
        let transmit: Box<dyn Transmit> = Box::new(transmit);
        (receive, transmit)
    });
    Ok(Nic {
        port: NicPort::new(capabilities, queues.collect()),
        control: Box::new(control),
    })
}
