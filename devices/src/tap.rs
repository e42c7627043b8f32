//! A host netdev as a target and source of frames: a tap with virtio-net headers and all its offloads on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::Refusal;
use crate::nic::Arrival;
use crate::nic::kernel::buffers::Buffers;
use crate::packet::{Frame, MacAddress, OffloadFeatures, VirtioNetHeader, adapt, header_for};

/// The most queues of one tap.
pub const MAX_TAP_QUEUES: u16 = 16;
/// The most pieces of a frame: its head, and those of its tail.
pub(crate) const PIECES_MAX: usize = 255;
const HEADER_LEN: usize = VirtioNetHeader::LEN;
// linux/if_tun.h; not all are in the libc crate.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;
const TUN_F_BASE: libc::c_uint = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

/// One queue of a tap.
#[derive(Debug)]
pub struct TapQueue {
    file: File,
    takes: OffloadFeatures,
}

/// A tap: its name and its queues.
#[derive(Debug)]
pub struct Tap {
    /// Name of the host netdev.
    pub name: String,
    /// At least one.
    pub queues: Vec<TapQueue>,
}

/// A tap could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Longer than 15 octets or otherwise unusable.
    #[error("\"{0}\" is not a usable netdev name: at most 15 octets, no slash, no white space")]
    BadName(String),
    /// Not between 1 and [`MAX_TAP_QUEUES`].
    #[error("a tap has 1 to {MAX_TAP_QUEUES} queues, not {0}")]
    BadQueues(u16),
    /// The kernel refused a step.
    #[error("cannot {step} tap \"{name}\": {source}{hint}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which netdev.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
}

impl Tap {
    /// Opens the named tap, or makes it (`None`: with a name of the kernel's choice), with this many queues.
    pub fn open(name: Option<&str>, queues: u16) -> Result<Tap, TapError> {
        if queues == 0 || queues > MAX_TAP_QUEUES {
            return Err(TapError::BadQueues(queues));
        }
        let mut name = name.unwrap_or("nktap%d").to_owned();
        let valid = |c: char| !c.is_whitespace() && c != '/' && c != ':' && !c.is_control();
        if name.is_empty()
            || name.len() >= libc::IFNAMSIZ
            || name == "."
            || name == ".."
            || !name.chars().all(valid)
        {
            return Err(TapError::BadName(name));
        }
        let mut opened = Vec::new();
        for _ in 0..queues {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open("/dev/net/tun")
                .map_err(|source| failed("open /dev/net/tun for", &name, source))?;
            name = set_interface(&file, &name, queues > 1)?;
            opened.push(TapQueue::set_up(file, &name)?);
        }
        Ok(Tap { name, queues: opened })
    }

    /// Takes a tap queue that this process inherited under a number, which stays open for its other users.
    pub fn from_inherited(number: i32) -> Result<Tap, TapError> {
        // SAFETY: plain system call; the copy that it makes is ours.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
        check(copy, "take over as", &format!("fd {number}"))?;
        // SAFETY: the descriptor has just been made for us.
        Tap::from_fd(unsafe { OwnedFd::from_raw_fd(copy) })
    }

