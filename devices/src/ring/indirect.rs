//! Tables of descriptors that one descriptor of a ring refers to (virtio 1.3, 2.7.5.3 and 2.8.19).

use super::descriptor::{Descriptor, read_descriptor};
use super::{Chain, MAX_QUEUE_SIZE, RingError};
use crate::memory::{GuestMemory, RegionCache};

/// Octets of a descriptor.
const DESCRIPTOR: u32 = 16;

/// Adds the chain that begins with the first descriptor of a split ring's table.
pub fn push_split_table(
    chain: &mut Chain,
    table: &Descriptor,
    memory: &GuestMemory,
    cache: &mut RegionCache,
) -> Result<(), RingError> {
    let entries = check_table(table)?;
    let mut index = 0u16;
    for _ in 0..entries {
        if u32::from(index) >= entries {
            return Err(RingError::BadIndex(index));
        }
        let descriptor = read_entry(table, index, memory, cache)?;
        if descriptor.is_indirect() {
            return Err(RingError::NestedIndirect);
        }
        chain.push(&descriptor, memory, cache)?;
        if !descriptor.has_next() {
            return Ok(());
        }
        index = descriptor.next;
    }
    Err(RingError::Loop)
}

/// Adds all descriptors of a packed ring's table, in their order. Of their flags only WRITE has a meaning; the others
/// are to be ignored (virtio 1.3, 2.8.7).
///
/// Not even that where the device `only_reads`: DPDK's driver leaves WRITE on the header of every frame that it sends
/// through a table (`vring_desc_init_indirect_packed`), and its own device never looks.
pub fn push_packed_table(
    chain: &mut Chain,
    table: &Descriptor,
    only_reads: bool,
    memory: &GuestMemory,
    cache: &mut RegionCache,
) -> Result<(), RingError> {
    let entries = check_table(table)?;
    for index in 0..entries {
        let mut descriptor = read_entry(table, index as u16, memory, cache)?.packed();
        if only_reads {
            descriptor.flags = 0;
        }
        chain.push(&descriptor, memory, cache)?;
    }
    Ok(())
}

/// How many descriptors a table has.
fn check_table(table: &Descriptor) -> Result<u32, RingError> {
    if table.has_next() {
        return Err(RingError::IndirectNext);
    }
    let entries = table.len / DESCRIPTOR;
    if !table.len.is_multiple_of(DESCRIPTOR) || entries == 0 || entries > u32::from(MAX_QUEUE_SIZE) {
        return Err(RingError::BadIndirectLength(table.len));
    }
    Ok(entries)
}

/// Copies one descriptor of a table, once.
fn read_entry(
    table: &Descriptor,
    index: u16,
    memory: &GuestMemory,
    cache: &mut RegionCache,
) -> Result<Descriptor, RingError> {
    let bad = RingError::BadBuffer {
        address: table.address,
        len: table.len,
    };
    let address = table.address.checked_add(16 * u64::from(index)).ok_or(bad)?;
    match memory.run_at(address, cache) {
        // SAFETY: at least 16 octets follow in the mapping that `memory` keeps.
        Some((ptr, run)) if run >= 16 => Ok(unsafe { read_descriptor(ptr) }),
        Some(_) => read_split_entry(address, memory, cache).ok_or(bad),
        None => Err(bad),
    }
}

/// Reads a descriptor that crosses from one region into the next.
#[cold]
fn read_split_entry(address: u64, memory: &GuestMemory, cache: &mut RegionCache) -> Option<Descriptor> {
    let mut octets = [0u8; 16];
    for (offset, octet) in octets.iter_mut().enumerate() {
        let (ptr, _) = memory.run_at(address.checked_add(offset as u64)?, cache)?;
        // SAFETY: `run_at` found this octet in a live mapping.
        *octet = unsafe { ptr.read_volatile() };
    }
    // SAFETY: the array is 16 octets long.
    Some(unsafe { read_descriptor(octets.as_ptr()) })
}
