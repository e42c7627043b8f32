//! The queues of a device that the tests play, well or ill.

use std::sync::Arc;

use super::driver::Adapter;
use super::receive::{BUFFER, VirtioReceive};
use super::ring::{self, DriverRing};
use super::transmit::VirtioTransmit;
use super::{receive, transmit};
use crate::Refusal;
use crate::nic::vfio::{DmaMemory, new_event};
use crate::nic::{Arrivals, Receive, Transmit};
use crate::packet::{Frame, GsoType, Offload, VirtioNetHeader};

const SIZE: u16 = 64;
const QUEUE: u16 = 3;
const NOBODY: u16 = 0xffff;
const NO_NOTIFY: u16 = 1;

/// A buffer as the device finds it: its offset in the memory, its length, and flags.
type Buffer = (usize, u32, u16);

/// A device's view of one queue.
struct Device {
    adapter: Arc<Adapter>,
    whole: DmaMemory,
    descriptors: DmaMemory,
    avail: DmaMemory,
    used: DmaMemory,
    next_avail: u16,
    next_used: u16,
}

impl Device {
    /// A device with a ring and so much memory behind it, which comes after it.
    fn new(len: usize) -> (Device, DriverRing, DmaMemory) {
        let adapter = Adapter::without_device();
        let whole = DmaMemory::without_device(ring::MEMORY + len);
        let mut memory = whole.alias();
        let ring = DriverRing::new(&adapter, QUEUE, SIZE, &mut memory);
        let mut parts = whole.alias();
        let device = Device {
            adapter,
            descriptors: parts.take(4096),
            avail: parts.take(4096),
            used: parts.take(4096),
            whole,
            next_avail: 0,
            next_used: 0,
        };
        (device, ring, memory)
    }

    /// The next chain that is available: its head, and its buffers.
    fn chain(&mut self) -> Option<(u16, Vec<Buffer>)> {
        if self.next_avail == self.avail.read::<u16>(2) {
            return None;
        }
        let head: u16 = self.avail.read(4 + 2 * usize::from(self.next_avail % SIZE));
        self.next_avail = self.next_avail.wrapping_add(1);
        let (mut buffers, mut index) = (Vec::new(), head);
        loop {
            let at = 16 * usize::from(index);
            let address: u64 = self.descriptors.read(at);
            let len: u32 = self.descriptors.read(at + 8);
            let flags: u16 = self.descriptors.read(at + 12);
            buffers.push(((address - self.whole.iova(0)) as usize, len, flags));
            if flags & 1 == 0 {
                return Some((head, buffers));
            }
            index = self.descriptors.read(at + 14);
        }
    }

    fn octets(&self, buffers: &[Buffer]) -> Vec<u8> {
        buffers
            .iter()
            .flat_map(|(at, len, _)| (*at..at + *len as usize).map(|octet| self.whole.read::<u8>(octet)))
            .collect()
    }

    fn use_chain(&mut self, head: u32, len: u32) {
        let slot = usize::from(self.next_used % SIZE);
        self.used.write(4 + 8 * slot, head);
        self.used.write(8 + 8 * slot, len);
        self.next_used = self.next_used.wrapping_add(1);
        self.used.write(2, self.next_used);
    }

    /// Delivers a frame of this length, whose octets are all the same, in as many buffers as it says.
    fn deliver(&mut self, len: usize, octet: u8, buffers: u16) {
        let (mut left, mut first) = (len, true);
        while left > 0 || first {
            let (head, chain) = self.chain().expect("there are buffers");
            let (at, _, flags) = chain[0];
            assert_eq!((chain.len(), flags), (1, 2), "one buffer to write to");
            let header = if first { VirtioNetHeader::LEN } else { 0 };
            let now = left.min(BUFFER - header);
            if first {
                let words = VirtioNetHeader {
                    num_buffers: buffers,
                    ..VirtioNetHeader::default()
                };
                for (index, value) in words.emit().iter().enumerate() {
                    self.whole.write(at + index, *value);
                }
            }
            for index in 0..now {
                self.whole.write(at + header + index, octet);
            }
            self.use_chain(u32::from(head), (header + now) as u32);
            (left, first) = (left - now, false);
        }
    }
}

fn receiver() -> (Device, VirtioReceive) {
    let (device, ring, mut memory) = Device::new(receive::MEMORY);
    let mut receive = VirtioReceive::new(ring, &mut memory, true, new_event("none").unwrap());
    receive.start();
    (device, receive)
}

fn transmitter() -> (Device, VirtioTransmit) {
    let (device, ring, mut memory) = Device::new(transmit::MEMORY);
    (device, VirtioTransmit::new(ring, &mut memory, 1522))
}

/// Lengths and last octets of what is received.
fn received(receive: &mut VirtioReceive) -> Vec<(usize, u8)> {
    let mut arrivals = Arrivals::default();
    receive.receive(&mut arrivals);
    let mut found = Vec::new();
    for arrival in arrivals.frames() {
        let mut frame = Frame::new();
        assert!(arrival.fill(&mut frame));
        found.push((arrival.len(), frame.to_vec().pop().unwrap()));
    }
    found
}

#[test]
fn frames_arrive_whole_and_their_buffers_go_back() {
    let (mut device, mut receive) = receiver();
    for round in 0..100 {
        device.deliver(60, round, 1);
        device.deliver(60000, round, 15);
        device.deliver(1514, round, 1);
        assert_eq!(
            received(&mut receive),
            [(60, round), (60000, round), (1514, round)]
        );
        receive.release();
    }
}

