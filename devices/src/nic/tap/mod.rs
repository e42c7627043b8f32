//! Taps and macvtaps as NICs: what is sent goes to the host's kernel as if it had come from a wire, or out of the netdev
//! below; each frame takes a system call, but a frame may be 64 KiB long.

mod macvlan;
mod macvtap;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::arrival::{Arrivals, BURST};
use super::kernel::buffers::{Buffers, FRAME_MAX};
use super::kernel::receive::is_readable;
use super::netdev::Netdev;
use super::{Capabilities, Claim, Control, Link, Nic, NicError, NicPort, Receive, Transmit};
use crate::Refusal;
use crate::packet::{Frame, OffloadFeatures};
use crate::tap::{PIECES_MAX, Tap, TapError, TapQueue};

pub use macvlan::MacvlanMode;
pub use macvtap::open_macvtap;

/// Opens a tap, or makes it if there is none of that name, with this many queues. What its netdev sends is received.
pub fn open_tap(name: &str, queues: u16) -> Result<Nic, NicError> {
    let tap = Tap::open(Some(name), queues)?;
    let netdev = Netdev::open(&tap.name)?;
    Ok(Nic {
        port: port(tap.queues),
        control: Box::new(TapControl { netdev }),
    })
}

/// The workers' side of queues of a tap or a macvtap.
fn port(queues: Vec<TapQueue>) -> NicPort {
    let capabilities = Capabilities {
        offloads: queues.first().map_or(OffloadFeatures::NONE, TapQueue::takes),
        receives_gso: true,
        pieces_max: PIECES_MAX,
        frame_max: FRAME_MAX,
    };
    let pairs = queues.into_iter().map(|queue| {
        let queue = Arc::new(queue);
        let receive = TapReceive {
            queue: Arc::clone(&queue),
            buffers: Buffers::new(BURST),
            used: 0,
        };
        let receive: Box<dyn Receive> = Box::new(receive);
        let transmit: Box<dyn Transmit> = Box::new(TapTransmit { queue });
        (receive, transmit)
    });
    NicPort::new(capabilities, pairs.collect())
}

#[derive(Debug)]
struct TapReceive {
    queue: Arc<TapQueue>,
    buffers: Buffers,
    /// Frames that lie in the buffers.
    used: usize,
}

#[derive(Debug)]
struct TapTransmit {
    queue: Arc<TapQueue>,
}

/// The control side of a tap.
#[derive(Debug)]
struct TapControl {
    netdev: Netdev,
}

impl Receive for TapReceive {
    fn receive(&mut self, arrivals: &mut Arrivals) {
        while self.used < BURST {
            let Some(arrival) = arrivals.add() else {
                break;
            };
            if !self.queue.receive(&mut self.buffers, self.used, arrival) {
                arrivals.remove_last();
                break;
            }
            self.used += 1;
        }
    }

    fn release(&mut self) {
        self.used = 0;
    }

    fn arm(&mut self) -> bool {
        !is_readable(self.queue.as_raw_fd())
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.queue.as_raw_fd())
    }
}

impl Transmit for TapTransmit {
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        self.queue.write_part(frame)
    }

    fn flush(&mut self) {}
}

impl Control for TapControl {
    fn driver(&self) -> String {
        "tap".to_owned()
    }

    fn link(&mut self) -> Result<Link, NicError> {
        self.netdev.link()
    }

    fn netdev(&self) -> Option<u32> {
        Some(self.netdev.ifindex())
    }

    /// All that the host sends through it arrives, whatever is claimed.
    fn claim(&mut self, _claim: &Claim) -> Result<(), NicError> {
        Ok(())
    }
}

impl From<TapError> for NicError {
    fn from(error: TapError) -> NicError {
        let hint = error.to_string();
        match error {
            TapError::Io {
                step,
                name,
                source,
                hint,
            } => NicError {
                step: step.to_owned(),
                nic: name,
                source,
                hint: match hint.trim_start_matches("; ") {
                    "" => "see `dmesg`".to_owned(),
                    hint => hint.to_owned(),
                },
            },
            TapError::BadName(name) => NicError::new("open", name, libc::EINVAL, hint),
            TapError::BadQueues(queues) => {
                NicError::new(format!("open {queues} queues of"), "a tap", libc::EINVAL, hint)
            }
        }
    }
}
