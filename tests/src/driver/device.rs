//! A virtio-net driver over vhost-user: the guest of a test, with every choice that a guest has.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::feature;
use super::format::Format;
use super::front_end::FrontEnd;
use super::header::Header;
use super::inflight::Inflight;
use super::memory::{BUFFERS, Memory};
use super::opening::{Opening, RingSetup};
use super::ring::{Part, Ring};
use super::rules;

/// The longest frame, with room for an Ethernet header and tags.
pub const MAX_FRAME: usize = 65535 + 14 + 8;
/// Long enough for anything that is to happen, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Frames that may wait in a transmit ring.
const TRANSMIT_BUFFERS: u16 = 64;
/// Octets between the parts of a scattered buffer, so that no two touch.
const GAP: u64 = 24;
/// Octets of a mergeable receive buffer (Linux: a page half).
const MERGEABLE_BUFFER: usize = 2048;

/// The choices of a guest.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The front end's way of speaking.
    pub opening: Opening,
    /// The virtio features that are taken.
    pub features: u64,
    /// Queue pairs.
    pub pairs: usize,
    /// Descriptors of each ring.
    pub size: u16,
    /// Whether the device is told of new buffers, or has to poll.
    pub kicks: bool,
    /// Whether the driver is told of used buffers, or polls.
    pub calls: bool,
    /// Octets of the buffers that header and frame are cut into, the rest in one more.
    pub transmit_cuts: &'static [usize],
    /// Octets of the buffers of one receive chain; empty is what Linux does.
    pub receive_parts: &'static [usize],
    /// Longest Ethernet frame without header that is received.
    pub mtu: usize,
    /// Whether the back end is to note what it has taken and not used yet.
    pub inflight: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            opening: Opening::default(),
            features: feature::LINUX,
            pairs: 1,
            size: 256,
            kicks: true,
            calls: true,
            transmit_cuts: &[],
            receive_parts: &[],
            mtu: 1500,
            inflight: false,
        }
    }
}

impl Setup {
    /// A driver that takes nothing but what it must.
    pub fn plain() -> Setup {
        Setup {
            features: feature::VERSION_1,
            ..Setup::default()
        }
    }

    /// As [`Setup::default`], with these features.
    pub fn with(features: u64) -> Setup {
        Setup {
            features,
            ..Setup::default()
        }
    }

    /// The format of the rings.
    pub fn format(&self) -> Format {
        match self.has(feature::RING_PACKED) {
            true => Format::Packed,
            false => Format::Split,
        }
    }

    fn has(&self, mask: u64) -> bool {
        self.features & mask == mask
    }

    fn header_len(&self) -> usize {
        let long = self.has(feature::VERSION_1) || self.has(feature::MRG_RXBUF);
        if long { 12 } else { 10 }
    }

    /// Octets of the buffers of one receive chain.
    fn receive_lengths(&self) -> Vec<usize> {
        if !self.receive_parts.is_empty() {
            return self.receive_parts.to_vec();
        }
        let large = feature::GUEST_TSO4 | feature::GUEST_TSO6 | feature::GUEST_USO;
        if self.has(feature::MRG_RXBUF) {
            vec![MERGEABLE_BUFFER]
        } else if self.features & large != 0 {
            // Linux without mergeable buffers: the header in a descriptor of its own, then pages.
            vec![self.header_len(), MAX_FRAME]
        } else {
            vec![self.header_len() + self.mtu + 18]
        }
    }
}

/// A queue with what signals it.
#[derive(Debug)]
pub struct Queue {
    /// The ring.
    pub ring: Ring,
    /// Tells the device.
    pub kick: EventFd,
    /// Tells the driver.
    pub call: EventFd,
    /// Tells of an error.
    pub err: EventFd,
    /// Guest address of the buffer of each chain, by id.
    buffers: Vec<u64>,
    spare: Vec<u64>,
    /// What the back end said when it stopped the ring.
    last_base: u32,
}