#[test]
fn a_frame_waits_for_all_of_its_buffers() {
    let (mut device, mut receive) = receiver();
    device.deliver(4084, 1, 2);
    assert_eq!(received(&mut receive), []);
    assert!(receive.arm(), "a part is nothing to look at");
    let (head, _) = device.chain().unwrap();
    device.use_chain(u32::from(head), 100);
    assert_eq!(received(&mut receive)[0].0, 4184);
}

#[test]
fn lies_about_buffers_and_lengths_cost_frames_and_nothing_else() {
    let (mut device, mut receive) = receiver();
    device.deliver(60, 1, 0xffff);
    device.deliver(61, 2, 0);
    assert_eq!(received(&mut receive), [(61, 2)]);
    // More octets than the buffer has, and a head that the ring does not have.
    let (head, chain) = device.chain().unwrap();
    for index in 0..12 {
        device.whole.write(chain[0].0 + index, 0u8);
    }
    device.use_chain(u32::from(head) + 0x1_0000 + u32::from(SIZE), u32::MAX);
    assert_eq!(received(&mut receive)[0].0, BUFFER - VirtioNetHeader::LEN);
    // An index that is further than the ring is long, and the same buffers over and over.
    for _ in 0..10 {
        device.next_used = device.next_used.wrapping_add(30000);
        device.used.write(2, device.next_used);
        received(&mut receive);
        receive.release();
    }
}

#[test]
fn arming_fails_if_a_frame_is_there_and_interrupts_are_off_meanwhile() {
    let (mut device, mut receive) = receiver();
    assert!(receive.arm());
    assert_eq!(device.avail.read::<u16>(0), 0, "interrupts are asked for");
    device.deliver(60, 1, 1);
    assert!(!receive.arm());
    received(&mut receive);
    assert_eq!(device.avail.read::<u16>(0), 1, "and no more");
}

#[test]
fn a_frame_goes_behind_its_header() {
    let (mut device, mut transmit) = transmitter();
    let mut frame = Frame::from_octets(&vec![7; 5000]);
    frame.offload = Offload {
        needs_csum: true,
        csum_start: 34,
        csum_offset: 16,
        gso_type: GsoType::TcpV4,
        gso_size: 1448,
        hdr_len: 54,
        ..Offload::default()
    };
    transmit.transmit(&frame).unwrap();
    assert_eq!(device.chain(), None, "not before the flush");
    transmit.flush();
    let (_, buffers) = device.chain().unwrap();
    let octets = device.octets(&buffers);
    let header = VirtioNetHeader::parse(octets.first_chunk().unwrap());
    assert_eq!((header.flags, header.gso_type, header.gso_size), (1, 1, 1448));
    assert_eq!(octets[12..], frame.to_vec());
    for (at, len, flags) in &buffers {
        assert!(flags & 2 == 0, "to be read only");
        assert!(at % 4096 + *len as usize <= 4096, "no piece reaches over a page");
    }
}

#[test]
fn the_devices_own_word_is_not_told_to_it() {
    let (mut device, mut transmit) = transmitter();
    let mut frame = Frame::from_octets(&[7; 60]);
    frame.offload.data_valid = true;
    transmit.transmit(&frame).unwrap();
    transmit.flush();
    let (_, buffers) = device.chain().unwrap();
    assert_eq!(device.octets(&buffers)[..12], [0; 12]);
}

#[test]
fn frames_that_come_back_out_of_order_do_not_give_room_of_others_away() {
    let (mut device, mut transmit) = transmitter();
    let mut heads = Vec::new();
    while transmit
        .transmit(&Frame::from_octets(&[heads.len() as u8; 60]))
        .is_ok()
    {
        transmit.flush();
        heads.push(device.chain().unwrap());
    }
    assert_eq!(heads.len(), usize::from(SIZE));
    let frame = Frame::from_octets(&[99; 60]);
    for (head, _) in &heads[1..] {
        device.use_chain(u32::from(*head), 0);
    }
    assert_eq!(
        transmit.transmit(&frame),
        Err(Refusal::Full),
        "the first is on its way"
    );
    assert_eq!(device.octets(&heads[0].1)[12..], [0; 60]);
    device.use_chain(u32::from(heads[0].0), 0);
    for _ in 0..SIZE {
        transmit.transmit(&frame).unwrap();
    }
    assert_eq!(transmit.transmit(&frame), Err(Refusal::Full));
}

#[test]
fn a_device_that_polls_is_not_notified() {
    let (device, mut transmit) = transmitter();
    let frame = Frame::from_octets(&[7; 60]);
    device.adapter.transport.notified();
    transmit.transmit(&frame).unwrap();
    transmit.flush();
    assert_eq!(device.adapter.transport.notified(), QUEUE);
    transmit.flush();
    assert_eq!(device.adapter.transport.notified(), NOBODY, "nothing new");
    device.used.write(0, NO_NOTIFY);
    transmit.transmit(&frame).unwrap();
    transmit.flush();
    assert_eq!(device.adapter.transport.notified(), NOBODY);
}

#[test]
fn frames_that_the_device_does_not_take_are_refused() {
    let (_, mut transmit) = transmitter();
    assert_eq!(transmit.transmit(&Frame::new()), Err(Refusal::TooLong));
    let long = Frame::from_octets(&[0; 1523]);
    assert_eq!(
        transmit.transmit(&long),
        Err(Refusal::TooLong),
        "it is not to be cut"
    );
}
