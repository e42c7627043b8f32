//! Who takes part: back ends that carry frames between two guests, each on one core.

mod dpdk;
mod netkitd;
mod ovs;
mod stock;

use std::path::PathBuf;

use serde::Serialize;
use tempfile::TempDir;

use super::share::{self, Habit};
use super::way_out::Way;
use super::{Error, Result};
use crate::netkitd::Netkitd;
use crate::rig::Process;

use netkitd::Resident;
pub use netkitd::{af_xdp, behind_nic, daemon, packet_sockets};

/// The peers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// netkitd with a pair.
    Netkitd,
    /// netkitd with a pair and a BPF program at either end.
    NetkitdPolicy,
    /// netkitd with a pair among 1,000 devices, all of them with guests.
    NetkitdCrowd,
    /// DPDK's testpmd in io mode between two net_vhost ports.
    Dpdk,
    /// netkitd with two guests behind AF_XDP uplinks that are wired to each other.
    NetkitdXdp,
    /// netkitd with two guests behind uplinks by packet sockets that are wired to each other.
    NetkitdPackets,
    /// DPDK's testpmd in io mode between two net_vhost ports and two AF_XDP ports that are wired to each other.
    DpdkXdp,
    /// The same with packet sockets (net_af_packet).
    DpdkPackets,
    /// Open vSwitch with DPDK, one flow each way.
    Ovs,
    /// The stock rust-vmm daemon with a small back end.
    Stock,
    /// The kernel's veth between two network namespaces.
    Veth,
    /// The kernel's netkit between two network namespaces.
    Netkit,
    /// netkitd between a guest of QEMU's and packet sockets on a NIC.
    UplinkKernel,
    /// netkitd between a guest of QEMU's and AF_XDP sockets on a NIC.
    UplinkXdp,
    /// QEMU's tap, without vhost, in a bridge with a NIC.
    QemuTap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::Netkitd,
        Kind::NetkitdPolicy,
        Kind::NetkitdCrowd,
        Kind::Dpdk,
        Kind::NetkitdXdp,
        Kind::NetkitdPackets,
        Kind::DpdkXdp,
        Kind::DpdkPackets,
        Kind::Ovs,
        Kind::Stock,
        Kind::Veth,
        Kind::Netkit,
        Kind::UplinkKernel,
        Kind::UplinkXdp,
        Kind::QemuTap,
    ];

    /// For the command line and the JSON.
    pub fn id(self) -> &'static str {
        match self {
            Kind::Netkitd => "netkitd",
            Kind::NetkitdPolicy => "netkitd-policy",
            Kind::NetkitdCrowd => "netkitd-crowd",
            Kind::Dpdk => "dpdk",
            Kind::NetkitdXdp => "netkitd-xdp",
            Kind::NetkitdPackets => "netkitd-packets",
            Kind::DpdkXdp => "dpdk-xdp",
            Kind::DpdkPackets => "dpdk-packets",
            Kind::Ovs => "ovs",
            Kind::Stock => "stock",
            Kind::Veth => "veth",
            Kind::Netkit => "netkit",
            Kind::UplinkKernel => "uplink-kernel",
            Kind::UplinkXdp => "uplink-xdp",
            Kind::QemuTap => "qemu-tap",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Netkitd => "netkitd",
            Kind::NetkitdPolicy => "netkitd with a program",
            Kind::NetkitdCrowd => "netkitd among 1,000 devices",
            Kind::Dpdk => "DPDK vhost, io",
            Kind::NetkitdXdp => "netkitd, AF_XDP",
            Kind::NetkitdPackets => "netkitd, packet sockets",
            Kind::DpdkXdp => "DPDK vhost, net_af_xdp",
            Kind::DpdkPackets => "DPDK vhost, net_af_packet",
            Kind::Ovs => "OVS-DPDK",
            Kind::Stock => "rust-vmm's daemon",
            Kind::Veth => "kernel veth",
            Kind::Netkit => "kernel netkit",
            Kind::UplinkKernel => "netkitd, kernel uplink",
            Kind::UplinkXdp => "netkitd, AF_XDP uplink",
            Kind::QemuTap => "QEMU's tap, vhost=off",
        }
    }

    /// The kernel's name for its kind of device, where it is the kernel's.
    pub fn device(self) -> &'static str {
        if self == Kind::Netkit { "netkit" } else { "veth" }
    }

    /// Whether it is one of ours.
    pub fn is_ours(self) -> bool {
        use Kind::{Netkitd, NetkitdCrowd, NetkitdPackets, NetkitdPolicy, NetkitdXdp};
        let is_peer = matches!(
            self,
            Netkitd | NetkitdPolicy | NetkitdCrowd | NetkitdXdp | NetkitdPackets
        );
        is_peer || matches!(self, Kind::UplinkKernel | Kind::UplinkXdp)
    }

    /// Whether it has vhost-user sockets.
    pub fn is_back_end(self) -> bool {
        !matches!(self, Kind::Veth | Kind::Netkit) && self.way_out().is_none()
    }

    /// How frames leave the host, where a guest of QEMU's sends them.
    pub fn way_out(self) -> Option<Way> {
        match self {
            Kind::UplinkKernel => Some(Way::Kernel),
            Kind::UplinkXdp => Some(Way::AfXdp),
            Kind::QemuTap => Some(Way::Tap),
            _ => None,
        }
    }
}

