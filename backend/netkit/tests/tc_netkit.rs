//! The cases of the kernel's selftest `tc_netkit.c`, with frames in place of pings.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::*;
use devices::packet::{MacAddress, Metadata, PacketType};
use netkit::{AttachType, CreateRequest, Errno, Mode, Scrub, verdict};

const MARK: u32 = 42;
const PRIORITY: u32 = 0xeb9f;

/// The selftest's `tc1`: notes whether it saw IPv4, and can turn the frame into multicast.
fn tc1(seen_eth: &Arc<AtomicBool>, set_type: bool) -> Arc<Tc> {
    let seen_eth = seen_eth.clone();
    Tc::new(move |context| {
        let is_ip = context.frame.head()[12..14] == ETH_P_IP.to_be_bytes();
        if is_ip && context.frame.meta.packet_type == PacketType::Host {
            seen_eth.store(true, Relaxed);
        }
        if set_type {
            context.frame.head_mut()[0] = 4;
            context.change_type(PacketType::Multicast);
        }
        verdict::NEXT
    })
}

#[test]
fn basic() {
    let mut pair = Pair::new(Mode::L2);
    let [tc1, tc2] = Tc::next();
    assert_eq!(
        (pair.count(AttachType::Primary), pair.count(AttachType::Peer)),
        (0, 0)
    );

    let link1 = pair.link(AttachType::Primary, &tc1, options()).unwrap();
    assert_eq!(
        (pair.count(AttachType::Primary), pair.count(AttachType::Peer)),
        (1, 0)
    );
    assert_eq!(
        pair.links(AttachType::Primary),
        (2, vec![(tc1.id(), Some(link1))])
    );
    pair.ping(AttachType::Primary);
    pair.ping(AttachType::Peer);
    assert_eq!((tc1.take_seen(), tc2.take_seen()), (true, false));

    let link2 = pair.link(AttachType::Peer, &tc2, options()).unwrap();
    assert_ne!(link1, link2);
    assert_eq!(
        (pair.count(AttachType::Primary), pair.count(AttachType::Peer)),
        (1, 1)
    );
    assert_eq!(pair.links(AttachType::Peer), (2, vec![(tc2.id(), Some(link2))]));
    pair.ping(AttachType::Primary);
    assert_eq!((tc1.take_seen(), tc2.take_seen()), (true, false));
    pair.ping(AttachType::Peer);
    assert_eq!((tc1.take_seen(), tc2.take_seen()), (false, true));

    pair.model.link_close(link1).unwrap();
    pair.model.link_close(link2).unwrap();
    assert_eq!(
        (pair.count(AttachType::Primary), pair.count(AttachType::Peer)),
        (0, 0)
    );
}

fn multi_links_target(mode: Mode, list: AttachType) {
    let mut pair = Pair::new(mode);
    let seen_eth = Arc::default();
    let (tc1, [tc2]) = (tc1(&seen_eth, false), Tc::next());

    let link1 = pair.link(list, &tc1, options()).unwrap();
    assert_eq!(pair.links(list), (2, vec![(tc1.id(), Some(link1))]));
    pair.ping(list);
    assert_eq!(
        (tc1.take_seen(), seen_eth.swap(false, Relaxed), tc2.take_seen()),
        (true, true, false)
    );

    let link2 = pair.link(list, &tc2, before(&tc1)).unwrap();
    assert_eq!(
        pair.links(list),
        (3, vec![(tc2.id(), Some(link2)), (tc1.id(), Some(link1))])
    );
    pair.ping(list);
    assert_eq!(
        (tc1.take_seen(), seen_eth.swap(false, Relaxed), tc2.take_seen()),
        (true, true, true)
    );
}

#[test]
fn multi_links() {
    for mode in [Mode::L2, Mode::L3] {
        BOTH.into_iter().for_each(|list| multi_links_target(mode, list));
    }
}

fn multi_opts_target(mode: Mode, list: AttachType) {
    let mut pair = Pair::new(mode);
    let seen_eth = Arc::default();
    let (tc1, [tc2]) = (tc1(&seen_eth, false), Tc::next());

    pair.attach(list, &tc1, options()).unwrap();
    assert_eq!(pair.links(list), (2, vec![(tc1.id(), None)]));
    pair.ping(list);
    assert_eq!(
        (tc1.take_seen(), seen_eth.swap(false, Relaxed), tc2.take_seen()),
        (true, true, false)
    );

    pair.attach(list, &tc2, before(&tc1)).unwrap();
    assert_eq!(pair.links(list), (3, vec![(tc2.id(), None), (tc1.id(), None)]));
    pair.ping(list);
    assert_eq!(
        (tc1.take_seen(), seen_eth.swap(false, Relaxed), tc2.take_seen()),
        (true, true, true)
    );

    pair.detach(list, Some(&tc2), options()).unwrap();
    assert_eq!(pair.count(list), 1);
    pair.detach(list, Some(&tc1), options()).unwrap();
    assert_eq!(pair.count(list), 0);
}

#[test]
fn multi_opts() {
    for mode in [Mode::L2, Mode::L3] {
        BOTH.into_iter().for_each(|list| multi_opts_target(mode, list));
    }
}

