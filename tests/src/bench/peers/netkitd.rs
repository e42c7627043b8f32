//! netkitd with one worker: a pair, and what else there is in the daemon.

use std::path::{Path, PathBuf};

use netkit_api::{
    AfXdpMode, AfXdpNic, AttachmentSpec, KernelNic, NicSpec, Share, SocketMode, UplinkCreate, UplinkSpec,
};

use super::super::share::Habit;
use super::super::veth::Veth;
use super::super::{BACK_END_CPU, Error, Result};
use super::{Kind, Peer, Program};
use crate::driver::{self, NetDriver, Pair, PairConfig, Setup};
use crate::netkitd::Netkitd;
use crate::programs::{Programs, compile};
use vmm_glue::client::End;

/// The policy that is measured.
const POLICY_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bench/policy.bpf.c");

/// Devices of a crowd, with the two that are busy.
const CROWD: usize = 1000;

/// What is in the daemon besides the pair.
#[derive(Debug)]
pub enum Resident {
    Nothing,
    /// The program, by its id.
    Program(String),
    /// What is between the uplinks of two pairs.
    Veth(#[allow(dead_code, reason = "holds the netdevs")] Veth),
    /// Guests that send nothing.
    Crowd(#[allow(dead_code, reason = "holds the connections")] Vec<(NetDriver, NetDriver)>),
}

pub fn start(kind: Kind) -> Result<Peer> {
    let daemon = daemon();
    if matches!(kind, Kind::NetkitdXdp | Kind::NetkitdPackets) {
        return start_with_uplinks(kind, daemon);
    }
    let pair = Pair::new(&daemon, "nk");
    let resident = match kind {
        Kind::NetkitdPolicy => attach_policy(&daemon, &pair)?,
        Kind::NetkitdCrowd => Resident::Crowd(crowd(&daemon)?),
        _ => Resident::Nothing,
    };
    let sockets: [PathBuf; 2] = [pair.a.socket, pair.b.socket];
    Ok(Peer {
        kind,
        sockets,
        connects: false,
        forwarding: "worker-",
        // It polls while frames come, and a moment longer.
        habit: Habit::Sleeps,
        program: Program::Netkitd(Box::new(daemon), Box::new(resident)),
    })
}

/// Two guests, each behind an uplink of its own. The two NICs are wired to each other.
fn start_with_uplinks(kind: Kind, daemon: Netkitd) -> Result<Peer> {
    let veth = Veth::new(if kind == Kind::NetkitdXdp { "nkbx" } else { "nkbp" })?;
    let end = |index: usize| {
        let ifname = &veth.ends[index];
        let nic = match kind {
            Kind::NetkitdXdp => af_xdp(ifname),
            _ => packet_sockets(ifname),
        };
        behind_nic(&daemon, index, nic).map(|guest| guest.socket)
    };
    let sockets = [end(0)?, end(1)?];
    Ok(Peer {
        kind,
        sockets,
        connects: false,
        forwarding: "worker-",
        habit: Habit::Sleeps,
        program: Program::Netkitd(Box::new(daemon), Box::new(Resident::Veth(veth))),
    })
}

/// A NIC of one queue, reached by AF_XDP.
pub fn af_xdp(ifname: &str) -> NicSpec {
    NicSpec::AfXdp(AfXdpNic {
        ifname: ifname.to_owned(),
        queue: 0,
        queues: None,
        mode: AfXdpMode::Auto,
        busy_poll: false,
    })
}

/// A NIC, reached by packet sockets.
pub fn packet_sockets(ifname: &str) -> NicSpec {
    NicSpec::Kernel(KernelNic {
        ifname: ifname.to_owned(),
        queues: None,
    })
}

/// A pair, one end of which has a NIC to itself; the other, which it gives, has a guest's socket.
pub fn behind_nic(daemon: &Netkitd, index: usize, nic: NicSpec) -> Result<driver::End> {
    let pair = Pair::unattached(daemon, &format!("nk{index}"), PairConfig::default());
    let name = format!("up{index}");
    let uplink = UplinkCreate {
        name: name.clone(),
        nic,
        domain: None,
        ifindex: None,
    };
    let spec = AttachmentSpec::Uplink(UplinkSpec {
        uplink: name,
        share: Share::None,
        addresses: Vec::new(),
    });
    let client = daemon.client();
    let wired = client
        .create_uplink(&uplink)
        .and_then(|()| client.attach(&pair.a.device, &spec));
    wired.map_err(|error| Error::Missing(error.to_string()))?;
    pair.b.attach(SocketMode::Server, 1);
    Ok(pair.b)
}

/// A daemon with all its threads on the back end's processor.
pub fn daemon() -> Netkitd {
    Netkitd::under(&format!("exec taskset -c {BACK_END_CPU} \"$@\" --workers 1"))
}

/// One program, run once on each frame: in the list of either end, since each list sees one direction.
fn attach_policy(daemon: &Netkitd, pair: &Pair) -> Result<Resident> {
    let object =
        compile(Path::new(POLICY_SOURCE)).ok_or_else(|| Error::Missing("clang is missing".to_owned()))?;
    let programs = Programs(daemon.client());
    let loaded = programs.load(&object);
    let program = loaded.programs.first().map(|program| program.id.to_string());
    let program = program.ok_or_else(|| Error::Missing("the policy's object has no program".to_owned()))?;
    for end in [End::Primary, End::Peer] {
        programs.attach(&pair.a.device, end, &program);
    }
    Ok(Resident::Program(program))
}

fn crowd(daemon: &Netkitd) -> Result<Vec<(NetDriver, NetDriver)>> {
    let others = (CROWD - 2) / 2;
    let setup = Setup::default();
    (0..others)
        .map(|number| Pair::new(daemon, &format!("idle{number}-")).connect(&setup))
        .collect::<std::io::Result<_>>()
        .map_err(Error::io("connect guests to", "the devices of a crowd"))
}

impl Resident {
    /// A program has to have run, and to have found flows.
    pub fn check(&self, daemon: &Netkitd) -> Result<()> {
        let Resident::Program(program) = self else {
            return Ok(());
        };
        let runs = Programs(daemon.client()).runs(program);
        let maps = daemon.client().maps().unwrap_or_default();
        let flows = maps.iter().find(|map| map.name == "flows");
        let entries = flows.and_then(|map| daemon.client().entries(&map.id.to_string(), None).ok());
        match entries.is_some_and(|entries| !entries.entries.is_empty()) && runs > 0 {
            true => Ok(()),
            false => Err(Error::Missing(format!(
                "the policy ran {runs} times and has counted no flow"
            ))),
        }
    }
}
