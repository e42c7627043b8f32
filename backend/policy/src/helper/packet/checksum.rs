//! Helpers that keep checksums right.

use super::sum::{Sum, replace_by_diff, replace2, replace4};
use super::{answer, change, frame, id};
use crate::Errno;
use crate::machine::Machine;

const BPF_F_HDR_FIELD_MASK: u64 = 0xf;
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
const BPF_F_MARK_ENFORCE: u64 = 1 << 6;
const BPF_F_IPV6: u64 = 1 << 7;
/// A checksum of 0 in UDP, where 0 means that there is none (net/checksum.h: `CSUM_MANGLED_0`).
const CSUM_MANGLED_0: u16 = 0xffff;

const BPF_CSUM_LEVEL_QUERY: u64 = 0;
const BPF_CSUM_LEVEL_INC: u64 = 1;
const BPF_CSUM_LEVEL_DEC: u64 = 2;
const BPF_CSUM_LEVEL_RESET: u64 = 3;
/// skbuff.h: `SKB_MAX_CSUM_LEVEL`.
const LEVEL_MAX: u8 = 3;

/// filter.c: `bpf_l3_csum_replace(skb, offset, from, to, size)`.
pub extern "sysv64" fn l3_csum_replace(
    machine: &mut Machine,
    _context: u64,
    offset: u64,
    from: u64,
    to: u64,
    flags: u64,
) -> u64 {
    if flags & !BPF_F_HDR_FIELD_MASK != 0 {
        return Errno::EINVAL.to_register();
    }
    answer(replace_field(machine, offset as u32, |_, sum| {
        Ok(match flags {
            0 if from == 0 => replace_by_diff(sum, to as u32),
            2 => replace2(sum, from as u16, to as u16),
            4 => replace4(sum, from as u32, to as u32),
            _ => return Err(Errno::EINVAL),
        })
    }))
}

/// filter.c: `bpf_l4_csum_replace(skb, offset, from, to, flags)`.
pub extern "sysv64" fn l4_csum_replace(
    machine: &mut Machine,
    _context: u64,
    offset: u64,
    from: u64,
    to: u64,
    flags: u64,
) -> u64 {
    // BPF_F_IPV6 is for CHECKSUM_COMPLETE, which no frame of ours is.
    let known =
        BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE | BPF_F_PSEUDO_HDR | BPF_F_HDR_FIELD_MASK | BPF_F_IPV6;
    if flags & !known != 0 {
        return Errno::EINVAL.to_register();
    }
    let pseudo_header = flags & BPF_F_PSEUDO_HDR != 0;
    let mark = flags & BPF_F_MARK_MANGLED_0 != 0;
    let enforce = flags & BPF_F_MARK_ENFORCE != 0;
    answer(replace_field(machine, offset as u32, |machine, sum| {
        if mark && !enforce && sum == 0 {
            return Ok(sum);
        }
        let (from, to) = match flags & BPF_F_HDR_FIELD_MASK {
            0 if from == 0 => (None, to as u32),
            2 => (Some(u32::from(from as u16)), u32::from(to as u16)),
            4 => (Some(from as u32), to as u32),
            _ => return Err(Errno::EINVAL),
        };
        // utils.c: inet_proto_csum_replace4, inet_proto_csum_replace_by_diff. The field of a checksum that is still to
        // be computed holds the sum of the pseudo header, not its complement, and nothing else.
        let partial = machine.packet.metadata.offload.partial.is_some();
        let new = match (partial, from) {
            (false, Some(from)) => replace4(sum, from, to),
            (false, None) => replace_by_diff(sum, to),
            (true, _) if !pseudo_header => sum,
            (true, Some(from)) => Sum(u32::from(sum)).sub(from).add(to).shorten(),
            (true, None) => Sum(to).add(u32::from(sum)).shorten(),
        };
        Ok(if mark && new == 0 { CSUM_MANGLED_0 } else { new })
    }))
}

