//! A host with cards in it, and what is on the other ends of their wires.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use netkit_tests::driver::Stack;
use netkit_tests::driver::stack::serve;
use netkit_tests::host::Host;
use netkit_tests::netkitd::program;
use netkit_tests::outside::{Checker, Watched, Wire, station};
use netkit_tests::rig::{GuestConfig, Nic, Result, Shell, outer};
use smoltcp::wire::IpCidr;
use tempfile::TempDir;

use crate::{GUEST, MTU, OUTSIDE, OUTSIDE_MAC, PATIENCE};

/// A card of the host's, and the daemon's uplink on it.
#[derive(Debug)]
pub struct Card {
    /// Whether the host has a way to reset it alone.
    pub resets: bool,
    pub index: usize,
    /// What QEMU calls it.
    pub model: &'static str,
    /// What follows in QEMU's words.
    properties: &'static [(&'static str, &'static str)],
    /// What the daemon drives it with.
    pub driver: &'static str,
    /// What the host's kernel has for it.
    pub host_driver: &'static str,
}

pub const VIRTIO_PCI: &str = "virtio-pci";

pub const IGB: Card = Card {
    resets: true,
    index: 0,
    model: "igb",
    properties: &[],
    driver: "igb",
    host_driver: "none",
};
/// The host's kernel has a driver for it, which has it at first.
pub const VIRTIO: Card = Card {
    resets: false,
    index: 1,
    model: "virtio-net-pci",
    properties: &[("disable-legacy", "on"), ("iommu_platform", "on")],
    driver: "virtio",
    host_driver: VIRTIO_PCI,
};

impl Card {
    pub fn address(&self) -> String {
        GuestConfig::pci_address(self.index)
    }

    pub fn uplink(&self) -> String {
        format!("up{}", self.index)
    }

    /// The pair in front of its uplink: the primary, and the peer with the guest's socket.
    pub fn pair(&self) -> (String, String) {
        (format!("n{}a", self.index), format!("n{}b", self.index))
    }

    pub fn pcap(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.pcap", self.model))
    }

    pub fn ends(&self, directory: &Path) -> [PathBuf; 2] {
        ["card", "outside"].map(|end| directory.join(format!("{}-{end}", self.model)))
    }

    pub fn nic(&self, directory: &Path) -> Nic {
        let [card, outside] = self.ends(directory);
        let nic = Nic::dgram(&card, &outside)
            .model(self.model)
            .record(self.pcap(directory));
        let set = |nic: Nic, (name, value): &(&str, &str)| nic.property(name, *value);
        self.properties.iter().fold(nic, set)
    }

    pub fn wire(&self, directory: &Path) -> Wire {
        let [card, outside] = self.ends(directory);
        let _ = fs::remove_file(&outside);
        Wire::dgram(&outside, &card).expect("the outside's end of the wire")
    }
}

/// A host with cards, and the outside of each.
#[derive(Debug)]
pub struct Bench {
    pub host: Host,
    pub directory: TempDir,
}

