//! Frames as they are on a wire: one end of QEMU's datagram netdev, a packet socket, or a tap.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::driver::Header;
use crate::driver::device::{MAX_FRAME, wait_readable};

/// Octets of the virtio-net header that a packet socket puts before a frame.
const HEADER: usize = 10;
/// Room for what arrives while nobody looks.
const SOCKET_BUFFER: libc::c_int = 32 << 20;

/// An end of a wire. It never blocks.
#[derive(Debug)]
pub struct Wire {
    file: File,
    has_header: bool,
    to: Option<(UnixDatagram, PathBuf)>,
}

/// What a packet socket on a netdev sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// What arrives at the netdev.
    Arriving,
    /// What leaves it, too.
    Both,
}

impl Wire {
    /// The other end of a card made by [`crate::rig::Nic::dgram`]: `local` is ours, `remote` the card's.
    pub fn dgram(local: &Path, remote: &Path) -> io::Result<Wire> {
        let socket = UnixDatagram::bind(local)?;
        socket.set_nonblocking(true)?;
        Ok(Wire {
            file: File::from(OwnedFd::from(socket.try_clone()?)),
            has_header: false,
            to: Some((socket, remote.to_owned())),
        })
    }

    /// A packet socket on a netdev of the calling thread's namespace, with what is left to a receiver by offloads.
    pub fn packet(netdev: &str, sight: Sight) -> io::Result<Wire> {
        // SAFETY: plain system call.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            )
        };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        if sight == Sight::Arriving {
            set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        }
        bind(&socket, netdev)?;
        Ok(Wire {
            file: socket.into(),
            has_header: true,
            to: None,
        })
    }

    /// A new tap in the calling thread's namespace, which goes with the wire; frames are complete in both directions.
    pub fn tap(netdev: &str) -> io::Result<Wire> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: all zeros is a valid request.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().zip(netdev.bytes().take(room)) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request lives for the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: plain system call on a descriptor that is open.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Wire {
            file,
            has_header: false,
            to: None,
        })
    }

    /// The next frame, and what was left to do on it. None if there is none now, or the netdev is down or gone.
    pub fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut octets = vec![0; HEADER + MAX_FRAME];
        let len = self.file.read(&mut octets).ok()?;
        octets.truncate(len);
        if !self.has_header {
            return Some((Header::default(), octets));
        }
        let frame = octets.split_off(HEADER.min(len));
        (octets.len() == HEADER).then(|| (Header::decode(&octets), frame))
    }

    /// Sends a frame with what is left to do on it; false if the other side does not take it.
    ///
    /// # Panics
    /// If something is left to do and the wire cannot say so.
    pub fn send(&mut self, header: &Header, frame: &[u8]) -> bool {
        let header = Header {
            num_buffers: 0,
            ..*header
        };
        let sent = match &self.to {
            Some((socket, path)) => {
                assert_eq!(header, Header::default(), "this wire carries complete frames");
                patiently(|| socket.send_to(frame, path))
            }
            None if self.has_header => {
                let octets = [&header.encode(HEADER), frame].concat();
                patiently(|| self.file.write(&octets))
            }
            None => patiently(|| self.file.write(frame)),
        };
        sent.is_ok()
    }

    /// Sleeps until a frame has come, or this long.
    pub fn wait(&self, patience: Duration) -> bool {
        wait_readable(&[self.file.as_raw_fd()], patience)
    }

    /// For waiting on several.
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

// linux/if_packet.h
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Repeats a send for which there is no room yet, for a while.
fn patiently(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..2000 {
        match send() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(500));
            }
            other => return other,
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value lives for the call and has the length that is given.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn bind(socket: &OwnedFd, netdev: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(netdev)?;
    // SAFETY: the name is a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives for the call and has the length that is given.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
