//! A NIC through AF_XDP, at one end of a virtual cable.

#[path = "nic_xdp/checksums.rs"]
mod checksums;
#[path = "nic_xdp/claims.rs"]
mod claims;
#[path = "nic_xdp/guest_memory.rs"]
mod guest_memory;
#[path = "nic_xdp/netdev.rs"]
mod netdev;
#[path = "nic_xdp/speed.rs"]
mod speed;
#[path = "common/veth.rs"]
mod veth;

use std::time::{Duration, Instant};

use devices::Refusal;
use devices::nic::xdp::{Mode, XdpConfig, open};
use devices::nic::{Arrivals, Claim, Nic};
use devices::packet::{Checksum, Frame, MacAddress, VirtioNetHeader};
use veth::{ETHERTYPE, FAR, NEAR, Station, ip, run, with_cable};

const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> XdpConfig {
    XdpConfig {
        ifname: NEAR.to_owned(),
        first_queue: 0,
        queues: 1,
        mode: Mode::Auto,
        busy_poll: false,
    }
}

fn open_for(claim: &Claim) -> Nic {
    let mut nic = open(&config()).unwrap_or_else(|error| panic!("{error}"));
    nic.control.claim(claim).unwrap_or_else(|error| panic!("{error}"));
    nic
}

/// A frame of this length to an address, whose octets nobody else's are.
fn frame(destination: MacAddress, number: u32, len: usize) -> Vec<u8> {
    let mut octets = [
        &destination.0[..],
        &[2, 0, 0, 0, 0, 9],
        &ETHERTYPE,
        &number.to_be_bytes(),
    ]
    .concat();
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    octets.resize_with(len, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    octets
}

/// What has arrived at a queue: each frame as it is, and what is said of it.
fn take_described(nic: &Nic, queue: usize) -> Vec<(Vec<u8>, VirtioNetHeader)> {
    let mut arrivals = Arrivals::default();
    let mut frame = Frame::new();
    let mut receive = nic.port.queue(queue).receive();
    receive.receive(&mut arrivals);
    let frames = arrivals.frames().iter().map(|arrival| {
        assert!(arrival.fill(&mut frame), "{arrival:?}");
        (frame.to_vec(), arrival.header)
    });
    let frames = frames.collect();
    frame.clear();
    receive.release();
    frames
}

/// Frames of our EtherType that have arrived at a queue.
fn take(nic: &Nic, queue: usize) -> Vec<Vec<u8>> {
    let frames = take_described(nic, queue).into_iter().map(|it| it.0);
    frames.filter(|frame| frame[12..14] == ETHERTYPE).collect()
}

/// Waits for a frame at a queue.
fn wait_for(nic: &Nic, queue: usize, wanted: impl Fn(&[u8]) -> bool) -> Option<(Vec<u8>, VirtioNetHeader)> {
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        if let Some(frame) = take_described(nic, queue).into_iter().find(|it| wanted(&it.0)) {
            return Some(frame);
        }
    }
    None
}

/// Waits for a frame of our EtherType at a queue.
fn wait(nic: &Nic, queue: usize) -> Option<Vec<u8>> {
    wait_for(nic, queue, |frame| frame[12..14] == ETHERTYPE).map(|it| it.0)
}

fn send(nic: &Nic, queue: usize, octets: &[u8]) {
    let mut transmit = nic.port.queue(queue).transmit();
    transmit.transmit(&Frame::from_octets(octets)).expect("room");
    transmit.flush();
}

/// Sends frames from the far end, each of which the near end sends back, and compares.
fn echo(nic: &Nic, station: &Station, count: u32, len: impl Fn(u32) -> usize) {
    const WINDOW: u32 = 64;
    let end = Instant::now() + PATIENCE;
    let (mut sent, mut back) = (0, 0);
    let mut arrivals = Arrivals::default();
    let mut scratch = Frame::new();
    while back < count {
        assert!(Instant::now() < end, "{back} of {sent} frames came back");
        while sent < count && sent - back < WINDOW {
            station.send(&frame(GUEST, sent, len(sent))).expect("sent");
            sent += 1;
        }
        let mut receive = nic.port.queue(0).receive();
        let mut transmit = nic.port.queue(0).transmit();
        arrivals.clear();
        receive.receive(&mut arrivals);
        for arrival in arrivals.frames() {
            if arrival.first()[12..14] == ETHERTYPE {
                assert!(arrival.fill(&mut scratch));
                transmit.transmit(&scratch).expect("room for a window of frames");
            }
        }
        transmit.flush();
        scratch.clear();
        receive.release();
        while let Some(octets) = station.receive(0) {
            assert_eq!(octets, frame(GUEST, back, len(back)), "frame {back}");
            back += 1;
        }
    }
}

fn random_len(number: u32, min: usize, max: usize) -> usize {
    min + (number.wrapping_mul(2_246_822_519) >> 8) as usize % (max - min + 1)
}

#[test]
fn frames_of_all_sizes_come_back_as_they_were_and_in_order() {
    with_cable("frames come back", "", |cable| {
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        echo(&nic, &cable.station(), 10_000, |number| {
            random_len(number, 18, 1514)
        });
    });
}

#[test]
fn long_frames_in_several_parts_come_back_as_they_were() {
    with_cable("long frames come back", "mtu 9000", |cable| {
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        echo(&nic, &cable.station(), 10_000, |number| {
            random_len(number, 18, 9014)
        });
    });
}

/// A UDP datagram with this much payload and right checksums.
fn udp(payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|index| (index * 7 + 3) as u8).collect();
    let builder = etherparse::PacketBuilder::ethernet2(GUEST.0, [2, 0, 0, 0, 0, 9])
        .ipv4([10, 9, 0, 7], [10, 9, 0, 2], 64)
        .udp(1000, 2000);
    let mut octets = Vec::new();
    builder.write(&mut octets, &payload).unwrap();
    octets
}

/// Leaves the checksum of such a datagram undone: its field has the sum of the pseudo-header (virtio 1.3, 5.1.6.2).
fn leave_checksum(frame: &mut Frame, len: usize) {
    let sum = Checksum::pseudo_header_v4([10, 9, 0, 7], [10, 9, 0, 2], 17, (len - 34) as u16);
    frame.head_mut()[40..42].copy_from_slice(&sum.fold().to_be_bytes());
    frame.offload.needs_csum = true;
    (frame.offload.csum_start, frame.offload.csum_offset) = (34, 6);
}
