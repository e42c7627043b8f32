// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that the outside looks into and steers through maps. */
#include "netkit.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

/* The first octet of the payload -> verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __s32);
} judgements SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next_step SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, __u32);
} queue SEC(".maps");

/* Frames and octets. */
SEC("netkit/primary")
int count(struct __sk_buff *skb)
{
	__u32 frames = 0, octets = 1;
	__u64 *value = bpf_map_lookup_elem(&counts, &frames);

	if (value)
		__sync_fetch_and_add(value, 1);
	value = bpf_map_lookup_elem(&counts, &octets);
	if (value)
		__sync_fetch_and_add(value, skb->len);
	value = bpf_map_lookup_elem(&per_cpu, &frames);
	if (value)
		*value += 1;
	return NETKIT_NEXT;
}

/* Remembers the lengths of the last frames. */
SEC("netkit/primary")
int remember(struct __sk_buff *skb)
{
	__u32 len = skb->len;

	bpf_map_push_elem(&queue, &len, BPF_EXIST);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int judge(struct __sk_buff *skb)
{
	__u8 octet = 0;
	__u32 key;
	__s32 *verdict;

	bpf_skb_load_bytes(skb, ETH_HLEN, &octet, sizeof(octet));
	key = octet;
	verdict = bpf_map_lookup_elem(&judgements, &key);
	return verdict ? *verdict : NETKIT_NEXT;
}

SEC("netkit/primary")
int step(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &next_step, 0);
	return NETKIT_DROP;
}

static __always_inline int end_with(struct __sk_buff *skb, __u8 octet)
{
	bpf_skb_store_bytes(skb, ETH_HLEN, &octet, sizeof(octet), 0);
	return NETKIT_PASS;
}

SEC("netkit/primary")
int left(struct __sk_buff *skb)
{
	return end_with(skb, 'l');
}

SEC("netkit/primary")
int right(struct __sk_buff *skb)
{
	return end_with(skb, 'r');
}

SEC("netkit/primary")
int speak(struct __sk_buff *skb)
{
	bpf_printk("a frame of %d octets, protocol %x", skb->len, bpf_ntohs(skb->protocol));
	return NETKIT_NEXT;
}