/// A back end that runs, stopped (SIGSTOP) whenever it is not its turn: two that poll would share a core.
#[derive(Debug)]
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// The sockets of its two ends.
    pub sockets: [PathBuf; 2],
    /// Whether the generator listens and the back end connects.
    pub connects: bool,
    /// How the names of its forwarding threads begin.
    forwarding: &'static str,
    /// What these do when there is nothing to do.
    pub habit: Habit,
    program: Program,
}

/// What runs. Dropped in this order: what runs first, its files last.
#[derive(Debug)]
enum Program {
    Netkitd(Box<Netkitd>, Box<Resident>),
    Testpmd(
        super::testpmd::Testpmd,
        #[allow(dead_code, reason = "holds the sockets")] TempDir,
    ),
    TestpmdWithNics(
        super::testpmd::Testpmd,
        #[allow(dead_code, reason = "holds the sockets")] TempDir,
        #[allow(dead_code, reason = "holds the netdevs")] super::veth::Veth,
    ),
    Processes(
        Vec<Process>,
        #[allow(dead_code, reason = "holds the sockets")] TempDir,
    ),
}

impl Peer {
    /// Starts a back end.
    pub fn start(kind: Kind, huge_pages: bool) -> Result<Peer> {
        match kind {
            _ if kind.is_ours() => netkitd::start(kind),
            Kind::DpdkXdp => dpdk::start_with_nics(kind, "net_af_xdp", huge_pages),
            Kind::DpdkPackets => dpdk::start_with_nics(kind, "net_af_packet", huge_pages),
            Kind::Dpdk => dpdk::start(huge_pages),
            Kind::Ovs => ovs::start(huge_pages),
            Kind::Stock => stock::start(),
            _ => Err(Error::Missing(format!("{} is no back end", kind.title()))),
        }
    }

    /// The main process.
    pub fn process(&self) -> &Process {
        match &self.program {
            Program::Netkitd(daemon, _) => daemon.process(),
            Program::Testpmd(testpmd, _) | Program::TestpmdWithNics(testpmd, ..) => testpmd.process(),
            Program::Processes(processes, _) => &processes[0],
        }
    }

    /// The threads that forward frames.
    pub fn forwarding_threads(&self) -> Result<Vec<PathBuf>> {
        share::threads(self.process().id(), self.forwarding)
    }

    /// It is not its turn.
    pub fn pause(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// It is its turn.
    pub fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// Looks whether what was measured is what was meant.
    pub fn check(&self) -> Result<()> {
        match &self.program {
            Program::Netkitd(daemon, resident) => resident.check(daemon),
            _ => Ok(()),
        }
    }

    fn signal(&self, signal: i32) -> Result<()> {
        self.process()
            .signal(signal)
            .map_err(Error::io("signal", self.kind.title()))
    }
}

fn directory() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir()
        .map_err(Error::io("make", "a temporary directory"))
}
