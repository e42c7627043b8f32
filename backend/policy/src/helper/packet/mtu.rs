//! Whether a frame fits a device.

use super::{ETHERNET_LEN, answer, id};
use crate::Errno;
use crate::machine::Machine;

const BPF_MTU_CHK_SEGS: u64 = 1 << 0;
const BPF_MTU_CHK_RET_SUCCESS: u64 = 0;
const BPF_MTU_CHK_RET_FRAG_NEEDED: u64 = 1;
const BPF_MTU_CHK_RET_SEGS_TOOBIG: u64 = 2;

/// filter.c: `bpf_skb_check_mtu(skb, ifindex, mtu_len, len_diff, flags)`.
pub extern "sysv64" fn check_mtu(
    machine: &mut Machine,
    _context: u64,
    ifindex: u64,
    mtu_len: u64,
    len_diff: u64,
    flags: u64,
) -> u64 {
    let Ok(mtu_len) = machine.argument(id::CHECK_MTU, 3, mtu_len, 4, true) else {
        return 0;
    };
    let mtu_len = mtu_len.cast::<u32>();
    // SAFETY: the program may access these four octets.
    let tot_len = unsafe { mtu_len.read_unaligned() };
    answer(
        check(machine, ifindex as u32, tot_len, len_diff as i32, flags).map(|(result, mtu)| {
            // SAFETY: as above, and it may write them.
            unsafe { mtu_len.write_unaligned(mtu) };
            result
        }),
    )
}

/// What `check_mtu` returns, and the device's MTU.
fn check(
    machine: &mut Machine,
    ifindex: u32,
    tot_len: u32,
    len_diff: i32,
    flags: u64,
) -> Result<(u64, u32), Errno> {
    let segments = flags & BPF_MTU_CHK_SEGS != 0;
    if flags & !BPF_MTU_CHK_SEGS != 0 || (segments && (len_diff != 0 || tot_len != 0)) {
        return Err(Errno::EINVAL);
    }
    let mtu = machine.environment().mtu(ifindex).ok_or(Errno::ENODEV)?;

    // The kernel computes with int, which wraps.
    let room = mtu.wrapping_add(ETHERNET_LEN) as i32;
    let len = match tot_len {
        0 => machine.packet_len(),
        tot_len => tot_len.wrapping_add(ETHERNET_LEN),
    };
    if (len as i32).wrapping_add(len_diff) <= room {
        return Ok((BPF_MTU_CHK_RET_SUCCESS, mtu));
    }
    let metadata = &machine.packet.metadata;
    let Some(gso) = &metadata.offload.gso else {
        return Ok((BPF_MTU_CHK_RET_FRAG_NEEDED, mtu));
    };
    if !segments {
        return Ok((BPF_MTU_CHK_RET_SUCCESS, mtu));
    }
    if metadata.layers.transport.is_none() && metadata.offload.partial.is_none() {
        return Err(Errno::EINVAL);
    }
    // gso.c: skb_gso_network_seglen
    let headers = u32::from(gso.header_len).saturating_sub(metadata.layers.network);
    let result = if headers + u32::from(gso.size) <= mtu {
        BPF_MTU_CHK_RET_SUCCESS
    } else {
        BPF_MTU_CHK_RET_SEGS_TOOBIG
    };
    Ok((result, mtu))
}
