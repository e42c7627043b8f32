//! The kernel's own wire between two network namespaces, for the works that make sense without a guest.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peers::Kind;
use super::share::{Habit, Watch, threads, usage};
use super::works::{Figure, How, Measured, Timing, Work};
use super::{BACK_END_CPU, Error, GENERATOR_CPU, Result};
use crate::rig::Process;

/// IEEE's number for local experiments: no protocol of the host's takes such frames.
const PROTOCOL: u16 = 0x88b5;
const FRAME_LEN: usize = 64;
const ENDS: [(&str, &str); 2] = [("end0", "10.99.0.1"), ("end1", "10.99.0.2")];
/// A frame between two ends of the kernel's takes microseconds, unless the thread has to wait for its processor.
const LOST: Duration = Duration::from_secs(1);

/// Two namespaces with one end of the wire each. They go when this is dropped.
#[derive(Debug)]
struct Wire {
    namespaces: [File; 2],
}

/// Whether the kernel has such a device, and we may make it.
pub fn is_there(kind: Kind) -> Result<()> {
    apart(move || {
        let _namespace = namespace()?;
        let name = kind.device();
        ip(&format!("link add probe type {name}"))
            .map_err(|error| Error::Missing(format!("this kernel has no {name}: {error}")))?;
        Wire::new(kind).map(drop)
    })
}

/// Does a work over the kernel's device.
pub fn measure(kind: Kind, work: &Work, timing: Timing) -> Result<Measured> {
    let How::Load(arguments) = work.how else {
        return Err(Error::Missing(format!("{} has no guests", kind.title())));
    };
    let is_loop = arguments.contains(&"closed-loop");
    apart(move || {
        let wire = Wire::new(kind)?;
        match is_loop {
            true => wire.closed_loop(timing),
            false => wire.stream(timing),
        }
    })
}

/// On a thread of its own, which may be in another namespace when it ends.
fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let joined = scope.spawn(work).join();
        joined.unwrap_or_else(|_| Err(Error::Missing("the kernel's wire: a panic".to_owned())))
    })
}

impl Wire {
    fn new(kind: Kind) -> Result<Wire> {
        let namespaces = [namespace()?, namespace()?];
        let wire = Wire { namespaces };
        let device = match kind {
            Kind::Netkit => "netkit mode l2",
            other => other.device(),
        };
        let [(first, _), (second, _)] = ENDS;
        ip(&format!("link add {second} type {device} peer name {first}"))?;
        ip(&format!("link set dev {first} netns {}", wire.path(0)))?;
        for (index, (name, address)) in ENDS.iter().enumerate() {
            wire.enter(index)?;
            ip(&format!("link set dev {name} up"))?;
            ip(&format!("addr add {address}/24 dev {name}"))?;
        }
        Ok(wire)
    }

