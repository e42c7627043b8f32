//! What reaches the wire of an uplink, and what it costs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use devices::Refusal;
use devices::nic::{Arrivals, Capabilities, NicPort, Receive, Transmit};
use devices::packet::{Frame, MacAddress, OffloadFeatures, VlanTag};
use netkit::{
    AttachOptions, AttachType, Context, CreateRequest, Ifindex, Mode, Model, PeerRequest, Program, ProgramId,
    ProgramKind, Slot, Target, UplinkRequest, verdict,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::path::{COPIES_MAX, Path};
use super::targets::Targets;
use super::{Plan, Port, Resolver, SharedBy, Shares, UplinkPort};

const NIC: MacAddress = MacAddress([2, 0, 0, 0, 0xee, 1]);
const GUEST: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

/// What was sent.
type Wire = Arc<Mutex<Vec<Vec<u8>>>>;

#[derive(Debug)]
struct Sent(Wire);

#[derive(Debug)]
struct Silent;

impl Transmit for Sent {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        self.0.lock().unwrap().push(frame.head().to_vec());
        Ok(())
    }

    fn flush(&mut self) {}
}

impl Receive for Silent {
    fn receive(&mut self, _arrivals: &mut Arrivals) {}

    fn release(&mut self) {}

    fn arm(&mut self) -> bool {
        true
    }

    fn wake_fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }
}

/// Sends as many copies of each frame as it may to a device.
#[derive(Debug)]
struct Multiplier {
    to: Ifindex,
    runs: AtomicUsize,
}

impl Program for Multiplier {
    fn id(&self) -> ProgramId {
        ProgramId(1)
    }

    fn name(&self) -> &str {
        "multiplier"
    }

    fn kind(&self) -> ProgramKind {
        ProgramKind::SchedCls
    }

    fn run(&self, context: &mut Context<'_>) -> i32 {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let Context { frame, surroundings } = context;
        let copy = |to: &mut Frame| {
            to.copy_from(frame);
            Ok(())
        };
        while surroundings.clone_redirect(self.to.0, 0, copy).is_ok() {}
        verdict::PASS
    }
}

/// A pair in L2 or L3 mode, and an uplink.
struct Host {
    model: Model,
    uplink: Ifindex,
    primary: Ifindex,
    peer: Ifindex,
    wire: Wire,
}

impl Host {
    fn new(mode: Mode) -> Host {
        let mut model = Model::new(1, 1);
        let uplink = model.create_uplink(&UplinkRequest {
            name: "nic".to_owned(),
            ifindex: None,
            domain: None,
            address: NIC,
            mtu: 1500,
            rx_queues: 1,
            leasable: false,
        });
        let created = model
            .create(&CreateRequest {
                mode: Some(mode),
                peer: Some(PeerRequest {
                    domain: Some("host".to_owned()),
                    ..PeerRequest::default()
                }),
                ..CreateRequest::default()
            })
            .unwrap();
        let (primary, peer) = (created.primary, created.peer.unwrap());
        for end in [primary, peer] {
            model.set_up(end, true).unwrap();
        }
        Host {
            model,
            uplink: uplink.unwrap(),
            primary,
            peer,
            wire: Wire::default(),
        }
    }

    /// The frames of `member` are known as `by` says, and the uplink is behind `attached`.
    fn plan(&self, attached: Ifindex, member: Ifindex, by: &SharedBy) -> Plan {
        let view = self.model.view();
        let slot = |ifindex| view.slot(ifindex).unwrap();
        let mut shares = Shares::default();
        shares.add(slot(member), by);
        let mut ports = vec![Port::None; view.len()];
        let capabilities = Capabilities {
            offloads: OffloadFeatures::NONE,
            receives_gso: false,
            pieces_max: 64,
            frame_max: 1514,
        };
        ports[slot(self.uplink).index()] = Port::Uplink(UplinkPort {
            nic: Some(Arc::new(NicPort::new(
                capabilities,
                vec![(Box::new(Silent), Box::new(Sent(self.wire.clone())))],
            ))),
            first_queue: 0,
            shares: Arc::new(shares.sorted()),
            resolver: Arc::new(Resolver::new(Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()))),
        });
        ports[slot(attached).index()] = Port::Shared {
            uplink: Some(slot(self.uplink)),
        };
        Plan { view, ports }
    }

    fn l3() -> (Host, Plan) {
        let host = Host::new(Mode::L3);
        let by = SharedBy::Prefixes(vec!["10.0.0.5".parse().unwrap()]);
        let plan = host.plan(host.primary, host.primary, &by);
        (host, plan)
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.lock().unwrap())
    }
}

