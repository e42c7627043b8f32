//! Macvtaps: a netdev's frames for one address, or all of them, through a character device.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::macvlan::{self, MacvlanMode};
use super::port;
use crate::nic::kernel::memberships::Memberships;
use crate::nic::kernel::socket;
use crate::nic::netdev::{Netdev, errno_of};
use crate::nic::{Claim, Control, Link, Nic, NicError};
use crate::packet::MacAddress;
use crate::tap::{MAX_TAP_QUEUES, TapQueue};

/// A macvtap, and how it was found.
#[derive(Debug)]
struct Macvtap {
    netdev: Netdev,
    mode: MacvlanMode,
    address: MacAddress,
    /// What it is to receive beside frames for its address, for as long as we live.
    memberships: Memberships,
    /// It is deleted with this.
    is_ours: bool,
}

/// Opens a macvtap with this many queues. If there is none of that name and a netdev is named on which it is to be, it is
/// made, and goes when the NIC does.
pub fn open_macvtap(name: &str, lower: Option<(&str, MacvlanMode)>, queues: u16) -> Result<Nic, NicError> {
    if queues == 0 || queues > MAX_TAP_QUEUES {
        let hint = format!("1 to {MAX_TAP_QUEUES} are possible");
        return Err(NicError::new(
            format!("open {queues} queues of"),
            name,
            libc::EINVAL,
            hint,
        ));
    }
    let macvtap = match (Netdev::open(name), lower) {
        (Ok(netdev), _) => Macvtap::take(netdev, false)?,
        (Err(error), Some((lower, mode))) if error.errno() == libc::ENODEV => {
            create(name, lower, mode)?;
            Macvtap::take(Netdev::open(name)?, true)?
        }
        (Err(error), _) => return Err(error),
    };
    let opened = (0..queues).map(|_| {
        let file = open_queue(&macvtap.netdev)?;
        Ok(TapQueue::set_up(file, name)?)
    });
    let opened: Result<Vec<TapQueue>, NicError> = opened.collect();
    Ok(Nic {
        port: port(opened?),
        control: Box::new(macvtap),
    })
}

fn create(name: &str, lower: &str, mode: MacvlanMode) -> Result<(), NicError> {
    let below = Netdev::open(lower)?;
    macvlan::create(name, below.ifindex(), mode).map_err(|error| {
        let hint = match errno_of(&error) {
            libc::EPERM => "netkitd needs CAP_NET_ADMIN for that",
            libc::EOPNOTSUPP => "load the kernel's macvtap module",
            libc::EBUSY => {
                "another netdev, such as a bridge, has it; use that one, or the uplink kind `kernel`"
            }
            libc::EINVAL => "a netdev with a macvtap in mode passthru takes no second one",
            _ => "see `ip -d link`",
        };
        let step = format!("make the macvtap \"{name}\" on");
        NicError::new(step, lower, errno_of(&error), hint)
    })
}

impl Macvtap {
    fn take(netdev: Netdev, is_ours: bool) -> Result<Macvtap, NicError> {
        let refuse = |errno, hint: &str| NicError::new("use as a macvtap", netdev.name(), errno, hint);
        let mode = macvlan::mode(netdev.ifindex())
            .map_err(|error| refuse(errno_of(&error), "it may have been deleted"))?
            .ok_or_else(|| {
                refuse(
                    libc::EINVAL,
                    "a netdev of another kind has that name; see `ip -d link`",
                )
            })?;
        Ok(Macvtap {
            address: netdev.address()?,
            memberships: Memberships::new(Arc::new(socket::open_unbound(&netdev)?), netdev.ifindex()),
            netdev,
            mode,
            is_ours,
        })
    }
}

impl Control for Macvtap {
    fn driver(&self) -> String {
        "macvtap".to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.netdev.link()
    }

    fn netdev(&self) -> Option<u32> {
        Some(self.netdev.ifindex())
    }

    /// A macvtap gets frames for its own address, so it takes one that is claimed for its own. In mode passthru it can get
    /// all frames, and does so for more than one address; in the others it cannot, and everything that it gets is for the
    /// address that it has. Frames for groups of which the host is no member it gets only if it is to have those of all.
    fn claim(&mut self, claim: &Claim) -> Result<(), NicError> {
        let is_passthru = self.mode == MacvlanMode::Passthru;
        let groups = Claim::Addresses(Vec::new());
        match claim {
            Claim::Addresses(addresses) if addresses.len() > 1 && !is_passthru => Err(NicError::new(
                format!("receive frames for {} addresses with", addresses.len()),
                self.netdev.name(),
                libc::EOPNOTSUPP,
                "in its mode a macvtap has one address; use mode passthru or a macvtap for each device",
            )),
            Claim::Addresses(addresses) if addresses.len() <= 1 => {
                if let Some(address) = addresses.first() {
                    self.netdev.set_address(*address)?;
                }
                self.join(&groups)
            }
            _ => self.join(if is_passthru { &Claim::Everything } else { &groups }),
        }
    }
}

