//! What netkit makes of a frame that no program looks at, frame by frame and known before there is one, and of one that a
//! program lets pass.

#[path = "../../../devices/benches/common/cycles.rs"]
mod cycles;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cycles::Cycles;
use devices::packet::Frame;
use netkit::{
    AttachOptions, AttachType, Clones, Context, CreateRequest, Mode, Model, Outcome, Program, ProgramId,
    ProgramKind, Target, straight, verdict, xmit,
};

/// A program that does nothing.
#[derive(Debug)]
struct Next;

impl Program for Next {
    fn id(&self) -> ProgramId {
        ProgramId(1)
    }

    fn name(&self) -> &str {
        "next"
    }

    fn kind(&self) -> ProgramKind {
        ProgramKind::SchedCls
    }

    fn run(&self, _context: &mut Context<'_>) -> i32 {
        verdict::NEXT
    }
}

fn frames_of_a_pair(criterion: &mut Criterion<Cycles>) {
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

    let program: Arc<dyn Program> = Arc::new(Next);
    let list = Target::new(created.primary, AttachType::Peer);
    model
        .prog_attach(list, &program, &AttachOptions::default())
        .expect("attached");
    let view = model.view();
    let mut group = criterion.benchmark_group("netkit, a program");
    group.throughput(Throughput::Elements(1));
    group.bench_function("xmit and its count", |bencher| {
        bencher.iter(
            || match xmit(&view, sender, black_box(&mut frame), &mut clones, 0) {
                Outcome::Deliver(delivery) => view.delivered(&delivery, 1, 0),
                Outcome::Dropped(reason) => panic!("{reason:?}"),
            },
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cycles::criterion();
    targets = frames_of_a_pair
}
criterion_main!(benches);