impl Bench {
    pub fn start(cards: &[&Card], iommu: bool) -> Result<Bench> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = outer::config("cards")?;
        config = config.files(outer::files_of_binary_as(program("station"), "/usr/bin/station")?);
        config.iommu = iommu;
        for card in cards {
            config = config.nic(card.nic(directory.path()));
        }
        let host = Host::boot(config)?;
        host.guest()
            .check("modprobe vfio_iommu_type1 && modprobe vfio_pci")?;
        Ok(Bench { host, directory })
    }

    /// An uplink on a card, and a pair in front of it.
    pub fn add_uplink(&self, card: &Card) -> Result<()> {
        let (uplink, address) = (card.uplink(), card.address());
        self.host
            .nkctl(&format!("uplink add {uplink} vfio {address} bind"))?;
        let (primary, peer) = card.pair();
        self.host.nkctl(&format!(
            "link add {primary} type netkit mode l2 peer name {peer}"
        ))?;
        for device in [&primary, &peer] {
            self.host.nkctl(&format!("link set {device} up"))?;
        }
        self.host.nkctl(&format!("attach {primary} uplink {uplink}"))?;
        let socket = socket(&peer);
        self.host
            .nkctl(&format!("attach {peer} vhost-user path {socket}"))?;
        self.await_state(card, "up")
    }

    /// Waits until an uplink is in a state.
    pub fn await_state(&self, card: &Card, state: &str) -> Result<()> {
        let uplink = card.uplink();
        let begun = Instant::now();
        loop {
            let shown = self.host.nkctl(&format!("-j uplink show {uplink}"))?;
            let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
            if has_state(&shown, state) {
                return Ok(());
            }
            let log = self.host.log()?;
            assert!(
                begun.elapsed() < PATIENCE,
                "{uplink} is not {state}: {shown}\n{log}"
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// A stack on the other end of a card's wire.
    pub fn outside(&self, card: &Card) -> Stack<Watched> {
        let address = IpCidr::new(OUTSIDE.parse().expect("an address"), 24);
        let wire = card.wire(self.directory.path());
        station(wire, Checker::new(MTU), OUTSIDE_MAC, address)
    }

    /// Begins a command of the station behind a card; it is done when [`Self::has_ended`].
    pub fn begin(&self, card: &Card, command: &str) -> Result<String> {
        let (_, peer) = card.pair();
        let (socket, mac) = (socket(&peer), self.guest_mac(card)?);
        self.host.guest().spawn(&format!(
            "RUST_BACKTRACE=0 station {socket} {mac} {GUEST}/24 {command}; echo \"status $?\""
        ))
    }

    /// What a command printed, if it has ended.
    pub fn has_ended(&self, log: &str) -> Result<Option<String>> {
        let text = self.host.guest().check(&format!("cat {log}"))?;
        Ok(text.contains("status ").then_some(text))
    }

    /// Lets the outside act until a command of the station's has ended well; gives what it printed.
    pub fn serve(
        &self,
        outside: &mut Stack<Watched>,
        log: &str,
        mut act: impl FnMut(&mut Stack<Watched>),
    ) -> Result<String> {
        let begun = Instant::now();
        let text = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                loop {
                    if let Some(text) = self.has_ended(log)? {
                        return Ok(text);
                    }
                    assert!(begun.elapsed() < 2 * PATIENCE, "the station does not end");
                    thread::sleep(Duration::from_millis(200));
                }
            });
            serve(outside, |outside| {
                act(outside);
                waiting.is_finished()
            });
            waiting.join().expect("the thread that waits")
        })?;
        assert!(text.contains("status 0"), "{text}\n{}", self.host.log()?);
        Ok(text)
    }

    /// The driver that a card of the host's is bound to now.
    pub fn driver(&self, card: &Card) -> Result<String> {
        let link = format!("/sys/bus/pci/devices/{}/driver", card.address());
        let question = format!("basename $(readlink {link} || echo none)");
        Ok(self.host.guest().check(&question)?.trim().to_owned())
    }

    pub fn guest_mac(&self, card: &Card) -> Result<String> {
        let (_, peer) = card.pair();
        let words = self.host.nkctl(&format!("vm args {peer} qemu memory none"))?;
        let mac = words.split("mac=").nth(1).unwrap_or_default();
        Ok(mac.chars().take(17).collect())
    }

    /// Kilobytes that the daemon has pinned, which are those that a card can reach.
    pub fn pinned(&self) -> Result<u64> {
        let text = self
            .host
            .guest()
            .check("sed -n 's/^VmLck:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$(pidof netkitd)/status")?;
        Ok(text.trim().parse().expect("a number of kilobytes"))
    }
}

fn socket(device: &str) -> String {
    format!("/run/netkitd/{device}.sock")
}

/// Looks for a state in what nkctl shows, an uplink or a list of one.
fn has_state(shown: &serde_json::Value, state: &str) -> bool {
    match shown {
        serde_json::Value::Array(all) => all.iter().any(|one| has_state(one, state)),
        one => one["state"]
            .as_str()
            .is_some_and(|it| it.eq_ignore_ascii_case(state)),
    }
}
