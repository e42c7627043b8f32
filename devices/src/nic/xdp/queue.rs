//! Opening one queue: the best that its driver and the host's kernel can do of what is asked for.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use super::features::Features;
use super::receive::XdpReceive;
use super::socket::{Binding, Bound, Socket};
use super::transmit::{Limits, MAX_PARTS, XdpTransmit};
use super::umem::RX_ROOM;
use super::{Mode, failed};
use crate::memory::GuestMemory;
use crate::nic::NicError;
use crate::nic::netdev::{Netdev, errno_of};

/// The kernel takes a queue back from a socket a little after it was closed.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A socket on a queue.
#[derive(Debug)]
pub struct Queue {
    /// The socket and its rings.
    pub bound: Bound,
    /// What can be sent.
    pub limits: Limits,
}

/// A step that failed, and what the system said.
type Failure = (&'static str, io::Error);

impl Queue {
    /// Opens a queue for frames up to `frame_max`, which are sent from a guest's memory if they lie there.
    pub fn open(
        mode: Mode,
        netdev: &Netdev,
        queue: u32,
        frame_max: usize,
        guest: &GuestMemory,
    ) -> Result<Queue, NicError> {
        let first = |flags, metadata| Binding {
            ifindex: netdev.ifindex(),
            queue,
            flags,
            metadata,
        };
        // A driver may lack zero-copy frames in several parts, and need not if none are so long.
        let parts = if frame_max > RX_ROOM || !guest.regions().is_empty() {
            libc::XDP_USE_SG
        } else {
            0
        };
        // A kernel that does not tell is older than what would be told.
        let features = Features::of(netdev.ifindex()).unwrap_or_default();
        let zero_copy = [
            first(libc::XDP_ZEROCOPY | parts, features.checksum),
            first(libc::XDP_ZEROCOPY | parts, false),
        ];
        let copy = [
            first(libc::XDP_COPY | libc::XDP_USE_SG, true),
            // Linux before 6.11
            first(libc::XDP_COPY | libc::XDP_USE_SG, false),
            // Linux before 6.6
            first(libc::XDP_COPY, false),
        ];
        let bindings = match mode {
            Mode::Auto => [&zero_copy[..], &copy].concat(),
            Mode::ZeroCopy => zero_copy.to_vec(),
            Mode::Copy => copy.to_vec(),
        };
        let mut last = ("open", io::Error::from_raw_os_error(libc::EINVAL));
        for binding in bindings {
            match bind(&binding, guest) {
                Ok(bound) => {
                    let limits = Limits {
                        frame_max,
                        parts_max: parts_max(&binding, &bound, features),
                        metadata: binding.metadata,
                    };
                    return Ok(Queue { bound, limits });
                }
                Err(failure) => last = failure,
            }
            if !is_about_features(&last.1) {
                break;
            }
        }
        Err(refused(mode, netdev, queue, &last))
    }

    /// Both directions of it.
    pub fn split(self, busy_poll: bool) -> io::Result<(XdpReceive, XdpTransmit)> {
        let Bound {
            socket,
            umem,
            rx,
            fill,
            tx,
            completion,
        } = self.bound;
        let receive = XdpReceive::new(socket.clone(), umem.clone(), rx, fill, busy_poll)?;
        let transmit = XdpTransmit::new(socket, umem, tx, completion, self.limits);
        Ok((receive, transmit))
    }
}

/// How many parts a frame may be sent in.
fn parts_max(binding: &Binding, bound: &Bound, features: Features) -> usize {
    match binding.flags & libc::XDP_USE_SG {
        0 => 1,
        _ if bound.socket.zero_copy => features.parts_max.clamp(1, MAX_PARTS),
        _ => MAX_PARTS,
    }
}

/// Binds, and waits for a socket before ours to let go of the queue.
fn bind(binding: &Binding, guest: &GuestMemory) -> Result<Bound, Failure> {
    for _ in 1..BUSY_TRIES {
        match Socket::bind(binding, guest) {
            Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => sleep(BUSY_PAUSE),
            result => return result,
        }
    }
    Socket::bind(binding, guest)
}

/// Whether something else may work where this did not.
fn is_about_features(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    let others = [
        libc::EBUSY,
        libc::EPERM,
        libc::EACCES,
        libc::ENODEV,
        libc::ENXIO,
        libc::ENETDOWN,
        libc::EAFNOSUPPORT,
    ];
    !errno.is_some_and(|errno| others.contains(&errno))
}

fn refused(mode: Mode, netdev: &Netdev, queue: u32, (step, error): &Failure) -> NicError {
    let step = format!("{step} queue {queue} of");
    if mode == Mode::ZeroCopy && is_about_features(error) {
        let hint =
            "its driver has no zero-copy AF_XDP, or not with this MTU; use another mode, or a smaller MTU";
        return NicError::new(step, netdev.name(), errno_of(error), hint);
    }
    failed(&step, netdev, error)
}
