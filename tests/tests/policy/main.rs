//! BPF programs on the devices of a real daemon: what they do to frames, what the outside sees of it, and what they
//! cannot do.

mod hostile;
mod load;
mod maps;
mod redirects;
mod restart;
mod rewrite;
mod verdicts;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netkit_tests::driver::packet::{self, Host};
use netkit_tests::driver::{End, NetDriver};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::{self, Programs};

const A: Host = Host {
    mac: [2, 0, 0, 0, 0, 1],
    ip: std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
    port: 1000,
};
const B: Host = Host {
    mac: [2, 0, 0, 0, 0, 2],
    ip: std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
    port: 2000,
};

/// How long a frame may take that is not to come.
const SOON: Duration = Duration::from_millis(20);

/// The object of a file in `programs`.
fn object(name: &str) -> Option<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/programs");
    programs::compile(&directory.join(name).with_extension("c"))
}

/// A daemon with the programs of a file in `programs`.
fn daemon_with(name: &str, arguments: &[&str]) -> Option<(Netkitd, Programs)> {
    let object = object(name)?;
    let daemon = Netkitd::with(arguments);
    let programs = Programs(daemon.client());
    programs.load(&object);
    Some((daemon, programs))
}

/// A frame that no stack answers.
fn frame(payload: &[u8]) -> Vec<u8> {
    packet::ethernet(A.mac, B.mac, payload)
}

/// The number at this place of a frame.
fn number(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

fn assert_nothing(driver: &mut NetDriver) {
    assert_eq!(driver.receive_within(SOON), None);
}

/// How many frames of this sender were dropped for this reason.
fn dropped(end: &End, reason: &str) -> u64 {
    let drops = end.drops();
    drops
        .iter()
        .find(|(name, _)| name == reason)
        .map_or(0, |(_, frames)| *frames)
}

/// The files in a directory and those below.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}
