//! The region in which a back end notes what it has taken and not used yet (U16), as a front end keeps it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use super::front_end::FrontEnd;
use super::message::{longs, request};
use super::opening::RingSetup;

/// What a front end does about the region.
#[derive(Debug, Default)]
pub struct Inflight {
    wanted: bool,
    /// The region, once the back end has made it.
    pub region: Option<InflightRegion>,
}

/// A region, as the messages describe it.
#[derive(Debug)]
pub struct InflightRegion {
    /// The back end's memfd.
    pub file: File,
    /// Octets of all queues.
    pub size: u64,
    /// Where it starts in the file.
    pub offset: u64,
    /// Rings.
    pub queues: u16,
    /// Descriptors of each.
    pub queue_size: u16,
}

impl Inflight {
    /// With `wanted` the back end is asked for a region, and gets it again on every new connection.
    pub fn new(wanted: bool) -> Inflight {
        Inflight { wanted, region: None }
    }

    /// Whether there is to be a region.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Asks for a region the first time, and gives it to the back end each time.
    pub fn share(&mut self, front_end: &FrontEnd, rings: &[RingSetup]) -> io::Result<()> {
        if !self.wanted {
            return Ok(());
        }
        let region = match self.region.take() {
            Some(region) => region,
            None => {
                let size = rings.iter().map(|ring| ring.size).max().unwrap_or(0);
                front_end.inflight(rings.len() as u16, size)?
            }
        };
        front_end.set_inflight(self.region.insert(region))
    }
}

impl InflightRegion {
    /// What is in the region now.
    pub fn contents(&self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; self.size as usize];
        self.file.read_exact_at(&mut octets, self.offset)?;
        Ok(octets)
    }

    /// The description of a region: its fields, and the padding that QEMU and DPDK send behind them.
    pub fn payload(&self) -> Vec<u8> {
        payload(self.size, self.offset, self.queues, self.queue_size)
    }
}

/// The description of a region.
pub fn payload(size: u64, offset: u64, queues: u16, queue_size: u16) -> Vec<u8> {
    let mut payload = longs(&[size, offset]);
    for field in [queues, queue_size, 0, 0] {
        payload.extend(field.to_ne_bytes());
    }
    payload
}

impl FrontEnd {
    /// Asks for a region for so many rings.
    pub fn inflight(&self, queues: u16, queue_size: u16) -> io::Result<InflightRegion> {
        let asked = payload(0, 0, queues, queue_size);
        let (answer, file) = self.ask_for_file(request::GET_INFLIGHT_FD, &asked)?;
        let strange = || io::Error::other(format!("{answer:?} describes no region with a file"));
        let (size, rest) = answer.payload.split_first_chunk().ok_or_else(strange)?;
        let (offset, rest) = rest.split_first_chunk().ok_or_else(strange)?;
        if rest != &asked[16..] {
            return Err(strange());
        }
        Ok(InflightRegion {
            file: file.ok_or_else(strange)?,
            size: u64::from_ne_bytes(*size),
            offset: u64::from_ne_bytes(*offset),
            queues,
            queue_size,
        })
    }

    /// Gives a region back to a back end.
    pub fn set_inflight(&self, region: &InflightRegion) -> io::Result<()> {
        let fd = region.file.as_raw_fd();
        self.tell(request::SET_INFLIGHT_FD, &region.payload(), &[fd])
    }
}
