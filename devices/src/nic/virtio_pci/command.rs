//! The control queue: commands to the device (virtio 1.3, 5.1.6.5).

use std::thread::sleep;
use std::time::Duration;

use super::ring::DriverRing;
use crate::nic::vfio::DmaMemory;
use crate::packet::{MacAddress, Slice};
use crate::ring::{DESC_F_NEXT, DESC_F_WRITE, Descriptor};

/// Memory of a command.
pub const MEMORY: usize = 4096;
/// Where the device's answer goes.
const ANSWER: usize = MEMORY - 1;
const OK: u8 = 0;
/// The most addresses that are named: what fits into the memory, and what QEMU keeps.
const ADDRESSES: usize = 64;

const CLASS_RX: u8 = 0;
const RX_PROMISCUOUS: u8 = 0;
const RX_ALL_GROUPS: u8 = 1;
const CLASS_MAC: u8 = 1;
const MAC_TABLE_SET: u8 = 0;
const CLASS_MQ: u8 = 4;
const MQ_PAIRS_SET: u8 = 0;

/// The control queue.
#[derive(Debug)]
pub struct Commands {
    ring: DriverRing,
    memory: DmaMemory,
}

impl Commands {
    /// Uses this queue.
    pub fn new(ring: DriverRing, memory: &mut DmaMemory) -> Commands {
        Commands {
            ring,
            memory: memory.take(MEMORY),
        }
    }

    /// Has the device use this many queue pairs. False if it refuses.
    pub fn set_pairs(&mut self, pairs: u16) -> bool {
        self.command(CLASS_MQ, MQ_PAIRS_SET, &pairs.to_le_bytes())
    }

    /// Has the device pass all groups and these addresses on; all frames, if they are none or too many. False if it refuses.
    pub fn set_filter(&mut self, addresses: Option<&[MacAddress]>) -> bool {
        let named = addresses.filter(|addresses| addresses.len() <= ADDRESSES);
        let table = named.unwrap_or_default();
        // struct virtio_net_ctrl_mac, for stations and for groups.
        let mut octets = (table.len() as u32).to_le_bytes().to_vec();
        octets.extend(table.iter().flat_map(|address| address.0));
        octets.extend(0u32.to_le_bytes());
        self.command(CLASS_RX, RX_ALL_GROUPS, &[1])
            && self.command(CLASS_MAC, MAC_TABLE_SET, &octets)
            && self.command(CLASS_RX, RX_PROMISCUOUS, &[u8::from(named.is_none())])
    }

    /// Sends a command and waits for the answer. False also if the device does not answer within a second.
    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> bool {
        self.memory.write(0, class);
        self.memory.write(1, command);
        let slice = Slice {
            ptr: data.as_ptr(),
            len: data.len(),
        };
        // SAFETY: the data is borrowed.
        unsafe { self.memory.copy_in(2, slice) };
        self.memory.write(ANSWER, !OK);
        let descriptor = |offset: usize, len: usize, flags| Descriptor {
            address: self.memory.iova(offset),
            len: len as u32,
            flags,
            next: 1,
        };
        self.ring.describe(0, &descriptor(0, 2 + data.len(), DESC_F_NEXT));
        self.ring.describe(1, &descriptor(ANSWER, 1, DESC_F_WRITE));
        self.ring.offer(0);
        self.ring.publish();
        for _ in 0..1000 {
            let pending = self.ring.pending();
            if pending > 0 {
                self.ring.take(pending);
                return self.memory.read::<u8>(ANSWER) == OK;
            }
            sleep(Duration::from_millis(1));
        }
        false
    }
}
