//! Making, asking and deleting a macvtap with rtnetlink(7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER_LEN: usize = 16;
/// `struct ifinfomsg`
const LINK_LEN: usize = 16;
const ANSWER_MAX: usize = 32 * 1024;
// linux/if_link.h
const IFLA_MACVLAN_MODE: u16 = 1;
const KIND: &[u8] = b"macvtap";

/// How a macvtap shares the netdev below it (linux/if_link.h: `enum macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MacvlanMode {
    /// With others, which it does not reach.
    Private = 1,
    /// With others, all frames going to the switch outside.
    Vepa = 2,
    /// With others, among which frames are passed on directly.
    Bridge = 4,
    /// With nobody: it gets everything.
    Passthru = 8,
}

/// Makes a macvtap on the netdev `lower` and sets it up.
pub(super) fn create(name: &str, lower: u32, mode: MacvlanMode) -> io::Result<()> {
    request(&create_message(name, lower, mode)).map(|_| ())
}

/// Deletes the netdev with this ifindex.
pub(super) fn delete(ifindex: u32) -> io::Result<()> {
    request(&message(libc::RTM_DELLINK, libc::NLM_F_ACK, ifindex, 0, &[])).map(|_| ())
}

/// The mode of the macvtap with this ifindex; `None` if it is no macvtap, or one that does none of this.
pub(super) fn mode(ifindex: u32) -> io::Result<Option<MacvlanMode>> {
    let answer = request(&message(libc::RTM_GETLINK, 0, ifindex, 0, &[]))?;
    Ok(mode_in(answer.get(HEADER_LEN + LINK_LEN..).unwrap_or_default()))
}

fn create_message(name: &str, lower: u32, mode: MacvlanMode) -> Vec<u8> {
    let data = attribute(IFLA_MACVLAN_MODE, &(mode as u32).to_ne_bytes());
    let info = [
        attribute(libc::IFLA_INFO_KIND, KIND),
        attribute(libc::IFLA_INFO_DATA, &data),
    ];
    let attributes = [
        attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()),
        attribute(libc::IFLA_LINK, &lower.to_ne_bytes()),
        attribute(libc::IFLA_LINKINFO, &info.concat()),
    ];
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message(
        libc::RTM_NEWLINK,
        flags,
        0,
        libc::IFF_UP as u32,
        &attributes.concat(),
    )
}

fn mode_in(link: &[u8]) -> Option<MacvlanMode> {
    let info = find(link, libc::IFLA_LINKINFO)?;
    if find(info, libc::IFLA_INFO_KIND)?.strip_suffix(&[0]) != Some(KIND) {
        return None;
    }
    let mode = find(find(info, libc::IFLA_INFO_DATA)?, IFLA_MACVLAN_MODE)?;
    match u32::from_ne_bytes(*mode.first_chunk()?) {
        1 => Some(MacvlanMode::Private),
        2 => Some(MacvlanMode::Vepa),
        4 => Some(MacvlanMode::Bridge),
        8 => Some(MacvlanMode::Passthru),
        _ => None,
    }
}

/// Sends a request to the kernel; what it answers, unless that is an error.
fn request(message: &[u8]) -> io::Result<Vec<u8>> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call; the descriptor is ours.
    let socket = match unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_ROUTE) } {
        // SAFETY: as above.
        fd @ 0.. => unsafe { OwnedFd::from_raw_fd(fd) },
        _ => return Err(io::Error::last_os_error()),
    };
    let fd = socket.as_raw_fd();
    // SAFETY: the message outlives the call.
    if unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0; ANSWER_MAX];
    // SAFETY: the kernel writes at most the buffer's length. It has answered already.
    let len = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT) };
    answer.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    match (word(&answer, 4) as u16, word(&answer, HEADER_LEN) as i32) {
        (kind, errno) if libc::c_int::from(kind) == libc::NLMSG_ERROR && errno != 0 => {
            Err(io::Error::from_raw_os_error(errno.saturating_neg()))
        }
        _ => Ok(answer),
    }
}

/// `struct nlmsghdr`, `struct ifinfomsg` and attributes.
fn message(kind: u16, flags: libc::c_int, ifindex: u32, up: u32, attributes: &[u8]) -> Vec<u8> {
    let len = (HEADER_LEN + LINK_LEN + attributes.len()) as u32;
    let mut octets = Vec::from(len.to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    octets.extend([0; 8 + 4]);
    for field in [ifindex, up, up] {
        octets.extend(field.to_ne_bytes());
    }
    octets.extend(attributes);
    octets
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = 4 + value.len();
    let mut octets = Vec::from((len as u16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(len.next_multiple_of(4), 0);
    octets
}

/// The value of the first attribute of this kind.
fn find(mut octets: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d] = *octets.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = octets.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & libc::NLA_TYPE_MASK as u16 == wanted {
            return Some(value);
        }
        octets = octets.get(len.next_multiple_of(4)..)?;
    }
}

/// The 32-bit number at `at`, or 0.
fn word(octets: &[u8], at: usize) -> u32 {
    let octets = octets.get(at..).and_then(|rest| rest.first_chunk());
    octets.map_or(0, |octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macvtap_is_asked_for_with_all_that_makes_it() {
        let message = create_message("nkkm", 7, MacvlanMode::Passthru);
        assert_eq!(word(&message, 0) as usize, message.len());
        assert_eq!(word(&message, 4) as u16, libc::RTM_NEWLINK);
        let attributes = &message[HEADER_LEN + LINK_LEN..];
        assert_eq!(find(attributes, libc::IFLA_IFNAME), Some(b"nkkm\0".as_slice()));
        assert_eq!(
            find(attributes, libc::IFLA_LINK),
            Some(7u32.to_ne_bytes().as_slice())
        );
        let info = find(attributes, libc::IFLA_LINKINFO).unwrap();
        assert_eq!(find(info, libc::IFLA_INFO_KIND), Some(KIND));
        let data = find(info, libc::IFLA_INFO_DATA).unwrap();
        assert_eq!(find(data, IFLA_MACVLAN_MODE), Some(8u32.to_ne_bytes().as_slice()));
    }

    #[test]
    fn the_mode_is_read_from_an_answer_and_nonsense_is_none() {
        let link = |kind: &[u8], mode: u32| {
            let data = attribute(IFLA_MACVLAN_MODE, &mode.to_ne_bytes());
            let info = [
                attribute(libc::IFLA_INFO_KIND, kind),
                attribute(libc::IFLA_INFO_DATA, &data),
            ];
            [
                attribute(1, &[1, 2, 3]),
                attribute(libc::IFLA_LINKINFO, &info.concat()),
            ]
            .concat()
        };
        assert_eq!(mode_in(&link(b"macvtap\0", 4)), Some(MacvlanMode::Bridge));
        assert_eq!(mode_in(&link(b"macvtap\0", 16)), None);
        assert_eq!(mode_in(&link(b"macvlan\0", 4)), None);
        let whole = link(b"macvtap\0", 4);
        for len in 0..whole.len() {
            assert_eq!(mode_in(&whole[..len]), None, "{len} octets");
        }
        assert_eq!(
            find(&[0, 0, 0, 0, 9], 5),
            None,
            "an attribute without a length is the end"
        );
    }
}
