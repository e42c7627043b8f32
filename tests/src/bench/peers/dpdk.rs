//! DPDK's testpmd: two net_vhost ports, and io mode between them.

use super::super::share::Habit;
use super::super::testpmd::{Config, Testpmd};
use super::super::veth::Veth;
use super::super::{BACK_END_CPU, Result};
use super::{Kind, Peer, Program, directory};

/// The fastest way that DPDK has from one port to another.
const WIRE: &[&str] = &["--forward-mode=io", "--txd=1024", "--rxd=1024"];

/// Two guests, each behind a NIC that DPDK reaches by `driver`. The two NICs are wired to each other.
pub fn start_with_nics(kind: Kind, driver: &str, huge_pages: bool) -> Result<Peer> {
    let veth = Veth::new(if kind == Kind::DpdkXdp { "nkdx" } else { "nkdp" })?;
    let directory = directory()?;
    let sockets = ["a", "b"].map(|name| directory.path().join(name));
    let guest = |index: usize| format!("net_vhost{index},iface={},queues=1", sockets[index].display());
    let nic = |index: usize| format!("{driver}{index},iface={}", veth.ends[index]);
    let config = Config {
        name: kind.id(),
        cpu: BACK_END_CPU,
        // Ports forward to each other in pairs, in this order.
        devices: vec![guest(0), nic(0), nic(1), guest(1)],
        options: WIRE,
        huge_pages,
    };
    let testpmd = Testpmd::start(&config, directory.path())?;
    Ok(Peer {
        kind,
        sockets,
        connects: false,
        forwarding: "rte-worker",
        habit: Habit::Polls,
        program: Program::TestpmdWithNics(testpmd, directory, veth),
    })
}

pub fn start(huge_pages: bool) -> Result<Peer> {
    let directory = directory()?;
    let sockets = ["a", "b"].map(|name| directory.path().join(name));
    let device = |(index, socket): (usize, &std::path::PathBuf)| {
        format!("net_vhost{index},iface={},queues=1", socket.display())
    };
    let config = Config {
        name: "back-end",
        cpu: BACK_END_CPU,
        devices: sockets.iter().enumerate().map(device).collect(),
        options: WIRE,
        huge_pages,
    };
    let testpmd = Testpmd::start(&config, directory.path())?;
    Ok(Peer {
        kind: Kind::Dpdk,
        sockets,
        connects: false,
        forwarding: "rte-worker",
        habit: Habit::Polls,
        program: Program::Testpmd(testpmd, directory),
    })
}
