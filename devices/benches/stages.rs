//! The stages of a frame's way, each alone, in processor cycles for a frame. What the drivers do is not counted; as they
//! are on the same core, most memory is at hand.

mod common;

use std::hint::black_box;

use common::cycles::{Cycles, now};
use common::driver::{Driver, Shape};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::guest::{GuestPort, NetFeatures, OFFERED, ReceiveBurst, Transmitted, transmit};
use devices::packet::{
    Checksum, Frame, GsoType, LINEAR_LEN, Offload, OffloadFeatures, Slice, VirtioNetHeader, adapt, flow_hash,
};
use devices::ring::{Chain, LOOKAHEAD, Ring};

const BURST: u16 = 64;
const KILO_64: usize = 64 << 10;
const SEGMENT: usize = 1448;
/// Ethernet, IPv4 and TCP with its time stamps.
const HEADERS: usize = 14 + 20 + 32;

/// A burst is looked at, taken, completed and published; nobody touches the buffers.
fn rings(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(BURST.into()));
    for (packed, indirect, buffers) in [
        (false, false, 1),
        (false, false, 4),
        (false, true, 1),
        (false, true, 4),
        (true, false, 1),
        (true, false, 4),
        (true, true, 1),
        (true, true, 4),
    ] {
        let shape = Shape {
            packed,
            indirect,
            buffers,
            len: 256,
            writable: false,
        };
        let (mut driver, mut chain) = (Driver::new(shape), Chain::default());
        let mut ring = driver.start();
        let place = if indirect { "indirect" } else { "direct" };
        let id = format!("{}, {place}, buffers: {buffers}", shape.format());
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = 0;
                for _ in 0..rounds {
                    driver.offer(BURST);
                    let start = now();
                    let count = walk(&mut ring, &mut chain);
                    total += now() - start;
                    assert_eq!(count, BURST);
                }
                total
            });
        });
    }
    group.finish();
}

fn walk(ring: &mut Ring, chain: &mut Chain) -> u16 {
    ring.prepare(LOOKAHEAD).expect("a ring that obeys the rules");
    let mut count = 0;
    loop {
        let id = if let Some(run) = ring.peek_run() {
            ring.take_run();
            black_box(run).id
        } else if ring.take(chain).expect("a ring that obeys the rules") {
            black_box(&*chain).id
        } else {
            break;
        };
        ring.complete(id, 0);
        count += 1;
    }
    ring.publish();
    count
}

/// A burst goes from one guest's buffers into another's, and is in between a frame that nobody looks at.
fn copies(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Elements(BURST.into()));
    for packed in [false, true] {
        for len in [64, 256, 1500, KILO_64] {
            let octets = (VirtioNetHeader::LEN + len) as u32;
            let sends = Shape::plain(packed, octets, false);
            let mut drivers = [
                sends,
                Shape {
                    writable: true,
                    ..sends
                },
            ]
            .map(Driver::new);
            let ports = drivers.each_ref().map(running);
            let mut frames = [Frame::new(), Frame::new()];
            group.bench_function(BenchmarkId::new(sends.format(), len), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut total = 0;
                    for _ in 0..rounds {
                        drivers.iter_mut().for_each(|driver| driver.offer(BURST));
                        let start = now();
                        let count = copy(&ports, &mut frames);
                        total += now() - start;
                        assert_eq!(count, BURST);
                    }
                    total
                });
            });
        }
    }
    group.finish();
}

/// A device of whose queues both are the driver's ring: one of them is used.
fn running(driver: &Driver) -> GuestPort {
    let port = GuestPort::new(1);
    for queue in port.queues() {
        let mut state = queue.lock();
        state.ring = Some(driver.start());
        state.enabled = true;
        state.features = NetFeatures(OFFERED);
    }
    port
}

fn copy([sender, receiver]: &[GuestPort; 2], [frame, scratch]: &mut [Frame; 2]) -> u16 {
    let mut queue = sender.transmit_queue(0).lock_for_burst();
    let mut burst = ReceiveBurst::open(receiver.receive_queue(0), LOOKAHEAD);
    queue.prepare(LOOKAHEAD);
    let mut count = 0;
    while let Transmitted::Frame(id) = transmit(&mut queue, frame, 0) {
        burst.write(frame, scratch).expect("room for the frame");
        if let Some(ring) = &mut queue.ring {
            ring.complete(id, 0);
        }
        count += 1;
    }
    frame.clear();
    drop(burst);
    queue.publish();
    count
}

fn checksums(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("checksum");
    group.throughput(Throughput::Elements(1));
    for len in [64, 1500, KILO_64] {
        let octets = vec![0x5a; len];
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                let mut sum = Checksum::new();
                sum.add(black_box(&octets));
                sum.finish()
            });
        });
    }
    group.finish();
}

/// A TCP frame of 64 KB is cut for a receiver that takes no large ones, which sums or leaves that to us as well.
fn segmentation(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("64 KB cut into segments");
    group.throughput(Throughput::Elements(1));
    let segments = (KILO_64 - HEADERS) / SEGMENT;
    let octets = tcp(segments * SEGMENT);
    for (name, csum) in [("without checksums", true), ("with checksums", false)] {
        let receiver = OffloadFeatures {
            csum,
            ..OffloadFeatures::NONE
        };
        let (mut frame, mut scratch) = (large(&octets), Frame::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut count = 0;
                let cut = adapt(&mut frame, receiver, &mut scratch, |segment| {
                    black_box(segment);
                    count += 1;
                    Ok::<(), devices::Refusal>(())
                });
                assert_eq!((cut, count), (Ok(()), segments));
            });
        });
    }
    group.finish();
}

fn flow(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("flow hash");
    group.throughput(Throughput::Elements(1));
    let frame = Frame::from_octets(&tcp(0));
    group.bench_function("TCP over IPv4", |bencher| {
        bencher.iter(|| flow_hash(black_box(&frame)));
    });
    group.finish();
}

/// As a guest sends it: the first octets in the head, the rest where it is.
fn large(octets: &[u8]) -> Frame {
    let (head, tail) = octets.split_at(LINEAR_LEN);
    let mut frame = Frame::from_octets(head);
    // SAFETY: the octets outlive the frame in the one function that calls this.
    unsafe {
        frame.push_slice(Slice {
            ptr: tail.as_ptr(),
            len: tail.len(),
        });
    }
    frame.offload = Offload {
        needs_csum: true,
        csum_start: 34,
        csum_offset: 16,
        gso_type: GsoType::TcpV4,
        gso_size: SEGMENT as u16,
        hdr_len: HEADERS as u16,
        ..Offload::default()
    };
    frame
}

/// A TCP segment over IPv4; nobody checks its sums.
fn tcp(payload: usize) -> Vec<u8> {
    let mut octets = vec![0; HEADERS + payload];
    octets[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    octets[14] = 0x45;
    octets[16..18].copy_from_slice(&((HEADERS - 14 + payload) as u16).to_be_bytes());
    octets[22..24].copy_from_slice(&[64, 6]);
    octets[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    octets[34..38].copy_from_slice(&[0x30, 0x39, 0, 80]);
    octets[46] = 8 << 4;
    octets
}

criterion_group! {
    name = stages;
    config = common::cycles::criterion();
    targets = rings, copies, checksums, segmentation, flow
}
criterion_main!(stages);
