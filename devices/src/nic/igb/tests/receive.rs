use std::sync::Arc;

use crate::nic::igb::driver::Adapter;
use crate::nic::igb::receive::{IgbReceive, MEMORY, RING};
use crate::nic::igb::registers as r;
use crate::nic::vfio::{DmaMemory, new_event};
use crate::nic::{Arrivals, Receive};

/// Queue 1 of a NIC, and the NIC's view of its memory: descriptors from the start on, buffers behind.
struct Nic {
    adapter: Arc<Adapter>,
    queue: IgbReceive,
    ring: DmaMemory,
    buffers: DmaMemory,
    next: usize,
}

impl Nic {
    fn new() -> Nic {
        let adapter = Adapter::without_device(2);
        let whole = DmaMemory::without_device(MEMORY);
        let mut memory = whole.alias();
        let queue = IgbReceive::new(&adapter, 1, &mut memory, new_event("none").unwrap());
        let mut parts = whole.alias();
        Nic {
            adapter,
            queue,
            ring: parts.take(RING * 16),
            buffers: parts,
            next: 0,
        }
    }

    fn register(&self, register: usize) -> u32 {
        self.adapter.registers.read(r::of_queue(register, 1))
    }

    /// Writes a descriptor back, and its buffer's first octet.
    fn write_back(&mut self, len: u64, status: u64) {
        let index = self.next % RING;
        assert_eq!(
            self.ring.read::<u64>(16 * index),
            self.buffers.iova(2048 * index),
            "its own buffer"
        );
        self.buffers.write(2048 * index, self.next as u8);
        self.ring.write(16 * index + 8, status | r::RX_DD | len << 32);
        self.next += 1;
    }

    /// Lengths and first octets of what is received.
    fn receive(&mut self) -> Vec<(usize, u8, bool)> {
        let mut arrivals = Arrivals::default();
        self.queue.receive(&mut arrivals);
        arrivals
            .frames()
            .iter()
            .map(|frame| (frame.len(), frame.first()[0], frame.header.data_valid()))
            .collect()
    }
}

#[test]
fn a_queue_is_set_up_with_its_ring_and_buffers_of_2_kib() {
    let nic = Nic::new();
    let address = u64::from(nic.register(r::RDBAL)) | u64::from(nic.register(r::RDBAH)) << 32;
    assert_eq!(address, nic.ring.iova(0));
    assert_eq!(nic.register(r::RDLEN) as usize, 16 * RING);
    assert_eq!(nic.register(r::SRRCTL) & 0x7f, 2);
    assert_eq!(
        nic.register(r::RDT),
        0,
        "it is given descriptors when it is enabled"
    );
}

#[test]
fn frames_come_in_order_with_what_the_nic_says_of_their_checksums() {
    let mut nic = Nic::new();
    nic.write_back(60, r::RX_EOP | r::RX_L4I);
    nic.write_back(1514, r::RX_EOP | r::RX_L4I | r::RX_L4E);
    nic.write_back(100, r::RX_EOP | r::RX_L4I | r::RX_IPE);
    nic.write_back(64, r::RX_EOP);
    assert_eq!(
        nic.receive(),
        [(60, 0, true), (1514, 1, false), (100, 2, false), (64, 3, false)]
    );
    assert_eq!(nic.receive(), [], "once");
}

#[test]
fn a_frame_of_several_buffers_comes_when_the_last_one_is_there() {
    let mut nic = Nic::new();
    for _ in 0..4 {
        nic.write_back(2048, 0);
        assert_eq!(nic.receive(), []);
    }
    nic.write_back(800, r::RX_EOP);
    assert_eq!(nic.receive(), [(4 * 2048 + 800, 0, false)]);
}

#[test]
fn frames_that_the_nic_found_broken_are_passed_over() {
    let mut nic = Nic::new();
    nic.write_back(60, r::RX_EOP | r::RX_RXE);
    nic.write_back(0, r::RX_EOP);
    nic.write_back(61, r::RX_EOP);
    assert_eq!(nic.receive(), [(61, 2, false)]);
}

#[test]
fn descriptors_of_broken_frames_go_back_even_if_nothing_else_arrives() {
    let mut nic = Nic::new();
    for _ in 0..2 * RING {
        nic.write_back(60, r::RX_EOP | r::RX_RXE);
        assert_eq!(nic.receive(), []);
        nic.queue.release();
    }
    nic.write_back(61, r::RX_EOP);
    assert_eq!(nic.receive().len(), 1);
}

#[test]
fn a_length_beyond_the_buffer_and_a_frame_without_end_do_no_harm() {
    let mut nic = Nic::new();
    nic.write_back(0xffff, r::RX_EOP);
    assert_eq!(nic.receive(), [(2048, 0, false)]);
    nic.queue.release();
    for _ in 0..10 {
        nic.write_back(2048, 0);
    }
    nic.write_back(10, r::RX_EOP);
    nic.write_back(62, r::RX_EOP);
    assert_eq!(
        nic.receive(),
        [(62, 12, false)],
        "the long one is dropped as a whole"
    );
    nic.queue.release();
    for _ in 0..RING - 1 {
        nic.write_back(2048, 0);
    }
    assert_eq!(nic.receive(), []);
    assert!(nic.queue.arm(), "nothing to look at, so nobody looks");
    nic.queue.release();
    nic.write_back(2048, r::RX_EOP);
    nic.write_back(63, r::RX_EOP);
    assert_eq!(nic.receive().len(), 1);
}

#[test]
fn a_part_of_a_frame_is_nothing_to_look_at() {
    let mut nic = Nic::new();
    nic.write_back(2048, 0);
    assert!(nic.queue.arm());
    nic.write_back(10, r::RX_EOP);
    assert!(!nic.queue.arm());
}

#[test]
fn released_descriptors_go_back_to_the_nic_but_for_one() {
    let mut nic = Nic::new();
    for round in 0..20 {
        for _ in 0..50 {
            nic.write_back(60, r::RX_EOP);
        }
        assert_eq!(nic.receive().len(), 50, "round {round}");
        nic.queue.release();
        assert_eq!(nic.register(r::RDT) as usize, (nic.next + RING - 1) % RING);
    }
}

#[test]
fn what_was_not_released_is_not_taken_for_new_frames() {
    let mut nic = Nic::new();
    for _ in 0..RING {
        nic.write_back(60, r::RX_EOP);
    }
    let mut count = 0;
    loop {
        match nic.receive().len() {
            0 => break,
            received => count += received,
        }
    }
    assert_eq!(count, RING - 1, "one more would be the first again");
}

#[test]
fn arming_fails_if_a_frame_is_there() {
    let mut nic = Nic::new();
    assert!(nic.queue.arm());
    assert_eq!(
        nic.adapter.registers.read::<u32>(r::EIMS),
        1 << 1,
        "its own vector"
    );
    nic.write_back(60, r::RX_EOP);
    assert!(!nic.queue.arm());
    assert_eq!(nic.receive().len(), 1);
    assert_eq!(
        nic.adapter.registers.read::<u32>(r::EIMC),
        1 << 1,
        "nobody is woken while frames are taken"
    );
}
