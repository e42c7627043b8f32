//! One queue of a port: its ring, its buffers and what signals it.

use std::io;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::memory::{Area, LINE, Memory};
use super::ring::{DriverRing, RingConfig, Used};

/// How many buffers are taken at once.
pub const BURST: usize = 64;
/// How many go back to the device at once, at least, or a quarter of a small ring.
const REFILL: usize = 32;

/// A queue.
#[derive(Debug)]
pub struct Queue<R> {
    /// The ring.
    pub ring: R,
    /// Where the buffer of each id is.
    pub buffers: Buffers,
    /// Tells the device.
    pub kick: EventFd,
    /// Tells the driver.
    pub call: EventFd,
    /// What was taken of the ring and is not read yet, the first `held` of these.
    pub taken: Box<[Used; BURST]>,
    /// See `taken`.
    pub held: usize,
    /// Buffers go back to the device once there are as many.
    least: usize,
}

impl<R: DriverRing> Queue<R> {
    /// Octets of memory for a queue with buffers of this length.
    pub fn octets(config: &RingConfig) -> usize {
        R::octets(config) + stride(config.buffer_len as usize) * usize::from(config.size) + 4096
    }

    /// Lays a queue out.
    pub fn new(config: &RingConfig, memory: &mut Memory) -> io::Result<Queue<R>> {
        Ok(Queue {
            ring: R::new(config, memory)?,
            buffers: Buffers::new(config, memory)?,
            kick: EventFd::new(EFD_NONBLOCK)?,
            call: EventFd::new(EFD_NONBLOCK)?,
            taken: Box::new([Used::default(); BURST]),
            held: 0,
            least: REFILL.min(usize::from(config.size) / 4),
        })
    }

    /// Shows the device what was put, and kicks it if it wants that.
    #[inline]
    pub fn publish(&mut self) -> io::Result<()> {
        if self.ring.publish() {
            self.kick.write(1)?;
        }
        Ok(())
    }

    /// Gives all buffers but those that are held back to the device, if it is worth it.
    #[inline]
    pub fn refill(&mut self) -> io::Result<()> {
        let free = self.ring.room() - self.held;
        if free < self.least {
            return Ok(());
        }
        for _ in 0..free {
            let id = self.ring.id(0);
            let len = self.buffers.len as u32;
            self.ring.put(self.buffers.area.guest(self.buffers.at(id)), len);
        }
        self.publish()
    }
}

/// The buffers of a queue, one for each id.
#[derive(Debug)]
pub struct Buffers {
    /// The memory they are in.
    pub area: Area,
    /// Octets of each.
    pub len: usize,
    stride: usize,
}

impl Buffers {
    fn new(config: &RingConfig, memory: &mut Memory) -> io::Result<Buffers> {
        let len = config.buffer_len as usize;
        let stride = stride(len);
        let area = memory.area(stride * usize::from(config.size))?;
        Ok(Buffers { area, len, stride })
    }

    /// Where the buffer of an id is in the area.
    #[inline]
    pub fn at(&self, id: u16) -> usize {
        self.stride * usize::from(id)
    }
}

/// From one buffer to the next: an odd number of lines, so that their first lines are spread over a cache's sets.
fn stride(len: usize) -> usize {
    len.div_ceil(LINE) * LINE / (2 * LINE) * (2 * LINE) + LINE
}
