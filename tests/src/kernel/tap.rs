//! A packet socket (AF_PACKET) on a device: sends from it, and sees what it receives.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

const ETH_P_ALL: u16 = 3;
const PACKET_AUXDATA: i32 = 8;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const LONGEST: usize = 1 << 16;

/// A pair of sockets, since one that sends is not to hear.
#[derive(Debug)]
pub struct Tap {
    sender: File,
    receiver: File,
}

/// `struct tpacket_auxdata`
#[repr(C)]
#[derive(Clone, Copy)]
struct Auxiliary {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

impl Tap {
    /// Opens the sockets; the device is in the calling thread's namespace.
    pub fn open(ifindex: u32) -> io::Result<Tap> {
        let (sender, receiver) = (socket()?, socket()?);
        for option in [PACKET_AUXDATA, PACKET_IGNORE_OUTGOING] {
            enable(&receiver, option)?;
        }
        bind(&sender, ifindex, 0)?;
        bind(&receiver, ifindex, ETH_P_ALL.to_be())?;
        Ok(Tap { sender, receiver })
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let fd = self.sender.as_raw_fd();
        // SAFETY: the frame outlives the call.
        match unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), 0) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The next frame that the device has received, if there is one.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0u8; LONGEST];
        // Aligned as control messages have to be.
        let mut control = [0u64; 32];
        let mut part = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: all zero is a valid header of a message.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let fd = self.receiver.as_raw_fd();
        // SAFETY: everything that the header points to outlives the call.
        let mut receive = || unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
        let mut len = receive();
        // That the device was down is told once.
        if len < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENETDOWN) {
            len = receive();
        }
        frame.truncate(usize::try_from(len).ok()?);
        if let Some(auxiliary) = auxiliary(&header) {
            insert_tag(&mut frame, auxiliary);
        }
        Some(frame)
    }
}

fn socket() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn enable(socket: &File, option: i32) -> io::Result<()> {
    let one = 1i32;
    let len = size_of_val(&one) as u32;
    // SAFETY: the value outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const one).cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn bind(socket: &File, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as u32;
    // SAFETY: the address outlives the call.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn auxiliary(header: &libc::msghdr) -> Option<Auxiliary> {
    // SAFETY: the kernel filled the header's control messages in.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header).as_ref()?;
        let found = message.cmsg_level == libc::SOL_PACKET && message.cmsg_type == PACKET_AUXDATA;
        found.then(|| libc::CMSG_DATA(message).cast::<Auxiliary>().read_unaligned())
    }
}

/// The kernel hands a VLAN tag over beside the frame.
fn insert_tag(frame: &mut Vec<u8>, auxiliary: Auxiliary) {
    if auxiliary.status & TP_STATUS_VLAN_VALID == 0 || frame.len() < 12 {
        return;
    }
    let protocol = match auxiliary.status & TP_STATUS_VLAN_TPID_VALID {
        0 => 0x8100,
        _ => auxiliary.vlan_tpid,
    };
    let tag = [protocol.to_be_bytes(), auxiliary.vlan_tci.to_be_bytes()].concat();
    frame.splice(12..12, tag);
}
