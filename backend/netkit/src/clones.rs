//! Copies of a frame that programs asked for (`bpf_clone_redirect`), until they are sent.

use devices::packet::Frame;

use crate::program::Redirect;
use crate::{Errno, Slot};

/// Copies that one frame may have in all, those of copies included: without a bound two programs that copy to each other
/// would double the work at each of the eight levels that the recursion limit leaves.
const CLONES_MAX: usize = 64;

/// The copies of one frame, in the order in which they were made. Memory is kept for the next frame.
#[derive(Debug, Default)]
pub struct Clones {
    frames: Vec<Pending>,
    /// How many of `frames` wait to be sent, from the front.
    made: usize,
    sent: usize,
    /// How deep the run is nested that makes copies now.
    pub(crate) depth: u32,
}

/// A copy that is to be sent.
#[derive(Debug)]
pub(crate) struct Pending {
    pub frame: Frame,
    /// The device on which the program ran (`skb->dev`), in whose domain the target is looked for.
    pub receiver: Slot,
    pub redirect: Redirect,
    /// The ifindex of the uplink on which the frame arrived (`skb->skb_iif`).
    pub ingress_ifindex: u32,
    pub depth: u32,
}

impl Clones {
    /// Forgets all copies, to begin with another frame.
    pub(crate) fn clear(&mut self) {
        (self.made, self.sent, self.depth) = (0, 0, 1);
    }

    pub(crate) fn push(
        &mut self,
        receiver: Slot,
        redirect: Redirect,
        ingress_ifindex: u32,
        fill: impl FnOnce(&mut Frame) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.made == CLONES_MAX {
            return Err(Errno::ENOMEM);
        }
        if self.made == self.frames.len() {
            self.frames.push(Pending {
                frame: Frame::new(),
                receiver,
                redirect,
                ingress_ifindex,
                depth: 0,
            });
        }
        let pending = &mut self.frames[self.made];
        pending.frame.clear();
        fill(&mut pending.frame)?;
        (pending.receiver, pending.redirect) = (receiver, redirect);
        (pending.ingress_ifindex, pending.depth) = (ingress_ifindex, self.depth);
        self.made += 1;
        Ok(())
    }

    /// Whether no copy waits to be sent.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.made
    }

    /// Forgets the copies that wait to be sent, and says how many those are.
    pub fn give_up(&mut self) -> u64 {
        let left = self.made - self.sent;
        self.sent = self.made;
        left as u64
    }

    /// The next copy that is to be sent, whose octets are swapped into `frame`.
    pub(crate) fn take(&mut self, frame: &mut Frame) -> Option<&Pending> {
        if self.is_empty() {
            return None;
        }
        let pending = &mut self.frames[self.sent];
        self.sent += 1;
        std::mem::swap(frame, &mut pending.frame);
        Some(pending)
    }
}
