//! A packet socket (packet(7)) that sends and receives with virtio-net headers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::filter::Filter;
use crate::nic::NicError;
use crate::nic::netdev::{Netdev, errno_of};
use crate::packet::VirtioNetHeader;

const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();
/// What frames that nobody has fetched may take up, in octets of the kernel's memory: a hundred of 64 KiB.
const BUFFER_LEN: libc::c_int = 8 << 20;
const SOCKETS_OPEN: &str = "the limit of open files may be reached";

/// Opens a socket that receives nothing, for what a netdev does as long as a socket asks for it.
pub(in crate::nic) fn open_unbound(netdev: &Netdev) -> Result<OwnedFd, NicError> {
    let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call; the descriptor is ours.
    match unsafe { libc::socket(libc::AF_PACKET, flags, 0) } {
        // SAFETY: as above.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(failed(
            "open a packet socket on",
            netdev,
            &io::Error::last_os_error(),
        )),
    }
}

/// Opens a socket on a netdev that receives nothing until it has another filter, and says how long its headers are.
pub(in crate::nic) fn open(netdev: &Netdev) -> Result<(OwnedFd, usize), NicError> {
    let socket = open_unbound(netdev)?;
    let fd = socket.as_raw_fd();
    let fail = |step| move |error: io::Error| failed(step, netdev, &error);
    // Without a protocol, nothing arrives before it is bound; with the filter, nothing after that.
    Filter::nothing()
        .attach(&socket)
        .map_err(fail("filter frames of"))?;
    let header_len = set_header(fd).map_err(fail("have virtio-net headers with the frames of"))?;
    enable(fd, libc::PACKET_AUXDATA).map_err(fail("have VLAN tags with the frames of"))?;
    // Linux 4.20. The filter sees to it too.
    let _ = enable(fd, libc::PACKET_IGNORE_OUTGOING);
    set_buffers(fd);
    bind(fd, netdev.ifindex()).map_err(fail("bind a packet socket to"))?;
    Ok((socket, header_len))
}

/// What went wrong on a socket of this netdev, and what to do.
pub(in crate::nic) fn failed(step: &str, netdev: &Netdev, error: &io::Error) -> NicError {
    let errno = errno_of(error);
    let hint = match errno {
        libc::EPERM | libc::EACCES => "netkitd needs CAP_NET_RAW for packet sockets",
        libc::EAFNOSUPPORT => "load the kernel's af_packet module",
        libc::ENODEV | libc::ENXIO => "it was deleted; it is opened again when it is back",
        libc::ENETDOWN => "set it up with `ip link set dev NAME up`",
        libc::EMFILE | libc::ENFILE => SOCKETS_OPEN,
        libc::ENOPROTOOPT => "the host's kernel is older than Linux 4.12",
        _ => "see `dmesg`",
    };
    NicError::new(step, netdev.name(), errno, hint)
}

/// Sets an option to `value`, which has the type that the kernel wants.
pub(in crate::nic) fn set_option<T>(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value outlives the call and is as long as is said.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Joins a fanout group, or opens one (0) with a number that nobody has; the group's number.
pub(super) fn join_fanout(fd: RawFd, group: u16) -> io::Result<u16> {
    let kind = libc::PACKET_FANOUT_HASH
        | if group == 0 {
            libc::PACKET_FANOUT_FLAG_UNIQUEID
        } else {
            0
        };
    let join = |flags: libc::c_uint| {
        let value = u32::from(group) | (kind | flags) << 16;
        set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &value)
    };
    // The group has a flag of its own for that, which old kernels do not know.
    join(libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING).or_else(|_| join(0))?;
    let (mut value, mut len): (u32, libc::socklen_t) = (0, 4);
    // SAFETY: both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut value).cast(),
            &mut len,
        )
    };
    match status {
        0 => Ok(value as u16),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How long the header is that stands before each frame: 12 octets, or 10 before Linux 6.4.
fn set_header(fd: RawFd) -> io::Result<usize> {
    let len = VirtioNetHeader::LEN as libc::c_int;
    if set_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR_SZ, &len).is_ok() {
        return Ok(VirtioNetHeader::LEN);
    }
    enable(fd, libc::PACKET_VNET_HDR)?;
    Ok(VirtioNetHeader::LEGACY_LEN)
}

fn enable(fd: RawFd, option: libc::c_int) -> io::Result<()> {
    set_option::<libc::c_int>(fd, libc::SOL_PACKET, option, &1)
}

/// As large as is allowed; smaller ones only lose frames earlier.
fn set_buffers(fd: RawFd) {
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if set_option(fd, libc::SOL_SOCKET, force, &BUFFER_LEN).is_err() {
            let _ = set_option(fd, libc::SOL_SOCKET, plain, &BUFFER_LEN);
        }
    }
}

fn bind(fd: RawFd, ifindex: u32) -> io::Result<()> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = EVERYTHING;
    address.sll_ifindex = ifindex as libc::c_int;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call and is as long as is said.
    match unsafe { libc::bind(fd, (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