    /// The namespace by a path that children can open.
    fn path(&self, index: usize) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespaces[index].as_raw_fd()
        )
    }

    fn enter(&self, index: usize) -> Result<()> {
        // SAFETY: plain system call; it concerns the calling thread only.
        match unsafe { libc::setns(self.namespaces[index].as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(Error::io("enter", "a network namespace")(
                io::Error::last_os_error(),
            )),
        }
    }

    /// One frame to and fro. Both ends poll in one thread, as `load` does.
    fn closed_loop(&self, timing: Timing) -> Result<Measured> {
        pin(0, GENERATOR_CPU)?;
        let sockets = [0, 1].map(|index| self.enter(index).and_then(|()| PacketSocket::open(ENDS[index].0)));
        let [a, b] = sockets;
        let (a, b) = (a?, b?);
        let mut frame = [0u8; FRAME_LEN];
        frame[..6].fill(0xff);
        frame[12..14].copy_from_slice(&PROTOCOL.to_be_bytes());
        let warm = Instant::now() + Duration::from_secs_f64(timing.warm_up);
        while Instant::now() < warm {
            round_trip(&a, &b, &mut frame)?;
        }
        let own = [std::path::PathBuf::from("/proc/thread-self")];
        let (begun, before) = (Instant::now(), usage(&own));
        let mut times = Vec::with_capacity(1 << 21);
        while begun.elapsed().as_secs_f64() < timing.seconds {
            let sent = Instant::now();
            round_trip(&a, &b, &mut frame)?;
            times.push(sent.elapsed().as_nanos() as u64);
        }
        let (elapsed, after) = (begun.elapsed(), usage(&own));
        times.sort_unstable();
        let at = |part: f64| {
            times
                .get((part * times.len() as f64) as usize)
                .map_or(0.0, |it| *it as f64)
        };
        let (median, p99) = (at(0.5), at(0.99));
        Ok(Measured {
            figures: vec![(Figure::RoundTripMedian, median), (Figure::RoundTripP99, p99)],
            generator: Some((after.ran - before.ran) as f64 / elapsed.as_nanos() as f64),
            back_end: None,
            raw: json!({ "round_trip_ns": { "median": median, "p99": p99, "count": times.len() } }),
        })
    }

    /// TCP from one namespace to the other, with the kernel's own offloads.
    fn stream(&self, timing: Timing) -> Result<Measured> {
        let iperf = |index: usize, cpu: usize, words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", self.path(index)));
            command
                .args(["taskset", "-c", &cpu.to_string(), "iperf3"])
                .args(words);
            command
        };
        let mut server = iperf(1, BACK_END_CPU, &["-s", "-1"]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Process::spawn(server).map_err(Error::io("start", "iperf3"))?;
        let seconds = timing.seconds.ceil();
        let mut client = iperf(
            0,
            GENERATOR_CPU,
            &["-c", ENDS[1].1, "-t", &seconds.to_string(), "-O", "1", "-J"],
        );
        // The server needs a moment until it listens.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let watch = Watch::start(threads(server.id(), "")?, Habit::Sleeps);
            let output = client.output().map_err(Error::io("start", "iperf3"))?;
            let receiver = watch.finish(Duration::from_secs_f64(seconds));
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let raw: Value = serde_json::from_str(&printed).unwrap_or_default();
            if let Some(bits) = raw
                .pointer("/end/sum_received/bits_per_second")
                .and_then(Value::as_f64)
            {
                return Ok(Measured {
                    figures: vec![(Figure::OctetsPerSecond, bits / 8.0)],
                    generator: None,
                    // Both ends are of the kernel's stack; the receiving one has the most to do.
                    back_end: receiver,
                    raw: raw.pointer("/end/sum_received").cloned().unwrap_or_default(),
                });
            }
            if Instant::now() > deadline {
                return Err(Error::Failed {
                    program: "iperf3".to_owned(),
                    said: Error::tail(&printed),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn round_trip(a: &PacketSocket, b: &PacketSocket, frame: &mut [u8; FRAME_LEN]) -> Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        from.send(frame)
            .map_err(Error::io("send to", "a packet socket"))?;
        let sent = Instant::now();
        while !to.receive(frame) {
            if sent.elapsed() > LOST {
                return Err(Error::Missing("the kernel's device lost a frame".to_owned()));
            }
        }
    }
    Ok(())
}

/// A fresh namespace, in which the thread is afterwards.
fn namespace() -> Result<File> {
    // SAFETY: plain system call; it concerns the calling thread only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(Error::io("make", "a network namespace")(
            io::Error::last_os_error(),
        ));
    }
    File::open("/proc/thread-self/ns/net").map_err(Error::io("open", "a network namespace"))
}

fn ip(words: &str) -> Result<()> {
    let mut command = Command::new("ip");
    let output = command.args(words.split_whitespace()).output();
    let output = output.map_err(Error::io("start", "ip"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Failed {
            program: format!("ip {words}"),
            said: Error::tail(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

/// Binds a thread, the calling one if it is 0, to a processor.
pub fn pin(thread: libc::pid_t, cpu: usize) -> Result<()> {
    // SAFETY: the set is ours, and all zero is an empty one.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    match result {
        0 => Ok(()),
        _ => Err(Error::io("pin to", format!("processor {cpu}"))(
            io::Error::last_os_error(),
        )),
    }
}

/// A packet socket for frames of our protocol. It does not hear what it sends.
#[derive(Debug)]
struct PacketSocket(File);

impl PacketSocket {
    /// On a device of the thread's namespace.
    fn open(device: &str) -> Result<PacketSocket> {
        PacketSocket::bound(device).map_err(Error::io("open a packet socket on", device))
    }

    fn bound(device: &str) -> io::Result<PacketSocket> {
        let name = CString::new(device)?;
        // SAFETY: the name outlives the call.
        let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
        // SAFETY: plain system call.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor of ours.
        let socket = PacketSocket(unsafe { File::from_raw_fd(fd) });
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: PROTOCOL.to_be(),
            sll_ifindex: ifindex as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of_val(&address) as u32;
        // SAFETY: the address outlives the call.
        match unsafe { libc::bind(fd, (&raw const address).cast(), len) } {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame outlives the call.
        match unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether there was a frame.
    fn receive(&self, frame: &mut [u8]) -> bool {
        // SAFETY: the buffer outlives the call.
        unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) > 0 }
    }
}
