//! What the front end has said of one ring.

use std::fs::File;

use devices::guest::NetFeatures;
use devices::ring::RingConfig;

use super::message::VringAddr;

/// The settings of one ring, as they arrive. The ring starts when there are enough of them.
#[derive(Debug, Default)]
pub struct Vring {
    /// Number of descriptors; 0 is not set.
    pub size: u32,
    /// Addresses, once set.
    pub addr: Option<VringAddr>,
    /// How the driver's kicks arrive.
    pub kick: Kick,
}

/// How the driver's kicks arrive.
#[derive(Debug, Default)]
pub enum Kick {
    /// Not told yet: the ring is stopped.
    #[default]
    Unset,
    /// On an eventfd.
    Eventfd(File),
    /// Not at all: the ring is polled. // U9
    Polled,
}

impl Vring {
    /// The ring's set-up but for where it goes on, if the front end has said all that is needed. // U4: a ring starts at its
    /// kick descriptor
    pub fn config(&self, features: NetFeatures) -> Option<RingConfig> {
        let addr = self.addr?;
        if matches!(self.kick, Kick::Unset) || self.size == 0 {
            return None;
        }
        Some(RingConfig {
            size: self.size,
            desc: addr.desc,
            avail: addr.avail,
            used: addr.used,
            used_log: addr.log.then_some(addr.log_guest),
            packed: features.packed(),
            event_idx: features.event_idx(),
            in_order: features.in_order(),
            ..RingConfig::default()
        })
    }
}
