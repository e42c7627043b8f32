//! Helpers on sockets and control groups. No frame belongs to one here, so these answer as the kernel does for a frame
//! without a socket, and for sockets that are not found.

use super::{Answer, Call, helpers};
use crate::Errno;

helpers! {
    17 => zero; // bpf_get_cgroup_classid
    24 => zero; // bpf_get_route_realm
    33 => |_: &mut Call<'_>, _| fails(Errno::ENOENT); // bpf_skb_under_cgroup
    46 => zero; // bpf_get_socket_cookie
    47 => |_: &mut Call<'_>, _| -> Answer { Ok(OVERFLOW_UID) }; // bpf_get_socket_uid
    79 => zero; // bpf_skb_cgroup_id
    83 => zero; // bpf_skb_ancestor_cgroup_id
    84 => lookup; // bpf_sk_lookup_tcp
    85 => lookup; // bpf_sk_lookup_udp
    86 => zero; // bpf_sk_release
    95 => zero; // bpf_sk_fullsock
    96 => zero; // bpf_tcp_sock
    98 => zero; // bpf_get_listener_sock
    99 => lookup; // bpf_skc_lookup_tcp
    100 => syncookie; // bpf_tcp_check_syncookie
    107 => zero; // bpf_sk_storage_get
    108 => |_: &mut Call<'_>, _| fails(Errno::EINVAL); // bpf_sk_storage_delete
    110 => syncookie; // bpf_tcp_gen_syncookie
    122 => |_: &mut Call<'_>, _| -> Answer { Ok(INITIAL_NETNS_COOKIE) }; // bpf_get_netns_cookie
    124 => |_: &mut Call<'_>, _| fails(Errno::EINVAL); // bpf_sk_assign
    136 => zero; // bpf_skc_to_tcp6_sock
    137 => zero; // bpf_skc_to_tcp_sock
    138 => zero; // bpf_skc_to_tcp_timewait_sock
    139 => zero; // bpf_skc_to_tcp_request_sock
    140 => zero; // bpf_skc_to_udp6_sock
    151 => zero; // bpf_skb_cgroup_classid
    178 => zero; // bpf_skc_to_unix_sock
    196 => zero; // bpf_skc_to_mptcp_sock
    204 => |call: &mut Call<'_>, arguments| raw_gen(call, arguments, IPV4_LEN);
    205 => |call: &mut Call<'_>, arguments| raw_gen(call, arguments, IPV6_LEN);
    206 => |call: &mut Call<'_>, arguments| raw_check(call, arguments, IPV4_LEN);
    207 => |call: &mut Call<'_>, arguments| raw_check(call, arguments, IPV6_LEN);
}

/// Who owns a socket that is not there: `/proc/sys/kernel/overflowuid`.
const OVERFLOW_UID: u64 = 65534;
/// The cookie of the first network namespace, which is taken where there is no socket.
const INITIAL_NETNS_COOKIE: u64 = 1;
const IPV4_LEN: u64 = 20;
const IPV6_LEN: u64 = 40;
const TCP_LEN: u32 = 20;

/// NULL, or number 0.
fn zero(_: &mut Call<'_>, _: [u64; 5]) -> Answer {
    Ok(0)
}

fn fails(errno: Errno) -> Answer {
    Err(errno.into())
}

// filter.c: __bpf_sk_lookup
fn lookup(call: &mut Call<'_>, [_, tuple, len, ..]: [u64; 5]) -> Answer {
    call.read(2, tuple, u64::from(len as u32))?;
    Ok(0)
}

// filter.c: bpf_tcp_check_syncookie, bpf_tcp_gen_syncookie
fn syncookie(call: &mut Call<'_>, [_, ip, ip_len, tcp, tcp_len]: [u64; 5]) -> Answer {
    call.read(2, ip, u64::from(ip_len as u32))?;
    call.read(4, tcp, u64::from(tcp_len as u32))?;
    fails(Errno::EINVAL)
}

// filter.c: bpf_tcp_raw_gen_syncookie_ipv4. There is no stack of which the cookie could be.
fn raw_gen(call: &mut Call<'_>, [ip, tcp, tcp_len, ..]: [u64; 5], ip_len: u64) -> Answer {
    let tcp_len = tcp_len as u32;
    call.read(1, ip, ip_len)?;
    call.read(2, tcp, u64::from(tcp_len))?;
    if tcp_len < TCP_LEN {
        return fails(Errno::EINVAL);
    }
    let [offset] = call.copy(2, tcp.wrapping_add(12))?;
    if tcp_len != u32::from(offset >> 4) * 4 {
        return fails(Errno::EINVAL);
    }
    fails(Errno::EPROTONOSUPPORT)
}

// filter.c: bpf_tcp_raw_check_syncookie_ipv4. No cookie is ours.
fn raw_check(call: &mut Call<'_>, [ip, tcp, ..]: [u64; 5], ip_len: u64) -> Answer {
    call.read(1, ip, ip_len)?;
    call.read(2, tcp, u64::from(TCP_LEN))?;
    fails(Errno::EACCES)
}
