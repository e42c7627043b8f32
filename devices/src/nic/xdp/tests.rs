//! Where the memory of frames is after they came and went.

#[path = "../../../tests/common/veth.rs"]
#[allow(dead_code, reason = "a part of it is used")]
pub mod veth;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::socket::RING_SIZE;
use super::{Mode, Program};
use crate::memory::GuestMemory;
use crate::nic::netdev::Netdev;
use crate::nic::{Arrivals, Receive, Transmit};
use crate::packet::{Frame, MacAddress};
use veth::{ETHERTYPE, NEAR, with_cable};

const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
const FRAME_MAX: usize = 9018;

#[test]
fn all_memory_of_frames_comes_back() {
    with_cable("memory of frames", "mtu 9000", |cable| {
        let netdev = Netdev::open(NEAR).unwrap();
        let queue = Queue::open(Mode::Copy, &netdev, 0, FRAME_MAX, &GuestMemory::default()).unwrap();
        let mut program = Program::new(1).unwrap();
        program.serve(0, &queue.bound.socket).unwrap();
        program.claim(&BTreeSet::from([GUEST])).unwrap();
        program.attach(netdev.ifindex()).unwrap();
        let umem = Arc::clone(&queue.bound.umem);
        let (mut receive, mut transmit) = queue.split(false).unwrap();
        assert_eq!(receive.frames_with_kernel(), RING_SIZE);

        let station = cable.station();
        let mut arrivals = Arrivals::default();
        let mut frame = Frame::new();
        let (count, end) = (3 * RING_SIZE, Instant::now() + Duration::from_secs(20));
        let mut done = 0;
        while done < count {
            assert!(Instant::now() < end, "{done} of {count}");
            for number in done..done + 16 {
                let len = 14 + (number as usize * 977) % 9000;
                let mut octets = [&GUEST.0[..], &[2; 6], &ETHERTYPE].concat();
                octets.resize(len, number as u8);
                station.send(&octets).unwrap();
            }
            let mut left = 16;
            while left > 0 && Instant::now() < end {
                arrivals.clear();
                receive.receive(&mut arrivals);
                for arrival in arrivals.frames() {
                    assert!(arrival.fill(&mut frame));
                    transmit.transmit(&frame).unwrap();
                    left -= 1;
                }
                frame.clear();
                receive.release();
                transmit.flush();
            }
            done += 16;
        }
        assert_eq!(receive.frames_with_kernel(), RING_SIZE);
        while transmit.frames_here() < RING_SIZE as usize {
            assert!(Instant::now() < end, "{} frames are back", transmit.frames_here());
        }
        drop((receive, transmit));
        assert_eq!(Arc::strong_count(&umem), 1);
    });
}
