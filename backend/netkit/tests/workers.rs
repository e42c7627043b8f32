//! What workers rely on: transmitting allocates nothing, and threads count without losing frames.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;

use common::uplink::Host;
use common::*;
use devices::packet::{Frame, MacAddress};
use netkit::{
    AttachType, Clones, CreateRequest, Mode, Model, Outcome, Received, Target, View, receive, receive_leased,
    verdict, xmit,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same, and the pointer is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn xmit_allocates_nothing() {
    let mut pair = Pair::same_domain(Mode::L2);
    let (target, _) = pair.add_pair(Mode::L2);
    let mut frame = Frame::from_octets(&ethernet(MacAddress::BROADCAST, ETH_P_IP, 60));
    let mut transmit = |pair: &Pair, passes: bool| {
        let view = pair.model.view();
        let sender = slot(&view, pair.primary);
        let count = allocations(
            || match xmit(&view, sender, &mut frame, &mut Clones::default(), 0) {
                Outcome::Deliver(delivery) if passes => view.delivered(&delivery, 1, 0),
                Outcome::Dropped(_) if !passes => (),
                other => panic!("{other:?}"),
            },
        );
        assert_eq!(count, 0);
    };
    transmit(&pair, true);
    pair.attach(AttachType::Primary, &Tc::code(verdict::NEXT), options())
        .unwrap();
    transmit(&pair, true);
    pair.attach(
        AttachType::Primary,
        &Tc::new(move |context| context.redirect(target.0, 0)),
        options(),
    )
    .unwrap();
    transmit(&pair, true);
    pair.attach(AttachType::Primary, &Tc::code(verdict::REDIRECT), first())
        .unwrap();
    transmit(&pair, false);
    pair.attach(AttachType::Primary, &Tc::code(verdict::DROP), first())
        .unwrap();
    transmit(&pair, false);
}

#[test]
fn an_uplink_s_way_allocates_nothing() {
    let mut host = Host::new(4);
    let (primary, guest) = host.pair(4);
    for queue in [1, 2] {
        host.lease(guest, queue).unwrap();
    }
    let nic = host.nic;
    for (attach_type, program) in [
        (AttachType::TcxIngress, Tc::code(verdict::NEXT)),
        (AttachType::TcxEgress, Tc::code(verdict::NEXT)),
    ] {
        let target = Target::new(nic, attach_type);
        host.model
            .prog_attach(target, &dynamic(&program), &options())
            .unwrap();
    }
    let octets = ethernet(MacAddress::BROADCAST, ETH_P_IP, 60);
    let (mut frame, mut clones) = (Frame::from_octets(&octets), Clones::default());
    let view = host.model.view();
    let [uplink, lessee] = [nic, guest].map(|ifindex| slot(&view, ifindex));
    let count = allocations(|| {
        let outcome = xmit(&view, lessee, &mut frame, &mut clones, 0);
        view.delivered(&deliver(outcome), 1, 0);
        let received = receive(&view, uplink, &mut frame, &mut clones, 0);
        assert_eq!(received, Received::Passed);
        let outcome = receive_leased(&view, uplink, lessee, &mut frame, &mut clones, 0);
        view.delivered(&deliver(outcome), 1, 0);
    });
    assert_eq!(count, 0);
    assert_eq!(host.model.statistics(nic).unwrap().tx_packets, 1);
    assert_eq!(host.model.statistics(primary).unwrap().tx_packets, 1);

    let target = Target::new(nic, AttachType::TcxIngress);
    let program = Tc::new(move |context| context.redirect_peer(primary.0, 0));
    host.model
        .prog_attach(target, &dynamic(&program), &first())
        .unwrap();
    let view = host.model.view();
    let count = allocations(|| match receive(&view, uplink, &mut frame, &mut clones, 0) {
        Received::Outcome(outcome) => view.delivered(&deliver(outcome), 1, 0),
        Received::Passed => panic!("it passed"),
    });
    assert_eq!(count, 0);
}

#[test]
fn threads_count_in_their_own_shards() {
    const THREADS: usize = 4;
    const FRAMES: u64 = 10_000;
    let mut model = Model::new(THREADS, 1);
    let created = model.create(&CreateRequest::default()).unwrap();
    let peer = created.peer.unwrap();
    model.set_up(created.primary, true).unwrap();
    model.set_up(peer, true).unwrap();
    let view = model.view();
    thread::scope(|scope| {
        for shard in 0..THREADS {
            let view = &view;
            scope.spawn(move || {
                let mut frame = Frame::from_octets(&ethernet(MacAddress::ZERO, ETH_P_IP, 100));
                for _ in 0..FRAMES {
                    view.delivered(
                        &deliver(xmit(
                            view,
                            slot(view, peer),
                            &mut frame,
                            &mut Clones::default(),
                            shard,
                        )),
                        1,
                        shard,
                    );
                }
            });
        }
    });
    let total = THREADS as u64 * FRAMES;
    let sent = model.statistics(peer).unwrap();
    let received = model.statistics(created.primary).unwrap();
    assert_eq!((sent.tx_packets, sent.tx_bytes), (total, total * 100));
    assert_eq!((received.rx_packets, received.rx_bytes), (total, total * 100));
}

#[test]
fn views_may_be_shared_and_models_sent() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<View>();
    sent::<Model>();
}