/// A frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The queue pair.
    pub pair: usize,
    /// Its header.
    pub header: Header,
    /// Its octets.
    pub frame: Vec<u8>,
    /// Octets in each buffer that it took.
    pub buffers: Vec<u32>,
}

/// A guest.
#[derive(Debug)]
pub struct NetDriver {
    /// The connection to the back end.
    pub front_end: FrontEnd,
    /// The guest's memory.
    pub memory: Memory,
    /// Receive and transmit queues in turn.
    pub queues: Vec<Queue>,
    /// What the back end offered.
    pub offered: u64,
    /// What the back end notes in memory that outlives it.
    pub inflight: Inflight,
    setup: Setup,
}

impl NetDriver {
    /// Connects to a back end that listens, and starts the rings with all receive buffers posted.
    pub fn connect(socket: &Path, setup: Setup) -> io::Result<NetDriver> {
        NetDriver::open(FrontEnd::connect(socket)?, setup)
    }

    /// As [`Self::connect`], on a connection that is there.
    pub fn open(front_end: FrontEnd, setup: Setup) -> io::Result<NetDriver> {
        let mut this = NetDriver::prepare(front_end, setup)?;
        this.negotiate()?;
        for pair in 0..this.setup.pairs {
            this.fill(pair);
        }
        this.activate()?;
        Ok(this)
    }

    /// Lays out memory and rings, and says nothing to the back end yet.
    pub fn prepare(front_end: FrontEnd, setup: Setup) -> io::Result<NetDriver> {
        let mut memory = setup.opening.memory()?;
        let queue = |index| Queue::new(&mut memory, &setup, index);
        let queues = (0..2 * setup.pairs).map(queue).collect::<io::Result<_>>()?;
        Ok(NetDriver {
            front_end,
            memory,
            queues,
            offered: 0,
            inflight: Inflight::new(setup.inflight),
            setup,
        })
    }

    /// The front end's part of the opening.
    pub fn negotiate(&mut self) -> io::Result<()> {
        let rings = self.ring_setups();
        self.offered = self.setup.opening.negotiate(&mut self.front_end, &rings)?;
        match self.setup.features & !self.offered {
            0 => Ok(()),
            missing => Err(io::Error::other(format!(
                "the features {missing:#x} are not offered"
            ))),
        }
    }

    /// The driver's part of the opening: from here on frames flow.
    pub fn activate(&mut self) -> io::Result<()> {
        let rings = self.ring_setups();
        let opening = self.setup.opening;
        opening.activate(
            &self.front_end,
            self.setup.features,
            &self.memory,
            &rings,
            &mut self.inflight,
        )?;
        self.front_end.settle()
    }

    /// Opens a new connection with the memory and the rings as they are, as after the back end has gone.
    pub fn reconnect(&mut self, socket: &Path) -> io::Result<()> {
        self.resume(FrontEnd::connect(socket)?)
    }

    /// As [`Self::reconnect`], on a connection that is there.
    pub fn resume(&mut self, front_end: FrontEnd) -> io::Result<()> {
        self.front_end = front_end;
        self.negotiate()?;
        self.activate()
    }

    /// The choices that were made.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Whether all these features were taken.
    pub fn has(&self, mask: u64) -> bool {
        self.setup.has(mask)
    }

    /// Octets of the header before every frame.
    pub fn header_len(&self) -> usize {
        self.setup.header_len()
    }

    /// The rings as the front end tells them.
    pub fn ring_setups(&self) -> Vec<RingSetup> {
        let setup = |queue: &Queue| RingSetup {
            size: queue.ring.size(),
            addresses: queue.ring.addresses(&self.memory),
            packed: self.has(feature::RING_PACKED),
            available: queue.ring.available_base(),
            used: queue.ring.used_base(&self.memory),
            last_base: queue.last_base,
            kick: self.setup.kicks.then(|| queue.kick.as_raw_fd()),
            call: self.setup.calls.then(|| queue.call.as_raw_fd()),
            err: queue.err.as_raw_fd(),
        };
        self.queues.iter().map(setup).collect()
    }