fn slot(plan: &Plan, ifindex: Ifindex) -> Slot {
    plan.view.slot(ifindex).unwrap()
}

fn send(plan: &Plan, sender: Ifindex, frame: &mut Frame) {
    let mut targets = Targets::new(plan, 0, 1, 0);
    Path::new(0).forward(slot(plan, sender), frame, &mut targets);
}

fn arrive(plan: &Plan, uplink: Ifindex, frame: &mut Frame) {
    let Port::Uplink(port) = plan.port(slot(plan, uplink)) else {
        panic!("it is no uplink");
    };
    let mut targets = Targets::new(plan, 0, 1, 0);
    Path::new(0).arrive(slot(plan, uplink), port, frame, &mut targets);
}

fn packet(source: [u8; 4], destination: [u8; 4]) -> Frame {
    let mut octets = [0; 60];
    octets[12..15].copy_from_slice(&[8, 0, 0x45]);
    octets[17] = 46;
    octets[22..24].copy_from_slice(&[64, 17]);
    octets[26..30].copy_from_slice(&source);
    octets[30..34].copy_from_slice(&destination);
    Frame::from_octets(&octets)
}

/// An ARP request from 10.0.0.1 for 10.0.0.5.
fn question() -> Frame {
    let mut octets = [0; 128];
    let (source, target) = ([10, 0, 0, 1].into(), [10, 0, 0, 5].into());
    let len = netkit::l3::ask(source, target, GUEST, &mut octets).unwrap();
    Frame::from_octets(&octets[..len])
}

#[test]
fn the_network_is_not_asked_in_the_name_of_an_address_that_is_another_s() {
    let (host, plan) = Host::l3();
    send(&plan, host.peer, &mut packet([10, 0, 0, 1], [10, 0, 0, 2]));
    assert!(host.sent().is_empty());
    send(&plan, host.peer, &mut packet([10, 0, 0, 5], [10, 0, 0, 2]));
    assert_eq!(host.sent().len(), 1);
}

#[test]
fn a_vlan_s_neighbours_are_not_those_of_the_network_without_a_tag() {
    let (host, plan) = Host::l3();
    let with = |tci| {
        let mut frame = question();
        frame.meta.vlan = Some(VlanTag {
            protocol: 0x8100,
            tci,
        });
        frame
    };
    arrive(&plan, host.uplink, &mut with(10));
    assert!(host.sent().is_empty());
    arrive(&plan, host.uplink, &mut with(7 << 13));
    arrive(&plan, host.uplink, &mut question());
    assert_eq!(host.sent().len(), 2);
}

#[test]
fn programs_that_copy_to_each_other_through_an_uplink_come_to_an_end() {
    let mut host = Host::new(Mode::L2);
    let program = Arc::new(Multiplier {
        to: host.primary,
        runs: AtomicUsize::new(0),
    });
    let list = Target::new(host.primary, AttachType::Primary);
    let attached: Arc<dyn Program> = program.clone();
    host.model
        .prog_attach(list, &attached, &AttachOptions::default())
        .unwrap();
    // What the primary sends goes by the peer and the uplink to the primary again.
    let plan = host.plan(host.peer, host.primary, &SharedBy::Addresses(vec![GUEST]));
    let mut octets = [0; 60];
    octets[..6].copy_from_slice(&GUEST.0);
    send(&plan, host.primary, &mut Frame::from_octets(&octets));
    let runs = program.runs.load(Ordering::Relaxed);
    // Each copy may come by once more for each level that is left.
    assert!((COPIES_MAX / 2..5 * COPIES_MAX).contains(&runs), "{runs} runs");
}
