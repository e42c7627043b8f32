//! Helpers that copy octets between a frame and the program's memory.

use super::{answer, change, frame, id, memory};
use crate::Errno;
use crate::machine::Machine;

const BPF_F_RECOMPUTE_CSUM: u64 = 1 << 0;
const BPF_F_INVALIDATE_HASH: u64 = 1 << 1;
const BPF_HDR_START_MAC: u32 = 0;
const BPF_HDR_START_NET: u32 = 1;

/// filter.c: `bpf_skb_store_bytes(skb, offset, from, len, flags)`.
pub extern "sysv64" fn skb_store_bytes(
    machine: &mut Machine,
    _context: u64,
    offset: u64,
    from: u64,
    len: u64,
    flags: u64,
) -> u64 {
    let Ok((from, len)) = memory(machine, id::SKB_STORE_BYTES, 3, from, len, false) else {
        return 0;
    };
    answer(store(machine, offset as u32, from, len, flags))
}

fn store(machine: &mut Machine, offset: u32, from: *const u8, len: u32, flags: u64) -> Result<u64, Errno> {
    if flags & !(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) != 0 {
        return Err(Errno::EINVAL);
    }
    if offset > i32::MAX as u32 {
        return Err(Errno::EFAULT);
    }
    let end = offset.checked_add(len).ok_or(Errno::EFAULT)?;
    frame::make_linear(machine, end).map_err(|_| Errno::EFAULT)?;
    // SAFETY: `from` is `len` octets of the program's, and the linear part is long enough. They may overlap.
    unsafe { std::ptr::copy(from, frame::at(machine, offset), len as usize) };
    // BPF_F_RECOMPUTE_CSUM is for CHECKSUM_COMPLETE, which no frame of ours is.
    if flags & BPF_F_INVALIDATE_HASH != 0 {
        change(machine, |machine| {
            machine.packet.metadata.hash = 0;
            Ok(0)
        });
    }
    Ok(0)
}

/// filter.c: `bpf_skb_load_bytes(skb, offset, to, len)`.
pub extern "sysv64" fn skb_load_bytes(
    machine: &mut Machine,
    _context: u64,
    offset: u64,
    to: u64,
    len: u64,
    _: u64,
) -> u64 {
    let Ok((to, len)) = memory(machine, id::SKB_LOAD_BYTES, 3, to, len, true) else {
        return 0;
    };
    let offset = offset as u32;
    let end = u64::from(offset) + u64::from(len);
    if offset > i32::MAX as u32 || end > u64::from(machine.packet_len()) {
        return clear(to, len);
    }
    load(machine, offset, to, len);
    0
}

/// Copies octets that are there, linear or not.
fn load(machine: &Machine, offset: u32, to: *mut u8, len: u32) {
    let linear = machine.linear_len().saturating_sub(offset).min(len);
    // SAFETY: `linear` octets from `offset` on are linear, and `to` is at least that many of the program's. They may
    // overlap.
    unsafe { std::ptr::copy(frame::at(machine, offset), to, linear as usize) };

    // The program's memory may be shared with other shards: no reference is made of it.
    let mut piece = [0; 256];
    let mut done = linear;
    while done < len {
        let count = (len - done).min(piece.len() as u32);
        let piece = &mut piece[..count as usize];
        let _ = machine.read_packet(offset + done, piece);
        // SAFETY: `to` is `len` octets of the program's.
        unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to.add(done as usize), piece.len()) };
        done += count;
    }
}

/// What a load of octets that are not there does.
fn clear(to: *mut u8, len: u32) -> u64 {
    // SAFETY: `to` is `len` octets of the program's.
    unsafe { std::ptr::write_bytes(to, 0, len as usize) };
    Errno::EFAULT.to_register()
}

/// filter.c: `bpf_skb_load_bytes_relative(skb, offset, to, len, start_header)`.
pub extern "sysv64" fn skb_load_bytes_relative(
    machine: &mut Machine,
    _context: u64,
    offset: u64,
    to: u64,
    len: u64,
    start_header: u64,
) -> u64 {
    let Ok((to, len)) = memory(machine, id::SKB_LOAD_BYTES_RELATIVE, 3, to, len, true) else {
        return 0;
    };
    let offset = offset as u32;
    let start = match start_header as u32 {
        BPF_HDR_START_MAC => 0,
        BPF_HDR_START_NET => machine.packet.metadata.layers.network,
        _ => return clear(to, len),
    };
    // The kernel looks at the linear part only.
    let end = u64::from(start) + u64::from(offset) + u64::from(len);
    if offset > 0xffff || end > u64::from(machine.linear_len()) {
        return clear(to, len);
    }
    load(machine, start + offset, to, len);
    0
}

/// filter.c: `bpf_skb_pull_data(skb, len)`.
pub extern "sysv64" fn skb_pull_data(
    machine: &mut Machine,
    _context: u64,
    len: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    // 0 asks for what is linear already.
    answer(frame::make_linear(machine, len as u32).map(|()| 0))
}
