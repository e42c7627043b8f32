//! A guest with one queue pair: its drivers on one side, its device on the other.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use devices::Refusal;
use devices::guest::{GuestPort, NetFeatures, Notifier, QueueGuard, ReceiveBurst, Transmitted, transmit};
use devices::memory::DirtyLog;
use devices::packet::{Frame, LINEAR_LEN, VirtioNetHeader};
use devices::ring::{ChainId, Ring, RingConfig};
use virtio_bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_net as net;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::driver::{Driver, Part, Used, by_head, readable, writable};
use super::packed::PackedDriver;
use super::ram::{PATCHWORK, Ram};

pub const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
pub const IN_ORDER: u64 = 1 << VIRTIO_F_IN_ORDER;
pub const RING_PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
pub const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub const MERGEABLE: u64 = 1 << net::VIRTIO_NET_F_MRG_RXBUF;
pub const SENDS_ALL: u64 = 1 << net::VIRTIO_NET_F_CSUM
    | 1 << net::VIRTIO_NET_F_HOST_TSO4
    | 1 << net::VIRTIO_NET_F_HOST_TSO6
    | 1 << net::VIRTIO_NET_F_HOST_ECN
    | 1 << net::VIRTIO_NET_F_HOST_USO;
pub const GUEST_CSUM: u64 = 1 << net::VIRTIO_NET_F_GUEST_CSUM;
pub const GUEST_TSO4: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO4;
pub const GUEST_TSO6: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO6;
pub const GUEST_ECN: u64 = 1 << net::VIRTIO_NET_F_GUEST_ECN;
pub const GUEST_USO: u64 = 1 << net::VIRTIO_NET_F_GUEST_USO4 | 1 << net::VIRTIO_NET_F_GUEST_USO6;
pub const RECEIVES_ALL: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_USO;

pub const QUEUE_SIZE: u16 = 256;
/// Of packed queues, which need not be a power of two.
const PACKED_QUEUE_SIZE: u16 = 251;
const RECEIVE_RING: u64 = 0x1000;
const TRANSMIT_RING: u64 = 0x8000;
/// Receive buffers lie from here on.
pub const RECEIVE_BUFFERS: u64 = 0x10_0001;
/// Frames to be sent lie from here on.
pub const TRANSMIT_BUFFERS: u64 = 0x20_0003;

thread_local! {
    /// Features that every guest of this thread takes besides those that a test gives it.
    static EXTRA: Cell<u64> = const { Cell::new(0) };
}

/// Runs a test whose guests have packed rings, without and with VIRTIO_F_IN_ORDER.
pub fn over_packed_rings(test: fn()) {
    for extra in [RING_PACKED, RING_PACKED | IN_ORDER] {
        EXTRA.set(extra);
        test();
    }
    EXTRA.set(0);
}

/// A frame that came out of the receive queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub header: VirtioNetHeader,
    pub octets: Vec<u8>,
    /// `used.len` of each chain that it takes up.
    pub lens: Vec<u32>,
}

pub struct Guest {
    pub ram: Arc<Ram>,
    pub port: GuestPort,
    pub receiver: Driver,
    pub sender: Driver,
    /// The drivers of the receive and the transmit queue in place of those, if the rings are packed.
    packed: Option<[PackedDriver; 2]>,
    collected: u16,
    pub features: NetFeatures,
    call: EventFd,
    err: EventFd,
    posted: HashMap<u16, Vec<Part>>,
    next_receive: u64,
    next_transmit: u64,
}

impl Guest {
    /// A guest whose driver took these features and set up both queues.
    pub fn new(features: u64) -> Guest {
        Guest::logged(features, None)
    }

