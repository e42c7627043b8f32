//! `--socket-path` and `--fd`: a vhost-user back end for one guest, whose device is paired with a tap.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use netkit_tests::netkitd::{ends, program, run_to_end};
use netkit_tests::rig::Process;
use netkit_tests::{http, needs};
use tempfile::TempDir;

use crate::{assert_has, text};

const GET_FEATURES: u32 = 1;
const VHOST_USER_F_PROTOCOL_FEATURES: u64 = 1 << 30;
const VIRTIO_F_VERSION_1: u64 = 1 << 32;

/// The back-end program in a directory of its own.
struct Backend {
    process: Process,
    dir: TempDir,
}

impl Backend {
    fn start(arguments: impl FnOnce(&Path) -> Vec<String>) -> Backend {
        let dir = tempfile::tempdir().unwrap();
        let process = Backend::spawn(&dir, arguments);
        Backend { process, dir }
    }

    fn spawn(dir: &TempDir, arguments: impl FnOnce(&Path) -> Vec<String>) -> Process {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.path().join("log"));
        let mut command = Command::new(program("netkitd"));
        command.args(arguments(dir.path())).stderr(log.unwrap());
        Process::spawn(command).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Waits for something that the program does soon after its start.
    fn wait(&self, what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !what() {
            assert_eq!(self.process.status().unwrap(), None, "{}", self.log());
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn terminate(&self) {
        self.process.signal(libc::SIGTERM).unwrap();
        assert_eq!(ends(&self.process).code(), Some(0), "{}", self.log());
    }
}

fn tap_name(which: &str) -> String {
    format!("nk{which}{}", std::process::id())
}

fn netdev(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

/// The virtio features that a back end offers on a connection.
fn features(mut stream: UnixStream) -> u64 {
    let word = |number: u32| number.to_ne_bytes();
    stream
        .write_all(&[word(GET_FEATURES), word(1), word(0)].concat())
        .unwrap();
    let mut reply = [0; 20];
    stream.read_exact(&mut reply).unwrap();
    let expected = [word(GET_FEATURES), word(5), word(8)].concat();
    assert_eq!(reply[..12], expected);
    u64::from_ne_bytes(reply[12..].try_into().unwrap())
}

fn assert_serves(socket: &Path) {
    let features = features(http::connect(socket));
    for bit in [VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES] {
        assert_eq!(features & bit, bit, "{features:#x}");
    }
}

#[test]
fn a_socket_path_serves_a_guest() {
    if !needs::taps("program: a socket path serves a guest") {
        return;
    }
    let tap = tap_name("s");
    let arguments = |dir: &Path| {
        let socket = dir.join("vu.sock");
        ["--socket-path", text(&socket), "--tap", &tap]
            .map(String::from)
            .into()
    };
    let mut backend = Backend::start(arguments);
    let socket = backend.dir.path().join("vu.sock");
    // Twice: what the first run leaves behind is in nobody's way.
    for _ in 0..2 {
        backend.wait(|| netdev(&tap).exists());
        // One guest after another.
        assert_serves(&socket);
        assert_serves(&socket);
        backend.terminate();
        assert!(!netdev(&tap).exists());
        backend.process = Backend::spawn(&backend.dir, arguments);
    }
    backend.wait(|| netdev(&tap).exists());
    let (code, _, said) = run_to_end(&["--socket-path", text(&socket)]);
    assert_ne!(code, 0);
    assert_has(&said, &["vu.sock\"", "another program listens"]);
    assert_serves(&socket);
}

#[test]
fn the_kernel_names_the_tap_unless_told() {
    if !needs::taps("program: the kernel names the tap unless told") {
        return;
    }
    // With an API besides it can be seen what the program has made.
    let backend = Backend::start(|dir| {
        let (socket, api) = (dir.join("vu.sock"), dir.join("api.sock"));
        ["--socket-path", text(&socket), "--api", text(&api)]
            .map(String::from)
            .into()
    });
    let client = vmm_glue::Client::new(backend.dir.path().join("api.sock"));
    let up = |device: &netkit_api::Device| device.operstate == "UP";
    backend.wait(|| {
        client
            .devices()
            .is_ok_and(|devices| devices.len() == 2 && devices.iter().all(up))
    });
    let devices = client.devices().unwrap();
    let tap = devices[1].attachment.ifname.clone().unwrap();
    assert!(tap.starts_with("nktap") && netdev(&tap).exists(), "{tap}");
    assert_eq!(devices[0].attachment.path, None);
    assert_eq!(
        (devices[0].mode, devices[0].primary),
        (netkit_api::Mode::L2, false)
    );
    assert_serves(&backend.dir.path().join("vu.sock"));
    backend.terminate();
}

/// Lets the next program have a descriptor.
fn hand_down(fd: RawFd) -> String {
    // SAFETY: plain fcntl call on a descriptor of ours.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }, 0);
    fd.to_string()
}

#[test]
fn a_listening_descriptor_serves_a_guest() {
    if !needs::taps("program: a listening descriptor serves a guest") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("inherited.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // A front end may be waiting before the program starts.
    let early = http::connect(&socket);
    let fd = hand_down(listener.as_raw_fd());
    let tap = tap_name("i");
    let backend = Backend::start(|_| ["--fd", &fd, "--tap", &tap].map(String::from).into());
    drop(listener);
    assert_ne!(features(early) & VIRTIO_F_VERSION_1, 0);
    assert_serves(&socket);
    backend.wait(|| netdev(&tap).exists());
    backend.terminate();
    // Not the program's to remove.
    assert!(socket.exists());
}

#[test]
fn a_descriptor_that_is_no_listening_unix_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile().unwrap();
    let (pair, _other) = UnixStream::pair().unwrap();
    let datagram = UnixDatagram::bind(dir.path().join("datagram")).unwrap();
    for fd in [file.as_raw_fd(), pair.as_raw_fd(), datagram.as_raw_fd()] {
        let fd = hand_down(fd);
        let (code, _, said) = run_to_end(&["--fd", &fd]);
        assert_ne!(code, 0);
        assert_has(&said, &[&format!("--fd {fd}: "), "pass a listening unix socket"]);
    }
}

#[test]
fn a_listening_socket_of_another_family_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = hand_down(listener.as_raw_fd());
    let (code, _, said) = run_to_end(&["--fd", &fd]);
    assert_ne!(code, 0);
    assert_has(&said, &["pass a listening unix socket"]);
}
