//! What the suites share: programs that are Rust closures, a pair like the kernel's selftests use,
//! and frames.
// Each suite is a crate of its own and uses a part of this.
#![allow(dead_code, reason = "each test uses a part of it")]
// The cases read better without borrowing what they build on the spot.
#![allow(clippy::needless_pass_by_value)]

pub mod traffic;
pub mod uplink;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use devices::packet::{Frame, MacAddress, Metadata};
use netkit::{
    AttachOptions, AttachType, Clones, Context, CreateRequest, Delivery, Domain, DropReason, Errno, Error,
    Ifindex, LinkId, Mode, Model, Outcome, PeerRequest, Program, ProgramId, ProgramKind, Relative, Scrub,
    Slot, Statistics, Target, View, verdict, xmit,
};

type Body = Box<dyn Fn(&mut Context<'_>) -> i32 + Send + Sync>;

/// A program, with what the selftests keep in its data section: whether it was seen running.
pub struct Tc {
    id: ProgramId,
    kind: ProgramKind,
    body: Body,
    runs: AtomicU64,
}

impl Tc {
    pub fn new(body: impl Fn(&mut Context<'_>) -> i32 + Send + Sync + 'static) -> Arc<Tc> {
        Tc::of_kind(ProgramKind::SchedCls, body)
    }

    pub fn of_kind(
        kind: ProgramKind,
        body: impl Fn(&mut Context<'_>) -> i32 + Send + Sync + 'static,
    ) -> Arc<Tc> {
        static LAST_ID: AtomicU32 = AtomicU32::new(100);
        let id = ProgramId(LAST_ID.fetch_add(1, Relaxed));
        Arc::new(Tc {
            id,
            kind,
            body: Box::new(body),
            runs: AtomicU64::new(0),
        })
    }

    /// A program as it was before a restart.
    pub fn with_id(id: ProgramId) -> Arc<Tc> {
        Arc::new(Tc {
            id,
            kind: ProgramKind::SchedCls,
            body: Box::new(|_| verdict::NEXT),
            runs: AtomicU64::new(0),
        })
    }

    /// A program that only returns a code.
    pub fn code(code: i32) -> Arc<Tc> {
        Tc::new(move |_| code)
    }

    /// Programs that return NEXT.
    pub fn next<const N: usize>() -> [Arc<Tc>; N] {
        std::array::from_fn(|_| Tc::code(verdict::NEXT))
    }

    pub fn id(&self) -> ProgramId {
        self.id
    }

    /// Whether it ran since the last call.
    pub fn take_seen(&self) -> bool {
        self.take_runs() > 0
    }

    /// How often it ran since the last call.
    pub fn take_runs(&self) -> u64 {
        self.runs.swap(0, Relaxed)
    }
}

impl fmt::Debug for Tc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tc({})", self.id)
    }
}

impl Program for Tc {
    fn id(&self) -> ProgramId {
        self.id
    }

    fn name(&self) -> &str {
        "tc"
    }

    fn kind(&self) -> ProgramKind {
        self.kind
    }

    fn run(&self, context: &mut Context<'_>) -> i32 {
        self.runs.fetch_add(1, Relaxed);
        (self.body)(context)
    }
}

/// A program as the model takes it.
pub fn dynamic(program: &Arc<Tc>) -> Arc<dyn Program> {
    program.clone()
}

pub fn relative(program: &Arc<Tc>) -> Option<Relative> {
    Some(Relative::Program(dynamic(program)))
}

pub fn options() -> AttachOptions {
    AttachOptions::default()
}

pub fn first() -> AttachOptions {
    AttachOptions {
        before: true,
        ..options()
    }
}

pub fn last() -> AttachOptions {
    AttachOptions {
        after: true,
        ..options()
    }
}

pub fn before(program: &Arc<Tc>) -> AttachOptions {
    AttachOptions {
        relative: relative(program),
        ..first()
    }
}

pub fn after(program: &Arc<Tc>) -> AttachOptions {
    AttachOptions {
        relative: relative(program),
        ..last()
    }
}

pub fn before_link(link: LinkId) -> AttachOptions {
    AttachOptions {
        relative: Some(Relative::Link(link)),
        ..first()
    }
}

pub fn after_link(link: LinkId) -> AttachOptions {
    AttachOptions {
        relative: Some(Relative::Link(link)),
        ..last()
    }
}

pub fn replace(program: &Arc<Tc>) -> AttachOptions {
    AttachOptions {
        replace: Some(dynamic(program)),
        ..options()
    }
}

pub fn at_revision(expected_revision: u64, options: AttachOptions) -> AttachOptions {
    AttachOptions {
        expected_revision,
        ..options
    }
}

/// Octets of an Ethernet header and a payload that starts like IPv4.
pub fn ethernet(destination: MacAddress, ether_type: u16, length: usize) -> Vec<u8> {
    let mut octets = vec![0; length.max(14)];
    octets[..6].copy_from_slice(&destination.0);
    octets[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    octets[12..14].copy_from_slice(&ether_type.to_be_bytes());
    octets.truncate(length);
    octets
}

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_ARP: u16 = 0x0806;

/// A pair as the kernel's selftests make it: primary `nk1` in the host's domain, peer `nk0` in `foo`
/// unless both are to be in one, both up.
pub struct Pair {
    pub model: Model,
    pub primary: Ifindex,
    pub peer: Ifindex,
    /// What was delivered last: to whom, and how it looked.
    pub delivered: Option<(Ifindex, Metadata)>,
}

impl Pair {
    pub fn new(mode: Mode) -> Pair {
        Pair::create(
            CreateRequest {
                mode: Some(mode),
                ..Default::default()
            },
            false,
        )
    }

    pub fn same_domain(mode: Mode) -> Pair {
        Pair::create(
            CreateRequest {
                mode: Some(mode),
                ..Default::default()
            },
            true,
        )
    }

    pub fn scrubbing(scrub: Scrub) -> Pair {
        let request = CreateRequest {
            mode: Some(Mode::L2),
            scrub: Some(scrub),
            peer_scrub: Some(scrub),
            ..Default::default()
        };
        Pair::create(request, false)
    }

    pub fn create(request: CreateRequest, same_domain: bool) -> Pair {
        let mut model = Model::new(1, 1);
        let domain = if same_domain { "host" } else { "foo" };
        let peer = PeerRequest {
            name: Some("nk0".into()),
            domain: Some(domain.into()),
            ..Default::default()
        };
        let request = CreateRequest {
            name: Some("nk1".into()),
            peer: Some(peer),
            ..request
        };
        let created = model.create(&request).unwrap();
        let (primary, peer) = (created.primary, created.peer.unwrap());
        model.set_up(primary, true).unwrap();
        model.set_up(peer, true).unwrap();
        Pair {
            model,
            primary,
            peer,
            delivered: None,
        }
    }

    /// Adds a second pair, `nk2` with peer `nk3`, both up, the peer in `bar`.
    pub fn add_pair(&mut self, mode: Mode) -> (Ifindex, Ifindex) {
        let peer = PeerRequest {
            name: Some("nk3".into()),
            domain: Some("bar".into()),
            ..Default::default()
        };
        let request = CreateRequest {
            name: Some("nk2".into()),
            mode: Some(mode),
            peer: Some(peer),
            ..Default::default()
        };
        let created = self.model.create(&request).unwrap();
        let (primary, peer) = (created.primary, created.peer.unwrap());
        self.model.set_up(primary, true).unwrap();
        self.model.set_up(peer, true).unwrap();
        (primary, peer)
    }

    /// The end that transmits what a list sees, and the other.
    pub fn ends(&self, list: AttachType) -> (Ifindex, Ifindex) {
        match list {
            AttachType::Primary => (self.primary, self.peer),
            AttachType::Peer => (self.peer, self.primary),
            AttachType::TcxIngress | AttachType::TcxEgress => panic!("{list} is not a list of a pair"),
        }
    }

    pub fn target(&self, attach_type: AttachType) -> Target<'static> {
        Target::new(self.primary, attach_type)
    }

    pub fn attach(
        &mut self,
        list: AttachType,
        program: &Arc<Tc>,
        options: AttachOptions,
    ) -> Result<(), Errno> {
        errno(
            self.model
                .prog_attach(self.target(list), &dynamic(program), &options),
        )
    }

    pub fn detach(
        &mut self,
        list: AttachType,
        program: Option<&Arc<Tc>>,
        options: AttachOptions,
    ) -> Result<(), Errno> {
        errno(
            self.model
                .prog_detach(self.target(list), program.map(|program| program.id()), &options),
        )
    }

    pub fn link(
        &mut self,
        list: AttachType,
        program: &Arc<Tc>,
        options: AttachOptions,
    ) -> Result<LinkId, Errno> {
        errno(
            self.model
                .link_create(self.target(list), &dynamic(program), &options),
        )
    }

    pub fn update(&mut self, link: LinkId, program: &Arc<Tc>) -> Result<(), Errno> {
        errno(self.model.link_update(link, &dynamic(program), None))
    }

    pub fn count(&self, list: AttachType) -> usize {
        self.model.prog_query(self.target(list)).unwrap().programs.len()
    }

    /// Revision and program ids of a list.
    pub fn programs(&self, list: AttachType) -> (u64, Vec<ProgramId>) {
        let listing = self.model.prog_query(self.target(list)).unwrap();
        (
            listing.revision,
            listing.programs.iter().map(|listed| listed.program).collect(),
        )
    }

    /// Revision and (program id, link id) of a list.
    pub fn links(&self, list: AttachType) -> (u64, Vec<(ProgramId, Option<LinkId>)>) {
        let listing = self.model.prog_query(self.target(list)).unwrap();
        (
            listing.revision,
            listing
                .programs
                .iter()
                .map(|listed| (listed.program, listed.link))
                .collect(),
        )
    }

    /// Transmits an IPv4 frame to the other end, as the selftests' ping does.
    pub fn ping(&mut self, list: AttachType) {
        let (sender, receiver) = self.ends(list);
        let destination = self.model.device(receiver).unwrap().address;
        let _ = self.send(sender, &ethernet(destination, ETH_P_IP, 60), Metadata::default());
    }

    /// Transmits a frame, and has the receiver take it.
    pub fn send(&mut self, sender: Ifindex, octets: &[u8], meta: Metadata) -> Result<Ifindex, DropReason> {
        let view = self.model.view();
        let mut frame = Frame::from_octets(octets);
        frame.meta = meta;
        let outcome = xmit(&view, slot(&view, sender), &mut frame, &mut Clones::default(), 0);
        match outcome {
            Outcome::Deliver(delivery) => {
                view.delivered(&delivery, 1, 0);
                let receiver = view.device(delivery.receiver).ifindex;
                self.delivered = Some((receiver, frame.meta));
                Ok(receiver)
            }
            Outcome::Dropped(reason) => Err(reason),
        }
    }

    pub fn statistics(&self, device: Ifindex) -> Statistics {
        self.model.statistics(device).unwrap()
    }
}

pub fn slot(view: &View, ifindex: Ifindex) -> Slot {
    view.slot(ifindex).unwrap()
}

pub fn deliver(outcome: Outcome) -> Delivery {
    match outcome {
        Outcome::Deliver(delivery) => delivery,
        Outcome::Dropped(reason) => panic!("dropped: {reason}"),
    }
}

pub fn errno<T>(result: Result<T, Error>) -> Result<T, Errno> {
    result.map_err(|error| error.errno())
}

pub fn domain(name: &str) -> Domain {
    Domain::new(name).unwrap()
}

pub const BOTH: [AttachType; 2] = [AttachType::Primary, AttachType::Peer];

/// A model with what was asked for, and its two ends.
pub fn created(request: &CreateRequest) -> (Model, Ifindex, Ifindex) {
    let mut model = Model::new(1, 1);
    let created = model.create(request).unwrap();
    (model, created.primary, created.peer.unwrap())
}
