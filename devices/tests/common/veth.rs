//! Two network namespaces with a virtual cable between them: the near end is for what is tested, the far end for the test.

#[path = "namespace.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod namespace;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use namespace::{ip, not_run, own_sysfs, run};

/// The netdev at the near end, in the namespace of the thread that a test runs on.
pub const NEAR: &str = "nkx0";
/// The netdev at the far end.
pub const FAR: &str = "nkx1";
/// Local experimental EtherType 1 (IEEE 802): the kernel's stacks have no use for it.
pub const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// The far end's namespace.
#[derive(Debug)]
pub struct Cable {
    far: File,
}

/// A packet socket that sends and receives whole frames.
#[derive(Debug)]
pub struct Station(OwnedFd);

/// Runs a test at the near end of a cable, both ends made with these words for ip-link(8). Says so if that cannot be.
pub fn with_cable(test: &str, words: &str, body: impl FnOnce(&Cable) + Send) {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return not_run(test, "this is not root");
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let far = namespace();
            namespace();
            let cable = Cable { far };
            let there = format!("/proc/{}/fd/{}", std::process::id(), cable.far.as_raw_fd());
            ip(&format!(
                "link add {NEAR} {words} type veth peer name {FAR} {words} netns {there}"
            ));
            ip(&format!("link set dev {NEAR} up"));
            cable.far(|| ip(&format!("link set dev {FAR} up")));
            body(&cable);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Cable {
    /// Does something in the far end's namespace.
    pub fn far<T: Send>(&self, there: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: plain system call; it concerns the calling thread only.
                let entered = unsafe { libc::setns(self.far.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "{}", io::Error::last_os_error());
                there()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A packet socket at the far end.
    pub fn station(&self) -> Station {
        self.far(|| Station::at(FAR))
    }
}

impl Station {
    /// A packet socket at a netdev of this namespace.
    pub fn at(netdev: &str) -> Station {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain system calls; the descriptor is ours, and the address of the length that is said.
        let station = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let name = std::ffi::CString::new(netdev).unwrap();
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let len = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), len), 0);
            Station(OwnedFd::from_raw_fd(fd))
        };
        station.option(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
        station.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20);
        station
    }

    fn option(&self, level: i32, option: i32, value: i32) {
        let fd = self.0.as_raw_fd();
        // SAFETY: the value outlives the call and is as long as is said.
        let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), 4) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads as many octets as there are.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The next frame of our EtherType, if one comes within a time.
    pub fn receive(&self, milliseconds: i32) -> Option<Vec<u8>> {
        self.receive_that(milliseconds, |frame| frame.get(12..14) == Some(&ETHERTYPE))
    }

    /// The next frame that is wanted, if one comes within a time after the one before.
    pub fn receive_that(&self, milliseconds: i32, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 70_000];
        loop {
            if !is_readable(self.0.as_raw_fd(), milliseconds) {
                return None;
            }
            // SAFETY: the kernel writes at most the buffer's length.
            let len = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let len = usize::try_from(len).ok()?;
            if wanted(&buffer[..len]) {
                buffer.truncate(len);
                return Some(buffer);
            }
        }
    }
}

/// Whether a descriptor becomes readable within a time.
pub fn is_readable(fd: i32, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure outlives the call.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
}

/// An epoll instance that is told of edges, as workers use it.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Waits for these descriptors to become readable.
    pub fn new(fds: &[i32]) -> Epoll {
        // SAFETY: plain system calls; the descriptor is ours, and the event outlives the call.
        unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            assert!(epoll >= 0);
            for fd in fds {
                let mut event = libc::epoll_event {
                    events: (libc::EPOLLIN | libc::EPOLLET) as u32,
                    u64: 0,
                };
                assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, *fd, &mut event), 0);
            }
            Epoll(OwnedFd::from_raw_fd(epoll))
        }
    }

    /// Whether one of them becomes so within a time.
    pub fn wait(&self, milliseconds: i32) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, milliseconds) > 0 }
    }
}

/// A new network namespace for this thread.
fn namespace() -> File {
    // SAFETY: plain system call; it concerns the calling thread only.
    let made = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    File::open("/proc/thread-self/ns/net").expect("the namespace")
}