    /// As [`Guest::new`], under live migration.
    pub fn logged(features: u64, log: Option<Arc<DirtyLog>>) -> Guest {
        let ram = Ram::new(PATCHWORK);
        let features = NetFeatures(features | EXTRA.get());
        let packed = |at| {
            let mut driver = PackedDriver::new(&ram, PACKED_QUEUE_SIZE, at);
            driver.in_order = features.in_order();
            driver
        };
        let guest = Guest {
            port: GuestPort::new(1),
            receiver: Driver::new(&ram, QUEUE_SIZE, RECEIVE_RING),
            sender: Driver::new(&ram, QUEUE_SIZE, TRANSMIT_RING),
            collected: 0,
            packed: features
                .packed()
                .then(|| [RECEIVE_RING, TRANSMIT_RING].map(packed)),
            features,
            call: EventFd::new(EFD_NONBLOCK).unwrap(),
            err: EventFd::new(EFD_NONBLOCK).unwrap(),
            posted: HashMap::new(),
            next_receive: RECEIVE_BUFFERS,
            next_transmit: TRANSMIT_BUFFERS,
            ram,
        };
        let event_idx = features.event_idx();
        let configs = match &guest.packed {
            None => [guest.receiver.config(event_idx), guest.sender.config(event_idx)],
            Some(packed) => packed.each_ref().map(|driver| driver.config(event_idx)),
        };
        let queues = configs.iter().zip(guest.port.queues());
        for ((config, queue), log) in queues.zip([log.clone(), log]) {
            guest.set_up(config, queue.lock(), log);
        }
        guest
    }

    fn set_up(&self, config: &RingConfig, mut queue: QueueGuard<'_>, log: Option<Arc<DirtyLog>>) {
        queue.ring = Some(Ring::start(config, self.ram.device(), log).unwrap());
        queue.enabled = true;
        queue.features = self.features;
        queue.call = Some(notifier(&self.call));
        queue.err = Some(notifier(&self.err));
    }

    /// Posts a receive buffer of one descriptor.
    pub fn post(&mut self, len: u32) -> u16 {
        self.post_parts(&[len])
    }

    /// Posts a receive buffer of several descriptors.
    pub fn post_parts(&mut self, lens: &[u32]) -> u16 {
        let parts: Vec<Part> = lens.iter().map(|len| self.receive_part(*len)).collect();
        let head = match &mut self.packed {
            None => self.receiver.post(&parts),
            Some([receiver, _]) => receiver.post(&parts),
        };
        self.posted.insert(head, parts);
        head
    }

    /// Buffers never touch, so that what is written beyond one is not the start of another.
    fn receive_part(&mut self, len: u32) -> Part {
        if self.next_receive + u64::from(len) > TRANSMIT_BUFFERS {
            self.next_receive = RECEIVE_BUFFERS;
        }
        let part = writable(self.next_receive, len);
        self.next_receive += u64::from(len) + 5;
        part
    }

    /// The buffers behind an id.
    pub fn posted(&self, head: u16) -> &[Part] {
        &self.posted[&head]
    }

    /// Sends a frame in one descriptor together with its header.
    pub fn send(&mut self, header: &VirtioNetHeader, frame: &[u8]) -> u16 {
        let octets = [&header.emit()[..self.features.header_len()], frame].concat();
        self.send_cut(&octets, &[])
    }

    /// Sends octets in descriptors that start at these places, and at the start.
    pub fn send_cut(&mut self, octets: &[u8], cuts: &[usize]) -> u16 {
        let parts = self.place(octets, cuts);
        match &mut self.packed {
            None => self.sender.post(&parts),
            Some([_, sender]) => sender.post(&parts),
        }
    }

    /// What the device returns a chain by that was posted in so many parts.
    pub fn chain(&self, id: u16, parts: u16) -> ChainId {
        match self.packed {
            None => by_head(id),
            Some(_) => ChainId::new(id, parts),
        }
    }

    /// The chains that came back from the transmit queue since the last call.
    pub fn sent_back(&mut self) -> Vec<Used> {
        match &mut self.packed {
            None => self.sender.collect(),
            Some([_, sender]) => sender.collect(),
        }
    }

    /// The chains that came back from the receive queue since the last call.
    fn filled(&mut self) -> Vec<Used> {
        match &mut self.packed {
            None => self.receiver.collect(),
            Some([receiver, _]) => {
                let used = receiver.collect();
                self.collected += used.len() as u16;
                used
            }
        }
    }

