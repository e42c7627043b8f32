//! What is wrong with a frame is found, and nothing else is.

use super::*;
use crate::driver::memory::SharedRegion;
use crate::load::frame::Shape;
use crate::load::memory::Memory;
use crate::load::ring::device::{Device, SplitDevice, write};
use crate::load::ring::{RingConfig, SplitRing};

const FIRST_FLOW: u16 = 5;
const LEN: usize = 594;

struct Receiver {
    sink: Sink,
    queue: Queue<SplitRing>,
    device: SplitDevice,
    region: SharedRegion,
    _memory: Memory,
}

fn receiver(verify: Verify, buffer_len: u32) -> Receiver {
    let config = RingConfig {
        size: 64,
        in_order: true,
        event_idx: false,
        indirect: false,
        writable: true,
        buffer_len,
        kicks: false,
    };
    let mut memory = Memory::new(Queue::<SplitRing>::octets(&config), false).unwrap();
    let mut queue = Queue::<SplitRing>::new(&config, &mut memory).unwrap();
    queue.refill().unwrap();
    Receiver {
        sink: Sink::new(vec![template(0), template(1)], 1, FIRST_FLOW, verify, true),
        device: SplitDevice::new(queue.ring.addresses(), memory.region(), &config),
        region: memory.region(),
        queue,
        _memory: memory,
    }
}

fn template(flow: u16) -> Template {
    let shape = Shape {
        len: LEN,
        segment: None,
    };
    Template::new([2; 6], [4; 6], FIRST_FLOW + flow, shape)
}

/// Virtio-net header and frame.
fn frame(flow: u16, sequence: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    template(flow).whole(Tag::new(FIRST_FLOW + flow, sequence), &mut frame);
    [&[0; HEADER], frame.as_slice()].concat()
}

impl Receiver {
    /// Has a frame delivered, in as many buffers as it takes.
    fn deliver(&mut self, mut octets: Vec<u8>) {
        let len = self.queue.buffers.len;
        let buffers = octets.len().div_ceil(len) as u16;
        octets[NUM_BUFFERS..HEADER].copy_from_slice(&buffers.to_le_bytes());
        for part in octets.chunks(len) {
            let buffer = self.device.next().expect("a receive buffer");
            write(&self.region, buffer.parts[0].0, part);
            self.device.use_batch(&[buffer.id], part.len() as u32);
        }
    }

    /// What comes of these frames.
    fn arrivals(&mut self, frames: Vec<Vec<u8>>) -> Arrivals {
        for frame in frames {
            self.deliver(frame);
            self.sink.turn(&mut self.queue, |_, _| ()).unwrap();
        }
        self.sink.arrivals
    }
}

fn good(frames: u64) -> Arrivals {
    Arrivals {
        frames,
        octets: frames * LEN as u64,
        ..Arrivals::default()
    }
}

#[test]
fn frames_as_they_were_sent_are_good_in_one_buffer_or_in_many() {
    for buffer_len in [2048, 606, 605, 100] {
        let mut receiver = receiver(Verify::All, buffer_len);
        let frames = (0..200)
            .flat_map(|sequence| [frame(0, sequence), frame(1, sequence)])
            .collect();
        assert_eq!(
            receiver.arrivals(frames),
            good(400),
            "{:?}",
            receiver.sink.complaint
        );
    }
}

#[test]
fn a_frame_that_is_lost_is_not_a_fault() {
    let frames = vec![frame(0, 0), frame(0, 2), frame(0, 3)];
    assert_eq!(receiver(Verify::All, 2048).arrivals(frames), good(3));
}

#[test]
fn each_changed_octet_is_found() {
    for at in (0..HEADER + LEN).filter(|at| !(2..4).contains(at) && !(NUM_BUFFERS..HEADER).contains(at)) {
        let mut changed = frame(0, 0);
        changed[at] ^= 1;
        let arrivals = receiver(Verify::All, 2048).arrivals(vec![changed]);
        assert_eq!(arrivals.corrupt, 1, "octet {at}");
    }
}

#[test]
fn of_a_sample_each_64th_frame_is_looked_at_whole() {
    let changed = |sequence| {
        let mut changed = frame(0, sequence);
        changed[HEADER + LEN - 1] ^= 1;
        changed
    };
    let mut receiver = receiver(Verify::Sample, 2048);
    assert_eq!(receiver.arrivals((0..640).map(changed).collect()).corrupt, 10);
}

#[test]
fn a_frame_that_is_too_long_or_too_short_is_found_in_a_sample_too() {
    let mut longer = frame(0, 1);
    longer.push(0);
    let mut shorter = frame(0, 2);
    shorter.pop();
    let runt = vec![0; HEADER];
    let arrivals = receiver(Verify::Sample, 2048).arrivals(vec![longer, shorter, runt]);
    assert_eq!((arrivals.frames, arrivals.corrupt), (3, 3));
}

#[test]
fn a_frame_of_no_flow_is_corrupt() {
    let frames = vec![frame(2, 1), frame(u16::MAX - FIRST_FLOW, 1)];
    assert_eq!(receiver(Verify::Sample, 2048).arrivals(frames).corrupt, 2);
}

#[test]
fn overtaken_frames_are_counted_by_flow() {
    let frames = vec![frame(0, 1), frame(1, 0), frame(0, 0), frame(1, 1), frame(1, 1)];
    let arrivals = receiver(Verify::All, 2048).arrivals(frames);
    assert_eq!((arrivals.reordered, arrivals.corrupt), (2, 0));
}

#[test]
fn a_frame_that_is_shown_in_parts_ends_the_run() {
    let mut receiver = receiver(Verify::Sample, 100);
    let mut first = frame(0, 1);
    first.truncate(100);
    first[NUM_BUFFERS] = 7;
    let buffer = receiver.device.next().unwrap();
    write(&receiver.region, buffer.parts[0].0, &first);
    receiver.device.use_batch(&[buffer.id], 100);
    assert_eq!(receiver.sink.turn(&mut receiver.queue, |_, _| ()).unwrap(), 1);
    let error = receiver.sink.turn(&mut receiver.queue, |_, _| ()).unwrap_err();
    assert!(matches!(error, LoadError::Torn), "{error}");
}
