//! Guests behind uplinks: what they send reaches the outside through a NIC of the host, right and in order, whichever way
//! the NIC is reached; and what happens when it is not there.

mod bulk;
mod leases;
mod outages;
mod programs;
mod refusals;
mod sharing;
mod traffic;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::thread;
use std::time::{Duration, Instant};

use netkit_api::{Mode, SocketMode, Uplink};
use netkit_tests::driver::conversation::{self, Receiver, Sender};
use netkit_tests::driver::stack::{Elsewhere, serve};
use netkit_tests::driver::{End, Pair, PairConfig, Setup, Stack};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::outside::{Lab, LabConfig, NIC};
use netkit_tests::{http, needs};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpCidr};

/// Long enough for anything that is to happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The uplink's name.
const UPLINK: &str = "up0";
/// A tap or macvtap of the daemon's.
const TAP: &str = "tap0";

/// How a daemon gets to its NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Packet sockets on it.
    Kernel,
    /// A macvtap on it.
    Macvtap,
    /// A tap beside it in a bridge of the host.
    Tap,
    /// AF_XDP sockets on its queues.
    AfXdp,
    /// No uplink at all: a device's own tap beside it in a bridge of the host.
    OwnTap,
}

impl Way {
    /// What follows `nkctl uplink add NAME`.
    fn words(self, queues: u32) -> String {
        match self {
            Way::Kernel => format!("kernel {NIC}"),
            // In the other modes it hears of its own address only, which is not the guest's.
            Way::Macvtap => format!("macvtap {TAP} link {NIC} mode passthru"),
            Way::Tap => format!("tap {TAP}"),
            Way::AfXdp => format!("af_xdp {NIC} queue 0 queues {queues}"),
            Way::OwnTap => String::new(),
        }
    }
}

/// A daemon in a lab, with an uplink.
#[derive(Debug)]
struct Bench {
    // Dropped first: it still uses what the lab has.
    daemon: Netkitd,
    lab: Lab,
    way: Way,
}

impl Bench {
    /// None, and the test counts as not run, without root.
    fn new(test: &str, way: Way, config: LabConfig) -> Option<Bench> {
        let bench = Bench::without_uplink(test, way, config)?;
        if way == Way::OwnTap {
            return Some(bench);
        }
        bench.add_uplink();
        if way == Way::Tap {
            bench.bridge();
        }
        bench.await_state("up");
        Some(bench)
    }

    fn without_uplink(test: &str, way: Way, config: LabConfig) -> Option<Bench> {
        let lab = needs::root(test).then(|| Lab::new(config))?;
        let daemon = Netkitd::under(&lab.inside.script());
        Some(Bench { daemon, lab, way })
    }

    fn add_uplink(&self) {
        let words = self.way.words(self.lab.config.queues);
        self.daemon.ok(&format!("uplink add {UPLINK} {words}"));
    }

    /// Joins the daemon's tap and the NIC.
    fn bridge(&self) {
        let mtu = self.lab.config.mtu;
        self.lab.inside.run(&format!(
            "ip link show br0 >/dev/null 2>&1 || ip link add br0 type bridge; ip link set br0 up; \
             ip link set {NIC} master br0; ip link set {TAP} mtu {mtu} master br0 up"
        ));
    }

    /// A pair in front of the uplink, a guest's socket behind its peer.
    fn pair(&self, name: &str, share: &str) -> Pair {
        self.pair_in(Mode::L2, name, share)
    }

    fn pair_in(&self, mode: Mode, name: &str, share: &str) -> Pair {
        let config = PairConfig {
            mode,
            mtu: self.lab.config.mtu,
            queues: 1,
        };
        let pair = Pair::unattached(&self.daemon, name, config);
        pair.b.attach(SocketMode::Server, 1);
        let device = &pair.a.device;
        if self.way == Way::OwnTap {
            self.daemon.ok(&format!("attach {device} tap ifname {TAP}"));
            self.bridge();
        } else {
            self.daemon
                .ok(&format!("attach {device} uplink {UPLINK} {share}"));
        }
        pair
    }

    /// A guest with a stack on a pair's peer.
    fn guest(&self, pair: &Pair, setup: &Setup, address: Ipv4Addr) -> Stack {
        let setup = Setup {
            mtu: self.lab.config.mtu as usize,
            ..setup.clone()
        };
        guest(&pair.b, &setup, address)
    }

