//! One frame's way through the daemon's data path, guest to guest on one core, in processor cycles for a frame: what the
//! drivers do is not counted.

#[path = "../../devices/benches/common/mod.rs"]
mod common;

use std::sync::Arc;

use common::cycles::{Cycles, now};
use common::driver::{Driver, Shape};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::guest::{GuestPort, NetFeatures, OFFERED};
use devices::packet::{MacAddress, VirtioNetHeader};
use netkit::{
    AttachOptions, AttachType, Context, CreateRequest, Mode, Model, Program, ProgramId, ProgramKind, Target,
    verdict,
};
use netkitd::dataplane::{Forwarder, GuestAddress, Plan, Port};

const BURST: u16 = 64;
const BUFFER: u32 = 2048;

/// A program that costs nothing itself: a frame goes through xmit for it, and its first octets through private memory.
#[derive(Debug)]
struct Pass;

impl Program for Pass {
    fn id(&self) -> ProgramId {
        ProgramId(1)
    }

    fn name(&self) -> &str {
        "pass"
    }

    fn kind(&self) -> ProgramKind {
        ProgramKind::SchedCls
    }

    fn run(&self, _: &mut Context<'_>) -> i32 {
        verdict::PASS
    }
}

fn straight(criterion: &mut Criterion<Cycles>) {
    forward(criterion, "guest to guest", false);
}

fn with_program(criterion: &mut Criterion<Cycles>) {
    forward(criterion, "guest to guest, one program", true);
}

fn forward(criterion: &mut Criterion<Cycles>, name: &str, program: bool) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BURST.into()));
    for packed in [false, true] {
        for len in [64, 1500] {
            let mut model = Model::new(1, 1);
            let request = CreateRequest {
                mode: Some(Mode::L2),
                ..CreateRequest::default()
            };
            let created = model.create(&request).expect("a pair");
            let (sender, receiver) = (created.primary, created.peer.expect("a peer"));
            for end in [sender, receiver] {
                model.set_up(end, true).expect("up");
            }
            if program {
                let target = Target::new(sender, AttachType::Primary);
                let program: Arc<dyn Program> = Arc::new(Pass);
                let attached = model.prog_attach(target, &program, &AttachOptions::default());
                attached.expect("attached");
            }
            let sends = Shape::plain(packed, (VirtioNetHeader::LEN + len) as u32, false);
            let receives = Shape::plain(packed, BUFFER, true);
            let mut drivers = [sends, receives].map(Driver::new);
            let view = model.view();
            let slot = view.slot(sender).expect("a slot");
            let mut ports = vec![Port::None, Port::None];
            let ends = [(sender, 1), (receiver, 0)];
            for ((end, queue), driver) in ends.into_iter().zip(&drivers) {
                let end = view.slot(end).expect("a slot");
                ports[end.index()] = port(driver, queue);
            }
            let plan = Plan { view, ports };
            let mut forwarder = Forwarder::new(0);

            group.bench_function(BenchmarkId::new(sends.format(), len), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut total = 0;
                    for _ in 0..rounds {
                        drivers.iter_mut().for_each(|driver| driver.offer(BURST));
                        let start = now();
                        let count = forwarder.poll(&plan, slot, 0);
                        total += now() - start;
                        assert_eq!(count, usize::from(BURST));
                    }
                    total
                });
            });
            let counted = model.statistics(sender).expect("statistics");
            assert_eq!(counted.tx_dropped, 0, "a benchmark of drops is none");
        }
    }
    group.finish();
}

/// A guest of whose queues one runs.
fn port(driver: &Driver, queue: usize) -> Port {
    let port = Arc::new(GuestPort::new(1));
    let mut state = port.queues()[queue].lock();
    state.ring = Some(driver.start());
    state.enabled = true;
    state.features = NetFeatures(OFFERED);
    drop(state);
    port.count_receiving_pairs();
    Port::Guest {
        port,
        address: Arc::new(GuestAddress::new(MacAddress([2, 0, 0, 0, 0, 1]))),
        gateway: MacAddress::ZERO,
    }
}

criterion_group! {
    name = benches;
    config = common::cycles::criterion();
    targets = straight, with_program
}
criterion_main!(benches);
