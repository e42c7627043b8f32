// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Copies the first octets of every frame, or of one in so many, to a ring buffer: `nkctl map event_pipe frames`.
 *
 *   frames  ringbuf  { time, ifindex of the receiver, length of the frame, octets that follow, the octets }
 *   .rodata one_in: one frame in so many is copied; longest: octets of each
 */
#include "netkit.h"

#define LONGEST 256

struct record {
	__u64 time;
	__u32 ifindex;
	__u32 len;
	__u32 captured;
	__u32 pad;
	__u8 octets[LONGEST];
};

const volatile __u32 one_in = 1;
const volatile __u32 longest = LONGEST;

__u64 missed;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} frames SEC(".maps");

static __always_inline int mirror(struct __sk_buff *skb)
{
	__u32 captured = skb->len < longest ? skb->len : longest;
	struct record *record;

	if (one_in > 1 && bpf_get_prandom_u32() % one_in)
		return NETKIT_NEXT;
	record = bpf_ringbuf_reserve(&frames, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&missed, 1);
		return NETKIT_NEXT;
	}
	record->time = bpf_ktime_get_ns();
	record->ifindex = skb->ifindex;
	record->len = skb->len;
	record->pad = 0;
	if (captured > LONGEST)
		captured = LONGEST;
	if (captured < 1 || bpf_skb_load_bytes(skb, 0, record->octets, captured))
		captured = 0;
	record->captured = captured;
	bpf_ringbuf_submit(record, 0);
	return NETKIT_NEXT;
}

SEC("netkit/peer")
int mirror_guest(struct __sk_buff *skb)
{
	return mirror(skb);
}

SEC("netkit/primary")
int mirror_host(struct __sk_buff *skb)
{
	return mirror(skb);
}
