//! As much of rtnetlink as netkit devices take; the release's ip(8) does not know them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};

use netkit_api::{Mode, Policy, Scrub};

use super::scenario::EndSpec;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_NETKIT_PEER_INFO: u16 = 1;
const IFLA_NETKIT_PRIMARY: u16 = 2;
const IFLA_NETKIT_POLICY: u16 = 3;
const IFLA_NETKIT_PEER_POLICY: u16 = 4;
const IFLA_NETKIT_MODE: u16 = 5;
const IFLA_NETKIT_SCRUB: u16 = 6;
const IFLA_NETKIT_PEER_SCRUB: u16 = 7;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// `struct nlmsghdr` and `struct ifinfomsg` in octets.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;

/// A socket in the namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink(File);

/// A device as the kernel shows it.
#[derive(Debug, Default)]
pub struct Link {
    pub ifindex: u32,
    pub flags: u32,
    pub mtu: u32,
    pub address: Vec<u8>,
    /// `struct rtnl_link_stats64`.
    pub statistics: Vec<u64>,
    /// netkit's own attributes.
    pub primary: bool,
    pub mode: u32,
    pub policy: u32,
    pub peer_policy: Option<u32>,
    pub scrub: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Netlink> {
        // SAFETY: plain system call.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor of ours.
        Ok(Netlink(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes a pair, the peer in the namespace `peer_namespace`.
    pub fn create(
        &self,
        mode: Option<Mode>,
        primary: &EndSpec,
        peer: &EndSpec,
        peer_namespace: &File,
    ) -> io::Result<()> {
        let mut data = Attributes::default();
        if let Some(mode) = mode {
            data.u32(IFLA_NETKIT_MODE, u32::from(mode == Mode::L3));
        }
        for (attribute, value) in [
            (IFLA_NETKIT_POLICY, primary.policy.map(policy)),
            (IFLA_NETKIT_PEER_POLICY, peer.policy.map(policy)),
            (IFLA_NETKIT_SCRUB, primary.scrub.map(scrub)),
            (IFLA_NETKIT_PEER_SCRUB, peer.scrub.map(scrub)),
        ] {
            if let Some(value) = value {
                data.u32(attribute, value);
            }
        }
        let mut peer_info = Attributes::of(peer.ifindex, 0, 0);
        peer_info.end(peer);
        peer_info.u32(IFLA_NET_NS_FD, peer_namespace.as_raw_fd() as u32);
        data.put(IFLA_NETKIT_PEER_INFO, &peer_info.0);
        let mut link = Attributes::of(primary.ifindex, 0, 0);
        link.end(primary);
        link.netkit(&data);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.acknowledged(libc::RTM_NEWLINK, flags, &link)
    }

    /// Changes policies.
    pub fn change(&self, ifindex: u32, primary: Option<Policy>, peer: Option<Policy>) -> io::Result<()> {
        let mut data = Attributes::default();
        for (attribute, value) in [(IFLA_NETKIT_POLICY, primary), (IFLA_NETKIT_PEER_POLICY, peer)] {
            if let Some(value) = value {
                data.u32(attribute, policy(value));
            }
        }
        let mut link = Attributes::of(ifindex, 0, 0);
        link.netkit(&data);
        self.acknowledged(libc::RTM_NEWLINK, 0, &link)
    }

    /// Sets a device up or down.
    pub fn set_up(&self, ifindex: u32, up: bool) -> io::Result<()> {
        let iff_up = libc::IFF_UP as u32;
        let link = Attributes::of(ifindex, if up { iff_up } else { 0 }, iff_up);
        self.acknowledged(libc::RTM_NEWLINK, 0, &link)
    }

    /// Changes the Ethernet address.
    pub fn set_address(&self, ifindex: u32, address: &[u8]) -> io::Result<()> {
        let mut link = Attributes::of(ifindex, 0, 0);
        link.put(IFLA_ADDRESS, address);
        self.acknowledged(libc::RTM_NEWLINK, 0, &link)
    }

    /// Moves a device to another namespace.
    pub fn move_to(&self, ifindex: u32, namespace: &File) -> io::Result<()> {
        let mut link = Attributes::of(ifindex, 0, 0);
        link.u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        self.acknowledged(libc::RTM_NEWLINK, 0, &link)
    }

    /// Deletes a device.
    pub fn delete(&self, ifindex: u32) -> io::Result<()> {
        self.acknowledged(libc::RTM_DELLINK, 0, &Attributes::of(ifindex, 0, 0))
    }

    /// Looks at a device.
    pub fn show(&self, name: &str) -> io::Result<Link> {
        let mut link = Attributes::of(0, 0, 0);
        link.text(IFLA_IFNAME, name);
        let answer = self.ask(libc::RTM_GETLINK, 0, &link)?;
        Ok(parse_link(&answer))
    }

    fn acknowledged(&self, kind: u16, flags: i32, body: &Attributes) -> io::Result<()> {
        self.ask(kind, flags | libc::NLM_F_ACK, body).map(drop)
    }

    /// Sends a request and gives the body of the answer, which is one message.
    fn ask(&self, kind: u16, flags: i32, body: &Attributes) -> io::Result<Vec<u8>> {
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut message = ((MESSAGE_HEADER + body.0.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(&body.0);
        (&self.0).write_all(&message)?;
        let mut answer = vec![0; 32 * 1024];
        let len = (&self.0).read(&mut answer)?;
        answer.truncate(len);
        let body = answer.split_off(MESSAGE_HEADER.min(len));
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if i32::from(kind) != libc::NLMSG_ERROR {
            return Ok(body);
        }
        match word(&body) as i32 {
            0 => Ok(Vec::new()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

/// A message's body under construction.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    /// `struct ifinfomsg` of a device that is there.
    fn of(ifindex: u32, flags: u32, change: u32) -> Attributes {
        let words = [0, ifindex, flags, change];
        Attributes(words.into_iter().flat_map(u32::to_ne_bytes).collect())
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    fn end(&mut self, end: &EndSpec) {
        self.text(IFLA_IFNAME, &end.name);
        if let Some(address) = &end.address {
            self.put(IFLA_ADDRESS, address);
        }
    }

    fn netkit(&mut self, data: &Attributes) {
        let mut info = Attributes::default();
        info.text(IFLA_INFO_KIND, "netkit");
        info.put(IFLA_INFO_DATA | NLA_F_NESTED, &data.0);
        self.put(IFLA_LINKINFO | NLA_F_NESTED, &info.0);
    }
}

fn policy(policy: Policy) -> u32 {
    match policy {
        Policy::Forward => 0,
        Policy::Blackhole => 2,
    }
}

fn scrub(scrub: Scrub) -> u32 {
    match scrub {
        Scrub::None => 0,
        Scrub::Default => 1,
    }
}

fn parse_link(message: &[u8]) -> Link {
    let mut link = Link {
        ifindex: word(&message[4..]),
        flags: word(&message[8..]),
        ..Link::default()
    };
    for (kind, value) in attributes(&message[LINK_HEADER..]) {
        match kind {
            IFLA_MTU => link.mtu = word(value),
            IFLA_ADDRESS => link.address = value.to_vec(),
            IFLA_STATS64 => {
                let (counters, _) = value.as_chunks();
                link.statistics = counters
                    .iter()
                    .map(|counter| u64::from_ne_bytes(*counter))
                    .collect();
            }
            IFLA_LINKINFO => {
                let data = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_DATA);
                for (kind, value) in data.into_iter().flat_map(|(_, data)| attributes(data)) {
                    match kind {
                        IFLA_NETKIT_PRIMARY => link.primary = value[0] != 0,
                        IFLA_NETKIT_MODE => link.mode = word(value),
                        IFLA_NETKIT_POLICY => link.policy = word(value),
                        IFLA_NETKIT_PEER_POLICY => link.peer_policy = Some(word(value)),
                        IFLA_NETKIT_SCRUB => link.scrub = word(value),
                        _ => (),
                    }
                }
            }
            _ => (),
        }
    }
    link
}

/// The attributes one after the other; what the kernel says is trusted.
fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let header: [u8; 4] = *rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK, value))
    })
}

fn word(octets: &[u8]) -> u32 {
    octets
        .first_chunk()
        .map_or(0, |octets| u32::from_ne_bytes(*octets))
}
