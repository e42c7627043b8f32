//! An AF_XDP socket: its memory, its four rings, and the queue that it is bound to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use libc::{sockaddr_xdp, xdp_desc, xdp_mmap_offsets, xdp_ring_offset, xdp_umem_reg};

use super::ring::{Consumer, Layout, Producer};
use super::umem::{CHUNK, Umem};
use crate::memory::GuestMemory;
use crate::nic::kernel::socket::set_option;
use crate::nic::mapping::Mapping;

/// Entries of each ring, and frames each way.
pub const RING_SIZE: u32 = 2048;
// linux/if_xdp.h; not in the libc crate.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What is asked of the kernel for one frame to be sent, in front of it (`struct xsk_tx_metadata`).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct TxMetadata {
    /// `XDP_TXMD_FLAGS_*`.
    pub flags: u64,
    /// Where checksumming starts, as in a virtio-net header.
    pub csum_start: u16,
    /// Where the checksum goes, from there.
    pub csum_offset: u16,
    /// Nothing.
    pub padding: u32,
    /// When to send it; not used.
    pub launch_time: u64,
}

/// How a queue is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The netdev.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// `XDP_COPY` or `XDP_ZEROCOPY`, and `XDP_USE_SG`.
    pub flags: u16,
    /// Frames may be sent with [`TxMetadata`].
    pub metadata: bool,
}

/// A socket that is bound to a queue.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// The kernel shares the memory without copying.
    pub zero_copy: bool,
}

/// A bound socket with what both directions need.
#[derive(Debug)]
pub struct Bound {
    /// Shared by both directions.
    pub socket: Arc<Socket>,
    /// Shared by both directions, each with frames of its own.
    pub umem: Arc<Umem>,
    /// Frames that have arrived.
    pub rx: Consumer<xdp_desc>,
    /// Frames to receive into.
    pub fill: Producer<u64>,
    /// Frames to be sent.
    pub tx: Producer<xdp_desc>,
    /// Frames that have been sent.
    pub completion: Consumer<u64>,
}

impl Socket {
    /// Opens a socket with memory of its own, and a guest's, and binds it. The error says which step failed.
    pub fn bind(binding: &Binding, guest: &GuestMemory) -> Result<Bound, (&'static str, io::Error)> {
        let step = |name| move |error| (name, error);
        let umem = Umem::new(RING_SIZE, guest).map_err(step("make memory for frames of"))?;
        let fd = open().map_err(step("open an AF_XDP socket for"))?;
        register(&fd, &umem, binding.metadata).map_err(step("register memory for frames of"))?;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
            libc::XDP_TX_RING,
        ] {
            set_option(fd.as_raw_fd(), libc::SOL_XDP, ring, &RING_SIZE).map_err(step("make a ring for"))?;
        }
        // How many frames one system call sends in copy mode; before Linux 6.17 always 32.
        let _ = set_option(fd.as_raw_fd(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &RING_SIZE);
        // Frames that the receiver of a virtual link has not taken yet count against this.
        let _ = set_option(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &(16_i32 << 20),
        );
        let rings = Rings::of(&fd).map_err(step("map the rings of"))?;
        bind(&fd, binding).map_err(step("bind a socket to"))?;
        let mut options = libc::xdp_options { flags: 0 };
        get_option(&fd, libc::SOL_XDP, libc::XDP_OPTIONS, &mut options).map_err(step("ask the mode of"))?;
        Ok(Bound {
            socket: Arc::new(Socket {
                fd,
                zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
            }),
            umem: Arc::new(umem),
            rx: rings.rx,
            fill: rings.fill,
            tx: rings.tx,
            completion: rings.completion,
        })
    }

    /// Has the kernel send what is in the transmit ring.
    #[inline]
    pub fn wake_to_send(&self) -> io::Result<()> {
        // SAFETY: a message without octets.
        let result = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Has the kernel look at the fill ring, or with busy polling at the NIC.
    #[inline]
    pub fn wake_to_receive(&self) {
        // SAFETY: a message without octets. What goes wrong is seen by who asks for the link.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Sets a number that a socket option takes.
    pub fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        set_option(self.fd.as_raw_fd(), level, option, &value)
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain system call; the descriptor is ours.
    let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it has just been made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn get_option<T: Copy>(fd: &OwnedFd, level: i32, option: i32, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to the value, any of which make a valid one.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_mut(value).cast(),
            &mut len,
        )
    };
    match result {
        _ if result < 0 => Err(io::Error::last_os_error()),
        // Linux before 5.4 has shorter offsets.
        _ if len as usize != size_of::<T>() => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        _ => Ok(()),
    }
}

fn register(fd: &OwnedFd, umem: &Umem, metadata: bool) -> io::Result<()> {
    let memory = umem.memory();
    let start = umem.octets(0, memory.len()).map_or(0, |it| it.as_ptr() as u64);
    let mut registration = xdp_umem_reg {
        addr: start,
        len: memory.len() as u64,
        chunk_size: CHUNK as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    if umem.has_guest() {
        // A guest's buffers lie where they lie.
        registration.flags |= libc::XDP_UMEM_UNALIGNED_CHUNK_FLAG;
    }
    if metadata {
        registration.flags |= libc::XDP_UMEM_TX_METADATA_LEN;
        registration.tx_metadata_len = size_of::<TxMetadata>() as u32;
    }
    set_option(fd.as_raw_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
}

fn bind(fd: &OwnedFd, binding: &Binding) -> io::Result<()> {
    let address = sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: binding.flags | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: binding.ifindex,
        sxdp_queue_id: binding.queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of::<sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: the address is of the length that is said.
    let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

struct Rings {
    rx: Consumer<xdp_desc>,
    fill: Producer<u64>,
    tx: Producer<xdp_desc>,
    completion: Consumer<u64>,
}

impl Rings {
    fn of(fd: &OwnedFd) -> io::Result<Rings> {
        // SAFETY: all-zero is a valid value of these offsets.
        let mut offsets: xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        get_option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
        let map = |page: u64, at: &xdp_ring_offset, entry: usize| {
            let len = at.desc as usize + RING_SIZE as usize * entry;
            let layout = Layout {
                producer: at.producer as usize,
                consumer: at.consumer as usize,
                flags: at.flags as usize,
                entries: at.desc as usize,
                size: RING_SIZE,
            };
            Mapping::shared(fd.as_fd(), page as libc::off_t, len, libc::MAP_POPULATE)
                .map(|memory| (memory, layout))
        };
        let misfit = || io::Error::from_raw_os_error(libc::EPROTO);
        let (rx, rx_layout) = map(libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, size_of::<xdp_desc>())?;
        let (tx, tx_layout) = map(libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, size_of::<xdp_desc>())?;
        let (fill, fill_layout) = map(libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, size_of::<u64>())?;
        let (completion, completion_layout) = map(
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
            &offsets.cr,
            size_of::<u64>(),
        )?;
        Ok(Rings {
            rx: Consumer::new(rx, rx_layout).ok_or_else(misfit)?,
            fill: Producer::new(fill, fill_layout).ok_or_else(misfit)?,
            tx: Producer::new(tx, tx_layout).ok_or_else(misfit)?,
            completion: Consumer::new(completion, completion_layout).ok_or_else(misfit)?,
        })
    }
}