    /// Takes a tap queue that somebody else opened with IFF_VNET_HDR.
    pub fn from_fd(fd: OwnedFd) -> Result<Tap, TapError> {
        let label = format!("fd {}", fd.as_raw_fd());
        let mut request = interface_request(&label);
        request.ifr_name = [0; libc::IFNAMSIZ];
        // SAFETY: the request outlives the call, and the kernel fills it in.
        let status = unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &mut request) };
        check(status, "ask the name of", &label)?;
        // SAFETY: TUNGETIFF filled the flags in.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_TAP == 0 || flags & libc::IFF_VNET_HDR == 0 {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(failed(
                "use, as it lacks IFF_TAP or IFF_VNET_HDR,",
                &label,
                source,
            ));
        }
        let name = name_of(&request);
        // SAFETY: plain fcntl calls on a descriptor that we own.
        let nonblocking = unsafe {
            let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        check(nonblocking, "make non-blocking", &name)?;
        Ok(Tap {
            queues: vec![TapQueue::set_up(File::from(fd), &name)?],
            name,
        })
    }

    /// The netdev's Ethernet address now.
    pub fn address(&self) -> Result<MacAddress, TapError> {
        let mut request = interface_request(&self.name);
        let fd = self.queues[0].file.as_raw_fd();
        // SAFETY: the request outlives the call; a tap descriptor answers SIOCGIFHWADDR for its netdev.
        let status = unsafe { libc::ioctl(fd, libc::SIOCGIFHWADDR, &mut request) };
        check(status, "read the address of", &self.name)?;
        // SAFETY: the kernel filled the address in.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(MacAddress(std::array::from_fn(|index| data[index] as u8)))
    }

    /// The netdev's ifindex in the network namespace of this thread; `None` if the netdev is in another one, or gone.
    pub fn host_ifindex(&self) -> Option<u32> {
        let fd = self.queues.first()?.as_raw_fd();
        let mut request = interface_request("");
        // SAFETY: the request outlives the call, and the kernel fills it in. The name may not be the first one any more.
        if unsafe { libc::ioctl(fd, TUNGETIFF, &mut request) } < 0 || is_elsewhere(fd) {
            return None;
        }
        // SAFETY: the kernel ended the name with a zero.
        let ifindex = unsafe { libc::if_nametoindex(request.ifr_name.as_ptr()) };
        (ifindex != 0).then_some(ifindex)
    }
}

/// Whether the netdev of a tap queue is in another network namespace than this thread, as far as the kernel tells: it
/// must be newer than 5.2, and the namespace one in which we have CAP_NET_ADMIN.
fn is_elsewhere(fd: RawFd) -> bool {
    // SAFETY: plain system call on an open descriptor; the new descriptor is ours.
    let namespace = match unsafe { libc::ioctl(fd, TUNGETDEVNETNS) } {
        namespace if namespace < 0 => return false,
        // SAFETY: as above.
        namespace => unsafe { File::from_raw_fd(namespace) },
    };
    let identity = |it: &std::fs::Metadata| (it.dev(), it.ino());
    match (
        namespace.metadata(),
        std::fs::metadata("/proc/thread-self/ns/net"),
    ) {
        (Ok(theirs), Ok(ours)) => identity(&theirs) != identity(&ours),
        _ => false,
    }
}

