//! DPDK's testpmd: two net_vhost ports, and io mode between them.

use super::super::share::Habit;
use super::super::testpmd::{Config, Testpmd};
use super::super::{BACK_END_CPU, Result};
use super::{Kind, Peer, Program, directory};

/// The fastest way that DPDK has from one port to another.
const WIRE: &[&str] = &["--forward-mode=io", "--txd=1024", "--rxd=1024"];

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
