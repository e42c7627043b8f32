//! Network namespaces with netdevs for tests of NICs.
#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

pub mod frames;
#[path = "../common/namespace.rs"]
mod namespace;

use std::time::{Duration, Instant};

use devices::nic::{Arrivals, Claim, Nic, kernel};
use devices::packet::Frame;
pub use namespace::{ip, not_run, own_sysfs};

/// Runs `inside` on a thread in a fresh network namespace, which goes with it. Says so if that cannot be.
pub fn in_namespace(test: &str, inside: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: plain system call; it concerns the calling thread only.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => inside(),
                _ => not_run(test, "a network namespace takes CAP_SYS_ADMIN"),
            }
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whether ip(8) says `wanted` when it is asked with these words.
pub fn ip_says(words: &str, wanted: &str) -> bool {
    String::from_utf8_lossy(&namespace::run("ip", words).stdout).contains(wanted)
}

/// Whether something comes true within some seconds.
pub fn comes_true(mut is: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A veth pair, `nkk0` and `nkk1`, up, with this MTU and this many queues, and nothing of the host's own on it.
pub fn veth(mtu: u32, queues: u32) {
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!(
        "link add nkk0 {queues} type veth peer name nkk1 {queues}"
    ));
    for (name, address) in [("nkk0", "02:00:00:00:01:00"), ("nkk1", "02:00:00:00:01:01")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set {name} address {address} mtu {mtu} up"));
    }
    // The kernel tells of a carrier a little later.
    assert!(comes_true(|| ip_says("link show nkk0", "state UP")));
}

/// A NIC on this netdev, with everything claimed.
pub fn open(name: &str, queues: u16) -> Nic {
    let mut nic = kernel::open(name, queues).unwrap();
    nic.control.claim(&Claim::Everything).unwrap();
    nic
}

/// Both ends of a veth pair, with everything claimed.
pub fn pair(queues: u16) -> (Nic, Nic) {
    (open("nkk0", queues), open("nkk1", queues))
}

/// Sends frames with the first queue of a NIC, which must not refuse any.
pub fn send(nic: &Nic, frames: &[Frame]) {
    let mut queue = nic.port.queue(0).transmit();
    for frame in frames {
        queue.transmit(frame).unwrap();
    }
    queue.flush();
    assert_eq!(queue.refused(), None);
}

/// What a frame was when it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its octets, without a tag that is beside them.
    pub octets: Vec<u8>,
    /// The rest of it, without octets.
    pub offload: devices::packet::Offload,
    /// A tag that is beside them.
    pub vlan: Option<devices::packet::VlanTag>,
}

/// Takes frames from a queue until there are `count`, or nothing has come for two seconds.
pub fn receive(nic: &Nic, queue: usize, count: usize) -> Vec<Received> {
    receive_while(nic, queue, count, Duration::from_secs(2))
}

/// Takes what arrives at a queue until nothing more comes.
pub fn drain(nic: &Nic, queue: usize) -> Vec<Received> {
    receive_while(nic, queue, usize::MAX, Duration::from_millis(150))
}

fn receive_while(nic: &Nic, queue: usize, count: usize, patience: Duration) -> Vec<Received> {
    let (mut arrivals, mut frame) = (Arrivals::default(), Frame::new());
    let mut received = Vec::new();
    let mut end = Instant::now() + patience;
    while received.len() < count && Instant::now() < end {
        let mut queue = nic.port.queue(queue).receive();
        arrivals.clear();
        queue.receive(&mut arrivals);
        if arrivals.frames().is_empty() {
            drop(queue);
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        for arrival in arrivals.frames() {
            assert!(arrival.fill(&mut frame), "{:?}", arrival.header);
            received.push(Received {
                octets: frame.to_vec(),
                offload: frame.offload,
                vlan: frame.meta.vlan,
            });
        }
        frame.clear();
        queue.release();
        end = Instant::now() + patience;
    }
    received
}
