//! A guest's network card, as QEMU's command line and QMP say it.

use super::config::qemu_version;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A card, virtio-net unless said otherwise, and what is behind it.
#[derive(Debug, Clone)]
pub struct Nic {
    backend: Backend,
    model: String,
    record: Option<PathBuf>,
    queues: u16,
    mac: Option<String>,
    properties: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
enum Backend {
    VhostUser {
        socket: PathBuf,
        server: bool,
        reconnect_ms: u32,
    },
    Netdev(String),
}

impl Nic {
    /// A vhost-user socket on which the daemon listens; QEMU connects, and reconnects every 100 ms.
    pub fn vhost_user(socket: impl Into<PathBuf>) -> Nic {
        Nic::new(Backend::VhostUser {
            socket: socket.into(),
            server: false,
            reconnect_ms: 100,
        })
    }

    /// Any other QEMU network backend, such as `user` or `dgram,local.type=unix,…`, without its id.
    pub fn netdev(backend: impl Into<String>) -> Nic {
        Nic::new(Backend::Netdev(backend.into()))
    }

    fn new(backend: Backend) -> Nic {
        Nic {
            backend,
            model: "virtio-net-pci".into(),
            record: None,
            queues: 1,
            mac: None,
            properties: Vec::new(),
        }
    }

    /// Makes QEMU listen on the vhost-user socket. It stands still until the daemon has connected.
    pub fn server(mut self) -> Nic {
        if let Backend::VhostUser { server, .. } = &mut self.backend {
            *server = true;
        }
        self
    }

    /// Tries again after this many milliseconds when the daemon is gone; 0 gives up.
    pub fn reconnect_ms(mut self, milliseconds: u32) -> Nic {
        if let Backend::VhostUser { reconnect_ms, .. } = &mut self.backend {
            *reconnect_ms = milliseconds;
        }
        self
    }

    /// A unix datagram socket, one frame a datagram: QEMU receives at `local` and sends to `remote`.
    pub fn dgram(local: &Path, remote: &Path) -> Nic {
        let (local, remote) = (local.display(), remote.display());
        Nic::netdev(format!(
            "dgram,local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
        ))
    }

    /// Makes it another of QEMU's cards, such as `igb`.
    pub fn model(mut self, model: impl Into<String>) -> Nic {
        self.model = model.into();
        self
    }

    /// Has QEMU write every frame of the wire to a pcap file; not of a card that is plugged in later.
    pub fn record(mut self, path: impl Into<PathBuf>) -> Nic {
        self.record = Some(path.into());
        self
    }

    /// The number of queue pairs.
    pub fn queues(mut self, pairs: u16) -> Nic {
        self.queues = pairs;
        self
    }

    /// The card's address; by default one that is unique to guest and card.
    pub fn mac(mut self, mac: impl Into<String>) -> Nic {
        self.mac = Some(mac.into());
        self
    }

    /// The MTU that the card offers to the guest.
    pub fn host_mtu(self, mtu: u16) -> Nic {
        self.property("host_mtu", mtu.to_string())
    }

    /// Sets a property of QEMU's card, such as `guest_tso4` to `off` or `packed` to `on`.
    pub fn property(mut self, name: &str, value: impl Into<String>) -> Nic {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// The card as QEMU's command line has it.
    pub(super) fn arguments(&self, id: &str, mac: &str, bus: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        match &self.backend {
            Backend::Netdev(backend) => arguments.extend(["-netdev".into(), format!("{backend},id={id}")]),
            Backend::VhostUser {
                socket,
                server,
                reconnect_ms,
            } => {
                let role = match (server, reconnect_ms) {
                    (true, _) => ",server=on,wait=on".into(),
                    (false, 0) => String::new(),
                    (false, milliseconds) => format!(",{}", reconnect(*milliseconds)),
                };
                let path = socket.display();
                arguments.extend([
                    "-chardev".into(),
                    format!("socket,id=char-{id},path={path}{role}"),
                ]);
                let queues = self.queues;
                arguments.extend([
                    "-netdev".into(),
                    format!("vhost-user,id={id},chardev=char-{id},queues={queues}"),
                ]);
            }
        }
        let device: Vec<String> = self
            .device(id, mac)
            .into_iter()
            .map(|(name, value)| {
                format!(
                    "{name}={}",
                    value.as_str().map_or(value.to_string(), String::from)
                )
            })
            .collect();
        arguments.extend([
            "-device".into(),
            format!("{},{},{bus}", self.model, device.join(",")),
        ]);
        if let Some(path) = &self.record {
            let path = path.display();
            arguments.extend([
                "-object".into(),
                format!("filter-dump,id=dump-{id},netdev={id},file={path}"),
            ]);
        }
        arguments
    }

    /// The QMP commands, in order, that plug the card into `bus`.
    pub(super) fn plug(&self, id: &str, mac: &str, bus: &str) -> Vec<(&'static str, Value)> {
        let mut commands = Vec::new();
        match &self.backend {
            // QMP's netdev_add takes no command-line text; only backends without options are of use here.
            Backend::Netdev(backend) => commands.push(("netdev_add", json!({"type": backend, "id": id}))),
            Backend::VhostUser {
                socket,
                server,
                reconnect_ms,
            } => {
                let address = json!({"type": "unix", "data": {"path": socket}});
                let mut data = json!({"addr": address, "server": server});
                if !server && *reconnect_ms > 0 {
                    let (name, value) = reconnect_option(*reconnect_ms);
                    data[name] = json!(value);
                }
                let chardev = format!("char-{id}");
                let backend = json!({"type": "socket", "data": data});
                commands.push(("chardev-add", json!({"id": chardev, "backend": backend})));
                let netdev =
                    json!({"type": "vhost-user", "id": id, "chardev": chardev, "queues": self.queues});
                commands.push(("netdev_add", netdev));
            }
        }
        let mut device = self.device(id, mac);
        device.insert("driver".into(), json!(self.model));
        device.insert("bus".into(), json!(bus));
        commands.push(("device_add", Value::Object(device)));
        commands
    }

    fn device(&self, id: &str, mac: &str) -> Map<String, Value> {
        let mut device = Map::new();
        device.insert("id".into(), json!(format!("nic-{id}")));
        device.insert("netdev".into(), json!(id));
        device.insert("mac".into(), json!(self.mac.as_deref().unwrap_or(mac)));
        // The boot firmware need not look at the card.
        device.insert("romfile".into(), json!(""));
        if self.queues > 1 {
            device.insert("mq".into(), json!("on"));
            device.insert("vectors".into(), json!(2 * self.queues + 2));
        }
        for (name, value) in &self.properties {
            device.insert(name.clone(), property_value(value));
        }
        device
    }
}

/// QMP wants numbers as numbers.
fn property_value(text: &str) -> Value {
    text.parse::<u64>()
        .map_or_else(|_| json!(text), |number| json!(number))
}

fn reconnect(milliseconds: u32) -> String {
    let (name, value) = reconnect_option(milliseconds);
    format!("{name}={value}")
}

/// Before QEMU 9.2 the interval could only be said in whole seconds.
fn reconnect_option(milliseconds: u32) -> (&'static str, u32) {
    match qemu_version() >= (9, 2) {
        true => ("reconnect-ms", milliseconds),
        false => ("reconnect", milliseconds.div_ceil(1000)),
    }
}
