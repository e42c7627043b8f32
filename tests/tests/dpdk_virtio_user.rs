//! DPDK's virtio driver on both ends of a pair, on each of the paths that its own test suite names (DTS:
//! loopback_multi_paths).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netkit_tests::driver::{Pair, Random, Setup, packet};
use netkit_tests::needs;
use netkit_tests::netkitd::Netkitd;

/// Long enough for the start of a program that takes all its memory first, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Descriptors of a ring: the traffic goes around each of them many times.
const SIZE: u16 = 256;
/// Frames that each port must have received.
const ENOUGH: u64 = 5 * SIZE as u64;

/// What `show port xstats` prints last.
const LAST_COUNTER: &str = "tx_q0_size_1519_max_packets: ";

/// A path through the driver.
struct DriverPath {
    name: &'static str,
    /// What the device is told.
    device: &'static str,
    /// What else the program is told.
    arguments: &'static str,
    /// What the driver says that it does, receiving and transmitting.
    says: [&'static str; 2],
}

/// The path that needs AVX-512.
const VECTORISED: &str = "packed, vectorised";

const PATHS: [DriverPath; 10] = [
    DriverPath {
        name: "split, mergeable",
        device: "packed_vq=0,mrg_rxbuf=1,in_order=0",
        arguments: "",
        says: ["mergeable buffer Rx", "standard Tx"],
    },
    DriverPath {
        name: "split, non-mergeable",
        device: "packed_vq=0,mrg_rxbuf=0,in_order=0",
        // An offload that the vectorised path has not.
        arguments: "--enable-hw-vlan-strip",
        says: ["standard Rx", "standard Tx"],
    },
    DriverPath {
        name: "split, vectorised",
        device: "packed_vq=0,mrg_rxbuf=0,in_order=0,vectorized=1",
        arguments: "",
        says: ["vectorized Rx", "standard Tx"],
    },
    DriverPath {
        name: "split, in-order, mergeable",
        device: "packed_vq=0,mrg_rxbuf=1,in_order=1",
        arguments: "",
        says: ["inorder Rx", "inorder Tx"],
    },
    DriverPath {
        name: "split, in-order, non-mergeable",
        device: "packed_vq=0,mrg_rxbuf=0,in_order=1",
        arguments: "--enable-hw-vlan-strip",
        says: ["inorder Rx", "inorder Tx"],
    },
    DriverPath {
        name: "packed, mergeable",
        device: "packed_vq=1,mrg_rxbuf=1,in_order=0",
        arguments: "",
        says: ["packed ring mergeable buffer Rx", "packed ring standard Tx"],
    },
    DriverPath {
        name: "packed, non-mergeable",
        device: "packed_vq=1,mrg_rxbuf=0,in_order=0",
        arguments: "",
        says: ["packed ring standard Rx", "packed ring standard Tx"],
    },
    DriverPath {
        name: "packed, in-order, mergeable",
        device: "packed_vq=1,mrg_rxbuf=1,in_order=1",
        arguments: "",
        says: ["packed ring mergeable buffer Rx", "packed ring standard Tx"],
    },
    DriverPath {
        name: "packed, in-order, non-mergeable",
        device: "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=0",
        arguments: "",
        says: ["packed ring standard Rx", "packed ring standard Tx"],
    },
    DriverPath {
        name: VECTORISED,
        device: "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
        arguments: "",
        says: ["packed ring vectorized Rx", "packed ring vectorized Tx"],
    },
];

impl DriverPath {
    /// Whether this machine has what the path needs.
    fn is_possible(&self, test: &str) -> bool {
        let test = format!("dpdk_virtio_user: {test}: {}", self.name);
        let has_path = self.name != VECTORISED || needs::avx512(&test);
        has_path && needs::program(&test, "dpdk-testpmd")
    }
}

/// Each of them keeps a processor busy.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running dpdk-testpmd, killed when dropped.
struct Testpmd {
    child: Child,
    log: PathBuf,
}

impl Testpmd {
    /// Starts it with a port for each of the sockets.
    fn start(daemon: &Netkitd, sockets: &[&Path], path: &DriverPath, forward: &str) -> Testpmd {
        let log = daemon.path("testpmd.log");
        let output = File::create(&log).unwrap();
        // Its output goes to a file, and is to be seen at once.
        let mut command = Command::new("stdbuf");
        command
            .args(["-oL", "dpdk-testpmd"])
            .args([
                "--lcores",
                "0@(0,1),1@(0,1)",
                "--no-huge",
                "-m",
                "192",
                "--no-pci",
            ])
            .args(["--no-telemetry", "--no-shconf", "--force-max-simd-bitwidth=512"])
            .arg("--log-level=pmd.net.virtio.*:info");
        for (index, socket) in sockets.iter().enumerate() {
            let device = format!(
                "net_virtio_user{index},path={},queues=1,queue_size={SIZE},{}",
                socket.display(),
                path.device
            );
            command.args(["--vdev", &device]);
        }
        command
            .args([
                "--",
                "-i",
                "--nb-cores=1",
                "--total-num-mbufs=4096",
                "--txpkts=100",
            ])
            .arg(format!("--forward-mode={forward}"))
            .args([format!("--txd={SIZE}"), format!("--rxd={SIZE}")])
            .args(path.arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command.spawn().unwrap();
        let mut this = Testpmd { child, log };
        this.say("start");
        this
    }

    /// Gives it a command.
    fn say(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        let said = writeln!(stdin, "{command}").and_then(|()| stdin.flush());
        assert!(said.is_ok(), "it has ended:\n{}", self.printed());
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The counters of a port, as they are now.
    fn counters(&mut self, port: usize) -> Counters {
        let before = self.printed().len();
        self.say(&format!("show port xstats {port}"));
        let end = Instant::now() + PATIENCE;
        loop {
            let printed = self.printed();
            let new = printed.get(before..).unwrap_or_default();
            let last = new.split(LAST_COUNTER).nth(1);
            if last.is_some_and(|value| value.contains('\n')) {
                return Counters(new.to_owned());
            }
            assert!(Instant::now() < end, "no counters:\n{printed}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that the driver took this path on every port.
    fn assert_took(&self, path: &DriverPath, ports: usize) {
        let printed = self.printed();
        for says in path.says {
            for port in 0..ports {
                let line = format!("virtio: using {says} path on port {port}");
                assert!(printed.contains(&line), "{}: {line}\n{printed}", path.name);
            }
        }
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `show port xstats` has printed.
struct Counters(String);

impl Counters {
    fn get(&self, name: &str) -> u64 {
        let line = self
            .0
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        let value = line.unwrap_or_else(|| panic!("{name} is missing in\n{}", self.0));
        value.trim().parse().unwrap()
    }
}

/// Two drivers that generate frames and swallow what they receive.
#[test]
fn frames_flow_both_ways_on_every_path() {
    let _alone = alone();
    for path in PATHS {
        if !path.is_possible("frames flow both ways") {
            continue;
        }
        let daemon = Netkitd::start();
        let pair = Pair::new(&daemon, "nk");
        let sockets = [pair.a.socket.as_path(), &pair.b.socket];
        let mut testpmd = Testpmd::start(&daemon, &sockets, &path, "flowgen");
        let end = Instant::now() + PATIENCE;
        while (0..2).any(|port| testpmd.counters(port).get("rx_good_packets") < ENOUGH) {
            let late = Instant::now() > end;
            assert!(
                !late,
                "{}: frames do not flow\n{}{}",
                path.name,
                testpmd.printed(),
                daemon.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        testpmd.say("stop");
        testpmd.assert_took(&path, 2);
        for port in 0..2 {
            let counters = testpmd.counters(port);
            let received = counters.get("rx_good_packets");
            if path.name != VECTORISED {
                // All of one length, which is the one that is sent. The vectorised path does not count octets.
                let (sent, octets) = (counters.get("tx_good_packets"), counters.get("tx_good_bytes"));
                assert_eq!(
                    counters.get("rx_q0_size_65_127_packets"),
                    received,
                    "{}",
                    path.name
                );
                assert_eq!(
                    counters.get("rx_good_bytes") * sent,
                    octets * received,
                    "{}",
                    path.name
                );
            }
            assert_eq!(counters.get("rx_errors"), 0, "{}", path.name);
        }
        for end in [&pair.a, &pair.b] {
            // A receiver that is slower than its sender.
            let malformed: Vec<_> = end
                .drops()
                .into_iter()
                .filter(|it| it.0 != "receiver_ring_full")
                .collect();
            assert_eq!(malformed, [], "{}: {}", path.name, daemon.log());
        }
    }
}

/// A driver that sends back what it receives.
#[test]
fn frames_come_back_as_they_were_on_every_path() {
    let _alone = alone();
    for path in PATHS {
        if !path.is_possible("frames come back as they were") {
            continue;
        }
        let daemon = Netkitd::start();
        let pair = Pair::new(&daemon, "nk");
        let mut b = pair.b.connect(Setup::default()).unwrap();
        let testpmd = Testpmd::start(&daemon, &[&pair.a.socket], &path, "io");
        let end = Instant::now() + PATIENCE;
        let first = packet::ethernet([2; 6], [4; 6], b"is anybody there?");
        // Until the driver has started there is nobody.
        loop {
            b.send_frame(&first);
            if b.receive_within(Duration::from_millis(50)).is_some() {
                break;
            }
            assert!(
                Instant::now() < end,
                "{}: nothing comes back\n{}",
                path.name,
                testpmd.printed()
            );
        }
        while b.receive_within(Duration::from_millis(200)).is_some() {}
        let mut random = Random::new(10);
        for _ in 0..40 {
            let burst: Vec<Vec<u8>> = (0..16)
                .map(|_| {
                    let len = random.number() as usize % 1400;
                    packet::ethernet([2; 6], [4; 6], &random.octets(len))
                })
                .collect();
            burst.iter().for_each(|frame| b.send_frame(frame));
            for frame in &burst {
                assert_eq!(&b.receive().frame, frame, "{}", path.name);
            }
        }
        testpmd.assert_took(&path, 1);
        assert_eq!(
            (pair.a.drops(), pair.b.statistics().rx_dropped),
            (vec![], 0),
            "{}",
            path.name
        );
    }
}