impl TapQueue {
    /// Takes an open queue, of a tap or a macvtap, with virtio-net headers of 12 octets and all offloads.
    pub(crate) fn set_up(file: File, name: &str) -> Result<TapQueue, TapError> {
        let len = HEADER_LEN as libc::c_int;
        // SAFETY: the integer outlives the call.
        let status = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &len) };
        check(status, "set the header length of", name)?;
        let all = libc::c_ulong::from(TUN_F_BASE | TUN_F_USO4 | TUN_F_USO6);
        // SAFETY: plain integer argument.
        let uso = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, all) } == 0;
        if !uso {
            // Kernels before 6.2 do not know USO.
            let base = libc::c_ulong::from(TUN_F_BASE);
            // SAFETY: plain integer argument.
            let status = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, base) };
            check(status, "turn on the offloads of", name)?;
        }
        let takes = OffloadFeatures {
            csum: true,
            tso4: true,
            tso6: true,
            ecn: true,
            uso,
        };
        Ok(TapQueue { file, takes })
    }

    /// Hands a frame to the host, straight from where it lies, after doing what its kernel does not.
    pub fn write(&self, frame: &mut Frame, scratch: &mut Frame) -> Result<(), Refusal> {
        adapt(frame, self.takes, scratch, |part| self.write_part(part))
    }

    /// What may be left to the host's kernel.
    pub(crate) fn takes(&self) -> OffloadFeatures {
        self.takes
    }

    /// Hands on a frame whose offloads the host's kernel [takes](Self::takes).
    pub(crate) fn write_part(&self, frame: &Frame) -> Result<(), Refusal> {
        let header = header_for(&frame.offload, 1).emit();
        let mut parts = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; 1 + PIECES_MAX];
        if 1 + frame.tail().len() > PIECES_MAX {
            return Err(Refusal::TooLong);
        }
        parts[0] = part(header.as_ptr(), HEADER_LEN);
        parts[1] = part(frame.head().as_ptr(), frame.head().len());
        for (target, slice) in parts[2..].iter_mut().zip(frame.tail()) {
            *target = part(slice.ptr, slice.len);
        }
        let count = 2 + frame.tail().len();
        // SAFETY: `count` parts are set, and each is mapped memory (`Frame::push_slice`) or private; the kernel reads
        // them and answers EFAULT where it cannot.
        let written = unsafe { libc::writev(self.file.as_raw_fd(), parts.as_ptr(), count as libc::c_int) };
        if written >= 0 {
            return Ok(());
        }
        Err(match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Refusal::Full,
            Some(libc::EIO | libc::EBADFD) => Refusal::NotReady,
            _ => Refusal::Failed,
        })
    }

    /// Takes the next frame that the host sent; false if there is none. The frame's tail lies in `buffer`, so it must be
    /// gone before the buffer is used again.
    pub fn read(&self, buffer: &mut TapBuffer, frame: &mut Frame) -> bool {
        while self.receive(&mut buffer.octets, 0, &mut buffer.arrival) {
            // The host's kernel does not send what it was not told to, but a frame that it cannot describe is no use.
            if buffer.arrival.fill(frame) {
                return true;
            }
        }
        frame.clear();
        false
    }

    /// Takes the next frame that the host sent to the place with this index; false if there is none.
    pub(crate) fn receive(&self, buffers: &mut Buffers, index: usize, arrival: &mut Arrival) -> bool {
        let parts = buffers.parts(index, HEADER_LEN);
        // SAFETY: the kernel writes at most the parts' lengths into them, and nobody else looks at them meanwhile.
        let count = unsafe { libc::readv(self.file.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int) };
        let Some(len) = usize::try_from(count).ok().filter(|len| *len > HEADER_LEN) else {
            return false;
        };
        arrival.slices.clear();
        arrival.slices.extend(buffers.slices(index, len - HEADER_LEN));
        arrival.header = buffers.header(index);
        true
    }
}

impl AsRawFd for TapQueue {
    fn as_raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

/// Room for one frame from a tap.
#[derive(Debug)]
pub struct TapBuffer {
    octets: Buffers,
    arrival: Arrival,
}

impl Default for TapBuffer {
    fn default() -> Self {
        TapBuffer {
            octets: Buffers::new(1),
            arrival: Arrival::default(),
        }
    }
}

fn part(ptr: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: ptr.cast_mut().cast(),
        iov_len: len,
    }
}

fn set_interface(file: &File, name: &str, many: bool) -> Result<String, TapError> {
    let mut request = interface_request(name);
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = (flags | if many { libc::IFF_MULTI_QUEUE } else { 0 }) as i16;
    // SAFETY: the request outlives the call.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) };
    check(status, "create or open", name)?;
    Ok(name_of(&request))
}

/// An ioctl request for a netdev; the name has been checked for its length or is cut.
pub(crate) fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, octet) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *target = octet as libc::c_char;
    }
    request
}

pub(crate) fn name_of(request: &libc::ifreq) -> String {
    let octets: Vec<u8> = request
        .ifr_name
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8)
        .collect();
    String::from_utf8_lossy(&octets).into_owned()
}

fn check(result: libc::c_int, step: &'static str, name: &str) -> Result<(), TapError> {
    if result < 0 {
        Err(failed(step, name, io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

fn failed(step: &'static str, name: &str, source: io::Error) -> TapError {
    let hint = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; netkitd needs CAP_NET_ADMIN, or a tap made for its user",
        Some(libc::EBUSY) => "; another program has it open",
        Some(libc::ENOENT) => "; load the kernel's tun module",
        Some(libc::EINVAL) => "; an existing netdev of that name is no tap, or has another number of queues",
        _ => "",
    };
    TapError::Io {
        step,
        name: name.to_owned(),
        source,
        hint,
    }
}
