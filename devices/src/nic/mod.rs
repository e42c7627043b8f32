//! A NIC as the data path sees it: what it can do, and its queues.
//!
//! A driver is three things: a [`Receive`] and a [`Transmit`] for each queue, which workers use, and a [`Control`], which
//! belongs to the control thread. What a NIC cannot do is done in software on the way to it ([`send`]) and from it
//!.

mod arrival;
mod coalesce;
mod error;
pub mod igb;
pub mod kernel;
mod mapping;
pub mod netdev;
mod send;
pub mod tap;
pub mod vfio;
pub mod virtio_pci;
pub mod xdp;

use std::fmt::Debug;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Refusal;
use crate::packet::{Frame, MacAddress, OffloadFeatures};

pub use arrival::{Arrival, Arrivals};
pub use coalesce::Coalescer;
pub use error::NicError;
pub use send::send;

/// What a NIC does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What may be left to it on the frames that it sends.
    pub offloads: OffloadFeatures,
    /// It may receive frames larger than a segment, so they need not be coalesced.
    pub receives_gso: bool,
    /// The most pieces of memory that one frame may lie in.
    pub pieces_max: usize,
    /// The longest frame that it takes, in octets: with `offloads.tso4` or the like one that is still to be cut.
    pub frame_max: usize,
}

/// A NIC as workers see it.
#[derive(Debug)]
pub struct NicPort {
    /// What it does by itself.
    pub capabilities: Capabilities,
    queues: Vec<NicQueue>,
}

/// A pair of queues, each with a lock of its own. One worker receives; any may transmit.
#[derive(Debug)]
pub struct NicQueue {
    receive: Mutex<Box<dyn Receive>>,
    transmit: Mutex<Box<dyn Transmit>>,
}

/// The receiving side of a queue.
pub trait Receive: Send + Debug {
    /// Adds frames that have arrived, as many as there is room for. They lie in the queue's memory until
    /// [`Receive::release`], and so does what arrived and was no frame of use: release also if nothing was added. Says
    /// nothing if the NIC is gone: [`Control::link`] does.
    fn receive(&mut self, arrivals: &mut Arrivals);

    /// Takes the memory of all frames back.
    fn release(&mut self);

    /// Has the NIC wake who waits on [`Receive::wake_fd`] for the next frame. False if a frame has arrived already.
    fn arm(&mut self) -> bool;

    /// What becomes readable (as an edge) when frames arrive after [`Receive::arm`]. None for a NIC that must be polled.
    fn wake_fd(&self) -> Option<RawFd>;
}

/// The transmitting side of a queue.
pub trait Transmit: Send + Debug {
    /// Takes a frame that keeps to the NIC's [`Capabilities`]. It may be changed or gone when this returns.
    fn transmit(&mut self, frame: &Frame) -> Result<(), Refusal>;

    /// Has the NIC send what it took. Called at the end of a burst.
    fn flush(&mut self);

    /// Frames that it took and could not send after all, with the last reason, since this was asked before.
    fn refused(&mut self) -> Option<(Refusal, u64)> {
        None
    }
}

/// What a link is like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its own Ethernet address.
    pub address: MacAddress,
    /// Its MTU in octets.
    pub mtu: u32,
    /// It is up and has a carrier.
    pub running: bool,
    /// In Mbit/s, if known.
    pub speed: Option<u32>,
    /// The receive queues of the hardware, whoever uses them.
    pub rx_queues: u32,
}

/// Whose frames a NIC is to give us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// All of them.
    Everything,
    /// Those for these addresses, and those for groups and everyone.
    Addresses(Vec<MacAddress>),
}

/// A NIC as the control thread sees it. Dropping it gives the NIC back as it was found.
pub trait Control: Send + Debug {
    /// The driver's name, as the API shows it, such as `igb` or `af_xdp (zero-copy)`.
    fn driver(&self) -> String;

    /// What the link is like.
    ///
    /// # Errors
    /// If the NIC is gone or was taken away. It is opened again later then.
    fn link(&mut self) -> Result<Link, NicError>;

    /// Becomes readable when [`Control::link`] may have changed, which is to be asked then; None if it has to be asked from
    /// time to time.
    fn event_fd(&self) -> Option<RawFd> {
        None
    }

    /// The host's netdev that this NIC is seen as, if it is.
    fn netdev(&self) -> Option<u32> {
        None
    }

    /// Takes frames for these addresses from now on.
    fn claim(&mut self, claim: &Claim) -> Result<(), NicError>;

    /// Has the NIC have this many receive queues (`ethtool -L`).
    fn set_rx_queues(&mut self, queues: u32) -> Result<(), NicError> {
        Err(NicError::cannot_resize(queues))
    }

    /// Whether [`Control::steer`] can give a queue away.
    fn steers(&self) -> bool {
        false
    }

    /// Has frames for these addresses arrive at one queue, and no others there; an empty list undoes that.
    fn steer(&mut self, queue: u32, addresses: &[MacAddress]) -> Result<(), NicError> {
        Err(NicError::cannot_steer(queue, addresses.len()))
    }
}

/// A NIC that has just been opened.
#[derive(Debug)]
pub struct Nic {
    /// For the workers.
    pub port: NicPort,
    /// For the control thread.
    pub control: Box<dyn Control>,
}

impl NicPort {
    /// A NIC with these queues, at least one.
    pub fn new(capabilities: Capabilities, queues: Vec<(Box<dyn Receive>, Box<dyn Transmit>)>) -> NicPort {
        let queues = queues.into_iter().map(|(receive, transmit)| NicQueue {
            receive: Mutex::new(receive),
            transmit: Mutex::new(transmit),
        });
        NicPort {
            capabilities,
            queues: queues.collect(),
        }
    }

    /// How many queues it has.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// A queue; they are taken in turn from the first on.
    pub fn queue(&self, index: usize) -> &NicQueue {
        &self.queues[index % self.queues.len()]
    }
}

impl NicQueue {
    /// The receiving side.
    #[inline]
    pub fn receive(&self) -> MutexGuard<'_, Box<dyn Receive>> {
        self.receive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transmitting side.
    #[inline]
    pub fn transmit(&self) -> MutexGuard<'_, Box<dyn Transmit>> {
        self.transmit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
