//! A host netdev: what those who use it as a NIC have to know of it, and to change.

mod ethtool;
mod features;
mod rules;
mod spread;
mod steering;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Link, NicError};
use crate::packet::MacAddress;

use ethtool::{Channels, DriverInfo, LinkSettings, RxClassification, SPEED_UNKNOWN};
pub use features::TagsInFrames;
pub use steering::Steering;

const GONE: &str = "it was deleted or moved to another network namespace; it is opened again when it is back";
const NO_PERMISSION: &str = "netkitd needs CAP_NET_ADMIN for that";

/// A netdev of the network namespace in which it was opened.
///
/// It is known by its ifindex from then on: another one of its name is not taken for it, and a new name is found out.
#[derive(Debug)]
pub struct Netdev {
    name: String,
    ifindex: u32,
    /// Any socket will do; this one keeps the namespace.
    socket: OwnedFd,
}

impl Netdev {
    /// Looks a netdev up by its name, in the network namespace of this thread.
    pub fn open(name: &str) -> Result<Netdev, NicError> {
        let refuse = |errno, hint: &str| NicError::new("find", name, errno, hint);
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0']) {
            return Err(refuse(
                libc::EINVAL,
                "a netdev's name has 1 to 15 octets and no slash",
            ));
        }
        let socket =
            socket().map_err(|error| refuse(errno_of(&error), "the limit of open files may be reached"))?;
        let mut request = request_for(name);
        // SAFETY: the request outlives the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &mut request) } < 0 {
            return Err(NicError::last(
                "find",
                name,
                "no netdev of this network namespace has that name; see `ip link`",
            ));
        }
        // SAFETY: the kernel filled the index in.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
        Ok(Netdev {
            name: name.to_owned(),
            ifindex: ifindex as u32,
            socket,
        })
    }

    /// The name that it had when it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in its network namespace.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// What the link is like.
    ///
    /// # Errors
    /// ENODEV if the netdev is gone, even if there is another one of its name.
    pub fn link(&self) -> Result<Link, NicError> {
        let flags = self.flags()?;
        let running = libc::IFF_UP | libc::IFF_RUNNING;
        Ok(Link {
            address: self.address()?,
            mtu: self.mtu()?,
            running: flags & running == running,
            speed: self.speed(),
            rx_queues: self.rx_queues()?,
        })
    }

    /// Whether it was set up by its administrator.
    pub fn is_up(&self) -> Result<bool, NicError> {
        Ok(self.flags()? & libc::IFF_UP != 0)
    }

    /// Its Ethernet address.
    pub fn address(&self) -> Result<MacAddress, NicError> {
        let request = self.ask("read the address of", libc::SIOCGIFHWADDR)?;
        // SAFETY: the kernel filled the address in.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        if address.sa_family != libc::ARPHRD_ETHER {
            let hint =
                "it carries no Ethernet frames; choose a netdev whose link is `link/ether` in `ip link`";
            return Err(NicError::new("use", self.name(), libc::EOPNOTSUPP, hint));
        }
        let data = address.sa_data;
        Ok(MacAddress(std::array::from_fn(|index| data[index] as u8)))
    }

    /// Its MTU in octets.
    pub fn mtu(&self) -> Result<u32, NicError> {
        let request = self.ask("read the MTU of", libc::SIOCGIFMTU)?;
        // SAFETY: the kernel filled the MTU in.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// The name of its driver, if it says so.
    pub fn driver(&self) -> Option<String> {
        let mut info = DriverInfo::default();
        self.ethtool("ask for the driver of", &mut info).ok()?;
        let name: Vec<u8> = info.driver.into_iter().take_while(|octet| *octet != 0).collect();
        (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// In Mbit/s, if it is known.
    pub fn speed(&self) -> Option<u32> {
        let mut settings = LinkSettings::default();
        self.ethtool("ask for the speed of", &mut settings).ok()?;
        // The kernel says how long the masks behind the settings are, as a negative number, and wants to hear it back.
        settings.masks_len = settings.masks_len.checked_neg().filter(|len| *len > 0)?;
        self.ethtool("ask for the speed of", &mut settings).ok()?;
        Some(settings.speed).filter(|speed| ![0, SPEED_UNKNOWN].contains(speed))
    }

    /// The receive queues that its driver serves; 1 if it does not say.
    ///
    /// # Errors
    /// If the netdev is gone.
    pub fn rx_queues(&self) -> Result<u32, NicError> {
        let mut channels = Channels::default();
        let channels = self
            .ethtool("count the queues of", &mut channels)
            .map(|()| channels);
        let queues = match channels {
            Ok(channels) => channels.rx.saturating_add(channels.combined),
            Err(error) if error.errno() != libc::EOPNOTSUPP => return Err(error),
            Err(_) => self.rx_rings().unwrap_or(1),
        };
        Ok(queues.max(1))
    }

    /// Has its driver serve this many receive queues (`ethtool -L`).
    pub fn set_rx_queues(&self, queues: u32) -> Result<(), NicError> {
        let mut channels = Channels::default();
        self.ethtool("count the queues of", &mut channels)?;
        let (count, max) = match channels.max_combined {
            0 => (&mut channels.rx, channels.max_rx),
            max => (&mut channels.combined, max),
        };
        if queues == 0 || queues > max {
            let hint = format!("it can have 1 to {max}");
            return Err(self.error(&format!("set {queues} receive queues on"), libc::EINVAL, &hint));
        }
        *count = queues;
        channels.command = ethtool::SET_CHANNELS;
        self.ethtool(&format!("set {queues} receive queues on"), &mut channels)
    }

    /// Gives it another Ethernet address.
    pub(super) fn set_address(&self, address: MacAddress) -> Result<(), NicError> {
        self.change(
            &format!("give the address {address} to"),
            libc::SIOCSIFHWADDR,
            |request| {
                let mut to = libc::sockaddr {
                    sa_family: libc::ARPHRD_ETHER,
                    sa_data: [0; 14],
                };
                for (place, octet) in to.sa_data.iter_mut().zip(address.0) {
                    *place = octet as libc::c_char;
                }
                request.ifr_ifru.ifru_hwaddr = to;
            },
        )
    }

    /// IFF_*, as far as they fit in 16 bits.
    fn flags(&self) -> Result<libc::c_int, NicError> {
        let request = self.ask("read the flags of", libc::SIOCGIFFLAGS)?;
        // SAFETY: the kernel filled the flags in.
        Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags } as u16))
    }

    fn rx_rings(&self) -> Result<u32, NicError> {
        let mut rings = RxClassification::new(ethtool::GET_RX_RINGS);
        self.ethtool("count the receive rings of", &mut rings)?;
        Ok(rings.data.try_into().unwrap_or(u32::MAX))
    }

    /// Reads something with an old request.
    fn ask(&self, step: &str, code: libc::c_ulong) -> Result<libc::ifreq, NicError> {
        let mut request = self.request(step)?;
        self.ioctl(step, code, &mut request)?;
        Ok(request)
    }

    /// Sets something with an old request.
    fn change(
        &self,
        step: &str,
        code: libc::c_ulong,
        fill: impl FnOnce(&mut libc::ifreq),
    ) -> Result<(), NicError> {
        let mut request = self.request(step)?;
        fill(&mut request);
        self.ioctl(step, code, &mut request)
    }

    /// Has the netdev's driver answer or obey `command`, which starts with its number and is as long as the kernel takes
    /// it to be from its fields.
    fn ethtool<T: ethtool::Command + ?Sized>(&self, step: &str, command: &mut T) -> Result<(), NicError> {
        let mut request = self.request(step)?;
        request.ifr_ifru.ifru_data = command.pointer().cast();
        self.ioctl(step, libc::SIOCETHTOOL, &mut request)
    }

    /// A request with the name that the netdev has now.
    fn request(&self, step: &str) -> Result<libc::ifreq, NicError> {
        let mut request = request_for("");
        request.ifr_ifru.ifru_ifindex = self.ifindex as libc::c_int;
        self.ioctl(step, libc::SIOCGIFNAME, &mut request)?;
        Ok(request)
    }

    fn ioctl(&self, step: &str, code: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), NicError> {
        // SAFETY: the request, and what it points to, outlive the call and are as long as the kernel takes them to be.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), code, request) } {
            0.. => Ok(()),
            _ => Err(self.last(step)),
        }
    }

    /// The last system call's error.
    fn last(&self, step: &str) -> NicError {
        let errno = errno_of(&io::Error::last_os_error());
        let hint = match errno {
            libc::ENODEV | libc::ENXIO => GONE,
            libc::EPERM | libc::EACCES => NO_PERMISSION,
            libc::EOPNOTSUPP => "its driver cannot",
            libc::EBUSY => "the netdev is in use, by another program or as it is up",
            _ => "see `dmesg` and `ethtool` for what its driver wants",
        };
        self.error(step, errno, hint)
    }

    fn error(&self, step: &str, errno: i32, hint: &str) -> NicError {
        NicError::new(step, &self.name, errno, hint)
    }
}

/// The errno of an error of the system.
pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// A request for the netdev of this name, which fits or is cut.
fn request_for(name: &str) -> libc::ifreq {
    crate::tap::interface_request(name)
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is ours.
    match unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) } {
        // SAFETY: as above.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
