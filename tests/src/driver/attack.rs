//! What every attack on a daemon must leave as it was: its neighbours' frames, and what the daemon holds.

use std::time::{Duration, Instant};

use super::bystanders::Bystanders;
use super::device::{PATIENCE, Setup};
use super::packet::ethernet;
use super::pair::Pair;
use crate::netkitd::Netkitd;

/// Anonymous mappings come and go with the allocator's arenas; a leak grows beyond that.
const ARENAS: usize = 12;

/// What a daemon holds of its front ends.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Open descriptors.
    pub descriptors: usize,
    /// Shared mappings.
    pub shared_maps: usize,
    /// All mappings.
    pub maps: usize,
}

impl Held {
    /// What it holds now.
    pub fn by(daemon: &Netkitd) -> Held {
        let proc = format!("/proc/{}", daemon.process().id());
        let maps = std::fs::read_to_string(format!("{proc}/maps")).expect("its maps");
        let is_shared = |line: &&str| line.split(' ').nth(1).is_some_and(|mode| mode.ends_with('s'));
        Held {
            descriptors: std::fs::read_dir(format!("{proc}/fd"))
                .expect("its descriptors")
                .count(),
            shared_maps: maps.lines().filter(is_shared).count(),
            maps: maps.lines().count(),
        }
    }

    /// Whether this is no more than it was.
    pub fn is_within(&self, before: &Held) -> bool {
        self.descriptors <= before.descriptors
            && self.shared_maps <= before.shared_maps
            && self.maps <= before.maps + ARENAS
    }
}

/// Attacks a pair in a daemon while another pair exchanges frames; afterwards the daemon must be as it was before.
///
/// # Panics
/// If it is not, or if the attack failed.
pub fn attack(attack: impl FnOnce(&Netkitd, &Pair)) {
    let daemon = Netkitd::start();
    let pid = daemon.process().id();
    let target = Pair::new(&daemon, "nk");
    works(&target);
    let bystanders = Bystanders::start(&daemon);
    bystanders.go_on();
    let before = Held::by(&daemon);
    attack(&daemon, &target);
    bystanders.go_on();
    assert_eq!(daemon.process().id(), pid);
    assert!(daemon.process().status().expect("its status").is_none());
    eventually("the daemon holds on to something", || {
        Held::by(&daemon).is_within(&before)
    });
    works(&target);
    bystanders.finish();
}

/// Waits for something that must come true.
///
/// # Panics
/// If it does not.
pub fn eventually(otherwise: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, condition), "{otherwise}");
}

/// Whether something comes true in time.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// New sessions on a pair serve their guests.
///
/// # Panics
/// If they do not.
pub fn works(pair: &Pair) {
    let (mut a, mut b) = pair.connect(&Setup::default()).expect("new sessions");
    let frame = ethernet([2; 6], [4; 6], b"still here");
    a.send_frame(&frame);
    assert_eq!(b.receive().frame, frame);
    b.send_frame(&frame);
    assert_eq!(a.receive().frame, frame);
}