    /// How many chains the device has ever returned in the receive queue.
    pub fn returned(&self) -> u16 {
        match &self.packed {
            None => self.receiver.used_index(),
            Some([receiver, _]) => self.collected + receiver.clone().collect().len() as u16,
        }
    }

    /// Where the device writes to return the chains of the receive queue.
    pub fn receive_used_ranges(&self) -> Vec<Range<u64>> {
        match &self.packed {
            None => vec![self.receiver.used_range()],
            Some([receiver, _]) => receiver.used_ranges().to_vec(),
        }
    }

    /// Puts octets into buffers that start at these places, and at the start.
    pub fn place(&mut self, octets: &[u8], cuts: &[usize]) -> Vec<Part> {
        let starts: Vec<usize> = [0].iter().chain(cuts).chain([&octets.len()]).copied().collect();
        let pieces = starts.windows(2).map(|pair| &octets[pair[0]..pair[1]]);
        pieces.map(|piece| self.transmit_part(piece)).collect()
    }

    fn transmit_part(&mut self, octets: &[u8]) -> Part {
        let at = self.next_transmit;
        self.next_transmit += octets.len() as u64 + 7;
        self.ram.put(at, octets);
        readable(at, octets.len() as u32)
    }

    /// One turn of the device on the transmit queue; the caller completes and clears.
    pub fn transmit(&self, frame: &mut Frame) -> Transmitted {
        transmit(&mut self.port.transmit_queue(0).lock(), frame, LINEAR_LEN)
    }

    /// Returns a sent chain to its driver.
    pub fn complete(&self, chain: ChainId) {
        let mut queue = self.port.transmit_queue(0).lock();
        queue.ring.as_mut().unwrap().complete(chain, 0);
        queue.publish();
    }

    /// Delivers a frame as a burst of its own.
    pub fn deliver(&self, frame: &mut Frame) -> Result<(), Refusal> {
        ReceiveBurst::open(self.port.receive_queue(0), 1).write(frame, &mut Frame::new())
    }

    /// The frames that the driver finds in its receive queue.
    pub fn received(&mut self) -> Vec<Received> {
        let mut chains = vec![];
        for used in self.filled() {
            let mut octets = vec![];
            for part in self.posted.remove(&(used.id as u16)).expect("a chain of ours") {
                let left = used.len as usize - octets.len();
                octets.extend(self.ram.octets(part.address, left.min(part.len as usize)));
            }
            assert_eq!(
                octets.len(),
                used.len as usize,
                "used.len is more than the buffer holds"
            );
            chains.push(octets);
        }
        let mut frames = vec![];
        while !chains.is_empty() {
            let header = self.header_of(&chains[0]);
            let count = if self.features.mergeable() {
                usize::from(header.num_buffers)
            } else {
                1
            };
            assert!((1..=chains.len()).contains(&count), "a frame in {count} buffers");
            let of_frame: Vec<_> = chains.drain(..count).collect();
            frames.push(Received {
                header,
                octets: of_frame.concat()[self.features.header_len()..].to_vec(),
                lens: of_frame.iter().map(|octets| octets.len() as u32).collect(),
            });
        }
        frames
    }

    /// The only frame that the driver finds.
    pub fn received_one(&mut self) -> Received {
        let mut frames = self.received();
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    fn header_of(&self, octets: &[u8]) -> VirtioNetHeader {
        let mut header = [0; VirtioNetHeader::LEN];
        let len = self.features.header_len();
        header[..len].copy_from_slice(&octets[..len]);
        VirtioNetHeader::parse(&header)
    }

    /// How often the driver was interrupted since the last call.
    pub fn calls(&self) -> u64 {
        self.call.read().unwrap_or(0)
    }

    /// How often the front end was told of a broken ring since the last call.
    pub fn errors(&self) -> u64 {
        self.err.read().unwrap_or(0)
    }
}

fn notifier(event: &EventFd) -> Notifier {
    let fd = event.try_clone().unwrap().into_raw_fd();
    // SAFETY: the clone just gave it up.
    Notifier::new(unsafe { OwnedFd::from_raw_fd(fd) }).unwrap()
}
