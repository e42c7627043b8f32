//! Helpers on tunnel metadata. No device here is a tunnel, so no frame comes with any, and what a program sets has no
//! effect, as on any other device of the kernel.

use super::{Answer, Call, helpers};
use crate::Errno;

helpers! {
    20 => |call: &mut Call<'_>, [_, to, len, ..]: [u64; 5]| clear(call, to, len, Errno::EINVAL);
    21 => set_key;
    29 => |call: &mut Call<'_>, [_, to, len, ..]: [u64; 5]| clear(call, to, len, Errno::ENOENT);
    30 => set_option;
}

/// linux/bpf.h
const BPF_F_TUNINFO_IPV6: u64 = 1;
/// All flags of `bpf_skb_set_tunnel_key`.
const SET_KEY_FLAGS: u64 = 0x1f;
/// Octets of `struct bpf_tunnel_key`.
const KEY_LEN: u32 = 44;
/// Where `tunnel_ext` and `tunnel_label` are in it.
const KEY_EXT: usize = 22;
const KEY_LABEL: usize = 24;
/// What else the structure was once: up to `remote_ipv6[1]`, `tunnel_ext`, `tunnel_label`, `local_ipv6`.
const KEY_LENS_ONCE: [u32; 4] = [8, 22, 24, 28];

// filter.c: bpf_skb_get_tunnel_key, bpf_skb_get_tunnel_opt: what cannot be had is zero.
fn clear(call: &mut Call<'_>, to: u64, len: u64, errno: Errno) -> Answer {
    let len = u64::from(len as u32);
    call.charge(len)?;
    let to = call.write(2, to, len)?;
    // SAFETY: the program may write the octets, as just checked.
    unsafe { std::ptr::write_bytes(to, 0, len as usize) };
    Err(errno.into())
}

// filter.c: bpf_skb_set_tunnel_key
fn set_key(call: &mut Call<'_>, [_, from, len, flags, _]: [u64; 5]) -> Answer {
    let len = len as u32;
    let from = call.read(2, from, u64::from(len))?;
    if flags & !SET_KEY_FLAGS != 0 || (len != KEY_LEN && !KEY_LENS_ONCE.contains(&len)) {
        return Err(Errno::EINVAL.into());
    }
    let mut key = [0u8; KEY_LEN as usize];
    // SAFETY: the source is accessible, as just checked; the destination is long enough.
    unsafe { std::ptr::copy_nonoverlapping(from, key.as_mut_ptr(), len as usize) };
    let has_label = key[KEY_LABEL..KEY_LABEL + 4] != [0; 4];
    let has_extension = key[KEY_EXT..KEY_EXT + 2] != [0; 2];
    if (flags & BPF_F_TUNINFO_IPV6 == 0 && has_label) || has_extension {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

// filter.c: bpf_skb_set_tunnel_opt, for a frame without a key
fn set_option(call: &mut Call<'_>, [_, from, len, ..]: [u64; 5]) -> Answer {
    call.read(2, from, u64::from(len as u32))?;
    Err(Errno::EINVAL.into())
}