    /// The uplink as the API shows it.
    fn uplink(&self) -> Uplink {
        let answer = http::call(&self.daemon.api(), "GET", &format!("/v1/uplinks/{UPLINK}"), None);
        serde_json::from_value(answer.json()).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Waits until the uplink is in a state, as the API names it.
    fn await_state(&self, state: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let uplink = self.uplink();
            let now = serde_json::to_value(uplink.state).unwrap();
            if now == state {
                return;
            }
            assert!(
                Instant::now() < end,
                "it is not {state}: {uplink:?}\n{}",
                self.daemon.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many frames were dropped for a reason, by uplink and devices together.
    fn dropped(&self, reason: &str) -> u64 {
        let devices = self.daemon.client().drops(None).unwrap();
        let of_devices = devices.into_iter().flat_map(|it| it.drops);
        let of_uplink = self.uplink().drops;
        of_devices
            .chain(of_uplink)
            .filter(|it| it.reason == reason)
            .map(|it| it.frames)
            .sum()
    }

    /// What a failed test wants to know.
    fn told(&self) -> String {
        format!(
            "{:?}\n{:?}\n{}",
            self.uplink(),
            self.daemon.client().drops(None),
            self.daemon.log()
        )
    }
}

fn guest(end: &End, setup: &Setup, address: Ipv4Addr) -> Stack {
    let driver = end.connect(setup.clone()).unwrap();
    let address = IpCidr::new(address.into(), Lab::PREFIX);
    Stack::new(driver, end.guest_address(), &[address])
}

/// The guest's address.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

/// The guest pings the outside, and the outside the guest.
fn ping_both_ways(lab: &Lab, guest: &mut Stack, address: Ipv4Addr) {
    ping_out(guest, address);
    let pings = thread::scope(|scope| {
        let ping = scope.spawn(|| {
            lab.outside
                .attempt(&format!("ping -q -c 3 -i 0.2 -W 5 {address}"))
        });
        serve(guest, |_| ping.is_finished());
        ping.join().unwrap()
    });
    let text = String::from_utf8_lossy(&pings.stdout).into_owned();
    assert!(text.contains(" 3 received"), "{text}");
}

fn ping_out(guest: &mut Stack, address: Ipv4Addr) {
    let (from, to) = (IpAddress::from(address), IpAddress::from(Lab::OUTSIDE));
    conversation::ping(guest, &mut Elsewhere, from, to, 3);
}

/// The guest sends a stream to the outside, which sends it back.
fn stream_out(lab: &Lab, guest: &mut Stack, port: u16, len: usize) {
    stream_disturbed(lab, guest, port, len, |_, _| ());
}

/// The same; `disturb` is called all the time, with the octets that have not come back yet.
fn stream_disturbed(
    lab: &Lab,
    guest: &mut Stack,
    port: u16,
    len: usize,
    mut disturb: impl FnMut(&mut Stack, usize),
) {
    let listener = lab.listen(port);
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = vec![0; len];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
    });
    let handle = guest.add(conversation::tcp_socket());
    let (socket, context) = guest.socket_and_context::<tcp::Socket>(handle);
    let local = 40_000 + port % 10_000;
    socket
        .connect(context, (IpAddress::from(Lab::OUTSIDE), port), local)
        .unwrap();
    let mut sender = Sender::new(len).kept_open();
    let mut receiver = Receiver::new(len);
    serve(guest, |guest| {
        disturb(guest, receiver.left());
        let socket = guest.socket::<tcp::Socket>(handle);
        sender.advance(socket);
        // The outside closes when it has sent everything.
        socket.state() != tcp::State::SynSent && receiver.advance(socket)
    });
    echo.join().unwrap();
}

/// The outside sends a stream to the guest, which sends another one.
fn stream_in(lab: &Lab, guest: &mut Stack, address: Ipv4Addr, port: u16, len: usize) {
    let handle = guest.add(conversation::tcp_socket());
    guest.socket::<tcp::Socket>(handle).listen(port).unwrap();
    thread::scope(|scope| {
        let far = scope.spawn(move || {
            let mut stream = lab.connect(address, port, PATIENCE);
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || {
                writer.write_all(&conversation::stream(len)).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut octets = Vec::new();
            stream.read_to_end(&mut octets).unwrap();
            writing.join().unwrap();
            octets
        });
        let mut sender = Sender::new(len);
        let mut receiver = Receiver::new(len);
        serve(guest, |guest| {
            let socket = guest.socket::<tcp::Socket>(handle);
            if socket.state() == tcp::State::Listen || socket.state() == tcp::State::SynReceived {
                return far.is_finished();
            }
            sender.advance(socket);
            receiver.advance(socket) && far.is_finished()
        });
        assert!(
            far.join().unwrap() == conversation::stream(len),
            "the stream was changed"
        );
    });
}