    /// Posts every receive buffer of a pair.
    pub fn fill(&mut self, pair: usize) {
        let lengths = self.setup.receive_lengths();
        let queue = &mut self.queues[2 * pair];
        while let Some(buffer) = queue.spare.pop() {
            queue.post(&self.memory, buffer, &lengths);
        }
        queue.publish(&self.memory, self.setup.kicks);
    }

    /// Sends a frame, waiting for room in the ring.
    pub fn send(&mut self, pair: usize, header: &Header, frame: &[u8]) {
        let end = Instant::now() + PATIENCE;
        while !self.try_send(pair, header, frame) {
            assert!(Instant::now() < end, "the device takes no frames");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Whether a frame can be sent on every pair now.
    pub fn has_room(&mut self) -> bool {
        let memory = &self.memory;
        self.queues.iter_mut().skip(1).step_by(2).all(|queue| {
            queue.reclaim(memory);
            !queue.spare.is_empty() && queue.ring.free() > self.setup.transmit_cuts.len()
        })
    }

    /// Sends a frame with an empty header on the first pair.
    pub fn send_frame(&mut self, frame: &[u8]) {
        self.send(0, &Header::default(), frame);
    }

    /// Sends a frame, if there is room in the ring.
    pub fn try_send(&mut self, pair: usize, header: &Header, frame: &[u8]) -> bool {
        let header = header.encode(self.header_len());
        let octets = [header.as_slice(), frame].concat();
        let cuts = cut(octets.len(), self.setup.transmit_cuts);
        let needed = if self.has(feature::INDIRECT) {
            1
        } else {
            cuts.len()
        };
        let queue = &mut self.queues[2 * pair + 1];
        queue.reclaim(&self.memory);
        if queue.ring.free() < needed {
            return false;
        }
        let Some(buffer) = queue.spare.pop() else {
            return false;
        };
        let parts = scatter(buffer, &cuts, false);
        let mut at = 0;
        for part in &parts {
            let end = at + part.len as usize;
            self.memory.write(part.address, &octets[at..end]);
            at = end;
        }
        queue.add(&self.memory, buffer, &parts);
        queue.publish(&self.memory, self.setup.kicks);
        true
    }

    /// The next frame of any pair, waiting for it; `None` if none comes in time. Waits for the device's call, so that a
    /// call that is not made is a frame that is not received.
    pub fn receive_within(&mut self, patience: Duration) -> Option<Received> {
        let end = Instant::now() + patience;
        loop {
            if let Some(received) = self.poll() {
                return Some(received);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.wait(left);
        }
    }

    /// The next frame, which must come.
    ///
    /// # Panics
    /// If it does not.
    pub fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE).expect("a frame")
    }

    /// The next frame of any pair, if there is one.
    pub fn poll(&mut self) -> Option<Received> {
        (0..self.setup.pairs).find_map(|pair| self.poll_pair(pair))
    }

    /// The next frame of a pair, if there is one. Its buffers are posted again.
    ///
    /// # Panics
    /// If the device broke a rule of virtio-net on the way (virtio 1.3, 5.1.6.4.1).
    pub fn poll_pair(&mut self, pair: usize) -> Option<Received> {
        let received = self.take(pair)?;
        self.fill(pair);
        Some(received)
    }

    /// As [`Self::poll_pair`], and the buffers are kept back until the next [`Self::fill`].
    pub fn take(&mut self, pair: usize) -> Option<Received> {
        let lengths = self.setup.receive_lengths();
        let (header_len, mergeable) = (self.header_len(), self.has(feature::MRG_RXBUF));
        let queue = &mut self.queues[2 * pair];
        // All buffers of a frame become visible at once, so those of the first one are there by now.
        let ready = queue.ring.ready(&self.memory);
        if ready == 0 {
            return None;
        }
        let first = queue.take(&self.memory, &lengths)?;
        assert!(first.len() >= header_len, "{} octets are no frame", first.len());
        let (header, frame) = first.split_at(header_len);
        let header = Header::decode(header);
        let count = usize::from(header.num_buffers);
        assert!(mergeable || count == 1, "{count} buffers without MRG_RXBUF");
        assert!(
            (1..=ready).contains(&count),
            "{count} buffers of which {ready} are visible"
        );
        let (mut frame, mut buffers) = (frame.to_vec(), vec![first.len() as u32]);
        for _ in 1..count {
            let capacity: usize = lengths.iter().sum();
            assert_eq!(
                *buffers.last().expect("one at least") as usize,
                capacity,
                "a buffer but the last is not full"
            );
            let more = queue.take(&self.memory, &lengths).expect("counted above");
            buffers.push(more.len() as u32);
            frame.extend(more);
        }
        rules::check(self.setup.features, &header, &frame);
        Some(Received {
            pair,
            header,
            frame,
            buffers,
        })
    }

    /// Waits until the device calls, or for this long.
    ///
    /// # Panics
    /// If the device used a buffer and did not call although it was to.
    pub fn wait(&mut self, patience: Duration) {
        if !self.setup.calls {
            std::thread::sleep(patience.min(Duration::from_micros(100)));
            return;
        }
        let receive = || self.queues.iter().step_by(2);
        receive().for_each(|queue| drop(queue.call.read()));
        if receive().any(|queue| queue.ring.arm(&self.memory)) {
            return;
        }
        let fds: Vec<RawFd> = receive().map(|queue| queue.call.as_raw_fd()).collect();
        let called = wait_readable(&fds, patience);
        if !called && receive().any(|queue| queue.ring.ready(&self.memory) > 0) {
            // It may have come just now; a call that is still missing will not come any more, unless the device is gone.
            let fds = [&fds[..], &[self.front_end.socket().as_raw_fd()]].concat();
            assert!(
                wait_readable(&fds, PATIENCE),
                "the device used a buffer and did not call"
            );
        }
        receive().for_each(|queue| queue.ring.disarm(&self.memory));
    }

    /// Waits until the device has used every transmitted buffer.
    ///
    /// # Panics
    /// If it does not.
    pub fn flush(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut left = 0;
            for queue in self.queues.iter_mut().skip(1).step_by(2) {
                queue.reclaim(&self.memory);
                left += queue.ring.outstanding();
            }
            if left == 0 {
                return;
            }
            assert!(Instant::now() < end, "{left} frames are never taken");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Ends the rings as at a driver's reset, and says where they stood.
    pub fn stop(&mut self) -> io::Result<Vec<u32>> {
        (0..self.queues.len()).map(|ring| self.stop_ring(ring)).collect()
    }

    /// Ends one ring, and says where it stood.
    pub fn stop_ring(&mut self, ring: usize) -> io::Result<u32> {
        let base = self.front_end.vring_base(ring)?;
        self.queues[ring].last_base = base;
        Ok(base)
    }

    /// What a front end says when one stopped ring goes on.
    pub fn restart_ring(&self, index: usize) -> io::Result<()> {
        let (front_end, ring) = (&self.front_end, &self.ring_setups()[index]);
        front_end.set_vring_num(index, u32::from(ring.size))?;
        front_end.set_vring_base(index, Opening::Qemu.base(ring))?;
        front_end.set_vring_addr(index, &ring.addresses)?;
        front_end.set_vring_kick(index, ring.kick)?;
        front_end.set_vring_call(index, ring.call)
    }

    /// What a front end says when all stopped rings go on.
    pub fn restart(&self) -> io::Result<()> {
        (0..self.queues.len()).try_for_each(|index| self.restart_ring(index))
    }

    /// Resets one ring (virtio 1.3, 2.6.1): it is stopped, and starts again empty, elsewhere and with another size.
    pub fn reset_ring(&mut self, index: usize, size: u16) -> io::Result<()> {
        self.stop_ring(index)?;
        let setup = Setup {
            size,
            ..self.setup.clone()
        };
        self.queues[index] = Queue::new(&mut self.memory, &setup, index)?;
        if index.is_multiple_of(2) {
            self.fill(index / 2);
        }
        self.restart_ring(index)
    }
}

impl Queue {
    fn new(memory: &mut Memory, setup: &Setup, index: usize) -> io::Result<Queue> {
        let indirect = setup.has(feature::INDIRECT);
        let ring = Ring::new(memory, setup.size, setup.features);
        let (count, len) = if index.is_multiple_of(2) {
            let lengths = setup.receive_lengths();
            let needed = if indirect { 1 } else { lengths.len() as u16 };
            (setup.size / needed, lengths.iter().sum())
        } else {
            (setup.size.min(TRANSMIT_BUFFERS), MAX_FRAME + 12)
        };
        let len = len as u64 + 32 * GAP;
        // An odd address: nothing in virtio-net aligns buffers.
        let spare = (0..count)
            .map(|_| memory.allocate(BUFFERS, len, 16) + 1)
            .collect();
        let queue = Queue {
            ring,
            kick: EventFd::new(EFD_NONBLOCK)?,
            call: EventFd::new(EFD_NONBLOCK)?,
            err: EventFd::new(EFD_NONBLOCK)?,
            buffers: vec![0; usize::from(setup.size)],
            spare,
            last_base: setup.format().start(),
        };
        queue.ring.disarm(memory);
        Ok(queue)
    }

    fn post(&mut self, memory: &Memory, buffer: u64, lengths: &[usize]) {
        self.add(memory, buffer, &scatter(buffer, lengths, true));
    }

    fn add(&mut self, memory: &Memory, buffer: u64, parts: &[Part]) {
        let head = self.ring.push(memory, parts);
        self.buffers[usize::from(head)] = buffer;
    }

    fn publish(&mut self, memory: &Memory, kicks: bool) {
        if self.ring.publish(memory) && kicks {
            self.kick.write(1).expect("a kick");
        }
    }

    fn reclaim(&mut self, memory: &Memory) {
        while let Some((head, len)) = self.ring.pop(memory) {
            assert_eq!(len, 0, "the device claims to have written to a frame");
            self.spare.push(self.buffers[usize::from(head)]);
        }
    }

    /// Reads what is in the next used chain, and keeps the buffer back.
    fn take(&mut self, memory: &Memory, lengths: &[usize]) -> Option<Vec<u8>> {
        let (head, len) = self.ring.pop(memory)?;
        let buffer = self.buffers[usize::from(head)];
        self.spare.push(buffer);
        let mut octets = vec![0; len as usize];
        let mut at = 0;
        for part in scatter(buffer, lengths, true) {
            let end = octets.len().min(at + part.len as usize);
            memory.read(part.address, &mut octets[at..end]);
            at = end;
        }
        assert_eq!(at, octets.len(), "more octets were written than there is room");
        Some(octets)
    }
}

/// Lengths of the parts of `len` octets: the cuts, and what is left.
fn cut(len: usize, cuts: &[usize]) -> Vec<usize> {
    let mut left = len;
    let mut lengths = Vec::new();
    for cut in cuts.iter().copied().chain([len]) {
        let take = cut.min(left);
        left -= take;
        if take > 0 {
            lengths.push(take);
        }
    }
    lengths
}

/// Buffers of these lengths, one after the other with gaps.
fn scatter(start: u64, lengths: &[usize], writable: bool) -> Vec<Part> {
    let mut address = start;
    let part = |len: &usize| {
        let part = Part {
            address,
            len: *len as u32,
            writable,
        };
        address += *len as u64 + GAP;
        part
    };
    lengths.iter().map(part).collect()
}

/// Waits until one of these can be read.
pub fn wait_readable(fds: &[RawFd], patience: Duration) -> bool {
    let entry = |fd: &RawFd| libc::pollfd {
        fd: *fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries: Vec<libc::pollfd> = fds.iter().map(entry).collect();
    let timeout = libc::c_int::try_from(patience.as_millis().max(1)).unwrap_or(libc::c_int::MAX);
    // SAFETY: pointer and length describe `entries`.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) > 0 }
}
