//! A NIC through AF_XDP: its queues in user space, while its kernel driver and the host keep using it.
//!
//! An XDP program hands frames for claimed addresses to our sockets, one for each queue, and leaves the others to the
//! host. Frames for groups go to both: the host has them first, and a packet socket of ours gets copies.
//!
//! A redirected frame says nothing of its checksums. One that its sender left undone, as stacks do at the other end of a
//! virtual cable, looks like a wrong one, and the guest drops it: there, `ethtool -K PEER tx off` completes them.
//!
//! Nor has it a VLAN tag that was taken out of it, so the NIC is told to leave tags in; what a sender on the same host keeps
//! beside the frame, `ethtool -K PEER txvlan off` puts there.

mod bpf;
mod busy_poll;
mod control;
mod features;
mod in_place;
mod program;
mod queue;
mod receive;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
mod transmit;
mod umem;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::kernel::memberships::Memberships;
use super::kernel::socket as packet_socket;
use super::netdev::{Netdev, Steering, TagsInFrames, errno_of};
use super::{Capabilities, Nic, NicError, NicPort, Receive, Transmit};
use crate::memory::GuestMemory;
use crate::packet::OffloadFeatures;

use busy_poll::BusyPoll;
use control::XdpControl;
use program::Program;
use queue::Queue;
use transmit::Limits;
use umem::TX_ROOM;

/// The most queues that one NIC is opened with.
pub const MAX_XDP_QUEUES: u16 = 64;
const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;

/// How to use a netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpConfig {
    /// Its name.
    pub ifname: String,
    /// The first queue to use.
    pub first_queue: u32,
    /// How many queues from there on.
    pub queues: u16,
    /// Whether frames may be copied.
    pub mode: Mode,
    /// The workers poll the NIC, and it does not interrupt.
    pub busy_poll: bool,
}

/// Whether the kernel copies frames to and from our memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// If it must.
    #[default]
    Auto,
    /// It does not, or the NIC is not opened.
    ZeroCopy,
    /// It does: works with every netdev.
    Copy,
}

/// Opens a netdev of this network namespace. It receives nothing before something is claimed.
///
/// # Errors
/// If there is no such netdev or queue, or another program has it; if the kernel lacks what is needed.
pub fn open(config: &XdpConfig) -> Result<Nic, NicError> {
    open_with_guest_memory(config, &GuestMemory::default())
}

/// As [`open`], and what of a frame lies in this memory is sent from there: no frame is copied but its head.
///
/// All of the guest's memory is pinned, so it cannot be given back to the host, and is counted once for each queue. When
/// its table changes, the NIC has to be opened again; until then frames from other memory are copied.
/// [`Transmit::flush`] returns when the kernel has read the frames.
///
/// # Errors
/// As [`open`]; and if the memory's files cannot be pinned.
pub fn open_with_guest_memory(config: &XdpConfig, guest: &GuestMemory) -> Result<Nic, NicError> {
    let netdev = Netdev::open(&config.ifname)?;
    let queues = queues_of(config, &netdev)?;
    let frame_max = netdev.mtu()? as usize + ETHERNET_HEADER + VLAN_TAG;
    // A driver may start its queues anew for that, so it comes first.
    let tags = TagsInFrames::on(netdev.name())?;
    let mut program =
        Program::new(queues.end).map_err(|error| failed("make BPF maps for", &netdev, &error))?;
    let (group, header_len) = packet_socket::open(&netdev)?;
    let group = Arc::new(group);

    let mut opened = Vec::new();
    for queue in queues {
        let opened_queue = Queue::open(config.mode, &netdev, queue, frame_max, guest)?;
        program
            .serve(queue, &opened_queue.bound.socket)
            .map_err(|error| failed("have the XDP program know the sockets of", &netdev, &error))?;
        opened.push(opened_queue);
    }
    let busy_poll = match config.busy_poll {
        true => Some(poll_busily(&netdev, &opened)?),
        false => None,
    };
    program
        .attach(netdev.ifindex())
        .map_err(|error| failed("attach an XDP program to", &netdev, &error))?;

    let control = XdpControl {
        zero_copy: opened.iter().all(|queue| queue.bound.socket.zero_copy),
        program,
        memberships: Memberships::new(Arc::clone(&group), netdev.ifindex()),
        steering: Steering::new(netdev.name())?,
        group: Arc::clone(&group),
        netdev,
        _busy_poll: busy_poll,
        _tags: tags,
    };
    let limits: Vec<Limits> = opened.iter().map(|queue| queue.limits).collect();
    let mut pairs: Vec<(Box<dyn Receive>, Box<dyn Transmit>)> = Vec::new();
    for queue in opened {
        let split = queue.split(config.busy_poll);
        let (mut receive, transmit) =
            split.map_err(|error| failed("wait for frames of", &control.netdev, &error))?;
        if pairs.is_empty() {
            receive
                .add_group(Arc::clone(&group), header_len)
                .map_err(|error| failed("wait for frames of", &control.netdev, &error))?;
        }
        pairs.push((Box::new(receive), Box::new(transmit)));
    }
    Ok(Nic {
        port: NicPort::new(capabilities(&limits), pairs),
        control: Box::new(control),
    })
}

