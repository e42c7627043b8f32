//! What netkit makes of a frame that no program looks at: frame by frame, and known before there is one.

#[path = "../../../devices/benches/common/cycles.rs"]
mod cycles;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cycles::Cycles;
use devices::packet::Frame;
use netkit::{Clones, CreateRequest, Mode, Model, Outcome, straight, xmit};

fn without_programs(criterion: &mut Criterion<Cycles>) {
    let mut model = Model::new(1, 1);
    let request = CreateRequest {
        mode: Some(Mode::L2),
        ..CreateRequest::default()
    };
    let created = model.create(&request).expect("a pair");
    let peer = created.peer.expect("a peer");
    for end in [created.primary, peer] {
        model.set_up(end, true).expect("up");
    }
    let view = model.view();
    let sender = view.slot(peer).expect("a slot");
    let mut frame = Frame::from_octets(&[2; 64]);
    let mut clones = Clones::default();

    let mut group = criterion.benchmark_group("netkit, no program");
    group.throughput(Throughput::Elements(1));
    group.bench_function("xmit and its count", |bencher| {
        bencher.iter(
            || match xmit(&view, sender, black_box(&mut frame), &mut clones, 0) {
                Outcome::Deliver(delivery) => view.delivered(&delivery, 1, 0),
                Outcome::Dropped(reason) => panic!("{reason:?}"),
            },
        );
    });
    // Once a burst, not for each frame.
    group.bench_function("straight", |bencher| {
        bencher.iter(|| straight(black_box(&view), sender).expect("a receiver"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cycles::criterion();
    targets = without_programs
}
criterion_main!(benches);
