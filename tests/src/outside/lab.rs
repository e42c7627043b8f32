//! Two namespaces with a wire between them: one for the daemon and its NIC, the other for the world outside.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Capture, Checker, Forwarder, Impairment, Namespace};

/// The netdev that the daemon is given, in [`Lab::inside`].
pub const NIC: &str = "nic0";
/// The netdev at the other end of its wire, in [`Lab::outside`].
pub const FAR: &str = "far0";
/// The ends of the forwarder between them, in a namespace of its own.
const MIDDLE: [&str; 2] = ["mid0", "mid1"];

/// What the wire is like.
#[derive(Debug, Clone, Copy)]
pub struct LabConfig {
    /// Of both ends.
    pub mtu: u32,
    /// Queues of both ends.
    pub queues: u32,
    /// Whether the ends leave checksums and segmentation to each other, as virtual NICs do, or finish every frame.
    pub offloads: bool,
    /// Whether frames are lost or come late; a program passes them on then.
    pub impairment: Option<Impairment>,
}

impl Default for LabConfig {
    fn default() -> LabConfig {
        LabConfig {
            mtu: 1500,
            queues: 1,
            offloads: false,
            impairment: None,
        }
    }
}

/// The namespaces and their wire.
#[derive(Debug)]
pub struct Lab {
    /// What it was made of.
    pub config: LabConfig,
    /// Where the daemon runs.
    pub inside: Namespace,
    /// What is outside.
    pub outside: Namespace,
    middle: Option<Namespace>,
    forwarder: Option<Forwarder>,
}

impl Lab {
    /// The address of the outside.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The network that it is in.
    pub const PREFIX: u8 = 24;

    /// Makes the namespaces and their wire, and gives the outside its address.
    pub fn new(config: LabConfig) -> Lab {
        let mut lab = Lab {
            config,
            inside: Namespace::new("in"),
            outside: Namespace::new("out"),
            middle: config.impairment.map(|_| Namespace::new("mid")),
            forwarder: None,
        };
        lab.make_wire();
        lab
    }

    /// Makes the wire, again if it was removed.
    pub fn make_wire(&mut self) {
        match self.config.impairment.zip(self.middle.as_ref()) {
            None => self.veth((&self.inside, NIC), (&self.outside, FAR)),
            Some((impairment, middle)) => {
                self.veth((&self.inside, NIC), (middle, MIDDLE[0]));
                self.veth((middle, MIDDLE[1]), (&self.outside, FAR));
                let forwarder = Forwarder::start(middle, MIDDLE, impairment, self.checker());
                self.forwarder = Some(forwarder.expect("packet sockets"));
            }
        }
        let (address, prefix) = (Lab::OUTSIDE, Lab::PREFIX);
        self.outside
            .run(&format!("ip address add {address}/{prefix} dev {FAR}"));
    }

    /// Removes the wire, and with it the daemon's NIC.
    pub fn remove_wire(&mut self) {
        self.forwarder = None;
        self.inside.run(&format!("ip link del {NIC}"));
        if self.middle.is_some() {
            self.outside.run(&format!("ip link del {FAR}"));
        }
    }

    /// Takes the cable out, or plugs it in again: the other end's state, which is the NIC's carrier.
    pub fn set_carrier(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.outside.run(&format!("ip link set {FAR} {state}"));
    }

    /// The NIC's own state on its host.
    pub fn set_nic(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.inside.run(&format!("ip link set {NIC} {state}"));
    }

    /// Has the ends of the wire leave checksums and segmentation to each other, or not.
    pub fn set_offloads(&self, on: bool) {
        offloads(&self.inside, NIC, on);
        offloads(&self.outside, FAR, on);
    }

    /// Watches the wire from the outside's end.
    pub fn capture(&self) -> Capture {
        Capture::start(&self.outside, FAR, self.checker()).expect("a packet socket")
    }

    /// The forwarder between the ends, if there is one.
    pub fn take_forwarder(&mut self) -> Option<Forwarder> {
        self.forwarder.take()
    }

    /// A listening socket on the outside.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.outside
            .enter(|| TcpListener::bind((Lab::OUTSIDE, port)))
            .expect("a free port")
    }

    /// Connects from the outside, trying until somebody answers.
    pub fn connect(&self, to: Ipv4Addr, port: u16, patience: Duration) -> TcpStream {
        let end = Instant::now() + patience;
        self.outside.enter(|| {
            loop {
                match TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(2)) {
                    Ok(stream) => return stream,
                    Err(error) => assert!(Instant::now() < end, "{to}:{port}: {error}"),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    }

    /// Checks frames of this wire.
    pub fn checker(&self) -> Checker {
        let mtu = self.config.mtu as usize;
        if self.config.offloads {
            Checker::virtual_wire(mtu)
        } else {
            Checker::new(mtu)
        }
    }

    fn veth(&self, near: (&Namespace, &str), far: (&Namespace, &str)) {
        let (mtu, queues) = (self.config.mtu, self.config.queues);
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        near.0.run(&format!(
            "ip link add {} address {} mtu {mtu} {queues} type veth \
             peer name {} address {} mtu {mtu} {queues} netns {}",
            near.1,
            address(near.1),
            far.1,
            address(far.1),
            far.0.name()
        ));
        for (namespace, netdev) in [near, far] {
            offloads(namespace, netdev, self.config.offloads);
            namespace.run(&format!("ip link set {netdev} up"));
        }
    }
}

/// A wire that is made again has the same ends as before: their neighbours remember them.
fn address(netdev: &str) -> String {
    let last = [NIC, FAR, MIDDLE[0], MIDDLE[1]]
        .iter()
        .position(|it| *it == netdev);
    format!("02:00:00:00:77:{:02x}", last.unwrap_or(0xff))
}

fn offloads(namespace: &Namespace, netdev: &str, on: bool) {
    let state = if on { "on" } else { "off" };
    namespace.run(&format!(
        "ethtool -K {netdev} tx {state} sg {state} tso {state} gso {state} gro {state}"
    ));
}
