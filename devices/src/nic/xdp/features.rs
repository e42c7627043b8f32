//! What a driver can do without copying, as the kernel's netdev family of generic netlink tells
//! (Documentation/netlink/specs/netdev.yaml).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADERS: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;
const NETDEV_XSK_FLAGS_TX_CHECKSUM: u64 = 1 << 1;

/// What a driver says of itself: nothing, before Linux 6.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// It completes checksums of frames that it sends without copying.
    pub checksum: bool,
    /// The most parts of such a frame; 0 if it is not said.
    pub parts_max: usize,
}

impl Features {
    /// Asks for those of a netdev of this namespace.
    pub fn of(ifindex: u32) -> io::Result<Features> {
        let netdev = describe(ifindex)?;
        let flags = |attribute| number(&netdev, attribute).unwrap_or(0);
        Ok(Features {
            checksum: flags(NETDEV_A_DEV_XSK_FEATURES) & NETDEV_XSK_FLAGS_TX_CHECKSUM != 0,
            parts_max: flags(NETDEV_A_DEV_XDP_ZC_MAX_SEGS) as usize,
        })
    }
}

/// The attributes of a netdev.
fn describe(ifindex: u32) -> io::Result<Vec<u8>> {
    let socket = socket()?;
    let name = b"netdev\0";
    let family = ask(
        &socket,
        GENL_ID_CTRL,
        CTRL_CMD_GETFAMILY,
        CTRL_ATTR_FAMILY_NAME,
        name,
    )?;
    let family = number(&family, CTRL_ATTR_FAMILY_ID).unwrap_or(0) as u16;
    let ifindex = ifindex.to_ne_bytes();
    ask(
        &socket,
        family,
        NETDEV_CMD_DEV_GET,
        NETDEV_A_DEV_IFINDEX,
        &ifindex,
    )
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call; the descriptor is ours.
    match unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) } {
        // SAFETY: as above.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a request with one attribute; the attributes of the answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let attribute_len = ATTRIBUTE_HEADER + value.len();
    let len = HEADERS + attribute_len.next_multiple_of(4);
    let mut request = Vec::with_capacity(len);
    // struct nlmsghdr, with a sequence and a port of 0
    request.extend((len as u32).to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend([0; 8]);
    // struct genlmsghdr
    request.extend([command, 1, 0, 0]);
    // struct nlattr
    request.extend((attribute_len as u16).to_ne_bytes());
    request.extend(attribute.to_ne_bytes());
    request.extend(value);
    request.resize(len, 0);
    let mut answer = vec![0; 16384];
    // SAFETY: the kernel reads the request's length, and writes at most the answer's.
    let received = unsafe {
        let fd = socket.as_raw_fd();
        match libc::send(fd, request.as_ptr().cast(), len, 0) {
            0.. => libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0),
            error => error,
        }
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    answer.truncate(received);
    let kind = answer
        .get(4..6)
        .map(|octets| u16::from_ne_bytes([octets[0], octets[1]]));
    match kind {
        Some(kind) if kind == family => Ok(answer.split_off(HEADERS.min(received))),
        // struct nlmsgerr
        _ => Err(io::Error::from_raw_os_error(
            answer
                .get(16..20)
                .and_then(|octets| octets.try_into().ok())
                .map_or(libc::EPROTO, |octets| i32::from_ne_bytes(octets).saturating_neg()),
        )),
    }
}

/// The value of an attribute, of any width up to 64 bits.
fn number(mut attributes: &[u8], wanted: u16) -> Option<u64> {
    loop {
        let (header, _) = attributes.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = attributes.get(ATTRIBUTE_HEADER..len)?;
        if kind == wanted {
            return match *value {
                [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
                [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
                _ => value.try_into().ok().map(u64::from_ne_bytes),
            };
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::netdev::Netdev;
    use crate::nic::xdp::tests::veth::{NEAR, with_cable};

    const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

    #[test]
    fn a_driver_tells_what_it_can() {
        // netdev.yaml: basic, redirect, xsk-zerocopy
        let (basic, redirect, zero_copy) = (1, 2, 8);
        with_cable("features of a driver", "", |_| {
            let ifindex = Netdev::open(NEAR).unwrap().ifindex();
            let netdev = describe(ifindex).unwrap();
            assert_eq!(number(&netdev, NETDEV_A_DEV_IFINDEX), Some(ifindex.into()));
            let can = number(&netdev, NETDEV_A_DEV_XDP_FEATURES).unwrap();
            assert_eq!(can & (basic | redirect | zero_copy), basic | redirect);
            assert_eq!(Features::of(ifindex).unwrap(), Features::default());
            assert_eq!(Features::of(9999).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn numbers_of_all_widths_are_found_and_broken_attributes_end_the_search() {
        let mut octets = Vec::new();
        for (kind, value) in [
            (1u16, &7u32.to_ne_bytes()[..]),
            (2, b"odd\0!"),
            (3, &0x1_0000_0005u64.to_ne_bytes()),
            (4, &9u16.to_ne_bytes()),
        ] {
            octets.extend((4 + value.len() as u16).to_ne_bytes());
            octets.extend(kind.to_ne_bytes());
            octets.extend(value);
            octets.resize(octets.len().next_multiple_of(4), 0);
        }
        let found = [1, 2, 3, 4, 5].map(|kind| number(&octets, kind));
        assert_eq!(found, [Some(7), None, Some(0x1_0000_0005), Some(9), None]);
        for len in 0..octets.len() {
            let _ = number(&octets[..len], 4);
        }
        octets[8..10].copy_from_slice(&2u16.to_ne_bytes());
        assert_eq!(number(&octets, 4), None, "shorter than its own header");
        octets[8..10].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(number(&octets, 4), None, "longer than the message");
    }
}