/// Replaces a checksum field in the frame.
fn replace_field(
    machine: &mut Machine,
    offset: u32,
    replace: impl FnOnce(&Machine, u16) -> Result<u16, Errno>,
) -> Result<u64, Errno> {
    if offset > 0xffff || offset & 1 != 0 {
        return Err(Errno::EFAULT);
    }
    frame::make_linear(machine, offset + 2).map_err(|_| Errno::EFAULT)?;
    let field = frame::at(machine, offset).cast::<u16>();
    // SAFETY: both octets are linear.
    let sum = unsafe { field.read_unaligned() };
    let sum = replace(machine, sum)?;
    // SAFETY: as above.
    unsafe { field.write_unaligned(sum) };
    Ok(0)
}

/// filter.c: `bpf_csum_diff(from, from_size, to, to_size, seed)`.
///
/// As in kernels since 6.13, the result is the sum in 16 bits, and any sizes will do. Older kernels answered EINVAL if a
/// size was not a multiple of four or both were more than 512 together, and with any 32 bits that are the same sum.
pub extern "sysv64" fn csum_diff(
    machine: &mut Machine,
    from: u64,
    from_size: u64,
    to: u64,
    to_size: u64,
    seed: u64,
) -> u64 {
    let Ok(from) = machine.argument(id::CSUM_DIFF, 1, from, from_size, false) else {
        return 0;
    };
    let Ok(to) = machine.argument(id::CSUM_DIFF, 3, to, to_size, false) else {
        return 0;
    };
    let seed = Sum(seed as u32);
    let (from_size, to_size) = (from_size as usize, to_size as usize);
    let result = match (from_size, to_size) {
        (0, 0) => seed,
        (0, _) => sum_of(to, to_size, seed),
        (_, 0) => Sum(!sum_of(from, from_size, Sum(!seed.0)).0),
        (_, _) => sum_of(to, to_size, seed).sub(sum_of(from, from_size, Sum(0)).0),
    };
    u64::from(result.shorten())
}

/// `csum_partial` of memory that the program may access.
fn sum_of(octets: *const u8, len: usize, seed: Sum) -> Sum {
    let word = |at: usize, len: usize| {
        let mut word = [0; 4];
        // SAFETY: the program may access these octets.
        unsafe { std::ptr::copy_nonoverlapping(octets.add(at), word.as_mut_ptr(), len) };
        u32::from_ne_bytes(word)
    };
    let end = len & !3;
    let sum = (0..end).step_by(4).fold(seed, |sum, at| sum.add(word(at, 4)));
    sum.add(word(end, len - end))
}

/// filter.c: `bpf_csum_update(skb, csum)`, which is for CHECKSUM_COMPLETE.
pub extern "sysv64" fn csum_update(_: &mut Machine, _context: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    Errno::ENOTSUPP.to_register()
}

/// filter.c: `bpf_csum_level(skb, level)`.
pub extern "sysv64" fn csum_level(
    machine: &mut Machine,
    _context: u64,
    level: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    change(machine, |machine| {
        let metadata = &mut *machine.packet.metadata;
        let offload = &mut metadata.offload;
        let levels = &mut metadata.layers.checksum_level;
        // CHECKSUM_PARTIAL goes before CHECKSUM_UNNECESSARY: a frame is one of them.
        let unnecessary = offload.verified && offload.partial.is_none();
        match level {
            BPF_CSUM_LEVEL_INC if unnecessary => *levels = levels.saturating_add(1).min(LEVEL_MAX),
            BPF_CSUM_LEVEL_INC if offload.partial.is_none() => {
                offload.verified = true;
                *levels = 0;
            }
            BPF_CSUM_LEVEL_DEC if unnecessary && *levels > 0 => *levels -= 1,
            BPF_CSUM_LEVEL_DEC if unnecessary => offload.verified = false,
            BPF_CSUM_LEVEL_RESET => reset_level(machine),
            BPF_CSUM_LEVEL_INC | BPF_CSUM_LEVEL_DEC => {}
            BPF_CSUM_LEVEL_QUERY if unnecessary => return Ok(u64::from(*levels)),
            BPF_CSUM_LEVEL_QUERY => return Err(Errno::EACCES),
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    })
}

/// skbuff.h: `__skb_reset_checksum_unnecessary`.
pub fn reset_level(machine: &mut Machine) {
    let metadata = &mut *machine.packet.metadata;
    if metadata.offload.verified && metadata.offload.partial.is_none() {
        metadata.offload.verified = false;
        metadata.layers.checksum_level = 0;
    }
}