#[test]
fn device() {
    let mut pair = Pair::same_domain(Mode::L3);
    let [tc1, tc2, tc3] = Tc::next();
    let link1 = pair.link(AttachType::Primary, &tc1, options()).unwrap();
    pair.ping(AttachType::Primary);
    assert_eq!((tc1.take_seen(), tc2.take_seen()), (true, false));

    for list in BOTH {
        let by_peer = netkit::Target::new(pair.peer, list);
        assert_eq!(errno(pair.model.prog_query(by_peer)).unwrap_err(), Errno::EACCES);
        for program in [&tc2, &tc3] {
            let result = pair.model.link_create(by_peer, &dynamic(program), &options());
            assert_eq!(errno(result), Err(Errno::EACCES));
            assert_eq!(
                errno(pair.model.prog_attach(by_peer, &dynamic(program), &options())),
                Err(Errno::EACCES)
            );
            assert_eq!(
                errno(pair.model.prog_detach(by_peer, None, &options())),
                Err(Errno::EACCES)
            );
        }
    }
    assert_eq!(
        pair.links(AttachType::Primary),
        (2, vec![(tc1.id(), Some(link1))])
    );
    assert_eq!(pair.count(AttachType::Peer), 0);
}

/// In L2 mode a host looks for a missing neighbour with ARP, in L3 mode it just sends.
#[test]
fn neigh_links() {
    for mode in [Mode::L2, Mode::L3] {
        let mut pair = Pair::new(mode);
        let seen_eth = Arc::default();
        let tc1 = tc1(&seen_eth, false);
        pair.link(AttachType::Primary, &tc1, options()).unwrap();
        let frame = match mode {
            Mode::L2 => ethernet(MacAddress::BROADCAST, ETH_P_ARP, 42),
            Mode::L3 => ethernet(MacAddress::ZERO, ETH_P_IP, 60),
        };
        pair.send(pair.primary, &frame, Metadata::default()).unwrap();
        assert!(tc1.take_seen());
        assert_eq!(seen_eth.load(Relaxed), mode == Mode::L3);
    }
}

#[test]
fn pkt_type() {
    for mode in [Mode::L2, Mode::L3] {
        let mut pair = Pair::same_domain(mode);
        let seen_host = Arc::default();
        pair.link(AttachType::Primary, &tc1(&seen_host, true), options())
            .unwrap();
        pair.model.set_domain(pair.peer, "foo").unwrap();
        pair.ping(AttachType::Primary);
        assert!(seen_host.load(Relaxed));
        let (receiver, meta) = pair.delivered.unwrap();
        assert_eq!((receiver, meta.packet_type), (pair.peer, PacketType::Multicast));
    }
}

#[test]
fn scrub() {
    let room = (32, 8);
    for (scrub, room) in [(Scrub::Default, None), (Scrub::None, Some(room))] {
        let request = CreateRequest {
            mode: Some(Mode::L2),
            scrub: Some(scrub),
            peer_scrub: Some(scrub),
            headroom: room.map(|(headroom, _)| headroom),
            tailroom: room.map(|(_, tailroom)| tailroom),
            ..Default::default()
        };
        let mut pair = Pair::create(request, false);
        let seen = Arc::new(Mutex::new(None));
        let tc8 = Tc::new({
            let seen = seen.clone();
            move |context| {
                let meta = context.frame.meta;
                let device = context.device();
                *seen.lock().unwrap() = Some((meta.mark, meta.priority, device.headroom, device.tailroom));
                verdict::PASS
            }
        });
        pair.link(AttachType::Primary, &tc8, options()).unwrap();
        let meta = Metadata {
            mark: MARK,
            priority: PRIORITY,
            ..Default::default()
        };
        pair.send(pair.primary, &ethernet(MacAddress::ZERO, ETH_P_IP, 60), meta)
            .unwrap();
        let expected = match scrub {
            Scrub::Default => (0, 0, 0, 0),
            Scrub::None => (MARK, PRIORITY, 32, 8),
        };
        assert_eq!(*seen.lock().unwrap(), Some(expected));
    }
}

/// The selftest checks with `ip link set … addr`, which exits with 2 in L3 mode.
#[test]
fn set_hwaddress() {
    let address = MacAddress([0xee, 0xff, 0xbb, 0xcc, 0xaa, 0xdd]);
    let mut l2 = Pair::new(Mode::L2);
    l2.model.set_address(l2.primary, address).unwrap();
    assert_eq!(l2.model.device(l2.primary).unwrap().address, address);
    let mut l3 = Pair::new(Mode::L3);
    assert_eq!(
        errno(l3.model.set_address(l3.primary, address)),
        Err(Errno::EOPNOTSUPP)
    );
}

/// Programs survive a move to another domain, and see the one they are then in.
#[test]
fn programs_survive_a_move() {
    let mut pair = Pair::same_domain(Mode::L2);
    let crossings = Arc::new(AtomicU32::new(0));
    let program = Tc::new({
        let crossings = crossings.clone();
        move |context| {
            if context.domain().as_str() == "foo" {
                crossings.fetch_add(1, Relaxed);
            }
            verdict::NEXT
        }
    });
    pair.attach(AttachType::Primary, &program, options()).unwrap();
    pair.ping(AttachType::Primary);
    pair.model.set_domain(pair.peer, "foo").unwrap();
    pair.ping(AttachType::Primary);
    assert_eq!((program.take_runs(), crossings.load(Relaxed)), (2, 1));
    assert_eq!(pair.programs(AttachType::Primary), (2, vec![program.id()]));
}
