//! A pair of devices in a daemon, with a vhost-user socket behind each end.

use std::io;
use std::path::PathBuf;

use netkit_api::{
    AttachmentSpec, Device, DeviceCreate, DeviceSet, Mode, PeerCreate, SocketMode, Statistics, VhostUserSpec,
};
use vmm_glue::Client;

use super::device::{NetDriver, Setup};
use crate::netkitd::Netkitd;

/// What a pair is made of.
#[derive(Debug, Clone, Copy)]
pub struct PairConfig {
    /// L2 or L3.
    pub mode: Mode,
    /// Of both ends.
    pub mtu: u32,
    /// Queue pairs of each end.
    pub queues: u16,
}

impl Default for PairConfig {
    fn default() -> PairConfig {
        PairConfig {
            mode: Mode::L2,
            mtu: 1500,
            queues: 1,
        }
    }
}

/// Two devices that are each other's peer.
#[derive(Debug)]
pub struct Pair {
    /// The primary.
    pub a: End,
    /// The peer.
    pub b: End,
}

/// One device and the socket behind it.
#[derive(Debug, Clone)]
pub struct End {
    /// The device's name.
    pub device: String,
    /// The vhost-user socket.
    pub socket: PathBuf,
    client: Client,
}

impl Pair {
    /// Makes a pair in L2 mode with one queue pair.
    pub fn new(daemon: &Netkitd, name: &str) -> Pair {
        Pair::with(daemon, name, PairConfig::default())
    }

    /// Makes a pair.
    pub fn with(daemon: &Netkitd, name: &str, config: PairConfig) -> Pair {
        let pair = Pair::unattached(daemon, name, config);
        for end in [&pair.a, &pair.b] {
            end.attach(SocketMode::Server, config.queues);
        }
        pair
    }

    /// Makes a pair with nothing behind it.
    pub fn unattached(daemon: &Netkitd, name: &str, config: PairConfig) -> Pair {
        let (a, b) = (format!("{name}0"), format!("{name}1"));
        let peer = PeerCreate {
            name: Some(b.clone()),
            ..PeerCreate::default()
        };
        let request = DeviceCreate {
            name: Some(a.clone()),
            mode: Some(config.mode),
            mtu: Some(config.mtu),
            peer: Some(peer),
            ..DeviceCreate::default()
        };
        daemon.client().create(&request).expect("a pair");
        let pair = Pair::ends(daemon, name);
        for end in [&pair.a, &pair.b] {
            end.set(&DeviceSet {
                up: Some(true),
                mtu: Some(config.mtu),
                ..DeviceSet::default()
            });
        }
        pair
    }

    /// A pair that was made by other means.
    pub fn ends(daemon: &Netkitd, name: &str) -> Pair {
        let end = |device: String| End {
            socket: daemon.path(&format!("{device}.sock")),
            client: daemon.client(),
            device,
        };
        Pair {
            a: end(format!("{name}0")),
            b: end(format!("{name}1")),
        }
    }

    /// Connects a guest with these choices to each end.
    pub fn connect(&self, setup: &Setup) -> io::Result<(NetDriver, NetDriver)> {
        Ok((self.a.connect(setup.clone())?, self.b.connect(setup.clone())?))
    }
}

impl End {
    /// Puts a vhost-user socket behind the device.
    pub fn attach(&self, mode: SocketMode, queues: u16) {
        let spec = VhostUserSpec {
            path: self.socket.display().to_string(),
            mode,
            queues,
        };
        self.client
            .attach(&self.device, &AttachmentSpec::VhostUser(spec))
            .expect("a socket behind the device");
    }

    /// Changes the device.
    pub fn set(&self, changes: &DeviceSet) {
        self.client
            .set(&self.device, changes)
            .expect("a change of the device");
    }

    /// Connects a guest.
    pub fn connect(&self, setup: Setup) -> io::Result<NetDriver> {
        NetDriver::connect(&self.socket, setup)
    }

    /// The device as the API shows it.
    pub fn shown(&self) -> Device {
        self.client.device(&self.device).expect("the device")
    }

    /// The device's counters.
    pub fn statistics(&self) -> Statistics {
        self.shown().statistics
    }

    /// The address that the guest should have.
    pub fn guest_address(&self) -> [u8; 6] {
        let text = self.shown().attachment.guest_address.unwrap_or_default();
        let octets: Vec<u8> = text
            .split(':')
            .filter_map(|octet| u8::from_str_radix(octet, 16).ok())
            .collect();
        octets.try_into().expect("an Ethernet address")
    }

    /// How many frames of this sender were dropped, by reason.
    pub fn drops(&self) -> Vec<(String, u64)> {
        let drops = self.client.drops(Some(&self.device)).expect("drops");
        drops
            .into_iter()
            .flat_map(|it| it.drops)
            .map(|it| (it.reason, it.frames))
            .collect()
    }
}