/// The queues that are asked for, up to `end`.
fn queues_of(config: &XdpConfig, netdev: &Netdev) -> Result<Range<u32>, NicError> {
    let end = config.first_queue.saturating_add(u32::from(config.queues));
    let there = netdev.rx_queues()?;
    if config.queues == 0 || config.queues > MAX_XDP_QUEUES || end > there {
        return Err(NicError::new(
            format!("open {} queues from {} on of", config.queues, config.first_queue),
            netdev.name(),
            libc::EINVAL,
            format!(
                "it has {there}, counted from 0; `ethtool -L` sets how many, and 1 to {MAX_XDP_QUEUES} can be used"
            ),
        ));
    }
    Ok(config.first_queue..end)
}

/// What all queues can do.
fn capabilities(limits: &[Limits]) -> Capabilities {
    let frame_max = limits.iter().map(|it| it.frame_max.min(it.parts_max * TX_ROOM));
    Capabilities {
        offloads: OffloadFeatures {
            csum: limits.iter().all(|it| it.metadata),
            ..OffloadFeatures::NONE
        },
        receives_gso: false,
        // Frames are copied, so it does not matter how many pieces they lie in.
        pieces_max: usize::MAX,
        frame_max: frame_max.min().unwrap_or(0),
    }
}

fn poll_busily(netdev: &Netdev, queues: &[Queue]) -> Result<BusyPoll, NicError> {
    let fail = |error| failed("turn on busy polling of", netdev, &error);
    for queue in queues {
        BusyPoll::enable(&queue.bound.socket).map_err(fail)?;
    }
    BusyPoll::new(netdev.name()).map_err(fail)
}

/// What went wrong, and what to do.
fn failed(step: &str, netdev: &Netdev, error: &io::Error) -> NicError {
    let errno = errno_of(error);
    let name = netdev.name();
    let hint = match errno {
        libc::EPERM | libc::EACCES => "netkitd needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW".to_owned(),
        libc::EBUSY | libc::EEXIST => {
            format!(
                "another program uses it: end that, or detach its XDP program with `ip link set dev {name} xdp off`"
            )
        }
        libc::EAFNOSUPPORT => "the host's kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned(),
        libc::ENOBUFS | libc::ENOMEM => {
            "its memory must be locked: give netkitd CAP_IPC_LOCK or a higher limit (`ulimit -l`)".to_owned()
        }
        libc::ENODEV | libc::ENXIO => "it was deleted; it is opened again when it is back".to_owned(),
        libc::ENETDOWN => format!("set it up with `ip link set dev {name} up`"),
        libc::EFAULT => "the guest's memory cannot be pinned: give it a memfd or hugetlbfs".to_owned(),
        libc::ENOENT => "its settings are not under /sys/class/net of netkitd's namespaces".to_owned(),
        libc::EOPNOTSUPP | libc::EINVAL => "its driver or the host's kernel is too old for it".to_owned(),
        _ => "see `dmesg`".to_owned(),
    };
    NicError::new(step, name, errno, hint)
}