impl Macvtap {
    fn join(&mut self, claim: &Claim) -> Result<(), NicError> {
        let step = "have frames for other addresses arrive at";
        let joined = self.memberships.set(claim);
        joined.map_err(|error| socket::failed(step, &self.netdev, &error))
    }
}

impl Drop for Macvtap {
    fn drop(&mut self) {
        self.memberships.leave();
        // Nobody is left to be told what fails; the netdev may be gone.
        if self.is_ours {
            let _ = macvlan::delete(self.netdev.ifindex());
            return;
        }
        if self.netdev.address().is_ok_and(|address| address != self.address) {
            let _ = self.netdev.set_address(self.address);
        }
    }
}

/// Opens a queue: each time the device is opened there is one more.
fn open_queue(netdev: &Netdev) -> Result<File, NicError> {
    let path = format!("/dev/tap{}", netdev.ifindex());
    // A macvtap of another network namespace may have the same number.
    match open_device(Path::new(&path)) {
        Ok(file) if belongs_to(&file, netdev) => Ok(file),
        _ => open_by_number(netdev).map_err(|error| {
            let hint = match errno_of(&error) {
                libc::EPERM | libc::EACCES => "netkitd needs CAP_MKNOD, or the right to open that device",
                libc::EBUSY => "it has as many queues as it can",
                libc::ENOENT => "/sys must be that of the network namespace that the macvtap is in",
                _ => "see `dmesg`",
            };
            NicError::new(format!("open {path} for"), netdev.name(), errno_of(&error), hint)
        }),
    }
}

fn open_device(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

/// Whether a queue's netdev has the name and the address of this one.
fn belongs_to(file: &File, netdev: &Netdev) -> bool {
    let mut request = crate::tap::interface_request("");
    // SAFETY: the request outlives the call; the kernel fills in name and address of the queue's netdev.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::SIOCGIFHWADDR, &mut request) };
    // SAFETY: the kernel filled the address in.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let address = MacAddress(std::array::from_fn(|index| data[index] as u8));
    status == 0
        && crate::tap::name_of(&request) == netdev.name()
        && netdev.address().is_ok_and(|own| own == address)
}

/// Opens the device by the numbers that sysfs tells, with a node that nobody else sees, where nothing makes one.
fn open_by_number(netdev: &Netdev) -> io::Result<File> {
    let (name, ifindex) = (netdev.name(), netdev.ifindex());
    let numbers = fs::read_to_string(format!("/sys/class/net/{name}/tap{ifindex}/dev"))?;
    let (major, minor) = parse_numbers(&numbers).ok_or(io::ErrorKind::InvalidData)?;
    let directory = private_directory()?;
    let node = directory.join("tap");
    let c_node = std::ffi::CString::new(node.as_os_str().as_bytes())?;
    let mode = libc::S_IFCHR | 0o600;
    // SAFETY: the path is a string that outlives the call.
    let made = unsafe { libc::mknod(c_node.as_ptr(), mode, libc::makedev(major, minor)) };
    let file = match made {
        0 => open_device(&node),
        _ => Err(io::Error::last_os_error()),
    };
    let _ = fs::remove_file(&node);
    let _ = fs::remove_dir(&directory);
    file.and_then(|file| match belongs_to(&file, netdev) {
        true => Ok(file),
        false => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    })
}

/// A new directory for us alone, where device nodes may be used.
fn private_directory() -> io::Result<std::path::PathBuf> {
    let mut template = *b"/dev/netkitd-XXXXXX\0";
    // SAFETY: the template ends with a zero and is written to in place.
    if unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    let path = template.split_last().map(|(_, path)| path).unwrap_or_default();
    Ok(std::ffi::OsStr::from_bytes(path).into())
}

fn parse_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_device_are_read_or_refused() {
        assert_eq!(parse_numbers("236:3\n"), Some((236, 3)));
        for text in ["", "236", "236:", ":3", "a:b", "1:2:3"] {
            assert_eq!(parse_numbers(text), None, "{text}");
        }
    }
}
